/*
 * exits: what a VM exit costs a program in a guest, by the TSC, of which Nestor counts one tick an instruction of whatever level.
 *
 * A hypercall (VMCALL) and CPUID always exit and are answered by the hypervisor's kernel; reading a port that nothing serves goes on to its
 * user-land. Prints one line: the mean of COUNT of each, with all that happened meanwhile, timers too.
 * usage: exits [COUNT]
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/io.h>

enum { PORT_UNSERVED = 0x80 };

static uint64_t tsc(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}

/* From user mode KVM refuses every hypercall, by the same way back. */
static void hypercall(void)
{
    long result = 0;
    __asm__ volatile("vmcall" : "+a"(result) : "b"(0), "c"(0), "d"(0), "S"(0) : "memory");
}

static void cpuid(void)
{
    uint32_t leaf = 0, index = 0;
    __asm__ volatile("cpuid" : "+a"(leaf), "+c"(index) : : "ebx", "edx", "memory");
}

static void port(void)
{
    inb(PORT_UNSERVED);
}

static unsigned long long mean_ticks(void (*exit_once)(void), unsigned count)
{
    exit_once(); /* the code is in memory now, at every level */
    uint64_t before = tsc();
    for (unsigned n = 0; n < count; n++)
        exit_once();
    return (tsc() - before + count / 2) / count;
}

int main(int argc, char **argv)
{
    unsigned count = argc > 1 ? strtoul(argv[1], NULL, 10) : 500;
    if (!count || iopl(3)) {
        fputs("usage: exits [COUNT], as root\n", stderr);
        return 1;
    }
    printf("instructions for each of %u: hypercall %llu, CPUID %llu, port %llu\n", count, mean_ticks(hypercall, count), mean_ticks(cpuid, count),
           mean_ticks(port, count));
    return 0;
}
