/*
 * uart: the guest's side of a 16550A whose other end is the monitor's standard output.
 *
 * Sends only; what is sent leaves at once, so the transmitter is always empty. Registers behave as in National
 * Semiconductor's PC16550D data sheet as far as Linux's 8250 driver looks: FIFO bits in IIR, loop-back through MCR, and the
 * "transmitter empty" interrupt that comes again whenever IER enables it.
 */
#ifndef LABS_MONITOR_UART_H
#define LABS_MONITOR_UART_H

#include <stdbool.h>
#include <stdint.h>

struct uart {
    uint8_t ier, lcr, mcr, fcr, scratch, divisor[2];
    bool thr_empty_pending; /* the interrupt's cause; IIR clears it by being read */
    bool line;              /* the interrupt line as last told to KVM */
};

/* Resets the registers; prefix (kept, not copied) is written before each line of output. */
void uart_init(struct uart *uart, const char *prefix);
uint8_t uart_read(struct uart *uart, unsigned offset);
void uart_write(struct uart *uart, unsigned offset, uint8_t value);
/* Brings uart->line up to date; true if it changed. */
bool uart_interrupt_changed(struct uart *uart);
/* Writes out what stands in the buffer; the buffer is otherwise written at the end of a line or when full. */
void uart_output_flush(void);

#endif
