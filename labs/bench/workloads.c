/*
 * workloads: what computes, one function each. One iteration is small (a microsecond to a millisecond on an interpreter) and
 * gives the same result every time, so that the result of any number of iterations is known and a wrong one is noticed.
 *
 * Kept true: nothing here knows where it runs; the same objects are linked into the guest and into a process (native/). What needs the
 * machine is in system.c.
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

/* REP MOVSB, then REP STOSB, of a page each. */
static uint64_t run_strings(uint64_t count)
{
    uint64_t last = 0;
    while (count--) {
        memcpy(target, source, PAGE_SIZE);
        last = target[PAGE_SIZE / 8 - 1];
        memset(target, 0x5a, PAGE_SIZE);
        last += target[PAGE_SIZE / 8 - 1];
    }
    return last;
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

const struct workload workloads[] = {
    {"integer", NULL, run_integer, 0xad87e12654e82644},
    {"divide", NULL, run_divide, 0xffffef390cbfa6b8},
    {"copy", prepare_source, run_copy, 0x43d69eac0a8a7031},
    {"sort", NULL, run_sort, 0x2b14eb538ec99},
    {"crc32", prepare_crc, run_crc, 0xe40b82e9},
    {"sieve", NULL, run_sieve, 1028}, /* the primes below 8,192 */
    {"matrix", prepare_matrix, run_matrix, 0xb4b26b00},
    {"vectors", prepare_vectors, run_vectors, 0xb4b26b00}, /* the same numbers as matrix */
    {"doubles", prepare_doubles, run_doubles, 0xae9b5e024d5},
    {"tlb-miss", prepare_tlb, run_tlb, WINDOW_LA}, /* the chain is a ring */
    {"calls", NULL, run_calls, 610}, /* fib(15) */
    {"bytecode", NULL, run_bytecode, 0x4d9c8d9b5c7a5b82},
    {"strings", prepare_source, run_strings, 0x43d69eac0a8a7031 + 0x5a5a5a5a5a5a5a5aul},
};
const unsigned workload_count = sizeof workloads / sizeof *workloads;
