/* Programs on the bare CPU of transfer.h: bytes in memory, a decoder and the run loop. */
#ifndef NESTOR_TESTS_CPU_PROGRAM_H
#define NESTOR_TESTS_CPU_PROGRAM_H

#include "cpu/interp.h"
#include "cpu/model.h"
#include "tests/cpu/transfer.h"

enum { CODE = 0x20000 };

static inline void model(const char *text)
{
    char message[200];
    ck_assert_msg(cpu_model_set(cpu, text, message, sizeof message), "%s", message);
}

/* Puts bytes, in hexadecimal with spaces between, into memory. */
static inline void code(u64 at, const char *bytes)
{
    for (; *bytes; bytes += *bytes == ' ') {
        bus_write(&bus_, 0, at++, 1, strtoul(bytes, NULL, 16));
        bytes += 2;
    }
}

/* A CPU like new, of a model with features, in 64-bit mode at CPL 0 with RIP = CODE. */
static inline void program_start(const char *features)
{
    if (cpu->interp)
        interp_free(cpu->interp);
    start_long();
    model(features);
    cpu->interp = interp_new(&bus_);
    rows_trace(cpu);
    cpu->core.rip = CODE;
    cpu_mode_update(cpu);
}

static inline void step(unsigned n)
{
    cpu->stop_at = cpu->time.now + n;
    cpu_run(cpu);
}

/* The instruction at RIP fails with this exception; which error code comes with it is not looked at. */
#define ASSERT_RAISES(vec)                                                                                             \
    do {                                                                                                               \
        u64 rip_ = cpu->core.rip;                                                                                      \
        step(1);                                                                                                       \
        ck_assert(cpu->event.valid);                                                                                   \
        ck_assert_uint_eq(cpu->event.vector, vec);                                                                     \
        ck_assert_uint_eq(cpu->core.rip, rip_);                                                                        \
        forget();                                                                                                      \
    } while (0)

#endif
