#!/bin/sh
# build.sh LAB OUTDIR [CC]: builds OUTDIR/LAB.elf from start.S and the sources in labs/LAB; the labs' own build.sh call it.
# Any x86-64 gcc will do, or clang with lld on a host of any kind. Only floating.c may use SSE registers, and only vectors.c AVX.
set -eu
labs=$(cd "$(dirname "$0")/.." && pwd)
lab=${1:?usage: build.sh LAB OUTDIR [CC]}
out=${2:?usage: build.sh LAB OUTDIR [CC]}
cc=${3:-${CC:-}}
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
mkdir -p "$out/$lab.o"
flags="-std=gnu11 -O2 -m64 -ffreestanding -fno-pic -mno-red-zone -fno-stack-protector -fcf-protection=none
       -fno-asynchronous-unwind-tables -Wall -Wextra -Werror -Wshadow"
set --
for source in "$labs/guest/start.S" "$labs/$lab"/*.S "$labs/$lab"/*.c; do
    name=$(basename "$source")
    registers=-mgeneral-regs-only
    [ "$name" != floating.c ] || registers="-msse2 -ffp-contract=off"
    [ "$name" != vectors.c ] || registers="-mavx -ffp-contract=off"
    # shellcheck disable=SC2086
    "$cc" $target $flags $registers -c -o "$out/$lab.o/$name.o" "$source"
    set -- "$@" "$out/$lab.o/$name.o"
done
# shellcheck disable=SC2086
"$cc" $target $linker $flags -nostdlib -static -Wl,-no-pie -Wl,--build-id=none -Wl,-z,max-page-size=4096 \
    -Wl,-T,"$labs/guest/guest.ld" -o "$out/$lab.elf" "$@"
