/* The machine: processors, memory, devices and the one clock, wired as a PC.
 *
 * A machine is made from a configuration, runs until something ends it (power off, a limit, a triple fault …) and says
 * what that was. It knows no operating system and no user interface: bytes come and go through struct machine_frontend.
 *
 * Kept true: two machines of the same configuration that are given the same input at the same instruction counts run
 * the same instructions. Nothing of the host (time, pointers, order of threads) reaches the guest.
 */
#ifndef NESTOR_MACHINE_MACHINE_H
#define NESTOR_MACHINE_MACHINE_H

#include "cpu/state.h"
#include "devices/acpipm.h"
#include "devices/clock.h"
#include "devices/debugport.h"
#include "devices/fwcfg.h"
#include "devices/host.h"
#include "devices/hpet.h"
#include "devices/i8042.h"
#include "devices/ioapic.h"
#include "devices/lapic.h"
#include "devices/pci.h"
#include "devices/pic.h"
#include "devices/pit.h"
#include "devices/rtc.h"
#include "devices/uart.h"
#include "machine/hostio.h"
#include "mmu/bus.h"

#include <stdio.h>

#define MACHINE_CPUS 255               /* xAPIC IDs 0..254 */
#define MACHINE_MODULES 64
#define MACHINE_NO_LIMIT (~0ull)
#define MACHINE_LOW_LIMIT 0xc0000000ull /* RAM below 4 GiB ends here: what follows is for devices */
#define MACHINE_ACPI_START 0xe0000u    /* tables lie in [start, end); to 1 MiB the memory is marked reserved */
#define MACHINE_ACPI_END 0xfd000u

/* How instructions run. Every engine gives the same state at the same instruction count. */
enum machine_engine { ENGINE_INTERP, ENGINE_CALLS, ENGINE_JIT, ENGINE_COUNT };

/* What a user can ask for. Strings and images stay the caller's and must live as long as the machine. */
struct machine_config {
    u64 memory;                        /* bytes, multiple of 4096 */
    unsigned cpus;                     /* 1..MACHINE_CPUS */
    const char *cpu_model;             /* "MODEL[,+feat,-feat]…", NULL: the default */
    const char *policy;                /* "NAME[,k=v]…" or a file, NULL: the default */
    struct image kernel, initrd;       /* size 0: none */
    const char *append;                /* command line, never NULL */
    struct { struct image image; const char *arguments; } module[MACHINE_MODULES];
    unsigned module_count;
    u64 max_insns;                     /* MACHINE_NO_LIMIT: none */
    bool no_reboot;                    /* a reset ends the run */
    bool stats;                        /* count VM exits by level and reason */
    u64 epoch_seconds;                 /* wall clock at machine start */
    enum machine_engine engine;        /* in the machine: the one that there is, which is the interpreter where the host offers no other */
};

/* Where the machine's bytes go to and come from. */
struct machine_frontend {
    void (*put)(void *arg, enum host_stream stream, u8 byte);
    /* Input for the first serial port, without waiting: bytes taken, 0 for none now, -1 for never again. NULL: no input. */
    int (*get)(void *arg, u8 *bytes, unsigned n);
    /* Nothing will happen before input comes: wait for it. May return early. */
    void (*wait)(void *arg);
    void *arg;
};

/* Where the policy comes from (machine/policy_source.h). */
struct policy_source {
    char *text;                        /* the name with all parameters, or those of the library alone; malloc'd */
    void *library;                     /* NULL: none */
    const struct nestor_policy *policy;    /* the library's */
};

enum machine_end {
    MACHINE_RUNS,
    MACHINE_POWER_OFF,                 /* the guest powered off */
    MACHINE_RESET,                     /* … or reset, with no_reboot */
    MACHINE_DEBUG_EXIT,                /* … or wrote isa-debug-exit: end_status */
    MACHINE_MAX_INSNS,
    MACHINE_TRIPLE_FAULT,              /* end_cpu */
    MACHINE_HALTED,                    /* every CPU is halted and nothing will wake one */
    MACHINE_STOPPED,                   /* machine_stop, e.g. --until-serial matched */
    MACHINE_INTERRUPTED,               /* *interrupt was set (Ctrl-C) */
};

struct machine {
    struct bus bus;
    struct cpu *cpu;                   /* cpu_count of them */
    unsigned cpu_count;
    struct policy_source policy;
    struct interp *interp;             /* decoded blocks, shared by all vCPUs */
    void (*run)(struct cpu *cpu);      /* the engine's run loop: cpu_run's contract (cpu/interp.h) */
    struct clock clock;
    struct host host;

    struct pic pic;
    struct pit pit;
    struct uart uart;
    struct rtc rtc;
    struct i8042 i8042;
    struct acpipm acpipm;
    struct hpet hpet;
    struct pci pci;
    struct fwcfg fwcfg;
    struct debugport debugport;
    struct apic_bus apic_bus;
    struct lapic *lapic;               /* cpu_count of them */
    struct ioapic ioapic;
    u64 *tsc_offset_seen;              /* cpu_count: to notice when a guest moved a TSC under its deadline timer */

    /* Virtual time (machine/vtime.c). */
    struct {
        u64 icount;                    /* instructions run by the machine, up to date while no vCPU runs */
        u64 skipped;                   /* ns that passed while every vCPU slept: virtual ns = icount + skipped */
        u64 turn_end;                  /* icount at which the next vCPU has its turn */
        u64 asleep_since;              /* ns at which the last vCPU fell asleep, valid while all sleep */
        u64 run_to;                    /* icount at which machine_run_to returns */
        unsigned turn;                 /* the vCPU whose turn it is */
        bool running;                  /* it is inside cpu_run */
        u64 trace_start, trace_stop;   /* icounts between which tracing is on */
    } time;

    /* Input of the first serial port that has not found room yet. */
    struct { u8 byte[64]; unsigned first, count; unsigned timer; bool open; } input;

    /* What has been sent to the outside: any stream, in order. */
    struct { u64 bytes, hash; } output;

    u64 random;                        /* state of the deterministic generator behind RDRAND */
    bool reset_wanted;
    bool memory_used;                  /* RAM holds what a reset must clear */
    enum machine_end end;
    u32 end_status;
    unsigned end_cpu;

    volatile int interrupt;            /* set it from a signal handler: the run ends soon */
    struct trace *trace;               /* NULL: none */
    u32 trace_mask;                    /* the mask to set at trace_start */
    struct machine_config config;
    struct machine_frontend frontend;
};

/* Makes a machine, loads its kernel and leaves it ready to run. NULL, with a one-line message, when the configuration
 * is impossible, an image cannot be booted or the host has no memory. */
struct machine *machine_create(const struct machine_config *config, const struct machine_frontend *frontend,
                               char *message, size_t message_size);
void machine_free(struct machine *m);

/* Sends the events of [start, stop) (instruction counts) to `trace`. Before machine_run. */
void machine_set_trace(struct machine *m, struct trace *trace, u64 start, u64 stop);

/* Runs until something ends the run; returns what. */
enum machine_end machine_run(struct machine *m);

/* The same, but returns MACHINE_RUNS as soon as the machine has run `icount` instructions in all. To go on from there
 * changes nothing in the execution. */
enum machine_end machine_run_to(struct machine *m, u64 icount);

/* Ends the run at the next block boundary. From callbacks of devices and front ends while machine_run is active; the
 * first reason wins. */
void machine_finish(struct machine *m, enum machine_end end, u32 status);

/* Power-on state, images loaded again (also done by machine_create). */
bool machine_reset(struct machine *m, char *message, size_t message_size);

/* Virtual time: instructions the machine has run, and ns, exact to the running instruction. */
u64 machine_icount(const struct machine *m);
u64 machine_now(const struct machine *m);
/* The running vCPU must look at deadlines, attention and m->end again after the current instruction. */
void machine_look_again(struct machine *m);

/* Where every vCPU stands, and why the run ended, in text for humans, to a stdio stream. */
void machine_report(struct machine *m, FILE *out);

#endif
