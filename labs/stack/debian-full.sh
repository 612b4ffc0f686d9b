#!/bin/bash
# debian-full: Debian's full kernel checks the emulated processor with its own tests, and Debian's programs give the same
# output in the guest as on this host.
#
#   crypto    every crypto module is loaded; the kernel's test manager compares each algorithm with its test vectors and
#             with the generic C code, and `tcrypt` makes the templates as well
#   raid      xor, raid6_pq and async_*: the kernel tries all implementations; raid6_pq and xor choose the fastest
#   md        a RAID 6 of RAM disks loses two of its members and is rebuilt
#   bpf       test_bpf: programs for the kernel's BPF compiler
#   perf      Linux's perf counts user-mode instructions, cycles and branches exactly, on models that have the flag pmu
#   programs  perl, python3 and openssl (labs/stack/programs/), compared with the same binaries run on this host
#
# Packages are fetched with apt-get download (labs/stack/packages.sh); nothing of them is committed or installed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
stack_name=debian-full
. "$here/command.sh"

usage() {
    cat <<'END'
usage: nestor stack debian-full [options] [options of nestor run, such as --cpu haswell]
  --parts LIST    of crypto,raid,md,bpf,perf,programs; default: all
  --memory SIZE   of the machine; default 512M
  --append S      added to the kernel's command line
  --verbose       the kernel prints all its messages
  --build-only    make the images, print "kernel PATH", "initrd PATH", "memory SIZE" and "append STRING", run nothing
Exit status: nestor run's; 1 when a part failed; 64 for a usage error, 69 when the packages cannot be had.
END
}

parts=crypto,raid,md,bpf,perf,programs stats=""
options_read --parts=parts --stats:stats=--stats -- "$@"
memory=${memory:-512M}
[[ ,$parts, =~ ^(,(crypto|raid|md|bpf|perf|programs))+,$ ]] || die "--parts $parts: names of crypto, raid, md, bpf, perf, programs were expected"

# ---- packages ----------------------------------------------------------------------------------------------------

packages_begin
command -v xz >/dev/null || unavailable "'xz' is not installed (on Debian: apt-get install xz-utils)"
kernel_package=$(kernel_package_resolve linux-image-amd64)
kernel_root=$(package_unpack "$kernel_package")
kernel_version=${kernel_package#linux-image-}
bzimage=$kernel_root/boot/vmlinuz-$kernel_version
[ -s "$bzimage" ] || die "$kernel_package holds no boot/vmlinuz-$kernel_version"
busybox=$(package_unpack busybox-static)/bin/busybox
programs=(libc6 libcrypt1 zlib1g libexpat1 libffi8 libbz2-1.0 liblzma5 perl-base python3.11-minimal libpython3.11-minimal
    libpython3.11-stdlib openssl libssl3 mdadm libudev1)
program_roots=()
for package in "${programs[@]}"; do program_roots+=("$(package_unpack "$package")"); done

# ---- images ------------------------------------------------------------------------------------------------------

images_place "$here/init-full.sh" "$here/run-program.sh" "$here/perf.py" "$here"/programs/* "$kernel_package"
tree=$images/tree
kernel=$images/vmlinux

# The ELF kernel that stands compressed in the bzImage, which the emulator starts through PVH: the guest would need thousands
# of millions of instructions to unpack it. Fields of the boot protocol: setup_sects, payload_offset, payload_length.
kernel_extract() {
    local sectors offset length
    sectors=$(od -An -tu1 -j497 -N1 "$bzimage" | tr -d ' ')
    offset=$(od -An -tu4 -j584 -N4 "$bzimage" | tr -d ' ')
    length=$(od -An -tu4 -j588 -N4 "$bzimage" | tr -d ' ')
    dd if="$bzimage" of="$kernel.packed" bs=64K iflag=skip_bytes,count_bytes skip=$(((sectors + 1) * 512 + offset)) count="$length" status=none
    # Behind the stream stands its unpacked size.
    xz -dc --format=xz --single-stream <"$kernel.packed" >"$kernel" 2>/dev/null || unavailable "$kernel_package: its kernel is not packed with xz"
    rm "$kernel.packed"
}

# All the guest's files in one tree: programs, and the modules that the tests need, with what depmod makes of them.
if [ ! -e "$images/.complete" ]; then
    say "making the images"
    kernel_extract
    rm -rf "$tree"
    mkdir -p "$tree/lib/modules/$kernel_version" "$tree/programs"
    for program_root in "${program_roots[@]}"; do cp -a "$program_root/." "$tree"; done
    rm -rf "$tree"/usr/share "$tree"/etc "$tree"/usr/lib/x86_64-linux-gnu/gconv "$tree"/usr/lib/python3.11/__pycache__
    modules=$kernel_root/lib/modules/$kernel_version
    (
        cd "$modules"
        cp modules.order modules.builtin modules.builtin.modinfo "$tree/lib/modules/$kernel_version"
        find kernel/crypto kernel/arch/x86/crypto kernel/lib kernel/drivers/md kernel/drivers/block/brd.ko -name '*.ko' |
            tar -cf - -T - | tar -xf - -C "$tree/lib/modules/$kernel_version"
    )
    "$busybox" depmod -b "$tree" "$kernel_version" || unavailable "busybox depmod does not run on this host"
    cp "$here"/programs/* "$tree/programs"
    {
        for directory in /bin /sbin /dev /proc /sys /etc /tmp /run; do [ -e "$tree$directory" ] || echo "dir $directory 755"; done
        (cd "$tree" && find . -mindepth 1 \( -type d -printf 'dir /%P 755\n' -o -type l -printf 'link /%P %l\n' -o -type f -perm /111 \
            -printf "file /%P 755 $tree/%P\n" -o -type f -printf "file /%P 644 $tree/%P\n" \) | LC_ALL=C sort -k 2,2)
        echo "char /dev/console 600 5 1"
        echo "char /dev/null 666 1 3"
        echo "file /init 755 $here/init-full.sh"
        echo "file /run-program.sh 755 $here/run-program.sh"
        echo "file /perf.py 644 $here/perf.py"
        echo "file /bin/busybox 755 $busybox"
        echo "link /bin/sh busybox"
        [ -e "$tree/sbin/modprobe" ] || echo "link /sbin/modprobe ../bin/busybox"
    } >"$images/list"
    "$images/mkcpio" <"$images/list" >"$images/initramfs.cpio"
    touch "$images/.complete"
fi
initrd=$images/initramfs.cpio

# ---- the run -----------------------------------------------------------------------------------------------------

append="console=ttyS0 loglevel=$loglevel panic=-1 reboot=k nokaslr 8250.nr_uarts=1 full.parts=$parts${extra_append:+ $extra_append}"
stack_built "$initrd"
say "$kernel_package, parts $parts, $memory of memory"
stack_run --kernel "$kernel" --initrd "$initrd" --append "$append" --memory "$memory" || exit
status=0
if grep -q '^full: FAILED' "$log" || ! grep -q '^full: done' "$log"; then
    say "FAILED: see the lines 'full: FAILED' above; nestor run ended with status 0"
    status=1
fi

# The same programs on this host, by the same dynamic loader and libraries.
case ,$parts, in
*,programs,*)
    if [ "$(uname -m)" != x86_64 ]; then
        say "this host is not x86-64: the programs' output is not compared"
        exit "$status"
    fi
    # The C library's mathematics has code with and without FMA, whose last digits differ: this host takes what the guest took.
    tunables=""
    grep -q '^full: flags .* fma ' "$log" || tunables=glibc.cpu.hwcaps=-FMA,-AVX2,-FMA4
    for program in "$here"/programs/*; do
        name=$(basename "$program")
        sed -n "/^full: begin $name\$/,/^full: end $name /{//!p}" "$log" >"$work/guest"
        GLIBC_TUNABLES=$tunables sh "$here/run-program.sh" "$tree" "$program" >"$work/host" 2>&1 || say "$name ended with status $? on this host"
        if [ ! -s "$work/guest" ] || ! diff -u --label host "$work/host" --label guest "$work/guest"; then
            say "FAILED: $name has another output in the guest than on this host"
            status=1
        else
            say "$name: $(wc -l <"$work/guest") lines, the same as on this host"
        fi
    done
    ;;
esac
exit "$status"
