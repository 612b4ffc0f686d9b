#!/bin/bash
# Runs the image of system-mode cases and judges its lines.
#
#   run.sh IMAGES nestor PROGRAM [CPU]  every line is the expected one; cases that shut the processor down are run one by one
#   run.sh IMAGES qemu | bochs          likewise on another machine, where it is installed: what is not as expected has to be in differences.txt
#
# IMAGES is build.sh's output folder. Exit status 0: so it is; 69: that machine is not installed here; 1: it is not so, and what.
# SYSTEM_KEEP=FOLDER keeps the lines as FOLDER/MACHINE.lines.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
images=$1 machine=$2
work=$(mktemp -d)
# With NESTOR_ROWS, what rows of cpu/insn.def Nestor executed in all its runs (tests/insn/README.md).
leave() {
    if [ -n "${NESTOR_ROWS:-}" ] && [ "$machine" = nestor ]; then
        { cat "$work"/*.rows | grep -vx end | sort -u; echo end; } >"$NESTOR_ROWS"
    fi
    rm -rf "$work"
}
trap leave EXIT
limit=${SYSTEM_TIMEOUT:-500}

# $1: command line; prints the debug console. The status says nothing: what counts is the last line.
case $machine in
nestor)
    nestor=$3 cpu=${4:-base}
    start() {
        local trace=()
        [ -z "${NESTOR_ROWS:-}" ] || trace=(--trace "insn:$(mktemp "$work/XXXXXX.rows")")
        timeout "$limit" "$nestor" run --kernel "$images/system.elf" --append "$1" --cpu "$cpu" --memory 64M --serial none \
            --debugcon stdio --max-insns 20000000000 ${trace[@]+"${trace[@]}"} 2>"$work/errors" </dev/null
    }
    ;;
qemu)
    command -v qemu-system-x86_64 >/dev/null || { echo "system: qemu-system-x86_64 is not installed: its comparison is skipped"; exit 69; }
    start() {
        timeout "$limit" qemu-system-x86_64 -cpu max,vendor=GenuineIntel -m 64 -kernel "$images/system.elf" -append "$1" -debugcon stdio \
            -display none -serial none -monitor none -no-reboot -device isa-debug-exit 2>"$work/errors" </dev/null
    }
    ;;
bochs)
    if ! command -v bochs >/dev/null || ! command -v script >/dev/null || ! ls /usr/lib/*/bochs/plugins/libbx_term_gui.so >/dev/null 2>&1; then
        echo "system: bochs with bochs-term is not installed: its comparison is skipped"
        exit 69
    fi
    # Debian's Bochs has the debugger built in ("c" continues) and wants a terminal. Its ROM is ours: no BIOS runs.
    start() {
        { head -c -2048 "$images/system.rom"; printf '%s' "$1"; tail -c 2048 "$images/system.rom" | tail -c +$((${#1} + 1)); } >"$work/rom"
        printf 'c\nquit\n' >"$work/rc" # quit: after a panic
        cat >"$work/bochsrc" <<RC
display_library: term
cpu: model=${SYSTEM_BOCHS_CPU:-corei7_icelake_u}, ips=200000000, reset_on_triple_fault=0, ignore_bad_msrs=0
memory: guest=64, host=64
romimage: file=$work/rom
port_e9_hack: enabled=1
sound: waveoutdrv=dummy, waveout=none, waveindrv=dummy, wavein=none, midioutdrv=dummy, midiout=none
speaker: enabled=0
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
log: $work/log
clock: sync=none
RC
        TERM=vt100 timeout "$limit" script -qc "bochs -q -f $work/bochsrc -rc $work/rc" "$work/console" </dev/null >/dev/null 2>"$work/errors"
        cat "$work/console"
    }
    ;;
*) echo "system: nestor, qemu or bochs, not $machine" >&2; exit 64 ;;
esac

# differences.txt: MACHINE GLOB REASON; "qemu!" leaves a prefix out because the machine does not come back from it.
skip=$(sed -n "s/^$machine! \([^ ]*\) .*/\1/p" "$here/differences.txt" | paste -sd,)
start "${skip:+skip=$skip}" | tr -d '\r' | sed -n '/^system: begin/,/^system: [0-9]/p' >"$work/lines"
[ -z "${SYSTEM_KEEP:-}" ] || cp "$work/lines" "$SYSTEM_KEEP/$machine.lines"
if ! tail -1 "$work/lines" | grep -q '^system: [0-9]'; then
    echo "system: $machine did not get to the end; its last lines:"
    tail -3 "$work/lines"
    tail -5 "$work/errors"
    exit 1
fi
for name in $(sed -n 's/: shuts down$//p' "$work/lines"); do
    start "only=$name" | tr -d '\r' | sed -n '/^system: begin/,$p' >"$work/single"
    if grep -q '^system: [0-9]' "$work/single"; then
        { echo "$name: $(grep -F "$name: " "$work/single" | tail -1 | sed 's/.*: //')"; echo "! expected shutdown"; } >>"$work/lines"
    fi
done
globs=()
while read -r who glob _; do [ "$who" != "$machine" ] || globs+=("$glob"); done <"$here/differences.txt"
unexplained=0
while IFS= read -r line; do
    if [ "${line:0:1}" = '!' ]; then
        name=${previous%%: *}
        for glob in ${globs[@]+"${globs[@]}"}; do
            # shellcheck disable=SC2053
            [[ $name != $glob ]] || continue 2
        done
        unexplained=$((unexplained + 1))
        printf '%s\n    %s\n' "$previous" "${line#! }"
    fi
    previous=$line
done <"$work/lines"
grep '^system: [0-9]' "$work/lines"
[ $unexplained = 0 ] || { echo "system: $unexplained lines of $machine are neither expected nor in differences.txt"; exit 1; }
