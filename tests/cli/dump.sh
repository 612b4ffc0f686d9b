#!/bin/bash
# `nestor dump TABLE` prints every table, whole: a row that must be there, and as many rows as the sources have.
# usage: dump.sh NESTOR
nestor=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# dumped TABLE ROWS TEXT…: at least ROWS lines, and each extended regular expression TEXT matches one.
dumped() {
    local table=$1 rows=$2 lines
    shift 2
    if ! "$nestor" dump "$table" >"$work/$table" 2>"$work/err" || [ -s "$work/err" ]; then
        echo "FAILED: nestor dump $table"
        cat "$work/err"
        failed=1
    fi
    lines=$(wc -l <"$work/$table")
    [ "$lines" -ge "$rows" ] || { echo "FAILED: dump $table: $lines lines, at least $rows were expected"; failed=1; }
    for text in "$@"; do
        grep -qE -- "$text" "$work/$table" || { echo "FAILED: dump $table: no line matches $text"; failed=1; }
    done
}

rows() { grep -cE "^ *$1\(" "$root/$2"; }

dumped insns 900 '^ADD +01 /r +rw:Ev r:Gv' '^VMRESUME .*VMRESUME' '^CPUID .* CPUID$' '^MOVAPS '
dumped fields "$(rows FIELD vmx/fields.def)" '^0x6820 .*guest_rflags' '^0x0000 .*virtual_processor_identifier'
dumped controls 80 'PIN_EXTERNAL_INTERRUPT_EXITING' 'SECONDARY_EPT ' 'SECONDARY_UNRESTRICTED_GUEST'
dumped checks "$(rows CHECK vmx/checks.def)" 'PIN_CONTROLS_RESERVED' 'SDM3 "VM-Execution Control Fields"'
dumped exits "$(rows EXIT vmx/exits.def)" '^ *48 +EPT_VIOLATION' '^ *10 +CPUID'
dumped cpus 100 '^base' ' vmx ' '^haswell' 'real processor that Nestor leaves out' '^flags that Nestor does not implement:'
dumped policies 2 '^hardware +[a-z]' '^transparent +[A-Za-z]'

# With a model: its CPUID leaves, its VMX controls.
[ "$("$nestor" dump cpus nehalem | grep -c '^00000001  00000000  000106a5 ')" = 1 ] || { echo "FAILED: dump cpus nehalem"; failed=1; }
"$nestor" dump controls nehalem | grep -q 'UNRESTRICTED_GUEST .*off on this CPU' || { echo "FAILED: dump controls nehalem"; failed=1; }
"$nestor" dump controls haswell | grep -q 'UNRESTRICTED_GUEST .*off on this CPU' && { echo "FAILED: dump controls haswell"; failed=1; }
exit $failed
