/* Vectors from rows of cpu/insn.def and from random bytes. */
#ifndef NESTOR_TESTS_INSN_GENERATE_H
#define NESTOR_TESTS_INSN_GENERATE_H

#include "vector.h"

enum row_class { CLASS_INTEGER, CLASS_BMI, CLASS_SYSTEM, CLASS_X87, CLASS_MMX, CLASS_SSE, CLASS_VEX, CLASS_CRYPTO, ROW_CLASSES };

#define POOL_KINDS 4

/* What may be run: rows whose effect depends only on the user's state. */
struct plan {
    const struct bench *bench;
    u64 seed;
    u8 bits;                   /* enum cpu_bits */
    unsigned count;            /* of rows that are run */
    /* Classes of rows take turns by quotas, so that no class starves: a round has a turn for each place in schedule[]. */
    struct { unsigned count, turns; u16 rows[4096]; } class[ROW_CLASSES];
    unsigned schedule_length;
    struct { u8 class, turn; } schedule[64];
    unsigned block_count;
    u16 block_rows[4096];      /* what may stand in a block of several instructions */
    unsigned image_count;
    u16 image_rows[16];        /* what may begin one, though all of its forms are in memory: images of the x87 state and others */
    bool allowed[4096];        /* by row */
    u8 kind[4096];             /* by row: enum row_kind of generate.c */
    u64 epoch;                 /* what pool[] was made for */
    u64 pool[POOL_KINDS][1024];/* numbers that arithmetic may stumble over */
    bool stored;               /* states from stored_state(), so that the vectors can be kept in a file */
    unsigned random_share;     /* one vector in so many is made of random bytes; 0: none */
    unsigned block_share;      /* … is a block of several instructions; 0: none */
};

/* Chooses the rows for code of width `bits`, all or those called `name`. False when there is none. */
bool plan_make(struct plan *plan, const struct bench *bench, unsigned bits, const char *name, u64 seed);

/* The row would be run if the host had its CPUID feature. */
bool plan_lacks_feature(const struct bench *bench, unsigned row);

/* Completes a vector that was read from a file: its row and its image. */
void generate_image(const struct bench *bench, struct vector *v);

/* The row of the plan that is due at a turn. */
u16 plan_row(const struct plan *plan, u64 turn);

/* Makes vector `index` of the plan: the same for the same seed, index and rows. False, with a message, when Nestor's
 * decoder contradicts the encoding. */
bool generate_vector(struct plan *plan, u64 index, struct vector *v);

#endif
