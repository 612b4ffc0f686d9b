/* The host's side: vectors run by the CPU itself, in a child process whose death is only one more outcome. */
#ifndef NESTOR_TESTS_INSN_NATIVE_H
#define NESTOR_TESTS_INSN_NATIVE_H

#include "vector.h"

#define BATCH 256u

/* Maps the region (bench->region, alias, exit_stub, segments, what the host offers) and shared room for one batch of
 * vectors. False, with a message on stderr, where the host cannot do it. */
bool native_init(struct bench *bench);

/* The room for the batch: BATCH vectors to be filled by the caller. */
struct vector *native_batch(void);

/* Runs the first n vectors of the batch; their `native` members are filled. */
void native_run(unsigned n);

/* The host process has something at this address that is none of the region's: its own memory, or what a sanitizer
 * keeps at low addresses. */
bool native_maps(u64 la);

#endif
