/* What `nestor bench` measures, one measurement of it, and the table: shared by the command, by the other emulators that it compares itself
 * with, and by what prints. */
#ifndef NESTOR_FRONTENDS_HEADLESS_BENCH_H
#define NESTOR_FRONTENDS_HEADLESS_BENCH_H

#include "machine/machine.h"

/* Who runs a workload, in the table's order. */
enum bench_column { BENCH_NATIVE, BENCH_INTERP, BENCH_CALLS, BENCH_JIT, BENCH_QEMU, BENCH_BOCHS, BENCH_COLUMNS };
static inline bool bench_is_peer(enum bench_column c) { return c == BENCH_NATIVE || c >= BENCH_QEMU; }

/* What a workload is: of the machine itself; computing, which a process of the host can do as well, and which counts for the geometric means or not. */
enum bench_kind { BENCH_MACHINE, BENCH_COMPUTES, BENCH_COMPUTES_ASIDE };

/* One line of the table: a workload of labs/bench, where it runs, and what one iteration of it is. */
struct bench_row {
    const char *workload;
    unsigned level;                    /* that runs it */
    const char *policy;
    enum bench_kind kind;
    const char *text;
};

/* What the guest said of one run, and what it cost. */
struct bench_sample {
    enum { BENCH_NOTHING, BENCH_OK, BENCH_SKIPPED, BENCH_FAILED } outcome; /* NOTHING: it never came to its stop line */
    double ns;                         /* host CPU time between the marks */
    u64 insns;                         /* guest instructions between them; 0: not known */
    char said[160];                    /* the guest's line that decided the outcome */
};

/* What was found out for one row and column. */
struct bench_result {
    struct bench_sample best;
    u64 count;                         /* iterations in a sample; 0: not measured here */
    double slowest_ns;                 /* the slowest sample's */
    struct { double low, median, high; } to_l1;    /* times as long as at level 1, of pairs of samples: quartiles; 0: not measured */
};

/* Follows the guest's marks (labs/bench/main.c), byte for byte as they come on port 0x402. */
struct bench_marks {
    char line[256];
    unsigned length;
    double ns_first, ns_start;         /* CPU time at the line's first byte; at the end of the start line */
    double ns_cost;                    /* what a process that has a clock itself says; 0: nothing */
    u64 insns_first, insns_start;
    struct bench_sample *sample;
};

/* `ns` and `insns` are the clocks at this byte. */
void bench_mark(struct bench_marks *marks, char byte, double ns, u64 insns);

/* ---- bench_peer.c ---- */

/* The same workload elsewhere: the process of the host, QEMU, Bochs. `guest` is bench.elf's name; what the others need lies beside it. */
/* Why there is no such column on this host, else NULL. */
const char *bench_peer_missing(enum bench_column peer, const char *guest);
/* Is the row something that the peer can do? */
bool bench_peer_can(enum bench_column peer, const struct bench_row *row);
/* Runs `count` iterations in a new process. False, with a message, if that could not be started. */
bool bench_peer_run(enum bench_column peer, const struct bench_row *row, const char *guest, u64 count, struct bench_sample *sample,
                    char *message, size_t message_size);

/* ---- bench_table.c ---- */

struct bench_table {
    const struct bench_row *rows;
    unsigned row_count;
    struct bench_result (*results)[BENCH_COLUMNS];     /* by row */
    bool columns[BENCH_COLUMNS];       /* which are measured */
    const char *missing[BENCH_COLUMNS]; /* why a column that was asked for is not */
    enum bench_column own;             /* the one that ratios compare with */
    bool json, once;
};

void bench_table_begin(const struct bench_table *t);
void bench_table_row(const struct bench_table *t, unsigned row, bool first);
/* Means, and what was missing. */
void bench_table_end(const struct bench_table *t);

#endif
