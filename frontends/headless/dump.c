/* `nestor dump TABLE`: prints one of the tables the emulator is made of. */
#include "frontends/headless/commands.h"
#include "frontends/headless/status.h"

#include "cpu/model.h"
#include "cpu/table.h"
#include "vmx/policy.h"

#include <stdio.h>

static const struct { const char *name; void (*print)(FILE *out); const char *text; } tables[] = {
    {"insns", insn_table_print, "every instruction: encoding, operands, attributes, CPUID feature, VM-exit reason"},
    {"cpus", cpu_models_print, "processor models and features"},
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
        snprintf(message, sizeof(message), "dump %s: unknown table; expected one of these:", argv[0]);
        command_error(STATUS_USAGE, message);
    }
    FILE *out = help ? stdout : stderr;
    fputs("usage: nestor dump TABLE\n", out);
    for (unsigned i = 0; i < ARRAY_SIZE(tables); i++)
        fprintf(out, "  %-10s %s\n", tables[i].name, tables[i].text);
    return help ? STATUS_OK : STATUS_USAGE;
}
