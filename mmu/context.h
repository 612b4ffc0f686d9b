/* What the TLB consists of, for the files of mmu/ alone.
 *
 *     context   (chain of EPTPs and VPIDs, PCID): la -> memory, composed through all levels
 *       entries   what the inline fast path compares: made for one privilege mode, dropped wholesale
 *       leaves    what a walk found, with its attributes; filled entries come from here without a walk
 *     space     (chain of EPTPs): gpa of the innermost guest -> hpa, so that nested walks stay cheap
 *
 * Kept true: caches only ever say yes. What they do not allow is walked again before anything faults, as the processor
 * does. Data accesses and code fetches have separate caches, so that how an engine fetches code cannot change which
 * data accesses walk.
 */
#ifndef NESTOR_MMU_CONTEXT_H
#define NESTOR_MMU_CONTEXT_H

#include "mmu/bus.h"
#include "mmu/tlb.h"

#define TLB_CONTEXTS 64
#define TLB_LEAVES 2048
#define TLB_SPACES 64
#define SPACE_ENTRIES 1024
#define TLB_GENERATIONS 1024            /* of entries: 1..1023 in tag bits 11:2; 0 never lives */

enum tlb_side { SIDE_DATA, SIDE_FETCH, SIDE_COUNT };

/* ---- who translates ---------------------------------------------------------------------------------------------- */

/* What matters of one entered frame. */
struct tlb_place {
    u64 eptp;                  /* bits 51:12 and 7:3 of the EPT pointer and PLACE_*; 0: no EPT */
    u64 apic_page;             /* APIC-access page, in the hypervisor's physical space; ~0: none */
    u64 vpid;                  /* 0: none */
};
#define PLACE_EPT BIT(62)
#define PLACE_MODE_BASED_EXECUTE BIT(63)
#define PLACE_PAGING_WRITE BIT(61)
#define PLACE_VERIFY BIT(60)
#define PLACE_ROOT_MASK (mask_low(52) & ~0xfffull)
#define PLACE_ACCESSED_DIRTY BIT(6)
#define PLACE_SHADOW_STACK BIT(7)

struct tlb_chain {
    u32 depth;
    struct tlb_place place[VMX_MAX_FRAMES];
};

/* ---- la -> memory ------------------------------------------------------------------------------------------------ */

/* What is allowed, and what the page is. LEAF_READ, _EXECUTE and _WRITE_THROUGH are the EPTs' say (and NX and the
 * dirty flags); _WRITABLE and _USER are the guest's page tables', checked against the mode of each access. */
enum {
    LEAF_READ = 1 << 0,
    LEAF_WRITE_THROUGH = 1 << 1,    /* every dirty flag is set and every EPT allows writing */
    LEAF_EXECUTE = 1 << 2,
    LEAF_WRITABLE = 1 << 3,
    LEAF_USER = 1 << 4,
    LEAF_GLOBAL = 1 << 5,
    LEAF_MEMORY = 1 << 6,           /* `where` is an offset in bus->ram, not an hpa */
    LEAF_SHADOW_STACK = 1 << 7,     /* a shadow-stack page */
    LEAF_KEY_SHIFT = 8,             /* 4 bits of protection key */
    LEAF_SHADOW_READ = 1 << 12,     /* the EPTs' say to supervisor shadow-stack accesses, in place of LEAF_READ … */
    LEAF_SHADOW_WRITE = 1 << 13,    /* … and LEAF_WRITE_THROUGH */
};

struct gpa_space;

struct tlb_leaf {
    u64 la;                         /* of the page */
    u64 where;                      /* of the page: offset in memory or hpa */
    u32 flags;                      /* LEAF_* */
    u32 generation;                 /* the context's, by LEAF_GLOBAL */
};

struct tlb_context {
    struct tlb_chain chain;
    u32 pcid;
    u32 hash;                       /* of chain and pcid */
    u64 last_used;
    u64 uid;
    u64 controls, keys, hlat;       /* what the entries were made under: see tlb.c */
    u32 generation;                 /* of entries */
    u32 leaf_generation, global_generation;
    u64 large[16];                  /* bit (la >> 22) % 1024: fragments of large pages may be cached there */
    u64 huge;                       /* bit (la >> 30) % 64: … of 1 GiB pages */
    u64 fetched[16];                /* bit (la >> 12) % 1024: code was fetched there under this uid */
    struct tlb_entry *entries;      /* TLB_ENTRIES; NULL: the context was never used */
    struct tlb_leaf *leaves[SIDE_COUNT]; /* TLB_LEAVES each */
    u64 spaces_epoch;               /* tlb.spaces_epoch when … */
    struct gpa_space *space[VMX_MAX_FRAMES + 1]; /* … these were its chain's, as tlb.space */
};

/* ---- gpa -> hpa -------------------------------------------------------------------------------------------------- */

enum {
    GPA_READ = 1 << 0,
    GPA_WRITE = 1 << 1,             /* dirty flags are set, too */
    GPA_EXECUTE_SUPERVISOR = 1 << 2,
    GPA_EXECUTE_USER = 1 << 3,
    GPA_TABLE = 1 << 4,             /* may be read as a guest paging structure … */
    GPA_TABLE_WRITE = 1 << 5,       /* … whose flags may be updated */
    GPA_SHADOW_READ = 1 << 6,       /* supervisor shadow-stack accesses */
    GPA_SHADOW_WRITE = 1 << 7,
    GPA_PAGING_WRITE = 1 << 8,      /* verified accesses may use paging structures here */
    GPA_ALL = 0x1ff,
    GPA_VERIFY = 1 << 9,            /* not a right: accesses to the page are verified */
};

struct gpa_entry {
    u64 gpa, hpa;                   /* of the page */
    u32 flags;                      /* GPA_* */
    u32 generation;                 /* the space's */
};

struct gpa_space {
    struct tlb_chain chain;         /* VPIDs are 0 here */
    u32 generation;
    u32 pad;
    u64 last_used;
    struct gpa_entry *entries[SIDE_COUNT]; /* SPACE_ENTRIES each; NULL: never used */
};

/* ---- all of a vCPU ----------------------------------------------------------------------------------------------- */

struct tlb {
    struct tlb_context context[TLB_CONTEXTS];
    struct tlb_context *now;
    struct tlb_context *last[VMX_MAX_FRAMES + 1]; /* by depth: the context chosen last there, to be looked at first … */
    u8 place_of_hash[64];           /* … and by hash: where it was found last */
    u64 live_tag;                   /* generation and mode of the running mode, also while cpu->tlb_tag is TLB_TAG_SLOW */
    u64 ticks;                      /* counts uses, for recycling the least recently used */
    u64 uids;                       /* last uid given */
    struct gpa_space space_pool[TLB_SPACES];
    struct gpa_space *space[VMX_MAX_FRAMES + 1]; /* [n]: through frames 0..n-1; NULL: identity */
    u64 spaces_epoch;               /* counts the spaces that were given to another chain */
    struct gpa_space *space_last[VMX_MAX_FRAMES + 1]; /* [n]: the last one found for n frames, to be looked at first */
    unsigned slot;                  /* in bus->cpu[] */
};

/* The mode (enum tlb_mode) of an access with ACCESS_* bits. */
static inline unsigned tlb_mode_of(const struct cpu *cpu, unsigned access_system)
{
    if (cpu->mode.cpl == 3 && !access_system)
        return TLB_USER;
    bool smap = cpu->sys.cr4 & CR4_SMAP && cpu->mode.paging != PAGING_NONE;
    if (!smap || (!access_system && cpu->core.rflags_rest & FL_AC))
        return TLB_SUPERVISOR;
    return TLB_SUPERVISOR_SMAP;
}

/* The cached leaf of la's page, or NULL. */
struct tlb_leaf *tlb_leaf_find(struct cpu *cpu, u64 la, enum tlb_side side);
/* Caches a walk's result. `shift`: log2 of the guest's page size. */
struct tlb_leaf *tlb_leaf_put(struct cpu *cpu, u64 la, enum tlb_side side, u64 where, u32 flags, unsigned shift);
/* Makes the fast path take la's page in `mode`; a writable entry is entered into the page's list of writers. */
void tlb_entry_put(struct cpu *cpu, u64 la, u64 offset, unsigned mode, bool read, bool write);
/* Notes that code was fetched from la's page under the present uid. */
static inline void tlb_note_fetch(struct cpu *cpu, u64 la)
{
    cpu->tlb->now->fetched[la >> 18 & 15] |= BIT(la >> 12 & 63);
}

/* Reads what matters of frames 0..levels-1. */
void tlb_chain_read(const struct cpu *cpu, unsigned levels, struct tlb_chain *chain);
/* The space of L(levels + 1)'s guest-physical addresses: through frames 0..levels-1. NULL: they are hpa. Valid until
 * the next call for other levels or the next tlb_select(). */
struct gpa_space *tlb_space(struct cpu *cpu, unsigned levels);

static inline struct gpa_entry *gpa_entry_of(struct gpa_space *space, enum tlb_side side, u64 gpa)
{
    return &space->entries[side][gpa >> 12 & (SPACE_ENTRIES - 1)];
}

/* No entry of any vCPU allows writing the page at this offset of memory any more. */
void tlb_drop_writers(struct bus *bus, u64 offset);

/* Secondary controls in force, and those the MMU knows. */
static inline u32 frame_secondary(const struct vmcs *vmcs)
{
    return vmcs->primary_controls >> 31 & 1 ? (u32)vmcs->secondary_controls : 0;
}
enum { FRAME_APIC_ACCESSES = 1 << 0, FRAME_EPT = 1 << 1, FRAME_VPID = 1 << 5, FRAME_PML = 1 << 17,
       FRAME_MODE_BASED_EXECUTE = 1 << 22, FRAME_SPP = 1 << 23, FRAME_BUS_LOCK_DETECTION = 1 << 30 };
/* Tertiary controls. */
static inline u64 frame_tertiary(const struct vmcs *vmcs)
{
    return vmcs->primary_controls >> 17 & 1 ? vmcs->tertiary_controls : 0;
}
enum { FRAME_HLAT = 1 << 1, FRAME_PAGING_WRITE = 1 << 2, FRAME_VERIFY = 1 << 3 };

#endif
