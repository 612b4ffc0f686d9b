#!/bin/bash
# The same command twice is the same execution, and so it is with the interpreter alone: serial output, counts, every trace event and
# the hash of the machine's state at the end, byte for byte.
# usage: twice.sh STATUS COMMAND WORD…     `nestor run` or a script that passes options on to it; "--trace …", "--stats" and "--state-hash" are added
set -u
want=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# What the host's clock says may differ, and what the script has to do before the run (fetch packages, make images).
run() {
    local status=0
    "${@:2}" --stats --state-hash --trace vmx,ept,irq,mode,sched:"$work/trace$1" >"$work/out$1" 2>"$work/err" </dev/null || status=$?
    sed '/^host time/d; /^debian-kvm: /d' "$work/err" >"$work/err$1"
    if [ "$status" != "$want" ]; then
        echo "FAILED: run $1 ended with status $status, expected $want:"
        tail -20 "$work/err"
        # A host that cannot have what the run needs: the script's own status
        [ "$status" != 69 ] || exit 69
        failed=1
    fi
}

run 1 "$@"
run 2 "$@"
run 3 "$@" --engine interp
for what in out err trace; do
    cmp "$work/${what}1" "$work/${what}2" || failed=1
    cmp "$work/${what}1" "$work/${what}3" || failed=1
done
grep -q '^state all ' "$work/err1" || { echo "FAILED: no hash of the state"; failed=1; }
events=$(wc -l <"$work/trace1")
echo "$events trace events, $(wc -l <"$work/out1") lines of output"
[ "$events" -gt 1000 ] || { echo "FAILED: that is hardly a trace"; failed=1; }
exit $failed
