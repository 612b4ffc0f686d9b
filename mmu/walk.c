/* The guest's own page tables: la -> gpa of the running level, in every paging mode.
 *
 * One loop serves all modes; they differ in the size of an entry, the bits of an index and which bits are reserved.
 * The loop only reads. When the rights are known to suffice, the accessed and dirty flags are set, from the root down;
 * each of the entries is reached through the EPTs for reading and, when a flag is to be set, for writing.
 *
 * Kept true: a walk that faults in the guest's own tables has changed nothing.
 *
 * Follows [SDM3 "Paging"]: "32-Bit Paging", "PAE Paging", "4-Level Paging and 5-Level Paging", "Access Rights",
 * "Page-Fault Exceptions", "Accessed and Dirty Flags", "Shadow-Stack Accesses".
 */
#include "mmu/walk.h"

#include "cpu/features.h"

enum { PTE_P = 1 << 0, PTE_W = 1 << 1, PTE_U = 1 << 2, PTE_A = 1 << 5, PTE_D = 1 << 6, PTE_PS = 1 << 7, PTE_G = 1 << 8,
       PTE_RESTART = 1 << 11 };
#define PTE_NX BIT(63)

enum { PF_P = 1 << 0, PF_W = 1 << 1, PF_U = 1 << 2, PF_RSVD = 1 << 3, PF_ID = 1 << 4, PF_PK = 1 << 5, PF_SS = 1 << 6,
       PF_HLAT = 1 << 7 };

bool walk_user_access(const struct cpu *cpu, unsigned access)
{
    return access & ACCESS_USER || (cpu->mode.cpl == 3 && !(access & ACCESS_SYSTEM));
}

static bool page_fault(struct cpu *cpu, u64 la, unsigned access, u32 cause)
{
    u32 error = cause;
    if (access & ACCESS_WRITE)
        error |= PF_W;
    if (walk_user_access(cpu, access))
        error |= PF_U;
    bool nxe = cpu->sys.efer & EFER_NXE && cpu->sys.cr4 & CR4_PAE;
    if (access & ACCESS_EXEC && (nxe || cpu->sys.cr4 & CR4_SMEP))
        error |= PF_ID;
    if (access & ACCESS_SHADOW_STACK)
        error |= PF_SS;
    cpu->fault.kind = FAULT_PAGE;
    cpu->fault.error = error;
    cpu->fault.la = la;
    return false;
}

/* ---- rights ------------------------------------------------------------------------------------------------------ */

u32 walk_denied(const struct cpu *cpu, u32 flags, unsigned access)
{
    const struct cpu_sys *sys = &cpu->sys;
    bool user = walk_user_access(cpu, access), wp = sys->cr0 & CR0_WP;

    if (cpu->mode.paging == PAGING_NONE)
        return 0;
    if (user && !(flags & LEAF_USER))
        return PF_P;
    if (access & ACCESS_SHADOW_STACK) {
        /* Supervisor shadow stacks lie in supervisor pages only. */
        if (!(flags & LEAF_SHADOW_STACK) || user != !!(flags & LEAF_USER))
            return PF_P;
    } else if (access & ACCESS_EXEC) {
        if (!(flags & LEAF_EXECUTE) || (!user && flags & LEAF_USER && sys->cr4 & CR4_SMEP))
            return PF_P;
        return 0;
    } else {
        if (access & ACCESS_WRITE && !(flags & LEAF_WRITABLE) && (user || wp))
            return PF_P;
        if (!user && flags & LEAF_USER && sys->cr4 & CR4_SMAP &&
            (access & ACCESS_SYSTEM || !(cpu->core.rflags_rest & FL_AC)))
            return PF_P;
    }
    /* Protection keys: of user pages whoever accesses them, of supervisor pages with PKS. They do not concern fetches. */
    if (cpu->mode.paging < PAGING_4LEVEL || !(sys->cr4 & (flags & LEAF_USER ? CR4_PKE : CR4_PKS)))
        return 0;
    u32 keys = (u32)(flags & LEAF_USER ? sys->pkru : sys->pkrs) >> (2 * (flags >> LEAF_KEY_SHIFT & 15));
    if (keys & 1 || (keys & 2 && access & ACCESS_WRITE && (user || wp)))
        return PF_P | PF_PK;
    return 0;
}

/* ---- entries ----------------------------------------------------------------------------------------------------- */

bool walk_load(struct cpu *cpu, u64 hpa, unsigned size, bool peek, u64 *value)
{
    u64 off = bus_memory_offset(cpu->bus, hpa);
    if (LIKELY(off != BUS_NO_RAM)) {
        *value = size == 8 ? load64(cpu->bus->ram + off) : load32(cpu->bus->ram + off);
        return true;
    }
    if (peek)
        return false;
    *value = bus_read(cpu->bus, cpu->index, hpa, size);
    cpu_cut_block(cpu);
    return true;
}

void walk_store(struct cpu *cpu, u64 hpa, unsigned size, u64 value)
{
    u64 off = bus_memory_offset(cpu->bus, hpa);
    if (UNLIKELY(off == BUS_NO_RAM || cpu->bus->page_flags[off / PAGE_SIZE] & PAGE_ROM)) {
        bus_write(cpu->bus, cpu->index, hpa, size, value);
        cpu_cut_block(cpu);
        return;
    }
    if (size == 8)
        store64(cpu->bus->ram + off, value);
    else
        store32(cpu->bus->ram + off, (u32)value);
    if (UNLIKELY(bus_note_write(cpu->bus, off, size)))
        cpu_cut_block(cpu);
}

/* Through the EPTs to an entry of the running level's paging structures; *flags: GPA_*. */
static bool entry_locate(struct cpu *cpu, u64 gpa, const struct gpa_use *use, u64 *hpa, u32 *flags)
{
    struct gpa_result at;
    if (!ept_translate(cpu, cpu->vmx.depth, gpa, use, &at))
        return false;
    if (UNLIKELY(at.apic_frame >= 0)) {
        if (!use->peek)
            walk_apic_fault(cpu, (unsigned)at.apic_frame, gpa & 0xfff, use->access, false, 0);
        return false;
    }
    *hpa = at.hpa;
    *flags = at.flags;
    return true;
}

/* Reads an entry of the running level's paging structures: directly where no EPT is in force or the space knows the table's page.
 * *flags: GPA_* of that page. */
static inline bool entry_load(struct cpu *cpu, const struct gpa_space *space, const struct gpa_use *use, u64 gpa, unsigned size, u64 *value,
                              u32 *flags)
{
    u64 hpa = gpa;
    *flags = GPA_ALL;
    if (space) {
        const struct gpa_entry *e = &space->entries[use->side][gpa >> 12 & (SPACE_ENTRIES - 1)];
        bool known = e->gpa == (gpa & ~0xfffull) && e->generation == space->generation && e->flags & GPA_TABLE;
        if (LIKELY(known && space->chain.depth == cpu->vmx.depth && !use->peek)) {
            hpa = e->hpa | (gpa & 0xfff);
            *flags = e->flags;
        } else if (!entry_locate(cpu, gpa, use, &hpa, flags)) {
            return false;
        }
    }
    u64 off = bus_ram_offset(cpu->bus, hpa);
    if (UNLIKELY(off == BUS_NO_RAM))
        return walk_load(cpu, hpa, size, use->peek, value);
    *value = size == 8 ? load64(cpu->bus->ram + off) : load32(cpu->bus->ram + off);
    return true;
}

/* Bits that must be 0 in a present entry at `shift`; leaf: it maps a page. */
static inline u64 reserved_bits(const struct cpu *cpu, unsigned shift, bool leaf)
{
    unsigned pa = walk_pa_bits(cpu);
    if (cpu->mode.paging == PAGING_32) {
        if (!leaf || shift == 12)
            return 0;
        /* A 4 MiB page: bits 39:32 of its address stand in bits 20:13 [SDM3 "Use of CR4.PSE"]. */
        unsigned high = cpu_has(cpu, FEATURE_PSE36) ? (pa < 40 ? pa : 40) - 32 : 0;
        return mask_low(22) & ~mask_low(13 + high);
    }
    u64 reserved = cpu->mode.paging == PAGING_PAE ? mask_low(63) & ~mask_low(pa) : mask_low(52) & ~mask_low(pa);
    if (!(cpu->sys.efer & EFER_NXE))
        reserved |= PTE_NX;
    if (shift > 12 && leaf)
        reserved |= mask_low(shift) & ~mask_low(13);
    if (shift > 12 && !leaf)
        reserved |= PTE_PS;
    return reserved;
}

static bool is_leaf(const struct cpu *cpu, unsigned shift, u64 entry)
{
    switch (shift) {
    case 12: return true;
    case 21: return entry & PTE_PS;
    case 22: return entry & PTE_PS && cpu->sys.cr4 & CR4_PSE;
    case 30: return entry & PTE_PS && cpu_has(cpu, FEATURE_PDPE1GB);
    default: return false;
    }
}

/* One way through paging structures, from a root to what maps the page, or to an entry that says "restart". */
struct walk {
    struct walk_step { u64 gpa, entry; } step[5];
    unsigned count, shift;
    u64 entry;                 /* the last one */
    u64 rights, above;         /* R/W and U/S of all entries; of all but the last */
    u64 no_execute;
    u32 where;                 /* GPA_* that hold for the places of all entries */
    bool restart;
};

/* Sets A in the entries used and D in the last, for a write. */
static bool set_flags(struct cpu *cpu, const struct walk *w, unsigned size, bool write, struct gpa_use *use)
{
    for (unsigned i = 0; i < w->count; i++) {
        u64 flags = PTE_A | (write && i == w->count - 1 ? PTE_D : 0);
        if ((w->step[i].entry & flags) == flags)
            continue;
        u64 hpa;
        u32 where;
        use->access = ACCESS_WRITE;
        if (!entry_locate(cpu, w->step[i].gpa, use, &hpa, &where))
            return false;
        walk_store(cpu, hpa, size, w->step[i].entry | flags);
    }
    return true;
}

/* From `table`, whose entries translate bits from `shift` on. `hlat`: PF_HLAT for tables that the hypervisor manages, 0
 * for those that CR3 names. */
static bool descend(struct cpu *cpu, u64 la, unsigned access, u64 table, unsigned shift, u32 hlat, const struct gpa_use *use,
                    struct walk *w)
{
    bool narrow = cpu->mode.paging == PAGING_32;
    unsigned size = narrow ? 4 : 8, index_bits = narrow ? 10 : 9;
    u64 address = narrow ? 0xfffff000 : mask_low(walk_pa_bits(cpu)) & ~0xfffull;

    const struct gpa_space *space = tlb_space(cpu, cpu->vmx.depth);
    w->count = 0, w->restart = false;
    w->rights = PTE_W | PTE_U, w->above = PTE_W, w->no_execute = 0, w->where = GPA_ALL;
    for (;; shift -= index_bits) {
        struct walk_step *s = &w->step[w->count++];
        u32 where;
        s->gpa = table + (la >> shift & mask_low(index_bits)) * size;
        if (!entry_load(cpu, space, use, s->gpa, size, &s->entry, &where))
            return false;
        w->where &= where;
        w->entry = s->entry;
        if (!(s->entry & PTE_P))
            return use->peek ? false : page_fault(cpu, la, access, hlat);
        bool leaf = is_leaf(cpu, shift, s->entry);
        if (s->entry & reserved_bits(cpu, shift, leaf))
            return use->peek ? false : page_fault(cpu, la, access, PF_P | PF_RSVD | hlat);
        w->shift = shift;
        if (hlat && s->entry & PTE_RESTART) {
            w->restart = true;
            return true;
        }
        w->above = w->rights;
        w->rights &= s->entry;
        w->no_execute |= s->entry & PTE_NX;
        if (leaf)
            return true;
        table = s->entry & address;
    }
}

/* [SDM3 "Hypervisor-Managed Linear-Address Translation (HLAT)"]: the innermost frame translates la, by tables of its own in
 * the guest's memory. */
static bool is_hlat_address(const struct cpu *cpu, u64 la)
{
    if (!cpu->vmx.depth || cpu->mode.paging < PAGING_4LEVEL)
        return false;
    const struct vmcs *vmcs = &cpu->vmx.frame[cpu->vmx.depth - 1].vmcs;
    if (LIKELY(!(frame_tertiary(vmcs) & FRAME_HLAT)))
        return false;
    unsigned prefix = vmcs->hlat_prefix_size & 63;
    return prefix == 0 || la >> (64 - prefix) == mask_low(prefix);
}

bool walk_translate(struct cpu *cpu, u64 la, unsigned access, bool peek, struct la_result *result)
{
    const struct cpu_sys *sys = &cpu->sys;
    struct walk w, hlat;
    unsigned shift;
    hlat.count = 0, hlat.restart = false, hlat.shift = 0;
    u64 table, address = mask_low(walk_pa_bits(cpu)) & ~0xfffull;

    switch (cpu->mode.paging) {
    case PAGING_NONE:
        *result = (struct la_result){.gpa = la, .shift = 12, .flags = LEAF_WRITABLE | LEAF_USER | LEAF_EXECUTE |
                                     LEAF_WRITE_THROUGH};
        return true;
    case PAGING_32:
        shift = 22;
        address = 0xfffff000;
        table = sys->cr3 & address;
        break;
    case PAGING_PAE:
        shift = 21;
        table = sys->pdpte[la >> 30 & 3];
        if (!(table & PTE_P))
            return peek ? false : page_fault(cpu, la, access, 0);
        table &= address;
        break;
    default:
        shift = cpu->mode.paging == PAGING_5LEVEL ? 48 : 39;
        table = sys->cr3 & address;
        break;
    }

    struct gpa_use use = {.side = access & ACCESS_EXEC ? SIDE_FETCH : SIDE_DATA, .table = true, .has_la = true,
                          .peek = peek, .la = la};
    bool managed = is_hlat_address(cpu, la);
    if (UNLIKELY(managed)) {
        u64 root = cpu->vmx.frame[cpu->vmx.depth - 1].vmcs.hlat_pointer & address;
        if (!descend(cpu, la, access, root, shift, PF_HLAT, &use, &hlat))
            return false;
    }
    if (UNLIKELY(managed && !hlat.restart)) {
        w = hlat;
        hlat.count = 0;
    } else if (!descend(cpu, la, access, table, shift, 0, &use, &w)) {
        return false;
    }

    u64 base = w.entry & address;
    if (cpu->mode.paging == PAGING_32 && w.shift == 22)
        base = (w.entry & 0xffc00000) | (w.entry >> 13 & 0xff) << 32;
    result->gpa = (base & ~mask_low(w.shift)) | (la & mask_low(w.shift));
    result->shift = hlat.restart && hlat.shift < w.shift ? hlat.shift : w.shift;
    result->pat = (w.entry >> 3 & 3) | (unsigned)(w.entry >> (w.shift == 12 ? 7 : 12) & 1) << 2;
    result->unverified = !(w.where & GPA_PAGING_WRITE);
    u32 flags = w.no_execute ? 0 : LEAF_EXECUTE;
    if (w.rights & PTE_W)
        flags |= LEAF_WRITABLE;
    if (w.rights & PTE_U)
        flags |= LEAF_USER;
    if (w.entry & PTE_G && sys->cr4 & CR4_PGE)
        flags |= LEAF_GLOBAL;
    if (w.above & PTE_W && !(w.entry & PTE_W) && w.entry & PTE_D)
        flags |= LEAF_SHADOW_STACK;
    if (cpu->mode.paging >= PAGING_4LEVEL)
        flags |= (u32)(w.entry >> 59 & 15) << LEAF_KEY_SHIFT;

    if (!peek) {
        unsigned size = cpu->mode.paging == PAGING_32 ? 4 : 8;
        u32 denied = walk_denied(cpu, flags, access);
        if (denied)
            return page_fault(cpu, la, access, denied);
        if ((hlat.count && !set_flags(cpu, &hlat, size, false, &use)) || !set_flags(cpu, &w, size, access & ACCESS_WRITE, &use))
            return false;
        if (access & ACCESS_WRITE)
            w.entry |= PTE_D;
    }
    result->flags = flags | (w.entry & PTE_D ? LEAF_WRITE_THROUGH : 0);
    return true;
}

/* ---- PAE --------------------------------------------------------------------------------------------------------- */

bool mem_load_pdptes(struct cpu *cpu, u64 cr3)
{
    /* The load is an access to guest-physical addresses: no linear address, and only a read [SDM3 "Loading
     * Paging-Structure Entries: PDPTE Registers", "Accessed and Dirty Flags for EPT"]. */
    struct gpa_use use = {.side = SIDE_DATA};
    u64 pdpte[4], reserved = 0x1e6 | ~mask_low(walk_pa_bits(cpu));

    cpu->fault.kind = FAULT_NONE;
    for (unsigned i = 0; i < 4; i++) {
        u64 hpa;
        u32 where;
        if (!entry_locate(cpu, (cr3 & 0xffffffe0) + i * 8, &use, &hpa, &where))
            return false;
        walk_load(cpu, hpa, 8, false, &pdpte[i]);
        if (pdpte[i] & PTE_P && pdpte[i] & reserved)
            return false;
    }
    memcpy(cpu->sys.pdpte, pdpte, sizeof(pdpte));
    return true;
}
