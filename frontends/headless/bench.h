/* What `nestor bench` measures, and one measurement of it: shared by the command and by the other emulators it is compared to. */
#ifndef NESTOR_FRONTENDS_HEADLESS_BENCH_H
#define NESTOR_FRONTENDS_HEADLESS_BENCH_H

#include "machine/machine.h"

/* One line of the table: a workload of labs/bench, where it runs, and what one iteration of it is. */
struct bench_row {
    const char *workload;
    unsigned level;                    /* that runs it */
    const char *policy;
    const char *text;
};

/* What the guest said of one run, and what it cost. */
struct bench_sample {
    enum { BENCH_NOTHING, BENCH_OK, BENCH_SKIPPED, BENCH_FAILED } outcome; /* NOTHING: it never came to its stop line */
    double ns;                         /* host CPU time between the marks */
    u64 insns;                         /* guest instructions between them; 0: not known */
    char said[160];                    /* the guest's line that decided the outcome */
};

/* Follows the guest's marks (labs/bench/main.c), byte for byte as they come on port 0x402. */
struct bench_marks {
    char line[256];
    unsigned length;
    double ns_first, ns_start;         /* CPU time at the line's first byte; at the end of the start line */
    u64 insns_first, insns_start;
    struct bench_sample *sample;
};

/* `ns` and `insns` are the clocks at this byte. */
void bench_mark(struct bench_marks *marks, char byte, double ns, u64 insns);

/* Runs `count` iterations in a new machine of another emulator. False, with a message, if that could not be started. */
bool bench_peer_run(const struct bench_row *row, const char *guest, u64 count, struct bench_sample *sample, char *message,
                    size_t message_size);
/* Its name if it is installed, else NULL. */
const char *bench_peer_name(void);

#endif
