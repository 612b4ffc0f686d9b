/* Vectors from rows of cpu/insn.def and from random bytes. */
#ifndef NESTOR_TESTS_INSN_GENERATE_H
#define NESTOR_TESTS_INSN_GENERATE_H

#include "vector.h"

/* What may be run: rows whose effect depends only on the user's state. */
struct plan {
    const struct bench *bench;
    u64 seed;
    u8 bits;                   /* enum cpu_bits */
    unsigned count;
    u16 rows[4096];
    bool allowed[4096];        /* by row */
    u8 kind[4096];             /* by row: enum row_kind of generate.c */
    unsigned random_share;     /* one vector in so many is made of random bytes; 0: none */
};

/* Chooses the rows for code of width `bits`, all or those called `name`. False when there is none. */
bool plan_make(struct plan *plan, const struct bench *bench, unsigned bits, const char *name, u64 seed);

/* The row would be run if the host had its CPUID feature. */
bool plan_lacks_feature(const struct bench *bench, unsigned row);

/* Makes vector `index` of the plan: the same for the same seed, index and rows. False, with a message, when Nestor's
 * decoder contradicts the encoding. */
bool generate_vector(const struct plan *plan, u64 index, struct vector *v);

#endif
