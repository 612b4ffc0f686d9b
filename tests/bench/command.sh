#!/bin/bash
# `nestor bench` as its users meet it: marks, JSON, what a wrong result or a guest that never stops its mark leads to.
# usage: command.sh NESTOR BENCH_ELF
nestor=$1 elf=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0 search=$PATH

# expect STATUS TEXT WORD…: `nestor bench WORD…` must end with STATUS and say TEXT.
expect() {
    local want=$1 text=$2 status=0
    shift 2
    PATH=$search "$nestor" bench "$@" >"$work/out" 2>&1 </dev/null || status=$?
    if [ "$status" != "$want" ] || ! grep -qF -- "$text" "$work/out"; then
        echo "FAILED: nestor bench $*: status $status, expected $want and \"$text\":"
        cat "$work/out"
        failed=1
    fi
}

expect 0 "stop sieve 1 2 0x404 ok" --once --only sieve --guest "$elf"
expect 0 "stop cpuid 3 2 0x0 ok" --once --only cpuid@3 --guest "$elf"
expect 0 '"ns_per_iteration": ' --json --time 0.01 --only port --guest "$elf"
expect 0 '"ratio_to_l1": ' --json --time 0.01 --only copy --guest "$elf"
expect 0 "MIPS" --time 0.01 --only port --guest "$elf"
expect 64 "--only warp" --only warp --guest "$elf"
expect 64 "--time soon" --time soon
expect 64 "--colour" --colour
expect 64 "--guest: expected a value" --guest
expect 66 "$work/missing" --guest "$work/missing"

# Peers that are not there are named, the rest is measured; those that are there give the same results, whose ratios are told.
search=$work
expect 0 "no QEMU: qemu-system-x86_64 is not installed" --peers --time 0.01 --only port --guest "$elf"
search=$PATH
if [ -x "$(dirname "$elf")/bench-native" ]; then
    expect 0 "geometric mean of 1 computing rows: jit takes" --peers --time 0.01 --only sort@1 --guest "$elf"
    expect 0 '"times_native": ' --peers --json --time 0.01 --only sort@1 --guest "$elf"
fi
if command -v qemu-system-x86_64 >/dev/null; then
    expect 0 '"times_as_fast_as_qemu": ' --peers --json --time 0.01 --only port --guest "$elf"
fi

# A guest whose expected result of "sieve" (1028) has been changed says so, and the command fails.
LC_ALL=C sed 's/\x04\x04\x00\x00\x00\x00\x00\x00/\x05\x04\x00\x00\x00\x00\x00\x00/g' "$elf" >"$work/wrong.elf"
expect 1 "stop sieve 1 2 0x404 wrong" --once --only sieve --guest "$work/wrong.elf"

exit $failed
