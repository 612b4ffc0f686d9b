#!/bin/bash
# mixed: Debian's kernel with KVM as L1, without nested support, and a hypervisor of another kind as its guest, L2, which has
# guests of its own.
#
#   nest   labs/nest, which runs copies of itself, one inside the other
#   xen    Debian's Xen with its dom0, which creates a PVH guest by xl: the images of debian-xen
#
# L2 is started by labs/monitor, which loads multiboot kernels. Needs a policy that offers L2 the VMX that KVM hides from it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
stack_name=mixed
. "$here/command.sh"

usage() {
    cat <<'END'
usage: nestor stack mixed [options] [options of nestor run]
  --guest G       nest (default) or xen: the hypervisor that is L2
  --levels N      nest: how many levels of it, 2 to 8, which are L2 to L(N+1); default 3
  --policy P      transparent (default), or another that offers VMX to L2
  --memory SIZE   of the machine; default: what the guest needs
  --append S      added to L1's command line
  --verbose       the kernel prints all its messages
  --no-stats      no VM exits by level, reason and handler at the end
  --build-only    make the images, print "kernel PATH", "initrd PATH", "memory SIZE" and "append STRING", run nothing
Exit status: nestor run's; 1 when the innermost guest's banner did not appear; 64 for a usage error, 69 when the packages cannot be had.
END
}

guest=nest levels=3 policy=transparent
options_read --guest=guest --levels=levels --policy=policy -- "$@"
[[ $levels =~ ^[2-8]$ ]] || die "--levels $levels: a number from 2 to 8 was expected"

packages_begin
kernel_package=$(kernel_package_resolve linux-image-cloud-amd64)
kernel=$(package_unpack "$kernel_package")/boot/vmlinuz-${kernel_package#linux-image-}
busybox=$(package_unpack busybox-static)/bin/busybox

# ---- L2 ----------------------------------------------------------------------------------------------------------

# boot: lines of mkcpio's list. monitor: the monitor's words. banner: what the innermost guest says. needs: MiB of L1's memory.
case $guest in
nest)
    sh "$root/labs/nest/build.sh" "$cache/stack/mixed/nest" || unavailable "labs/nest does not compile; needed is gcc"
    boot="file /boot/nest 644 $cache/stack/mixed/nest/nest.elf"
    monitor=(--kernel /boot/nest --append "levels=$levels" --memory 128M)
    banner="L$levels.*work: 9592 primes" needs=512
    ;;
xen)
    # The words of debian-xen: --kernel XEN --append S --module FILE,WORDS ... --memory SIZE --no-reboot
    xen_words=$("$here/debian-xen.sh" --build-only)
    eval "words=($xen_words)"
    boot="" monitor=() modules=0
    for ((i = 0; i < ${#words[@]}; i += 2)); do
        value=${words[i + 1]:-}
        case ${words[i]} in
        --kernel)
            mkdir -p "$cache/stack/mixed"
            gunzip -c "$value" >"$cache/stack/mixed/xen.new"
            mv "$cache/stack/mixed/xen.new" "$cache/stack/mixed/xen"
            boot+="file /boot/xen 644 $cache/stack/mixed/xen"$'\n'
            monitor+=(--kernel /boot/xen)
            ;;
        --append) monitor+=(--append "$value") ;;
        --module)
            boot+="file /boot/module$modules 644 ${value%%,*}"$'\n'
            monitor+=(--module "/boot/module$modules,$(case $value in *,*) echo "${value#*,}" ;; esac)")
            modules=$((modules + 1))
            ;;
        esac
    done
    monitor+=(--memory 896M)
    banner="domU: banner" needs=1600
    ;;
*) die "--guest $guest: nest or xen was expected" ;;
esac

# ---- L1 ----------------------------------------------------------------------------------------------------------

images_place "$here/init.sh" "$here/exits.c" "$root"/labs/monitor/*.[ch] "$kernel_package" "$boot" "${monitor[*]}"
hypervisor_parts_make "$kernel_package"
printf '%s\n' "${monitor[@]}" >"$images/guest"
{
    for directory in /bin /dev /proc /sys /boot /lib /lib/modules; do echo "dir $directory 755"; done
    echo "char /dev/console 600 5 1"
    echo "char /dev/null 666 1 3"
    echo "file /init 755 $here/init.sh"
    echo "file /bin/busybox 755 $busybox"
    echo "file /bin/monitor 755 $images/monitor"
    echo "file /boot/guest 644 $images/guest"
    for module in irqbypass kvm kvm-intel; do echo "file /lib/modules/$module.ko 644 $images/$module.ko"; done
    echo "$boot"
} | "$images/mkcpio" >"$images/initramfs.new"
mv "$images/initramfs.new" "$images/initramfs.cpio"

memory=${memory:-${needs}M}
append="console=ttyS0 loglevel=$loglevel panic=-1 reboot=k nokaslr mitigations=off 8250.nr_uarts=1 cryptomgr.notests"
append+=" nest.level=1 nest.levels=2 nest.nested=0${extra_append:+ $extra_append}"
stack_built "$images/initramfs.cpio"
say "$guest as the guest of KVM of $kernel_package, policy $policy, $memory of memory"
stack_run --kernel "$kernel" --initrd "$images/initramfs.cpio" --append "$append" --memory "$memory" --policy "$policy" || exit
if grep -qE '(L1|dom0): FAILED' "$log" || ! grep -q "$banner" "$log"; then
    say "nestor run ended with status 0, but the innermost guest's banner did not appear"
    exit 1
fi
