/* The ports that test and hobby kernels talk to: the debug consoles 0xe9 and 0x402, isa-debug-exit at 0xf4, and the
 * power-on self test code at 0x80.
 */
#ifndef NESTOR_DEVICES_DEBUGPORT_H
#define NESTOR_DEVICES_DEBUGPORT_H

#include "cpu/base.h"
#include "devices/host.h"
#include "mmu/bus.h"

struct debugport {
    u8 post;                /* what was last written to port 0x80 */
    /* wiring */
    const struct host *host;
};

void debugport_init(struct debugport *port, const struct host *host);
void debugport_reset(struct debugport *port);

/* dev = the struct debugport.
 * e9, 402: one port each; a write is a character, a read gives 0xe9 ("there is a console here").
 * exit: four ports from 0xf4; writing v (1, 2 or 4 bytes, anywhere in them) ends the run with status (v << 1) | 1.
 * post: port 0x80, reads back what was written. */
extern const struct bus_ops debugport_e9_ops, debugport_402_ops, debugport_exit_ops, debugport_post_ops;

#endif
