#!/bin/sh
# build.sh OUTDIR [CC]: builds OUTDIR/system.elf (multiboot: Nestor, QEMU) and OUTDIR/system.rom (a ROM that a PC starts instead of its
# BIOS: Bochs). Any x86-64 gcc will do, or clang with lld on a host of any kind; for the ROM also objcopy of binutils or LLVM.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build.sh OUTDIR [CC]}
cc=${2:-${CC:-}}
if [ -z "$cc" ]; then
    case $(uname -m) in
    x86_64 | amd64) cc=gcc; command -v gcc >/dev/null || cc=clang ;;
    *) cc=x86_64-linux-gnu-gcc; command -v $cc >/dev/null || cc=clang ;;
    esac
fi
target="" linker="" objcopy=objcopy
if "$cc" --version | grep -qi clang; then
    target=--target=x86_64-unknown-none-elf
    linker=-fuse-ld=lld
fi
command -v $objcopy >/dev/null || objcopy=llvm-objcopy
mkdir -p "$out/objects"
flags="-std=gnu11 -O2 -m64 -ffreestanding -fno-pic -mno-red-zone -fno-stack-protector -fcf-protection=none -mgeneral-regs-only
       -fno-asynchronous-unwind-tables -fno-delete-null-pointer-checks -fno-tree-loop-distribute-patterns -Wall -Wextra -Werror -Wshadow -Wno-array-bounds"
set --
for source in "$here/../../labs/guest/start.S" "$here"/guest/*.S "$here"/guest/*.c; do
    name=$(basename "$source")
    # shellcheck disable=SC2086
    "$cc" $target $flags -c -o "$out/objects/$name.o" "$source" &
    set -- "$@" "$out/objects/$name.o"
done
wait
# shellcheck disable=SC2086
"$cc" $target $linker $flags -nostdlib -static -Wl,-no-pie -Wl,--build-id=none -Wl,-z,max-page-size=4096 \
    -Wl,-T,"$here/../../labs/guest/guest.ld" -o "$out/system.elf" "$@"

# The ROM: image, filling, rom.S, together a multiple of 64 KiB.
"$objcopy" -O binary "$out/system.elf" "$out/objects/image"
bytes=$(wc -c <"$out/objects/image")
size=$(((bytes + 4096 + 65535) / 65536 * 65536))
entry=0x$(nm "$out/system.elf" | sed -n 's/ T entry32$//p')
# shellcheck disable=SC2086
"$cc" $target -m64 -DROM_BASE=$((0x100000000 - size)) -DIMAGE_BYTES="$bytes" -DENTRY="$entry" -c -o "$out/objects/rom.o" "$here/rom.S"
"$objcopy" -O binary -j .text "$out/objects/rom.o" "$out/objects/rom"
{ cat "$out/objects/image"; head -c $((size - 4096 - bytes)) /dev/zero; cat "$out/objects/rom"; } >"$out/system.rom"
