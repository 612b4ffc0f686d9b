/* Pseudo-random numbers: the same sequence for the same seed everywhere (splitmix64). C leaves open in which order an
 * expression's operands are evaluated, so none has two calls whose order is not said: compilers would disagree on what a
 * seed, or a stored vector, is.
 */
#ifndef NESTOR_TESTS_INSN_RANDOM_H
#define NESTOR_TESTS_INSN_RANDOM_H

#include "cpu/base.h"

struct rng { u64 state; };

static inline u64 rng64(struct rng *r)
{
    u64 z = r->state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}
/* A generator for part `index` of what `seed` stands for, unrelated to those of other seeds and parts. */
static inline struct rng rng_for(u64 seed, u64 index, u64 attempt)
{
    struct rng a = {seed}, b = {rng64(&a) ^ index}, c = {rng64(&b) ^ attempt};
    return (struct rng){rng64(&c)};
}
/* In 0..n-1. */
static inline u32 rng_below(struct rng *r, u32 n) { return (u32)((rng64(r) >> 32) * n >> 32); }
/* True with probability percent / 100. */
static inline bool rng_chance(struct rng *r, u32 percent) { return rng_below(r, 100) < percent; }

#endif
