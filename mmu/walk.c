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

enum { PTE_P = 1 << 0, PTE_W = 1 << 1, PTE_U = 1 << 2, PTE_A = 1 << 5, PTE_D = 1 << 6, PTE_PS = 1 << 7, PTE_G = 1 << 8 };
#define PTE_NX BIT(63)

enum { PF_P = 1 << 0, PF_W = 1 << 1, PF_U = 1 << 2, PF_RSVD = 1 << 3, PF_ID = 1 << 4, PF_PK = 1 << 5, PF_SS = 1 << 6 };

static bool user_access(const struct cpu *cpu, unsigned access)
{
    return access & ACCESS_USER || (cpu->mode.cpl == 3 && !(access & ACCESS_SYSTEM));
}

static bool page_fault(struct cpu *cpu, u64 la, unsigned access, u32 cause)
{
    u32 error = cause;
    if (access & ACCESS_WRITE)
        error |= PF_W;
    if (user_access(cpu, access))
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
    bool user = user_access(cpu, access), wp = sys->cr0 & CR0_WP;

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

/* Through the EPTs to an entry of the running level's paging structures. */
static bool entry_locate(struct cpu *cpu, u64 gpa, const struct gpa_use *use, u64 *hpa)
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
    return true;
}

/* Reads an entry of the running level's paging structures: directly where no EPT is in force or the space knows the table's page. */
static inline bool entry_load(struct cpu *cpu, const struct gpa_space *space, const struct gpa_use *use, u64 gpa, unsigned size, u64 *value)
{
    u64 hpa = gpa;
    if (space) {
        const struct gpa_entry *e = &space->entries[use->side][gpa >> 12 & (SPACE_ENTRIES - 1)];
        bool known = e->gpa == (gpa & ~0xfffull) && e->generation == space->generation && e->flags & GPA_TABLE;
        if (LIKELY(known && space->chain.depth == cpu->vmx.depth && !use->peek))
            hpa = e->hpa | (gpa & 0xfff);
        else if (!entry_locate(cpu, gpa, use, &hpa))
            return false;
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

struct walk_step {
    u64 gpa, entry;
};

/* Sets A in the entries used and D in the last, for a write. */
static bool set_flags(struct cpu *cpu, const struct walk_step *step, unsigned count, unsigned size, bool write,
                      struct gpa_use *use)
{
    for (unsigned i = 0; i < count; i++) {
        u64 flags = PTE_A | (write && i == count - 1 ? PTE_D : 0);
        if ((step[i].entry & flags) == flags)
            continue;
        u64 hpa;
        use->access = ACCESS_WRITE;
        if (!entry_locate(cpu, step[i].gpa, use, &hpa))
            return false;
        walk_store(cpu, hpa, size, step[i].entry | flags);
    }
    return true;
}

bool walk_translate(struct cpu *cpu, u64 la, unsigned access, bool peek, struct la_result *result)
{
    const struct cpu_sys *sys = &cpu->sys;
    struct walk_step step[5];
    unsigned count = 0, shift, size = 8, index_bits = 9;
    u64 table, address = mask_low(walk_pa_bits(cpu)) & ~0xfffull;

    switch (cpu->mode.paging) {
    case PAGING_NONE:
        *result = (struct la_result){.gpa = la, .shift = 12, .flags = LEAF_WRITABLE | LEAF_USER | LEAF_EXECUTE |
                                     LEAF_WRITE_THROUGH};
        return true;
    case PAGING_32:
        shift = 22, size = 4, index_bits = 10;
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
    u64 entry, rights = PTE_W | PTE_U, above = PTE_W, no_execute = 0;
    const struct gpa_space *space = tlb_space(cpu, cpu->vmx.depth);
    for (;; shift -= index_bits) {
        struct walk_step *s = &step[count++];
        s->gpa = table + (la >> shift & mask_low(index_bits)) * size;
        if (!entry_load(cpu, space, &use, s->gpa, size, &s->entry))
            return false;
        entry = s->entry;
        if (!(entry & PTE_P))
            return peek ? false : page_fault(cpu, la, access, 0);
        bool leaf = is_leaf(cpu, shift, entry);
        if (entry & reserved_bits(cpu, shift, leaf))
            return peek ? false : page_fault(cpu, la, access, PF_P | PF_RSVD);
        above = rights;
        rights &= entry;
        no_execute |= entry & PTE_NX;
        if (leaf)
            break;
        table = entry & address;
    }

    u64 base = entry & address;
    if (cpu->mode.paging == PAGING_32 && shift == 22)
        base = (entry & 0xffc00000) | (entry >> 13 & 0xff) << 32;
    result->gpa = (base & ~mask_low(shift)) | (la & mask_low(shift));
    result->shift = shift;
    result->pat = (entry >> 3 & 3) | (unsigned)(entry >> (shift == 12 ? 7 : 12) & 1) << 2;
    u32 flags = no_execute ? 0 : LEAF_EXECUTE;
    if (rights & PTE_W)
        flags |= LEAF_WRITABLE;
    if (rights & PTE_U)
        flags |= LEAF_USER;
    if (entry & PTE_G && sys->cr4 & CR4_PGE)
        flags |= LEAF_GLOBAL;
    if (above & PTE_W && !(entry & PTE_W) && entry & PTE_D)
        flags |= LEAF_SHADOW_STACK;
    if (cpu->mode.paging >= PAGING_4LEVEL)
        flags |= (u32)(entry >> 59 & 15) << LEAF_KEY_SHIFT;

    if (!peek) {
        u32 denied = walk_denied(cpu, flags, access);
        if (denied)
            return page_fault(cpu, la, access, denied);
        if (!set_flags(cpu, step, count, size, access & ACCESS_WRITE, &use))
            return false;
        if (access & ACCESS_WRITE)
            entry |= PTE_D;
    }
    result->flags = flags | (entry & PTE_D ? LEAF_WRITE_THROUGH : 0);
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
        if (!entry_locate(cpu, (cr3 & 0xffffffe0) + i * 8, &use, &hpa))
            return false;
        walk_load(cpu, hpa, 8, false, &pdpte[i]);
        if (pdpte[i] & PTE_P && pdpte[i] & reserved)
            return false;
    }
    memcpy(cpu->sys.pdpte, pdpte, sizeof(pdpte));
    return true;
}
