#!/bin/bash
# Runs the image of system-mode cases and judges its lines.
#
#   run.sh IMAGES nestor PROGRAM [CPU]  every line is the expected one; cases that shut the processor down are run one by one
#   run.sh IMAGES qemu | bochs | tigerlake   likewise on another machine, where it is installed: what is not as expected has to be in differences.txt
#
# IMAGES is build.sh's output folder. Exit status 0: so it is; 69: that machine is not installed here; 1: it is not so, and what.
# SYSTEM_KEEP=FOLDER keeps the lines as FOLDER/MACHINE.lines.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
images=$1 machine=$2
work=$(mktemp -d)
# shellcheck source=rows.sh
. "$here/rows.sh"
limit=${SYSTEM_TIMEOUT:-500}

image=cases nestor=${3:-} cpu=${4:-base}
# shellcheck source=machines.sh
. "$here/machines.sh"

# differences.txt: MACHINE GLOB REASON; "qemu!" leaves a prefix out because the machine does not come back from it.
skip=$(sed -n "s/^$machine! \([^ ]*\) .*/\1/p" "$here/differences.txt" | paste -sd,)
start "${skip:+skip=$skip}" | tr -d '\r' | sed -n '/^system: begin/,/^system: [0-9]/p' >"$work/lines"
[ -z "${SYSTEM_KEEP:-}" ] || cp "$work/lines" "$SYSTEM_KEEP/$machine.lines"
if ! tail -1 "$work/lines" | grep -q '^system: [0-9]'; then
    echo "system: $machine did not get to the end; its last lines:"
    tail -3 "$work/lines"
    tail -5 "$work/errors"
    exit 1
fi
for name in $(sed -n 's/: shuts down$//p' "$work/lines"); do
    start "only=$name" | tr -d '\r' | sed -n '/^system: begin/,$p' >"$work/single"
    if grep -q '^system: [0-9]' "$work/single"; then
        { echo "$name: $(grep -F "$name: " "$work/single" | tail -1 | sed 's/.*: //')"; echo "! expected shutdown"; } >>"$work/lines"
    fi
done
globs=()
while read -r who glob _; do [ "$who" != "$machine" ] || globs+=("$glob"); done <"$here/differences.txt"
unexplained=0
while IFS= read -r line; do
    if [ "${line:0:1}" = '!' ]; then
        name=${previous%%: *}
        for glob in ${globs[@]+"${globs[@]}"}; do
            # shellcheck disable=SC2053
            [[ $name != $glob ]] || continue 2
        done
        unexplained=$((unexplained + 1))
        printf '%s\n    %s\n' "$previous" "${line#! }"
    fi
    previous=$line
done <"$work/lines"
grep '^system: [0-9]' "$work/lines"
[ $unexplained = 0 ] || { echo "system: $unexplained lines of $machine are neither expected nor in differences.txt"; exit 1; }
