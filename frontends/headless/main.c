/* nestor, the program: finds the sub-command. Exit statuses are in status.h. */
#include "frontends/headless/commands.h"
#include "frontends/headless/status.h"

#include <stdio.h>

#define VERSION "0.1.0"

static const char usage[] =
    "usage: nestor COMMAND …\n"
    "  run      run a kernel on the emulated machine (`nestor run --help`)\n"
    "  lockstep run two engines side by side and compare the machine's state (`nestor lockstep --help`)\n"
    "  bench    measure what instructions, memory accesses and VM exits cost on this host\n"
    "  dump     print the tables the emulator is made of: insns, fields, controls, checks, exits, cpus, policies\n"
    "  --version, --help\n";

static const struct { const char *name; int (*run)(int argc, char **argv); } commands[] = {
    {"run", command_run},
    {"lockstep", command_lockstep},
    {"bench", command_bench},
    {"dump", command_dump},
};

static const char *const absent[] = {"replay", "snapshot"};

int command_error(int status, const char *message)
{
    fprintf(stderr, "nestor: %s\n", message);
    return status;
}

int main(int argc, char **argv)
{
    char message[256];
    if (argc < 2) {
        fputs(usage, stderr);
        return STATUS_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        fputs(usage, stdout);
        return STATUS_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("nestor " VERSION);
        return STATUS_OK;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 2, argv + 2);
    for (unsigned i = 0; i < ARRAY_SIZE(absent); i++) {
        if (strcmp(argv[1], absent[i]) == 0) {
            snprintf(message, sizeof(message), "%s: not implemented yet", absent[i]);
            return command_error(STATUS_USAGE, message);
        }
    }
    if (strcmp(argv[1], "demo") == 0 || strcmp(argv[1], "test") == 0 || strcmp(argv[1], "stack") == 0) {
        snprintf(message, sizeof(message), "%s: a command of the script `nestor` in the source tree", argv[1]);
        return command_error(STATUS_USAGE, message);
    }
    snprintf(message, sizeof(message), "%s: unknown command; expected run, lockstep, bench or dump (`nestor --help`)", argv[1]);
    return command_error(STATUS_USAGE, message);
}
