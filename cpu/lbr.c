/* Last-branch records: which branches are recorded, and how [SDM3 "LBR Stack", "Filtering of Last Branch Records", "Call-Stack LBR"].
 *
 * Every processor here predicts well: the flag of a misprediction is never set, and cycle counts are 0.
 */
#include "cpu/lbr.h"

#include "cpu/model.h"
#include "cpu/table.h"

/* MSR_LBR_SELECT: what is not recorded. */
enum { SKIP_CPL0 = 1 << 0, SKIP_OTHER_CPL = 1 << 1, SKIP_JCC = 1 << 2, SKIP_REL_CALL = 1 << 3, SKIP_IND_CALL = 1 << 4, SKIP_RET = 1 << 5,
       SKIP_IND_JMP = 1 << 6, SKIP_REL_JMP = 1 << 7, SKIP_FAR = 1 << 8, CALL_STACK = 1 << 9 };

/* The bit of MSR_LBR_SELECT that a taken branch belongs to. */
static unsigned kind_of(const struct insn *in)
{
    if (in->row >= insn_row_count)
        return SKIP_FAR;
    const struct insn_row *row = &insn_rows[in->row];
    bool relative = row->operand[0].letter == 'J';
    if (strcmp(row->name, "CALL") == 0)
        return relative ? SKIP_REL_CALL : SKIP_IND_CALL;
    if (strcmp(row->name, "JMP") == 0)
        return relative ? SKIP_REL_JMP : SKIP_IND_JMP;
    if (strcmp(row->name, "RET") == 0)
        return SKIP_RET;
    return relative ? SKIP_JCC : SKIP_FAR;
}

static void record(struct cpu *cpu, unsigned kind, u64 from)
{
    struct cpu_sys *sys = &cpu->sys;
    unsigned count = cpu_model_of(cpu)->lbr;
    u64 select = sys->lbr_select;
    if (count == 0 || select & (cpu->mode.cpl == 0 ? SKIP_CPL0 : SKIP_OTHER_CPL) || select & kind)
        return;
    if (select & CALL_STACK && kind == SKIP_RET) {
        /* A return takes its call's record away. */
        sys->lbr_from[sys->lbr_tos] = sys->lbr_to[sys->lbr_tos] = 0;
        sys->lbr_tos = (sys->lbr_tos + count - 1) % count;
        return;
    }
    sys->lbr_tos = (sys->lbr_tos + 1) % count;
    sys->lbr_from[sys->lbr_tos] = from;
    sys->lbr_to[sys->lbr_tos] = cpu->core.rip;
    sys->lbr_info[sys->lbr_tos] = 0;
}

void lbr_branch(struct cpu *cpu, const struct insn *in, u64 from) { record(cpu, kind_of(in), from); }

void lbr_event(struct cpu *cpu, u64 from)
{
    struct cpu_sys *sys = &cpu->sys;
    sys->ler_from = sys->lbr_from[sys->lbr_tos];
    sys->ler_to = sys->lbr_to[sys->lbr_tos];
    record(cpu, SKIP_FAR, from);
}
