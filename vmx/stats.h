/* Counters of what VMX did on one vCPU, for `--stats`: exits by level, reason and handler, what handling them took,
 * instructions by level, and which entry checks fired. Derived data: not saved, not hashed; nothing the guest can
 * see depends on it.
 *
 * Levels: 1 is L1; 0 stands for L0 (an exit that L0 handled itself without entering a hypervisor).
 */
#ifndef NESTOR_VMX_STATS_H
#define NESTOR_VMX_STATS_H

#include "vmx/checks.h"
#include "vmx/controls.h"
#include "vmx/reasons.h"
#include "vmx/state.h"

#include <stdio.h>

#define VMX_STATS_LEVELS (VMX_MAX_FRAMES + 2)     /* L0 .. L17 */

/* How numbers are spread: their extremes, and how many lie in each of the intervals that split every power of two into
 * four (vmx/stats.c); numbers below 8 have one each. */
#define VMX_SPREAD_BUCKETS 160
struct vmx_spread {
    u64 min, max;
    u32 bucket[VMX_SPREAD_BUCKETS];
};

/* What a level's being a hypervisor costs: its VM entries, made or tried; the instructions of each level outside its guests between the first of
 * them and its VMXOFF; and those that answered EPT violations in L1. While `open`, the *_since are the sums where it began. */
struct vmx_hypervisor {
    u64 entries, violations, instructions[VMX_STATS_LEVELS];
    u64 violations_since, instructions_since[VMX_STATS_LEVELS];
    bool open;
};

struct vmx_stats {
    u64 exits[VMX_STATS_LEVELS][EXIT_REASON_COUNT][VMX_STATS_LEVELS];   /* [level that ran][reason][level that handles it] */
    u64 handled[VMX_STATS_LEVELS][EXIT_REASON_COUNT];  /* exits after which the handler entered a guest again … */
    u64 handling[VMX_STATS_LEVELS][EXIT_REASON_COUNT]; /* … and the instructions in between, outer levels' included */
    struct vmx_spread spread[VMX_STATS_LEVELS][EXIT_REASON_COUNT];     /* … of each of them */
    u64 entries[VMX_STATS_LEVELS];                     /* successful VM entries by the level that is entered */
    u64 instructions[VMX_STATS_LEVELS];
    u64 entry_failures[VMX_CHECK_COUNT];
    u64 uses[CTL_COUNT][2];    /* VM entries of L1 with this control on: as the hardware's, as emulated (policy augmented) */
    struct vmx_hypervisor hypervisor[VMX_STATS_LEVELS];
    /* The open account: the level that runs since `since`, and for each level the exit it is handling. */
    u64 now, since;                                    /* cpu->time.retired, exact to the instruction */
    u32 level;
    u16 open_reason[VMX_STATS_LEVELS];                 /* EXIT_NONE: none */
    u64 open_since[VMX_STATS_LEVELS];
};

/* Zeroed counters; NULL when the host has no memory. */
struct vmx_stats *vmx_stats_create(void);
void vmx_stats_destroy(struct vmx_stats *stats);

/* Each of these does nothing when cpu->stats (or stats) is NULL. 
 *
 * Notes at which instruction the CPU stands: before rip or the level change, for what is told by the functions below. */
void vmx_stats_note_time(struct cpu *cpu);
/* A VM exit from level `from` that `handler` gets (its number; 0 when L0 deals with it and `from` goes on). */
void vmx_stats_exit(struct cpu *cpu, unsigned from, unsigned reason, unsigned handler);
/* A VM entry by level `by` succeeded; `level` runs now. */
void vmx_stats_entry(struct cpu *cpu, unsigned by, unsigned level);
/* L1 has entered a guest: which VMX controls it used, when a policy tells the hardware's from L0's. */
void vmx_stats_controls(struct cpu *cpu);
/* Level `level` leaves VMX operation by an instruction that L0 carries out. */
void vmx_stats_vmxoff(struct cpu *cpu, unsigned level);
/* A check of VM entry (enum vmx_check_id) fired. */
void vmx_stats_entry_failed(struct vmx_stats *stats, unsigned check);
/* Brings the account of the running level up to date (before printing). */
void vmx_stats_close(struct cpu *cpu);

/* Adds the counters of one vCPU to another's. */
void vmx_stats_add(struct vmx_stats *to, const struct vmx_stats *from);
/* Prints readable tables. Nothing but one line when VMX was never used. */
void vmx_stats_print(const struct vmx_stats *stats, FILE *out);

/* The SDM's text and the name of an exit reason; "?" for others. */
const char *vmx_exit_text(unsigned reason);
const char *vmx_exit_name(unsigned reason);

#endif
