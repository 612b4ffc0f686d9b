#!/bin/bash
# --stats on labs/nest: levels, exits by level, reason and handler, and what L3 costs L1; in 80 columns, and as the levels themselves count.
# usage: stats.sh NESTOR NEST_ELF
nestor=$1 elf=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# stats POLICY LEVELS: runs labs/nest; the tables are in $work/err.
stats() {
    if ! "$nestor" run --kernel "$elf" --append "levels=$2" --policy "$1" --stats >"$work/out" 2>"$work/err" </dev/null; then
        echo "FAILED: labs/nest, policy $1"
        failed=1
    fi
    if grep -nE '.{81}' "$work/out" "$work/err"; then
        echo "FAILED: wider than 80 columns"
        failed=1
    fi
}

# holds REGEX
holds() {
    grep -qE -- "$1" "$work/err" || { echo "FAILED: no line of --stats matches $1:"; cat "$work/err"; failed=1; }
}

stats hardware 3
holds '^L1 +[0-9]+ +0 +0 +0$'
holds '^VM exits of L2:$'
holds ' 31 RDMSR +L1 '
# hypervisor, VM entries, instructions of L1 and of levels between, its own, those for EPT violations
holds '^L1 +[1-9][0-9]* {24,}[1-9][0-9]* +[0-9]+$'
! grep -qE '^L2( +[0-9]+){5}$' <(sed -n '/^hypervisor/,/^$/p' "$work/err") || { echo "FAILED: L2 ran no VMX instruction"; failed=1; }

stats transparent 3
holds '^L3 +[0-9]+ '
holds ' 24 VMRESUME +L0$'
holds '^L2 +[1-9][0-9]* +[1-9][0-9]* +0 +[1-9][0-9]* +[0-9]+$'
# L2 counts its guest's exits itself: as many as its VM entries, one for each
said=$(sed -n 's/.*L2: my guest, level 3, has ended; I handled \([0-9]*\) VM exits.*/\1/p' "$work/out")
holds "^L2 +$said +[1-9][0-9]* +0 +[1-9][0-9]* +[0-9]+\$"
holds "^L3 +[0-9]+ +$said +$said +0 "
exit $failed
