/* L0 policies inside Nestor: which there are, how one is given to a CPU, and how it is asked. What a policy is stands in
 * vmx/policy_api.h, which is all that a policy in a shared library needs; the mechanism (frames, exits, entries,
 * suspended units) is the rest of vmx/ and the same for all.
 */
#ifndef NESTOR_VMX_POLICY_H
#define NESTOR_VMX_POLICY_H

#include "cpu/state.h"
#include "vmx/policy_api.h"

#include <stdio.h>

extern const struct nestor_policy vmx_policy_hardware, vmx_policy_transparent, vmx_policy_multilevel, vmx_policy_augmented;

/* Gives the CPU the policy that `text` names, with its parameters: NAME[,key=value]… ("hardware",
 * "transparent,levels=5", "multilevel,route.cpuid=L0"). False, with a one-line message naming the part and what was
 * expected, when it is not understood. */
bool vmx_policy_set(struct cpu *cpu, const char *text, char *message, size_t message_size);
/* The same for a policy out of a shared library; `parameters` is "key=value,…", or empty. */
bool vmx_policy_set_library(struct cpu *cpu, const struct nestor_policy *policy, const char *parameters, char *message,
                            size_t message_size);
void vmx_policy_free(struct cpu *cpu);

/* May L0 offer VMX to hypervisor-to-be L`level`? */
bool vmx_policy_offers_level(const struct cpu *cpu, unsigned level);
static inline bool vmx_policy_offers(const struct cpu *cpu) { return cpu->policy && cpu->policy->offer_vmx; }

/* The frame that takes an event which the frames in `wanting` (bit k = frame k, not 0) ask for; VMX_POLICY_L0: none, the
 * instruction is executed. The event's level, class and wanting are filled in here. */
#define VMX_POLICY_L0 (-1)
int vmx_policy_route(const struct cpu *cpu, u32 wanting, struct nestor_event *event);

/* Which exits a policy can route, and which of them to L0. */
bool vmx_policy_can_route(u32 reason, enum nestor_event_class event_class);
bool vmx_policy_l0_can(u32 reason);

/* Prints the policies with their descriptions, and what can be routed, for `nestor dump policies`. */
void vmx_policies_print(FILE *out);

/* The settings of the policies that are built in, and their parameters. */
#define POLICY_ROUTES 64
struct policy_settings {
    unsigned levels;           /* L0 makes no level past this one possible; 0: no limit */
    u8 hardware;               /* 1 + enum cpu_generation that L0's hardware is said to be of; 0: the CPU's own */
    u8 offers_some;            /* only the controls in `offer`, beyond the hardware's */
    u64 offer[2];              /* by number of the control */
    unsigned routes;
    struct policy_route {
        u8 event_class;        /* enum nestor_event_class */
        u8 specific;           /* 0 the whole class, 1 one reason, 2 a range of numbers */
        u16 reason;
        u32 first, last;       /* ports, MSRs */
        i32 target;            /* a level, or NESTOR_… */
    } route[POLICY_ROUTES];
};
bool policy_set_parameter(void *settings, const char *key, const char *value, char *message, size_t message_size);
bool policy_levels_allow(const void *settings, unsigned level);
/* What the parameters hw and offer say. */
int policy_control(const void *settings, const char *name);
/* What the parameters route.… say, NESTOR_DEFAULT when nothing. */
int policy_route_by_table(const void *settings, const struct nestor_event *event);
/* The same where L0 offers VMX: it answers a hypervisor's reads of IA32_DEBUGCTL, if nothing is said of them. */
int policy_route_offered(const void *settings, const struct nestor_event *event);

#endif
