/* The walks through page tables and EPTs, for the files of mmu/ alone. A walk fills a result, or describes in
 * cpu->fault why it cannot; it raises nothing.
 */
#ifndef NESTOR_MMU_WALK_H
#define NESTOR_MMU_WALK_H

#include "mmu/access.h"
#include "mmu/context.h"

/* How a guest-physical address is used. */
struct gpa_use {
    u8 access;                 /* ACCESS_READ, _WRITE, _EXEC bits of enum access; reading is 0 */
    u8 side;                   /* enum tlb_side */
    bool user;                 /* ACCESS_EXEC: the linear address is a user-mode one (mode-based execute control) */
    bool table;                /* a guest paging structure is read or updated */
    bool own;                  /* the accessed page itself, not a table on the way to it */
    bool has_la;               /* la is what is being translated */
    bool peek;                 /* touch nothing: no caches, no flags, no log, no fault */
    bool unverified;           /* own: a paging structure on the way to it is not where guest paging may write */
    u8 shadow;                 /* enum shadow_use */
    u16 size;                  /* own: bytes, in one page */
    u32 page;                  /* own: LEAF_* as the guest's paging structures have them */
    u64 la;
};

enum shadow_use { SHADOW_NONE, SHADOW_USER, SHADOW_SUPERVISOR };

struct gpa_result {
    u64 hpa;
    u32 flags;                 /* GPA_*: what else could be done without a walk */
    int apic_frame;            /* the address is in this frame's APIC-access page (hpa means nothing then), or -1 */
    /* For a peek (memory_type.c): whether an EPT was on the way; whether all that were have write-back memory there; whether the
     * innermost frame's entry overrules the guest's PAT. */
    bool through_ept, write_back, ignores_pat;
};

/* Guest-physical address of the guest that frames 0..levels-1 have entered -> hpa, through all their EPTs. False:
 * cpu->fault. */
bool ept_translate(struct cpu *cpu, unsigned levels, u64 gpa, const struct gpa_use *use, struct gpa_result *result);

/* Loads and stores of paging-structure entries: size 4 or 8, aligned. A peek fails where there is no memory. */
bool walk_load(struct cpu *cpu, u64 hpa, unsigned size, bool peek, u64 *value);
void walk_store(struct cpu *cpu, u64 hpa, unsigned size, u64 value);

struct la_result {
    u64 gpa;
    u32 flags;                 /* LEAF_WRITABLE, _USER, _GLOBAL, _SHADOW_STACK, key; LEAF_EXECUTE: NX is clear; LEAF_WRITE_THROUGH: D is set */
    unsigned shift;            /* log2 of the page's size, or less where it may not be cached as so large */
    unsigned pat;              /* the PAT's entry that gives its memory type */
    bool unverified;           /* see struct gpa_use */
};

/* la -> gpa of the running level, through its page tables, with the rights of `access` (ACCESS_*); sets A and D.
 * False: cpu->fault. */
bool walk_translate(struct cpu *cpu, u64 la, unsigned access, bool peek, struct la_result *result);

/* A data access's la (access: ACCESS_*) without what linear-address masking lets a program keep in it. */
u64 walk_program_la(const struct cpu *cpu, u64 la, unsigned access);

/* An access with these ACCESS_* bits is a user-mode access. */
bool walk_user_access(const struct cpu *cpu, unsigned access);

/* The error-code bits (P, PK) of the page fault that an access to a page with these LEAF_* flags raises, 0 when it is
 * allowed. */
u32 walk_denied(const struct cpu *cpu, u32 flags, unsigned access);

/* Fills cpu->fault for an access to frame's APIC-access page at `offset` [SDM3 "APIC-Access VM Exits"]. linear: by a
 * linear address. */
void walk_apic_fault(struct cpu *cpu, unsigned frame, unsigned offset, unsigned access, bool linear, u64 la);

/* MAXPHYADDR. */
static inline unsigned walk_pa_bits(const struct cpu *cpu) { return cpu->mode.pa_bits ? cpu->mode.pa_bits : 46; }

#endif
