/* Extended page tables of any number of frames: gpa of the innermost guest -> hpa.
 *
 * Frame k's EPT maps addresses of L(k+2) to addresses of L(k+1); its tables lie in L(k+1)'s space, so each of its
 * entries is found through frames k-1 .. 0 in turn. What comes out is cached by page in the space of the chain, so
 * that the recursion mostly takes one step. A frame without EPT lets addresses pass.
 *
 * Flags and rights of a frame are looked at for its own guest's access: the innermost frame sees a page walk as the
 * SDM says (with accessed and dirty flags enabled it counts as writing), the outer ones see what reaches their memory:
 * reads of entries and writes of flags. A frame's accessed and dirty flags are set when its walk is known to succeed.
 *
 * Follows [SDM3 "The Extended Page Table Mechanism (EPT)"]: "EPT Translation Mechanism", "EPT-Induced VM Exits",
 * "Accessed and Dirty Flags for EPT", "Page-Modification Logging"; [SDM3 "Exit Qualification for EPT Violations"].
 */
#include "mmu/walk.h"

enum { EPT_R = 1 << 0, EPT_W = 1 << 1, EPT_X = 1 << 2, EPT_IGNORE_PAT = 1 << 6, EPT_LARGE = 1 << 7, EPT_A = 1 << 8, EPT_D = 1 << 9,
       EPT_XU = 1 << 10 };
#define EPT_SUPPRESS_VE BIT(63)

enum { QUAL_READ = 1 << 0, QUAL_WRITE = 1 << 1, QUAL_FETCH = 1 << 2, QUAL_RIGHTS_SHIFT = 3, QUAL_USER_EXECUTE = 1 << 6,
       QUAL_LA_VALID = 1 << 7, QUAL_LA_ITSELF = 1 << 8 };

void walk_apic_fault(struct cpu *cpu, unsigned frame, unsigned offset, unsigned access, bool linear, u64 la)
{
    u64 type = access & ACCESS_EXEC ? 2 : access & ACCESS_WRITE ? 1 : 0;
    if (linear && cpu->event.delivering)
        type = 3;
    if (!linear)
        type = cpu->event.delivering ? 10 : 15;
    cpu->fault.kind = FAULT_APIC_ACCESS;
    cpu->fault.frame = frame;
    cpu->fault.la = la;
    cpu->fault.qualification = offset | type << 12;
}

/* The EPT walk of one frame. */
struct ept_walk {
    struct cpu *cpu;
    const struct gpa_use *use;
    unsigned frame;
    u64 gpa;                   /* being translated, in the space of the frame's guest */
    bool flags_enabled;        /* accessed and dirty flags */
    bool mode_based;
    u64 rights;                /* of all entries so far: R, W, X, XU */
    u64 entry;                 /* the last one: its bit 63 decides whether a violation may become #VE */
};

static bool violation(const struct ept_walk *w)
{
    const struct gpa_use *use = w->use;
    u64 q = use->access & ACCESS_EXEC ? QUAL_FETCH : use->access & ACCESS_WRITE ? QUAL_WRITE : QUAL_READ;
    if (use->table && w->flags_enabled)
        q = QUAL_READ | QUAL_WRITE;
    q |= (w->rights & 7) << QUAL_RIGHTS_SHIFT;
    if (w->mode_based && w->rights & EPT_XU)
        q |= QUAL_USER_EXECUTE;
    if (use->has_la)
        q |= QUAL_LA_VALID | (use->table ? 0 : QUAL_LA_ITSELF);
    w->cpu->fault.kind = FAULT_EPT_VIOLATION;
    w->cpu->fault.frame = w->frame;
    w->cpu->fault.gpa = w->gpa;
    w->cpu->fault.la = use->la;
    w->cpu->fault.qualification = q;
    w->cpu->fault.convertible = !(w->entry & EPT_SUPPRESS_VE);
    w->cpu->fault.own_page = use->own;
    return false;
}

static bool misconfiguration(const struct ept_walk *w)
{
    w->cpu->fault.kind = FAULT_EPT_MISCONFIG;
    w->cpu->fault.frame = w->frame;
    w->cpu->fault.gpa = w->gpa;
    w->cpu->fault.la = w->use->la;
    w->cpu->fault.qualification = 0;
    w->cpu->fault.own_page = w->use->own;
    return false;
}

/* [SDM3 "EPT Misconfigurations"]; the entry is present. Execute-only translations are supported. */
static bool misconfigured(const struct ept_walk *w, u64 entry, unsigned shift, bool leaf)
{
    u64 reserved = mask_low(52) & ~mask_low(walk_pa_bits(w->cpu));
    if (!(entry & EPT_R) && entry & EPT_W)
        return true;
    if (leaf) {
        unsigned type = entry >> 3 & 7;
        if (type == 2 || type == 3 || type == 7)
            return true;
        reserved |= mask_low(shift) & ~mask_low(12);
    } else {
        reserved |= shift >= 39 ? 0xf8 : 0x78;
    }
    return entry & reserved;
}

/* An address of frame's hypervisor, used by the processor itself: EPT entries, the modification log. */
static bool hypervisor_address(struct cpu *cpu, unsigned frame, u64 gpa, unsigned access, const struct gpa_use *use, u64 *hpa)
{
    struct gpa_use inner = {.access = (u8)access, .side = use->side, .peek = use->peek};
    struct gpa_result at;
    if (!ept_translate(cpu, frame, gpa, &inner, &at))
        return false;
    if (at.apic_frame >= 0) {
        if (!use->peek)
            walk_apic_fault(cpu, (unsigned)at.apic_frame, gpa & 0xfff, access, false, 0);
        return false;
    }
    *hpa = at.hpa;
    return true;
}

/* The frame's dirty flag for this page is about to be set: logs the page if asked to [SDM3 "Page-Modification
 * Logging"]. */
static bool log_modification(const struct ept_walk *w)
{
    struct vmcs *vmcs = &w->cpu->vmx.frame[w->frame].vmcs;
    if (!(frame_secondary(vmcs) & FRAME_PML))
        return true;
    u64 index = vmcs->pml_index & 0xffff, hpa;
    if (index > 511) {
        w->cpu->fault.kind = FAULT_EPT_LOG_FULL;
        w->cpu->fault.frame = w->frame;
        w->cpu->fault.gpa = w->gpa;
        w->cpu->fault.la = w->use->la;
        w->cpu->fault.qualification = 0;
        return false;
    }
    if (!hypervisor_address(w->cpu, w->frame, (vmcs->pml_address & ~0xfffull) + index * 8, ACCESS_WRITE, w->use, &hpa))
        return false;
    walk_store(w->cpu, hpa, 8, w->gpa & ~0xfffull);
    vmcs->pml_index = (index - 1) & 0xffff;
    return true;
}

/* Through the frame's own EPT: gpa -> address of its hypervisor. `granted`: GPA_* bits that this frame grants from now
 * on. */
static bool frame_translate(struct ept_walk *w, u64 *out, u32 *granted)
{
    struct cpu *cpu = w->cpu;
    const struct vmcs *vmcs = &cpu->vmx.frame[w->frame].vmcs;
    const struct gpa_use *use = w->use;
    u64 eptp = vmcs->ept_pointer, address = mask_low(walk_pa_bits(cpu)) & ~0xfffull;
    unsigned levels = (eptp >> 3 & 7) == 4 ? 5 : 4, count = 0, shift = 12 + 9 * (levels - 1);
    struct { u64 gpa, entry; } step[5];
    u64 table = eptp & address, entry;

    w->flags_enabled = eptp >> 6 & 1;
    w->mode_based = frame_secondary(vmcs) & FRAME_MODE_BASED_EXECUTE;
    u64 present = EPT_R | EPT_W | EPT_X | (w->mode_based ? EPT_XU : 0);
    w->rights = present;
    if (w->gpa >> (shift + 9)) {
        w->rights = 0;
        w->entry = EPT_SUPPRESS_VE;    /* there is no entry that could allow it */
        return use->peek ? false : violation(w);
    }
    for (;; shift -= 9) {
        u64 hpa;
        step[count].gpa = table + (w->gpa >> shift & 511) * 8;
        if (!hypervisor_address(cpu, w->frame, step[count].gpa, ACCESS_READ, use, &hpa) ||
            !walk_load(cpu, hpa, 8, use->peek, &entry))
            return false;
        step[count++].entry = w->entry = entry;
        w->rights &= entry;
        if (!(entry & present))
            return use->peek ? false : violation(w);
        bool leaf = shift == 12 || ((shift == 21 || shift == 30) && entry & EPT_LARGE);
        if (misconfigured(w, entry, shift, leaf))
            return use->peek ? false : misconfiguration(w);
        if (leaf)
            break;
        table = entry & address;
    }
    *out = (entry & address & ~mask_low(shift)) | (w->gpa & mask_low(shift));

    bool writes = use->access & ACCESS_WRITE || (use->table && w->flags_enabled);
    if (!use->peek) {
        u64 need = writes ? EPT_W : 0;
        if (use->access & ACCESS_EXEC)
            need |= w->mode_based && use->user ? EPT_XU : EPT_X;
        else if (!(use->access & ACCESS_WRITE))
            need |= EPT_R;
        if ((w->rights & need) != need)
            return violation(w);
        for (unsigned i = 0; w->flags_enabled && i < count; i++) {
            u64 hpa, flags = EPT_A | (writes && i == count - 1 ? EPT_D : 0);
            if ((step[i].entry & flags) == flags)
                continue;
            if (!hypervisor_address(cpu, w->frame, step[i].gpa, ACCESS_WRITE, use, &hpa))
                return false;
            if (flags & ~step[i].entry & EPT_D && !log_modification(w))
                return false;
            walk_store(cpu, hpa, 8, step[i].entry | flags);
        }
    }
    bool dirty = !w->flags_enabled || writes || entry & EPT_D;
    u32 g = w->rights & EPT_R ? GPA_READ : 0;
    if (w->rights & EPT_W && dirty)
        g |= GPA_WRITE;
    if (w->rights & EPT_X)
        g |= GPA_EXECUTE_SUPERVISOR;
    if (w->rights & (w->mode_based ? EPT_XU : EPT_X))
        g |= GPA_EXECUTE_USER;
    if (g & GPA_READ && (!w->flags_enabled || g & GPA_WRITE))
        g |= GPA_TABLE;
    *granted = g;
    return true;
}

/* The GPA_* bits that a use needs of a cached translation. */
static u32 needed(const struct gpa_use *use)
{
    if (use->access & ACCESS_WRITE)
        return GPA_WRITE;
    if (use->access & ACCESS_EXEC)
        return use->user ? GPA_EXECUTE_USER : GPA_EXECUTE_SUPERVISOR;
    return use->table ? GPA_TABLE : GPA_READ;
}

bool ept_translate(struct cpu *cpu, unsigned levels, u64 gpa, const struct gpa_use *use, struct gpa_result *result)
{
    struct gpa_space *space = tlb_space(cpu, levels);
    if (LIKELY(!space)) {
        *result = (struct gpa_result){.hpa = gpa, .flags = GPA_ALL, .apic_frame = -1, .write_back = true};
        return true;
    }
    unsigned frame = space->chain.depth - 1;
    struct gpa_use outer = {.access = use->access, .side = use->side, .user = use->user, .own = use->own,
                            .peek = use->peek};
    if (frame != levels - 1)
        use = &outer;          /* frame's guest runs the hypervisor of a frame without EPT: it is not its la, nor its table */
    struct gpa_entry *e = gpa_entry_of(space, use->side, gpa);
    u32 need = needed(use);
    if (e->gpa == (gpa & ~0xfffull) && e->generation == space->generation && (e->flags & need) == need && !use->peek) {
        *result = (struct gpa_result){.hpa = e->hpa | (gpa & 0xfff), .flags = e->flags, .apic_frame = -1};
        return true;
    }

    const struct tlb_place *place = &space->chain.place[space->chain.depth - 1];
    struct ept_walk w = {.cpu = cpu, .use = use, .frame = frame, .gpa = gpa};
    u64 outer_gpa = gpa;
    u32 granted = GPA_ALL;
    if (place->eptp && !frame_translate(&w, &outer_gpa, &granted))
        return false;
    if (UNLIKELY((outer_gpa & ~0xfffull) == place->apic_page)) {
        *result = (struct gpa_result){.apic_frame = (int)frame};
        return true;
    }
    if (!ept_translate(cpu, frame, outer_gpa, &outer, result))
        return false;
    if (result->apic_frame >= 0)
        return true;
    if (use->peek) {
        if (place->eptp) {
            result->through_ept = true;
            result->write_back &= (w.entry >> 3 & 7) == 6;
            result->ignores_pat = w.entry & EPT_IGNORE_PAT;
        }
        return true;
    }

    /* Reading a paging structure is plain reading for the outer frames. */
    u32 outer_flags = (result->flags & ~(u32)GPA_TABLE) | (result->flags & GPA_READ ? GPA_TABLE : 0);
    result->flags = outer_flags & granted;
    /* The recursion may have used this very place of the cache; what is written is right all the same. */
    *e = (struct gpa_entry){.gpa = gpa & ~0xfffull, .hpa = result->hpa & ~0xfffull, .flags = result->flags,
                            .generation = space->generation};
    return true;
}

bool mem_gpa_to_hpa(struct cpu *cpu, unsigned level_depth, u64 gpa, unsigned access, u64 *hpa)
{
    struct gpa_use use = {.side = SIDE_DATA};
    return hypervisor_address(cpu, level_depth, gpa, access & ACCESS_WRITE, &use, hpa);
}
