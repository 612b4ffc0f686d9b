#!/bin/sh
# check.sh NESTOR NEST_ELF POLICY LEVELS REACHED: runs labs/nest with LEVELS levels and fails unless the machine ends with status 0,
# level REACHED was the innermost, its result is the known one, and every level ended.
set -u
nestor=$1 elf=$2 policy=$3 levels=$4 reached=$5
# With NESTOR_ROWS, what rows of cpu/insn.def it executed (tests/insn/README.md).
output=$("$nestor" run ${NESTOR_ROWS:+--trace "insn:$NESTOR_ROWS"} --kernel "$elf" --append "levels=$levels" --memory 512M --policy "$policy" --max-insns 2000000000)
status=$?
printf '%s\n' "$output"
result=0
expect() {
    printf '%s\n' "$output" | grep -q "$1" || { echo "check: no line matches: $1"; result=1; }
}
[ $status = 0 ] || { echo "check: status $status, 0 was expected"; result=1; }
expect "L$reached: .*I am the innermost"
expect "L$reached: work: 9592 primes below 100000, the last 99991; CRC-32 0xd8c50585"
level=1
while [ $level -le "$reached" ]; do
    expect "L$level: level $level ends"
    level=$((level + 1))
done
exit $result
