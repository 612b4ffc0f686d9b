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

static void dump_fields(struct cpu *cpu, FILE *out) { vmx_dump_fields(cpu, out); }
static void dump_controls(struct cpu *cpu, FILE *out) { vmx_dump_controls(cpu, out); }

/* A table has `print`, or depends on the processor: `print_for`. With both, the second is for a model that is named. */
static const struct {
    const char *name;
    void (*print)(FILE *out);
    void (*print_for)(struct cpu *cpu, FILE *out);
    const char *text;
} tables[] = {
    {"insns", insn_table_print, NULL, "every instruction: encoding, operands, attributes, CPUID feature, VM-exit reason"},
    {"cpus", cpu_models_print, cpu_leaves_print, "processor models and features; with MODEL: its CPUID leaves"},
    {"fields", NULL, dump_fields, "VMCS fields of MODEL: encoding, width, and the control that brings each"},
    {"controls", NULL, dump_controls, "VMX controls, and what the capability MSRs of MODEL say of them"},
    {"checks", vmx_dump_checks, NULL, "the checks of VM entry, in order, with their predicates"},
    {"exits", vmx_dump_exits, NULL, "VM-exit reasons: class, scope, qualification"},
    {"policies", vmx_policies_print, NULL, "the policies for nested levels"},
};

/* Prints what depends on the processor, for the model that `words` describe as on the command line. */
static int dump_for(void (*print)(struct cpu *cpu, FILE *out), const char *words)
{
    char message[256];
    int status = STATUS_OK;
    struct cpu *cpu = calloc(1, sizeof(*cpu));
    if (!cpu)
        return command_error(STATUS_HOST, "no memory");
    if (cpu_model_set(cpu, words, message, sizeof(message))) {
        cpu_reset(cpu, false);
        print(cpu, stdout);
    } else {
        status = command_error(STATUS_USAGE, message);
    }
    free(cpu);
    return status;
}

int command_dump(int argc, char **argv)
{
    char message[256];
    for (unsigned i = 0; argc >= 1 && i < ARRAY_SIZE(tables); i++) {
        if (strcmp(argv[0], tables[i].name) != 0 || argc > (tables[i].print_for ? 2 : 1))
            continue;
        if (argc == 2 || !tables[i].print)
            return dump_for(tables[i].print_for, argc == 2 ? argv[1] : "base");
        tables[i].print(stdout);
        return STATUS_OK;
    }
    bool help = argc == 1 && strcmp(argv[0], "--help") == 0;
    if (argc == 1 && !help) {
        int used = snprintf(message, sizeof(message), "dump %.40s: unknown table; expected one of", argv[0]);
        for (unsigned i = 0; i < ARRAY_SIZE(tables) && used < (int)sizeof(message); i++)
            used += snprintf(message + used, sizeof(message) - (size_t)used, "%s %s", i ? "," : "", tables[i].name);
        return command_error(STATUS_USAGE, message);
    }
    FILE *out = help ? stdout : stderr;
    fputs("usage: nestor dump TABLE [MODEL[,+F,-F]]\n", out);
    for (unsigned i = 0; i < ARRAY_SIZE(tables); i++)
        fprintf(out, "  %-10s %s\n", tables[i].name, tables[i].text);
    return help ? STATUS_OK : STATUS_USAGE;
}
