#!/bin/sh
# build.sh OUTDIR [CC]: builds OUTDIR/nest.elf.
exec "$(dirname "$0")/../guest/build.sh" nest "$@"
