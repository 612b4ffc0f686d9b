#!/bin/bash
# debian-xen: Debian's Xen, booted by multiboot, with Debian's kernel as its control domain, in which `xl` creates a PVH guest
# (VMX and EPT) out of the cloud kernel.
#
# Packages are fetched with apt-get download (labs/stack/packages.sh); nothing of them is committed or installed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
stack_name=debian-xen
. "$here/command.sh"

usage() {
    cat <<'END'
usage: nestor stack debian-xen [options] [options of nestor run]
  --memory SIZE   of the machine; default 1G
  --append S      added to Xen's command line
  --verbose       dom0's kernel prints all its messages
  --no-stats      no VM exits by level, reason and handler at the end
  --build-only    make the images, print the words for nestor run, run nothing
Exit status: nestor run's; 1 when the guest's banner did not appear; 64 for a usage error, 69 when the packages cannot be had.
END
}

options_read -- "$@"
memory=${memory:-1G}

# ---- packages ----------------------------------------------------------------------------------------------------

packages_begin
command -v xz >/dev/null || unavailable "'xz' is not installed (on Debian: apt-get install xz-utils)"
dom0_package=$(kernel_package_resolve linux-image-amd64)
guest_package=$(kernel_package_resolve linux-image-cloud-amd64)
dom0_root=$(package_unpack "$dom0_package")
guest_root=$(package_unpack "$guest_package")
dom0_version=${dom0_package#linux-image-}
busybox=$(package_unpack busybox-static)/bin/busybox
xen=$(package_unpack xen-hypervisor-4.17-amd64)/boot/xen-4.17-amd64.gz
roots=()
for package in xen-utils-4.17 libxenmisc4.17 libxencall1 libxenevtchn1 libxenforeignmemory1 libxengnttab1 libxenstore4 \
    libxentoollog1 libxendevicemodel1 libxentoolcore1 libxenhypfs1 libc6 libgcc-s1 libyajl2 liblzma5 libuuid1 libzstd1 zlib1g; do
    roots+=("$(package_unpack "$package")")
done

# ---- images ------------------------------------------------------------------------------------------------------

images_place "$here/init-xen.sh" "$dom0_package $guest_package"

if [ ! -e "$images/.complete" ]; then
    say "making the images"
    rm -rf "$images/tree" "$images/modules"
    mkdir -p "$images/tree" "$images/modules"
    for package_root in "${roots[@]}"; do cp -a "$package_root/." "$images/tree"; done
    for module in xen-evtchn xen-gntdev xen-gntalloc xen-privcmd xenfs/xenfs; do
        file=$dom0_root/lib/modules/$dom0_version/kernel/drivers/xen/$module.ko
        if [ -e "$file" ]; then
            cp "$file" "$images/modules"
        elif [ -e "$file.xz" ]; then
            xz -dc "$file.xz" >"$images/modules/$(basename "$module").ko"
        fi
    done
    cat >"$images/guest.cfg" <<'END'
name = "banner"
type = "pvh"
kernel = "/guest-vmlinuz"
ramdisk = "/guest.cpio"
memory = 128
vcpus = 1
extra = "console=hvc0 panic=-1 nokaslr mitigations=off cryptomgr.notests nest.guest"
on_poweroff = "destroy"
on_reboot = "destroy"
on_crash = "destroy"
END
    common() {
        for directory in /bin /dev /proc /sys /run; do echo "dir $directory 755"; done
        echo "char /dev/console 600 5 1"
        echo "char /dev/null 666 1 3"
        echo "file /init 755 $here/init-xen.sh"
        echo "file /bin/busybox 755 $busybox"
    }
    common | "$images/mkcpio" >"$images/guest.cpio"
    tree=$images/tree
    {
        common
        for directory in /etc /etc/xen /lib /lib64 /lib/modules /lib/x86_64-linux-gnu /tmp /var /var/lib /var/log /usr /usr/lib /usr/lib/x86_64-linux-gnu \
            /usr/lib/xen-4.17 /usr/lib/xen-4.17/bin /usr/lib/xen-4.17/lib /usr/lib/xen-4.17/lib/x86_64-linux-gnu; do
            echo "dir $directory 755"
        done
        echo "file /etc/xen/xl.conf 644 /dev/null"
        echo "link /bin/sh busybox"
        for program in xl xenstored xenconsoled xen-init-dom0 libxl-save-helper; do
            echo "file /usr/lib/xen-4.17/bin/$program 755 $tree/usr/lib/xen-4.17/bin/$program"
        done
        (cd "$tree" && find lib lib64 usr/lib/x86_64-linux-gnu usr/lib/xen-4.17/lib -maxdepth 2 \( -type l -printf 'link /%p %l\n' -o \
            -type f -name '*.so*' -printf "file /%p 755 $tree/%p\n" \) | LC_ALL=C sort -k 2,2)
        for module in "$images"/modules/*.ko; do echo "file /lib/modules/$(basename "$module") 644 $module"; done
        echo "file /guest.cfg 644 $images/guest.cfg"
        echo "file /guest.cpio 644 $images/guest.cpio"
        echo "file /guest-vmlinuz 644 $guest_root/boot/vmlinuz-${guest_package#linux-image-}"
    } >"$images/list"
    "$images/mkcpio" <"$images/list" >"$images/dom0.cpio"
    touch "$images/.complete"
fi

# ---- the run -----------------------------------------------------------------------------------------------------

words=(--kernel "$xen" --append "console=com1 com1=115200,8n1 loglvl=warning guest_loglvl=none dom0_mem=512M,max:512M dom0_max_vcpus=1 noreboot=0 no-real-mode${extra_append:+ $extra_append}"
    --module "$dom0_root/boot/vmlinuz-$dom0_version,console=hvc0 loglevel=$loglevel panic=-1 mitigations=off cryptomgr.notests"
    --module "$images/dom0.cpio" --memory "$memory")
if [ -n "$build_only" ]; then
    printf '%q ' "${words[@]}" --no-reboot
    echo
    exit 0
fi
say "Xen 4.17, $dom0_package, $guest_package, $memory of memory"
stack_run "${words[@]}" || exit
if grep -q 'dom0: FAILED' "$log" || ! grep -q '^| domU: banner' "$log"; then
    say "nestor run ended with status 0, but the guest's banner did not appear"
    exit 1
fi
