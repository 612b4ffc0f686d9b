/* What the machine and the front ends need of the host's operating system: whole files, the terminal, waiting for
 * input, Ctrl-C. One implementation a system (machine/host_posix.c); nothing above knows which.
 *
 * Errors are `false` with one line in `message` that names the file and what was wrong.
 */
#ifndef NESTOR_MACHINE_HOSTIO_H
#define NESTOR_MACHINE_HOSTIO_H

#include "cpu/base.h"

/* A file in memory, or memory that a loader made. */
struct image {
    u8 *data;                  /* malloc'd */
    u64 size;                  /* bytes */
    char *name;                /* as the user wrote it; malloc'd */
};

/* Reads a whole file. `what` names its role in the message ("kernel", "initrd", "module" …). */
bool hostio_read_file(struct image *image, const char *what, const char *path, char *message, size_t message_size);
void hostio_free_image(struct image *image);

/* Opens a shared library and finds the object it exports as `symbol`. NULL with a message. */
void *hostio_open_library(const char *path, const char *symbol, const void **object, char *message, size_t message_size);
void hostio_close_library(void *library);

/* The console: standard input, character by character when it is a terminal (Ctrl-C still interrupts). hostio_console_close
 * gives the terminal back as it was, also when called twice or from atexit. */
void hostio_console_open(void);
void hostio_console_close(void);
/* Takes what is there, without waiting: number of bytes, 0 for nothing now, -1 when input has ended. */
int hostio_console_read(u8 *bytes, unsigned n);
/* Sleeps until input is there or has ended, or a signal came. */
void hostio_console_wait(void);

/* From now on SIGINT and SIGTERM set *flag instead of ending the process; the second one ends it. */
void hostio_catch_interrupt(volatile int *flag);

/* The n bytes of anonymous memory at `host` are about to be written: the host may make room for all of their pages at once. Nothing is lost
 * where it does not. */
void hostio_foresee(u8 *host, u64 n);

/* ns of the host's monotonic clock, for the statistics that are printed on stderr only. */
u64 hostio_monotonic_ns(void);

/* Writes a formatted line to `message`; always false, so that failing functions can return it. */
bool hostio_error(char *message, size_t message_size, const char *format, ...) PRINTF_LIKE(3, 4);

#endif
