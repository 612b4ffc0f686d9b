#!/bin/sh
# build.sh OUTDIR [CC]: builds OUTDIR/bench.elf. Any x86-64 gcc will do, or clang with lld on a host of any kind.
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
target="" linker=""
if "$cc" --version | grep -qi clang; then
    target=--target=x86_64-unknown-none-elf
    linker=-fuse-ld=lld
fi
mkdir -p "$out"
flags="-std=gnu11 -O2 -m64 -ffreestanding -fno-pic -mno-red-zone -fno-stack-protector -fcf-protection=none
       -fno-asynchronous-unwind-tables -Wall -Wextra -Werror -Wshadow"
objects=
for source in main workloads hypervisor floating; do
    registers=-mgeneral-regs-only
    [ $source != floating ] || registers="-msse2 -ffp-contract=off"
    # shellcheck disable=SC2086
    "$cc" $target $flags $registers -c -o "$out/$source.o" "$here/$source.c"
    objects="$objects $out/$source.o"
done
# shellcheck disable=SC2086
"$cc" $target $linker $flags -nostdlib -static -Wl,-no-pie -Wl,--build-id=none -Wl,-z,max-page-size=4096 -Wl,-T,"$here/bench.ld" \
    -o "$out/bench.elf" "$here/entry.S" $objects
