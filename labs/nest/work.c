/*
 * work: what the innermost level computes, to show that it really runs: primes by a sieve, and CRC-32 of the sieve; and the
 * loop that measures a VM exit. Both results are known, so a wrong one is noticed.
 */
#include "nest.h"

enum { SIEVE_SIZE = 100000, PRIMES_BELOW = 9592, LARGEST_PRIME = 99991 };

static uint8_t composite[SIEVE_SIZE];

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

static uint32_t crc32(const uint8_t *bytes, size_t size)
{
    uint32_t crc = ~0u;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

bool work_run(void)
{
    unsigned primes = 0, largest = 0;
    composite[0] = composite[1] = 1;
    for (unsigned i = 2; i < SIEVE_SIZE; i++) {
        if (composite[i])
            continue;
        primes++;
        largest = i;
        for (unsigned long multiple = (unsigned long)i * i; multiple < SIEVE_SIZE; multiple += i)
            composite[multiple] = 1;
    }
    uint32_t known = crc32((const uint8_t *)"123456789", 9);
    print("work: %u primes below %u, the last %u; CRC-32 0x%08x\n", primes, (unsigned)SIEVE_SIZE, largest,
          crc32(composite, SIEVE_SIZE));
    return primes == PRIMES_BELOW && largest == LARGEST_PRIME && known == 0xcbf43926;
}

void work_bench(unsigned long count)
{
    print("bench: %lu times CPUID\n", count);
    uint64_t before = rdtsc();
    for (unsigned long i = 0; i < count; i++)
        cpuid(CPUID_HYPERVISOR_BENCH, 0);
    uint64_t ticks = rdtsc() - before;
    print("bench: iterations %lu, tsc %lu, tsc per iteration %lu\n", count, ticks, count ? ticks / count : 0);
}
