#!/bin/bash
# Compares what tests/user/transfers.c prints with transfers.expected.
#
#   run.sh native                    as a process of this host: the expectations themselves are tested against its processor
#   run.sh NESTOR LEVELS POLICY      as /init of level LEVELS (1: the emulated machine's own kernel; 2: a guest of KVM in it, ...)
#
# Exit status 0 if all lines agree; 69 if this host cannot run it (another system or processor, no compiler, no packages).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
labs=$here/../../labs
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

unavailable() { echo "transfers: $*" >&2; exit 69; }

build() {
    [ "$(uname -sm)" = "Linux x86_64" ] || unavailable "needs Linux on x86-64 to be compiled"
    command -v cc >/dev/null || unavailable "no C compiler"
    cc -std=gnu11 -O1 -static -no-pie -mno-red-zone -o "$work/transfers" "$here/transfers.c" || unavailable "does not compile; needed is libc.a"
}

# $1: what was printed; $2: sed commands for lines that cannot agree
compare() {
    if diff <(sed "$2" "$here/transfers.expected") <(sed "$2" "$1"); then
        echo "$(grep -c : "$1") cases agree"
    else
        echo "transfers: lines differ (<: expected)" >&2
        exit 1
    fi
}

build
if [ "$1" = native ]; then
    "$work/transfers" >"$work/lines" || unavailable "it was killed"
    ! grep -q '^modify_ldt failed' "$work/lines" || unavailable "this host's kernel has no modify_ldt"
    compare "$work/lines" '/^~/d'
    exit
fi

nestor=$1 levels=$2 policy=$3 nested=0
[ "$policy" != hardware ] || nested=1
declare -A image
while read -r key path; do image[$key]=$path; done < <("$labs/stack/debian-kvm.sh" --build-only --levels $((levels > 1 ? levels : 2)))
[ -n "${image[kernel]:-}" ] || unavailable "no images"
parts=$(dirname "${image[initrd]}")
busybox=$parts/../../../packages/busybox-static/root/bin/busybox

{
    for directory in /dev /proc; do echo "dir $directory 755"; done
    echo "char /dev/console 600 5 1"
    echo "file /init 755 $work/transfers"
} | "$parts/mkcpio" >"$work/level.cpio"
for ((level = levels; level > 1; level--)); do
    {
        for directory in /bin /dev /proc /sys /boot /lib /lib/modules; do echo "dir $directory 755"; done
        echo "char /dev/console 600 5 1"
        echo "char /dev/null 666 1 3"
        echo "file /init 755 $labs/stack/init.sh"
        echo "file /bin/busybox 755 $busybox"
        echo "file /bin/monitor 755 $parts/monitor"
        for module in irqbypass kvm kvm-intel; do echo "file /lib/modules/$module.ko 644 $parts/$module.ko"; done
        echo "file /boot/vmlinuz 644 ${image[kernel]}"
        echo "file /boot/next.cpio 644 $work/level.cpio"
    } | "$parts/mkcpio" >"$work/outer.cpio"
    mv "$work/outer.cpio" "$work/level.cpio"
done
append="console=ttyS0 loglevel=1 panic=-1 reboot=k nokaslr mitigations=off 8250.nr_uarts=1 cryptomgr.notests"
append+=" nest.level=1 nest.levels=$levels nest.nested=$nested nest.loglevel=1 nest.memory=112 nest.step=160"
"$nestor" run --kernel "${image[kernel]}" --initrd "$work/level.cpio" --append "$append" --memory $((192 + (levels - 1) * 160))M --policy "$policy" \
    --no-reboot --serial stdio >"$work/console" </dev/null || { echo "transfers: nestor ended with status $?" >&2; exit 1; }
tr -d '\r' <"$work/console" | sed 's/^\(| \)*//' | sed -n '/^BEGIN/,/^END/p' >"$work/lines"
compare "$work/lines" ''
