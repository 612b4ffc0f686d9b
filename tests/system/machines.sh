# machines.sh: how the runners start an image: `start WORDS` prints the debug console of $machine that boots $images/$image with WORDS as its
# command line. Sourced; exits with 69 where the machine is not installed.
#
# In: machine (nestor, qemu, bochs, tigerlake: Bochs with the processor that has CET), images, image, work (a folder), limit (seconds); for nestor also nestor (the program) and cpu.
case $machine in
nestor)
    start() {
        # shellcheck disable=SC2046
        timeout "$limit" "$nestor" run --kernel "$images/$image.elf" --append "$1" --cpu "$cpu" --memory 64M --serial none \
            --debugcon stdio --max-insns 20000000000 $(rows_trace) 2>"$work/errors" </dev/null
    }
    ;;
qemu)
    command -v qemu-system-x86_64 >/dev/null || { echo "system: qemu-system-x86_64 is not installed: its comparison is skipped"; exit 69; }
    start() {
        timeout "$limit" qemu-system-x86_64 -cpu max,vendor=GenuineIntel -m 64 -kernel "$images/$image.elf" -append "$1" -debugcon stdio \
            -display none -serial none -monitor none -no-reboot -device isa-debug-exit 2>"$work/errors" </dev/null
    }
    ;;
bochs | tigerlake)
    model=corei7_icelake_u
    [ "$machine" = bochs ] || model=$machine
    if ! command -v bochs >/dev/null || ! command -v script >/dev/null || ! ls /usr/lib/*/bochs/plugins/libbx_term_gui.so >/dev/null 2>&1; then
        echo "system: bochs with bochs-term is not installed: its comparison is skipped"
        exit 69
    fi
    # Debian's Bochs has the debugger built in ("c" continues, "quit" is for after a panic) and wants a terminal. Its ROM is ours: no BIOS.
    start() {
        { head -c -2048 "$images/$image.rom"; printf '%s' "$1"; tail -c 2048 "$images/$image.rom" | tail -c +$((${#1} + 1)); } >"$work/rom"
        printf 'c\nquit\n' >"$work/rc"
        cat >"$work/bochsrc" <<RC
display_library: term
cpu: model=$model, ips=200000000, reset_on_triple_fault=0, ignore_bad_msrs=0
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
*) echo "system: nestor, qemu, bochs or tigerlake, not $machine" >&2; exit 64 ;;
esac
