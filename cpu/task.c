/* Hardware task switches with 16- and 32-bit task-state segments, and what else is read from the TSS: the stacks of inner levels and
 * the interrupt redirection bitmap.
 *
 * Follows [SDM3 "Task Management"], "Task Switching" above all. The switch has a point of no return: until then (the checks of the new TSS, the translation of
 * all memory that will be touched) a fault belongs to the old task and nothing has changed; behind it a fault belongs to
 * the new task, whose state is loaded as far as it could be checked [SDM3 "Exceptions and Interrupts as a Result of a Task Switch"].
 * Kept true: in VMX non-root operation no task switch is made, whoever asks (the VM exit comes after the checks).
 */
#include "cpu/task.h"
#include "cpu/cet.h"
#include "cpu/event.h"
#include "cpu/flags.h"
#include "cpu/frame.h"
#include "cpu/mode.h"
#include "mmu/access.h"
#include "vmx/vmx.h"

/* ---- what else stands in a TSS ---------------------------------------------------------------------------------- */

static enum flow tss_read(struct cpu *cpu, u32 offset, void *data, unsigned n)
{
    const struct segment *tr = &cpu->seg.s[SEG_TR];
    if (offset + n - 1 > tr->limit)
        return cpu_raise_ts(cpu, selector_error(tr->selector));
    return system_read(cpu, tr->base + offset, data, n);
}

enum flow task_read_stack(struct cpu *cpu, unsigned cpl, u16 *ss, u64 *sp)
{
    u8 data[8];
    if (cpu->seg.s[SEG_TR].access & 8) {
        FLOW(tss_read(cpu, 4 + 8 * cpl, data, 8));
        *sp = load32(data);
        *ss = load16(data + 4);
    } else {
        FLOW(tss_read(cpu, 2 + 4 * cpl, data, 4));
        *sp = load16(data);
        *ss = load16(data + 2);
    }
    return FLOW_NEXT;
}

enum flow task_read_stack64(struct cpu *cpu, unsigned cpl, unsigned ist, u64 *rsp)
{
    return tss_read(cpu, ist ? 0x24 + 8 * (ist - 1) : 4 + 8 * cpl, rsp, 8);
}

enum flow task_interrupt_redirected(struct cpu *cpu, u8 vector, bool *redirect)
{
    const struct segment *tr = &cpu->seg.s[SEG_TR];
    u8 map[2], byte;
    *redirect = false;
    if (!(tr->access & 8) || tr->limit < 0x67)
        return FLOW_NEXT;
    FLOW(tss_read(cpu, 0x66, map, 2));
    u32 offset = load16(map);
    if (offset < 32 || offset - 32 + vector / 8 > tr->limit)
        return FLOW_NEXT;
    FLOW(tss_read(cpu, offset - 32 + vector / 8, &byte, 1));
    *redirect = !(byte >> (vector & 7) & 1);
    return FLOW_NEXT;
}

/* ---- the switch -------------------------------------------------------------------------------------------------- */

/* The dynamic part of a task, as both forms of TSS hold it. */
struct task_state {
    u32 eip, eflags, cr3;
    u32 gpr[8];
    u16 es, cs, ss, ds, fs, gs, ldt, link;
    bool trap;
};

static void task_unpack(struct task_state *t, const u8 *tss, bool wide)
{
    memset(t, 0, sizeof(*t));
    t->link = load16(tss);
    if (wide) {
        t->cr3 = load32(tss + 0x1c);
        t->eip = load32(tss + 0x20);
        t->eflags = load32(tss + 0x24);
        for (unsigned n = 0; n < 8; n++)
            t->gpr[n] = load32(tss + 0x28 + 4 * n);
        t->es = load16(tss + 0x48);
        t->cs = load16(tss + 0x4c);
        t->ss = load16(tss + 0x50);
        t->ds = load16(tss + 0x54);
        t->fs = load16(tss + 0x58);
        t->gs = load16(tss + 0x5c);
        t->ldt = load16(tss + 0x60);
        t->trap = tss[0x64] & 1;
    } else {
        t->eip = load16(tss + 0x0e);
        t->eflags = load16(tss + 0x10);
        for (unsigned n = 0; n < 8; n++)
            t->gpr[n] = load16(tss + 0x12 + 2 * n);
        t->es = load16(tss + 0x22);
        t->cs = load16(tss + 0x24);
        t->ss = load16(tss + 0x26);
        t->ds = load16(tss + 0x28);
        t->ldt = load16(tss + 0x2a);
    }
}

/* The part of the old TSS that is written: [*first, *first + the result). */
static unsigned task_pack(const struct cpu *cpu, u8 *data, u32 eip, u32 eflags, bool wide, unsigned *first)
{
    static const u8 order[6] = {SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS};
    if (wide) {
        *first = 0x20;
        store32(data, eip);
        store32(data + 4, eflags);
        for (unsigned n = 0; n < 8; n++)
            store32(data + 8 + 4 * n, (u32)cpu->core.r[n]);
        for (unsigned n = 0; n < 6; n++)
            store32(data + 0x28 + 4 * n, cpu->seg.s[order[n]].selector);
        return 0x40;
    }
    *first = 0x0e;
    store16(data, (u16)eip);
    store16(data + 2, (u16)eflags);
    for (unsigned n = 0; n < 8; n++)
        store16(data + 4 + 2 * n, (u16)cpu->core.r[n]);
    for (unsigned n = 0; n < 4; n++)
        store16(data + 0x14 + 2 * n, cpu->seg.s[order[n]].selector);
    return 0x1c;
}

static bool probe(struct cpu *cpu, u64 la, unsigned n, unsigned access)
{
    cpu->fault.stack_segment = 0;
    return mem_probe(cpu, la, n, access | ACCESS_SYSTEM);
}

#define TRY_MEMORY(access)                                                                                             \
    do {                                                                                                               \
        if (!(access))                                                                                                 \
            return cpu_raise_fault(cpu);                                                                               \
    } while (0)

/* Loads LDTR in the new task. */
static enum flow task_load_ldt(struct cpu *cpu, u16 selector)
{
    struct segment *ldt = &cpu->seg.s[SEG_LDTR];
    struct descriptor d;
    segment_make_null(ldt, selector, 0);
    if (selector_null(selector))
        return FLOW_NEXT;
    if (selector & SELECTOR_TI)
        return cpu_raise_ts(cpu, selector_error(selector));
    FLOW(descriptor_read(cpu, selector, EXC_TS, &d));
    if ((descriptor_access(&d) & (AR_S | AR_TYPE)) != SYS_LDT || !descriptor_present(&d))
        return cpu_raise_ts(cpu, selector_error(selector));
    segment_unpack(ldt, selector, &d);
    return FLOW_NEXT;
}

static enum flow task_load_code(struct cpu *cpu, u16 selector)
{
    struct descriptor d;
    u32 error = selector_error(selector);
    unsigned rpl = selector & SELECTOR_RPL;
    if (selector_null(selector))
        return cpu_raise_ts(cpu, 0);
    FLOW(descriptor_read(cpu, selector, EXC_TS, &d));
    u32 access = descriptor_access(&d);
    if (!access_is_code(access) || (access_is_conforming(access) ? access_dpl(access) > rpl : access_dpl(access) != rpl))
        return cpu_raise_ts(cpu, error);
    if (!(access & AR_P))
        return cpu_raise_np(cpu, error);
    FLOW(descriptor_set_accessed(cpu, &d));
    segment_unpack(&cpu->seg.s[SEG_CS], selector, &d);
    return FLOW_NEXT;
}

static enum flow task_load_data(struct cpu *cpu, unsigned seg, u16 selector, unsigned cpl)
{
    struct descriptor d;
    u32 error = selector_error(selector);
    if (selector_null(selector))
        return FLOW_NEXT;
    FLOW(descriptor_read(cpu, selector, EXC_TS, &d));
    u32 access = descriptor_access(&d);
    unsigned dpl = access_dpl(access);
    if (!access_is_readable(access) || (!access_is_conforming(access) && (dpl < cpl || dpl < (selector & SELECTOR_RPL))))
        return cpu_raise_ts(cpu, error);
    if (!(access & AR_P))
        return cpu_raise_np(cpu, error);
    FLOW(descriptor_set_accessed(cpu, &d));
    segment_unpack(&cpu->seg.s[seg], selector, &d);
    return FLOW_NEXT;
}

/* Behind the point of no return: the segments of the new task, whose selectors and CPL are in place. */
static enum flow task_load_segments(struct cpu *cpu, const struct task_state *t)
{
    struct segment *s = cpu->seg.s;
    FLOW(task_load_ldt(cpu, t->ldt));
    if (t->eflags & FL_VM) {
        segment_load_v8086(&s[SEG_CS], t->cs);
        segment_load_v8086(&s[SEG_SS], t->ss);
        segment_load_v8086(&s[SEG_DS], t->ds);
        segment_load_v8086(&s[SEG_ES], t->es);
        segment_load_v8086(&s[SEG_FS], t->fs);
        segment_load_v8086(&s[SEG_GS], t->gs);
        return FLOW_NEXT;
    }
    unsigned cpl = t->cs & SELECTOR_RPL;
    struct segment ss = {0};
    FLOW(task_load_code(cpu, t->cs));
    FLOW(segment_check_stack(cpu, t->ss, cpl, EXC_TS, false, &ss));
    s[SEG_SS] = ss;
    FLOW(task_load_data(cpu, SEG_DS, t->ds, cpl));
    FLOW(task_load_data(cpu, SEG_ES, t->es, cpl));
    FLOW(task_load_data(cpu, SEG_FS, t->fs, cpl));
    return task_load_data(cpu, SEG_GS, t->gs, cpl);
}

/* Everything the new task's TSS holds. FLOW_NEXT, or the fault in the new task. */
static enum flow task_load(struct cpu *cpu, const struct task_state *t, bool wide)
{
    struct segment *s = cpu->seg.s;
    unsigned cpl = t->eflags & FL_VM ? 3 : t->cs & SELECTOR_RPL;
    for (unsigned n = 0; n < 8; n++)
        cpu->core.r[n] = t->gpr[n];
    cpu->core.rip = t->eip;
    cpu_set_rflags(cpu, t->eflags);
    segment_make_null(&s[SEG_ES], t->es, 0);
    segment_make_null(&s[SEG_CS], t->cs, cpl);
    segment_make_null(&s[SEG_SS], t->ss, cpl);
    segment_make_null(&s[SEG_DS], t->ds, 0);
    segment_make_null(&s[SEG_FS], t->fs, 0);
    segment_make_null(&s[SEG_GS], t->gs, 0);
    segment_make_null(&s[SEG_LDTR], t->ldt, 0);
    if (wide && (cpu->sys.cr0 & CR0_PG)) {
        enum flow flow = cpu_write_cr3(cpu, t->cr3);
        if (flow != FLOW_NEXT)
            return cpu->event.valid ? flow : cpu_raise_fault(cpu);
    }
    return task_load_segments(cpu, t);
}

enum flow task_switch(struct cpu *cpu, const struct insn *in, u16 selector, enum task_source source, u64 return_rip, u64 rflags,
                      bool has_error, u32 error)
{
    struct segment *tr = &cpu->seg.s[SEG_TR];
    u8 wrong = source == TASK_IRET ? EXC_TS : EXC_GP;
    struct descriptor d;
    struct task_state t;
    u8 image[0x68], old[0x40];
    struct cet_task cet = {.tss = selector};

    /* The new TSS. */
    if (selector_null(selector) || (selector & SELECTOR_TI))
        return cpu_raise_error(cpu, wrong, selector_error(selector));
    FLOW(descriptor_read(cpu, selector, wrong, &d));
    u32 access = descriptor_access(&d);
    unsigned type = access & (AR_S | AR_TYPE);
    bool busy = source == TASK_IRET;
    if (type != (busy ? SYS_TSS_BUSY : SYS_TSS) && type != (busy ? SYS_TSS16_BUSY : SYS_TSS16))
        return cpu_raise_error(cpu, wrong, selector_error(selector));
    if (!descriptor_present(&d))
        return cpu_raise_np(cpu, selector_error(selector));
    bool wide = type & 8, old_wide = tr->access & 8;
    unsigned size = wide ? 0x68 : 0x2c;
    if (descriptor_limit(&d) < size - 1)
        return cpu_raise_ts(cpu, selector_error(selector));
    if (vmx_nonroot(cpu) && vmx_task_switch(cpu, in, selector, source))
        return FLOW_EXIT;

    /* All memory that the switch touches. */
    bool nested = source == TASK_CALL || source == TASK_GATE;
    bool leaves = source == TASK_JMP || source == TASK_IRET;
    u64 new_base = (u32)descriptor_base(&d), old_base = tr->base, old_descriptor = (u32)(cpu->seg.gdtr.base + (tr->selector & 0xfff8));
    u32 saved_flags = (u32)rflags;
    if (source == TASK_IRET)
        saved_flags &= ~(u32)FL_NT;
    unsigned first, length = task_pack(cpu, old, (u32)return_rip, saved_flags, old_wide, &first);
    TRY_MEMORY(probe(cpu, old_base + first, length, ACCESS_WRITE));
    TRY_MEMORY(probe(cpu, new_base, size, nested ? ACCESS_WRITE : ACCESS_READ));
    if (leaves)
        TRY_MEMORY(probe(cpu, old_descriptor + 5, 1, ACCESS_WRITE));
    if (!busy)
        TRY_MEMORY(probe(cpu, d.la + 5, 1, ACCESS_WRITE));

    if (UNLIKELY(cpu->sys.cr4 & CR4_CET)) {
        /* The new task's SSP lies behind what every 32-bit TSS has. */
        cet.has_ssp = wide && descriptor_limit(&d) >= 0x6b;
        if (cet.has_ssp)
            TRY_MEMORY(mem_read_system(cpu, new_base + 0x68, &cet.tss_ssp, 4));
        TRY_MEMORY(mem_read_system(cpu, new_base, image, size));
        task_unpack(&t, image, wide);
        FLOW(cet_task_leave(cpu, &cet, source == TASK_IRET, nested, t.eflags & FL_VM ? 3 : t.cs & SELECTOR_RPL, return_rip));
    }

    /* The old task is left. */
    if (leaves)
        FLOW(descriptor_set_busy(cpu, old_descriptor, false));
    TRY_MEMORY(mem_write_system(cpu, old_base + first, old, length));
    TRY_MEMORY(mem_read_system(cpu, new_base, image, size));
    if (nested) {
        u16 link = tr->selector;
        TRY_MEMORY(mem_write_system(cpu, new_base, &link, 2));
    }
    if (!busy)
        FLOW(descriptor_set_busy(cpu, d.la, true));

    /* The point of no return. */
    task_unpack(&t, image, wide);
    if (nested)
        t.eflags |= FL_NT;
    segment_unpack(tr, selector, &d);
    tr->access |= 2;
    cpu->sys.cr0 |= CR0_TS;
    cpu->sys.dr7 &= ~0x155ull;  /* breakpoints of the old task alone */
    cpu->event.step = 0;
    enum flow flow = task_load(cpu, &t, wide);
    cpu_mode_update(cpu);
    if (flow == FLOW_NEXT && UNLIKELY(cet.active)) {
        flow = cet_task_enter(cpu, &cet);
        cpu_mode_update_cpl(cpu);
    }
    if (flow != FLOW_NEXT)
        return flow;
    if (has_error) {
        struct frame f;
        frame_begin(cpu, &f, wide ? OSZ_32 : OSZ_16);
        frame_add(&f, error);
        FLOW(frame_push(cpu, &f));
        cpu->core.rsp = f.sp;
    }
    if (t.trap)
        cpu_pend_debug(cpu, DR6_BT);
    if (t.eip > cpu->seg.s[SEG_CS].limit)
        return cpu_raise_gp(cpu, 0);
    return FLOW_END;
}

enum flow task_return(struct cpu *cpu, const struct insn *in)
{
    u16 link;
    FLOW(tss_read(cpu, 0, &link, 2));
    return task_switch(cpu, in, link, TASK_IRET, (u32)(cpu->core.rip + in->length), cpu_rflags(cpu), false, 0);
}
