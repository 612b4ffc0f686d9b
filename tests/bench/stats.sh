#!/bin/bash
# --stats counts instructions by level exactly: labs/bench's exits of CPUID take 18 instructions of the hypervisor and 5 of its guest.
# usage: stats.sh NESTOR BENCH_ELF
count=20000
output=$("$1" run --kernel "$2" --append "workload=cpuid count=$count levels=2" --memory 128M --debugcon none --stats 2>&1 >/dev/null) || exit 1
read -r handled < <(printf '%s\n' "$output" | awk '$2 == 10 && $3 == "CPUID" { print $NF }')
read -r guest < <(printf '%s\n' "$output" | awk '$1 == "L2" { print $2; exit }')
if [ "$handled" != 18 ] || [ $((guest / count)) != 5 ]; then
    printf 'stats: an exit took %s instructions, 18 were expected; the guest ran %s, 5 for each of %s exits were expected\n%s\n' \
        "$handled" "$guest" "$count" "$output"
    exit 1
fi
