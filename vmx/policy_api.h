/* What an L0 policy is: the interface between Nestor and those that decide who handles what, built in or in a shared
 * library (`--policy ./mine.so`, example in labs/policy/). It needs nothing else of Nestor, and no Nestor source.
 *
 * A policy is pure decision: it is asked, and answers from its settings and the question alone. It keeps no other state
 * and looks at nothing outside, because the same run must give the same answers every time.
 *
 * A library exports one object of this type under the name NESTOR_POLICY_SYMBOL:
 *
 *     const struct nestor_policy nestor_policy = {.version = NESTOR_POLICY_VERSION, .size = sizeof(struct nestor_policy), …};
 *
 * Levels are numbered as everywhere: L1 runs on the (emulated) hardware, its guest is L2. "Hypervisor L2" is what runs
 * at L2 and has entered a guest L3.
 */
#ifndef NESTOR_VMX_POLICY_API_H
#define NESTOR_VMX_POLICY_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NESTOR_POLICY_VERSION 1u
#define NESTOR_POLICY_SYMBOL "nestor_policy"

/* Who shall handle an event: one of these, or a level from 1 on. */
enum {
    NESTOR_L0 = 0,             /* Nestor itself: the instruction is executed as on the hardware, no VM exit */
    NESTOR_DEFAULT = -1,       /* as without a policy: the innermost of those that want it; physical events the outermost */
    NESTOR_INNERMOST = -2,
    NESTOR_OUTERMOST = -3,
};

enum nestor_event_class {
    NESTOR_INSTRUCTION,        /* an instruction of the guest: CPUID, I/O, MSRs, HLT … */
    NESTOR_PHYSICAL,           /* external interrupt, NMI, INIT, start-up IPI */
};

enum nestor_event_flags {
    /* The running level is a hypervisor (in VMX operation) whose parent does not know: L0 has offered it VMX. */
    NESTOR_EVENT_OFFERED_HYPERVISOR = 1,
    /* RDMSR: the parent's VMCS loads this register at VM entry and saves it at VM exit, so that the running value is
     * what the parent itself would look up. */
    NESTOR_EVENT_VALUE_IS_PARENTS = 2,
};

/* What L0's own hardware is said to have, and what it adds. */
enum nestor_control_source {
    NESTOR_HARDWARE,           /* the hardware has this VMX control: L1 may use it */
    NESTOR_EMULATED,           /* it has not, and L0 offers it all the same */
    NESTOR_WITHHELD,           /* L1 shall not have it */
};

struct nestor_event {
    uint32_t size;             /* sizeof(struct nestor_event) of this Nestor */
    uint32_t cpu;              /* number of the vCPU */
    uint32_t level;            /* the level that runs, 2 or more */
    uint32_t event_class;      /* enum nestor_event_class */
    uint32_t reason;           /* basic VM-exit reason [SDM3 Appendix "VMX Basic Exit Reasons"] */
    uint32_t number;           /* port, MSR or leaf function, where the reason has one */
    uint32_t bytes;            /* width of a port access: 1, 2, 4 */
    uint32_t wanting;          /* bit x: the controls of hypervisor Lx ask for a VM exit; never 0 */
    uint32_t flags;            /* enum nestor_event_flags */
    uint64_t qualification;
};

struct nestor_policy {
    uint32_t version;          /* NESTOR_POLICY_VERSION */
    uint32_t size;             /* sizeof(struct nestor_policy) */
    const char *name, *text;   /* one word; one line for people */
    size_t settings_size;      /* bytes of settings, given zeroed to the functions below; may be 0 */
    /* A parameter from the command line or the policy file, "key=value". False with a one-line message: not understood.
     * NULL: there are no parameters. */
    bool (*set)(void *settings, const char *key, const char *value, char *message, size_t message_size);
    /* May L0 offer VMX to hypervisor-to-be L`level` (2 or more), whose parent has just shown it a CPUID without VMX?
     * NULL: never. `settings` may be NULL in all functions: then defaults hold. */
    bool (*offer_vmx)(const void *settings, unsigned level);
    /* Who handles an event that at least one hypervisor wants. A level that does not want it, or does not exist, counts
     * as NESTOR_DEFAULT; so does NESTOR_L0 where Nestor cannot stand in (`nestor dump policies` lists where it can).
     * NULL: always the default. */
    int (*route)(const void *settings, const struct nestor_event *event);
    /* Where a VMX control, or capability of EPT, that the CPU model has comes from (enum nestor_control_source). Asked once for
     * each, by its name in `nestor dump controls`, e.g. "SECONDARY_UNRESTRICTED_GUEST". NULL: all are the hardware's. */
    int (*control)(const void *settings, const char *name);
};

#endif
