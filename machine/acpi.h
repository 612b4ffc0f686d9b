/* The ACPI tables of the board, in [MACHINE_ACPI_START, MACHINE_ACPI_END). */
#ifndef NESTOR_MACHINE_ACPI_H
#define NESTOR_MACHINE_ACPI_H

#include "machine/machine.h"

/* Builds the tables and writes them. Returns the hpa of the root pointer (RSDP), whose bytes it also copies to `rsdp`. */
u64 acpi_build(struct machine *m, u8 rsdp[36]);

#endif
