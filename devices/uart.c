/* The 16550A. Every register access ends in update(), which derives the interrupt line from the state. */
#include "devices/uart.h"
#include "devices/access.h"

enum { IER_RX = 1, IER_TX = 2, IER_LINE = 4, IER_MODEM = 8 };
enum { IIR_NONE = 1, IIR_MODEM = 0, IIR_TX = 2, IIR_RX = 4, IIR_LINE = 6, IIR_TIMEOUT = 12, IIR_FIFOS = 0xc0 };
enum { LCR_BREAK = 0x40, LCR_DLAB = 0x80 };
enum { LSR_DATA = 1, LSR_OVERRUN = 2, LSR_BREAK = 0x10, LSR_THRE = 0x20, LSR_TEMT = 0x40, LSR_FIFO_ERROR = 0x80 };
enum { MCR_DTR = 1, MCR_RTS = 2, MCR_OUT1 = 4, MCR_OUT2 = 8, MCR_LOOP = 0x10 };
enum { MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80 };

static bool has_fifos(const struct uart *uart) { return uart->fcr & 1; }
static unsigned capacity(const struct uart *uart) { return has_fifos(uart) ? UART_FIFO : 1; }

static unsigned trigger_level(const struct uart *uart)
{
    static const u8 level[4] = {1, 4, 8, 14};
    return has_fifos(uart) ? level[uart->fcr >> 6] : 1;
}

/* The interrupt identification without the FIFO bits, by priority. */
static u8 identify(const struct uart *uart)
{
    if ((uart->ier & IER_LINE) && uart->line_errors)
        return IIR_LINE;
    if ((uart->ier & IER_RX) && uart->count >= trigger_level(uart))
        return IIR_RX;
    if ((uart->ier & IER_RX) && uart->timeout && uart->count)
        return IIR_TIMEOUT;
    if ((uart->ier & IER_TX) && uart->tx_pending)
        return IIR_TX;
    if ((uart->ier & IER_MODEM) && uart->msr_delta)
        return IIR_MODEM;
    return IIR_NONE;
}

static void update(struct uart *uart)
{
    bool level = identify(uart) != IIR_NONE && (uart->mcr & MCR_OUT2) && !(uart->mcr & MCR_LOOP);
    if (level != uart->asserted) {
        uart->asserted = level;
        irq_set(&uart->irq, level);
    }
}

/* Four character times in ns, from the divisor of the 1.8432 MHz clock (16 samples a bit) and the frame format. */
static u64 timeout_ns(const struct uart *uart)
{
    u64 bits = 1 + 5 + (uart->lcr & 3) + 1 + (uart->lcr >> 2 & 1) + (uart->lcr >> 3 & 1);
    u64 divisor = uart->divisor ? uart->divisor : 65536;
    return 4 * bits * divisor * 16 * 1000000000ull / 1843200;
}

/* A byte came or went: the timeout counts from now if any byte waits below the trigger level. */
static void restart_timeout(struct uart *uart)
{
    uart->timeout = false;
    bool waits = has_fifos(uart) && uart->count != 0 && uart->count < trigger_level(uart);
    uart->idle_at = waits ? clock_now(uart->clock) + timeout_ns(uart) : CLOCK_NEVER;
    clock_set(uart->clock, uart->timer, uart->idle_at);
}

static void fire(void *arg, u64 now)
{
    struct uart *uart = arg;
    (void)now;
    uart->idle_at = CLOCK_NEVER;
    uart->timeout = uart->count != 0;
    update(uart);
}

static void push(struct uart *uart, u8 byte)
{
    if (uart->count == capacity(uart)) {
        uart->line_errors |= LSR_OVERRUN;
        /* Without FIFOs the new byte replaces the one that nobody read; with them the new one is lost. */
        if (!has_fifos(uart))
            uart->fifo[uart->first] = byte;
    } else {
        uart->fifo[(uart->first + uart->count++) % UART_FIFO] = byte;
    }
    restart_timeout(uart);
}

static u8 pop(struct uart *uart)
{
    u8 byte = uart->fifo[uart->first];
    if (uart->count != 0) {
        uart->count--;
        uart->first = (uart->first + 1) % UART_FIFO;
    }
    restart_timeout(uart);
    return byte;
}

unsigned uart_room(const struct uart *uart)
{
    return uart->mcr & MCR_LOOP ? 0 : capacity(uart) - uart->count;
}

void uart_receive(struct uart *uart, u8 byte)
{
    if (uart->mcr & MCR_LOOP)
        return;
    push(uart, byte);
    update(uart);
}

void uart_receive_break(struct uart *uart)
{
    if (uart->mcr & MCR_LOOP)
        return;
    uart->line_errors |= LSR_BREAK;
    push(uart, 0);
    update(uart);
}

static u8 modem_lines(const struct uart *uart)
{
    if (!(uart->mcr & MCR_LOOP))
        return uart->modem;
    return (u8)((uart->mcr & MCR_RTS ? MSR_CTS : 0) | (uart->mcr & MCR_DTR ? MSR_DSR : 0) |
                (uart->mcr & MCR_OUT1 ? MSR_RI : 0) | (uart->mcr & MCR_OUT2 ? MSR_DCD : 0));
}

static void set_mcr(struct uart *uart, u8 value)
{
    u8 before = modem_lines(uart);
    uart->mcr = value & 0x1f;
    u8 after = modem_lines(uart);
    u8 changed = (before ^ after) & (MSR_CTS | MSR_DSR | MSR_DCD);
    /* The ring indicator counts only when it ends. */
    if ((before & MSR_RI) && !(after & MSR_RI))
        changed |= MSR_RI;
    uart->msr_delta |= changed >> 4;
}

static void set_fcr(struct uart *uart, u8 value)
{
    bool flip = (uart->fcr ^ value) & 1;
    if (flip || ((value & 1) && (value & 2)))
        uart->first = uart->count = 0;
    /* The other bits are written only together with the enable bit. */
    uart->fcr = value & 1 ? value & 0xc9 : 0;
    if (flip || (value & 4))
        uart->tx_pending = true;
    restart_timeout(uart);
}

static void uart_write8(void *dev, u64 off, u8 value)
{
    struct uart *uart = dev;
    bool divisor = uart->lcr & LCR_DLAB;
    switch (off) {
    case 0:
        if (divisor) {
            uart->divisor = (u16)((uart->divisor & 0xff00) | value);
            break;
        }
        /* The holding register is full and, at once, empty again: the line shows a new edge. */
        uart->tx_pending = false;
        update(uart);
        uart->tx_pending = true;
        if (uart->mcr & MCR_LOOP)
            push(uart, value);
        else
            uart->host->put(uart->host->arg, uart->stream, value);
        break;
    case 1:
        if (divisor) {
            uart->divisor = (u16)((uart->divisor & 0x00ff) | value << 8);
            break;
        }
        /* Enabling the transmitter interrupt while the transmitter is empty raises it. */
        if ((value & IER_TX) && !(uart->ier & IER_TX))
            uart->tx_pending = true;
        uart->ier = value & 0x0f;
        break;
    case 2:
        set_fcr(uart, value);
        break;
    case 3:
        if ((value & LCR_BREAK) && !(uart->lcr & LCR_BREAK) && (uart->mcr & MCR_LOOP)) {
            uart->line_errors |= LSR_BREAK;
            push(uart, 0);
        }
        uart->lcr = value;
        break;
    case 4:
        set_mcr(uart, value);
        break;
    case 7:
        uart->scratch = value;
        break;
    }
    update(uart);
}

static u8 uart_read8(void *dev, u64 off)
{
    struct uart *uart = dev;
    bool divisor = uart->lcr & LCR_DLAB;
    u8 value = 0;
    switch (off) {
    case 0:
        value = divisor ? (u8)uart->divisor : pop(uart);
        break;
    case 1:
        value = divisor ? uart->divisor >> 8 : uart->ier;
        break;
    case 2:
        value = identify(uart);
        if (value == IIR_TX)
            uart->tx_pending = false;
        if (has_fifos(uart))
            value |= IIR_FIFOS;
        break;
    case 3:
        value = uart->lcr;
        break;
    case 4:
        value = uart->mcr;
        break;
    case 5:
        value = LSR_THRE | LSR_TEMT | uart->line_errors | (uart->count ? LSR_DATA : 0);
        if (has_fifos(uart) && (uart->line_errors & (u8)~LSR_OVERRUN))
            value |= LSR_FIFO_ERROR;
        uart->line_errors = 0;
        break;
    case 6:
        value = modem_lines(uart) | uart->msr_delta;
        uart->msr_delta = 0;
        break;
    case 7:
        value = uart->scratch;
        break;
    }
    update(uart);
    return value;
}

static u64 uart_read(void *dev, unsigned cpu, u64 off, unsigned size)
{
    (void)cpu;
    return access_read_bytes(uart_read8, dev, off, size);
}

static void uart_write(void *dev, unsigned cpu, u64 off, unsigned size, u64 value)
{
    (void)cpu;
    access_write_bytes(uart_write8, dev, off, size, value);
}

const struct bus_ops uart_ops = {.read = uart_read, .write = uart_write};

void uart_reset(struct uart *uart)
{
    uart->first = uart->count = 0;
    memset(uart->fifo, 0, sizeof uart->fifo);
    uart->ier = uart->fcr = uart->mcr = uart->scratch = 0;
    /* 115200 baud, 8n1, as firmware would leave it: direct-booted kernels may print without setting it up. */
    uart->lcr = 3;
    uart->divisor = 1;
    uart->line_errors = uart->msr_delta = 0;
    uart->modem = MSR_CTS | MSR_DSR | MSR_DCD;
    uart->tx_pending = false;
    restart_timeout(uart);
    update(uart);
}

void uart_init(struct uart *uart, struct clock *clock, const struct host *host, enum host_stream stream,
               struct irq_line irq)
{
    memset(uart, 0, sizeof *uart);
    uart->clock = clock;
    uart->host = host;
    uart->stream = stream;
    uart->irq = irq;
    uart->timer = clock_add_timer(clock, fire, uart);
    uart_reset(uart);
}
