/*
 * native: the workloads as a process of the host, from the very objects that the guest is linked of: what an emulator could reach at best.
 *
 *     bench-native NAME COUNT
 * says what main.c says, and before the stop line what it took: "cost N", nanoseconds of CPU time. 69: there is no such workload here.
 */
#define _GNU_SOURCE
#include "../bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { STATUS_USAGE = 64, STATUS_UNAVAILABLE = 69, STATUS_HOST = 71 };

static const char *name;

_Noreturn void skip(const char *why)
{
    printf("skip %s %s\n", name, why);
    exit(STATUS_UNAVAILABLE);
}

static long long cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: bench-native NAME COUNT\n");
        return STATUS_USAGE;
    }
    name = argv[1];
    uint64_t count = strtoull(argv[2], NULL, 10);
    const struct workload *workload = NULL;
    for (unsigned i = 0; i < workload_count; i++)
        if (strcmp(workloads[i].name, name) == 0)
            workload = &workloads[i];
    if (!workload || !count)
        skip("is of the machine, no process can do it");
    /* The window, by pages of 4 KiB as in the guest. */
    if (mmap((void *)WINDOW_LA, WINDOW_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) !=
        (void *)WINDOW_LA) {
        perror("bench-native: the window at 4 GiB");
        return STATUS_HOST;
    }
    madvise((void *)WINDOW_LA, WINDOW_SIZE, MADV_NOHUGEPAGE);
    if (workload->prepare)
        workload->prepare();
    printf("start %s 1 %llu\n", workload->name, (unsigned long long)count);
    long long start = cpu_ns();
    uint64_t result = workload->run(count);
    long long cost = cpu_ns() - start;
    printf("cost %lld\nstop %s 1 %llu 0x%llx %s\n", cost, workload->name, (unsigned long long)count, (unsigned long long)result,
           result == workload->expected ? "ok" : "wrong");
    return 0;
}
