/*
 * workloads: what is measured, one function each. One iteration is small (a microsecond to a millisecond on an interpreter) and
 * gives the same result every time, so that the result of any number of iterations is known and a wrong one is noticed.
 */
#include "bench.h"

/* The buffers of the memory workloads: one page each. */
static uint64_t source[PAGE_SIZE / 8] __attribute__((aligned(4096)));
static uint64_t target[PAGE_SIZE / 8] __attribute__((aligned(4096)));

void *memset(void *to, int value, size_t size);
void *memcpy(void *restrict to, const void *restrict from, size_t size);

/* The compiler may call these for assignments. */
void *memset(void *to, int value, size_t size)
{
    void *at = to;
    __asm__ volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(value) : "memory");
    return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    void *at = to;
    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(size) : : "memory");
    return to;
}

/* Numbers that look random: a linear congruence [D. Knuth, MMIX]. */
static uint64_t next_number(uint64_t *state)
{
    *state = *state * 6364136223846793005ul + 1442695040888963407ul;
    return *state >> 33;
}

static void prepare_source(void)
{
    uint64_t state = 1;
    for (unsigned i = 0; i < PAGE_SIZE / 8; i++)
        source[i] = next_number(&state) << 32 | next_number(&state);
}

/* ---- memory ------------------------------------------------------------------------------------------------------- */

static uint64_t run_copy(uint64_t count)
{
    uint64_t last = 0;
    while (count--)
        last = copy_quadwords(target, source, PAGE_SIZE / 8);
    return last;
}

static uint64_t run_movsb(uint64_t count)
{
    while (count--)
        memcpy(target, source, PAGE_SIZE);
    return target[PAGE_SIZE / 8 - 1];
}

static uint64_t run_stosb(uint64_t count)
{
    while (count--)
        memset(target, 0x5a, PAGE_SIZE);
    return target[PAGE_SIZE / 8 - 1];
}

/* A chain of pointers through all pages of the window, each in another page and cache line. */
static void prepare_tlb(void)
{
    uint64_t at = 0;
    for (uint64_t n = 0; n < WINDOW_PAGES; n++) {
        uint64_t next = (at + 1237) % WINDOW_PAGES;
        uint64_t *pointer = (uint64_t *)(WINDOW_LA + at * PAGE_SIZE + at % 64 * 64);
        *pointer = WINDOW_LA + next * PAGE_SIZE + next % 64 * 64;
        at = next;
    }
}

static uint64_t run_tlb(uint64_t count)
{
    const uint64_t *pointer = (const uint64_t *)WINDOW_LA;
    while (count--)
        for (uint64_t n = 0; n < WINDOW_PAGES; n++)
            pointer = (const uint64_t *)*(const volatile uint64_t *)pointer;
    return (uint64_t)pointer;
}

/* ---- computing ---------------------------------------------------------------------------------------------------- */

enum { SORT_SIZE = 1024, SIEVE_SIZE = 8192 };

static void sort(uint32_t *from, uint32_t *to) /* both ends belong to it */
{
    while (from < to) {
        uint32_t pivot = from[(to - from) / 2], *low = from, *high = to;
        while (low <= high) {
            while (*low < pivot)
                low++;
            while (*high > pivot)
                high--;
            if (low <= high) {
                uint32_t kept = *low;
                *low++ = *high;
                *high-- = kept;
            }
        }
        sort(from, high);
        from = low;
    }
}

static uint64_t run_sort(uint64_t count)
{
    static uint32_t numbers[SORT_SIZE];
    while (count--) {
        uint64_t state = 42;
        for (unsigned i = 0; i < SORT_SIZE; i++)
            numbers[i] = next_number(&state);
        sort(numbers, numbers + SORT_SIZE - 1);
    }
    uint64_t sum = 0;
    for (unsigned i = 0; i < SORT_SIZE; i++) {
        if (i && numbers[i] < numbers[i - 1])
            return i; /* not sorted: no sum is so small */
        sum += (uint64_t)numbers[i] * (i + 1);
    }
    return sum;
}

static uint32_t crc_table[256];

static void prepare_crc(void)
{
    prepare_source();
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
        crc_table[byte] = crc;
    }
}

static uint64_t run_crc(uint64_t count)
{
    uint32_t crc = 0;
    while (count--) {
        const uint8_t *bytes = (const uint8_t *)source;
        crc = ~0u;
        for (unsigned i = 0; i < PAGE_SIZE; i++)
            crc = crc >> 8 ^ crc_table[(crc ^ bytes[i]) & 0xff];
        __asm__ volatile("" : "+r"(crc) : : "memory");
    }
    return (uint32_t)~crc;
}

static uint64_t run_sieve(uint64_t count)
{
    static uint8_t composite[SIEVE_SIZE];
    uint64_t primes = 0;
    while (count--) {
        primes = 0;
        for (unsigned i = 0; i < SIEVE_SIZE; i++)
            *(volatile uint8_t *)&composite[i] = 0;
        for (unsigned i = 2; i < SIEVE_SIZE; i++) {
            if (composite[i])
                continue;
            primes++;
            for (unsigned multiple = i * i; multiple < SIEVE_SIZE; multiple += i)
                composite[multiple] = 1;
        }
    }
    return primes;
}

/* A program of ten instructions in a byte code of seven; each ends in an indirect jump of its own. */
static uint64_t run_bytecode(uint64_t count)
{
    enum { LOAD, ADD, XOR, SHIFT, STORE, LOOP, END };
    static const uint8_t program[] = {STORE, LOAD, ADD, XOR, ADD, SHIFT, STORE, XOR, ADD, LOOP, END};
    static const void *const does[] = {&&load, &&add, &&xor, &&shift, &&store, &&loop, &&end};
    uint64_t value = 0, kept, left;
    const uint8_t *at;
#define NEXT                                                                                                                       \
    do {                                                                                                                           \
        const void *there = does[*at++];                                                                                           \
        __asm__ volatile("" : "+r"(there));                                                                                        \
        goto *there;                                                                                                               \
    } while (0)
again:
    at = program;
    value = 1, kept = 0, left = 100;
    NEXT;
load:
    value += kept;
    NEXT;
add:
    value += 0x9e3779b9;
    NEXT;
xor:
    value ^= value >> 15;
    NEXT;
shift:
    value = value << 3 | value >> 61;
    NEXT;
store:
    kept = value;
    NEXT;
loop:
    if (--left)
        at = program + 1;
    NEXT;
end:
    if (--count)
        goto again;
    return value;
}

/* ---- the system --------------------------------------------------------------------------------------------------- */

static void prepare_fault(void)
{
    idt_set(14, fault_handler);
}

static uint64_t run_fault(uint64_t count)
{
    uint64_t value = 7; /* stays, for no load succeeds */
    while (count--)
        __asm__ volatile(".byte 0x48, 0x8b, 0x07" : "+a"(value) : "D"(ABSENT_LA) : "memory"); /* mov (%rdi), %rax */
    return value;
}

enum { CR3_PAGES = 32 };
static uint64_t other_pml4[PAGE_SIZE / 8] __attribute__((aligned(4096)));

static void prepare_cr3(void)
{
    extern uint64_t page_pml4[];
    memcpy(other_pml4, page_pml4, PAGE_SIZE);
    for (unsigned i = 0; i < CR3_PAGES; i++)
        *(uint64_t *)(WINDOW_LA + i * PAGE_SIZE + i * 64) = i;
}

/* Two address spaces in turn; in each the 32 pages of a working set are touched. */
static uint64_t run_cr3(uint64_t count)
{
    extern uint64_t page_pml4[];
    uint64_t sum = 0, roots[2] = {(uint64_t)other_pml4, (uint64_t)page_pml4};
    while (count--) {
        sum = 0;
        __asm__ volatile("mov %0, %%cr3" : : "r"(roots[count & 1]) : "memory");
        for (unsigned i = 0; i < CR3_PAGES; i++)
            sum += *(volatile uint64_t *)(WINDOW_LA + i * PAGE_SIZE + i * 64);
    }
    return sum;
}

static void prepare_interrupt(void)
{
    idt_set(0x40, interrupt_handler);
}

static uint64_t run_interrupt(uint64_t count)
{
    while (count--)
        __asm__ volatile("int $0x40" : : : "memory");
    return 0;
}

/* The interrupt mask of the first PIC: a register of a device that every PC has. */
static uint64_t run_port(uint64_t count)
{
    uint8_t value = 0;
    while (count--)
        __asm__ volatile("inb $0x21, %0" : "=a"(value));
    return value;
}

static uint64_t run_exit(uint64_t count)
{
    while (count--) {
        uint32_t a = CPUID_BENCH, b, c = 0, d;
        __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    }
    return 0;
}

const struct workload workloads[] = {
    {"integer", NULL, run_integer, 0xad87e12654e82644},
    {"divide", NULL, run_divide, 0xffffef390cbfa6b8},
    {"copy", prepare_source, run_copy, 0x43d69eac0a8a7031},
    {"sort", NULL, run_sort, 0x2b14eb538ec99},
    {"crc32", prepare_crc, run_crc, 0xe40b82e9},
    {"sieve", NULL, run_sieve, 1028}, /* the primes below 8,192 */
    {"tlb-miss", prepare_tlb, run_tlb, WINDOW_LA}, /* the chain is a ring */
    {"calls", NULL, run_calls, 610}, /* fib(15) */
    {"bytecode", NULL, run_bytecode, 0x4d9c8d9b5c7a5b82},
    {"movsb", prepare_source, run_movsb, 0x43d69eac0a8a7031},
    {"stosb", NULL, run_stosb, 0x5a5a5a5a5a5a5a5a},
    {"matrix", prepare_matrix, run_matrix, 0xb4b26b00},
    {"doubles", prepare_doubles, run_doubles, 0xae9b5e024d5},
    {"page-fault", prepare_fault, run_fault, 7},
    {"cr3", prepare_cr3, run_cr3, CR3_PAGES * (CR3_PAGES - 1) / 2},
    {"interrupt", prepare_interrupt, run_interrupt, 0},
    {"port", NULL, run_port, 0xff}, /* main.c masks all */
    {"cpuid", NULL, run_exit, 0},
};
const unsigned workload_count = sizeof workloads / sizeof *workloads;
