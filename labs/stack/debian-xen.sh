#!/bin/bash
# debian-xen: Debian's Xen, booted by multiboot, with Debian's kernel as its control domain, in which `xl` creates a PVH guest
# (VMX and EPT) out of the cloud kernel.
#
# Packages are fetched with apt-get download (labs/stack/packages.sh); nothing of them is committed or installed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
stack_name=debian-xen
. "$here/packages.sh"

usage() {
    cat <<'END'
usage: nestor stack debian-xen [options] [options of nestor run]
  --memory SIZE   of the machine; default 1G
  --append S      added to Xen's command line
  --no-stats      no VM exits by level, reason and handler at the end
  --build-only    make the images, print the words for nestor run, run nothing
Exit status: nestor run's; 1 when the guest's banner did not appear; 64 for a usage error, 69 when the packages cannot be had.
END
}

memory=1G extra_append="" stats=--stats build_only="" pass=()
while [ $# -gt 0 ]; do
    case $1 in
    --memory | --append)
        [ $# -ge 2 ] || die "$1: a value was expected"
        case $1 in
        --memory) memory=$2 ;;
        --append) extra_append=$2 ;;
        esac
        shift
        ;;
    --no-stats) stats="" ;;
    --build-only) build_only=1 ;;
    -h | --help) usage; exit 0 ;;
    *) pass+=("$1") ;;
    esac
    shift
done

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

inputs=$(cat "$here/debian-xen.sh" "$here/init-xen.sh" "$here/mkcpio.c" <(echo "$dom0_package $guest_package") | sha256sum | cut -c 1-16)
images=$cache/stack/debian-xen/$inputs
mkdir -p "$images"
case "$images$here" in *[[:space:]]*) die "the cache's or the repository's path contains a space, which mkcpio cannot take" ;; esac

if [ ! -e "$images/.complete" ]; then
    say "making the images"
    cc -std=gnu11 -O2 -Wall -o "$images/mkcpio" "$here/mkcpio.c" || unavailable "mkcpio does not compile; needed are gcc and libc6-dev"
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
    --module "$dom0_root/boot/vmlinuz-$dom0_version,console=hvc0 loglevel=4 panic=-1 mitigations=off cryptomgr.notests"
    --module "$images/dom0.cpio" --memory "$memory" --no-reboot)
if [ -n "$build_only" ]; then
    printf '%q ' "${words[@]}"
    echo
    exit 0
fi
nestor=${NESTOR:-$root/build/default/nestor}
[ -x "$nestor" ] || die "$nestor is not built; run ./nestor stack debian-xen, which builds it, or name it in \$NESTOR"
say "Xen 4.17, $dom0_package, $guest_package, $memory of memory"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
set +e
"$nestor" run "${words[@]}" $stats ${pass[@]+"${pass[@]}"} | tee "$log"
status=${PIPESTATUS[0]}
set -e
if [ "$status" = 0 ] && { grep -q 'dom0: FAILED' "$log" || ! grep -q '^| domU: banner' "$log"; }; then
    say "nestor run ended with status 0, but the guest's banner did not appear"
    status=1
fi
exit "$status"
