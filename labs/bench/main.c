/*
 * main: from multiboot's command line to the one workload that it names, run in the innermost level.
 *
 * Words: workload=NAME, count=N iterations (default 1), levels=K (default 1: no hypervisor): the level that runs it, port=N: decimal, the
 * debug console where it speaks (default 1026, 0x402). What is said, one line each:
 *     start NAME LEVEL COUNT
 *     stop NAME LEVEL COUNT 0xRESULT ok|wrong
 *     skip NAME why                  this processor cannot
 *     error why 0xDETAIL
 * Between the end of the start line and the first byte of the stop line lies the workload and nothing else.
 */
#include "bench.h"

struct multiboot_info {
    uint32_t flags, mem_lower, mem_upper, boot_device, command_line;
};

struct idt_entry {
    uint16_t offset_low, selector;
    uint8_t ist, type;
    uint16_t offset_middle;
    uint32_t offset_high, reserved;
};

enum { CODE64 = 0x10, INTERRUPT_GATE = 0x8e, VECTORS = 256, EXCEPTIONS = 32, STUB_SIZE = 16, NAME_SIZE = 32 };
enum { PORT_PIC1 = 0x20, PORT_PIC2 = 0xa0, PORT_MARKS = 0x402, PORT_EXIT = 0xf4, PORT_ACPI_PM1 = 0x604 };
enum { ACPI_SLEEP_S5 = 5 << 10 | 1 << 13, ACPI_SLEEP_S5_PIIX = 1 << 13 }; /* SLP_TYP differs by chipset */

unsigned current_level;
static unsigned levels;
static uint64_t count;
static uint16_t marks;                 /* port */
static char name[NAME_SIZE];
static struct idt_entry idt[VECTORS];

_Noreturn void bench_main(const struct multiboot_info *info);
_Noreturn void trap_unexpected(uint64_t vector, const uint64_t *frame);

static void outb(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static void say(const char *text)
{
    while (*text)
        outb(marks, *text++);
}

static void say_number(uint64_t number, unsigned base)
{
    char digits[24];
    unsigned at = sizeof digits;
    digits[--at] = 0;
    do {
        digits[--at] = "0123456789abcdef"[number % base];
        number /= base;
    } while (number);
    say(digits + at);
}

_Noreturn void fail(const char *why, uint64_t detail)
{
    say("error level ");
    say_number(current_level, 10);
    say(": ");
    say(why);
    say(" 0x");
    say_number(detail, 16);
    say("\n");
    for (;;) {
        outb(PORT_EXIT, 1);
        __asm__ volatile("cli; hlt");
    }
}

static _Noreturn void power_off(void)
{
    __asm__ volatile("outw %0, %1" : : "a"((uint16_t)ACPI_SLEEP_S5), "Nd"((uint16_t)PORT_ACPI_PM1));
    __asm__ volatile("outw %0, %1" : : "a"((uint16_t)ACPI_SLEEP_S5_PIIX), "Nd"((uint16_t)PORT_ACPI_PM1));
    for (;;)
        __asm__ volatile("cli; hlt");
}

/* ---- exceptions --------------------------------------------------------------------------------------------------- */

void idt_set(unsigned vector, const void *handler)
{
    uint64_t to = (uint64_t)handler;
    idt[vector] = (struct idt_entry){.offset_low = to, .selector = CODE64, .type = INTERRUPT_GATE, .offset_middle = to >> 16};
}

static void idt_init(void)
{
    extern const char trap_stubs[];
    for (unsigned i = 0; i < EXCEPTIONS; i++)
        idt_set(i, trap_stubs + i * STUB_SIZE);
    struct __attribute__((packed)) {
        uint16_t limit;
        uint64_t base;
    } pointer = {sizeof idt - 1, (uint64_t)idt};
    __asm__ volatile("lidt %0" : : "m"(pointer));
}

_Noreturn void trap_unexpected(uint64_t vector, const uint64_t *frame)
{
    say("exception ");
    say_number(vector, 10);
    bool has_error = vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
    fail("unexpected exception at RIP", frame[has_error]);
}

/* ---- the command line --------------------------------------------------------------------------------------------- */

/* If word begins with key and '=', gives what follows. */
static const char *value_of(const char *word, const char *key)
{
    while (*key && *word == *key)
        word++, key++;
    return !*key && *word == '=' ? word + 1 : NULL;
}

static uint64_t parse_number(const char *text)
{
    uint64_t number = 0;
    while (*text >= '0' && *text <= '9' && number < 1ul << 50)
        number = number * 10 + (*text++ - '0');
    return number;
}

static void parse_command_line(const char *line)
{
    while (*line) {
        const char *value;
        if ((value = value_of(line, "workload")))
            for (unsigned i = 0; i < NAME_SIZE - 1 && value[i] > ' '; i++)
                name[i] = value[i];
        else if ((value = value_of(line, "levels")))
            levels = parse_number(value);
        else if ((value = value_of(line, "count")))
            count = parse_number(value);
        else if ((value = value_of(line, "port")))
            marks = parse_number(value);
        while (*line && *line != ' ')
            line++;
        while (*line == ' ')
            line++;
    }
}

static const struct workload *workload_in(const struct workload *table, unsigned entries)
{
    for (unsigned i = 0; i < entries; i++) {
        const char *a = table[i].name, *b = name;
        while (*a && *a == *b)
            a++, b++;
        if (*a == *b)
            return &table[i];
    }
    return NULL;
}

static const struct workload *workload_find(void)
{
    const struct workload *found = workload_in(workloads, workload_count);
    return found ? found : workload_in(system_workloads, system_workload_count);
}

/* ---- a level ------------------------------------------------------------------------------------------------------ */

static void say_line(const char *word, uint64_t result, const char *verdict)
{
    say(word);
    say(" ");
    say(name);
    say(" ");
    say_number(current_level, 10);
    say(" ");
    say_number(count, 10);
    if (verdict) {
        say(" 0x");
        say_number(result, 16);
        say(verdict);
    }
    say("\n");
}

_Noreturn void skip(const char *why)
{
    say("skip ");
    say(name);
    say(" ");
    say(why);
    say("\n");
    power_off();
}

_Noreturn void level_main(void)
{
    if (current_level < levels) {
        uint32_t a = 1, b, c = 0, d;
        __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
        if (!(c & 1 << 5))
            skip("CPUID shows no VMX");
        hypervisor_start();
    }
    const struct workload *workload = workload_find();
    if (workload->prepare)
        workload->prepare();
    say_line("start", 0, NULL);
    uint64_t result = workload->run(count);
    say_line("stop", result, result == workload->expected ? " ok" : " wrong");
    power_off();
}

_Noreturn void bench_main(const struct multiboot_info *info)
{
    current_level = levels = count = 1;
    marks = PORT_MARKS;
    idt_init();
    outb(PORT_PIC1 + 1, 0xff);
    outb(PORT_PIC2 + 1, 0xff);
    if (info->flags & MULTIBOOT_HAS_COMMAND_LINE)
        parse_command_line((const char *)(uint64_t)info->command_line);
    if (!workload_find())
        fail("workload=NAME names none of mine; known are as many as", workload_count + system_workload_count);
    if (levels < 1 || levels > LEVELS_MAX || count < 1)
        fail("levels=1..16 and count=1.. were expected, levels are", levels);
    level_main();
}
