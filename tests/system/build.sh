#!/bin/sh
# build.sh OUTDIR IMAGE [OPTION...]: builds OUTDIR/IMAGE.elf (multiboot: Nestor, QEMU) and OUTDIR/IMAGE.rom (a ROM that a PC starts instead
# of its BIOS: Bochs) from the folder of that name; the compiler gets the options. Any x86-64 gcc will do, or clang with lld on a host of any
# kind ($CC); the ROM only where there is objcopy.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build.sh OUTDIR IMAGE [OPTION...]}
image=${2:?usage: build.sh OUTDIR IMAGE [OPTION...]}
shift 2
options=$*
cc=${CC:-}
if [ -z "$cc" ]; then
    case $(uname -m) in
    x86_64 | amd64) cc=gcc; command -v gcc >/dev/null || cc=clang ;;
    *) cc=x86_64-linux-gnu-gcc; command -v $cc >/dev/null || cc=clang ;;
    esac
fi
target="" linker=""
if "$cc" --version | grep -qi clang; then
    target=--target=x86_64-unknown-none-elf
    linker=-fuse-ld=lld
fi
objects=$out/$image.o
mkdir -p "$objects"
flags="-std=gnu11 -O2 -m64 -ffreestanding -fno-pic -mno-red-zone -fno-stack-protector -fcf-protection=none -mgeneral-regs-only
       -fno-asynchronous-unwind-tables -fno-delete-null-pointer-checks -fno-tree-loop-distribute-patterns -Wall -Wextra -Werror -Wshadow -Wno-array-bounds
       $options"
set --
for source in "$here/../../labs/guest/start.S" "$here/$image"/*.S "$here/$image"/*.c; do
    name=$(basename "$source")
    # shellcheck disable=SC2086
    "$cc" $target $flags -c -o "$objects/$name.o" "$source" &
    set -- "$@" "$objects/$name.o"
done
wait
# shellcheck disable=SC2086
"$cc" $target $linker $flags -nostdlib -static -Wl,-no-pie -Wl,--build-id=none -Wl,-z,max-page-size=4096 \
    -Wl,-T,"$here/../../labs/guest/guest.ld" -o "$out/$image.elf" "$@"

# shellcheck disable=SC2086
"$here/../../labs/guest/rom.sh" "$out/$image.elf" "$out/$image.rom" "$cc" $target || [ $? = 69 ]
