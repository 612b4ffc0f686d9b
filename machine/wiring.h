/* The board: which device hangs on which wire, port and address. */
#ifndef NESTOR_MACHINE_WIRING_H
#define NESTOR_MACHINE_WIRING_H

#include "machine/machine.h"

/* Initialises the devices of `m` and maps them. After bus_init, vtime_init and the creation of the vCPUs. */
void wiring_init(struct machine *m);
/* Power-on state of every device. */
void wiring_reset(struct machine *m);
/* What firmware would have programmed into the interrupt controllers before it starts a kernel. */
void wiring_set_firmware_state(struct machine *m);

/* What the vCPUs ask of the board; board_arg = the struct machine. */
extern const struct cpu_board wiring_cpu_board;

#endif
