/* The parameters of the built-in policies: levels=N, hw=MODEL, offer=LIST and the routing table route.EVENT=WHO.
 *
 * EVENT is a class (instruction, physical), an exit reason by its name in exits.def, or one with a range of numbers
 * (io.PORT, msr.N …). The narrowest EVENT that fits decides; of equally narrow ones the last that was given.
 */
#include "vmx/policy.h"

#include "cpu/model.h"
#include "vmx/capability.h"
#include "vmx/stats.h"
#include "vmx/vmx.h"

#include <stdlib.h>

#define TABLE(settings) ((const struct policy_settings *)(settings))

bool policy_levels_allow(const void *settings, unsigned level)
{
    const struct policy_settings *s = settings;
    return !s || !s->levels || level < s->levels;      /* a hypervisor at `level` has a guest one deeper */
}

int policy_route_by_table(const void *settings, const struct nestor_event *event)
{
    const struct policy_settings *s = settings;
    int target = NESTOR_DEFAULT, specific = -1;
    for (unsigned n = 0; s && n < s->routes; n++) {
        const struct policy_route *r = &s->route[n];
        if (r->event_class != event->event_class || (r->specific >= 1 && r->reason != event->reason) ||
            (r->specific == 2 && (event->number < r->first || event->number > r->last)) || r->specific < specific)
            continue;
        specific = r->specific;
        target = r->target;
    }
    return target;
}

/* A hypervisor reads IA32_DEBUGCTL about once per VM entry, because VM exits clear it (KVM: get_debugctlmsr). Its parent, if it intercepts
 * that, would be entered for each entry of every level above it. When VM entry loads and VM exit saves the register for that guest, its
 * running value is what the parent would look up in its VMCS; L0 gives it at once. The assumption: such a parent shows its guest no other
 * value than the guest's own. Writes go to the parent as ever. */
int policy_route_offered(const void *settings, const struct nestor_event *event)
{
    const unsigned free_of_charge = NESTOR_EVENT_OFFERED_HYPERVISOR | NESTOR_EVENT_VALUE_IS_PARENTS;
    int target = policy_route_by_table(settings, event);
    if (target == NESTOR_DEFAULT && event->reason == EXIT_RDMSR && (event->flags & free_of_charge) == free_of_charge)
        return NESTOR_L0;
    return target;
}

static bool name_is(const char *name, const char *text, size_t length);

/* The control that the `length` characters name, with or without its word: "SECONDARY_PML", "pml". CTL_COUNT: none. */
static unsigned control_named(const char *text, size_t length)
{
    for (unsigned n = 0; n < CTL_COUNT; n++) {
        const char *name = vmx_control_info(n)->name;
        if (name_is(name, text, length) || name_is(strchr(name, '_') + 1, text, length))
            return n;
    }
    return CTL_COUNT;
}

int policy_control(const void *settings, const char *name)
{
    const struct policy_settings *s = settings;
    if (!s || !s->hardware)
        return NESTOR_HARDWARE;
    unsigned n = control_named(name, strlen(name));
    if (n == CTL_COUNT || vmx_control_in_generation(n, s->hardware - 1u))
        return NESTOR_HARDWARE;
    return !s->offers_some || s->offer[n / 64] >> (n % 64) & 1 ? NESTOR_EMULATED : NESTOR_WITHHELD;
}

/* ---- parsing ------------------------------------------------------------------------------------------------------ */

static bool parse_u32(const char *text, const char **rest, u32 *value)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    unsigned long long v = strtoull(text, &end, 0);
    *value = (u32)v;
    *rest = end;
    return v <= 0xffffffffu;
}

static bool parse_target(const char *text, i32 *target)
{
    static const struct { const char *name; i32 target; } words[] = {
        {"innermost", NESTOR_INNERMOST}, {"outermost", NESTOR_OUTERMOST}, {"default", NESTOR_DEFAULT}};
    for (unsigned n = 0; n < ARRAY_SIZE(words); n++) {
        if (strcmp(text, words[n].name) == 0) {
            *target = words[n].target;
            return true;
        }
    }
    u32 level;
    const char *rest;
    if ((text[0] != 'L' && text[0] != 'l') || !parse_u32(text + 1, &rest, &level) || *rest || level > VMX_MAX_FRAMES)
        return false;
    *target = (i32)level;
    return true;
}

static bool name_is(const char *name, const char *text, size_t length)
{
    for (size_t n = 0; n < length; n++)
        if (!name[n] || ((name[n] | 32) != (text[n] | 32) && !(name[n] == '_' && text[n] == '-')))
            return false;
    return name[length] == 0;
}

/* The reason that the `length` characters name; EXIT_REASON_COUNT: none that can be routed. */
static u32 reason_named(const char *text, size_t length, u8 *event_class)
{
    *event_class = NESTOR_PHYSICAL;
    if (name_is("nmi", text, length))
        return EXIT_EXCEPTION_NMI;
    if (name_is("interrupt", text, length))
        return EXIT_EXTERNAL_INTERRUPT;
    for (u32 reason = 1; reason < EXIT_REASON_COUNT; reason++) {
        if (!vmx_exit_name(reason) || !name_is(vmx_exit_name(reason), text, length))
            continue;
        for (u8 c = NESTOR_INSTRUCTION; c <= NESTOR_PHYSICAL; c++) {
            if (vmx_policy_can_route(reason, (enum nestor_event_class)c)) {
                *event_class = c;
                return reason;
            }
        }
    }
    return EXIT_REASON_COUNT;
}

static bool no_event(const char *event, char *message, size_t message_size)
{
    snprintf(message, message_size, "no event '%s' can be routed: expected instruction, physical, io.PORT, msr.N or an exit reason "
             "(`nestor dump policies` lists them)", event);
    return false;
}

/* Fills one or two routes (msr.N is RDMSR and WRMSR). */
static bool parse_event(const char *event, struct policy_route route[2], unsigned *count, char *message, size_t message_size)
{
    static const struct { const char *name; u16 reason[2]; u8 count; } ranges[] = {
        {"io", {EXIT_IO_INSTRUCTION}, 1}, {"msr", {EXIT_RDMSR, EXIT_WRMSR}, 2}, {"rdmsr", {EXIT_RDMSR}, 1}, {"wrmsr", {EXIT_WRMSR}, 1}};
    size_t length = strcspn(event, ".");
    *count = 1;
    memset(route, 0, 2 * sizeof *route);
    if (strcmp(event, "instruction") == 0)
        return true;
    if (strcmp(event, "physical") == 0) {
        route[0].event_class = NESTOR_PHYSICAL;
        return true;
    }
    for (unsigned n = 0; n < ARRAY_SIZE(ranges); n++) {
        if (!name_is(ranges[n].name, event, length))
            continue;
        const char *rest = event + length;
        u32 first = 0, last = ~0u;
        if (*rest == '.') {
            if (!parse_u32(rest + 1, &rest, &first))
                return no_event(event, message, message_size);
            last = first;
            if (*rest == '-' && !parse_u32(rest + 1, &rest, &last))
                return no_event(event, message, message_size);
        }
        if (*rest || last < first)
            return no_event(event, message, message_size);
        *count = ranges[n].count;
        for (unsigned i = 0; i < *count; i++)
            route[i] = (struct policy_route){.specific = event[length] ? 2 : 1, .reason = ranges[n].reason[i], .first = first, .last = last};
        return true;
    }
    u32 reason = event[length] ? EXIT_REASON_COUNT : reason_named(event, length, &route[0].event_class);
    if (reason == EXIT_REASON_COUNT)
        return no_event(event, message, message_size);
    route[0].specific = 1;
    route[0].reason = (u16)reason;
    return true;
}

static bool set_route(struct policy_settings *s, const char *event, const char *who, char *message, size_t message_size)
{
    struct policy_route route[2];
    unsigned count;
    i32 target;
    if (!parse_event(event, route, &count, message, message_size))
        return false;
    if (!parse_target(who, &target)) {
        snprintf(message, message_size, "expected L0 to L%d, innermost, outermost or default", VMX_MAX_FRAMES);
        return false;
    }
    for (unsigned n = 0; n < count; n++) {
        bool l0_can = route[n].event_class == NESTOR_INSTRUCTION && (!route[n].specific || vmx_policy_l0_can(route[n].reason));
        if (target == NESTOR_L0 && !l0_can) {
            snprintf(message, message_size, "L0 cannot stand in for a hypervisor there");
            return false;
        }
        if (s->routes == POLICY_ROUTES) {
            snprintf(message, message_size, "more than %d routes", POLICY_ROUTES);
            return false;
        }
        route[n].target = target;
        s->route[s->routes++] = route[n];
    }
    return true;
}

static bool set_hardware(struct policy_settings *s, const char *value, char *message, size_t message_size)
{
    const struct cpu_model *model = cpu_model_named(value, strlen(value));
    if (!model) {
        snprintf(message, message_size, "expected a CPU model (`nestor dump cpus`)");
        return false;
    }
    s->hardware = (u8)(model->generation + 1);
    return true;
}

static bool set_offer(struct policy_settings *s, const char *value, char *message, size_t message_size)
{
    s->offers_some = strcmp(value, "all") != 0;
    memset(s->offer, 0, sizeof s->offer);
    if (!s->offers_some || strcmp(value, "none") == 0)
        return true;
    for (size_t length; *value; value += length + (value[length] == '+')) {
        length = strcspn(value, "+");
        unsigned n = control_named(value, length);
        if (n == CTL_COUNT) {
            snprintf(message, message_size, "no VMX control is called '%.*s' (`nestor dump controls`)", (int)length, value);
            return false;
        }
        s->offer[n / 64] |= BIT(n % 64);
    }
    return true;
}

bool policy_set_parameter(void *settings, const char *key, const char *value, char *message, size_t message_size)
{
    struct policy_settings *s = settings;
    if (strncmp(key, "route.", 6) == 0)
        return set_route(s, key + 6, value, message, message_size);
    if (strcmp(key, "levels") == 0) {
        const char *rest;
        u32 levels;
        if (parse_u32(value, &rest, &levels) && !*rest && levels >= 2 && levels <= VMX_MAX_FRAMES + 1) {
            s->levels = levels;
            return true;
        }
        snprintf(message, message_size, "expected levels=2 to levels=%d", VMX_MAX_FRAMES + 1);
        return false;
    }
    if (strcmp(key, "hw") == 0)
        return set_hardware(s, value, message, message_size);
    if (strcmp(key, "offer") == 0)
        return set_offer(s, value, message, message_size);
    snprintf(message, message_size, "expected levels=N, hw=MODEL, offer=LIST or route.EVENT=WHO");
    return false;
}
