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
 * "Accessed and Dirty Flags for EPT", "Page-Modification Logging", "Sub-Page Write Permissions"; [SDM3 "Exit Qualification for EPT
 * Violations"].
 */
#include "mmu/walk.h"

enum { EPT_R = 1 << 0, EPT_W = 1 << 1, EPT_X = 1 << 2, EPT_IGNORE_PAT = 1 << 6, EPT_LARGE = 1 << 7, EPT_A = 1 << 8, EPT_D = 1 << 9,
       EPT_XU = 1 << 10 };
#define EPT_VERIFY BIT(57)             /* verify guest paging */
#define EPT_PAGING_WRITE BIT(58)
#define EPT_SHADOW_STACK BIT(60)       /* of supervisors */
#define EPT_SUB_PAGE BIT(61)
#define EPT_SUPPRESS_VE BIT(63)

enum { QUAL_READ = 1 << 0, QUAL_WRITE = 1 << 1, QUAL_FETCH = 1 << 2, QUAL_RIGHTS_SHIFT = 3, QUAL_USER_EXECUTE = 1 << 6,
       QUAL_LA_VALID = 1 << 7, QUAL_LA_ITSELF = 1 << 8, QUAL_PAGE_USER = 1 << 9, QUAL_PAGE_WRITABLE = 1 << 10,
       QUAL_PAGE_NO_EXECUTE = 1 << 11, QUAL_SHADOW_STACK = 1 << 13, QUAL_SHADOW_STACK_PAGE = 1 << 14, QUAL_VERIFICATION = 1 << 15 };

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
    u64 place;                 /* what changes the meaning of entries: PLACE_* */
    u64 above, rights;         /* R, W, X, XU of all entries but the last; of all so far */
    u64 entry;                 /* the last one: its bit 63 decides whether a violation may become #VE */
    bool mapped;               /* it maps the page */
};

static bool flags_enabled(const struct ept_walk *w) { return w->place & PLACE_ACCESSED_DIRTY; }

/* Where guest paging may write [SDM3 "EPT Violations"]: the entry that maps the page can allow it by itself. */
static bool may_write_paging(const struct ept_walk *w)
{
    return w->rights & EPT_W || (w->place & PLACE_PAGING_WRITE && w->entry & EPT_PAGING_WRITE);
}

/* With the supervisor shadow-stack control, what such accesses may do is told by a bit of its own, which does not count
 * unless all tables on the way are writable. */
static bool may_be_shadow_stack(const struct ept_walk *w)
{
    return (w->above & w->entry & EPT_R) && w->above & EPT_W && w->entry & EPT_SHADOW_STACK;
}

static bool violation(const struct ept_walk *w, u64 why)
{
    const struct gpa_use *use = w->use;
    u64 q = why | (use->access & ACCESS_EXEC ? QUAL_FETCH : use->access & ACCESS_WRITE ? QUAL_WRITE : QUAL_READ);
    if (use->table && flags_enabled(w))
        q |= QUAL_READ | QUAL_WRITE;
    q |= (w->rights & 7) << QUAL_RIGHTS_SHIFT;
    if (w->place & PLACE_MODE_BASED_EXECUTE && w->rights & EPT_XU)
        q |= QUAL_USER_EXECUTE;
    if (use->has_la)
        q |= QUAL_LA_VALID | (use->table ? 0 : QUAL_LA_ITSELF);
    if (use->has_la && use->own)
        q |= (use->page & LEAF_USER ? QUAL_PAGE_USER : 0) | (use->page & LEAF_WRITABLE ? QUAL_PAGE_WRITABLE : 0) |
             (use->page & LEAF_EXECUTE ? 0 : QUAL_PAGE_NO_EXECUTE);
    if (use->shadow)
        q |= QUAL_SHADOW_STACK;
    if (w->mapped && w->place & PLACE_SHADOW_STACK && w->entry & EPT_SHADOW_STACK)
        q |= QUAL_SHADOW_STACK_PAGE;
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
    if (!(entry & EPT_R) && (entry & EPT_W || (leaf && w->place & PLACE_PAGING_WRITE && entry & EPT_PAGING_WRITE)))
        return true;
    if (leaf && shift == 30 && w->cpu->ept_small_pages)
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

/* ---- sub-page write permissions [SDM3 "Sub-Page Write Permissions"] ----------------------------------------------- */

static bool spp_event(const struct ept_walk *w, u64 qualification)
{
    w->cpu->fault.kind = FAULT_SPP;
    w->cpu->fault.frame = w->frame;
    w->cpu->fault.gpa = w->gpa;
    w->cpu->fault.la = w->use->la;
    w->cpu->fault.qualification = qualification;
    w->cpu->fault.own_page = w->use->own;
    return false;
}

/* A write that only the entry's missing write access forbids may be one to sub-pages that are writable. */
static bool is_spp_write(const struct ept_walk *w, unsigned shift)
{
    const struct gpa_use *use = w->use;
    return use->own && use->access & ACCESS_WRITE && shift == 12 && w->entry & EPT_SUB_PAGE && w->rights & EPT_R &&
           frame_secondary(&w->cpu->vmx.frame[w->frame].vmcs) & FRAME_SPP;
}

/* Looks the sub-pages up. False: cpu->fault; *allowed: every one that is written may be. */
static bool spp_lookup(const struct ept_walk *w, bool *allowed)
{
    enum { SPP_MISS = 1 << 11 };
    u64 address = mask_low(walk_pa_bits(w->cpu)) & ~0xfffull, entry, hpa;
    u64 table = w->cpu->vmx.frame[w->frame].vmcs.sub_page_permission_table_pointer & address;
    for (unsigned shift = 39;; shift -= 9) {
        if (!hypervisor_address(w->cpu, w->frame, table + (w->gpa >> shift & 511) * 8, ACCESS_READ, w->use, &hpa) ||
            !walk_load(w->cpu, hpa, 8, false, &entry))
            return false;
        if (shift == 12)
            break;
        if (!(entry & 1))
            return spp_event(w, SPP_MISS);
        if (entry & ~(address | 1))
            return spp_event(w, 0);
        table = entry & address;
    }
    if (entry & 0xaaaaaaaaaaaaaaaaull)
        return spp_event(w, 0);
    unsigned first = w->gpa >> 7 & 31, last = first + ((w->gpa & 127) + (w->use->size ? w->use->size : 1u) - 1) / 128;
    *allowed = true;
    for (unsigned n = first; n <= last && n < 32; n++)
        *allowed &= entry >> 2 * n & 1;
    return true;
}

/* ---- one frame --------------------------------------------------------------------------------------------------- */

/* The page is mapped: whether the use may be made of it. False: cpu->fault. */
static bool permitted(const struct ept_walk *w, unsigned shift)
{
    const struct gpa_use *use = w->use;
    bool writes = use->access & ACCESS_WRITE || (use->table && flags_enabled(w)), allowed;
    if (use->access & ACCESS_EXEC) {
        if (!(w->rights & (w->place & PLACE_MODE_BASED_EXECUTE && use->user ? EPT_XU : EPT_X)))
            return violation(w, 0);
    } else if (UNLIKELY(use->shadow == SHADOW_SUPERVISOR && w->place & PLACE_SHADOW_STACK)) {
        if (!may_be_shadow_stack(w))
            return violation(w, 0);
    } else {
        if (!(use->access & ACCESS_WRITE) && !(w->rights & EPT_R))
            return violation(w, 0);
        if (writes && !(use->table ? may_write_paging(w) : !!(w->rights & EPT_W))) {
            if (!is_spp_write(w, shift))
                return violation(w, 0);
            if (!spp_lookup(w, &allowed))
                return false;
            if (!allowed)
                return violation(w, 0);
        }
    }
    if (UNLIKELY(use->unverified && w->place & PLACE_VERIFY && w->entry & EPT_VERIFY))
        return violation(w, QUAL_VERIFICATION);
    return true;
}

/* What else the entries allow now, as GPA_*. */
static u32 grants(const struct ept_walk *w, bool dirty)
{
    u64 rights = w->rights;
    bool shadow = w->place & PLACE_SHADOW_STACK;
    u32 g = rights & EPT_R ? GPA_READ : 0;
    if (rights & EPT_W && dirty)
        g |= GPA_WRITE;
    if (rights & EPT_X)
        g |= GPA_EXECUTE_SUPERVISOR;
    if (rights & (w->place & PLACE_MODE_BASED_EXECUTE ? EPT_XU : EPT_X))
        g |= GPA_EXECUTE_USER;
    if (may_write_paging(w) && dirty)
        g |= GPA_TABLE_WRITE;
    if (g & GPA_READ && (!flags_enabled(w) || g & GPA_TABLE_WRITE))
        g |= GPA_TABLE;
    if (shadow ? may_be_shadow_stack(w) : !!(rights & EPT_R))
        g |= GPA_SHADOW_READ;
    if ((shadow ? may_be_shadow_stack(w) : !!(rights & EPT_W)) && dirty)
        g |= GPA_SHADOW_WRITE;
    if (!(w->place & PLACE_VERIFY) || w->entry & EPT_PAGING_WRITE)
        g |= GPA_PAGING_WRITE;
    if (w->place & PLACE_VERIFY && w->entry & EPT_VERIFY)
        g |= GPA_VERIFY;
    return g;
}

/* Through the frame's own EPT: gpa -> address of its hypervisor. `granted`: GPA_* bits that this frame grants from now
 * on. */
static bool frame_translate(struct ept_walk *w, u64 *out, u32 *granted)
{
    struct cpu *cpu = w->cpu;
    const struct gpa_use *use = w->use;
    u64 eptp = w->place, address = mask_low(walk_pa_bits(cpu)) & ~0xfffull;
    unsigned levels = (eptp >> 3 & 7) == 4 ? 5 : 4, count = 0, shift = 12 + 9 * (levels - 1);
    struct { u64 gpa, entry; } step[5];
    u64 table = eptp & PLACE_ROOT_MASK & address, entry;

    u64 present = EPT_R | EPT_W | EPT_X | (w->place & PLACE_MODE_BASED_EXECUTE ? EPT_XU : 0);
    w->above = w->rights = present;
    if (w->gpa >> (shift + 9)) {
        w->rights = 0;
        w->entry = EPT_SUPPRESS_VE;    /* there is no entry that could allow it */
        return use->peek ? false : violation(w, 0);
    }
    for (;; shift -= 9) {
        u64 hpa;
        step[count].gpa = table + (w->gpa >> shift & 511) * 8;
        if (!hypervisor_address(cpu, w->frame, step[count].gpa, ACCESS_READ, use, &hpa) ||
            !walk_load(cpu, hpa, 8, use->peek, &entry))
            return false;
        step[count++].entry = w->entry = entry;
        w->above = w->rights;
        w->rights &= entry;
        if (!(entry & present))
            return use->peek ? false : violation(w, 0);
        bool leaf = shift == 12 || ((shift == 21 || shift == 30) && entry & EPT_LARGE);
        if (misconfigured(w, entry, shift, leaf))
            return use->peek ? false : misconfiguration(w);
        if (leaf)
            break;
        table = entry & address;
    }
    w->mapped = true;
    *out = (entry & address & ~mask_low(shift)) | (w->gpa & mask_low(shift));

    bool writes = use->access & ACCESS_WRITE || (use->table && flags_enabled(w));
    if (!use->peek) {
        if (!permitted(w, shift))
            return false;
        for (unsigned i = 0; flags_enabled(w) && i < count; i++) {
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
    *granted = grants(w, !flags_enabled(w) || writes || entry & EPT_D);
    return true;
}

/* The GPA_* bits that a use needs of a cached translation. */
static u32 needed(const struct gpa_use *use)
{
    bool shadow = use->shadow == SHADOW_SUPERVISOR;
    if (use->access & ACCESS_WRITE)
        return use->table ? GPA_TABLE_WRITE : shadow ? GPA_SHADOW_WRITE : GPA_WRITE;
    if (use->access & ACCESS_EXEC)
        return use->user ? GPA_EXECUTE_USER : GPA_EXECUTE_SUPERVISOR;
    return use->table ? GPA_TABLE : shadow ? GPA_SHADOW_READ : GPA_READ;
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
                            .peek = use->peek, .shadow = use->shadow, .size = use->size};
    if (frame != levels - 1)
        use = &outer;          /* frame's guest runs the hypervisor of a frame without EPT: it is not its la, nor its table */
    struct gpa_entry *e = gpa_entry_of(space, use->side, gpa);
    u32 need = needed(use);
    if (e->gpa == (gpa & ~0xfffull) && e->generation == space->generation && (e->flags & need) == need && !use->peek &&
        !(use->unverified && e->flags & GPA_VERIFY)) {
        *result = (struct gpa_result){.hpa = e->hpa | (gpa & 0xfff), .flags = e->flags, .apic_frame = -1};
        return true;
    }

    const struct tlb_place *place = &space->chain.place[space->chain.depth - 1];
    struct ept_walk w = {.cpu = cpu, .use = use, .frame = frame, .gpa = gpa, .place = place->eptp};
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

    /* Reading and updating a paging structure is plain reading and writing for the outer frames, which verify nothing. */
    u32 outer_flags = (result->flags & ~(u32)(GPA_TABLE | GPA_TABLE_WRITE | GPA_VERIFY)) | GPA_PAGING_WRITE;
    outer_flags |= (outer_flags & GPA_READ ? GPA_TABLE : 0) | (outer_flags & GPA_WRITE ? GPA_TABLE_WRITE : 0);
    result->flags = (outer_flags & granted) | (granted & GPA_VERIFY);
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
