/* An L0 policy of one's own, in a shared library: the nearest hypervisor handles everything, but the serial console belongs
 * to one level that the user names, however deep the guest is that writes to it.
 *
 *     ./build.sh . && nestor run --policy ./console_owner.so,level=1 …
 *
 * level=0 (the default) has Nestor itself carry the accesses out: a guest five levels down prints without any hypervisor.
 */
#include "vmx/policy_api.h"

#include <stdio.h>
#include <string.h>

#define COM1 0x3f8u
#define EXIT_IO_INSTRUCTION 30u

struct settings {
    int level;
};

static bool set(void *settings, const char *key, const char *value, char *message, size_t message_size)
{
    struct settings *s = settings;
    if (strcmp(key, "level") != 0 || value[0] < '0' || value[0] > '9' || value[1]) {
        snprintf(message, message_size, "expected level=0 to level=9");
        return false;
    }
    s->level = value[0] - '0';
    return true;
}

/* Every level gets VMX, as under `transparent`. */
static bool offer_vmx(const void *settings, unsigned level)
{
    (void)settings, (void)level;
    return true;
}

static int route(const void *settings, const struct nestor_event *event)
{
    const struct settings *s = settings;
    if (event->reason == EXIT_IO_INSTRUCTION && event->number - COM1 < 8)
        return s ? s->level : NESTOR_L0;
    return NESTOR_DEFAULT;
}

extern const struct nestor_policy nestor_policy;
const struct nestor_policy nestor_policy = {
    .version = NESTOR_POLICY_VERSION,
    .size = sizeof(struct nestor_policy),
    .name = "console_owner",
    .text = "the nearest hypervisor handles everything but the serial console",
    .settings_size = sizeof(struct settings),
    .set = set,
    .offer_vmx = offer_vmx,
    .route = route,
};
