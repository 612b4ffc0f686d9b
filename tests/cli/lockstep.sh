#!/bin/bash
# `nestor lockstep` on whole machines: no difference where there is none, at any distance of the comparisons, and --state-hash
# tells the same machine from another one, and a traced run from no other.
# usage: lockstep.sh NESTOR NEST_ELF
nestor=$1
nest=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

lockstep() {
    local want=$1 status=0
    shift
    timeout 500 "$nestor" lockstep "$@" >"$work/out" 2>"$work/err" </dev/null || status=$?
    if [ "$status" != "$want" ]; then
        echo "FAILED: nestor lockstep $*: status $status, expected $want"
        cat "$work/err"
        failed=1
    fi
}

for every in 100k 1009; do
    lockstep 0 --engines interp,interp --every "$every" --memory-every 3M --kernel "$nest" --append levels=2 --policy transparent
    grep -q 'no difference between interp and interp' "$work/err" || { echo "FAILED: no verdict"; failed=1; }
done
lockstep 0 --engines interp,interp --kernel "$nest" --append levels=1 --until-serial 'L1'
lockstep 64 --engines interp
lockstep 64 --engines interp,warp
lockstep 64 --every 0
lockstep 64 --every
lockstep 64 --engines interp,interp --kernel "$nest" --trace all:-
lockstep 66 --engines interp,interp --kernel "$work/missing"

hash_of() {
    "$nestor" run --kernel "$nest" --append levels=2 --state-hash "$@" 2>&1 >/dev/null | grep '^state all ' | tr -s ' '
}
one=$(hash_of --policy transparent)
[ -n "$one" ] && [ "$one" = "$(hash_of --policy transparent)" ] || { echo "FAILED: two runs, two hashes"; failed=1; }
[ "$one" != "$(hash_of --policy hardware)" ] || { echo "FAILED: two policies, one hash"; failed=1; }
# Looking changes nothing, whatever is looked at and however it is written.
for trace in vmx,ept,irq,msr,io,cr,mode,sched:"$work/trace" vmx,ept:"$work/trace.json" vmx:"$work/trace.perfetto.json"; do
    [ "$one" = "$(hash_of --policy transparent --trace "$trace")" ] || { echo "FAILED: --trace $trace changes the state"; failed=1; }
    [ "$(wc -c <"${trace#*:}")" -gt 10000 ] || { echo "FAILED: --trace $trace wrote next to nothing"; failed=1; }
done
# For Perfetto, a vCPU and each of its levels have a name, once.
for name in '"process_name","ph":"M","pid":0,"args":{"name":"vCPU 0"}' '"pid":0,"tid":1,"args":{"name":"L1"}' \
            '"pid":0,"tid":2,"args":{"name":"L2"}'; do
    [ "$(grep -c "$name" "$work/trace.perfetto.json")" = 1 ] || { echo "FAILED: trace.perfetto.json: $name"; failed=1; }
done
# … and each exit is also a slice of the level that handles it.
exits=$(grep -c '"cat":"vmx.exit","ph":"i"' "$work/trace.perfetto.json")
[ "$exits" -gt 100 ] && [ "$exits" = "$(grep -c '"cat":"vmx.exit","ph":"X"' "$work/trace.perfetto.json")" ] ||
    { echo "FAILED: $exits exits, and not as many slices"; failed=1; }
[ "$one" = "$(hash_of --policy transparent --trace all:"$work/all" --trace-start 100k --trace-stop 200k --stats)" ] ||
    { echo "FAILED: --trace all changes the state"; failed=1; }
exit $failed
