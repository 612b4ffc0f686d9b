/* The policies by name, and how the mechanism asks the one in force.
 */
#include "vmx/policy.h"

#include "vmx/capability.h"
#include "vmx/frame.h"
#include "vmx/stats.h"

#include <stdlib.h>

static const struct nestor_policy *const policies[] = {&vmx_policy_hardware, &vmx_policy_transparent,
                                                       &vmx_policy_multilevel, &vmx_policy_augmented};

/* ---- choosing ----------------------------------------------------------------------------------------------------- */

static bool unknown(const char *name, char *message, size_t message_size)
{
    size_t used = (size_t)snprintf(message, message_size, "policy '%s' is unknown: expected", name);
    for (size_t n = 0; n < ARRAY_SIZE(policies) && used < message_size; n++)
        used += (size_t)snprintf(message + used, message_size - used, "%s %s", n ? "," : "", policies[n]->name);
    return false;
}

void vmx_policy_free(struct cpu *cpu)
{
    free(cpu->policy_settings);
    cpu->policy_settings = NULL;
    cpu->policy = NULL;
}

/* One parameter, "key=value" up to its end or a comma. */
static bool set_parameter(struct cpu *cpu, const char *text, size_t length, char *message, size_t message_size)
{
    const struct nestor_policy *policy = cpu->policy;
    char word[128], why[256];
    if (length >= sizeof word) {
        snprintf(message, message_size, "policy %s: '%.*s': expected key=value of less than %d characters", policy->name,
                 40, text, (int)sizeof word);
        return false;
    }
    memcpy(word, text, length);
    word[length] = 0;
    char *equals = strchr(word, '=');
    if (equals)
        *equals = 0;
    if (!policy->set)
        snprintf(why, sizeof why, "it has no parameters");
    else if (!equals)
        snprintf(why, sizeof why, "expected key=value");
    else if (policy->set(cpu->policy_settings, word, equals + 1, why, sizeof why))
        return true;
    snprintf(message, message_size, "policy %s: '%.*s': %s", policy->name, (int)length, text, why);
    return false;
}

/* What of the CPU's VMX controls L1 gets, and which of them count as L0's own. */
static void take_controls(struct cpu *cpu)
{
    _Static_assert(CTL_COUNT <= 128, "a bit for each control");
    memset(cpu->vmx_withheld, 0, sizeof cpu->vmx_withheld);
    memset(cpu->vmx_emulated, 0, sizeof cpu->vmx_emulated);
    for (unsigned n = 0; cpu->policy->control && n < CTL_COUNT; n++) {
        const char *name = vmx_control_info(n)->name;
        int source = vmx_control_supported(cpu, n) ? cpu->policy->control(cpu->policy_settings, name) : NESTOR_HARDWARE;
        if (source == NESTOR_WITHHELD)
            cpu->vmx_withheld[n / 64] |= BIT(n % 64);
        else if (source == NESTOR_EMULATED)
            cpu->vmx_emulated[n / 64] |= BIT(n % 64);
    }
    cpu->ept_small_pages = !vmx_control_supported(cpu, CTL_EPTCAP_PAGES_1G);
}

static bool take(struct cpu *cpu, const struct nestor_policy *policy, const char *parameters, char *message,
                 size_t message_size)
{
    vmx_policy_free(cpu);
    cpu->policy = policy;
    if (policy->settings_size && !(cpu->policy_settings = calloc(1, policy->settings_size))) {
        snprintf(message, message_size, "policy %s: the host has not enough memory", policy->name);
        return false;
    }
    vmx_apic_attach();
    while (*parameters) {
        size_t length = strcspn(parameters, ",");
        if (!set_parameter(cpu, parameters, length, message, message_size))
            return false;
        parameters += length + (parameters[length] == ',');
    }
    take_controls(cpu);
    return true;
}

bool vmx_policy_set(struct cpu *cpu, const char *text, char *message, size_t message_size)
{
    size_t length = strcspn(text, ",");
    for (size_t n = 0; n < ARRAY_SIZE(policies); n++)
        if (strlen(policies[n]->name) == length && strncmp(policies[n]->name, text, length) == 0)
            return take(cpu, policies[n], text + length + (text[length] == ','), message, message_size);
    return unknown(text, message, message_size);
}

bool vmx_policy_set_library(struct cpu *cpu, const struct nestor_policy *policy, const char *parameters, char *message,
                            size_t message_size)
{
    if (policy->version != NESTOR_POLICY_VERSION || policy->size != sizeof *policy) {
        snprintf(message, message_size, "it is made for policy interface %u of %u bytes; this Nestor has %u of %u bytes",
                 policy->version, policy->size, NESTOR_POLICY_VERSION, (unsigned)sizeof *policy);
        return false;
    }
    if (!policy->name || !policy->text || policy->settings_size > 1u << 20) {
        snprintf(message, message_size, "it has no name, no text, or settings of more than 1 MiB");
        return false;
    }
    return take(cpu, policy, parameters, message, message_size);
}

/* ---- asking ------------------------------------------------------------------------------------------------------- */

bool vmx_policy_offers_level(const struct cpu *cpu, unsigned level)
{
    return vmx_policy_offers(cpu) && cpu->policy->offer_vmx(cpu->policy_settings, level);
}

static const struct { u8 class, scope; } kind[EXIT_REASON_COUNT] = {
#define EXIT(number, name, class_, scope_, ...) [number] = {VMX_CLASS_##class_, VMX_SCOPE_##scope_},
#include "vmx/exits.def"
#undef EXIT
};

bool vmx_policy_can_route(u32 reason, enum nestor_event_class event_class)
{
    if (reason >= EXIT_REASON_COUNT)
        return false;
    if (event_class == NESTOR_PHYSICAL)
        return kind[reason].class == VMX_CLASS_PHYSICAL || reason == EXIT_EXCEPTION_NMI;
    return kind[reason].scope == VMX_SCOPE_ANY || reason == EXIT_CPUID || reason == EXIT_XSETBV || reason == EXIT_INVD ||
           reason == EXIT_VMCALL;
}

bool vmx_policy_l0_can(u32 reason)
{
    return vmx_policy_can_route(reason, NESTOR_INSTRUCTION) && reason != EXIT_VMCALL;
}

int vmx_policy_route(const struct cpu *cpu, u32 wanting, struct nestor_event *event)
{
    int innermost = 31 - __builtin_clz(wanting), outermost = __builtin_ctz(wanting);
    int otherwise = event->event_class == NESTOR_PHYSICAL ? outermost : innermost;
    if (!cpu->policy || !cpu->policy->route)
        return otherwise;
    event->size = sizeof *event;
    event->cpu = cpu->index;
    event->level = cpu->vmx.depth + 1;
    event->wanting = wanting << 1;
    int target = cpu->policy->route(cpu->policy_settings, event);
    if (target == NESTOR_INNERMOST)
        return innermost;
    if (target == NESTOR_OUTERMOST)
        return outermost;
    if (target == NESTOR_L0 && event->event_class == NESTOR_INSTRUCTION && vmx_policy_l0_can(event->reason))
        return VMX_POLICY_L0;
    return target >= 1 && target <= VMX_MAX_FRAMES && wanting >> (target - 1) & 1 ? target - 1 : otherwise;
}

/* ---- for people --------------------------------------------------------------------------------------------------- */

void vmx_policies_print(FILE *out)
{
    for (size_t n = 0; n < ARRAY_SIZE(policies); n++)
        fprintf(out, "%-12s %s\n", policies[n]->name, policies[n]->text);
    fprintf(out, "FILE.ini     parameters, one a line: policy = NAME, then key = value\n"
                 "FILE.so      a policy in a shared library (vmx/policy_api.h, labs/policy/)\n\n"
                 "parameters\n"
                 "  levels=N         L0 makes no level past LN possible (transparent, multilevel)\n"
                 "  hw=MODEL         L0's hardware is said to have the VMX of this CPU model; what the CPU has beyond it is L0's\n"
                 "  offer=LIST       … and only these controls of it are offered: all, none, or names joined by +, such as\n"
                 "                   unrestricted-guest+pml (`nestor dump controls`)\n"
                 "  route.EVENT=WHO  who handles EVENT: L0, L1, L2 …, innermost, outermost or default; the narrowest EVENT wins:\n"
                 "                   instruction, physical; io.PORT[-PORT], msr.N[-N], rdmsr.N[-N], wrmsr.N[-N]; or one of\n"
                 "                  ");
    unsigned column = 0;
    for (u32 reason = 0; reason < EXIT_REASON_COUNT; reason++) {
        bool physical = vmx_policy_can_route(reason, NESTOR_PHYSICAL);
        if (!physical && !vmx_policy_can_route(reason, NESTOR_INSTRUCTION))
            continue;
        char name[40];
        snprintf(name, sizeof name, "%s", reason == EXIT_EXCEPTION_NMI ? "nmi" : vmx_exit_name(reason));
        for (char *c = name; *c; c++)
            *c = *c >= 'A' && *c <= 'Z' ? (char)(*c | 32) : *c;
        column += (unsigned)fprintf(out, " %s%s", name, physical || !vmx_policy_l0_can(reason) ? "*" : "");
        if (column > 80) {
            fprintf(out, "\n                  ");
            column = 0;
        }
    }
    fprintf(out, "\n                   (* not to L0)\n");
}
