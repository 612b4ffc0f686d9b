/*
 * console: COM1, and a print() that begins each line with the level's name, indented by its depth.
 *
 * L1 looks whether the transmitter is free; the levels inside do not, since the hypervisor that carries out their
 * access does it for them: a look costs a VM exit of every level on the way out.
 */
#include "nest.h"

#include <stdarg.h>

enum { COM_THR = 0, COM_IER = 1, COM_FCR = 2, COM_LCR = 3, COM_MCR = 4, COM_LSR = 5 };
enum { LSR_THR_EMPTY = 0x20, LCR_8N1 = 3, LCR_DIVISOR = 0x80, PATIENCE = 100000 };

static bool line_begun;

void console_init(void)
{
    outb(PORT_COM1 + COM_IER, 0);
    outb(PORT_COM1 + COM_LCR, LCR_DIVISOR);
    outb(PORT_COM1 + 0, 1); /* 115200 baud */
    outb(PORT_COM1 + 1, 0);
    outb(PORT_COM1 + COM_LCR, LCR_8N1);
    outb(PORT_COM1 + COM_FCR, 0x07);
    outb(PORT_COM1 + COM_MCR, 0x03);
}

void console_put_raw(uint8_t byte)
{
    if (self.level <= 1) {
        for (unsigned i = 0; i < PATIENCE && !(inb(PORT_COM1 + COM_LSR) & LSR_THR_EMPTY); i++)
            ;
    }
    outb(PORT_COM1 + COM_THR, byte);
}

static void put(char character)
{
    if (!line_begun) {
        line_begun = true;
        /* Many levels are indented by one column each, so that the innermost's lines stay within 80. */
        for (unsigned i = (self.level - 1) * (self.levels > 6 ? 1 : 2); i > 0; i--)
            console_put_raw(' ');
        console_put_raw('L');
        if (self.level >= 10)
            console_put_raw('0' + self.level / 10);
        console_put_raw('0' + self.level % 10);
        console_put_raw(':');
        console_put_raw(' ');
    }
    if (character == '\n') {
        console_put_raw('\r');
        line_begun = false;
    }
    console_put_raw(character);
}

static void put_number(uint64_t value, unsigned base, unsigned width, char fill)
{
    char digits[20];
    unsigned count = 0;
    do {
        digits[count++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    for (unsigned i = count; i < width; i++)
        put(fill);
    while (count)
        put(digits[--count]);
}

static void print_arguments(const char *format, va_list arguments)
{
    for (; *format; format++) {
        if (*format != '%') {
            put(*format);
            continue;
        }
        format++;
        char fill = *format == '0' ? '0' : ' ';
        unsigned width = 0;
        while (*format >= '0' && *format <= '9')
            width = width * 10 + (*format++ - '0');
        bool is_long = *format == 'l';
        if (is_long)
            format++;
        switch (*format) {
        case 's':
            for (const char *text = va_arg(arguments, const char *); *text; text++)
                put(*text);
            break;
        case 'c':
            put(va_arg(arguments, int));
            break;
        case 'u':
        case 'x':
            put_number(is_long ? va_arg(arguments, unsigned long) : va_arg(arguments, unsigned), *format == 'u' ? 10 : 16,
                       width, fill);
            break;
        default:
            put(*format);
        }
    }
}

/* %s %c %u %x, with width, zeros and l */
void print(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_arguments(format, arguments);
    va_end(arguments);
}

_Noreturn void fail(const char *format, ...)
{
    va_list arguments;
    if (line_begun)
        put('\n');
    print("FAILED: ");
    va_start(arguments, format);
    print_arguments(format, arguments);
    va_end(arguments);
    put('\n');
    outb(PORT_EXIT, self.level);
    for (;;)
        __asm__ volatile("cli; hlt");
}
