#!/bin/bash
# bench: what one VM exit costs, by policy and depth. labs/nest's innermost level executes CPUID in a loop; the level around it
# handles the exit. Called by ./nestor bench [--count N]; NESTOR and NEST name the emulator and the guest.
set -euo pipefail
: "${NESTOR:?}" "${NEST:?}"
count=50000
while [ $# -gt 0 ]; do
    case $1 in
    --count) count=${2:?--count: a number was expected}; shift ;;
    *) echo "usage: nestor bench [--count N]" >&2; exit 64 ;;
    esac
    shift
done

# Wall-clock seconds of one run with $3 iterations, and the guest's own ticks per iteration on stdout
seconds() {
    local from to
    from=$(date +%s%N)
    "$NESTOR" run --kernel "$NEST" --memory 512M --policy "$1" --append "levels=$2 mode=bench count=$3" >"$log"
    to=$(date +%s%N)
    echo $((to - from))
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
printf '%-12s %6s %14s %16s\n' policy levels 'exits/s' 'tsc per exit'
for line in "hardware 2" "transparent 2" "transparent 3" "transparent 5" "transparent 8"; do
    read -r policy levels <<<"$line"
    base=$(seconds "$policy" "$levels" 1)
    whole=$(seconds "$policy" "$levels" "$count")
    ticks=$(sed -n 's/.*tsc per iteration \([0-9]*\).*/\1/p' "$log")
    span=$((whole > base ? whole - base : 1))
    printf '%-12s %6s %14s %16s\n' "$policy" "$levels" $((count * 1000000000 / span)) "${ticks:-?}"
done
