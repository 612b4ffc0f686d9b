#!/bin/bash
# debian-kvm: Debian's own kernel as hypervisor, inside itself: Linux -> KVM -> Linux [-> KVM -> Linux ...].
#
# Fetches linux-image-cloud-amd64 and busybox-static with apt-get download (no root), makes one initramfs a level, each
# within the next outer one, and runs the outermost on Nestor. Everything fetched and made stays in
# ${NESTOR_CACHE:-${XDG_CACHE_HOME:-~/.cache}/nestor}; what is there is not fetched again.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
stack_name=debian-kvm
. "$here/command.sh"

usage() {
    cat <<'END'
usage: nestor stack debian-kvm [options] [options of nestor run]
  --levels N      how many Linux kernels, one inside the other: 1 (no KVM) to 6; default 2
  --policy P      transparent (default): Nestor gives each guest a VMX interface, every KVM runs with nested=0
                  hardware: as silicon does; each KVM but the last emulates VMX for its guest (nested=1)
  --kvm P=V,...   more parameters of every kvm_intel, such as enable_shadow_vmcs=0
  --memory SIZE   of the machine; default: what the levels need
  --append S      added to the outermost kernel's command line
  --verbose       the kernels print all their messages
  --no-stats      no VM exits by level, reason and handler at the end
  --build-only    make the images, print "kernel PATH", "initrd PATH", "memory SIZE" and "append STRING", run nothing
  --with-amd      put kvm-amd.ko in as well, to run the same images on an emulator of AMD's SVM
Exit status: nestor run's; 1 when a level said FAILED or the innermost level was not reached; 64 for a usage error, 69 when
the packages cannot be had.
END
}

levels=2 policy=transparent kvm="" loglevel=6 with_amd=""
options_read --kvm=kvm --levels=levels --policy=policy --with-amd:with_amd=1 -- "$@"
[[ $levels =~ ^[1-6]$ ]] || die "--levels $levels: a number from 1 to 6 was expected"
kvm_parameters_check

# ---- packages ----------------------------------------------------------------------------------------------------

packages_begin
kernel_package=$(kernel_package_resolve linux-image-cloud-amd64)
kernel_root=$(package_unpack "$kernel_package")
busybox_root=$(package_unpack busybox-static)
kernel_version=${kernel_package#linux-image-}
kernel=$kernel_root/boot/vmlinuz-$kernel_version
[ -s "$kernel" ] || die "$kernel_package holds no boot/vmlinuz-$kernel_version"

# ---- images ------------------------------------------------------------------------------------------------------

images_place "$here/init.sh" "$here/exits.c" "$root"/labs/monitor/*.[ch] "$kernel_package $with_amd"

hypervisor_parts_make "$kernel_package"

# The initramfs of a level that has $1 levels inside itself. Uncompressed, at every depth: a host's memory is cheaper than
# the instructions that unpack it.
initramfs_make() {
    local inner=$1 image=$images/initramfs-$1.cpio
    if [ -e "$image" ]; then
        return
    fi
    if [ "$inner" -gt 0 ]; then
        initramfs_make $((inner - 1))
    fi
    {
        for directory in /bin /dev /proc /sys /boot /lib /lib/modules; do echo "dir $directory 755"; done
        echo "char /dev/console 600 5 1"
        echo "char /dev/null 666 1 3"
        echo "file /init 755 $here/init.sh"
        echo "file /bin/busybox 755 $busybox_root/bin/busybox"
        echo "file /bin/exits 755 $images/exits"
        if [ "$inner" -gt 0 ]; then
            echo "file /bin/monitor 755 $images/monitor"
            for module in irqbypass kvm kvm-intel ${with_amd:+kvm-amd}; do
                echo "file /lib/modules/$module.ko 644 $images/$module.ko"
            done
            echo "file /boot/vmlinuz 644 $kernel"
            echo "file /boot/next.cpio 644 $images/initramfs-$((inner - 1)).cpio"
        fi
    } | "$images/mkcpio" >"$image.new"
    mv "$image.new" "$image"
}
initramfs_make $((levels - 1))
initrd=$images/initramfs-$((levels - 1)).cpio
# For whoever wants the images by hand: latest/vmlinuz and latest/initramfs-K.cpio, K levels inside the outermost.
ln -sfn "$kernel" "$images/vmlinuz"
[ -n "$with_amd" ] || ln -sfn "$images" "$cache/stack/debian-kvm/latest"

# ---- the run -----------------------------------------------------------------------------------------------------

inner_memory=112 step=160
# Linux uses transparent huge pages only where it finds more than 512 MiB; without them each 4 KiB page of L2's memory is an exit to L1.
needed=$((inner_memory + 80 + (levels - 1) * step))
[ -n "$memory" ] || memory=$((needed < 768 && levels > 2 ? 768 : needed))M
nested=0
[ "$policy" != hardware ] || nested=1
append="console=ttyS0 loglevel=$loglevel panic=-1 reboot=k nokaslr mitigations=off 8250.nr_uarts=1 cryptomgr.notests"
append+=" nest.level=1 nest.levels=$levels nest.nested=$nested nest.loglevel=$loglevel nest.memory=$inner_memory nest.step=$step${kvm:+ nest.kvm=$kvm}"
append+=${extra_append:+ $extra_append}

stack_built "$initrd"

say "$levels levels of $kernel_package, policy $policy, $memory of memory"
stack_run --kernel "$kernel" --initrd "$initrd" --append "$append" --memory "$memory" --policy "$policy" || exit
if grep -q 'L[0-9]*: FAILED' "$log" || ! grep -q "L$levels: innermost level reached" "$log"; then
    say "nestor run ended with status 0, but level $levels was not reached"
    exit 1
fi
