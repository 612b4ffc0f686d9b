/* `nestor lockstep`: the same machine twice, on two engines, advanced by equal numbers of instructions and compared section by
 * section. The first difference is narrowed to the smallest window of instructions in which it still shows (the machines
 * are deterministic, so they can be run again from the start) and reported with section and member.
 *
 * An engine that translates blocks only shows its mistakes while it may run freely, so the windows are never forced below
 * what --finest says.
 */
#include "frontends/headless/commands.h"
#include "frontends/headless/options.h"
#include "frontends/headless/status.h"

#include "machine/sections.h"

#include <regex.h>
#include <stdio.h>
#include <stdlib.h>

#define MESSAGE_MAX 512
#define STATUS_DIFFERENT 1

static const char usage[] =
    "usage: nestor lockstep [--engines A,B] [--every N] [--memory-every N] [--from N] [--finest N] RUN-OPTION…\n"
    "  --engines A,B      the engines to compare (default interp,jit)\n"
    "  --every N          compare registers and devices every N instructions (default 100k)\n"
    "  --memory-every N   compare all of memory every N instructions (default 500M), and at the end\n"
    "  --from N           compare nothing before this instruction count\n"
    "  --finest N         narrow a difference down to windows of N instructions (default 100)\n"
    "  RUN-OPTION         as for `nestor run`; the guest's serial output of the first engine goes to stdout\n"
    "exit status: 0 no difference until the machine ended; 1 a difference; 64 and above: usage or host errors\n";

struct pair {
    struct options options;
    enum machine_engine engine[2];
    u64 every, memory_every, from, finest;
    struct machine *machine[2];
    bool quiet;                        /* a second run, to narrow: the guest's output was seen already */
    bool watching;
    regex_t until;
    char line[1024];
    unsigned length;
    u64 compared;
    char message[MESSAGE_MAX];
};

/* ---- the two machines --------------------------------------------------------------------------------------------- */

static void watch(struct pair *p, u8 byte)
{
    if (byte == '\n' || p->length == sizeof(p->line) - 1) {
        p->length = 0;
        return;
    }
    if (byte == '\r' || byte == 0)
        return;
    p->line[p->length++] = (char)byte;
    p->line[p->length] = 0;
    if (regexec(&p->until, p->line, 0, NULL, 0) == 0)
        machine_finish(p->machine[0], MACHINE_STOPPED, 0);
}

static void put_first(void *arg, enum host_stream stream, u8 byte)
{
    struct pair *p = arg;
    if (!p->quiet && stream == HOST_SERIAL0)
        putchar(byte);
    if (p->watching && stream == HOST_SERIAL0)
        watch(p, byte);
}

static void put_second(void *arg, enum host_stream stream, u8 byte)
{
    (void)arg, (void)stream, (void)byte;   /* compared through the section "board" */
}

static void free_machines(struct pair *p)
{
    for (unsigned i = 0; i < 2; i++) {
        if (p->machine[i])
            machine_free(p->machine[i]);
        p->machine[i] = NULL;
    }
}

static int make_machines(struct pair *p)
{
    free_machines(p);
    p->length = 0;
    for (unsigned i = 0; i < 2; i++) {
        const struct machine_frontend frontend = {.put = i ? put_second : put_first, .arg = p};
        p->options.machine.engine = p->engine[i];
        p->machine[i] = machine_create(&p->options.machine, &frontend, p->message, MESSAGE_MAX);
        if (!p->machine[i])
            return STATUS_INPUT;
        if (p->machine[i]->config.engine != p->engine[i]) {
            snprintf(p->message, MESSAGE_MAX, "--engines %s: this host offers no translated code", options_engine_name(p->engine[i]));
            return STATUS_HOST;
        }
    }
    return 0;
}

/* ---- comparing ---------------------------------------------------------------------------------------------------- */

/* Runs both machines to `icount`. True when they are at the same point in the same state. */
static bool step(struct pair *p, u64 icount, bool compare, bool memory, char *text, size_t text_size)
{
    struct machine *a = p->machine[0], *b = p->machine[1];
    machine_run_to(a, icount);
    machine_run_to(b, a->time.icount < icount ? a->time.icount : icount);
    bool ended = a->end != MACHINE_RUNS;
    if (ended && b->end == MACHINE_RUNS && a->end != MACHINE_STOPPED && a->end != MACHINE_INTERRUPTED)
        machine_run_to(b, a->time.icount + 1);      /* the end itself: power off and the like */
    if (!compare && !ended && b->end == MACHINE_RUNS)
        return true;
    p->compared++;
    if (!sections_equal(a, b, memory || ended, text, text_size))
        return false;
    if (b->end != a->end && a->end != MACHINE_STOPPED && a->end != MACHINE_INTERRUPTED) {
        snprintf(text, text_size, "one machine ended (%d) and the other did not (%d)", (int)a->end, (int)b->end);
        return false;
    }
    return true;
}

/* From the state that both have now: the first window (*good, *bad] of `every` instructions that ends in a difference. False
 * when the machines ended, or reached `stop`, without one. */
static bool find_difference(struct pair *p, u64 from, u64 stop, u64 every, u64 memory_every, u64 *good, u64 *bad, char *text,
                            size_t text_size)
{
    u64 at = p->machine[0]->time.icount, memory_at = at + memory_every;
    while (p->machine[0]->end == MACHINE_RUNS && at < stop) {
        u64 next = at < from ? from : at + every;
        bool memory = next >= memory_at;
        if (memory)
            memory_at = next + memory_every;
        if (!step(p, next, next >= from, memory, text, text_size)) {
            *good = at;
            *bad = next;
            return true;
        }
        at = next;
    }
    return false;
}

static int narrow(struct pair *p, u64 good, u64 bad, char *text, size_t text_size)
{
    u64 window = bad - good;
    p->quiet = true;
    while (window > p->finest && !p->machine[0]->interrupt) {
        char finer[MESSAGE_MAX];
        u64 a, b, every = window / 10 > p->finest ? window / 10 : p->finest;
        int status = make_machines(p);
        if (status)
            return status;
        if (!step(p, good, good != 0, true, finer, sizeof(finer))) {
            fprintf(stderr, "lockstep: at instruction %llu memory differed already: %s\n", (unsigned long long)good, finer);
            return STATUS_DIFFERENT;
        }
        if (!find_difference(p, good, bad + 1, every, every, &a, &b, finer, sizeof(finer)))
            break;                     /* shorter runs hide it */
        good = a;
        bad = b;
        window = b - a;
        snprintf(text, text_size, "%s", finer);
        if (every == p->finest)
            break;
    }
    const struct cpu *cpu = &p->machine[0]->cpu[p->machine[0]->time.turn];
    fprintf(stderr, "lockstep: %s and %s differ between instructions %llu and %llu (cpu%u, rip %#llx): %s\n",
            options_engine_name(p->engine[0]), options_engine_name(p->engine[1]), (unsigned long long)good,
            (unsigned long long)bad, cpu->index, (unsigned long long)cpu->core.rip, text);
    return STATUS_DIFFERENT;
}

static int compare(struct pair *p)
{
    char text[MESSAGE_MAX];
    u64 good, bad;
    int status = make_machines(p);
    if (status)
        return status;
    hostio_catch_interrupt(&p->machine[0]->interrupt);
    if (find_difference(p, p->from, MACHINE_NO_LIMIT, p->every, p->memory_every, &good, &bad, text, sizeof(text))) {
        fflush(stdout);
        fprintf(stderr, "lockstep: a difference at instruction %llu: %s\n", (unsigned long long)bad, text);
        return narrow(p, good, bad, text, sizeof(text));
    }
    fflush(stdout);
    fprintf(stderr, "lockstep: no difference between %s and %s in %llu instructions, compared %llu times\n",
            options_engine_name(p->engine[0]), options_engine_name(p->engine[1]),
            (unsigned long long)p->machine[0]->time.icount, (unsigned long long)p->compared);
    return p->machine[0]->end == MACHINE_INTERRUPTED ? STATUS_INTERRUPTED : STATUS_OK;
}

/* ---- the command line --------------------------------------------------------------------------------------------- */

static int mistake(struct pair *p, const char *option, const char *value, const char *expected)
{
    hostio_error(p->message, MESSAGE_MAX, "%s %s: expected %s", option, value, expected);
    return STATUS_USAGE;
}

static int set_engines(struct pair *p, const char *value)
{
    const char *comma = strchr(value, ',');
    if (!comma || !options_parse_engine(value, (size_t)(comma - value), &p->engine[0]) ||
        !options_parse_engine(comma + 1, strlen(comma + 1), &p->engine[1]))
        return mistake(p, "--engines", value, "two of interp, calls and jit, such as interp,jit");
    return 0;
}

/* Takes the options of lockstep itself out of argv; what is left are those of `run`. */
static int own_options(struct pair *p, int *argc, char **argv)
{
    const struct { const char *name; u64 *value; } counts[] = {
        {"--every", &p->every}, {"--memory-every", &p->memory_every}, {"--from", &p->from}, {"--finest", &p->finest}};
    int kept = 0, status = 0;
    for (int i = 0; i < *argc && !status; i++) {
        unsigned c = 0;
        while (c < ARRAY_SIZE(counts) && strcmp(argv[i], counts[c].name) != 0)
            c++;
        bool engines = strcmp(argv[i], "--engines") == 0;
        if (c == ARRAY_SIZE(counts) && !engines) {
            argv[kept++] = argv[i];
            continue;
        }
        if (i + 1 == *argc)
            return hostio_error(p->message, MESSAGE_MAX, "%s: expected a value behind it", argv[i]), STATUS_USAGE;
        const char *value = argv[++i];
        if (engines)
            status = set_engines(p, value);
        else if (!options_parse_count(value, counts[c].value) || (counts[c].value != &p->from && *counts[c].value == 0))
            status = mistake(p, counts[c].name, value, "a number of instructions, such as 100000 or 5M");
    }
    *argc = kept;
    return status;
}

static int set_up(struct pair *p, int argc, char **argv)
{
    int status = own_options(p, &argc, argv);
    if (!status)
        status = options_parse(&p->options, argc, argv, p->message, MESSAGE_MAX);
    if (!status && !p->options.help && p->options.trace_count)
        status = mistake(p, "--trace", p->options.trace[0], "no trace: lockstep writes none");
    if (!status && p->options.until_serial && !p->options.help) {
        if (regcomp(&p->until, p->options.until_serial, REG_EXTENDED | REG_NOSUB))
            return mistake(p, "--until-serial", p->options.until_serial, "a POSIX extended regular expression");
        p->watching = true;
    }
    return status || p->options.help ? status : options_read_images(&p->options, p->message, MESSAGE_MAX);
}

int command_lockstep(int argc, char **argv)
{
    struct pair *p = calloc(1, sizeof(*p));
    if (!p)
        return command_error(STATUS_HOST, "the host has not enough memory");
    p->engine[1] = ENGINE_JIT;
    p->every = 100000;
    p->memory_every = 500000000;
    p->finest = 100;
    int status = set_up(p, argc, argv);
    if (!status && p->options.help)
        fputs(usage, stdout);
    else if (!status)
        status = compare(p);
    if (status >= STATUS_USAGE && status != STATUS_INTERRUPTED)
        command_error(status, p->message);
    free_machines(p);
    options_free_images(&p->options);
    if (p->watching)
        regfree(&p->until);
    free(p);
    return status;
}
