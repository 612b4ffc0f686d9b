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
    bool state_hash;
    bool help;
};

/* Parses the words after `nestor run` (changed in place: modules are cut at their comma). 0, or an exit status with the
 * message set. */
int options_parse(struct options *options, int argc, char **argv, char *message, size_t message_size);

/* Reads the images that the options name into options->machine. 0, or an exit status with the message set; what was read
 * is to be freed in any case. */
int options_read_images(struct options *options, char *message, size_t message_size);
void options_free_images(struct options *options);

const char *options_engine_name(enum machine_engine engine);
/* The engine whose name the `length` bytes at `text` are. False: none. */
bool options_parse_engine(const char *text, size_t length, enum machine_engine *engine);

/* A size with an optional suffix K, M, G or T (powers of 1024); plain numbers count in `unit` bytes. False: not one. */
bool options_parse_size(const char *text, u64 unit, u64 *size);
/* A count with an optional suffix k, M or G (powers of 1000). */
bool options_parse_count(const char *text, u64 *count);

extern const char options_usage[];

#endif
