/* `nestor dump TABLE`: prints one of the tables the emulator is made of. */
#include "frontends/headless/commands.h"
#include "frontends/headless/status.h"

#include "cpu/mode.h"
#include "cpu/model.h"
#include "cpu/table.h"
#include "vmx/dump.h"
#include "vmx/policy.h"

#include <stdio.h>
#include <stdlib.h>

/* A table whose rows depend on the processor, for the first model. */
static void dump_for_base(void (*print)(const struct cpu *cpu, FILE *out), FILE *out)
{
    char message[256];
    struct cpu *cpu = calloc(1, sizeof(*cpu));
    print(cpu && cpu_model_set(cpu, "base", message, sizeof(message)) ? cpu : NULL, out);
    free(cpu);
}
static void dump_fields(FILE *out) { dump_for_base(vmx_dump_fields, out); }
static void dump_controls(FILE *out) { dump_for_base(vmx_dump_controls, out); }

static const struct { const char *name; void (*print)(FILE *out); const char *text; } tables[] = {
    {"insns", insn_table_print, "every instruction: encoding, operands, attributes, CPUID feature, VM-exit reason"},
    {"cpus", cpu_models_print, "processor models and features"},
    {"fields", dump_fields, "VMCS fields: encoding, width, and the control that brings each"},
    {"controls", dump_controls, "VMX controls, and what the capability MSRs say of them"},
    {"checks", vmx_dump_checks, "the checks of VM entry, in order, with their predicates"},
    {"exits", vmx_dump_exits, "VM-exit reasons: class, scope, qualification"},
    {"policies", vmx_policies_print, "the policies for nested levels"},
};

int command_dump(int argc, char **argv)
{
    char message[256];
    for (unsigned i = 0; argc == 1 && i < ARRAY_SIZE(tables); i++) {
        if (strcmp(argv[0], tables[i].name) == 0) {
            tables[i].print(stdout);
            return STATUS_OK;
        }
    }
    bool help = argc == 1 && strcmp(argv[0], "--help") == 0;
    if (argc == 1 && !help) {
        int used = snprintf(message, sizeof(message), "dump %.40s: unknown table; expected one of", argv[0]);
        for (unsigned i = 0; i < ARRAY_SIZE(tables) && used < (int)sizeof(message); i++)
            used += snprintf(message + used, sizeof(message) - (size_t)used, "%s %s", i ? "," : "", tables[i].name);
        return command_error(STATUS_USAGE, message);
    }
    FILE *out = help ? stdout : stderr;
    fputs("usage: nestor dump TABLE\n", out);
    for (unsigned i = 0; i < ARRAY_SIZE(tables); i++)
        fprintf(out, "  %-10s %s\n", tables[i].name, tables[i].text);
    return help ? STATUS_OK : STATUS_USAGE;
}
