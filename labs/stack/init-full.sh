#!/bin/busybox sh
# shellcheck shell=dash
# /init of `nestor stack debian-full`: loads the modules that test themselves, runs the programs, says what it found.
# full.parts=LIST on the kernel's command line says which; each line begins with "full: ". "full: FAILED" means what it says.
bb=/bin/busybox
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
$bb --install -s /bin 2>/dev/null
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mount -t tmpfs tmpfs /tmp

parts= failures=0
for word in $(cat /proc/cmdline); do
    case $word in full.parts=*) parts=${word#*=} ;; esac
done

say() { echo "full: $*"; }
fail() { say "FAILED: $*"; failures=$((failures + 1)); }
has() { case ,$parts, in *,"$1",*) return 0 ;; esac; return 1; }
seconds() { read -r up rest </proc/uptime; say "$1 at $up s of the guest's time"; }

# Every module below a directory.
load_all() {
    for module in $(find "/lib/modules/$(uname -r)/kernel/$1" -name '*.ko' | sort); do
        name=$(basename "$module" .ko)
        # jitterentropy_rng refuses a clock without jitter, and Nestor's has none.
        case $name in jitterentropy_rng | tcrypt | crypto_user | pcrypt | test_* | *-error-inject | *-inject) continue ;; esac
        modprobe "$name" 2>/tmp/error || case $(cat /tmp/error) in
            *"No such device"* | *"not supported"* | *"Invalid argument"*) ;; # not for this processor
            *) fail "modprobe $name: $(cat /tmp/error)" ;;
        esac
    done
}

say "$(uname -r) on $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)"
say "flags $(sed -n 's/^flags.*: //p' /proc/cpuinfo | head -n 1)"

if has crypto; then
    load_all arch/x86/crypto
    load_all crypto
    load_all lib/crypto
    # It makes and tests the templates, and then refuses to stay: its failing to load is no failure.
    modprobe tcrypt mode=0 2>/dev/null
    passed=$(grep -c '^selftest *: passed' /proc/crypto)
    other=$(grep -c '^selftest *: ' /proc/crypto)
    say "crypto: $passed of $other implementations passed their tests"
    say "crypto: $(sed -n 's/^driver *: //p' /proc/crypto | grep -E 'avx|aesni|ssse3|sse2|pclmul|asm|ni-|x86|simd' | sort -u | tr '\n' ' ')"
    if [ "$passed" -lt 100 ] || [ "$passed" != "$other" ]; then fail "crypto: self-tests"; fi
    seconds crypto
fi

if has raid; then
    for module in xor raid6_pq async_memcpy async_xor async_pq async_raid6_recov; do
        modprobe $module || fail "modprobe $module"
    done
    dmesg | sed -n 's/^\[[^]]*\] *\(xor:\|raid6:\)/full: \1/p'
    seconds raid
fi

if has md; then
    modprobe brd rd_nr=6 rd_size=8192 || fail "modprobe brd"
    modprobe raid456 || fail "modprobe raid456"
    if mdadm --create /dev/md0 --run --level=6 --chunk=16 --raid-devices=6 --assume-clean /dev/ram0 /dev/ram1 /dev/ram2 /dev/ram3 \
        /dev/ram4 /dev/ram5 >/tmp/mdadm 2>&1; then
        # --assume-clean: writing whole stripes makes the parity.
        head -c 16000000 /dev/urandom >/tmp/pattern
        dd if=/tmp/pattern of=/dev/md0 bs=65536 2>/dev/null
        sync
        mdadm /dev/md0 --fail /dev/ram1 --fail /dev/ram4 >/tmp/mdadm 2>&1 || fail "mdadm --fail: $(cat /tmp/mdadm)"
        echo 3 >/proc/sys/vm/drop_caches
        head -c 16000000 /dev/md0 | cmp - /tmp/pattern || fail "md: the pattern is not read back from four of six members"
        mdadm /dev/md0 --remove /dev/ram1 --remove /dev/ram4 >/dev/null 2>&1
        dd if=/dev/zero of=/dev/ram1 bs=65536 2>/dev/null
        dd if=/dev/zero of=/dev/ram4 bs=65536 2>/dev/null
        mdadm /dev/md0 --add /dev/ram1 --add /dev/ram4 >/dev/null 2>&1
        mdadm --wait /dev/md0 >/dev/null 2>&1
        echo check >/sys/block/md0/md/sync_action
        mdadm --wait /dev/md0 >/dev/null 2>&1
        read -r mismatches </sys/block/md0/md/mismatch_cnt
        say "md: rebuilt; mismatch_cnt $mismatches; $(sed -n 's/^ *\([0-9]* blocks.*\)/\1/p' /proc/mdstat)"
        [ "$mismatches" = 0 ] || fail "md: parity after the rebuild"
        echo 3 >/proc/sys/vm/drop_caches
        head -c 16000000 /dev/md0 | cmp - /tmp/pattern || fail "md: the pattern is not read back after the rebuild"
        mdadm --stop /dev/md0 >/dev/null 2>&1
    else
        fail "mdadm --create: $(cat /tmp/mdadm)"
    fi
    rm -f /tmp/pattern
    seconds md
fi

if has bpf; then
    modprobe test_bpf || fail "test_bpf"
    dmesg | sed -n 's/^\[[^]]*\] test_bpf: \(.*Summary.*\)/full: bpf: \1/p'
    dmesg | grep -E 'test_bpf: .* FAIL \(|test_bpf:.*[1-9][0-9]* FAILED' && fail "bpf: see above"
    seconds bpf
fi

if has perf; then
    if grep -q arch_perfmon /proc/cpuinfo; then
        sh /run-program.sh / /perf.py >/tmp/perf 2>&1 || fail "perf: counts are not exact"
        sed 's/^/full: /' /tmp/perf
    else
        say "perf: this processor has no performance counters"
    fi
fi

if has programs; then
    dmesg -n 1
    for program in /programs/*; do
        name=$(basename "$program")
        say "begin $name"
        sh /run-program.sh / "$program" 2>&1
        say "end $name $?"
    done
    seconds programs
fi

# What no healthy run has.
dmesg | grep -v 'failed to allocate transform for .*: -2$' | # tcrypt asks for algorithms that Debian does not build
    grep -v '(rc=-2)$' | grep -iE 'alg: .*(fail|unexpected|wrong)|BUG:|WARNING:|Oops|invalid opcode|general protection|traps: |unchecked MSR|soft lockup|hard lockup|rcu.*stall|segfault' &&
    fail "the kernel's log has the lines above"
if [ $failures = 0 ]; then say "done"; else say "done, with $failures failures"; fi
stty -echo </dev/console 2>/dev/null
poweroff -f
