/* The policies by name.
 */
#include "vmx/policy.h"

#include "vmx/frame.h"

static const struct vmx_policy *const policies[] = {&vmx_policy_hardware, &vmx_policy_transparent};

bool vmx_policy_set(struct cpu *cpu, const char *text, char *message, size_t message_size)
{
    for (size_t n = 0; n < ARRAY_SIZE(policies); n++) {
        if (!strcmp(policies[n]->name, text)) {
            cpu->policy = policies[n];
            vmx_apic_attach();
            return true;
        }
    }
    size_t used = (size_t)snprintf(message, message_size, "policy '%s' is unknown: expected", text);
    for (size_t n = 0; n < ARRAY_SIZE(policies) && used < message_size; n++)
        used += (size_t)snprintf(message + used, message_size - used, "%s %s", n ? "," : "", policies[n]->name);
    return false;
}

void vmx_policies_print(FILE *out)
{
    for (size_t n = 0; n < ARRAY_SIZE(policies); n++)
        fprintf(out, "%-12s %s\n", policies[n]->name, policies[n]->text);
}
