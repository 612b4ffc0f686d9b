#!/bin/busybox sh
# shellcheck shell=dash
# /init of `nestor stack kvm-selftests`: loads KVM, runs the tests that /tests.list names, a line each, and switches off.
#
#   pass NAME            status 0
#   skip NAME: REASON    the test gave up (status 4), for a reason that the list expects
#   SKIP? NAME: REASON   … for another
#   FAIL NAME: REASON    anything else; the test's last lines follow
# By the kernel's command line: selftests.tests=REGEX, selftests.longest=SECONDS, selftests.limit=SECONDS,
# selftests.kvm=NAME=VALUE,..., selftests.details=1.
bb=/bin/busybox
export PATH=/bin
$bb --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mkdir -p /dev/shm
mount -t tmpfs tmpfs /dev/shm

tests=. longest= limit= kvm= details=
for word in $(cat /proc/cmdline); do
    case $word in
    selftests.tests=*) tests=${word#*=} ;;
    selftests.longest=*) longest=${word#*=} ;;
    selftests.limit=*) limit=${word#*=} ;;
    selftests.kvm=*) kvm=$(echo "${word#*=}" | tr ',' ' ') ;;
    selftests.details=*) details=${word#*=} ;;
    esac
done

say() { echo "selftests: $*"; }
finish() {
    stty -echo </dev/console # waits until the terminal has sent all it was given
    poweroff -f
}

for module in irqbypass kvm; do insmod /lib/modules/$module.ko || say "insmod $module failed"; done
insmod /lib/modules/kvm-intel.ko nested=1 $kvm || say "insmod kvm-intel failed"
if [ ! -c /dev/kvm ]; then
    say "there is no /dev/kvm"
    finish
fi
# Tests map more memory than they touch; nx_huge_pages_test asks for huge pages that KVM splits when they are executed, and
# recovers soon.
echo 1 >/proc/sys/vm/overcommit_memory
echo 3 >/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
for word in nx_huge_pages=1 nx_huge_pages_recovery_ratio=1 nx_huge_pages_recovery_period_ms=100; do
    echo "${word#*=}" >/sys/module/kvm/parameters/"${word%%=*}"
done
say "$(uname -r) on $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)"

now() { read -r up rest </proc/uptime; echo "$up"; }
reason() { # the last line that says something
    sed -n -e 's/^1\.\.0 # SKIP - \{0,1\}//p' -e 's/^ *\(.*[^ ]\) *$/\1/p' /tmp/log | grep -v '^\(pid=\|[0-9]* 0x\|(stack\)' | tail -n 1
}

passed=0 skipped=0 failed=0 odd=0
cpus=$(grep -c '^processor' /proc/cpuinfo)
while IFS='|' read -r name seconds arguments skip needed; do
    name=$(echo $name) seconds=$(echo $seconds) arguments=$(echo $arguments) skip=$(echo "$skip" | sed 's/^ *//; s/ *$//')
    case $name in '' | \#*) continue ;; esac
    echo "$name" | grep -qE "$tests" || continue
    [ -z "$longest" ] || [ "$seconds" -le "$longest" ] || continue
    if [ "$cpus" -lt $((needed)) ]; then
        skipped=$((skipped + 1))
        say "skip $name: needs $((needed)) processors (--cpus)"
        continue
    fi
    seconds=${limit:-$seconds}
    began=$(now)
    (cd /tests && exec timeout -s KILL "$seconds" ./"$name" $arguments) >/tmp/log 2>&1 </dev/null
    status=$?
    took=$(echo "$began $(now)" | awk '{ printf "%.1f", $2 - $1 }')
    [ -z "$details" ] || sed 's/^/    /' /tmp/log
    case $status in
    0) passed=$((passed + 1)); say "pass $name ($took s)" ;;
    4)
        why=$(reason)
        if [ -n "$skip" ] && echo "$why" | grep -qE "$skip"; then
            skipped=$((skipped + 1))
            say "skip $name: $why"
        else
            odd=$((odd + 1))
            say "SKIP? $name: $why"
        fi
        ;;
    *)
        failed=$((failed + 1))
        case $status in
        137)
            say "FAIL $name: did not end within $seconds s"
            killall -9 "$name" 2>/dev/null # what it has forked
            ;;
        254) say "FAIL $name: an assertion" ;;
        *) say "FAIL $name: status $status" ;;
        esac
        [ -n "$details" ] || tail -n 12 /tmp/log | sed 's/^/    /'
        ;;
    esac
done </tests.list
# What no healthy run has.
if dmesg | grep -E 'BUG:|WARNING:|Oops|unchecked MSR|soft lockup|hard lockup|rcu.*stall|VM-entry failed'; then
    failed=$((failed + 1))
    say "FAIL the kernel's log has the lines above"
fi
say "done: $passed passed, $skipped skipped, $failed failed, $odd skipped without a reason that is known"
finish
