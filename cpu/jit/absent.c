/* Built instead of the other files on hosts that have no back end: there is only the interpreter. */
#include "cpu/jit/jit.h"

bool jit_attach(struct interp *interp, struct cpu *cpus, unsigned count, bool calls, unsigned sample_every)
{
    (void)interp, (void)cpus, (void)count, (void)calls, (void)sample_every;
    return false;
}
