/* The only door from the devices to the outside: characters out, characters in, wall-clock time, randomness.
 * machine/ implements it; what comes in through here is what recording logs. No device touches the host otherwise.
 */
#ifndef NESTOR_DEVICES_HOST_H
#define NESTOR_DEVICES_HOST_H

#include "cpu/base.h"

enum host_stream { HOST_SERIAL0, HOST_SERIAL1, HOST_DEBUG_E9, HOST_DEBUG_402, HOST_STREAMS };

struct host {
    /* A byte the guest sent. */
    void (*put)(void *arg, enum host_stream stream, u8 byte);
    /* The guest asks for power off (exit status 0), reset, or wrote isa-debug-exit (value already (v << 1) | 1). */
    void (*power_off)(void *arg);
    void (*reset)(void *arg);
    void (*debug_exit)(void *arg, u32 status);
    /* Seconds since 1970 at machine start: fixed (2024-01-01 00:00:00 UTC) unless the user asked for the wall clock. */
    u64 (*epoch_seconds)(void *arg);
    void *arg;
};
/* Input goes the other way: machine/ calls the device (uart_receive, i8042_key …) at a recorded icount. */

#endif
