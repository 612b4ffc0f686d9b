/* Which rows of cpu/insn.def are run, and how often. */
#include "maker.h"

#include <strings.h>

/* ---- which rows -------------------------------------------------------------------------------------------------- */


/* Rows of these files are run only where families[] below names their handler family. */
#define INSN(mnemonic, enc, ops, ...) {#mnemonic, enc, ops, KIND},
static const struct { const char *name, *encoding, *operands; u8 kind; } restricted[] = {
#define KIND KIND_SYSTEM
#include "cpu/insn_sys.def"
#undef KIND
#define KIND KIND_FAR
#include "cpu/insn_far.def"
#undef KIND
#define KIND KIND_VMX
#include "cpu/insn_vmx.def"
#undef KIND
};
#undef INSN

const struct insn_row *vector_row(const struct vector *v)
{
    static const struct insn_row none = {
        .name = "(undefined)", .encoding = "", .operands = "", .attributes = "", .flags = "", .family_name = ""};
    return v->row == NO_ROW ? &none : &insn_rows[v->row];
}

/* System and far rows that user code may run with an effect on nothing else, or that are refused to it. What depends on
 * tables (LAR, far branches), on time, on the kernel (INT, SYSCALL, UMIP) or on values of the host's own is left out.
 */
static const char *const families[] = {
    [KIND_SYSTEM] = " mov_from_cr mov_to_cr mov_from_dr mov_to_dr clts lmsw lgdt lidt invlpg invd wbinvd clflush hint "
                 "pause rdmsr wrmsr "
                 "swapgs rdfsbase rdgsbase wrfsbase wrgsbase hlt xsetbv in_imm out_imm in_dx out_dx ins outs ",
    [KIND_FAR] = " cli sti int3 into bound undefined push_es push_cs push_ss push_ds push_fs push_gs mov_from_segment "
                 "pushf popf lldt ltr ",
    [KIND_VMX] = "",
};
/* Of the others: what loads or stores images with fields of the host's own, approximations, and what Linux does on
 * behalf of the program. */
static const char *const left_out = " fldenv fnstenv frstor fnsave fwait rcpps rcpss rsqrtps rsqrtss vrcpps vrcpss vrsqrtps "
                                    "vrsqrtss ";

static u8 kind_of(const struct insn_row *row)
{
    for (unsigned i = 0; i < ARRAY_SIZE(restricted); i++)
        if (strcmp(restricted[i].name, row->name) == 0 && strcmp(restricted[i].encoding, row->encoding) == 0 &&
            strcmp(restricted[i].operands, row->operands) == 0)
            return restricted[i].kind;
    if (row->vector == VECTOR_LEGACY && row->map == 0 && (row->opcode & 0xf8) == 0xd8)
        return KIND_X87;
    if (uses_letter(row, "VWHULPQN") || one_of(row->name, " LDMXCSR STMXCSR VLDMXCSR VSTMXCSR "))
        return KIND_VECTOR;
    return KIND_GENERAL;
}

static bool row_allowed(const struct bench *bench, unsigned number, unsigned kind, unsigned bits)
{
    const struct insn_row *row = &insn_rows[number];
    if (row->attr & (bits == BITS_64 ? ROW_I64 : ROW_O64))
        return false;
    if (row->feature && !(bench->feature[row->feature / 32] >> row->feature % 32 & 1))
        return false;
    if (row->vector == VECTOR_EVEX || one_of(row->family_name, left_out))
        return false;
    return kind >= ARRAY_SIZE(families) || !families[kind] || one_of(row->family_name, families[kind]);
}

bool plan_lacks_feature(const struct bench *bench, unsigned row)
{
    const struct insn_row *r = &insn_rows[row];
    unsigned bits = r->attr & ROW_I64 ? BITS_32 : BITS_64;
    struct bench all = {0};
    memset(all.feature, 0xff, sizeof all.feature);
    return row_allowed(&all, row, kind_of(r), bits) && !row_allowed(bench, row, kind_of(r), bits);
}

bool plan_make(struct plan *plan, const struct bench *bench, unsigned bits, const char *name, u64 seed)
{
    *plan = (struct plan){.bench = bench, .seed = seed, .bits = (u8)bits, .random_share = name ? 0 : 16};
    insn_table_init();
    if (insn_row_count > ARRAY_SIZE(plan->rows))
        panic("tests/insn/generate.h: room for %u rows of %u", (unsigned)ARRAY_SIZE(plan->rows), insn_row_count);
    for (unsigned i = 0; i < insn_row_count; i++) {
        plan->kind[i] = kind_of(&insn_rows[i]);
        if (row_allowed(bench, i, plan->kind[i], bits)) {
            plan->allowed[i] = true;
            if (!name || strcasecmp(name, insn_rows[i].name) == 0)
                plan->rows[plan->count++] = (u16)i;
        }
    }
    return plan->count != 0;
}
