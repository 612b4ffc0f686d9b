#!/bin/sh
# build.sh OUTDIR [CC]: builds OUTDIR/bench.elf.
exec "$(dirname "$0")/../guest/build.sh" bench "$@"
