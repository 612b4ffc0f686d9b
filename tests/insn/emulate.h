/* Nestor's side: the same vectors run by cpu_run() on a CPU at privilege level 3 of long mode, with the region mapped
 * as on the host. */
#ifndef NESTOR_TESTS_INSN_EMULATE_H
#define NESTOR_TESTS_INSN_EMULATE_H

#include "vector.h"

/* Makes the CPU, with the host's CPUID features, and its memory. */
void emulate_init(const struct bench *bench);

/* Makes the guest's code pages hold nothing but INT3, as in every other run and process. */
void emulate_blank_code(void);

/* Whether Nestor can turn on all these CPUID flags: "avx,+avx2 ...". */
bool emulate_offers(const char *flags);

/* Runs one vector. */
void emulate_run(const struct vector *v, struct outcome *out);

#endif
