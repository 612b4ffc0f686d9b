#!/bin/bash
# The vector oracle: runs the vectors image and compares each row's hash with the recorded ones (data/vectors.txt), which Bochs gave.
#
#   vectors.sh IMAGES nestor PROGRAM [CPU]   Nestor against the record
#   vectors.sh IMAGES bochs PROGRAM [CPU]    Nestor against Bochs itself, where it is installed
#   vectors.sh IMAGES record                 what Bochs says now, for data/vectors.txt: rows that unjudged.txt names are left out
#   vectors.sh IMAGES row KEY PROGRAM [CPU]  one row, vector by vector, on both; the first that differs with its state before and after
#
# IMAGES holds vectors.elf, vectors.rom and vectors.names. Exit status 0: they agree; 1: rows that differ are listed; 69: no Bochs.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
images=$1 mode=$2
image=vectors
limit=${SYSTEM_TIMEOUT:-900}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rows_trace() { :; }

# $1: machine, $2: words, $3: file
lines() {
    (
        machine=$1
        # shellcheck source=machines.sh
        . "$here/machines.sh" >&2 || exit
        { start "$2" || true; } | tr -d '\r' | sed -n '/^vectors: /,/^vectors: end/p' >"$3"
    ) || return
    ! grep -q '^vectors: absent' "$3" || { echo "vectors: $1 has no AVX-512: skipped" >&2; return 69; }
    tail -1 "$3" | grep -q '^vectors: end' || { echo "vectors: $1 did not get to the end" >&2; tail -3 "$3" "$work/errors" >&2; return 1; }
    sed -i '/^vectors: /d' "$3"
}
name_of() { sed -n "s/^$1 //p" "$images/vectors.names"; }
unjudged() { grep -v '^#' "$here/unjudged.txt" | sed 's/ *| .*//' | while read -r key; do grep -F " $key" "$images/vectors.names" | cut -d' ' -f1; done; }

case $mode in
record)
    lines bochs "" "$work/bochs" || exit
    unjudged >"$work/not"
    echo "# Row of cpu/insn.def, hash of all its vectors, how many raise an exception: given by Bochs 2.7 (vectors.sh IMAGES record)."
    grep -v -F -f "$work/not" "$work/bochs" | while read -r seed hash faults; do echo "$seed $hash $faults $(name_of "$seed")"; done
    ;;
nestor | bochs)
    nestor=$3 cpu=${4:-icelake}
    if [ "$mode" = bochs ]; then
        lines bochs "" "$work/expected" || exit
        unjudged >"$work/not"
        grep -v -F -f "$work/not" "$work/expected" >"$work/judged"
    else
        grep -v '^#' "$here/data/vectors.txt" | cut -d' ' -f1-3 >"$work/judged"
    fi
    lines nestor "" "$work/nestor" || exit
    # Rows that are not on both sides are new, or gone, and say nothing.
    differ=0 same=0
    while read -r seed expected got; do
        if [ "$expected" = "$got" ]; then
            same=$((same + 1))
            echo "$seed" >>"$work/agree"
        else
            differ=$((differ + 1))
            name_of "$seed"
        fi
    done < <(join <(cut -d' ' -f1,2 "$work/judged" | sort) <(cut -d' ' -f1,2 "$work/nestor" | sort))
    echo "vectors: $same rows agree, $differ differ, $(($(wc -l <"$work/nestor") - same - differ)) have no record"
    [ "$same" -gt 0 ] && [ $differ = 0 ] || exit 1
    # Only these rows are judged (tests/insn/README.md); what the guest executes besides is not.
    [ -z "${NESTOR_ROWS:-}" ] || { grep -F -f "$work/agree" "$images/vectors.names" | cut -d' ' -f2-; echo end; } >"$NESTOR_ROWS"
    ;;
row)
    key=$3 nestor=$4 cpu=${5:-icelake}
    row=$(grep -n -F -m1 " $key" "$images/vectors.names" | cut -d: -f1)
    [ -n "$row" ] || { echo "vectors: no row '$key'" >&2; exit 64; }
    lines bochs "row=$((row - 1))" "$work/b" || exit
    lines nestor "row=$((row - 1))" "$work/n" || exit
    sed -n "${row}p" "$images/vectors.names"
    echo "$(comm -13 <(sort "$work/b") <(sort "$work/n") | grep -c '^[0-9]* [0-9a-f]*$') of $(($(wc -l <"$work/n") - 1)) vectors differ"
    vector=$(diff "$work/b" "$work/n" | sed -n 's/^< \([0-9]*\) .*/\1/p' | head -1)
    [ -n "$vector" ] || exit 0
    lines bochs "vector=$((row - 1)),$vector" "$work/b" || exit
    lines nestor "vector=$((row - 1)),$vector" "$work/n" || exit
    echo "vector $vector (words: exception, rax … r15, flags, mxcsr; then zmm0 … zmm31, k0 … k7, memory)"
    cat "$work/n"
    echo "where Bochs differs (<):"
    diff "$work/b" "$work/n"
    exit 1
    ;;
esac
