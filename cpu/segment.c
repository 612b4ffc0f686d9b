/* Descriptors and segment registers: reading, checking and loading them.
 *
 * Follows [SDM3 "Segment Descriptors", "Privilege Level Checking When Accessing Data Segments", "Privilege Level Checking when Loading the SS
 * Register"] and, for the hidden parts in real and virtual-8086 mode, [SDM3 "8086 Emulation"].
 * Kept true: a descriptor's accessed bit is set in memory after all checks and before the register changes, so that a
 * fault in setting it leaves the register alone; SS.DPL always is the CPL (cpu/mode.c derives it from there).
 */
#include "cpu/segment.h"
#include "mmu/access.h"

/* Finds a selector's place: false when it lies beyond its table's limit (n bytes) or the LDT is unusable. */
static bool descriptor_locate(const struct cpu *cpu, u16 selector, unsigned n, u64 *la)
{
    u32 offset = selector & 0xfff8u;
    u64 base = cpu->seg.gdtr.base;
    u32 limit = cpu->seg.gdtr.limit;
    if (selector & SELECTOR_TI) {
        const struct segment *ldt = &cpu->seg.s[SEG_LDTR];
        if ((ldt->access & AR_UNUSABLE) || !(ldt->access & AR_P))
            return false;
        base = ldt->base;
        limit = ldt->limit;
    }
    if ((u64)offset + n - 1 > limit)
        return false;
    *la = base + offset;
    if (!cpu->mode.long_mode)
        *la = (u32)*la;
    return true;
}

enum flow descriptor_read(struct cpu *cpu, u16 selector, u8 vector, struct descriptor *d)
{
    d->high = 0;
    if (!descriptor_locate(cpu, selector, 8, &d->la))
        return cpu_raise_error(cpu, vector, selector_error(selector));
    return system_read(cpu, d->la, &d->low, 8);
}

enum flow descriptor_read_high(struct cpu *cpu, u16 selector, u8 vector, struct descriptor *d)
{
    u64 la;
    if (!descriptor_locate(cpu, selector, 16, &la))
        return cpu_raise_error(cpu, vector, selector_error(selector));
    FLOW(system_read(cpu, la + 8, &d->high, 8));
    if (d->high >> 40 & 0x1f)
        return cpu_raise_error(cpu, vector, selector_error(selector));
    d->high &= 0xffffffff;
    return FLOW_NEXT;
}

enum flow descriptor_read_quiet(struct cpu *cpu, u16 selector, bool wide, struct descriptor *d, bool *valid)
{
    d->high = 0;
    *valid = !selector_null(selector) && descriptor_locate(cpu, selector, wide ? 16 : 8, &d->la);
    if (!*valid)
        return FLOW_NEXT;
    if (!wide)
        return system_read(cpu, d->la, &d->low, 8);
    FLOW(system_read(cpu, d->la + 8, &d->high, 8));
    *valid = !(d->high >> 40 & 0x1f);
    d->high &= 0xffffffff;
    return FLOW_NEXT;
}

enum flow descriptor_set_accessed(struct cpu *cpu, struct descriptor *d)
{
    if (d->low & BIT(40))
        return FLOW_NEXT;
    d->low |= BIT(40);
    u8 byte = (u8)(d->low >> 40);
    cpu->fault.stack_segment = 0;
    return mem_write_system(cpu, d->la + 5, &byte, 1) ? FLOW_NEXT : cpu_raise_fault(cpu);
}

enum flow descriptor_set_busy(struct cpu *cpu, u64 la, bool busy)
{
    u8 byte;
    cpu->fault.stack_segment = 0;
    if (!mem_read_slow(cpu, la + 5, &byte, 1, ACCESS_WRITE | ACCESS_SYSTEM))
        return cpu_raise_fault(cpu);
    byte = busy ? byte | 2 : byte & ~2;
    return mem_write_system(cpu, la + 5, &byte, 1) ? FLOW_NEXT : cpu_raise_fault(cpu);
}

void segment_unpack(struct segment *s, u16 selector, const struct descriptor *d)
{
    s->base = descriptor_base(d);
    s->limit = descriptor_limit(d);
    s->access = descriptor_access(d);
    s->selector = selector;
}

void segment_make_null(struct segment *s, u16 selector, unsigned dpl)
{
    s->base = 0;
    s->limit = 0;
    s->access = AR_UNUSABLE | dpl << 5;
    s->selector = selector;
}

/* The limit and its attributes stay what they were in protected mode ("unreal mode"); a segment that was unusable gets those of reset. */
void segment_load_real(struct segment *s, u16 selector)
{
    if (s->access & AR_UNUSABLE) {
        s->limit = 0xffff;
        s->access = 0;
    }
    s->access = (s->access & (AR_DB | AR_G | AR_AVL)) | AR_P | AR_S | AR_WRITABLE | AR_ACCESSED;
    s->base = (u64)selector << 4;
    s->selector = selector;
}

void segment_load_v8086(struct segment *s, u16 selector)
{
    s->base = (u64)selector << 4;
    s->limit = 0xffff;
    s->access = AR_P | AR_S | AR_DPL | AR_WRITABLE | AR_ACCESSED;
    s->selector = selector;
}

enum flow segment_check_stack(struct cpu *cpu, u16 selector, unsigned cpl, u8 vector, bool null_ok, struct segment *ss)
{
    struct descriptor d;
    u32 error = selector_error(selector);
    if (selector_null(selector)) {
        if (!null_ok || cpl == 3 || (selector & SELECTOR_RPL) != cpl)
            return cpu_raise_error(cpu, vector, 0);
        segment_make_null(ss, selector, cpl);
        return FLOW_NEXT;
    }
    FLOW(descriptor_read(cpu, selector, vector, &d));
    if ((selector & SELECTOR_RPL) != cpl || !access_is_writable_data(descriptor_access(&d)) || descriptor_dpl(&d) != cpl)
        return cpu_raise_error(cpu, vector, error);
    if (!descriptor_present(&d))
        return cpu_raise_ss(cpu, error);
    FLOW(descriptor_set_accessed(cpu, &d));
    segment_unpack(ss, selector, &d);
    return FLOW_NEXT;
}

enum flow segment_load(struct cpu *cpu, unsigned seg, u16 selector)
{
    struct segment *s = &cpu->seg.s[seg];
    unsigned cpl = cpu->mode.cpl, rpl = selector & SELECTOR_RPL;
    struct descriptor d;
    u32 access;

    if (!cpu->mode.protected_mode) {
        if (cpu->mode.v8086)
            segment_load_v8086(s, selector);
        else
            segment_load_real(s, selector);
        return FLOW_NEXT;
    }
    if (seg == SEG_SS) {
        struct segment ss = {0};
        FLOW(segment_check_stack(cpu, selector, cpl, EXC_GP, cpu->mode.code_bits == BITS_64, &ss));
        *s = ss;
        return FLOW_NEXT;
    }
    if (selector_null(selector)) {
        segment_make_null(s, selector, 0);
        return FLOW_NEXT;
    }
    FLOW(descriptor_read(cpu, selector, EXC_GP, &d));
    access = descriptor_access(&d);
    if (!access_is_readable(access) || (!access_is_conforming(access) && (rpl > access_dpl(access) || cpl > access_dpl(access))))
        return cpu_raise_gp(cpu, selector_error(selector));
    if (!(access & AR_P))
        return cpu_raise_np(cpu, selector_error(selector));
    FLOW(descriptor_set_accessed(cpu, &d));
    segment_unpack(s, selector, &d);
    return FLOW_NEXT;
}

bool segment_holds(const struct segment *s, u64 offset, unsigned n)
{
    if ((s->access & AR_UNUSABLE) || !n)
        return !(s->access & AR_UNUSABLE);
    u64 last = offset + n - 1;
    if ((s->access & (AR_CODE | AR_EXPAND_DOWN)) == AR_EXPAND_DOWN)
        return offset > s->limit && last <= (s->access & AR_DB ? 0xffffffffu : 0xffffu);
    return last <= s->limit;
}

void segment_drop_privileged(struct cpu *cpu, unsigned cpl)
{
    static const u8 data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    for (unsigned i = 0; i < ARRAY_SIZE(data); i++) {
        struct segment *s = &cpu->seg.s[data[i]];
        if (!(s->access & AR_UNUSABLE) && !access_is_conforming(s->access) && access_dpl(s->access) < cpl) {
            /* The selector becomes null; the base stays [SDM2 "IRET"]: FS and GS with a null selector and a base set by MSR
             * (KVM restores its nested host so, with DPL 0) keep it on the way to user mode. */
            s->selector = 0;
            s->access |= AR_UNUSABLE;
        }
    }
}
