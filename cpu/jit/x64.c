/* The x86-64 back end: the common routines, the way to the guest's memory, flags and the ends of blocks. Data operations are in
 * x64_int.c, vectors in x64_vector.c, branches in x64_branch.c.
 *
 * A block is entered with the guest's registers in their host registers (x64_pin), the flags in memory (cpu->jit.cc_*), r13 the number of
 * instructions left. Its first act is to take its own instructions off r13; who leaves before the end gives the rest back.
 *
 * On the host's stack stand the frames of the guest's calls, 16 bytes each: the host's return address and above it the guest's, which must be
 * the same as the guest's own stack says for a return to use them. Who leaves code drops them all, so that they mean one page table and one
 * set of blocks; a dropped block's code stays readable for them, and what they lead to is found by links.
 *
 * Kept true: between instructions the guest's flags are in the host's flags, in memory, or both: `host`, `known`, keep_flags.
 */
#include "cpu/jit/x64_asm.h"

#include "cpu/features.h"
#include "cpu/interp.h"
#include "cpu/model.h"
#include "mmu/tlb.h"

#include <stdlib.h>

const u8 x64_pin[REG_COUNT] = {RAX, RCX, RDX, RBX, R15, R14, RSI, RDI, R8, R9, NO_REG, NO_REG, NO_REG, NO_REG, NO_REG, NO_REG,
                               NO_REG, NO_REG};

/* ---- common routines ---------------------------------------------------------------------------------------------- */

static void spill(struct emit *e)
{
    for (unsigned n = 0; n < 16; n++)
        if (pinned(n))
            x64_store(e, rm_cpu(OFF_R(n)), x64_pin[n]);
}

static void reload(struct emit *e)
{
    for (unsigned n = 0; n < 16; n++)
        if (pinned(n))
            x64_load(e, x64_pin[n], rm_cpu(OFF_R(n)));
}

static void call_c(struct emit *e, u64 function)
{
    x64_lea(e, OSZ_64, RDI, rm_cpu(-BIAS));
    x64_load_imm(e, RAX, function);
    x64_op(e, 0xff, OSZ_32, 2, rm_reg(RAX));
}

/* The same between two instructions of the guest, with its registers in memory. T0 stays. */
static void call_between(struct emit *e, u64 function)
{
    spill(e);
    x64_push(e, T0);
    call_c(e, function);
    x64_pop(e, T0);
    reload(e);
}

/* T1 = the TLB's entry for linear address T0. */
static void find_entry(struct emit *e)
{
    x64_op(e, 0x8b, OSZ_32, T1, rm_reg(T0));
    x64_op(e, 0xc1, OSZ_32, 5, rm_reg(T1));
    put8(e, 7);
    x64_alu_imm(e, 4, OSZ_32, rm_reg(T1), (TLB_ENTRIES - 1) * (i64)sizeof(struct tlb_entry));
    x64_op(e, 0x03, OSZ_64, T1, rm_cpu(OFF(tlb_now)));
}

static const u8 saved[] = {RBX, RBP, R12, R13, R14, R15};

/* Frames of calls that are not returned from: more than any host predicts. When they are used up, all are dropped. */
#define FRAMES 1024
#define FRAME_BYTES 16

/* r11d: the site. The second entry: the registers are in memory. */
static u32 make_exit(struct emit *e)
{
    e->stub_exit = (u32)emit_at(e);
    spill(e);
    x64_store(e, rm_cpu(OFF(jit.budget)), LEFT);
    u32 second = (u32)emit_at(e);
    x64_alu_imm(e, 7, OSZ_32, rm_cpu(OFF(jit.fp)), 0);
    u32 skip = x64_jump_if(e, CC_E);
    x64_op(e, 0x1ae, OSZ_32, 3, rm_cpu(OFF(jit.mxcsr)));           /* STMXCSR: the flags it has gathered are the guest's */
    x64_op(e, 0x8b, OSZ_32, RAX, rm_cpu(OFF(jit.mxcsr)));
    x64_alu_imm(e, 4, OSZ_32, rm_reg(RAX), 0x3f);
    x64_op(e, 0x09, OSZ_32, RAX, rm_cpu(OFF(fpu.mxcsr)));
    x64_op(e, 0x1ae, OSZ_32, 2, rm_cpu(OFF(jit.host_mxcsr)));
    x64_store_imm(e, OSZ_32, rm_cpu(OFF(jit.fp)), 0);
    if (x64_has_avx())
        x64_vzeroupper(e);
    x64_here(e, skip);
    x64_op(e, 0x8b, OSZ_32, RAX, rm_reg(R11));
    x64_load(e, RSP, rm_cpu(OFF(jit.frames)));
    x64_alu_imm(e, 0, OSZ_64, rm_reg(RSP), FRAME_BYTES + 8);
    for (unsigned i = sizeof(saved); i-- > 0;)
        x64_pop(e, saved[i]);
    x64_return(e);
    return second;
}

/* The lowest frame returns to linear address 0, like any other, but leaves for it. */
static void make_enter(struct emit *e)
{
    u32 lowest = (u32)emit_at(e);
    x64_store(e, rm_cpu(OFF(jit.page)), T0);
    x64_leave_at(e, SITE_PAGE);
    e->stub_enter = (u32)emit_at(e);
    for (unsigned i = 0; i < sizeof(saved); i++)
        x64_push(e, saved[i]);
    x64_alu_imm(e, 5, OSZ_64, rm_reg(RSP), 8);
    x64_move(e, T0, RSI);
    x64_lea(e, OSZ_64, CPU, rm_at(RDI, BIAS));
    x64_load_imm(e, T1, 0);
    x64_push(e, T1);
    x64_load_imm(e, T1, (u64)(uintptr_t)(e->jit->memory.run + lowest));
    x64_push(e, T1);
    x64_store(e, rm_cpu(OFF(jit.frames)), RSP);
    x64_lea(e, OSZ_64, T1, rm_at(RSP, -FRAMES * FRAME_BYTES));
    x64_store(e, rm_cpu(OFF(jit.frames_end)), T1);
    reload(e);
    x64_load(e, LEFT, rm_cpu(OFF(jit.budget)));
    x64_op(e, 0xff, OSZ_32, 4, rm_reg(T0));
}

static void make_handler(struct emit *e, u32 leave)
{
    e->stub_handler = (u32)emit_at(e);
    spill(e);
    x64_store(e, rm_cpu(OFF(jit.budget)), LEFT);
    x64_op(e, 0xc1, OSZ_32, 4, rm_reg(R11));
    put8(e, 4);                        /* sizeof(struct jit_site) is 16 */
    x64_load_imm(e, RSI, (u64)(uintptr_t)e->jit->sites);
    x64_op(e, 0x01, OSZ_64, R11, rm_reg(RSI));
    x64_alu_imm(e, 5, OSZ_64, rm_reg(RSP), 8);
    if (x64_has_avx())
        x64_vzeroupper(e);
    call_c(e, (u64)(uintptr_t)jit_call_handler);
    x64_alu_imm(e, 0, OSZ_64, rm_reg(RSP), 8);
    x64_op(e, 0x84, OSZ_8, RAX, rm_reg(RAX));
    u32 leaves = x64_jump_if(e, CC_E);
    reload(e);
    x64_return(e);
    x64_here(e, leaves);
    x64_op(e, 0x31, OSZ_32, R11, rm_reg(R11));
    x64_jump_back(e, leave);
}

/* The host's flags become the guest's. T0 stays. */
static void make_flags(struct emit *e)
{
    e->stub_flags = (u32)emit_at(e);
    call_between(e, (u64)(uintptr_t)jit_flags_image);
    x64_op(e, 0xff, OSZ_32, 6, rm_cpu(OFF(jit.status)));
    put8(e, 0x9d);
    x64_return(e);
}

/* cc_c = CF; what memory says of all flags stays true. The most frequent kinds are done here. */
static void make_carry(struct emit *e)
{
    static const u8 sizes[] = {OSZ_32, OSZ_64, OSZ_8};
    u32 differences[ARRAY_SIZE(sizes)], results[ARRAY_SIZE(sizes)];
    e->stub_carry = (u32)emit_at(e);
    x64_op(e, 0x8b, OSZ_32, T1, rm_cpu(OFF(jit.cc_op)));
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        x64_alu_imm(e, 7, OSZ_32, rm_reg(T1), CC_SUB | sizes[i] << CC_SIZE_SHIFT);
        differences[i] = x64_jump_if(e, CC_E);
        x64_alu_imm(e, 7, OSZ_32, rm_reg(T1), CC_LOGIC | sizes[i] << CC_SIZE_SHIFT);
        results[i] = x64_jump_if(e, CC_E);
    }
    x64_alu_imm(e, 7, OSZ_32, rm_reg(T1), CC_CORE);
    u32 core = x64_jump_if(e, CC_E);
    call_between(e, (u64)(uintptr_t)jit_flags_carry);
    x64_return(e);
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        bool wide = sizes[i] != OSZ_8;
        x64_here(e, differences[i]);
        x64_op(e, 0x8a | wide, sizes[i], T1, rm_cpu(OFF(jit.cc_a)));
        x64_op(e, 0x3a | wide, sizes[i], T1, rm_cpu(OFF(jit.cc_b)));
        x64_op(e, 0x192, OSZ_8, 0, rm_cpu(OFF(jit.cc_c)));         /* SETB */
        x64_return(e);
    }
    x64_here(e, core);
    x64_load(e, T1, rm_cpu(OFF(core.fl_carry)));
    x64_op(e, 0x01, OSZ_64, T1, rm_reg(T1));                       /* CF is its bit 63 */
    x64_op(e, 0x192, OSZ_8, 0, rm_cpu(OFF(jit.cc_c)));
    x64_return(e);
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
        x64_here(e, results[i]);
    x64_store_imm(e, OSZ_8, rm_cpu(OFF(jit.cc_c)), 0);
    x64_return(e);
}

/* Sets jit.fp and the host's MXCSR if vector instructions may run. */
static void make_fp(struct emit *e)
{
    e->stub_fp = (u32)emit_at(e);
    x64_alu_imm(e, 7, OSZ_32, rm_cpu(OFF(jit.fp)), 0);
    u32 known = x64_jump_if(e, CC_NE); /* it has been asked already, and vectors may be in registers */
    call_between(e, (u64)(uintptr_t)jit_fp_begin);
    x64_alu_imm(e, 7, OSZ_32, rm_cpu(OFF(jit.fp)), 0);
    u32 refused = x64_jump_if(e, CC_E);
    x64_op(e, 0x1ae, OSZ_32, 3, rm_cpu(OFF(jit.host_mxcsr)));
    x64_op(e, 0x1ae, OSZ_32, 2, rm_cpu(OFF(jit.mxcsr)));
    x64_here(e, refused);
    x64_here(e, known);
    x64_return(e);
}

/* T1 = the jump cache's entry of linear address T0, which stays; ZF: there is none, and the code has to leave. T2 stays. */
static void make_seek(struct emit *e)
{
    static const u8 lost[] = {RAX, RCX, RDX, RSI, RDI, R8, R9, T0};    /* what a function of C may change */
    e->stub_seek = (u32)emit_at(e);
    for (unsigned i = 0; i < sizeof(lost); i++)
        x64_push(e, lost[i]);
    x64_alu_imm(e, 5, OSZ_64, rm_reg(RSP), 8);
    x64_move(e, RSI, T0);
    call_c(e, (u64)(uintptr_t)jit_seek);
    x64_move(e, T1, RAX);
    x64_alu_imm(e, 0, OSZ_64, rm_reg(RSP), 8);
    x64_op(e, 0x85, OSZ_64, T1, rm_reg(T1));
    for (unsigned i = sizeof(lost); i-- > 0;)
        x64_pop(e, lost[i]);
    x64_return(e);
}

/* T1 is a branch's own cell, which does not lead to linear address T0: it gets what the jump cache has, or jit_seek() finds. T1 = an entry that leads
 * there; ZF: there is none, and the code has to leave. T0 stays, T2 changes. */
static void make_cell(struct emit *e)
{
    u32 miss[2];
    e->stub_cell = (u32)emit_at(e);
    x64_push(e, T1);
    x64_hash(e);
    x64_check_jump(e, miss);
    u32 found = (u32)emit_at(e);
    x64_pop(e, T2);
    x64_store(e, rm_at(T2, offsetof(struct jit_jump, la)), T0);
    static const u8 others[] = {offsetof(struct jit_jump, key), offsetof(struct jit_jump, code)};
    for (unsigned i = 0; i < ARRAY_SIZE(others); i++) {
        x64_op(e, 0xff, OSZ_32, 6, rm_at(T1, others[i]));
        x64_op(e, 0x8f, OSZ_32, 0, rm_at(T2, others[i]));
    }
    x64_op(e, 0x85, OSZ_64, T1, rm_reg(T1));
    x64_return(e);
    x64_seek(e, miss, found);
    x64_pop(e, T2);
    x64_return(e);
}

static i32 off_recent(unsigned write, unsigned copy)
{
    return OFF(tlb_recent) + (i32)(write * sizeof(struct tlb_recent) + offsetof(struct tlb_recent, copy) + copy * 16);
}
static i32 off_limit(unsigned write, unsigned n) { return OFF(tlb_recent) + (i32)(write * sizeof(struct tlb_recent) + n * 8); }
_Static_assert(sizeof(((struct tlb_recent *)0)->copy) == 16 * TLB_RECENT, "page and addend");

/* From the TLB's entry into the copy at CPU + T1: T0 the address, T2 the page of the access's last byte. The first copy after all were dropped
 * goes into all of its kind. ZF: there was an entry. T0, T1, T2 change. */
static void make_recent(struct emit *e, bool write)
{
    e->stub_recent[write] = (u32)emit_at(e);
    x64_push(e, T1);
    find_entry(e);
    x64_move(e, T0, T2);
    x64_op(e, 0x0b, OSZ_64, T2, rm_cpu(OFF(tlb_tag)));
    x64_op(e, 0x3b, OSZ_64, T2, rm_at(T1, write ? offsetof(struct tlb_entry, write) : offsetof(struct tlb_entry, read)));
    u32 none = x64_jump_if(e, CC_NE);
    x64_load(e, T1, rm_at(T1, offsetof(struct tlb_entry, addend)));
    x64_pop(e, T2);
    struct rm copy = {.memory = true, .base = CPU, .index = T2};
    x64_store(e, copy, T0);
    copy.disp = 8;
    x64_store(e, copy, T1);
    x64_alu_imm(e, 7, OSZ_64, rm_cpu(off_limit(write, 0)), 0);
    u32 others = x64_jump_if(e, CC_NE);
    for (unsigned i = 0; i < TLB_RECENT; i++) {
        x64_store(e, rm_cpu(off_recent(write, i)), T0);
        x64_store(e, rm_cpu(off_recent(write, i) + 8), T1);
    }
    for (unsigned n = 0; n < ARRAY_SIZE(((struct tlb_recent *)0)->limit); n++)
        x64_store_imm(e, OSZ_64, rm_cpu(off_limit(write, n)), 4097 - (1 << n));
    x64_here(e, others);
    x64_op(e, 0x31, OSZ_32, T0, rm_reg(T0));
    x64_return(e);
    x64_here(e, none);
    x64_pop(e, T1);
    x64_return(e);
}

/* A copy did not fit: T1 the count, T0 how many instructions are few. ZF: they were too few too often. T2 changes. A miss costs
 * what a fitting copy saves in some ten accesses. */
#define TOO_OFTEN 64
#define SOON_TURNS 8
static void make_miss(struct emit *e)
{
    struct rm last = rm_at(T1, offsetof(struct jit_miss, last)), often = rm_at(T1, offsetof(struct jit_miss, often));
    e->stub_miss = (u32)emit_at(e);
    x64_op(e, 0x8b, OSZ_32, T2, last);
    x64_op(e, 0x89, OSZ_32, LEFT, last);
    x64_op(e, 0x2b, OSZ_32, T2, rm_reg(LEFT));
    x64_op(e, 0x3b, OSZ_32, T2, rm_reg(T0));
    u32 seldom = x64_jump_if(e, CC_AE);
    x64_alu_imm(e, 0, OSZ_32, often, 1);
    x64_alu_imm(e, 7, OSZ_32, often, TOO_OFTEN);
    x64_return(e);
    x64_here(e, seldom);
    x64_alu_imm(e, 5, OSZ_32, often, 2);
    u32 positive = x64_jump_if(e, CC_NS);
    x64_store_imm(e, OSZ_32, often, 0);
    x64_here(e, positive);
    x64_op(e, 0x85, OSZ_64, RSP, rm_reg(RSP));
    x64_return(e);
}

_Static_assert(sizeof(struct jit_site) == 16, "make_handler() multiplies by it");
_Static_assert(sizeof(struct jit_jump) == 32 && sizeof(struct tlb_entry) == 32, "addresses of entries are made by shifts");

size_t emit_common(struct jit *jit)
{
    struct emit *e = calloc(1, sizeof(*e));
    if (!e)
        return 0;
    jit->emit = e;
    e->jit = jit;
    jit_memory_open(&jit->memory);
    e->p = jit->memory.write + 16;     /* offset 0 is nobody's */
    u32 leave = make_exit(e);
    make_enter(e);
    make_handler(e, leave);
    make_flags(e);
    make_carry(e);
    make_fp(e);
    make_seek(e);
    make_cell(e);
    make_recent(e, false);
    make_recent(e, true);
    make_miss(e);
    size_t bytes = (emit_at(e) + 63) & ~(size_t)63;
    jit_memory_close(&jit->memory, 0, bytes);
    jit->enter = jit->memory.run + e->stub_enter;
    return bytes;
}

u32 emit_enter(struct jit *jit, struct cpu *cpu, const void *code)
{
    union { const void *data; u32 (*function)(struct cpu *cpu, const void *code); } enter = {jit->enter};
    return enter.function(cpu, code);
}

/* ---- sites and slow paths -------------------------------------------------------------------------------------------- */

u32 x64_site(struct emit *e, const struct insn *in, unsigned offset, unsigned refund, u32 patch, bool link)
{
    struct jit *jit = e->jit;
    if (e->full)
        return 0;
    u32 n = jit->site_count++;
    jit->sites[n] = (struct jit_site){.in = in, .patch = patch, .offset = (u16)offset, .refund = (u8)refund, .link = link};
    return n;
}

u32 x64_site_before(struct emit *e)
{
    return x64_site(e, e->cur.in, e->cur.offset, e->count - e->cur.index + e->prepaid, 0, false);
}

void x64_leave_at(struct emit *e, u32 site)
{
    x64_load_imm(e, R11, site);
    x64_jump_back(e, e->stub_exit);
}

void x64_slow_run(struct emit *e, unsigned n)
{
    struct slow *s = &e->slow[e->slow_count - 1];
    unsigned offset = e->cur.offset, left = e->count - e->cur.index + e->prepaid;
    for (unsigned k = 0; k < n; k++) {
        u32 site = x64_site(e, e->cur.in + k, offset, left - k, 0, false);
        if (k == 0)
            s->site = site;
        offset += e->cur.in[k].length;
    }
    s->run = (u8)(n - 1);
}

void x64_slow_if(struct emit *e, unsigned cc, bool leaves)
{
    struct slow *s = &e->slow[e->slow_count++];
    *s = (struct slow){.at = x64_jump_if(e, cc), .site = x64_site_before(e), .leaves = leaves, .dirty = e->dirty, .late = e->late};
}

static void test_fp(struct emit *e, unsigned kind)
{
    x64_op(e, 0xf6, OSZ_8, 0, rm_cpu(OFF(jit.fp)));
    put8(e, kind);
}

void x64_vectors_gate(struct emit *e, enum jit_fp kinds)
{
    for (unsigned kind = JIT_FP_SSE; kind <= JIT_FP_AVX; kind <<= 1) {
        if (!(kinds & ~e->fp_ready & kind))
            continue;
        test_fp(e, kind);
        struct slow *s = &e->slow[e->slow_count++];
        *s = (struct slow){.at = x64_jump_if(e, CC_E), .site = x64_site_before(e), .gate = (u8)kind, .dirty = e->dirty, .late = e->late};
        s->resume = (u32)emit_at(e);
        e->host = 0;
        e->fp_ready |= (u8)kind;
    }
}

/* reg = the address; flags stay. */
static void lea_to(struct emit *e, unsigned osz, unsigned reg, struct rm rm)
{
    if (rm.index == NO_REG && rm.base == NO_REG)
        x64_load_imm(e, reg, osz == OSZ_32 ? (u32)rm.disp : (u64)(i64)rm.disp);
    else if (rm.index == NO_REG && rm.disp == 0 && osz == OSZ_64)
        x64_move(e, reg, rm.base);
    else if (rm.index == NO_REG && rm.disp == 0)
        x64_op(e, 0x8b, osz, reg, rm_reg(rm.base));
    else
        x64_lea(e, osz, reg, rm);
}

/* Counts a miss that is to be seldom, and leaves if it is not, so that the block is translated anew. */
static void make_count(struct emit *e, const struct slow *s)
{
    x64_load_imm(e, T1, (u64)(uintptr_t)&e->jit->misses[s->miss]);
    x64_load_imm(e, T0, SOON_TURNS * (u64)e->count);
    x64_call(e, e->stub_miss);
}

static void make_leave_for_good(struct emit *e, const struct slow *s)
{
    x64_late_store(e, &s->late);
    x64_vectors_store(e, s->dirty);
    x64_store_imm(e, OSZ_32, rm_cpu(OFF(jit.wanders)), (i32)s->miss);
    x64_leave_at(e, s->site);
}

/* ZF: the copy fits now. The access is done again, unless this happens so often that the loop had better do without copies. */
static void make_give_way(struct emit *e, const struct slow *s)
{
    u32 none = x64_jump_if(e, CC_NE);
    make_count(e, s);
    x64_patch(e, x64_jump_if(e, CC_NE), s->retry);
    make_leave_for_good(e, s);
    x64_here(e, none);
}

/* T0 is where the branch leads, T1 its cell, which leads elsewhere. */
static void make_seek_path(struct emit *e, const struct slow *s)
{
    if (s->miss) {
        x64_store(e, rm_cpu(OFF(jit.save[1])), T0);
        x64_push(e, T1);
        make_count(e, s);
        x64_pop(e, T1);
        x64_load(e, T0, rm_cpu(OFF(jit.save[1])));
        u32 seldom = x64_jump_if(e, CC_NE);
        make_leave_for_good(e, s);
        x64_here(e, seldom);
    }
    x64_call(e, s->cell ? e->stub_cell : e->stub_seek);
    x64_patch(e, x64_jump_if(e, CC_NE), s->resume);
    x64_leave_at(e, s->site);
}

static void make_slow(struct emit *e, const struct slow *s)
{
    x64_here(e, s->at);
    if (s->seek) {
        x64_here(e, s->also);
        make_seek_path(e, s);
        return;
    }
    if (s->unmatched) {
        x64_make_unmatched(e, s);
        return;
    }
    if (s->deep) {
        x64_load(e, RSP, rm_cpu(OFF(jit.frames)));
        x64_jump_back(e, s->resume);
        return;
    }
    if (s->recent) {
        lea_to(e, OSZ_64, T0, s->la);
        lea_to(e, OSZ_64, T2, rm_at(T0, (i32)s->bytes - 1));
        x64_alu_imm(e, 4, OSZ_64, rm_reg(T2), -4096);
        x64_load_imm(e, T1, (u64)(i64)off_recent(s->write, s->recent - 1u));
        x64_call(e, e->stub_recent[s->write]);
        if (s->miss)
            make_give_way(e, s);
        else
            x64_patch(e, x64_jump_if(e, CC_E), s->retry);
    }
    x64_late_store(e, &s->late);
    x64_vectors_store(e, s->dirty);
    if (s->leaves) {
        x64_leave_at(e, s->site);
        return;
    }
    if (s->gate) {
        x64_call(e, e->stub_fp);
        test_fp(e, s->gate);
        x64_patch(e, x64_jump_if(e, CC_NE), s->resume);
        x64_leave_at(e, s->site);
        return;
    }
    for (unsigned k = 0; k <= s->run; k++) {
        x64_load_imm(e, R11, s->site + k);
        x64_call(e, e->stub_handler);
    }
    if (s->flags)
        x64_call(e, e->stub_flags);
    x64_vectors_load(e, s->cached);
    x64_jump_back(e, s->resume);
}

/* ---- the guest's memory ---------------------------------------------------------------------------------------------- */

/* The address expression of the memory operand without its segment; T0 and T1 may hold registers that are not pinned. */
static struct rm expression(struct emit *e)
{
    const struct insn *in = e->cur.in;
    struct rm rm = {.memory = true, .base = NO_REG, .index = NO_REG, .disp = (i32)in->disp};
    if (in->base == REG_RIP) {
        x64_load(e, T0, rm_cpu(OFF(jit.page)));
        rm.base = T0;
        rm.disp = (i32)(in->disp + e->cur.offset);
    } else if (in->base != REG_ZERO) {
        rm.base = x64_pin[in->base];
        if (!pinned(in->base)) {
            x64_load(e, T0, guest(in->base));
            rm.base = T0;
        }
    }
    if (in->index != REG_ZERO) {
        rm.index = x64_pin[in->index];
        rm.scale = in->scale;
        if (!pinned(in->index)) {
            x64_load(e, T1, guest(in->index));
            rm.index = T1;
        }
    }
    return rm;
}

void x64_expression_to(struct emit *e, unsigned osz, unsigned reg) { lea_to(e, osz, reg, expression(e)); }

struct rm x64_address(struct emit *e)
{
    const struct insn *in = e->cur.in;
    bool based = in->seg == SEG_FS || in->seg == SEG_GS;
    e->address_at = (u32)emit_at(e);
    e->on_stack = in->base == REG_RSP && in->index == REG_ZERO && !based;
    if (e->word == OSZ_64 && !based)
        return expression(e);
    x64_expression_to(e, e->word, T0);
    if (based)
        x64_op(e, 0x03, e->word, T0, rm_cpu(OFF(seg.s) + (i32)(in->seg * sizeof(struct segment) + offsetof(struct segment, base))));
    return rm_at(T0, 0);
}

struct rm x64_stack(struct emit *e, unsigned base, i32 delta)
{
    struct rm la = rm_at(x64_pin[base], delta);
    e->address_at = (u32)emit_at(e);
    e->on_stack = true;
    if (e->word == OSZ_64)
        return la;
    lea_to(e, e->word, T0, la);
    return rm_at(T0, 0);
}

/* The copy of a TLB entry that an access looks at: what is addressed by RSP has its own everywhere, loops have them by pattern. NO_REG: none. */
static unsigned recent_of(const struct emit *e)
{
    return e->on_stack ? 0 : e->cur.pattern ? e->cur.pattern : NO_REG;
}
_Static_assert(EMIT_PATTERNS + 1 == TLB_RECENT, "one for each");

/* By the TLB's entry: T0 = host address. */
static void translate_by_entry(struct emit *e, struct rm la, unsigned bytes, bool write, bool leaves)
{
    lea_to(e, OSZ_64, T0, la);
    find_entry(e);
    lea_to(e, OSZ_64, T2, rm_at(T0, (i32)bytes - 1));
    x64_alu_imm(e, 4, OSZ_64, rm_reg(T2), -4096);
    x64_op(e, 0x0b, OSZ_64, T2, rm_cpu(OFF(tlb_tag)));
    x64_op(e, 0x3b, OSZ_64, T2, rm_at(T1, write ? offsetof(struct tlb_entry, write) : offsetof(struct tlb_entry, read)));
    x64_slow_if(e, CC_NE, leaves);
    x64_op(e, 0x03, OSZ_64, T0, rm_at(T1, offsetof(struct tlb_entry, addend)));
}

u32 x64_count_misses(struct emit *e, unsigned pattern)
{
    struct jit *jit = e->jit;
    if (jit->miss_count == JIT_MISSES)
        return 0;
    jit->misses[jit->miss_count] = (struct jit_miss){.block = e->block, .pattern = pattern};
    return jit->miss_count++;
}

struct rm x64_translate(struct emit *e, struct rm la, unsigned bytes, bool write, bool leaves)
{
    unsigned recent = recent_of(e);
    e->host = 0;
    if (recent == NO_REG) {
        translate_by_entry(e, la, bytes, write, leaves);
        return rm_at(T0, 0);
    }
    bool temporaries = la.base == T0 || la.index == T1;
    u32 retry = temporaries ? e->address_at : (u32)emit_at(e);
    lea_to(e, OSZ_64, T2, la);
    x64_op(e, 0x2b, OSZ_64, T2, rm_cpu(off_recent(write, recent)));
    x64_op(e, 0x3b, OSZ_64, T2, rm_cpu(off_limit(write, (unsigned)__builtin_ctz(bytes))));
    x64_slow_if(e, CC_AE, leaves);
    struct slow *s = &e->slow[e->slow_count - 1];
    s->recent = (u8)(recent + 1);
    s->retry = retry;
    s->write = write;
    s->bytes = (u8)bytes;
    s->la = la;
    s->miss = recent ? x64_count_misses(e, recent) : 0;
    /* T0 takes the addend, and so much of the address that neither T1 nor a third register is needed. */
    struct rm addend = rm_cpu(off_recent(write, recent) + 8);
    if (la.base == T0) {
        x64_op(e, 0x03, OSZ_64, T0, addend);
    } else {
        x64_load(e, T0, addend);
        if (la.base != NO_REG && la.index != NO_REG)
            x64_op(e, 0x01, OSZ_64, la.base, rm_reg(T0));
        else if (la.base != NO_REG)
            la.index = la.base, la.scale = 0;
        la.base = T0;
    }
    if (la.index == T1) {
        x64_lea(e, OSZ_64, T0, la);
        return rm_at(T0, 0);
    }
    return la;
}

/* ---- flags ----------------------------------------------------------------------------------------------------------- */

void x64_flags_left(struct emit *e, u32 host)
{
    e->host = host;
    e->wrote_flags = true;
    e->carry_clear = false;
}

/* ---- instructions ---------------------------------------------------------------------------------------------------- */

void emit_begin(struct emit *e, const struct emit_insn *insn)
{
    e->cur = *insn;
    e->slow_first = e->slow_count;
    e->wrote_flags = false;
    if (e->p + 1024 > e->limit || e->slow_count + 8 > SLOW_MAX || e->jit->site_count + 32 > JIT_SITES)
        e->full = true;
    if (e->full)
        e->p = e->jit->memory.write + e->start + 32;   /* written in vain */
}

void emit_end(struct emit *e)
{
    bool slow = e->slow_count > e->slow_first;
    for (unsigned i = e->slow_first; i < e->slow_count; i++)
        if (!e->slow[i].gate && !e->slow[i].deep && !e->slow[i].seek) {
            e->slow[i].resume = (u32)emit_at(e);
            e->slow[i].cached = e->cached;
        }
    if (e->wrote_flags && !e->cur.late_flags)
        e->late.kind = CC_CORE;
    if (e->wrote_flags) {
        e->flag_slow = slow ? (int)e->slow_count - 1 : -1;
        if (slow)
            e->known = e->cc_op = -1;  /* the handler leaves them in the interpreter's form */
    } else if (slow) {
        e->host = 0;
    }
    if (e->full)
        e->slow_count = e->slow_first = 0, e->taken_count = 0;
}

void x64_settle_all(struct emit *e)
{
    x64_late_store(e, &e->late);
    e->late.kind = CC_CORE;
    x64_vectors_flush(e);
}

void emit_handler(struct emit *e)
{
    x64_settle_all(e);
    x64_load_imm(e, R11, x64_site_before(e));
    x64_call(e, e->stub_handler);
    e->host = 0;
    e->carry_clear = false;
    e->zmm_cleared = 0;
    e->known = -1;
    e->cc_op = CC_CORE;
}

void emit_leave_for(struct emit *e)
{
    x64_settle_all(e);
    x64_leave_at(e, x64_site_before(e));
}

/* ---- blocks ---------------------------------------------------------------------------------------------------------- */

/* Before its entry each block has the way out that a dropped block's entry is made to jump to, until that jump is linked to the block's
 * successor at the same place: whoever was linked to the old one finds the new one. */
#define ENTRY_OFFSET 16u

/* A loop of vectors begins at such an address: elsewhere its place would be an accident, which made one a third slower. */
#define LOOP_ALIGN 32u

static void align_loop(struct emit *e)
{
    static const u8 nop[] = {0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0};
    size_t left = -emit_at(e) & (LOOP_ALIGN - 1);
    for (; left >= sizeof(nop); left -= sizeof(nop))
        for (unsigned i = 0; i < sizeof(nop); i++)
            put8(e, nop[i]);
    for (; left; left--)
        put8(e, 0x90);
}

struct emit *emit_open(struct jit *jit, struct block *block, unsigned count, size_t at, unsigned vectors, u32 loop_vectors,
                       bool start_kills)
{
    struct emit *e = jit->emit;
    jit_memory_open(&jit->memory);
    e->block = block;
    e->count = count;
    e->start = at + ENTRY_OFFSET;
    e->p = jit->memory.write + at;
    e->limit = e->p + JIT_BLOCK_BYTES;
    e->full = false;
    e->word = (block->bits & 3) == BITS_64 ? OSZ_64 : OSZ_32;
    e->host = 0;
    e->known = e->cc_op = e->flag_slow = -1;
    e->slow_count = e->taken_count = 0;
    e->turn = e->turn_insns = e->prepaid = 0;
    e->carry_clear = false;
    e->wide = vectors & JIT_FP_AVX;
    e->has_zmm = cpu_has(&jit->cpus[0], FEATURE_AVX512F);
    e->fp_ready = 0;
    e->cached = e->dirty = e->zmm_cleared = 0;
    e->late.kind = CC_CORE;
    e->start_kills = start_kills;
    e->loop_vectors = loop_vectors;
    e->cur = (struct emit_insn){.in = &block->insn[0], .offset = (unsigned)(block->ram_off & 0xfff)};
    unsigned offset = (unsigned)(block->ram_off & 0xfff);
    x64_leave_at(e, x64_site(e, NULL, offset, 0, (u32)e->start + 1, true));
    e->p = jit->memory.write + e->start;
    /* The entry: r13 -= count, and out when there are not so many left. */
    x64_alu_imm(e, 5, OSZ_64, rm_reg(LEFT), (i64)count);
    u32 out = x64_jump_if(e, CC_S);
    e->slow[e->slow_count++] = (struct slow){.at = out, .site = x64_site(e, NULL, offset, count, 0, false), .leaves = true};
    if (e->loop_vectors) {
        x64_vectors_gate(e, (enum jit_fp)vectors);
        x64_vectors_load(e, e->loop_vectors);
        e->cached = e->dirty = e->loop_vectors;
    }
    if (e->loop_vectors)
        align_loop(e);
    e->loop_at = emit_at(e);
    return e;
}

bool emit_turn(struct emit *e, unsigned *insns)
{
    if (e->turn_insns == 0 || e->turn == 2)
        return false;
    if (e->turn++ == 0) {
        e->turns_at = emit_at(e);
        x64_here(e, e->turns_from);
    }
    e->prepaid = e->turn == 1 ? e->turn_insns : 0;
    e->host = 0;
    e->known = e->cc_op = e->flag_slow = -1;
    e->cached = e->dirty = e->zmm_cleared = 0;
    e->late.kind = CC_CORE;
    e->carry_clear = false;
    *insns = e->turn_insns;
    return true;
}

const void *emit_entry(const struct emit *e) { return e->jit->memory.run + e->start; }

size_t emit_close(struct emit *e)
{
    for (unsigned i = 0; i < e->taken_count && !e->full; i++) {
        if (e->p + 1024 > e->limit || e->jit->site_count + 8 > JIT_SITES || e->slow_count == SLOW_MAX)
            e->full = true;
        else
            x64_make_taken(e, &e->taken[i]);
    }
    for (unsigned i = 0; i < e->slow_count && !e->full; i++) {
        if (e->p + 1024 > e->limit)
            e->full = true;
        else
            make_slow(e, &e->slow[i]);
    }
    size_t bytes = e->full ? 0 : (emit_at(e) - (e->start - ENTRY_OFFSET) + 15) & ~(size_t)15;
    jit_memory_close(&e->jit->memory, e->start - ENTRY_OFFSET, bytes);
    return bytes;
}

void emit_link(struct jit *jit, u32 patch, const void *code)
{
    jit_memory_open(&jit->memory);
    u32 to = (u32)((const u8 *)code - jit->memory.run);
    store32(jit->memory.write + patch, to - (patch + 4));
    jit_memory_close(&jit->memory, patch, 4);
}

void emit_poison(struct jit *jit, const void *code)
{
    size_t at = (size_t)((const u8 *)code - jit->memory.run);
    jit_memory_open(&jit->memory);
    jit->memory.write[at] = 0xe9;
    store32(jit->memory.write + at + 1, 0u - ENTRY_OFFSET - 5);
    jit_memory_close(&jit->memory, at, 5);
}
