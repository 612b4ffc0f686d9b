/* The memory type of an address, as far as software can tell: whether a locked access to it locks the bus.
 *
 * Nestor has no caches, so the type changes no access. Follows [SDM3 "Precedence of Cache Controls", "MTRR Precedences",
 * "Page Attribute Table (PAT)", "EPT and Memory Typing"].
 */
#include "mmu/walk.h"

#include "cpu/features.h"

enum { TYPE_UC = 0, TYPE_WT = 4, TYPE_WB = 6 };
enum { MTRR_FIXED_ENABLE = 1 << 10, MTRR_ENABLE = 1 << 11, MTRR_VALID = 1 << 11 };

static unsigned mtrr_fixed_type(const struct cpu *cpu, u64 hpa)
{
    unsigned word, byte;
    if (hpa < 0x80000)
        word = 0, byte = (unsigned)(hpa >> 16);
    else if (hpa < 0xc0000)
        word = 1 + (unsigned)(hpa - 0x80000) / 0x20000, byte = hpa >> 14 & 7;
    else
        word = 3 + (unsigned)(hpa - 0xc0000) / 0x8000, byte = hpa >> 12 & 7;
    return cpu->sys.mtrr_fixed[word] >> (8 * byte) & 0xff;
}

static unsigned mtrr_type(const struct cpu *cpu, u64 hpa)
{
    const struct cpu_sys *sys = &cpu->sys;
    if (!(sys->mtrr_def_type & MTRR_ENABLE))
        return cpu_has(cpu, FEATURE_MTRR) ? TYPE_UC : TYPE_WB;
    if (sys->mtrr_def_type & MTRR_FIXED_ENABLE && hpa < BIT(20))
        return mtrr_fixed_type(cpu, hpa);
    int found = -1;
    for (unsigned n = 0; n < ARRAY_SIZE(sys->mtrr_physmask); n++) {
        u64 mask = sys->mtrr_physmask[n] & ~0xfffull;
        if (!(sys->mtrr_physmask[n] & MTRR_VALID) || (hpa & mask) != (sys->mtrr_physbase[n] & mask))
            continue;
        int type = sys->mtrr_physbase[n] & 0xff;
        if (found < 0 || found == type)
            found = type;
        else    /* WT goes before WB; what else overlaps has no defined type */
            found = found + type == TYPE_WT + TYPE_WB && type ? TYPE_WT : TYPE_UC;
    }
    return found < 0 ? sys->mtrr_def_type & 0xff : (unsigned)found;
}

/* One page's worth. */
static bool page_write_back(struct cpu *cpu, u64 la)
{
    struct la_result r;
    struct gpa_result g;
    struct gpa_use use = {.peek = true};
    if (!walk_translate(cpu, la, 0, true, &r) || !ept_translate(cpu, cpu->vmx.depth, r.gpa, &use, &g) || g.apic_frame >= 0)
        return true;           /* the access will fault, exit, or be answered from a virtual-APIC page */
    if (cpu->sys.cr0 & CR0_CD || bus_memory_offset(cpu->bus, g.hpa) == BUS_NO_RAM)
        return false;
    bool pat = cpu->mode.paging == PAGING_NONE || g.ignores_pat || (cpu->sys.pat >> (8 * r.pat) & 7) == TYPE_WB;
    return pat && (g.through_ept ? g.write_back : mtrr_type(cpu, g.hpa) == TYPE_WB);
}

bool mem_write_back(struct cpu *cpu, u64 la, unsigned n)
{
    la = walk_program_la(cpu, la, 0);
    u64 last = la + (n - 1);
    if (!cpu->mode.long_mode)
        la = (u32)la, last = (u32)last;
    return page_write_back(cpu, la) && ((la ^ last) < PAGE_SIZE || page_write_back(cpu, last));
}
