/* The x86-64 back end: SSE instructions of the guest are the same instructions of the host, on registers that hold the guest's for as long as a
 * block runs (guest n in host n; 14 and 15 go through memory).
 *
 * Kept true: they run only while the guest's MXCSR masks every exception; the host's MXCSR then has the guest's rounding, DAZ and FZ, and
 * gathers the guest's flags until the code is left. Otherwise, and where CR0 or CR4 forbid them, their handlers run.
 */
#include "cpu/jit/x64_asm.h"

#include "cpu/features.h"

void x64_vectors_store(struct emit *e, u32 set)
{
    for (unsigned n = 0; n < VECTORS; n++)
        if (set >> n & 1)
            x64_op(e, 0x111, OSZ_32, n, rm_cpu(OFF_V(n)));
}

void x64_vectors_load(struct emit *e, u32 set)
{
    for (unsigned n = 0; n < VECTORS; n++)
        if (set >> n & 1)
            x64_op(e, 0x110, OSZ_32, n, rm_cpu(OFF_V(n)));
}

/* The host register of guest vector n, loaded if its value matters; `temporary` for those that have none. */
static unsigned vector(struct emit *e, unsigned n, bool reads, unsigned temporary)
{
    if (n >= VECTORS) {
        if (reads)
            x64_op(e, 0x110, OSZ_32, temporary, rm_cpu(OFF_V(n)));
        return temporary;
    }
    if (reads && !(e->cached >> n & 1))
        x64_vectors_load(e, 1u << n);
    e->cached |= 1u << n;
    return n;
}

static void written(struct emit *e, unsigned n, unsigned host)
{
    if (n >= VECTORS)
        x64_op(e, 0x111, OSZ_32, host, rm_cpu(OFF_V(n)));
    else
        e->dirty |= 1u << n;
}

bool emit_vector_exists(unsigned feature)
{
    switch (feature) {
    case FEATURE_SSE: case FEATURE_SSE2: return true;
    case FEATURE_SSE3: return __builtin_cpu_supports("sse3");
    case FEATURE_SSSE3: return __builtin_cpu_supports("ssse3");
    case FEATURE_SSE4_1: return __builtin_cpu_supports("sse4.1");
    case FEATURE_SSE4_2: return __builtin_cpu_supports("sse4.2");
    default: return false;
    }
}

static void keep_relation(struct emit *e)
{
    if (e->cur.keep_flags) {
        x64_op(e, 0x190 | CC_E, OSZ_8, 0, rm_cpu(OFF(jit.cc_a)));
        x64_op(e, 0x190 | CC_P, OSZ_8, 0, rm_cpu(OFF(jit.cc_a) + 1));
        x64_op(e, 0x190 | CC_B, OSZ_8, 0, rm_cpu(OFF(jit.cc_a) + 2));
        x64_store_imm(e, OSZ_32, rm_cpu(OFF(jit.cc_op)), CC_RELATION);
        e->cc_op = CC_RELATION;
    }
    e->known = -1;
    x64_flags_left(e, FL_STATUS);
}

void emit_vector(struct emit *e, const struct emit_vector *v)
{
    const struct insn *in = e->cur.in;
    bool memory = in->flags & INSN_MEM;
    struct rm rm = {0};
    x64_vectors_gate(e);
    if (memory) {
        rm = x64_address(e);
        if (v->aligned) {
            x64_lea(e, OSZ_64, T0, rm);
            rm = rm_at(T0, 0);
            x64_op(e, 0xf6, OSZ_8, 0, rm_reg(T0));
            put8(e, 15);
            x64_slow_if(e, CC_NE, false);
        }
        rm = x64_translate(e, rm, v->bytes, v->writes_rm, false);
    }
    unsigned general = v->reg == PART_GENERAL ? in->reg : in->rm, reg, host_rm = 0, osz = OSZ_32;
    if (!memory && v->rm == PART_VECTOR) {     /* first: the destination may be the same register and not be read */
        host_rm = vector(e, in->rm, v->reads_rm, 15);
        rm = rm_reg(host_rm);
    } else if (!memory) {
        rm = guest(general);
    }
    if (v->reg == PART_VECTOR)
        reg = vector(e, in->reg, v->reads_reg, 14);
    else if (v->reg == PART_GENERAL)
        reg = pinned(general) ? x64_pin[general] : T1;
    else
        reg = in->modrm >> 3 & 7;
    if (v->reg == PART_GENERAL || v->rm == PART_GENERAL)
        osz = in->flags & INSN_REX_W ? OSZ_64 : OSZ_32;
    if (!memory && v->rm == PART_GENERAL && v->writes_rm && !pinned(general))
        rm = rm_reg(T1);
    x64_op(e, v->opcode, osz, reg, rm);
    if (v->immediate)                  /* CMPPS and its like: the SDM reserves the upper bits, the handlers ignore them */
        put8(e, (u8)in->imm & ((v->opcode & 0xffff) == 0x1c2 ? 7 : 0xff));
    if (v->reg == PART_GENERAL && v->writes_reg && !pinned(general))
        x64_store(e, guest(general), T1);
    if (!memory && v->rm == PART_GENERAL && v->writes_rm && !pinned(general))
        x64_store(e, guest(general), T1);
    if (v->reg == PART_VECTOR && v->writes_reg)
        written(e, in->reg, reg);
    if (!memory && v->rm == PART_VECTOR && v->writes_rm)
        written(e, in->rm, host_rm);
    if (v->relation)
        keep_relation(e);
}
