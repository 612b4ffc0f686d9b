/* Virtual time: the machine's side of devices/clock.h. */
#ifndef NESTOR_MACHINE_VTIME_H
#define NESTOR_MACHINE_VTIME_H

#include "machine/machine.h"

/* Connects m->clock to the machine's instruction count. Before any device is initialised. */
void vtime_init(struct machine *m);

#endif
