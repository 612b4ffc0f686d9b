#!/bin/sh
# rom.sh IMAGE.elf IMAGE.rom CC [OPTION...]: from a guest, the ROM that a PC starts in place of its BIOS (rom.S): the image, filling, rom.S,
# together a multiple of 64 KiB. The compiler gets the options. Status 69: no objcopy here.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
elf=${1:?usage: rom.sh IMAGE.elf IMAGE.rom CC [OPTION...]} rom=${2:?} cc=${3:?}
shift 3
objcopy=objcopy nm=nm
command -v $objcopy >/dev/null || objcopy=llvm-objcopy nm=llvm-nm
command -v $objcopy >/dev/null || { echo "rom.sh: no $(basename "$rom"): neither objcopy nor llvm-objcopy is installed"; exit 69; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
$objcopy -O binary "$elf" "$work/image"
bytes=$(wc -c <"$work/image")
size=$(((bytes + 4096 + 65535) / 65536 * 65536))
entry=0x$($nm "$elf" | sed -n 's/ T entry32$//p')
"$cc" "$@" -m64 -DROM_BASE=$((0x100000000 - size)) -DIMAGE_BYTES="$bytes" -DENTRY="$entry" -c -o "$work/rom.o" "$here/rom.S"
$objcopy -O binary -j .text "$work/rom.o" "$work/rom"
{ cat "$work/image"; head -c $((size - 4096 - bytes)) /dev/zero; cat "$work/rom"; } >"$rom"
