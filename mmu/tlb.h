/* The tagged TLB. A translation context = (EPTP chain, VPID chain, PCID); each has its own direct-mapped array of
 * entries and a world switch only changes cpu->tlb_now. An entry holds the composed translation la -> host memory
 * through every level's EPT, so an access at L5 costs what one at L1 costs.
 *
 * The low 12 bits of an entry's tag words carry the context's generation (bits 11:2) and the mode the entry was made
 * for (bits 1:0), so that flushing a context is an increment and a change of privilege needs no flush. cpu->tlb_tag
 * holds the same bits of the running mode.
 *
 * Kept true: an entry's write tag is set only when the page may be written with no further check: its dirty bits are
 * set at every level, no page-modification logging is due, and the RAM page is neither PAGE_CODE nor PAGE_ROM. Device
 * pages never enter.
 */
#ifndef NESTOR_MMU_TLB_H
#define NESTOR_MMU_TLB_H

#include "cpu/state.h"

#define TLB_ENTRIES 8192
#define TLB_TAG_INVALID 1ull            /* no page address has these low bits together with a live generation */
#define TLB_TAG_SLOW 3ull               /* mode 3 is never installed: nothing matches */

enum tlb_mode { TLB_SUPERVISOR, TLB_USER, TLB_SUPERVISOR_SMAP, TLB_MODE_SLOW };

struct tlb_entry {
    u64 read, write;                    /* la of the page | generation and mode, or TLB_TAG_INVALID */
    uintptr_t addend;                   /* host address = la + addend (modulo 2^N of the host's pointers) */
    u64 spare;                          /* a power of two in size, for the JIT */
};

/* Translated code fills cpu->tlb_recent, copies of entries. mmu/ drops them with whatever could make an entry miss, so that they never hit where
 * the TLB would not: every engine sees the same hits, also of entries that have become stale in the tables. */

/* Creates and destroys a vCPU's TLB. cpu->bus is set before. tlb_init leaves the CPU in a context; false when the host
 * has no memory. */
bool tlb_init(struct cpu *cpu);
void tlb_free(struct cpu *cpu);

/* Recomputes cpu->tlb_now, tlb_tag and tlb_uid from the CPU's state: depth and frames (EPTP and VPID chain), CR4.PCIDE
 * and CR3's PCID, CPL, RFLAGS.AC and CR4.SMAP, tlb_slow. Cheap when the context stays. Call it after any change of
 * those (cpu_mode_update does). Changes of the controls that decide on rights (CR0.WP, CR4.SMEP/SMAP/PKE/PKS/PSE,
 * EFER.NXE, PKRU, paging mode) are noticed here, too: no stale right survives them. */
void tlb_select(struct cpu *cpu);

/* Flushes. They hit at least what they name; uid changes so that cached blocks by la are looked up again. */
void tlb_flush_context(struct cpu *cpu, bool keep_global);        /* the current context (MOV CR3, CR0/CR4 changes …) */
void tlb_flush_page(struct cpu *cpu, u64 la);                     /* INVLPG in the current context (globals of every PCID too) */
void tlb_flush_pcid(struct cpu *cpu, unsigned pcid, bool keep_global);  /* current EPT/VPID chain, one PCID */
void tlb_flush_pcid_page(struct cpu *cpu, unsigned pcid, u64 la);
void tlb_flush_all_pcids(struct cpu *cpu);                        /* current EPT/VPID chain, everything */
void tlb_flush_everything(struct cpu *cpu);                       /* all contexts of this vCPU */

/* For VMX: what INVVPID and INVEPT of the hypervisor of frame `k` (k = depth at the time of the instruction) name.
 * Contexts whose chain has, at place k, this VPID (or any: `all`) are hit; for INVEPT those whose EPTP at place k has
 * the same bits 51:12, or any. */
void tlb_invvpid(struct cpu *cpu, unsigned k, u16 vpid, bool all, bool keep_global);
void tlb_invvpid_page(struct cpu *cpu, unsigned k, u16 vpid, u64 la);
void tlb_invept(struct cpu *cpu, unsigned k, u64 eptp, bool all);

/* VM entry to and VM exit from the guest of frame k without VPID: forgets the translations of VPID 0 on both sides
 * [SDM3 "Operations that Invalidate Cached Mappings"]. Call it with depth = k or k + 1, at every entry and exit when
 * "enable VPID" is 0. */
void tlb_flush_vpid0(struct cpu *cpu, unsigned k);

/* A RAM page now holds code, or a new log/dirty state is wanted: no TLB of this CPU keeps a writable entry for it. */
void tlb_forbid_writes(struct cpu *cpu, u64 ram_page_offset);

#endif
