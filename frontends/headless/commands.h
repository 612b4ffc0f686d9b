/* The sub-commands of `nestor`. Each takes the words behind its own and returns an exit status. */
#ifndef NESTOR_FRONTENDS_HEADLESS_COMMANDS_H
#define NESTOR_FRONTENDS_HEADLESS_COMMANDS_H

#include "cpu/base.h"

int command_run(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_dump(int argc, char **argv);
int command_lockstep(int argc, char **argv);

/* Prints "nestor: MESSAGE" on stderr. Returns `status`. */
int command_error(int status, const char *message);

#endif
