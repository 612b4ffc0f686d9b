/* The five lists for people: what `nestor dump` prints. Columns are separated by at least two spaces, one row a
 * line, so that the output can be cut and grepped.
 */
#include "vmx/dump.h"

#include "cpu/features.h"
#include "cpu/state.h"
#include "vmx/capability.h"
#include "vmx/checks.h"
#include "vmx/fields.h"
#include "vmx/stats.h"

static const char *const kind_text[] = {"control", "read-only", "guest", "host"};

/* When a field exists: the control that brings it. */
static const char *presence(const struct vmx_field_info *info)
{
    return info->present == CTL_ALWAYS ? "always" : info->present == CTL_NEVER ? "never" : vmx_control_info(info->present)->name;
}

void vmx_dump_fields(const struct cpu *cpu, FILE *out)
{
    fprintf(out, "%-8s  %-7s  %-9s  %-36s  %-4s  %-38s  %s\n", "encoding", "width", "kind", "name", cpu ? "here" : "", "with",
            "SDM name");
    for (unsigned n = 0; n < VMX_FIELD_COUNT; n++) {
        const struct vmx_field_info *info = vmx_field_info(n);
        char width[8];
        snprintf(width, sizeof width, "%u", (unsigned)info->bits);
        fprintf(out, "0x%04x    %-7s  %-9s  %-36s  %-4s  %-38s  %s\n", info->encoding, info->natural ? "natural" : width,
                kind_text[info->kind], info->name, !cpu ? "" : vmx_field_present(cpu, n) ? "yes" : "no", presence(info),
                info->text);
    }
}

/* The name of a feature as the command line spells it. */
static const char *feature_text(unsigned feature)
{
    static const char *const text[FEATURE_COUNT] = {
#define FEATURE(name, text_, ...) [FEATURE_##name] = text_,
#include "cpu/features.def"
#undef FEATURE
    };
    return feature >= FEATURE_COUNT ? "not yet" : feature == FEATURE_BASE ? "always" : text[feature];
}

void vmx_dump_controls(const struct cpu *cpu, FILE *out)
{
    unsigned word = VMX_WORD_COUNT;
    for (unsigned n = 0; n < CTL_COUNT; n++) {
        const struct vmx_control_info *info = vmx_control_info(n);
        if (info->word != word) {
            word = info->word;
            fprintf(out, "%s%s (must be 1: 0x%08llx", n ? "\n" : "", vmx_control_word_text(word),
                    (unsigned long long)vmx_allowed_0(word));
            if (cpu)
                fprintf(out, ", may be 1: 0x%08llx", (unsigned long long)vmx_allowed_1(cpu, word));
            fprintf(out, ")\n");
        }
        fprintf(out, "  %2u  %-38s  %-8s  %s%s\n", info->bit, info->name, feature_text(info->feature), info->text,
                cpu && info->feature < FEATURE_COUNT && !vmx_control_supported(cpu, n) ? " [off on this CPU]" : "");
    }
}

void vmx_dump_checks(FILE *out)
{
    static const char *const group_text[] = {
        "controls: VMfailValid, error 7", "host state: VMfailValid, error 8", "guest state: VM exit, reason 33",
    };
    unsigned group = ~0u, section = ~0u;
    for (unsigned n = 0; n < VMX_CHECK_COUNT; n++) {
        if (vmx_check_section(n) != section) {
            section = vmx_check_section(n);
            const struct vmx_check_section_info *info = vmx_check_section_info(section);
            if (info->group != group)
                fprintf(out, "%s== %s\n", n ? "\n" : "", group_text[info->group]);
            group = info->group;
            fprintf(out, "\n[SDM3 \"%s\"]\n", info->title);
        }
        const struct vmx_check *check = vmx_check_info(n);
        fprintf(out, "  %-36s  %s", check->name, check->predicate);
        if (check->qualification)
            fprintf(out, "  (qualification %u)", check->qualification);
        fprintf(out, "\n");
    }
}

void vmx_dump_exits(FILE *out)
{
    static const struct { u32 number; const char *name, *class, *scope, *qualification, *text; } exits[] = {
#define EXIT(number_, name_, class_, scope_, qualification_, text_) {number_, #name_, #class_, #scope_, #qualification_, text_},
#include "vmx/exits.def"
#undef EXIT
    };
    fprintf(out, "%-2s  %-24s  %-11s  %-13s  %-13s  %s\n", "no", "name", "class", "scope", "qualification", "text");
    for (unsigned n = 0; n < ARRAY_SIZE(exits); n++)
        fprintf(out, "%2u  %-24s  %-11s  %-13s  %-13s  %s\n", exits[n].number, exits[n].name, exits[n].class, exits[n].scope,
                exits[n].qualification, exits[n].text);
}

void vmx_dump_vmcs(const struct cpu *cpu, const struct vmcs *vmcs, FILE *out)
{
    fprintf(out, "launch state: %s\n", vmcs->launched ? "launched" : "clear");
    for (unsigned n = 0; n < VMX_FIELD_COUNT; n++) {
        const struct vmx_field_info *info = vmx_field_info(n);
        if (vmx_field_present(cpu, n))
            fprintf(out, "%-9s  %-36s  0x%0*llx\n", kind_text[info->kind], info->name, info->bits / 4,
                    (unsigned long long)vmx_field_get(vmcs, n));
    }
}
