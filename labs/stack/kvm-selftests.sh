#!/bin/bash
# kvm-selftests: KVM's own tests (tools/testing/selftests/kvm of Debian's kernel source) in L1, under Debian's kernel and its KVM.
#
# The sources come with linux-source-6.1, are compiled in the cache and linked statically; each test is a KVM user that makes
# its own guests, and those of nested virtualization make guests of guests: kvm_intel runs with nested=1, and Nestor with its
# policy `hardware`, unless told another.
# kvm-selftests.tests names the tests with their time limit, and what they may be skipped for.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
stack_name=kvm-selftests
. "$here/command.sh"

usage() {
    cat <<'END'
usage: nestor stack kvm-selftests [options] [options of nestor run]
  --cpu MODEL     default base,+monitor,+pmu,+pdcm: base with what the tests ask for beyond it
  --tests REGEX   only those whose name matches, such as vmx_
  --longest N     only those that may take at most N seconds of the guest's time; 5 leaves out those that spin for long
  --limit N       seconds of the guest's time for each test, instead of those in kvm-selftests.tests
  --kvm P=V,...   more parameters of kvm_intel, such as unrestricted_guest=0, with which two more tests run
  --details       print the whole output of every test
  --memory SIZE   of the machine; default 2G
  --append S      added to the kernel's command line
  --verbose       the kernel prints all its messages
  --no-stats      no VM exits by level, reason and handler at the end
  --build-only    make the images, print "kernel PATH", "initrd PATH", "memory SIZE" and "append STRING", run nothing
Exit status: 0 when every test passes, or is skipped for a reason that the processor it emulates would give as well; 1 when not;
nestor run's when that is not 0; 64 for a usage error, 69 when the packages cannot be had.
END
}

tests=. longest="" limit="" kvm="" details="" cpu=base,+monitor,+pmu,+pdcm
options_read --cpu=cpu --tests=tests --longest=longest --limit=limit --kvm=kvm --details:details=1 -- "$@"
memory=${memory:-2G}
[[ $limit =~ ^[0-9]*$ ]] || die "--limit $limit: a number of seconds was expected"
[[ $longest =~ ^[0-9]*$ ]] || die "--longest $longest: a number of seconds was expected"
[[ $tests =~ ^[^[:space:]]+$ ]] || die "--tests $tests: a regular expression without spaces was expected"
kvm_parameters_check
echo | grep -qE -- "$tests" || [ $? -le 1 ] || die "--tests $tests: a regular expression was expected"

# ---- packages ----------------------------------------------------------------------------------------------------

packages_begin
command -v xz >/dev/null || unavailable "'xz' is not installed (on Debian: apt-get install xz-utils)"
kernel_package=$(kernel_package_resolve linux-image-cloud-amd64)
kernel_root=$(package_unpack "$kernel_package")
kernel_version=${kernel_package#linux-image-}
kernel=$kernel_root/boot/vmlinuz-$kernel_version
busybox=$(package_unpack busybox-static)/bin/busybox
source_archive=$(package_unpack linux-source-6.1)/usr/src/linux-source-6.1.tar.xz
headers=$(package_unpack linux-libc-dev)/usr/include

# ---- images ------------------------------------------------------------------------------------------------------

# The compiled tests have a place of their own, since that takes longest.
compiled=$cache/stack/kvm-selftests/tests-$(cat "$here/compile-selftests.sh" "$source_archive" | sha256sum | cut -c 1-16)
if [ ! -e "$compiled/.complete" ]; then
    say "compiling KVM's tests"
    bash "$here/compile-selftests.sh" "$source_archive" "$headers" "$compiled" ||
        unavailable "KVM's tests do not compile; needed are gcc and libc6-dev (with libc.a)"
    touch "$compiled/.complete"
fi
images_place "$here/init-selftests.sh" "$here/kvm-selftests.tests" "$kernel_package" "$compiled"

if [ ! -e "$images/.complete" ]; then
    modules_strip "$kernel_package"
    {
        for directory in /bin /dev /proc /sys /lib /lib/modules /tests /tmp; do echo "dir $directory 755"; done
        echo "char /dev/console 600 5 1"
        echo "char /dev/null 666 1 3"
        echo "file /init 755 $here/init-selftests.sh"
        echo "file /bin/busybox 755 $busybox"
        echo "link /bin/sh busybox"
        echo "file /tests.list 644 $here/kvm-selftests.tests"
        for module in irqbypass kvm kvm-intel; do echo "file /lib/modules/$module.ko 644 $images/$module.ko"; done
        for test in "$compiled"/*; do echo "file /tests/$(basename "$test") 755 $test"; done
    } | "$images/mkcpio" >"$images/initramfs.cpio"
    touch "$images/.complete"
fi

# ---- the run -----------------------------------------------------------------------------------------------------

append="console=ttyS0 loglevel=$loglevel panic=-1 reboot=k nokaslr mitigations=off 8250.nr_uarts=1 cryptomgr.notests selftests.tests=$tests"
append+="${longest:+ selftests.longest=$longest}${limit:+ selftests.limit=$limit}${details:+ selftests.details=1}"
append+="${kvm:+ selftests.kvm=$kvm}${extra_append:+ $extra_append}"
stack_built "$images/initramfs.cpio"
say "KVM's selftests under $kernel_package, processor $cpu, $memory of memory"
stack_run --kernel "$kernel" --initrd "$images/initramfs.cpio" --append "$append" --memory "$memory" --cpu "$cpu" || exit
if ! grep -q '^selftests: done: [1-9].* 0 failed, 0 skipped without' "$log"; then
    say "FAILED: see the lines 'FAIL' and 'SKIP?' above"
    exit 1
fi
