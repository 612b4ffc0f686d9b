#!/bin/sh
# build.sh OUTDIR [CC]: builds OUTDIR/nest.elf. Any x86-64 gcc will do, or clang with lld on a host of any kind.
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
flags="-std=gnu11 -O2 -m64 -ffreestanding -nostdlib -fno-pic -mno-red-zone -mgeneral-regs-only -fno-stack-protector
       -fcf-protection=none -fno-asynchronous-unwind-tables -Wall -Wextra -Werror -Wshadow"
# shellcheck disable=SC2086
"$cc" $target $linker $flags -static -Wl,-no-pie -Wl,--build-id=none -Wl,-z,max-page-size=4096 -Wl,-T,"$here/nest.ld" \
    -o "$out/nest.elf" "$here/entry.S" "$here"/*.c
