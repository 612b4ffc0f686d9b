/* A 16550A serial port.
 *
 * A byte written to the transmitter goes to the host at once, so THRE and TEMT always read as set; the transmitter
 * interrupt still works as in the chip: it is raised when the holding register becomes empty and when it is enabled
 * while empty, and cleared by reading IIR or writing THR. Received bytes wait in the 16-byte FIFO; the machine asks
 * uart_room before it gives more.
 *
 * Kept true: OUT2 gates the interrupt line, as on every PC; in loopback the line is quiet and the outside cut off.
 *
 * Source: National Semiconductor PC16550D data sheet.
 */
#ifndef NESTOR_DEVICES_UART_H
#define NESTOR_DEVICES_UART_H

#include "cpu/base.h"
#include "devices/clock.h"
#include "devices/host.h"
#include "devices/irq.h"
#include "mmu/bus.h"

#define UART_FIFO 16

struct uart {
    u8 fifo[UART_FIFO];     /* received bytes, a ring */
    u8 first, count;
    u8 ier, fcr, lcr, mcr, scratch;
    u8 line_errors;         /* LSR bits 1-4: kept until LSR is read */
    u8 msr_delta;           /* MSR bits 0-3 */
    u8 modem;               /* MSR bits 4-7 as the other side drives them */
    u16 divisor;
    bool tx_pending;        /* the transmitter-empty interrupt has not been seen yet */
    bool timeout;           /* bytes below the trigger level have waited for four character times */
    bool asserted;          /* the level on the line */
    u64 idle_at;            /* ns at which they will have; CLOCK_NEVER when nothing waits */
    /* wiring */
    struct clock *clock;
    const struct host *host;
    enum host_stream stream;
    struct irq_line irq;
    unsigned timer;
};

void uart_init(struct uart *uart, struct clock *clock, const struct host *host, enum host_stream stream,
               struct irq_line irq);
void uart_reset(struct uart *uart);

/* How many bytes uart_receive would take now without an overrun; 0 in loopback. */
unsigned uart_room(const struct uart *uart);
/* A byte arrives on the line. With no room for it, it is lost and LSR tells so. */
void uart_receive(struct uart *uart, u8 byte);
/* A break condition arrives. */
void uart_receive_break(struct uart *uart);

/* The eight ports of the chip; dev = the struct uart. */
extern const struct bus_ops uart_ops;

#endif
