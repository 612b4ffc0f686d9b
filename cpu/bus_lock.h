/* Bus locks: locked accesses that cross a cache line or go to memory that is not write-back.
 *
 * The processor can tell of them: by #DB after the instruction (IA32_DEBUGCTL.BUS_LOCK_DETECT, while CPL > 0), and before it by
 * #AC(0) when the line is crossed (MSR_TEST_CTRL, at any CPL) [SDM3 "Bus-Lock Detection", "Features to Disable Bus Locks"]; and to a
 * hypervisor, by a VM exit after it.
 * cpu_mode.locks says who asks, and is part of the code key: only while somebody does, blocks are decoded with bus_lock_watched()
 * in the place of the handlers of locked instructions, so that others pay nothing.
 */
#ifndef NESTOR_CPU_BUS_LOCK_H
#define NESTOR_CPU_BUS_LOCK_H

#include "cpu/insn.h"
#include "cpu/state.h"

/* The handler of an instruction while cpu_mode.locks is not 0: bus_lock_watched() for XCHG and LOCK with memory, else the one it has. */
insn_handler *bus_lock_handler(const struct insn *in);

/* Runs a locked instruction as its row's handler does, and reports the lock. */
insn_handler bus_lock_watched;

#endif
