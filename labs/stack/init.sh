#!/bin/busybox sh
# shellcheck shell=dash
# /init of every level of `nestor stack debian-kvm`: says where it is, starts the next level inside KVM, switches off.
#
# What differs between levels comes by the kernel's command line, which each level hands on to the next:
#   nest.level=K nest.levels=N   this is level K of N (L1 is the emulated machine's own kernel)
#   nest.nested=0|1              kvm_intel's parameter of that name: may this level's guests be hypervisors by its own work?
#   nest.kvm=NAME=VALUE,...      more of its parameters
#   nest.loglevel=V              loglevel of the inner kernels
#   nest.memory=M                mebibytes of memory of the innermost guest; each level outwards needs nest.step more
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t devtmpfs devtmpfs /dev 2>/dev/null
$bb mount -t sysfs sysfs /sys

level=1 levels=1 nested=0 kvm= loglevel=6 memory=112 step=160 passed=
for word in $($bb cat /proc/cmdline); do
    case $word in
    nest.level=*) level=${word#*=} ;;
    nest.levels=*) levels=${word#*=} ;;
    nest.nested=*) nested=${word#*=} passed="$passed $word" ;;
    nest.kvm=*) kvm=$(echo "${word#*=}" | $bb tr ',' ' ') passed="$passed $word" ;;
    nest.loglevel=*) loglevel=${word#*=} passed="$passed $word" ;;
    nest.memory=*) memory=${word#*=} passed="$passed $word" ;;
    nest.step=*) step=${word#*=} passed="$passed $word" ;;
    esac
done

say() { echo "L$level: $*"; }

# Waits until the terminal has sent all it was given (any change of its modes does): kernel messages would cut in, and a
# power-off would swallow the rest.
drain() { $bb stty -echo < /dev/console 2>/dev/null; }

# The outermost machine has ACPI; the monitor's guests have none and leave through a reset, which their monitor takes for it.
finish() {
    drain
    if [ "$level" = 1 ]; then
        $bb poweroff -f
    fi
    $bb reboot -f
}

vmx=no
read -r system < /proc/sys/kernel/osrelease
while read -r key rest; do
    case $key in
    flags) case " $rest " in *" vmx "* | *" svm "*) vmx=yes ;; esac; break ;;
    esac
done < /proc/cpuinfo
say "hello from Linux $system, level $level of $levels"
say "$($bb uname -a)"
say "$($bb sed -n 's/^MemTotal: *//p' /proc/meminfo) of memory; VMX in CPUID: $vmx"

# What an exit costs this level, before its own guests are there.
if [ "$level" -gt 1 ]; then say "$(/bin/exits)"; fi

if [ "$level" = "$levels" ]; then
    say "innermost level reached; sum of 1..1000 = $($bb seq 1 1000 | $bb awk '{ s += $1 } END { print s }')"
    finish
fi

drain
for module in irqbypass kvm; do
    $bb insmod /lib/modules/$module.ko || say "insmod $module failed"
done
if [ -e /lib/modules/kvm-amd.ko ] && $bb grep -q AuthenticAMD /proc/cpuinfo; then
    $bb insmod /lib/modules/kvm-amd.ko nested=$nested || say "insmod kvm-amd failed"
else
    $bb insmod /lib/modules/kvm-intel.ko nested=$nested $kvm || say "insmod kvm-intel failed"
fi
if [ ! -c /dev/kvm ]; then
    say "there is no /dev/kvm: this level cannot be a hypervisor"
    say "FAILED"
    finish
fi

# Another guest than this Linux: /boot/guest holds the monitor's words, one a line.
if [ -e /boot/guest ]; then
    set --
    while read -r word; do set -- "$@" "$word"; done </boot/guest
    say "kvm is ready (nested=$nested); starting another guest"
    /bin/monitor --prefix "| " "$@"
    status=$?
    say "the guest ended, monitor's status $status"
    if [ $status != 0 ]; then say "FAILED"; fi
    finish
fi

next=$((level + 1))
option=
if [ "$nested" = 1 ]; then option=--nested; fi
size=$((memory + (levels - next) * step))
say "kvm is ready (nested=$nested); starting level $next with $size MiB"
/bin/monitor --kernel /boot/vmlinuz --initrd /boot/next.cpio --memory ${size}M $option --prefix "| " --append \
    "console=ttyS0 loglevel=$loglevel panic=-1 reboot=k nokaslr mitigations=off pci=off 8250.nr_uarts=1 cryptomgr.notests nest.level=$next nest.levels=$levels$passed"
status=$?
say "level $next ended, monitor's status $status"
if [ $status != 0 ]; then say "FAILED"; fi
finish
