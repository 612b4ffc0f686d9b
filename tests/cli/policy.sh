#!/bin/bash
# Policies from the command line, from a file and from a library: who handled what, on four levels of labs/nest, and that the
# guests' own output does not depend on it.
# usage: policy.sh NESTOR NEST_ELF
nestor=$1
nest=$2
labs=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../labs/policy" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

fail() {
    echo "FAILED: $*"
    failed=1
}

# run POLICY: all four levels must come up.
run() {
    timeout 500 "$nestor" run --kernel "$nest" --append levels=4 --policy "$1" --stats >"$work/out" 2>"$work/err" </dev/null ||
        fail "$1: status $?: $(tail -1 "$work/err")"
    grep -q '^ *L4' "$work/out" || fail "$1: L4 did not come up"
}

# handled LEVEL REASON WHO: the exits of LEVEL for REASON, as the statistics show them; the last instruction of all (power off)
# is not at the console.
handled() {
    sed -n "/^VM exits of $1:/,/^\$/p" "$work/err" | grep -E "^ +[0-9]{2,} .* $2 +$3( |\$)" >/dev/null ||
        fail "$policy: $2 of $1 is not $3's: $(sed -n "/^VM exits of $1:/,/^\$/p" "$work/err" | grep -E " $2 ")"
}

# refused TEXT POLICY: status 66 or 64 and one line that holds TEXT
refused() {
    local status=0
    "$nestor" run --kernel "$nest" --policy "$2" >"$work/out" 2>"$work/err" </dev/null || status=$?
    { [ $status = 66 ] || [ $status = 64 ]; } && [ "$(wc -l <"$work/err")" = 1 ] && grep -qF -- "$1" "$work/err" ||
        fail "--policy $2: status $status: $(cat "$work/err")"
}

policy=transparent; run $policy; handled L4 'I/O instruction' L3; cp "$work/out" "$work/reference"
policy=multilevel; run $policy; handled L4 'I/O instruction' L3; handled L3 'I/O instruction' L2
cmp -s "$work/out" "$work/reference" || fail "multilevel without routes is not what transparent is"
for policy in multilevel,route.io=L1 multilevel,route.io_instruction=L1 multilevel,route.instruction=outermost \
              transparent,route.io=L0,route.io.0x3f8-0x3ff=L1 multilevel,route.io.0x3f8-0x3ff=L2,route.io.0x3f8-0x3ff=L1; do
    run $policy; handled L4 'I/O instruction' L1
done
for policy in multilevel,route.io=L0 transparent,route.instruction=L1,route.io.0-0xffff=L0; do
    run $policy; handled L4 'I/O instruction' L0; handled L3 'I/O instruction' L0
done
policy=multilevel,route.io=L2; run $policy; handled L4 'I/O instruction' L2; handled L3 'I/O instruction' L2
handled L2 'I/O instruction' L1     # L2 has nobody but L1 above it
policy=multilevel,route.cpuid=L0; run $policy; grep -q 'CPUID  *L0' "$work/err" || fail "$policy: CPUID is not L0's"

policy=$labs/example.ini; run "$policy"; handled L4 'I/O instruction' L1
policy=$labs/example.ini,route.io.0x3f8-0x3ff=L2; run "$policy"; handled L4 'I/O instruction' L2
printf 'levels 5\n' >"$work/bad.ini"; refused "line 1: expected key = value" "$work/bad.ini"
printf '# x\n[y]\npolicy = a\npolicy = b\n' >"$work/bad.ini"; refused "line 4: the policy is named a second time" "$work/bad.ini"
printf 'policy = transparent\nlevels = 3,route.io=L0\n' >"$work/bad.ini"; refused "line 2: expected one value" "$work/bad.ini"
printf 'policy = tranparent\n' >"$work/bad.ini"; refused "'tranparent" "$work/bad.ini"
refused "missing.ini" "$work/missing.ini"

"$labs/build.sh" "$work" || fail "labs/policy/build.sh"
policy=$work/console_owner.so; run "$policy"; handled L4 'I/O instruction' L0
policy=$work/console_owner.so,level=1; run "$policy"; handled L4 'I/O instruction' L1
refused "expected level=0" "$work/console_owner.so,level=high"
refused "no parameters" "hardware,levels=2"
refused "missing.so" "$work/missing.so"
sed 's/NESTOR_POLICY_VERSION,/NESTOR_POLICY_VERSION + 1,/' "$labs/console_owner.c" >"$work/new.c"
cc -std=gnu11 -fPIC -shared -I"$labs/../.." -o "$work/new.so" "$work/new.c" && refused "policy interface 2" "$work/new.so"
echo 'int x;' >"$work/empty.c"; cc -fPIC -shared -o "$work/empty.so" "$work/empty.c" && refused 'nestor_policy' "$work/empty.so"

# Nehalem had no unrestricted guest, which labs/nest needs: L0 adds it, or L1 misses it
two() {
    "$nestor" run --kernel "$nest" --append levels=2 --policy "$1" --stats >"$work/out" 2>&1 </dev/null
}
two augmented,hw=nehalem && grep -q 'emulated by L0  *SECONDARY_UNRESTRICTED_GUEST' "$work/out" && grep -q 'hardware  *SECONDARY_EPT' "$work/out" ||
    fail "augmented,hw=nehalem: $(tail -3 "$work/out")"
two augmented,hw=nehalem,offer=unrestricted-guest+pml && grep -q 'of the hardware.s and [1-9][0-9]* of emulated' "$work/out" ||
    fail "augmented,hw=nehalem,offer=…: $(tail -3 "$work/out")"
two augmented,hw=nehalem,offer=none; grep -q 'lacks 0x80' "$work/out" || fail "augmented,hw=nehalem,offer=none: $(tail -3 "$work/out")"
two augmented,hw=sapphire-rapids && ! grep -q 'emulated by L0' "$work/out" || fail "augmented,hw=sapphire-rapids"
refused "expected a CPU model" augmented,hw=i386
refused "no VMX control is called 'warp'" augmented,hw=nehalem,offer=pml+warp

refused "levels=2 to levels=17" transparent,levels=1
refused "no event 'warp'" multilevel,route.warp=L1
refused "no event 'cr_access'" multilevel,route.cr_access=L1
refused "no event 'io.0x10-0x8'" multilevel,route.io.0x10-0x8=L1
refused "L0 cannot stand in" multilevel,route.vmcall=L0
refused "L0 cannot stand in" multilevel,route.external_interrupt=L0
refused "expected L0 to L16" multilevel,route.cpuid=L17
refused "expected levels=N, hw" multilevel,depth=3
refused "expected key=value" multilevel,levels
exit $failed
