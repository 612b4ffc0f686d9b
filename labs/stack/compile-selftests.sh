#!/bin/bash
# Compiles KVM's selftests, statically linked: compile-selftests.sh LINUX-SOURCE.tar.xz HEADERS OUT
# HEADERS is the usr/include of linux-libc-dev: what the kernel's own make would install first. OUT receives one program a test.
set -euo pipefail
archive=$1 headers=$2 out=$3
rm -rf "$out"
mkdir -p "$out/source" "$out/objects"
tar -xJf "$archive" -C "$out/source" --strip-components 1 --wildcards '*/tools/testing/selftests/*.h' \
    '*/tools/testing/selftests/kvm' '*/tools/testing/selftests/rseq' '*/tools/include' '*/tools/lib' '*/tools/arch/x86/include'
cd "$out/source/tools/testing/selftests/kvm"
# TEST_ASSERT_EQ is a newer name of ASSERT_EQ, which one file of 6.1 uses.
flags="-w -O2 -std=gnu99 -U_FORTIFY_SOURCE -fno-stack-protector -fno-PIE -DTEST_ASSERT_EQ=ASSERT_EQ
    -I../../../include -I../../../arch/x86/include -I$headers -I$headers/x86_64-linux-gnu -Iinclude -Iinclude/x86_64 -I../rseq -I.."
export out flags
jobs=$(getconf _NPROCESSORS_ONLN)
find lib/*.c lib/x86_64 -name '*.[cS]' | LC_ALL=C sort | xargs -P "$jobs" -I SOURCE sh -c '
    case SOURCE in */string_override.c) flags="$flags -ffreestanding" ;; esac
    exec cc $flags -c -o "$out/objects/$(echo SOURCE | tr / _).o" SOURCE'
sed -n 's/^TEST_GEN_PROGS\(_EXTENDED\)\{0,1\}_x86_64 *+\{0,1\}= *//p' Makefile | xargs -P "$jobs" -I TEST sh -c '
    exec cc $flags -I"$(dirname TEST)" -include linux/stddef.h -static -pthread -no-pie -s \
        -o "$out/$(basename TEST)" TEST.c "$out"/objects/*.o'
cd "$out"
rm -rf source objects
