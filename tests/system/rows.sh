# rows.sh: with NESTOR_ROWS in the environment, what rows of cpu/insn.def Nestor executed in all runs of a runner that ended well (tests/insn/README.md).
# Sourced; `work` is the runner's folder, which goes when it ends; $(rows_trace) is an option for `nestor run`.
rows_trace() { [ -z "${NESTOR_ROWS:-}" ] || echo "--trace insn:$(mktemp "$work/XXXXXX.rows")"; }
leave() {
    if [ $? = 0 ] && [ -n "${NESTOR_ROWS:-}" ] && compgen -G "$work/*.rows" >/dev/null; then
        { cat "$work"/*.rows | grep -vx end | sort -u; echo end; } >"$NESTOR_ROWS"
    fi
    rm -rf "$work"
}
trap leave EXIT
trap 'exit 130' INT TERM
