#!/bin/busybox sh
# shellcheck shell=dash
# /init of the control domain of `nestor stack debian-xen`: starts what `xl` needs, creates a PVH guest, shows its console,
# and switches off when the guest has ended. Also /init of that guest (nest.guest on its command line).
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t devtmpfs devtmpfs /dev 2>/dev/null
$bb mount -t sysfs sysfs /sys
$bb mkdir -p /dev/pts
$bb mount -t devpts devpts /dev/pts
$bb mount -t tmpfs tmpfs /run

read -r system </proc/sys/kernel/osrelease
if $bb grep -q nest.guest /proc/cmdline; then
    echo "domU: hello from Linux $system, a PVH guest of Xen; $($bb sed -n 's/^MemTotal: *//p' /proc/meminfo) of memory"
    echo "domU: $($bb cat /sys/hypervisor/type) $($bb cat /sys/hypervisor/version/major).$($bb cat /sys/hypervisor/version/minor), guest type $($bb cat /sys/hypervisor/guest_type)"
    echo "domU: banner; sum of 1..1000 = $($bb seq 1 1000 | $bb awk '{ s += $1 } END { print s }')"
    $bb sleep 1
    $bb poweroff -f
fi

say() { echo "dom0: $*"; }
finish() {
    [ "$1" = 0 ] || say FAILED
    $bb sleep 1
    $bb poweroff -f
}

say "hello from Linux $system under $($bb cat /sys/hypervisor/type) $($bb cat /sys/hypervisor/version/major).$($bb cat /sys/hypervisor/version/minor)"
export PATH=/bin:/usr/lib/xen-4.17/bin LD_LIBRARY_PATH=/usr/lib/xen-4.17/lib/x86_64-linux-gnu
for module in xen-evtchn xen-gntdev xen-gntalloc xen-privcmd xenfs; do
    [ ! -e /lib/modules/$module.ko ] || $bb insmod /lib/modules/$module.ko || say "insmod $module failed"
done
$bb mount -t xenfs xenfs /proc/xen || say "there is no /proc/xen"
$bb mkdir -p /run/xen /run/xenstored /var/lib/xen /var/lib/xenstored /var/log/xen/console /tmp
$bb ln -sfn /run /var/run
$bb ln -sfn /run /var/lock
xenstored --pid-file /run/xenstored.pid || finish 1
for n in 1 2 3 4 5 6 7 8 9 10; do
    [ -S /run/xenstored/socket ] && break
    $bb sleep 1
done
xen-init-dom0 || finish 1
xenconsoled --pid-file=/run/xenconsoled.pid --log=guest --log-dir=/var/log/xen/console || finish 1
xl list || finish 1

cat_console() {
    $bb touch /var/log/xen/console/guest-banner.log
    $bb tail -n +1 -f /var/log/xen/console/guest-banner.log | while read -r line; do echo "| $line"; done
}
cat_console &
say "xl create: a PVH guest"
xl create /guest.cfg || { $bb cat /var/log/xen/xl-banner.log 2>/dev/null; finish 1; }
xl list
for n in $($bb seq 1 120); do
    xl domid banner >/dev/null 2>&1 || break
    $bb sleep 1
done
if xl domid banner >/dev/null 2>&1; then
    say "the guest did not end"
    finish 1
fi
$bb sleep 1
$bb grep -q '^domU: banner' /var/log/xen/console/guest-banner.log || finish 1
say "the guest has printed its banner and ended"
finish 0
