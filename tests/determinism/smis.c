/* SMIs come at every PERIOD-th instruction, into hypervisors and their guests alike, and the handler is RSM alone: nothing that
 * software shows may change. What stands on the serial port is compared with a run without them, for each policy and engine.
 *
 *     smis NEST_ELF [PERIOD]
 */
#include "cpu/event.h"
#include "machine/machine.h"
#include "mmu/bus.h"

#include <stdio.h>
#include <stdlib.h>

#define SMBASE 0xa0000u                /* below the video window, which nobody uses */
#define OUTPUT 8192u

struct run { char text[OUTPUT]; unsigned size; u64 interrupts, deep; enum machine_end end; };

static void put(void *arg, enum host_stream stream, u8 byte)
{
    struct run *run = arg;
    if (stream == HOST_SERIAL0 && run->size < OUTPUT - 1)
        run->text[run->size++] = (char)byte;
}

static bool go(struct run *run, const struct image *kernel, const char *policy, enum machine_engine engine, u64 period)
{
    char message[256];
    const struct machine_config config = {.memory = 512ull << 20, .cpus = 1, .append = "levels=3", .max_insns = 400000000, .policy = policy,
                                          .engine = engine, .kernel = *kernel};
    const struct machine_frontend frontend = {.put = put, .arg = run};
    memset(run, 0, sizeof *run);
    struct machine *m = machine_create(&config, &frontend, message, sizeof message);
    if (!m) {
        fprintf(stderr, "smis: %s\n", message);
        return false;
    }
    struct cpu *cpu = &m->cpu[0];
    cpu->sys.smbase = SMBASE;
    bus_write(&m->bus, 0, SMBASE + 0x8000, 2, 0xaa0f);
    u64 next = period;
    while ((run->end = machine_run_to(m, period ? next : MACHINE_NO_LIMIT)) == MACHINE_RUNS) {
        next = m->time.icount + period;
        run->deep += cpu->vmx.depth != 0;
        cpu_signal(cpu, ATT_SMI, 0, true);
    }
    run->interrupts = cpu->smm.count;
    machine_free(m);
    return true;
}

int main(int argc, char **argv)
{
    static const char *const policies[] = {"hardware", "transparent"};
    static struct run reference, disturbed;
    struct image kernel;
    char message[256];
    u64 period = argc > 2 ? strtoull(argv[2], NULL, 0) : 1009;
    unsigned failed = 0;
    if (argc < 2 || !hostio_read_file(&kernel, "kernel", argv[1], message, sizeof message)) {
        fprintf(stderr, "usage: smis NEST_ELF [PERIOD]\n");
        return 2;
    }
    for (unsigned p = 0; p < ARRAY_SIZE(policies); p++) {
        if (!go(&reference, &kernel, policies[p], ENGINE_INTERP, 0))
            return 2;
        for (unsigned engine = ENGINE_INTERP; engine <= ENGINE_JIT; engine += ENGINE_JIT - ENGINE_INTERP) {
            if (!go(&disturbed, &kernel, policies[p], engine, period))
                return 2;
            bool same = reference.end == MACHINE_POWER_OFF && disturbed.end == reference.end &&
                        disturbed.interrupts > 100 && disturbed.deep > 10 && strcmp(reference.text, disturbed.text) == 0;
            printf("%s, %s: %llu SMIs, %llu of them below L1: %s\n", policies[p], engine == ENGINE_JIT ? "jit" : "interp",
                   (unsigned long long)disturbed.interrupts, (unsigned long long)disturbed.deep,
                   same ? "the same output" : "ANOTHER OUTPUT");
            if (!same)
                printf("---- without\n%s---- with (end %u)\n%s", reference.text, disturbed.end, disturbed.text);
            failed += !same;
        }
    }
    hostio_free_image(&kernel);
    return failed != 0;
}
