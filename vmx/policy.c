/* The policies by name.
 */
#include "vmx/policy.h"

#include "vmx/frame.h"

static const struct vmx_policy *const policies[] = {&vmx_policy_hardware, &vmx_policy_transparent};

static bool unknown(const char *name, char *message, size_t message_size)
{
    size_t used = (size_t)snprintf(message, message_size, "policy '%s' is unknown: expected", name);
    for (size_t n = 0; n < ARRAY_SIZE(policies) && used < message_size; n++)
        used += (size_t)snprintf(message + used, message_size - used, "%s %s", n ? "," : "", policies[n]->name);
    return false;
}

/* One parameter, "key=value" up to its end or a comma. */
static bool set_parameter(struct cpu *cpu, const char *text, size_t length, char *message, size_t message_size)
{
    unsigned levels = 0;
    bool is_levels = cpu->policy->has_levels && length > 7 && !strncmp(text, "levels=", 7);
    for (size_t i = 7; is_levels && i < length; i++)
        levels = text[i] >= '0' && text[i] <= '9' && levels < 100 ? levels * 10 + (unsigned)(text[i] - '0') : 1000;
    if (is_levels && levels >= 2 && levels <= VMX_MAX_FRAMES + 1) {
        cpu->policy_levels = levels;
        return true;
    }
    if (cpu->policy->has_levels)
        snprintf(message, message_size, "policy %s: '%.*s': expected levels=2 to levels=%d", cpu->policy->name, (int)length, text,
                 VMX_MAX_FRAMES + 1);
    else
        snprintf(message, message_size, "policy %s: '%.*s': it has no parameters", cpu->policy->name, (int)length, text);
    return false;
}

bool vmx_policy_set(struct cpu *cpu, const char *text, char *message, size_t message_size)
{
    size_t length = strcspn(text, ",");
    size_t n = 0;
    while (n < ARRAY_SIZE(policies) && (strlen(policies[n]->name) != length || strncmp(policies[n]->name, text, length) != 0))
        n++;
    if (n == ARRAY_SIZE(policies))
        return unknown(text, message, message_size);
    cpu->policy = policies[n];
    cpu->policy_levels = 0;
    vmx_apic_attach();
    for (const char *at = text + length; *at == ','; at += length) {
        at++;
        length = strcspn(at, ",");
        if (!set_parameter(cpu, at, length, message, message_size))
            return false;
    }
    return true;
}

void vmx_policies_print(FILE *out)
{
    for (size_t n = 0; n < ARRAY_SIZE(policies); n++)
        fprintf(out, "%-12s %s%s\n", policies[n]->name, policies[n]->text, policies[n]->has_levels ? "; levels=N: no level past LN" : "");
}
