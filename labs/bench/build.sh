#!/bin/sh
# build.sh OUTDIR [CC]: builds OUTDIR/bench.elf; where there is objcopy, OUTDIR/bench.rom, the same for Bochs; on x86-64 Linux
# OUTDIR/bench-native, its workloads as a process.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build.sh OUTDIR [CC]}
"$here/../guest/build.sh" bench "$@"
cc=${2:-${CC:-}}
[ -n "$cc" ] || { cc=gcc; command -v gcc >/dev/null || cc=clang; }
case $(uname -sm) in
"Linux x86_64")
    "$here/../guest/rom.sh" "$out/bench.elf" "$out/bench.rom" "$cc" || [ $? = 69 ]
    "$cc" -std=gnu11 -O2 -Wall -Wextra -Werror -no-pie -o "$out/bench-native" "$here/native/native.c" \
        "$out/bench.o/workloads.c.o" "$out/bench.o/floating.c.o" "$out/bench.o/vectors.c.o" "$out/bench.o/loops.S.o"
    ;;
esac
