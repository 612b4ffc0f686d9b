#!/bin/bash
# Exit statuses, streams and traces of `nestor run`, on kernels of a few bytes.
# usage: run.sh NESTOR
nestor=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# kernel NAME BYTES: a multiboot kernel with address fields that runs BYTES (printf escapes) at 1 MiB.
kernel() {
    # magic, flags = 1 << 16, checksum; header_addr, load_addr, load_end_addr = 0, bss_end_addr = 0, entry_addr
    printf '\x02\xb0\xad\x1b\x00\x00\x01\x00\xfe\x4f\x51\xe4\x00\x00\x10\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x20\x00\x10\x00' >"$work/$1"
    printf '%b' "$2" >>"$work/$1"
    head -c 64 /dev/zero >>"$work/$1"
}

# expect STATUS WORD…: runs `nestor run WORD…`; output in $work/out and $work/err.
expect() {
    local want=$1 status=0
    shift
    timeout 500 "$nestor" run "$@" >"$work/out" 2>"$work/err" </dev/null || status=$?
    if [ "$status" != "$want" ]; then
        echo "FAILED: nestor run $*: status $status, expected $want"
        cat "$work/err"
        failed=1
    fi
}

# holds FILE TEXT
holds() {
    if ! grep -qF -- "$2" "$1"; then
        echo "FAILED: $(basename "$1") does not hold \"$2\":"
        head -20 "$1"
        failed=1
    fi
}

kernel off '\xba\x04\x06\x00\x00\xb8\x00\x34\x00\x00\x66\xef\xeb\xfe'
kernel exit5 '\xb0\x05\xe6\xf4\xeb\xfe'
kernel loop '\xeb\xfe'
kernel ud '\x0f\x0b'
kernel halt '\xfa\xf4'
kernel reset '\xb0\xfe\xe6\x64\xeb\xfe'
kernel hello '\xba\xf8\x03\x00\x00\xb0\x48\xee\xb0\x69\xee\xb0\x0a\xee\xb0\x58\xe6\xe9\xeb\xfe'

expect 0 --kernel "$work/off"
expect 11 --kernel "$work/exit5"
expect 3 --kernel "$work/loop" --max-insns 123457 --stats
holds "$work/err" "instructions   123457"
expect 4 --kernel "$work/ud"
holds "$work/err" "triple fault on cpu0"
holds "$work/err" "rip 0000000000100020"
expect 4 --kernel "$work/halt"
holds "$work/err" "halted"
expect 0 --kernel "$work/reset" --no-reboot
expect 3 --kernel "$work/reset" --max-insns 50
expect 0 --kernel "$work/hello" --until-serial '^Hi$' --max-insns 1M
holds "$work/out" "Hi"
expect 3 --kernel "$work/hello" --until-serial '^Ho$' --max-insns 1000
holds "$work/err" "X"
expect 3 --kernel "$work/hello" --max-insns 1000 --serial "file:$work/serial" --debugcon "file:$work/debug"
holds "$work/serial" "Hi"
holds "$work/debug" "X"
expect 3 --kernel "$work/hello" --max-insns 1000 --serial none --debugcon none
[ ! -s "$work/out" ] || { echo "FAILED: --serial none wrote something"; failed=1; }

# Tracing changes nothing; every format is what it says.
expect 3 --kernel "$work/hello" --max-insns 500 --stats
grep -E 'instructions  |virtual' "$work/err" >"$work/plain"
expect 3 --kernel "$work/hello" --max-insns 500 --stats --trace all:"$work/t.txt" --trace io:"$work/t.jsonl" \
    --trace io,irq:"$work/t.perfetto.json"
grep -E 'instructions  |virtual' "$work/err" | cmp - "$work/plain" || failed=1
holds "$work/t.txt" "insn run"
holds "$work/t.jsonl" '"class":"io"'
holds "$work/t.perfetto.json" '"ph":"i"'
expect 3 --kernel "$work/loop" --max-insns 1000 --trace insn:"$work/t.txt" --trace-start 100 --trace-stop 110
[ "$(wc -l <"$work/t.txt")" = 10 ] || { echo "FAILED: --trace-start, --trace-stop: $(wc -l <"$work/t.txt") lines"; failed=1; }

# The same run twice, with two processors.
expect 3 --kernel "$work/hello" --cpus 2 --max-insns 300k --stats
grep -E 'instructions|virtual' "$work/err" | grep -v host >"$work/first"
expect 3 --kernel "$work/hello" --cpus 2 --max-insns 300k --stats
grep -E 'instructions|virtual' "$work/err" | grep -v host | cmp - "$work/first" || failed=1

exit $failed
