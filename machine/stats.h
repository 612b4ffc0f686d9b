/* What a run did, for `--stats`. */
#ifndef NESTOR_MACHINE_STATS_H
#define NESTOR_MACHINE_STATS_H

#include "machine/machine.h"

/* Prints instructions, virtual and host time (elapsed ns), and the VMX statistics of all vCPUs. */
void stats_print(struct machine *m, u64 elapsed, FILE *out);

#endif
