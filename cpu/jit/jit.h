/* The engines `calls` and `jit`: translated blocks. See cpu/jit/README.md.
 */
#ifndef NESTOR_CPU_JIT_JIT_H
#define NESTOR_CPU_JIT_JIT_H

#include "cpu/base.h"

struct cpu;
struct interp;

/* How many instructions of translated code run from one look at where the time goes to the next, as a rule; what is found hot by that is
 * translated anew. */
#define JIT_SAMPLE_EVERY 65521

/* Makes the run loop of these vCPUs run translated code. `calls`: each instruction is a call of its handler. sample_every, at least 1: as
 * above; it changes the speed and nothing else. False: this host has no back end, no executable memory or not enough of it. interp_free() frees
 * everything. */
bool jit_attach(struct interp *interp, struct cpu *cpus, unsigned count, bool calls, unsigned sample_every);

#endif
