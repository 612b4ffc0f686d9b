/*
 * uart: registers and output of the monitor's 16550A; see uart.h.
 *
 * Output is collected to whole lines, since a write(2) of one character costs a system call here and, where this monitor
 * is itself somebody's guest, several VM exits a level further out.
 */
#include "uart.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { RBR_THR = 0, IER = 1, IIR_FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7 };
enum { IER_THR_EMPTY = 0x02, LCR_DIVISOR = 0x80, MCR_OUT2 = 0x08, MCR_LOOP = 0x10, FCR_FIFO = 0x01 };

static struct {
    char bytes[1024];
    size_t used;
    const char *prefix;
    bool line_begun;
} output = {.prefix = ""};

void uart_output_flush(void)
{
    size_t done = 0;
    while (done < output.used) {
        ssize_t written = write(STDOUT_FILENO, output.bytes + done, output.used - done);
        if (written < 0 && errno != EINTR)
            break; /* nobody listens: the guest goes on all the same */
        if (written > 0)
            done += written;
    }
    output.used = 0;
}

static void output_append(char byte)
{
    if (output.used == sizeof output.bytes)
        uart_output_flush();
    output.bytes[output.used++] = byte;
}

static void output_byte(char byte)
{
    if (byte == '\r')
        return; /* our own terminal adds them again */
    if (!output.line_begun)
        for (const char *next = output.prefix; *next; next++)
            output_append(*next);
    output.line_begun = byte != '\n';
    output_append(byte);
    if (byte == '\n')
        uart_output_flush();
}

void uart_init(struct uart *uart, const char *prefix)
{
    memset(uart, 0, sizeof *uart);
    output.prefix = prefix;
}

static bool uart_wants_interrupt(const struct uart *uart)
{
    return uart->thr_empty_pending && uart->ier & IER_THR_EMPTY && uart->mcr & MCR_OUT2;
}

bool uart_interrupt_changed(struct uart *uart)
{
    bool before = uart->line;
    uart->line = uart_wants_interrupt(uart);
    return uart->line != before;
}

uint8_t uart_read(struct uart *uart, unsigned offset)
{
    switch (offset) {
    case RBR_THR:
        return uart->lcr & LCR_DIVISOR ? uart->divisor[0] : 0;
    case IER:
        return uart->lcr & LCR_DIVISOR ? uart->divisor[1] : uart->ier;
    case IIR_FCR: {
        uint8_t cause = 0x01; /* none */
        if (uart->thr_empty_pending && uart->ier & IER_THR_EMPTY) {
            cause = 0x02;
            uart->thr_empty_pending = false;
        }
        return cause | (uart->fcr & FCR_FIFO ? 0xc0 : 0);
    }
    case LCR:
        return uart->lcr;
    case MCR:
        return uart->mcr;
    case LSR:
        return 0x60; /* holding register and shift register empty */
    case MSR:
        if (uart->mcr & MCR_LOOP) /* RTS, DTR, OUT1, OUT2 come back as CTS, DSR, RI, DCD */
            return (uart->mcr & 0x02) << 3 | (uart->mcr & 0x01) << 5 | (uart->mcr & 0x0c) << 4;
        return 0xb0; /* CTS, DSR, DCD: somebody is there */
    default:
        return uart->scratch;
    }
}

void uart_write(struct uart *uart, unsigned offset, uint8_t value)
{
    switch (offset) {
    case RBR_THR:
        if (uart->lcr & LCR_DIVISOR) {
            uart->divisor[0] = value;
            break;
        }
        if (!(uart->mcr & MCR_LOOP))
            output_byte(value);
        uart->thr_empty_pending = true;
        break;
    case IER:
        if (uart->lcr & LCR_DIVISOR) {
            uart->divisor[1] = value;
            break;
        }
        if (~uart->ier & value & IER_THR_EMPTY)
            uart->thr_empty_pending = true;
        uart->ier = value & 0x0f;
        break;
    case IIR_FCR:
        uart->fcr = value;
        break;
    case LCR:
        uart->lcr = value;
        break;
    case MCR:
        uart->mcr = value & 0x1f;
        break;
    case SCR:
        uart->scratch = value;
        break;
    }
}
