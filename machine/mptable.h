/* The MultiProcessor Specification table: what kernels without ACPI find processors and the I/O APIC by. */
#ifndef NESTOR_MACHINE_MPTABLE_H
#define NESTOR_MACHINE_MPTABLE_H

#include "machine/machine.h"

#define MPTABLE_START 0xfd000u         /* the configuration table */
#define MPTABLE_POINTER 0xff000u       /* the floating pointer structure, where it is searched for */

/* Writes table and pointer for the machine's board. */
void mptable_build(struct machine *m);

#endif
