/* The slow paths of linear accesses: what the inline comparison with a TLB entry does not settle.
 *
 * An access is located first, both pages if it crosses one, and carried out when nothing can fail any more. Where it
 * lies is memory, a device or an APIC-access page. Locating asks the leaves, then walks, and leaves an entry behind
 * for the fast path.
 *
 * Kept true: a failed access has changed nothing but accessed and dirty flags. Accesses to devices and to decoded code
 * cut the running block.
 *
 * Follows [SDM3 "Alignment Checking", "Breakpoint Exception (#BP)—Debug Registers", "APIC-Access VM Exits"], [SDM1
 * "Canonical Addressing"].
 */
#include "mmu/access.h"

#include "mmu/walk.h"

mem_apic_hook *mem_apic_virtual_access;

/* Where a part of an access lies. */
struct target {
    u64 where;                 /* offset in memory, hpa, or offset in the APIC-access page */
    u32 flags;                 /* LEAF_MEMORY: memory */
    int apic_frame;            /* ≥ 0: in that frame's APIC-access page */
    u64 carried;               /* la, when an outer hypervisor has carried the access out; 0: no */
};

/* What the caller wants with the n bytes: for outer hypervisors that will do it in the guest's stead. */
struct purpose {
    enum carry_kind kind;      /* CARRY_NONE: only to see whether it could be done */
    const u8 *data;            /* CARRY_WRITE */
};

/* ---- locating ---------------------------------------------------------------------------------------------------- */

static enum shadow_use shadow_use(const struct cpu *cpu, unsigned access)
{
    if (LIKELY(!(access & ACCESS_SHADOW_STACK)))
        return SHADOW_NONE;
    return walk_user_access(cpu, access) ? SHADOW_USER : SHADOW_SUPERVISOR;
}

static bool leaf_allows(const struct cpu *cpu, u32 flags, unsigned access)
{
    u32 need = access & ACCESS_EXEC ? LEAF_EXECUTE : access & ACCESS_WRITE ? LEAF_WRITE_THROUGH : LEAF_READ;
    if (UNLIKELY(shadow_use(cpu, access) == SHADOW_SUPERVISOR))
        need = access & ACCESS_WRITE ? LEAF_SHADOW_WRITE : LEAF_SHADOW_READ;
    return flags & need && !walk_denied(cpu, flags, access);
}

/* Lets the fast path take the page in the running mode, as far as its rights and what lies there allow. */
static void entry_fill(struct cpu *cpu, const struct tlb_leaf *leaf)
{
    bool write = leaf_allows(cpu, leaf->flags, ACCESS_WRITE) &&
                 !(cpu->bus->page_flags[leaf->where / PAGE_SIZE] & (PAGE_CODE | PAGE_ROM | PAGE_WATCHED));
    tlb_entry_put(cpu, leaf->la, leaf->where, cpu->tlb->live_tag & 3, leaf_allows(cpu, leaf->flags, ACCESS_READ), write);
}

/* The leaf of la's page after walking all tables for this access of n bytes. NULL: a fault, or *apic_frame is set. */
static struct tlb_leaf *leaf_walk(struct cpu *cpu, u64 la, unsigned n, unsigned access, enum tlb_side side, int *apic_frame)
{
    struct la_result r;
    struct gpa_result g;

    *apic_frame = -1;
    if (!walk_translate(cpu, la, access, false, &r))
        return NULL;
    struct gpa_use use = {.access = access & (ACCESS_WRITE | ACCESS_EXEC), .side = (u8)side, .has_la = true, .own = true, .la = la,
                          .user = r.flags & LEAF_USER, .page = r.flags, .unverified = r.unverified, .size = (u16)n,
                          .shadow = (u8)shadow_use(cpu, access)};
    if (!ept_translate(cpu, cpu->vmx.depth, r.gpa, &use, &g))
        return NULL;
    if (UNLIKELY(g.apic_frame >= 0)) {
        *apic_frame = g.apic_frame;
        return NULL;
    }

    u32 flags = r.flags & ~(u32)(LEAF_WRITE_THROUGH | LEAF_EXECUTE);
    if (g.flags & GPA_READ)
        flags |= LEAF_READ;
    if (r.flags & LEAF_WRITE_THROUGH && g.flags & GPA_WRITE)
        flags |= LEAF_WRITE_THROUGH;
    if (g.flags & GPA_SHADOW_READ)
        flags |= LEAF_SHADOW_READ;
    if (r.flags & LEAF_WRITE_THROUGH && g.flags & GPA_SHADOW_WRITE)
        flags |= LEAF_SHADOW_WRITE;
    if (r.flags & LEAF_EXECUTE && g.flags & (use.user ? GPA_EXECUTE_USER : GPA_EXECUTE_SUPERVISOR))
        flags |= LEAF_EXECUTE;
    u64 where = bus_memory_offset(cpu->bus, g.hpa);
    if (where != BUS_NO_RAM)
        flags |= LEAF_MEMORY;
    else
        where = g.hpa;
    return tlb_leaf_put(cpu, la, side, where, flags, r.shift);
}

/* The size of the next access to a device: n bytes are left at hpa. Aligned, at most 8. */
static unsigned device_size(u64 hpa, unsigned n)
{
    if (n == 2 || n == 4 || n == 8)
        return n;              /* the program's own access, aligned or not */
    unsigned size = 8;
    while (size > n || hpa & (size - 1))
        size /= 2;
    return size;
}

static const struct vmx_carried_access *carried_access(const struct cpu *cpu, enum carry_kind kind, u64 la, unsigned size)
{
    for (u64 i = 0; i < cpu->vmx.carried.count; i++) {
        const struct vmx_carried_access *a = &cpu->vmx.carried.access[i];
        if (a->kind == kind && a->where == la && a->size == size)
            return a;
    }
    return NULL;
}

/* The access failed in an outer frame's EPT. True: its hypervisor has carried it out already. False: cpu->fault says
 * what is still to be done, at most 8 bytes of it. */
static COLD bool access_carried(struct cpu *cpu, u64 la, unsigned n, const struct purpose *purpose)
{
    struct mem_fault *fault = &cpu->fault;
    for (unsigned at = 0, size; at < n; at += size) {
        size = device_size(la + at, n - at);
        if (carried_access(cpu, purpose->kind, la + at, size))
            continue;
        fault->la = la + at;
        fault->gpa += at;
        fault->carry = purpose->kind;
        fault->carry_size = size;
        fault->carry_value = 0;
        if (purpose->kind == CARRY_WRITE)
            memcpy(&fault->carry_value, purpose->data + at, size);
        return false;
    }
    return true;
}

static bool page_locate(struct cpu *cpu, u64 la, unsigned n, unsigned access, const struct purpose *purpose, struct target *t)
{
    t->carried = 0;
    enum tlb_side side = access & ACCESS_EXEC ? SIDE_FETCH : SIDE_DATA;
    struct tlb_leaf *leaf = tlb_leaf_find(cpu, la, side);
    if (!leaf || !leaf_allows(cpu, leaf->flags, access)) {
        leaf = leaf_walk(cpu, la, n, access, side, &t->apic_frame);
        if (!leaf) {
            if (t->apic_frame < 0) {
                const struct mem_fault *fault = &cpu->fault;
                if (LIKELY(!fault->own_page || fault->frame + 1 >= cpu->vmx.depth || purpose->kind == CARRY_NONE) ||
                    !access_carried(cpu, la, n, purpose))
                    return false;
                t->carried = la;
                t->flags = 0;
                return true;
            }
            t->where = la & 0xfff;
            t->flags = 0;
            if (!(access & ACCESS_EXEC) && mem_apic_virtual_access &&
                mem_apic_virtual_access(cpu, (unsigned)t->apic_frame, la & 0xfff, n, access & ACCESS_WRITE, NULL))
                return true;
            walk_apic_fault(cpu, (unsigned)t->apic_frame, la & 0xfff, access, true, la);
            return false;
        }
    }
    t->apic_frame = -1;
    t->flags = leaf->flags;
    t->where = leaf->where | (la & 0xfff);
    if (side == SIDE_DATA && leaf->flags & LEAF_MEMORY && !(access & ACCESS_SHADOW_STACK) &&
        tlb_mode_of(cpu, access & ACCESS_SYSTEM) == (cpu->tlb->live_tag & 3))
        entry_fill(cpu, leaf);
    return true;
}

/* Linear-address masking [SDM3 "Linear-Address Masking"]: programs keep data of their own in the upper bits of pointers. The program's
 * own data accesses in 64-bit mode ignore them; bit 63 tells user from supervisor pointers and has to agree with the highest bit that
 * counts, or the address stays not canonical. Entries of the TLB have no such bits, so what has some takes the slow path. */
static COLD u64 lam_masked(const struct cpu *cpu, u64 la)
{
    unsigned bits;
    if (la >> 63)
        bits = !(cpu->sys.cr4 & CR4_LAM_SUP) ? 64 : cpu->mode.paging == PAGING_5LEVEL ? 57 : 48;
    else
        bits = cpu->sys.cr3 & CR3_LAM_U57 ? 57 : cpu->sys.cr3 & CR3_LAM_U48 ? 48 : 64;
    if (bits == 64 || la >> 63 != (la >> (bits - 1) & 1))
        return la;
    return (u64)((i64)(la << (64 - bits)) >> (64 - bits));
}

u64 walk_program_la(const struct cpu *cpu, u64 la, unsigned access)
{
    bool on = cpu->sys.cr4 & CR4_LAM_SUP || cpu->sys.cr3 & (CR3_LAM_U57 | CR3_LAM_U48);
    if (LIKELY(!on) || cpu->mode.code_bits != BITS_64 || access & (ACCESS_SYSTEM | ACCESS_EXEC | ACCESS_SHADOW_STACK))
        return la;
    return lam_masked(cpu, la);
}

/* Truncates la outside IA-32e mode; in it, requires canonical addresses. */
static bool la_check(struct cpu *cpu, u64 *la, unsigned n)
{
    if (!cpu->mode.long_mode) {
        *la = (u32)*la;
        return true;
    }
    unsigned shift = 64 - cpu->mode.la_bits;
    u64 last = *la + (n - 1);
    if (LIKELY((u64)((i64)(*la << shift) >> shift) == *la && (u64)((i64)(last << shift) >> shift) == last))
        return true;
    cpu->fault.kind = FAULT_NONCANONICAL;
    cpu->fault.la = *la;
    return false;
}

/* Numbers of 80 bits must lie on 8-byte boundaries [SDM3 "Alignment Requirements by Data Type"]; 128 bits are checked by
 * the instructions that demand them. */
static bool misaligned(const struct cpu *cpu, u64 la, unsigned n, unsigned access)
{
    unsigned boundary = n == 10 ? 8 : n <= 8 && (n & (n - 1)) == 0 ? n : 1;
    return cpu->mode.cpl == 3 && cpu->core.rflags_rest & FL_AC && cpu->sys.cr0 & CR0_AM &&
           !(access & (ACCESS_SYSTEM | ACCESS_EXEC | ACCESS_SHADOW_STACK | ACCESS_UNALIGNED)) && la & (boundary - 1);
}

/* Where the n bytes (1..4096) at la lie: the part in the first page, `first` bytes long, and the rest in the next one. */
static bool locate(struct cpu *cpu, u64 la, unsigned n, unsigned access, const struct purpose *purpose, struct target t[2],
                   unsigned *first)
{
    cpu->fault.carry = CARRY_NONE;
    cpu->fault.own_page = 0;
    if (access & ACCESS_SYSTEM)
        cpu->fault.stack_segment = 0;
    if (!la_check(cpu, &la, n))
        return false;
    cpu->fault.stack_segment = 0;
    if (UNLIKELY(misaligned(cpu, la, n, access))) {
        cpu->fault.kind = FAULT_ALIGNMENT;
        cpu->fault.la = la;
        return false;
    }
    unsigned rest = PAGE_SIZE - (la & (PAGE_SIZE - 1));
    *first = n < rest ? n : rest;
    if (!page_locate(cpu, la, *first, access, purpose, &t[0]))
        return false;
    if (LIKELY(*first == n))
        return true;
    u64 next = la + *first;
    struct purpose rest_of = {purpose->kind, purpose->data ? purpose->data + *first : NULL};
    return page_locate(cpu, cpu->mode.long_mode ? next : (u32)next, n - *first, access, &rest_of, &t[1]);
}

/* ---- carrying out ------------------------------------------------------------------------------------------------ */

static void target_read(struct cpu *cpu, const struct target *t, u8 *data, unsigned n)
{
    if (LIKELY(t->flags & LEAF_MEMORY)) {
        memcpy(data, cpu->bus->ram + t->where, n);
        return;
    }
    cpu_cut_block(cpu);
    if (t->carried) {
        for (unsigned at = 0, size; at < n; at += size) {
            size = device_size(t->carried + at, n - at);
            const struct vmx_carried_access *a = carried_access(cpu, CARRY_READ, t->carried + at, size);
            memset(data + at, 0, size);
            if (a)                     /* it is there: page_locate saw it */
                memcpy(data + at, &a->value, size);
        }
        return;
    }
    if (t->apic_frame >= 0) {
        memset(data, 0, n);
        mem_apic_virtual_access(cpu, (unsigned)t->apic_frame, (unsigned)t->where, n, false, data);
        return;
    }
    u64 hpa = t->where;
    for (unsigned size; n; hpa += size, data += size, n -= size) {
        size = device_size(hpa, n);
        u64 value = bus_read(cpu->bus, cpu->index, hpa, size);
        memcpy(data, &value, size);
    }
}

static void target_write(struct cpu *cpu, const struct target *t, const u8 *data, unsigned n)
{
    if (LIKELY(t->flags & LEAF_MEMORY)) {
        u8 flags = cpu->bus->page_flags[t->where / PAGE_SIZE];
        if (flags & PAGE_ROM)
            return;
        memcpy(cpu->bus->ram + t->where, data, n);
        if (flags & (PAGE_CODE | PAGE_WATCHED) && bus_note_write(cpu->bus, t->where, n))
            cpu_cut_block(cpu);
        return;
    }
    cpu_cut_block(cpu);
    if (t->carried)
        return;
    if (t->apic_frame >= 0) {
        u8 copy[PAGE_SIZE];
        memcpy(copy, data, n);
        mem_apic_virtual_access(cpu, (unsigned)t->apic_frame, (unsigned)t->where, n, true, copy);
        return;
    }
    u64 hpa = t->where;
    for (unsigned size; n; hpa += size, data += size, n -= size) {
        size = device_size(hpa, n);
        u64 value = 0;
        memcpy(&value, data, size);
        bus_write(cpu->bus, cpu->index, hpa, size, value);
    }
}

/* Data breakpoints: traps after the instruction. They see the program's own accesses. */
static void breakpoints_note(struct cpu *cpu, u64 la, unsigned n, bool write)
{
    static const u8 lengths[4] = {1, 2, 8, 4};
    u64 dr7 = cpu->sys.dr7;

    if (!cpu->mode.long_mode)
        la = (u32)la;
    for (unsigned i = 0; i < 4; i++) {
        unsigned kind = dr7 >> (16 + 4 * i) & 3, length = lengths[dr7 >> (18 + 4 * i) & 3];
        if (!(dr7 >> (2 * i) & 3) || !(kind == 3 || (kind == 1 && write)))
            continue;
        u64 start = cpu->sys.dr[i] & ~(u64)(length - 1);
        if (start <= la + (n - 1) && la <= start + (length - 1)) {
            cpu->event.pending_debug |= BIT(i) | BIT(12); /* bit 12: one that is enabled, as VMX reports it */
            cpu->event.attention |= ATT_PENDING_DB;
            cpu_cut_block(cpu);
        }
    }
}

bool mem_read_slow(struct cpu *cpu, u64 la, void *data, unsigned n, unsigned access)
{
    struct target t[2];
    unsigned first;

    if (n == 0)
        return true;
    la = walk_program_la(cpu, la, access);
    if (!locate(cpu, la, n, access, &(struct purpose){.kind = CARRY_READ}, t, &first))
        return false;
    target_read(cpu, &t[0], data, first);
    if (first < n)
        target_read(cpu, &t[1], (u8 *)data + first, n - first);
    if (UNLIKELY(cpu->sys.dr7 & 0xff) && !(access & (ACCESS_SYSTEM | ACCESS_EXEC)))
        breakpoints_note(cpu, la, n, false);
    return true;
}

bool mem_write_slow(struct cpu *cpu, u64 la, const void *data, unsigned n, unsigned access)
{
    struct target t[2];
    unsigned first;

    if (n == 0)
        return true;
    la = walk_program_la(cpu, la, access);
    if (!locate(cpu, la, n, access | ACCESS_WRITE, &(struct purpose){CARRY_WRITE, data}, t, &first))
        return false;
    target_write(cpu, &t[0], data, first);
    if (first < n)
        target_write(cpu, &t[1], (const u8 *)data + first, n - first);
    if (UNLIKELY(cpu->sys.dr7 & 0xff) && !(access & ACCESS_SYSTEM))
        breakpoints_note(cpu, la, n, true);
    return true;
}

bool mem_probe(struct cpu *cpu, u64 la, unsigned n, unsigned access)
{
    struct target t[2];
    unsigned first;

    la = walk_program_la(cpu, la, access);
    for (unsigned part; n; la += part, n -= part) {
        part = n < PAGE_SIZE ? n : PAGE_SIZE;
        if (!locate(cpu, la, part, access & ~(unsigned)ACCESS_PROBE, &(struct purpose){.kind = CARRY_NONE}, t, &first))
            return false;
    }
    return true;
}

/* ---- others ------------------------------------------------------------------------------------------------------ */

bool mem_fetch_page(struct cpu *cpu, u64 la, const u8 **host, u64 *ram_page_offset)
{
    struct target t;

    cpu->fault.stack_segment = 0;
    if (!la_check(cpu, &la, 1) || !page_locate(cpu, la, 1, ACCESS_EXEC, &(struct purpose){.kind = CARRY_NONE}, &t))
        return false;
    tlb_note_fetch(cpu, la);
    *ram_page_offset = t.flags & LEAF_MEMORY ? t.where & ~0xfffull : BUS_NO_RAM;
    *host = t.flags & LEAF_MEMORY ? cpu->bus->ram + *ram_page_offset : NULL;
    return true;
}

bool mem_fetch_cached(struct cpu *cpu, u64 la, u64 *ram_page_offset)
{
    const struct tlb_leaf *leaf = tlb_leaf_find(cpu, la, SIDE_FETCH);
    if (!leaf || !(leaf->flags & LEAF_MEMORY) || !leaf_allows(cpu, leaf->flags, ACCESS_EXEC))
        return false;
    tlb_note_fetch(cpu, la);
    *ram_page_offset = leaf->where & ~0xfffull;
    return true;
}

bool mem_peek_translate(struct cpu *cpu, u64 la, u64 *hpa)
{
    struct la_result r;
    struct gpa_result g;

    la = walk_program_la(cpu, la, 0);
    if (!cpu->mode.long_mode)
        la = (u32)la;
    unsigned shift = 64 - cpu->mode.la_bits;
    if (cpu->mode.long_mode && (u64)((i64)(la << shift) >> shift) != la)
        return false;
    if (!walk_translate(cpu, la, 0, true, &r))
        return false;
    struct gpa_use use = {.peek = true};
    if (!ept_translate(cpu, cpu->vmx.depth, r.gpa, &use, &g) || g.apic_frame >= 0)
        return false;
    *hpa = g.hpa;
    return true;
}
