/* Random programs for random_blocks: bytes of instructions that mostly do something, seldom fault, and write into themselves now and then.
 */
#ifndef NESTOR_TESTS_JIT_GENERATE_CODE_H
#define NESTOR_TESTS_JIT_GENERATE_CODE_H

#include "cpu/base.h"

struct program {
    u8 bytes[2400];
    unsigned size;
    unsigned starts[80], count;        /* offsets of its instructions */
};

void random_seed(u64 seed);
u64 random_next(void);
static inline unsigned below(unsigned n) { return (unsigned)(random_next() % n); }

/* Where things are, and whether the program is 32-bit code: the program's own linear address, data that can be accessed, a second address of the
 * program, and the end of a stack of some KBytes. */
struct ground { u64 code, data, alias, stack_end; unsigned data_size; bool code32; };
void generate_program(struct program *p, const struct ground *ground, unsigned instructions);

#endif
