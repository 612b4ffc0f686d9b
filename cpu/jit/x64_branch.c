/* The x86-64 back end: branches, in the page, to other pages, and by addresses that the guest computes.
 */
#include "cpu/jit/x64_asm.h"

static bool in_page(i64 target) { return target >= 0 && target < 4096; }

void x64_hash(struct emit *e)
{
    x64_move(e, T1, T0);
    x64_op(e, 0xc1, OSZ_64, 5, rm_reg(T1));
    put8(e, 12);
    x64_op(e, 0x33, OSZ_32, T1, rm_reg(T0));
    x64_op(e, 0x33, OSZ_32, T1, rm_cpu(OFF(jit.salt)));
    x64_alu_imm(e, 4, OSZ_32, rm_reg(T1), JIT_JUMPS - 1);
    x64_op(e, 0xc1, OSZ_32, 4, rm_reg(T1));
    put8(e, 5);
    x64_op(e, 0x03, OSZ_64, T1, rm_cpu(OFF(jit.jumps)));
}

void x64_check_jump(struct emit *e, u32 miss[2])
{
    x64_op(e, 0x39, OSZ_64, T0, rm_at(T1, offsetof(struct jit_jump, la)));
    miss[0] = x64_jump_if(e, CC_NE);
    x64_load(e, T2, rm_cpu(OFF(jit.key)));
    x64_op(e, 0x39, OSZ_64, T2, rm_at(T1, offsetof(struct jit_jump, key)));
    miss[1] = x64_jump_if(e, CC_NE);
}

void x64_seek(struct emit *e, const u32 miss[2], u32 found)
{
    x64_here(e, miss[0]);
    x64_here(e, miss[1]);
    x64_call(e, e->stub_seek);
    x64_patch(e, x64_jump_if(e, CC_NE), found);
}

/* T1 = the entry of linear address T0: the branch's own cell, or where there is none the jump cache's; what neither has is asked for behind them
 * (jit_seek()), and only then is leaving at `site` left. computed: the branch has more than one target, and no cell once it was found to change too often. */
static void look_up(struct emit *e, u32 site, bool computed)
{
    enum { TARGETS = 0 };      /* the pattern's number that stands for them in block.wanders */
    struct jit *jit = e->jit;
    struct slow *s = &e->slow[e->slow_count++];
    u32 miss[2];
    *s = (struct slow){.site = site, .seek = true};
    if (jit->cell_count < JIT_CELLS && !e->full && !(computed && e->block->wanders >> TARGETS & 1)) {
        s->cell = true;
        s->miss = computed ? x64_count_misses(e, TARGETS) : 0;
        x64_load_imm(e, T1, (u64)(uintptr_t)&jit->cells[jit->cell_count++]);
    } else {
        x64_hash(e);
    }
    x64_check_jump(e, miss);
    s->at = miss[0];
    s->also = miss[1];
    s->resume = (u32)emit_at(e);
}

/* To the code of T1's entry, whose linear address is in T0: by a jump of the host, or a call. */
static void go_to_entry(struct emit *e, bool call)
{
    x64_alu_imm(e, 4, OSZ_64, rm_reg(T0), -4096);
    x64_store(e, rm_cpu(OFF(jit.page)), T0);
    x64_op(e, 0xff, OSZ_32, call ? 2 : 4, rm_at(T1, offsetof(struct jit_jump, code)));
}

static void page_plus(struct emit *e, unsigned reg, i64 offset)
{
    x64_load(e, reg, rm_cpu(OFF(jit.page)));
    x64_lea(e, e->word, reg, rm_at(reg, (i32)offset));
}

/* The end of the block at a target in the page: linked when the target is translated. at: the branch to be linked if it has been written
 * already, else 0. */
static void go_in_page(struct emit *e, i64 target, u32 at)
{
    if (target == (i64)(e->block->ram_off & 0xfff)) {
        if (at)
            x64_patch(e, at, (u32)e->start);
        else
            x64_jump_back(e, (u32)e->start);
        return;
    }
    if (!at)
        at = x64_jump(e);
    x64_here(e, at);
    x64_leave_at(e, x64_site(e, NULL, (unsigned)target, 0, at, true));
}

void x64_make_taken(struct emit *e, const struct taken *t)
{
    unsigned start = (unsigned)(e->block->ram_off & 0xfff);
    e->cur.in = t->in;
    e->cur.offset = t->offset;
    bool late = t->late.kind != CC_CORE;
    if (in_page(t->target) && t->refund == 0 && t->dirty == 0 && e->loop_vectors == 0 && !late) {
        go_in_page(e, t->target, t->at);
        return;
    }
    x64_here(e, t->at);
    if (t->rest) {
        x64_lea(e, OSZ_64, LEFT, rm_at(LEFT, (i32)t->refund));
        x64_jump_back(e, (u32)e->rest_at);
        return;
    }
    if (late && t->target != (i64)start)
        x64_late_store(e, &t->late);
    else if (late && !e->start_kills)
        x64_late_name(e, &t->late);
    if ((e->loop_vectors || late) && t->target == (i64)start) {
        x64_vectors_load(e, e->loop_vectors & ~t->cached);
        if (!t->spent) {
            x64_alu_imm(e, 5, OSZ_64, rm_reg(LEFT), (i64)e->count - (i64)t->refund);
            x64_patch(e, x64_jump_if(e, CC_NS), (u32)e->loop_at);
        } else if (t->overpaid) {
            x64_alu_imm(e, 0, OSZ_64, rm_reg(LEFT), t->overpaid);
            x64_patch(e, x64_jump_if(e, CC_NS), (u32)e->loop_at);
        }
        if (e->start_kills)
            x64_late_store(e, &t->late);
        x64_vectors_store(e, e->loop_vectors);
        x64_leave_at(e, x64_site(e, NULL, start, e->count, 0, false));
        return;
    }
    if (t->refund)
        x64_lea(e, OSZ_64, LEFT, rm_at(LEFT, (i32)t->refund));
    x64_vectors_store(e, t->dirty);
    if (in_page(t->target)) {
        go_in_page(e, t->target, 0);
        return;
    }
    page_plus(e, T0, t->target);
    look_up(e, x64_site(e, t->in, t->offset, 1, 0, false), false);
    go_to_entry(e, false);
}

/* A loop of so many instructions and slow paths gets further turns: there is room for them in any block. */
#define TURN_INSNS 20u
#define TURN_SLOW 16u

/* The branch on cc that ends a turn of the loop, where nothing but the next turn's instructions is to be taken off. The first turn goes on to two
 * further ones, which take theirs off together: the fewer branches a loop has, the better the host runs it. */
static void end_turn(struct emit *e, unsigned cc, struct taken *t)
{
    unsigned insns = e->cur.index + 1;
    bool same = insns == e->turn_insns;
    if (e->turn == 1 && same) {
        t->rest = true;
        t->refund = insns;
        t->at = x64_jump_if(e, cc ^ 1);
        return;
    }
    t->spent = true;
    u32 over = x64_jump_if(e, cc ^ 1);
    if (e->turn == 2 && same) {
        x64_patch(e, over, (u32)e->rest_at);
        x64_alu_imm(e, 5, OSZ_64, rm_reg(LEFT), 2 * insns);
        x64_patch(e, x64_jump_if(e, CC_NS), (u32)e->turns_at);
        t->overpaid = (u8)insns;
        t->at = x64_jump(e);
        return;
    }
    if (e->turn == 0 && e->turn_insns == 0 && insns <= TURN_INSNS && e->slow_count <= TURN_SLOW) {
        e->turn_insns = insns;
        x64_alu_imm(e, 5, OSZ_64, rm_reg(LEFT), 2 * insns);
        e->turns_from = x64_jump_if(e, CC_NS);
        t->overpaid = (u8)insns;
    } else {
        x64_alu_imm(e, 5, OSZ_64, rm_reg(LEFT), (i64)e->count - (i64)t->refund);
        x64_patch(e, x64_jump_if(e, CC_NS), (u32)e->loop_at);
    }
    t->at = x64_jump(e);
    x64_here(e, over);
    if (e->turn == 0 && e->turn_insns == insns)
        e->rest_at = emit_at(e);
}

static struct taken *new_taken(struct emit *e, i64 target)
{
    struct taken *t = &e->taken[e->taken_count++];
    *t = (struct taken){.target = target, .refund = e->count - e->cur.index - 1 + e->prepaid, .in = e->cur.in, .offset = e->cur.offset, .dirty = e->dirty,
                        .cached = e->cached, .late = e->late};
    return t;
}

void x64_branch_if(struct emit *e, unsigned cc, i64 target)
{
    struct taken *t = new_taken(e, target);
    if (target == (i64)(e->block->ram_off & 0xfff) && e->late.kind != CC_CORE && e->start_kills && e->loop_vectors == 0) {
        end_turn(e, cc, t);
        return;
    }
    t->at = x64_jump_if(e, cc);
}

void emit_jump(struct emit *e, i64 target)
{
    if (target == (i64)(e->block->ram_off & 0xfff) && (e->loop_vectors || e->late.kind != CC_CORE)) {
        struct taken *t = new_taken(e, target);    /* what is in registers stays there for the next turn */
        t->at = x64_jump(e);
        return;
    }
    x64_settle_all(e);
    if (in_page(target)) {
        go_in_page(e, target, 0);
        return;
    }
    page_plus(e, T0, target);
    look_up(e, x64_site_before(e), false);
    go_to_entry(e, false);
}

void emit_continue(struct emit *e, unsigned offset)
{
    x64_settle_all(e);
    if (offset < 4096) {
        go_in_page(e, offset, 0);
        return;
    }
    page_plus(e, T0, offset);
    look_up(e, x64_site(e, NULL, offset, 0, 0, false), false);
    go_to_entry(e, false);
}

/* Whether a call whose return address is at `next` in the page gets a frame. At the page's end it does not: what is there is another page's
 * business, and may be no address at all. */
static bool has_frame(unsigned next) { return next < 4096; }

/* The frame's upper half: the guest's return address in `reg`. The host's call is to follow. */
static void begin_frame(struct emit *e, unsigned reg)
{
    x64_op(e, 0x3b, OSZ_64, RSP, rm_cpu(OFF(jit.frames_end)));
    u32 deep = x64_jump_if(e, CC_B);
    e->slow[e->slow_count++] = (struct slow){.at = deep, .deep = true, .resume = (u32)emit_at(e)};
    x64_push(e, reg);
}

/* Behind the host's call: the return comes here, from whatever page, and goes on behind the guest's call. */
static void go_on_behind_call(struct emit *e, unsigned next)
{
    x64_pop(e, T0);
    x64_lea(e, e->word, T0, rm_at(T0, -(i32)next));
    x64_store(e, rm_cpu(OFF(jit.page)), T0);
    go_in_page(e, next, 0);
}

/* Calls T1's entry: the return address, at `next` in the page, goes to host address jit.save[0]. */
static void call_entry(struct emit *e, unsigned next)
{
    x64_load(e, T2, rm_cpu(OFF(jit.save[0])));
    page_plus(e, T0, next);
    x64_op(e, 0x89, e->word, T0, rm_at(T2, 0));
    x64_advance(e, x64_pin[REG_RSP], x64_pin[REG_RSP], -x64_word(e));
    if (has_frame(next))
        begin_frame(e, T0);
    x64_load(e, T0, rm_at(T1, offsetof(struct jit_jump, la)));
    go_to_entry(e, has_frame(next));
    if (has_frame(next))
        go_on_behind_call(e, next);
}

/* Where the return address goes. */
static struct rm return_slot(struct emit *e)
{
    return x64_translate(e, x64_stack(e, REG_RSP, -x64_word(e)), (unsigned)x64_word(e), true, true);
}

void emit_call(struct emit *e, i64 target)
{
    unsigned next = e->cur.offset + e->cur.in->length;
    x64_settle_all(e);
    struct rm slot = return_slot(e);
    if (in_page(target)) {
        page_plus(e, T1, next);
        x64_op(e, 0x89, e->word, T1, slot);
        x64_advance(e, x64_pin[REG_RSP], x64_pin[REG_RSP], -x64_word(e));
        if (has_frame(next)) {
            begin_frame(e, T1);
            u32 at = x64_call_forward(e);
            go_on_behind_call(e, next);
            go_in_page(e, target, at);
        } else {
            go_in_page(e, target, 0);
        }
        return;
    }
    x64_lea(e, OSZ_64, T0, slot);
    x64_store(e, rm_cpu(OFF(jit.save[0])), T0);
    page_plus(e, T0, target);
    look_up(e, x64_site_before(e), false);
    call_entry(e, next);
}

/* T0 = the value of an operand of the code's width. */
static void fetch_target(struct emit *e, struct place target)
{
    struct rm from = guest(target.reg);
    if (target.kind == PLACE_MEM)
        from = x64_translate(e, x64_address(e), (unsigned)x64_word(e), false, true);
    x64_op(e, 0x8b, e->word, T0, from);
}

void emit_jump_to(struct emit *e, struct place target)
{
    x64_settle_all(e);
    fetch_target(e, target);
    look_up(e, x64_site_before(e), true);
    go_to_entry(e, false);
}

void emit_call_to(struct emit *e, struct place target)
{
    x64_settle_all(e);
    x64_lea(e, OSZ_64, T0, return_slot(e));
    x64_store(e, rm_cpu(OFF(jit.save[0])), T0);
    fetch_target(e, target);
    look_up(e, x64_site_before(e), true);
    call_entry(e, e->cur.offset + e->cur.in->length);
}

void emit_return(struct emit *e, unsigned release)
{
    x64_settle_all(e);
    x64_op(e, 0x8b, e->word, T0, x64_translate(e, x64_stack(e, REG_RSP, 0), (unsigned)x64_word(e), false, true));
    x64_op(e, 0x3b, OSZ_64, T0, rm_at(RSP, 8));
    u32 unmatched = x64_jump_if(e, CC_NE);
    e->slow[e->slow_count++] = (struct slow){.at = unmatched, .site = x64_site_before(e), .unmatched = true, .release = (u16)release};
    x64_advance(e, x64_pin[REG_RSP], x64_pin[REG_RSP], x64_word(e) + (i32)release);
    x64_return(e);
}

/* The newest frame, if it is not the lowest, was for another return; the jump cache knows more. */
void x64_make_unmatched(struct emit *e, const struct slow *s)
{
    u32 miss[2];
    x64_op(e, 0x3b, OSZ_64, RSP, rm_cpu(OFF(jit.frames)));
    u32 lowest = x64_jump_if(e, CC_E);
    x64_alu_imm(e, 0, OSZ_64, rm_reg(RSP), 16);
    x64_here(e, lowest);
    x64_hash(e);
    x64_check_jump(e, miss);
    u32 found = (u32)emit_at(e);
    x64_advance(e, x64_pin[REG_RSP], x64_pin[REG_RSP], x64_word(e) + (i32)s->release);
    go_to_entry(e, false);
    x64_seek(e, miss, found);
    x64_leave_at(e, s->site);
}
