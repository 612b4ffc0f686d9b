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
 * time, on the kernel (INT, SYSCALL, UMIP) or on values of the host's own is left out.
 */
static const char *const families[] = {
    [KIND_SYSTEM] = " mov_from_cr mov_to_cr mov_from_dr mov_to_dr clts lmsw lgdt lidt invlpg invd wbinvd clflush hint "
                 "pause rdmsr wrmsr "
                 "swapgs rdfsbase rdgsbase wrfsbase wrgsbase hlt xsetbv in_imm out_imm in_dx out_dx ins outs "
                 "fxsave fxrstor xsave xrstor xsaveopt xsavec ",
    [KIND_FAR] = " cli sti int3 into bound undefined push_es push_cs push_ss push_ds push_fs push_gs mov_from_segment "
                 "pushf popf lldt ltr verr verw lar lsl arpl "
                 "jmp_far_direct jmp_far_indirect call_far_direct call_far_indirect ret_far_imm ret_far iret ",
    [KIND_VMX] = " ",
};
/* These change segments, which the way back from 64-bit code and from a single step does not put right; of CS and SS, which
 * far transfers change, the kernel does. */
static const char *const segment_loads =
    " mov_to_segment pop_es pop_ss pop_ds pop_fs pop_gs les lds lss lfs lgs ";

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
    if (row->vector == VECTOR_EVEX)
        return false;
    if (one_of(row->family_name, " xsave xrstor xsaveopt xsavec ") && !bench->xcr0)
        return false;
    if (kind == KIND_FAR && one_of(row->family_name, segment_loads))
        return bits != BITS_64 && bench->ldt;
    if (is_far_row(row) && (!bench->ldt || bench->stored))     /* files do not keep CS */
        return false;
    return kind >= ARRAY_SIZE(families) || !families[kind] || one_of(row->family_name, families[kind]);
}

bool plan_lacks_feature(const struct bench *bench, unsigned row)
{
    const struct insn_row *r = &insn_rows[row];
    unsigned bits = r->attr & ROW_I64 ? BITS_32 : BITS_64;
    struct bench all = {.ldt = true, .xcr0 = 7};
    memset(all.feature, 0xff, sizeof all.feature);
    return row_allowed(&all, row, kind_of(r), bits) && !row_allowed(bench, row, kind_of(r), bits);
}

/* ---- quotas ------------------------------------------------------------------------------------------------------ */

static const u8 quotas[ROW_CLASSES] = {
    [CLASS_INTEGER] = 22, [CLASS_BMI] = 3, [CLASS_SYSTEM] = 5, [CLASS_X87] = 7,
    [CLASS_MMX] = 4, [CLASS_SSE] = 9, [CLASS_VEX] = 11, [CLASS_CRYPTO] = 3,
};

static enum row_class class_of(const struct insn_row *row, unsigned kind)
{
    switch (row->feature) {
    case FEATURE_BMI1: case FEATURE_BMI2: case FEATURE_ADX: case FEATURE_LZCNT: case FEATURE_POPCNT: case FEATURE_MOVBE:
        return CLASS_BMI;
    case FEATURE_AES: case FEATURE_PCLMULQDQ: case FEATURE_SHA: case FEATURE_GFNI: case FEATURE_VAES:
    case FEATURE_VPCLMULQDQ:
        return CLASS_CRYPTO;
    }
    if (kind == KIND_X87 || is_image_row(row))
        return CLASS_X87;
    if (kind == KIND_VECTOR)
        return row->vector != VECTOR_LEGACY ? CLASS_VEX : uses_letter(row, "PQN") ? CLASS_MMX : CLASS_SSE;
    return kind == KIND_GENERAL ? CLASS_INTEGER : CLASS_SYSTEM;
}

static void make_schedule(struct plan *plan)
{
    u8 given[ROW_CLASSES] = {0};
    unsigned total = 0;
    for (unsigned c = 0; c < ROW_CLASSES; c++)
        if (plan->class[c].count)
            total += plan->class[c].turns = quotas[c];
    /* Each place goes to the class that has had least of its quota so far. */
    for (plan->schedule_length = 0; plan->schedule_length < total; plan->schedule_length++) {
        unsigned best = ROW_CLASSES;
        for (unsigned c = 0; c < ROW_CLASSES; c++)
            if (given[c] < plan->class[c].turns &&
                (best == ROW_CLASSES || given[c] * plan->class[best].turns < given[best] * plan->class[c].turns))
                best = c;
        plan->schedule[plan->schedule_length].class = (u8)best;
        plan->schedule[plan->schedule_length].turn = given[best]++;
    }
}

u16 plan_row(const struct plan *plan, u64 turn)
{
    u64 round = turn / plan->schedule_length;
    unsigned place = (unsigned)(turn % plan->schedule_length), c = plan->schedule[place].class;
    u64 n = round * plan->class[c].turns + plan->schedule[place].turn;
    return plan->class[c].rows[n % plan->class[c].count];
}

/* ---- blocks ------------------------------------------------------------------------------------------------------ */

/* Rows that may follow each other in a block: those whose outcome masks.h does not have to qualify but for flags, which
 * are followed from row to row, and that go on to the next instruction. */
static bool fits_block(const struct insn_row *row, unsigned kind)
{
    static const char *const not_these =
        " BSF BSR BSWAP SHLD SHRD BT BTS BTR BTC DIV IDIV MASKMOVQ MASKMOVDQU VMASKMOVDQU PREFETCHW LDMXCSR VLDMXCSR "
        "RCPPS RCPSS RSQRTPS RSQRTSS VRCPPS VRCPSS VRSQRTPS "
        "VRSQRTSS PUSHA POPA ENTER LEAVE BOUND XLAT CMPXCHG8B CMPXCHG16B FCOMI FCOMIP FUCOMI FUCOMIP F2XM1 FYL2X FYL2XP1 FPTAN "
        "FPATAN FSIN FCOS FSINCOS LOOP LOOPE LOOPNE JRCXZ PUSH POP VPINSRD VPEXTRD ";
    if (row->feature == FEATURE_SHA)   /* misaligned operands: see masks.h */
        return false;
    return kind != KIND_SYSTEM && kind != KIND_FAR && kind != KIND_VMX && !is_branch_row(row) && !is_string_row(row) &&
           !row->mem_only && !(row->attr & ROW_END) && !one_of(row->name, not_these);
}

bool plan_make(struct plan *plan, const struct bench *bench, unsigned bits, const char *name, u64 seed)
{
    *plan = (struct plan){.bench = bench, .seed = seed, .bits = (u8)bits, .random_share = name ? 0 : 16,
                           .block_share = name ? 0 : 16};
    insn_table_init();
    if (insn_row_count > ARRAY_SIZE(plan->kind))
        panic("tests/insn/generate.h: room for %u rows of %u", (unsigned)ARRAY_SIZE(plan->kind), insn_row_count);
    for (unsigned i = 0; i < insn_row_count; i++) {
        plan->kind[i] = kind_of(&insn_rows[i]);
        if (row_allowed(bench, i, plan->kind[i], bits)) {
            plan->allowed[i] =
                plan->kind[i] != KIND_FAR || !(one_of(insn_rows[i].family_name, segment_loads) || is_far_row(&insn_rows[i]));
            if (name && strcasecmp(name, insn_rows[i].name) != 0)
                continue;
            unsigned class = class_of(&insn_rows[i], plan->kind[i]);
            plan->class[class].rows[plan->class[class].count++] = (u16)i;
            plan->count++;
            if (fits_block(&insn_rows[i], plan->kind[i]))
                plan->block_rows[plan->block_count++] = (u16)i;
            if (is_image_row(&insn_rows[i]) && plan->image_count < ARRAY_SIZE(plan->image_rows))
                plan->image_rows[plan->image_count++] = (u16)i;
        }
    }
    make_schedule(plan);
    return plan->count != 0;
}
