#!/bin/bash
# Every mistake on the command line gives a status of 64 or more and one line on stderr that names the option or file.
# usage: errors.sh NESTOR
nestor=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# refused TEXT WORD…: `nestor WORD…` must fail with one line that holds TEXT.
refused() {
    local text=$1 status=0 lines
    shift
    "$nestor" "$@" >"$work/out" 2>"$work/err" </dev/null || status=$?
    lines=$(wc -l <"$work/err")
    if [ "$status" -lt 64 ] || [ "$status" -gt 127 ] || [ "$lines" != 1 ] || ! grep -qF -- "$text" "$work/err"; then
        echo "FAILED: nestor $*: status $status, $lines lines, expected \"$text\":"
        cat "$work/err"
        failed=1
    fi
}

# accepted WORD…: status 0.
accepted() {
    if ! "$nestor" "$@" >"$work/out" 2>"$work/err" </dev/null || [ ! -s "$work/out" ]; then
        echo "FAILED: nestor $*"
        cat "$work/err"
        failed=1
    fi
}

head -c 4096 /dev/zero | tr '\0' x >"$work/text"
: >"$work/empty"
# a multiboot kernel that halts
printf '\x02\xb0\xad\x1b\x00\x00\x01\x00\xfe\x4f\x51\xe4\x00\x00\x10\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x20\x00\x10\x00\xf4' >"$work/kernel"
head -c 64 /dev/zero >>"$work/kernel"

accepted --help
accepted --version
accepted run --help
accepted run -h
accepted dump cpus
accepted dump insns

refused "frobnicate" frobnicate
refused "not implemented yet" replay x
refused "source tree" demo
refused "--kernel" run
refused "--colour" run --colour red
refused "unknown word" run kernel.elf
refused "--memory lots: expected" run --memory lots
refused "--memory 0: expected" run --memory 0
refused "--memory 5000T: expected" run --memory 5000T
refused "--memory 3000001K: expected" run --memory 3000001K
refused "--cpus 0: expected" run --cpus 0
refused "--cpus 256: expected" run --cpus 256
refused "--max-insns many: expected" run --max-insns many
refused "--serial pigeon: expected" run --serial pigeon
refused "--serial tcp:99" run --serial tcp:99
refused "--debugcon x: expected" run --debugcon x
refused "--engine warp: expected" run --engine warp
refused "--display sdl: not implemented yet" run --display sdl
for option in disk cdrom bios record gdb snapshot-every; do
    refused "--$option: not implemented yet" run --"$option" x
done
refused "--realtime: not implemented yet" run --realtime
refused "--kernel: expected a value" run --kernel
refused "--stats: takes no value" run --stats=1
refused "--trace vmx: expected" run --kernel "$work/text" --trace vmx
refused "$work/missing" run --kernel "$work/missing"
refused "$work" run --kernel "$work"
refused "$work/text" run --kernel "$work/text"
refused "$work/empty" run --kernel "$work/empty"
refused "$work/noinitrd" run --kernel "$work/text" --initrd "$work/noinitrd"
refused "$work/nomodule" run --kernel "$work/text" --module "$work/nomodule,with args"
refused "--until-serial" run --kernel "$work/text" --until-serial '('
refused "--serial: cannot write" run --kernel "$work/text" --serial file:/nonexistent/x
refused "nonesuch" run --kernel "$work/text" --cpu nonesuch
refused "warp-drive" run --kernel "$work/text" --cpu base,+warp-drive
refused "nonesuch" run --kernel "$work/text" --policy nonesuch
refused "expected hardware, transparent" run --kernel "$work/text" --policy ''
refused "expected +FLAG or -FLAG" run --kernel "$work/text" --cpu base,vmx
refused "unknown category bogus" run --kernel "$work/kernel" --trace bogus:-
refused "cannot write /nonexistent/x" run --kernel "$work/kernel" --trace vmx:/nonexistent/x
refused "unknown table" dump nonesuch
refused "--append: the command line is longer" run --kernel "$work/kernel" --append "$(head -c 10000 /dev/zero | tr '\0' a)"

# Images that do not fit or are not whole
head -c 3145728 /dev/zero >"$work/big"
refused "initrd $work/big: its 3145728 bytes do not fit" run --kernel "$work/kernel" --initrd "$work/big" --memory 2M
refused "module $work/big: its 3145728 bytes do not fit" run --kernel "$work/kernel" --module "$work/big" --memory 2M
# a bzImage's header that promises 1 MiB of kernel, and 512 bytes of it
{
    head -c 497 /dev/zero
    printf '\x01\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x55\xaa\xeb\x66HdrS\x0c\x02'
    printf '\x00\x00\x00\x00\x00\x00\x00\x00\xff\x01'
    head -c 1000 /dev/zero
} >"$work/bzimage"
refused "kernel $work/bzimage: the file ends before" run --kernel "$work/bzimage"

exit $failed
