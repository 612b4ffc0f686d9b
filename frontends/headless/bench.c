/* `nestor bench`: what the guest's instructions, its accesses to memory and its VM exits cost on this host.
 *
 * Each row runs one workload of the guest labs/bench in a fresh machine, first a few iterations, then as many as take the time
 * wanted, several times; the fastest counts, for disturbances only add. What is measured is the process's CPU time between
 * the guest's two marks, so neither boot nor other programs count. The guest checks its own results: a wrong one is a failure.
 */
#include "frontends/headless/bench.h"
#include "frontends/headless/commands.h"
#include "frontends/headless/options.h"
#include "frontends/headless/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#ifndef NESTOR_BENCH_GUEST
#define NESTOR_BENCH_GUEST "bench.elf"
#endif

#define MEMORY (128ull << 20)
#define MESSAGE_MAX 512
#define ONLY_MAX 32
#define REPEATS 3
#define CALIBRATION_NS 5e6             /* a run this long tells how long more iterations take */
#define CHECK_COUNT 2

/* clang-format off */
static const struct bench_row rows[] = {
    {"integer",    1, "hardware",    "64 loops of 16 instructions on registers"},
    {"divide",     1, "hardware",    "64 dependent divisions of 64 bits"},
    {"copy",       1, "hardware",    "4 KiB by quadwords"},
    {"movsb",      1, "hardware",    "4 KiB by REP MOVSB"},
    {"stosb",      1, "hardware",    "4 KiB by REP STOSB"},
    {"sort",       1, "hardware",    "quicksort of 1,024 numbers"},
    {"crc32",      1, "hardware",    "CRC-32 of 4 KiB by table"},
    {"sieve",      1, "hardware",    "primes below 8,192: bytes and branches"},
    {"tlb-miss",   1, "hardware",    "8,192 dependent loads, a page each"},
    {"calls",      1, "hardware",    "fib(15): 1,973 calls and returns"},
    {"bytecode",   1, "hardware",    "900 byte codes, an indirect jump each"},
    {"matrix",     1, "hardware",    "32x32 matrices of doubles multiplied"},
    {"doubles",    1, "hardware",    "64 dependent operations on doubles"},
    {"page-fault", 1, "hardware",    "#PF and IRET"},
    {"interrupt",  1, "hardware",    "INT and IRET"},
    {"cr3",        1, "hardware",    "MOV to CR3, then 32 pages touched"},
    {"port",       1, "hardware",    "IN from port 0x21, the PIC"},
    {"cpuid",      1, "hardware",    "CPUID, no exit"},

    {"integer",    2, "hardware",    "in a guest"},
    {"copy",       2, "hardware",    "in a guest"},
    {"sort",       2, "hardware",    "in a guest"},
    {"tlb-miss",   2, "hardware",    "in a guest: walks of two dimensions"},
    {"page-fault", 2, "hardware",    "in a guest, no exit"},
    {"cpuid",      2, "hardware",    "VM exit to L1 and entry"},
    {"cpuid",      2, "transparent", "VM exit to L1 and entry"},
    {"integer",    3, "transparent", "in a guest's guest"},
    {"copy",       3, "transparent", "in a guest's guest"},
    {"sort",       3, "transparent", "in a guest's guest"},
    {"tlb-miss",   3, "transparent", "in a guest's guest: walks of three dimensions"},
    {"page-fault", 3, "transparent", "in a guest's guest, no exit"},
    {"cpuid",      3, "transparent", "VM exit to L2 and entry"},
    {"copy",       5, "transparent", "four hypervisors deep"},
    {"cpuid",      5, "transparent", "VM exit to L4 and entry"},
};
/* clang-format on */

struct result {
    struct bench_sample best, peer;    /* outcome of the peer's: BENCH_NOTHING where there is none */
    u64 count, peer_count;
};

struct bench {
    const char *guest;
    const char *only[ONLY_MAX];
    unsigned only_count;
    double seconds;                    /* wanted for each row */
    enum machine_engine engine;
    bool json, once, peers, help;
    struct image kernel;
    char message[MESSAGE_MAX];
    struct result result[ARRAY_SIZE(rows)];
};

static const char usage[] =
    "usage: nestor bench [option]…\n"
    "  --only NAME     only this workload, at all levels; may be repeated. NAME@2: at level 2 only\n"
    "  --time SECONDS  how long to measure each (default 0.4)\n"
    "  --once          no times: run each workload twice and check its result\n"
    "  --engine NAME   jit (the default), calls or interp\n"
    "  --peers         the same guest in qemu-system-x86_64 (TCG), where that is installed\n"
    "  --json          for programs\n"
    "  --guest FILE    the guest (default " NESTOR_BENCH_GUEST ")\n"
    "exit status: 0 all results were right; 1 one was wrong or missing; 64 and above: usage or host errors\n";

/* ---- marks -------------------------------------------------------------------------------------------------------- */

static void mark_line(struct bench_marks *marks, double ns, u64 insns)
{
    struct bench_sample *sample = marks->sample;
    const char *line = marks->line;
    if (strncmp(line, "start ", 6) == 0) {
        marks->ns_start = ns;
        marks->insns_start = insns;
        return;
    }
    bool stop = strncmp(line, "stop ", 5) == 0, skip = strncmp(line, "skip ", 5) == 0;
    if (!stop && !skip && !strstr(line, "error level "))
        return;                        /* somebody else's: firmware talks here as well */
    snprintf(sample->said, sizeof(sample->said), "%.150s", line);
    sample->outcome = BENCH_FAILED;
    if (skip)
        sample->outcome = BENCH_SKIPPED;
    if (stop && marks->length > 3 && strcmp(line + marks->length - 3, " ok") == 0) {
        sample->outcome = BENCH_OK;
        sample->ns = marks->ns_first - marks->ns_start;
        sample->insns = marks->insns_first - marks->insns_start;
    }
}

void bench_mark(struct bench_marks *marks, char byte, double ns, u64 insns)
{
    if (byte == '\n') {
        marks->line[marks->length] = 0;
        mark_line(marks, ns, insns);
        marks->length = 0;
        return;
    }
    if (byte == '\r')
        return;
    if (marks->length == 0) {
        marks->ns_first = ns;
        marks->insns_first = insns;
    }
    if (marks->length < sizeof(marks->line) - 1)
        marks->line[marks->length++] = byte;
}

/* ---- one run ------------------------------------------------------------------------------------------------------ */

struct run {
    struct machine *machine;
    struct bench_marks marks;
};

static double cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void put(void *arg, enum host_stream stream, u8 byte)
{
    struct run *run = arg;
    if (stream == HOST_DEBUG_402)
        bench_mark(&run->marks, (char)byte, cpu_ns(), machine_icount(run->machine));
}

/* False, with the message set, if there was no machine to run it in. */
static bool run_here(struct bench *b, const struct bench_row *row, u64 count, struct bench_sample *sample)
{
    char append[128];
    snprintf(append, sizeof(append), "workload=%s levels=%u count=%llu", row->workload, row->level, (unsigned long long)count);
    const struct machine_config config = {.memory = MEMORY, .cpus = 1, .policy = row->policy, .engine = b->engine, .kernel = b->kernel,
                                          .append = append, .max_insns = 200000000000ull, .no_reboot = true};
    struct run run = {.marks.sample = sample};
    const struct machine_frontend frontend = {.put = put, .arg = &run};
    memset(sample, 0, sizeof(*sample));
    run.machine = machine_create(&config, &frontend, b->message, MESSAGE_MAX);
    if (!run.machine)
        return false;
    machine_run(run.machine);
    machine_free(run.machine);
    return true;
}

static bool run_one(struct bench *b, const struct bench_row *row, bool peer, u64 count, struct bench_sample *sample)
{
    if (peer)
        return bench_peer_run(row, b->guest, count, sample, b->message, MESSAGE_MAX);
    return run_here(b, row, count, sample);
}

/* Finds the count, measures, and keeps the fastest. */
static bool measure(struct bench *b, const struct bench_row *row, bool peer, struct bench_sample *best, u64 *best_count)
{
    u64 count = b->once ? CHECK_COUNT : 1;
    if (!run_one(b, row, peer, count, best))
        return false;
    *best_count = count;
    if (b->once)
        return true;
    while (best->outcome == BENCH_OK && best->ns < CALIBRATION_NS && count < 1ull << 40) {
        double factor = best->ns > 1000 ? 1.5 * CALIBRATION_NS / best->ns : 100;
        count = (u64)((double)count * (factor < 100 ? factor + 1 : 100));
        if (!run_one(b, row, peer, count, best))
            return false;
    }
    if (best->outcome != BENCH_OK)
        return true;
    count = (u64)((double)count * b->seconds * 1e9 / REPEATS / best->ns) + 1;
    for (unsigned i = 0; i < REPEATS; i++) {
        struct bench_sample sample;
        if (!run_one(b, row, peer, count, &sample))
            return false;
        if (i == 0 || sample.outcome != BENCH_OK || (best->outcome == BENCH_OK && sample.ns < best->ns))
            *best = sample;
    }
    *best_count = count;
    return true;
}

/* ---- the table ---------------------------------------------------------------------------------------------------- */

static double per_iteration(const struct result *r)
{
    return r->best.ns / (double)r->count;
}

/* How many times as long as at L1, or 0 if that was not measured, or is something else (CPUID does not exit there). */
static double ratio_to_l1(const struct bench *b, unsigned at)
{
    if (rows[at].level == 1 || strcmp(rows[at].workload, "cpuid") == 0)
        return 0;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        if (rows[i].level == 1 && strcmp(rows[i].workload, rows[at].workload) == 0 && b->result[i].best.outcome == BENCH_OK)
            return per_iteration(&b->result[at]) / per_iteration(&b->result[i]);
    return 0;
}

static double ratio_to_peer(const struct result *r)
{
    return r->peer.outcome == BENCH_OK ? per_iteration(r) / (r->peer.ns / (double)r->peer_count) : 0;
}

static void print_head(const struct bench *b)
{
    if (b->json)
        fputs("[\n", stdout);
    else if (b->once)
        printf("%-16s %-11s %s\n", "workload", "policy", "result");
    else
        printf("%-16s %-11s %13s %10s %7s%s  %s\n", "workload", "policy", "ns/iteration", "MIPS", "to L1",
               b->peers ? "  QEMU ns/iter.  to QEMU" : "", "one iteration");
}

static void print_json(const struct bench *b, unsigned at, bool first)
{
    const struct result *r = &b->result[at];
    const struct bench_row *row = &rows[at];
    static const char *const outcomes[] = {"nothing", "ok", "skipped", "failed"};
    printf("%s  {\"workload\": \"%s\", \"level\": %u, \"policy\": \"%s\", \"outcome\": \"%s\"", first ? "" : ",\n", row->workload,
           row->level, row->policy, outcomes[r->best.outcome]);
    if (r->best.outcome == BENCH_OK && !b->once) {
        printf(", \"iterations\": %llu, \"ns_per_iteration\": %.3f, \"instructions_per_iteration\": %.1f, \"mips\": %.2f",
               (unsigned long long)r->count, per_iteration(r), (double)r->best.insns / (double)r->count,
               (double)r->best.insns * 1e3 / r->best.ns);
        if (ratio_to_l1(b, at) > 0)
            printf(", \"ratio_to_l1\": %.3f", ratio_to_l1(b, at));
        if (ratio_to_peer(r) > 0)
            printf(", \"qemu_ns_per_iteration\": %.3f, \"ratio_to_qemu\": %.3f", r->peer.ns / (double)r->peer_count,
                   ratio_to_peer(r));
    }
    putchar('}');
}

static void print_row(const struct bench *b, unsigned at)
{
    const struct result *r = &b->result[at];
    const struct bench_row *row = &rows[at];
    char name[32], to_l1[16] = "", peer[48] = "";
    snprintf(name, sizeof(name), row->level == 1 ? "%s" : "%s@%u", row->workload, row->level);
    if (b->once || r->best.outcome != BENCH_OK) {
        printf("%-16s %-11s %s\n", name, row->policy, r->best.said[0] ? r->best.said : "the machine ended before the stop line");
        return;
    }
    if (ratio_to_l1(b, at) > 0)
        snprintf(to_l1, sizeof(to_l1), "%.2f", ratio_to_l1(b, at));
    if (ratio_to_peer(r) > 0)
        snprintf(peer, sizeof(peer), "  %13.1f  %7.2f", r->peer.ns / (double)r->peer_count, ratio_to_peer(r));
    printf("%-16s %-11s %13.1f %10.1f %7s%*s  %s\n", name, row->policy, per_iteration(r),
           (double)r->best.insns * 1e3 / r->best.ns, to_l1, b->peers ? 24 : 0, peer, row->text);
}

/* ---- the command line --------------------------------------------------------------------------------------------- */

static bool is_wanted(const struct bench *b, const struct bench_row *row)
{
    for (unsigned i = 0; i < b->only_count; i++) {
        const char *at = strchr(b->only[i], '@');
        size_t length = at ? (size_t)(at - b->only[i]) : strlen(b->only[i]);
        if (strlen(row->workload) == length && strncmp(row->workload, b->only[i], length) == 0 &&
            (!at || (unsigned)atoi(at + 1) == row->level))
            return true;
    }
    return b->only_count == 0;
}

static bool parse_only(struct bench *b, const char *text)
{
    if (b->only_count == ONLY_MAX)
        return hostio_error(b->message, MESSAGE_MAX, "--only: at most %u of them", ONLY_MAX);
    struct bench one = {.only = {text}, .only_count = 1};
    bool found = false;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        found |= is_wanted(&one, &rows[i]);
    if (!found)
        return hostio_error(b->message, MESSAGE_MAX, "--only %s: expected a workload such as %s or %s@2", text, rows[0].workload,
                            rows[0].workload);
    b->only[b->only_count++] = text;
    return true;
}

static bool parse(struct bench *b, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        bool *flag = strcmp(word, "--json") == 0 ? &b->json : strcmp(word, "--once") == 0 ? &b->once
                   : strcmp(word, "--peers") == 0 ? &b->peers
                   : strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 ? &b->help : NULL;
        if (flag) {
            *flag = true;
            continue;
        }
        bool only = strcmp(word, "--only") == 0, guest = strcmp(word, "--guest") == 0, seconds = strcmp(word, "--time") == 0;
        bool engine = strcmp(word, "--engine") == 0;
        if (!only && !guest && !seconds && !engine)
            return hostio_error(b->message, MESSAGE_MAX, "bench: %s: unknown option (`nestor bench --help`)", word);
        if (++i == argc)
            return hostio_error(b->message, MESSAGE_MAX, "%s: expected a value", word);
        if (only && !parse_only(b, argv[i]))
            return false;
        if (guest)
            b->guest = argv[i];
        if (engine && !options_parse_engine(argv[i], strlen(argv[i]), &b->engine))
            return hostio_error(b->message, MESSAGE_MAX, "--engine %s: expected interp, calls or jit", argv[i]);
        if (seconds) {
            char *end;
            b->seconds = strtod(argv[i], &end);
            if (*end || !(b->seconds >= 0.001 && b->seconds <= 3600))
                return hostio_error(b->message, MESSAGE_MAX, "--time %s: expected seconds, 0.001 to 3600", argv[i]);
        }
    }
    if (b->peers && !b->help && !bench_peer_name())
        return hostio_error(b->message, MESSAGE_MAX, "--peers: qemu-system-x86_64 is not installed");
    return true;
}

/* The status: 1 if a result was wrong. */
static int run_all(struct bench *b)
{
    int status = STATUS_OK;
    bool first = true;
    print_head(b);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct result *r = &b->result[i];
        if (!is_wanted(b, &rows[i]))
            continue;
        if (!measure(b, &rows[i], false, &r->best, &r->count) ||
            (b->peers && rows[i].level == 1 && !measure(b, &rows[i], true, &r->peer, &r->peer_count)))
            return command_error(STATUS_HOST, b->message);
        if (b->json)
            print_json(b, i, first);
        else
            print_row(b, i);
        fflush(stdout);
        first = false;
        if (r->best.outcome != BENCH_OK || r->peer.outcome == BENCH_FAILED)
            status = 1;
    }
    if (b->json)
        fputs("\n]\n", stdout);
    return status;
}

int command_bench(int argc, char **argv)
{
    struct bench *b = calloc(1, sizeof(*b));
    if (!b)
        return command_error(STATUS_HOST, "the host has not enough memory");
    b->seconds = 0.4;
    b->engine = ENGINE_JIT;
    b->guest = NESTOR_BENCH_GUEST;
    int status;
    if (!parse(b, argc, argv)) {
        status = command_error(STATUS_USAGE, b->message);
    } else if (b->help) {
        fputs(usage, stdout);
        status = STATUS_OK;
    } else if (!hostio_read_file(&b->kernel, "--guest", b->guest, b->message, MESSAGE_MAX)) {
        status = command_error(STATUS_INPUT, b->message);
    } else {
        status = run_all(b);
        hostio_free_image(&b->kernel);
    }
    free(b);
    return status;
}
