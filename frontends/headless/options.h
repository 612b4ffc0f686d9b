/* The command line of `nestor run`: words in, a struct of what was asked for out. Every mistake is one line that names the
 * option and what was expected.
 */
#ifndef NESTOR_FRONTENDS_HEADLESS_OPTIONS_H
#define NESTOR_FRONTENDS_HEADLESS_OPTIONS_H

#include "machine/machine.h"

#define OPTIONS_TRACES 8

struct options {
    struct machine_config machine;     /* images not read yet */
    const char *kernel, *initrd;       /* file names or NULL */
    const char *module[MACHINE_MODULES];
    const char *serial;                /* stdio, none, file:F */
    const char *debugcon;              /* likewise; NULL: stderr */
    const char *until_serial;          /* POSIX extended regular expression or NULL */
    const char *trace[OPTIONS_TRACES]; /* CATS:FILE */
    unsigned trace_count;
    u64 trace_start, trace_stop;
    bool help;
};

/* Parses the words after `nestor run` (changed in place: modules are cut at their comma). 0, or an exit status with the
 * message set. */
int options_parse(struct options *options, int argc, char **argv, char *message, size_t message_size);

/* A size with an optional suffix K, M, G or T (powers of 1024); plain numbers count in `unit` bytes. False: not one. */
bool options_parse_size(const char *text, u64 unit, u64 *size);
/* A count with an optional suffix k, M or G (powers of 1000). */
bool options_parse_count(const char *text, u64 *count);

extern const char options_usage[];

#endif
