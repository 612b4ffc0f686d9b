/* Memory for generated code: written at one address, run at another (or at the same one where the system lets pages change their rights).
 *
 * Kept true: no page is writable and executable through the same address at the same time; addresses and page sizes are the system's.
 */
#ifndef NESTOR_CPU_JIT_MEMORY_H
#define NESTOR_CPU_JIT_MEMORY_H

#include "cpu/base.h"

struct jit_memory {
    u8 *write;                 /* where the bytes are written */
    const u8 *run;             /* where the same bytes are executed */
    size_t size;
    bool flips;                /* one mapping whose rights change: writing needs jit_memory_open() */
};

/* Reserves `size` bytes. False: the system allows no generated code. */
bool jit_memory_new(struct jit_memory *memory, size_t size);
void jit_memory_free(struct jit_memory *memory);
/* Around writing; no code runs in between. */
void jit_memory_open(const struct jit_memory *memory);
/* `from`, `n`: the bytes that were written, by their place in the memory. */
void jit_memory_close(const struct jit_memory *memory, size_t from, size_t n);

#endif
