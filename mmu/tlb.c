/* The TLB's contexts: choosing the one in force, filling it, flushing.
 *
 * A flush never searches: it makes the generation that cached things must carry a new one. Only the page-wise flushes
 * touch single entries; fragments of large pages cannot be found by address, so where such a page may lie the whole
 * context goes.
 *
 * Rights are checked when an entry is made. When the controls that rights depend on have changed, tlb_select() drops
 * the entries and keeps the leaves, which hold attributes only: a hypervisor may change CR0.WP or CR4.SMEP in a VMCS
 * without any INVVPID, as on the processor. Controls that change the meaning of the tables themselves drop the leaves,
 * too.
 *
 * Follows [SDM3 "Caching Translation Information"], [SDM3 "Operations that Invalidate TLBs and Paging-Structure
 * Caches"], [SDM3 "VMX Support for Caching Translation Information"].
 */
#include "mmu/tlb.h"

#include <stdlib.h>

#include "mmu/context.h"

/* ---- copies of entries ------------------------------------------------------------------------------------------- */

static inline void forget_recent(struct cpu *cpu)
{
    for (unsigned kind = 0; kind < 2; kind++)
        memset(cpu->tlb_recent[kind].limit, 0, sizeof(cpu->tlb_recent[kind].limit));
}

/* The entry at `index` is replaced. */
static inline void forget_recent_of(struct cpu *cpu, unsigned index)
{
    for (unsigned kind = 0; kind < 2; kind++) {
        struct tlb_recent *r = &cpu->tlb_recent[kind];
        for (unsigned i = 0; r->limit[0] != 0 && i < TLB_RECENT; i++)
            if ((r->copy[i].page >> 12 & (TLB_ENTRIES - 1)) == index)
                memset(r->limit, 0, sizeof(r->limit));
    }
}

/* ---- generations ------------------------------------------------------------------------------------------------- */

static void entries_drop(struct tlb_context *c)
{
    if (++c->generation < TLB_GENERATIONS)
        return;
    for (unsigned i = 0; i < TLB_ENTRIES; i++)
        c->entries[i].read = c->entries[i].write = TLB_TAG_INVALID;
    c->generation = 1;
}

static void uid_renew(struct tlb *t, struct tlb_context *c)
{
    c->uid = ++t->uids;
    memset(c->fetched, 0, sizeof(c->fetched));
}

static void leaves_clear(struct tlb_context *c)
{
    for (unsigned side = 0; side < SIDE_COUNT; side++)
        memset(c->leaves[side], 0, TLB_LEAVES * sizeof(struct tlb_leaf));
    c->leaf_generation = c->global_generation = 1;
}

static void context_flush(struct tlb *t, struct tlb_context *c, bool keep_global)
{
    entries_drop(c);
    uid_renew(t, c);
    c->leaf_generation++;
    if (!keep_global) {
        c->global_generation++;
        memset(c->large, 0, sizeof(c->large));
        c->huge = 0;
    }
    if (c->leaf_generation == 0 || c->global_generation == 0)
        leaves_clear(c);
}

static void context_flush_page(struct tlb *t, struct tlb_context *c, u64 la)
{
    if (c->large[la >> 28 & 15] >> (la >> 22 & 63) & 1 || c->huge >> (la >> 30 & 63) & 1) {
        context_flush(t, c, false);
        return;
    }
    struct tlb_entry *e = &c->entries[la >> 12 & (TLB_ENTRIES - 1)];
    e->read = e->write = TLB_TAG_INVALID;
    for (unsigned side = 0; side < SIDE_COUNT; side++) {
        struct tlb_leaf *leaf = &c->leaves[side][la >> 12 & (TLB_LEAVES - 1)];
        if (leaf->la == (la & ~0xfffull))
            leaf->generation = 0;
    }
    if (c->fetched[la >> 18 & 15] >> (la >> 12 & 63) & 1)
        uid_renew(t, c);
}

/* ---- contexts ---------------------------------------------------------------------------------------------------- */

static inline struct tlb_place place_read(const struct cpu *cpu, unsigned k)
{
    const struct vmcs *vmcs = &cpu->vmx.frame[k].vmcs;
    u32 secondary = frame_secondary(vmcs);
    struct tlb_place p = {.apic_page = ~0ull};
    if (secondary & FRAME_EPT) {
        u64 tertiary = frame_tertiary(vmcs);
        p.eptp = PLACE_EPT | (vmcs->ept_pointer & (PLACE_ROOT_MASK | PLACE_SHADOW_STACK | PLACE_ACCESSED_DIRTY | 7 << 3));
        if (secondary & FRAME_MODE_BASED_EXECUTE)
            p.eptp |= PLACE_MODE_BASED_EXECUTE;
        if (tertiary & FRAME_PAGING_WRITE)
            p.eptp |= PLACE_PAGING_WRITE;
        if (tertiary & FRAME_VERIFY)
            p.eptp |= PLACE_VERIFY;
    }
    if (secondary & FRAME_APIC_ACCESSES)
        p.apic_page = vmcs->apic_access_address & ~0xfffull;
    if (secondary & FRAME_VPID)
        p.vpid = vmcs->virtual_processor_identifier & 0xffff;
    return p;
}

static inline bool place_equal(const struct tlb_place *a, const struct tlb_place *b)
{
    return a->eptp == b->eptp && a->apic_page == b->apic_page && a->vpid == b->vpid;
}

void tlb_chain_read(const struct cpu *cpu, unsigned levels, struct tlb_chain *chain)
{
    chain->depth = levels;
    for (unsigned k = 0; k < levels; k++)
        chain->place[k] = place_read(cpu, k);
}

static bool chain_equal(const struct tlb_chain *a, const struct tlb_chain *b)
{
    if (a->depth != b->depth)
        return false;
    for (unsigned k = 0; k < a->depth; k++)
        if (!place_equal(&a->place[k], &b->place[k]))
            return false;
    return true;
}

/* The processor's idea of the same tags: only EPT roots and VPIDs count [SDM3 "Information That May Be Cached"]. */
static bool chain_same_tags(const struct tlb_chain *a, const struct tlb_chain *b, unsigned places)
{
    for (unsigned k = 0; k < places; k++)
        if (a->place[k].vpid != b->place[k].vpid || (a->place[k].eptp ^ b->place[k].eptp) & (PLACE_ROOT_MASK | PLACE_EPT))
            return false;
    return true;
}

static u32 context_hash(const struct tlb_chain *chain, u32 pcid)
{
    u64 h = pcid + chain->depth * 0x9e3779b97f4a7c15ull;
    for (unsigned k = 0; k < chain->depth; k++) {
        const struct tlb_place *p = &chain->place[k];
        h = (h ^ p->eptp ^ p->apic_page << 1 ^ p->vpid) * 0x9e3779b97f4a7c15ull;
        h ^= h >> 29;
    }
    return (u32)(h ^ h >> 32);
}

static bool context_allocate(struct tlb_context *c)
{
    if (c->entries)
        return true;
    struct tlb_entry *entries = calloc(TLB_ENTRIES, sizeof(*entries));
    struct tlb_leaf *data = calloc(TLB_LEAVES, sizeof(*data)), *fetch = calloc(TLB_LEAVES, sizeof(*fetch));
    if (!entries || !data || !fetch) {
        free(entries);
        free(data);
        free(fetch);
        return false;
    }
    c->entries = entries;
    c->leaves[SIDE_DATA] = data;
    c->leaves[SIDE_FETCH] = fetch;
    c->generation = c->leaf_generation = c->global_generation = 1;
    return true;
}

static bool context_serves(const struct tlb_context *c, u32 hash, const struct tlb_chain *chain, u32 pcid)
{
    return c->entries && c->hash == hash && c->pcid == pcid && chain_equal(&c->chain, chain);
}

/* The context of these tags: an old one, else the least recently used place made new. */
static struct tlb_context *context_find(struct tlb *t, const struct tlb_chain *chain, u32 pcid)
{
    u32 hash = context_hash(chain, pcid);
    u8 *place = &t->place_of_hash[hash % sizeof(t->place_of_hash)];
    struct tlb_context *oldest = NULL, *c = &t->context[*place];
    if (LIKELY(context_serves(c, hash, chain, pcid)))
        return c;
    for (unsigned i = 0; i < TLB_CONTEXTS; i++) {
        c = &t->context[i];
        if (context_serves(c, hash, chain, pcid)) {
            *place = (u8)i;
            return c;
        }
        if (!oldest || c->last_used < oldest->last_used)
            oldest = c;
    }
    c = oldest;
    *place = (u8)(c - t->context);
    if (!context_allocate(c)) {
        /* The host is out of memory: make do with a context that has its arrays. tlb_init made one. */
        for (c = NULL, oldest = t->context; oldest < t->context + TLB_CONTEXTS; oldest++)
            if (oldest->entries && (!c || oldest->last_used < c->last_used))
                c = oldest;
    }
    c->chain = *chain;
    c->pcid = pcid;
    c->hash = hash;
    c->spaces_epoch = 0;
    context_flush(t, c, false);
    return c;
}

/* ---- spaces ------------------------------------------------------------------------------------------------------ */

static void space_flush(struct gpa_space *s)
{
    if (++s->generation)
        return;
    for (unsigned side = 0; side < SIDE_COUNT; side++)
        memset(s->entries[side], 0, SPACE_ENTRIES * sizeof(struct gpa_entry));
    s->generation = 1;
}

static bool space_allocate(struct gpa_space *s)
{
    if (s->entries[0])
        return true;
    struct gpa_entry *data = calloc(SPACE_ENTRIES, sizeof(*data)), *fetch = calloc(SPACE_ENTRIES, sizeof(*fetch));
    if (!data || !fetch) {
        free(data);
        free(fetch);
        return false;
    }
    s->entries[SIDE_DATA] = data;
    s->entries[SIDE_FETCH] = fetch;
    s->generation = 1;
    return true;
}

/* Does the space translate through the chain's first `levels` frames? VPIDs do not matter. */
static bool space_serves(const struct gpa_space *s, const struct tlb_chain *chain, unsigned levels)
{
    if (!s->entries[0] || s->chain.depth != levels)
        return false;
    for (unsigned k = levels; k-- > 0;)
        if (s->chain.place[k].eptp != chain->place[k].eptp || s->chain.place[k].apic_page != chain->place[k].apic_page)
            return false;
    return true;
}

static struct gpa_space *space_find(struct tlb *t, const struct tlb_chain *chain, unsigned levels)
{
    struct gpa_space *oldest = NULL, *s = t->space_last[levels];
    if (LIKELY(s && space_serves(s, chain, levels)))
        return s;
    for (unsigned i = 0; i < TLB_SPACES; i++) {
        s = &t->space_pool[i];
        if (space_serves(s, chain, levels))
            return t->space_last[levels] = s;
        if (!oldest || s->last_used < oldest->last_used)
            oldest = s;
    }
    s = oldest;
    if (!space_allocate(s)) {
        for (s = NULL, oldest = t->space_pool; oldest < t->space_pool + TLB_SPACES; oldest++)
            if (oldest->entries[0] && (!s || oldest->last_used < s->last_used))
                s = oldest;
        if (!s)
            panic("mmu: the host has no memory for %u bytes of EPT cache",
                  (unsigned)(SIDE_COUNT * SPACE_ENTRIES * sizeof(struct gpa_entry)));
    }
    s->chain = *chain;
    s->chain.depth = levels;
    for (unsigned k = 0; k < levels; k++)
        s->chain.place[k].vpid = 0;
    space_flush(s);
    t->spaces_epoch++;
    return t->space_last[levels] = s;
}

static COLD void spaces_resolve(struct tlb *t, const struct tlb_chain *chain)
{
    t->ticks++;
    for (unsigned n = 1; n <= chain->depth; n++) {
        const struct tlb_place *p = &chain->place[n - 1];
        if (p->eptp || p->apic_page != ~0ull) {
            t->space[n] = space_find(t, chain, n);
            t->space[n]->last_used = t->ticks;
        } else {
            t->space[n] = t->space[n - 1];
        }
    }
}

/* The same for the context's chain: it remembers them. */
static void spaces_resolve_of(struct tlb *t, struct tlb_context *c)
{
    unsigned depth = c->chain.depth;
    if (UNLIKELY(c->spaces_epoch != t->spaces_epoch)) {
        spaces_resolve(t, &c->chain);
        memcpy(c->space, t->space, sizeof(c->space));
        c->spaces_epoch = t->spaces_epoch;
        return;
    }
    t->ticks++;
    for (unsigned n = 1; n <= depth; n++) {
        t->space[n] = c->space[n];
        if (c->space[n])
            c->space[n]->last_used = t->ticks;
    }
}

struct gpa_space *tlb_space(struct cpu *cpu, unsigned levels)
{
    struct tlb *t = cpu->tlb;
    const struct tlb_chain *now = &t->now->chain;
    if (levels > now->depth) {
        struct tlb_chain chain;
        tlb_chain_read(cpu, levels, &chain);
        spaces_resolve(t, &chain);
    }
    return t->space[levels];
}

/* ---- making and choosing ----------------------------------------------------------------------------------------- */

bool tlb_init(struct cpu *cpu)
{
    struct tlb *t = calloc(1, sizeof(*t));
    if (!t || !context_allocate(&t->context[0]) || cpu->bus->cpu_count == BUS_MAX_CPUS) {
        if (t)
            free(t->context[0].entries);
        free(t);
        return false;
    }
    t->slot = cpu->bus->cpu_count;
    cpu->bus->cpu[cpu->bus->cpu_count++] = cpu;
    cpu->tlb = t;
    t->now = &t->context[0];
    t->spaces_epoch = 1;
    context_flush(t, t->now, false);
    forget_recent(cpu);
    tlb_select(cpu);
    return true;
}

void tlb_free(struct cpu *cpu)
{
    struct tlb *t = cpu->tlb;
    if (!t)
        return;
    /* The last vCPU moves into the free place; its entries' writers are then unknown by their place, so they go. */
    struct bus *bus = cpu->bus;
    struct cpu *last = bus->cpu[--bus->cpu_count];
    if (last != cpu) {
        tlb_flush_everything(last);
        bus->cpu[t->slot] = last;
        last->tlb->slot = t->slot;
    }
    for (unsigned i = 0; i < TLB_CONTEXTS; i++) {
        free(t->context[i].entries);
        for (unsigned side = 0; side < SIDE_COUNT; side++)
            free(t->context[i].leaves[side]);
    }
    for (unsigned i = 0; i < TLB_SPACES; i++)
        for (unsigned side = 0; side < SIDE_COUNT; side++)
            free(t->space_pool[i].entries[side]);
    free(t);
    cpu->tlb = NULL;
    cpu->tlb_now = NULL;
}

/* What rights depend on. HARD: what leaves depend on. */
#define CONTROLS_HARD (0xffull << 32)
static u64 controls_of(const struct cpu *cpu)
{
    const struct cpu_sys *sys = &cpu->sys;
    u64 hard = cpu->mode.paging | (sys->efer & EFER_NXE ? 8u : 0) | (sys->cr4 & CR4_PSE ? 16u : 0);
    return (sys->cr0 & CR0_WP) | (sys->cr4 & (CR4_SMEP | CR4_PKE | CR4_PKS)) >> 20 | hard << 32;
}

static u64 keys_of(const struct cpu *cpu)
{
    return (cpu->sys.cr4 & CR4_PKE ? (u32)cpu->sys.pkru : 0) | (cpu->sys.cr4 & CR4_PKS ? cpu->sys.pkrs << 32 : 0);
}

/* Which linear addresses the innermost frame translates, through which tables; 0: none. Unlike the processor, which leaves
 * that to INVVPID and INVEPT, a change is noticed here. */
static u64 hlat_of(const struct cpu *cpu)
{
    if (!cpu->vmx.depth)
        return 0;
    const struct vmcs *vmcs = &cpu->vmx.frame[cpu->vmx.depth - 1].vmcs;
    if (LIKELY(!(frame_tertiary(vmcs) & FRAME_HLAT)))
        return 0;
    return (vmcs->hlat_pointer & PLACE_ROOT_MASK) | (vmcs->hlat_prefix_size & 0xff) << 1 | 1;
}

/* The context of these tags and of the frames entered now. */
static inline bool context_fits(const struct cpu *cpu, const struct tlb_context *c, u32 depth, u32 pcid)
{
    if (c->pcid != pcid || c->chain.depth != depth)
        return false;
    for (unsigned k = 0; k < depth; k++) {
        struct tlb_place p = place_read(cpu, k);
        if (!place_equal(&p, &c->chain.place[k]))
            return false;
    }
    return true;
}

/* Another context than the present one: that of the depth's last stay, as a VM entry or exit mostly wants it, or what a search finds. */
static COLD struct tlb_context *context_search(struct cpu *cpu, u32 depth, u32 pcid, bool *chain_changed)
{
    struct tlb_chain chain;
    tlb_chain_read(cpu, depth, &chain);
    *chain_changed = !chain_equal(&chain, &cpu->tlb->now->chain);
    return context_find(cpu->tlb, &chain, pcid);
}

static struct tlb_context *context_switch(struct cpu *cpu, u32 depth, u32 pcid)
{
    struct tlb *t = cpu->tlb;
    struct tlb_context *c = t->last[depth];
    bool chain_changed = t->now->chain.depth != depth;
    t->now->last_used = ++t->ticks;
    if (UNLIKELY(!chain_changed || !c || !context_fits(cpu, c, depth, pcid)))
        c = context_search(cpu, depth, pcid, &chain_changed);
    t->now = t->last[depth] = c;
    if (chain_changed)
        spaces_resolve_of(t, c);
    c->last_used = ++t->ticks;
    return c;
}

void tlb_select(struct cpu *cpu)
{
    struct tlb *t = cpu->tlb;
    struct tlb_context *c = t->now;
    u32 depth = cpu->vmx.depth, pcid = 0;
    if (cpu->sys.cr4 & CR4_PCIDE && cpu->mode.long_mode)
        pcid = cpu->sys.cr3 & 0xfff;
    if (!context_fits(cpu, c, depth, pcid))
        c = context_switch(cpu, depth, pcid);

    u64 controls = controls_of(cpu), keys = keys_of(cpu), hlat = hlat_of(cpu);
    if (UNLIKELY(c->controls != controls || c->keys != keys || c->hlat != hlat)) {
        if ((c->controls ^ controls) & CONTROLS_HARD || c->hlat != hlat) {
            context_flush(t, c, false);
        } else {
            entries_drop(c);
            if (c->controls != controls)
                uid_renew(t, c);
        }
        c->controls = controls;
        c->keys = keys;
        c->hlat = hlat;
    }
    t->live_tag = (u64)c->generation << 2 | tlb_mode_of(cpu, 0);
    u64 tag = UNLIKELY(cpu->tlb_slow) ? TLB_TAG_SLOW : t->live_tag;
    if (cpu->tlb_now != c->entries || cpu->tlb_tag != tag)
        forget_recent(cpu);
    cpu->tlb_now = c->entries;
    cpu->tlb_tag = tag;
    cpu->tlb_uid = c->uid;
}

/* ---- filling ----------------------------------------------------------------------------------------------------- */

struct tlb_leaf *tlb_leaf_find(struct cpu *cpu, u64 la, enum tlb_side side)
{
    struct tlb_context *c = cpu->tlb->now;
    struct tlb_leaf *leaf = &c->leaves[side][la >> 12 & (TLB_LEAVES - 1)];
    u32 generation = leaf->flags & LEAF_GLOBAL ? c->global_generation : c->leaf_generation;
    return leaf->la == (la & ~0xfffull) && leaf->generation == generation ? leaf : NULL;
}

struct tlb_leaf *tlb_leaf_put(struct cpu *cpu, u64 la, enum tlb_side side, u64 where, u32 flags, unsigned shift)
{
    struct tlb_context *c = cpu->tlb->now;
    struct tlb_leaf *leaf = &c->leaves[side][la >> 12 & (TLB_LEAVES - 1)];
    *leaf = (struct tlb_leaf){.la = la & ~0xfffull, .where = where & ~0xfffull, .flags = flags,
                              .generation = flags & LEAF_GLOBAL ? c->global_generation : c->leaf_generation};
    if (shift >= 30)
        c->huge |= BIT(la >> 30 & 63);
    else if (shift > 12)
        c->large[la >> 28 & 15] |= BIT(la >> 22 & 63);
    return leaf;
}

/* Who may write a page is kept in its word of bus->writers: up to two places (vCPU, context, entry), or "search". */
#define WRITER_BITS 31
#define WRITER_PLACES 2
#define WRITER_INDEX_BITS 13
#define WRITER_SLOT_SHIFT (WRITER_INDEX_BITS + 6)
_Static_assert(TLB_ENTRIES <= 1 << WRITER_INDEX_BITS && TLB_CONTEXTS <= 1 << 6 && BUS_MAX_CPUS <= 1 << 11,
               "a writer's name has room for its numbers");
#define WRITER_MASK mask_low(WRITER_BITS)
#define WRITER_MANY BIT(63)

static u64 writer_name(unsigned slot, unsigned context, unsigned index)
{
    return ((u64)slot << WRITER_SLOT_SHIFT | context << WRITER_INDEX_BITS | index) + 1;
}

/* The entry a writer's name stands for if it still allows writing the page at `host`, else NULL. */
static struct tlb_entry *writer_entry(const struct bus *bus, u64 name, const u8 *host)
{
    name--;
    unsigned slot = (unsigned)(name >> WRITER_SLOT_SHIFT), index = name & (TLB_ENTRIES - 1);
    if (slot >= bus->cpu_count)
        return NULL;
    struct tlb_context *c = &bus->cpu[slot]->tlb->context[name >> WRITER_INDEX_BITS & (TLB_CONTEXTS - 1)];
    if (!c->entries)
        return NULL;
    struct tlb_entry *e = &c->entries[index];
    bool live = (e->write >> 2 & (TLB_GENERATIONS - 1)) == c->generation;
    return live && e->addend + (uintptr_t)(e->write & ~0xfffull) == (uintptr_t)host ? e : NULL;
}

static void writer_add(struct cpu *cpu, u64 offset, unsigned index)
{
    struct bus *bus = cpu->bus;
    u64 *word = &bus->writers[offset / PAGE_SIZE];
    u8 *flags = &bus->page_flags[offset / PAGE_SIZE];
    unsigned context = (unsigned)(cpu->tlb->now - cpu->tlb->context);

    if (UNLIKELY(!(*flags & PAGE_FORESEEN)))
        bus_foresee(bus, offset);
    if (!(*flags & PAGE_WRITABLE_TLB)) {
        *flags |= PAGE_WRITABLE_TLB;
        *word = 0;
    }
    if (*word & WRITER_MANY)
        return;
    u64 name = writer_name(cpu->tlb->slot, context, index), kept = 0;
    unsigned count = 0;
    for (unsigned i = 0; i < WRITER_PLACES; i++) {
        u64 other = *word >> (i * WRITER_BITS) & WRITER_MASK;
        if (other && other != name && writer_entry(bus, other, bus->ram + offset))
            kept |= other << (count++ * WRITER_BITS);
    }
    *word = count == WRITER_PLACES ? WRITER_MANY : kept | name << (count * WRITER_BITS);
}

void tlb_drop_writers(struct bus *bus, u64 offset)
{
    u64 word = bus->writers[offset / PAGE_SIZE];
    bus->writers[offset / PAGE_SIZE] = 0;
    for (unsigned i = 0; i < bus->cpu_count; i++)
        forget_recent(bus->cpu[i]);
    if (word & WRITER_MANY) {
        for (unsigned i = 0; i < bus->cpu_count; i++)
            tlb_forbid_writes(bus->cpu[i], offset);
        return;
    }
    for (; word; word >>= WRITER_BITS) {
        struct tlb_entry *e = writer_entry(bus, word & WRITER_MASK, bus->ram + offset);
        if (e)
            e->write = TLB_TAG_INVALID;
    }
}

void tlb_forbid_writes(struct cpu *cpu, u64 ram_page_offset)
{
    uintptr_t host = (uintptr_t)(cpu->bus->ram + (ram_page_offset & ~0xfffull));
    forget_recent(cpu);
    for (struct tlb_context *c = cpu->tlb->context; c < cpu->tlb->context + TLB_CONTEXTS; c++)
        for (unsigned i = 0; c->entries && i < TLB_ENTRIES; i++)
            if (c->entries[i].addend + (uintptr_t)(c->entries[i].write & ~0xfffull) == host)
                c->entries[i].write = TLB_TAG_INVALID;
}

void tlb_entry_put(struct cpu *cpu, u64 la, u64 offset, unsigned mode, bool read, bool write)
{
    struct tlb_context *c = cpu->tlb->now;
    unsigned index = la >> 12 & (TLB_ENTRIES - 1);
    struct tlb_entry *e = &c->entries[index];
    u64 page = la & ~0xfffull, tag = page | (u64)c->generation << 2 | mode;
    forget_recent_of(cpu, index);
    e->addend = (uintptr_t)(cpu->bus->ram + offset) - (uintptr_t)page;
    e->read = read ? tag : TLB_TAG_INVALID;
    e->write = write ? tag : TLB_TAG_INVALID;
    if (write)
        writer_add(cpu, offset, index);
}

/* ---- flushes ----------------------------------------------------------------------------------------------------- */

/* The running context may have got new generations: what the CPU holds of it follows. */
static void refresh(struct cpu *cpu)
{
    struct tlb *t = cpu->tlb;
    forget_recent(cpu);
    t->live_tag = (u64)t->now->generation << 2 | (t->live_tag & 3);
    if (cpu->tlb_tag != TLB_TAG_SLOW)
        cpu->tlb_tag = t->live_tag;
    cpu->tlb_uid = t->now->uid;
}

#define FOR_EACH_CONTEXT(t, c)                                                                                         \
    for (struct tlb_context *c = (t)->context; c < (t)->context + TLB_CONTEXTS; c++)                                   \
        if (c->entries)

static bool current_chain(const struct tlb *t, const struct tlb_context *c)
{
    return c->chain.depth == t->now->chain.depth && chain_same_tags(&c->chain, &t->now->chain, c->chain.depth);
}

void tlb_flush_context(struct cpu *cpu, bool keep_global)
{
    context_flush(cpu->tlb, cpu->tlb->now, keep_global);
    refresh(cpu);
}

void tlb_flush_page(struct cpu *cpu, u64 la)
{
    /* Global translations of the page may have been cached under any PCID. */
    FOR_EACH_CONTEXT(cpu->tlb, c)
        if (current_chain(cpu->tlb, c))
            context_flush_page(cpu->tlb, c, la);
    refresh(cpu);
}

void tlb_flush_pcid(struct cpu *cpu, unsigned pcid, bool keep_global)
{
    FOR_EACH_CONTEXT(cpu->tlb, c)
        if (c->pcid == pcid && current_chain(cpu->tlb, c))
            context_flush(cpu->tlb, c, keep_global);
    refresh(cpu);
}

void tlb_flush_pcid_page(struct cpu *cpu, unsigned pcid, u64 la)
{
    FOR_EACH_CONTEXT(cpu->tlb, c)
        if (c->pcid == pcid && current_chain(cpu->tlb, c))
            context_flush_page(cpu->tlb, c, la);
    refresh(cpu);
}

void tlb_flush_all_pcids(struct cpu *cpu)
{
    FOR_EACH_CONTEXT(cpu->tlb, c)
        if (current_chain(cpu->tlb, c))
            context_flush(cpu->tlb, c, false);
    refresh(cpu);
}

void tlb_flush_everything(struct cpu *cpu)
{
    FOR_EACH_CONTEXT(cpu->tlb, c)
        context_flush(cpu->tlb, c, false);
    for (unsigned i = 0; i < TLB_SPACES; i++)
        if (cpu->tlb->space_pool[i].entries[0])
            space_flush(&cpu->tlb->space_pool[i]);
    refresh(cpu);
}

void tlb_invvpid(struct cpu *cpu, unsigned k, u16 vpid, bool all, bool keep_global)
{
    FOR_EACH_CONTEXT(cpu->tlb, c)
        if (c->chain.depth > k && (all ? c->chain.place[k].vpid != 0 : c->chain.place[k].vpid == vpid))
            context_flush(cpu->tlb, c, keep_global);
    refresh(cpu);
}

void tlb_invvpid_page(struct cpu *cpu, unsigned k, u16 vpid, u64 la)
{
    FOR_EACH_CONTEXT(cpu->tlb, c)
        if (c->chain.depth > k && c->chain.place[k].vpid == vpid)
            context_flush_page(cpu->tlb, c, la);
    refresh(cpu);
}

static bool ept_named(const struct tlb_chain *chain, unsigned k, u64 eptp, bool all)
{
    if (chain->depth <= k || !(chain->place[k].eptp & PLACE_EPT))
        return false;
    return all || ((chain->place[k].eptp ^ eptp) & PLACE_ROOT_MASK) == 0;
}

void tlb_invept(struct cpu *cpu, unsigned k, u64 eptp, bool all)
{
    FOR_EACH_CONTEXT(cpu->tlb, c)
        if (ept_named(&c->chain, k, eptp, all))
            context_flush(cpu->tlb, c, false);
    for (unsigned i = 0; i < TLB_SPACES; i++) {
        struct gpa_space *s = &cpu->tlb->space_pool[i];
        if (s->entries[0] && ept_named(&s->chain, k, eptp, all))
            space_flush(s);
    }
    refresh(cpu);
}

void tlb_flush_vpid0(struct cpu *cpu, unsigned k)
{
    /* Frames below k are the same on both sides of the transition. */
    struct tlb_chain here;
    tlb_chain_read(cpu, k, &here);
    FOR_EACH_CONTEXT(cpu->tlb, c) {
        if (c->chain.depth < k || !chain_same_tags(&c->chain, &here, k))
            continue;
        if (c->chain.depth == k || c->chain.place[k].vpid == 0)
            context_flush(cpu->tlb, c, false);
    }
    refresh(cpu);
}
