/* The engines `calls` and `jit`: translated blocks. See cpu/jit/README.md.
 */
#ifndef NESTOR_CPU_JIT_JIT_H
#define NESTOR_CPU_JIT_JIT_H

#include "cpu/base.h"

struct cpu;
struct interp;

/* Makes the run loop of these vCPUs run translated code. `calls`: each instruction is a call of its handler. False: this host has no back
 * end, no executable memory or not enough of it. interp_free() frees everything. */
bool jit_attach(struct interp *interp, struct cpu *cpus, unsigned count, bool calls);

#endif
