#!/bin/sh
# Builds the example policy as a shared library. usage: build.sh OUTDIR [CC]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
${2:-cc} -std=gnu11 -O2 -Wall -Wextra -Werror -fPIC -shared -I"$here/../.." -o "$1/console_owner.so" "$here/console_owner.c"
