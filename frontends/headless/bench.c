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
#define CPU_MODEL "base,+avx"
#define MESSAGE_MAX 512
#define ONLY_MAX 32
#define REPEATS 8
#define PAIRS 61                       /* of samples at two levels */
#define CALIBRATION_NS 5e6             /* a run this long tells how long more iterations take */
#define CHECK_COUNT 2
#define GUESS_PART 100
#define PEER_NS 50e6                   /* the least that a peer has to run: its clock is read when its marks are seen, which may be late */

/* clang-format off */
static const struct bench_row rows[] = {
    {"integer",    1, "hardware",    BENCH_COMPUTES,       "64 loops of 16 instructions on registers"},
    {"divide",     1, "hardware",    BENCH_COMPUTES,       "64 dependent divisions of 64 bits"},
    {"copy",       1, "hardware",    BENCH_COMPUTES,       "4 KiB by quadwords"},
    {"sort",       1, "hardware",    BENCH_COMPUTES,       "quicksort of 1,024 numbers"},
    {"crc32",      1, "hardware",    BENCH_COMPUTES,       "CRC-32 of 4 KiB by table"},
    {"sieve",      1, "hardware",    BENCH_COMPUTES,       "primes below 8,192: bytes and branches"},
    {"matrix",     1, "hardware",    BENCH_COMPUTES,       "32x32 matrices of doubles multiplied, SSE2"},
    {"doubles",    1, "hardware",    BENCH_COMPUTES,       "64 dependent operations on doubles"},
    {"tlb-miss",   1, "hardware",    BENCH_COMPUTES,       "8,192 dependent loads, a page each"},
    {"calls",      1, "hardware",    BENCH_COMPUTES,       "fib(15): 1,973 calls and returns"},
    {"bytecode",   1, "hardware",    BENCH_COMPUTES,       "900 byte codes, an indirect jump each"},
    {"strings",    1, "hardware",    BENCH_COMPUTES,       "4 KiB by REP MOVSB, 4 KiB by REP STOSB"},
    {"vectors",    1, "hardware",    BENCH_COMPUTES_ASIDE, "32x32 matrices of floats multiplied, AVX of 256 bits"},
    {"page-fault", 1, "hardware",    BENCH_MACHINE,        "#PF and IRET"},
    {"cr3",        1, "hardware",    BENCH_MACHINE,        "MOV to CR3, then 32 pages touched"},
    {"interrupt",  1, "hardware",    BENCH_MACHINE,        "INT and IRET"},
    {"port",       1, "hardware",    BENCH_MACHINE,        "IN from port 0x21, the PIC"},
    {"cpuid",      1, "hardware",    BENCH_MACHINE,        "CPUID, no exit"},
    {"cpuid",      2, "hardware",    BENCH_MACHINE,        "VM exit to L1 and entry"},

    {"integer",    2, "hardware",    BENCH_COMPUTES,       "in a guest"},
    {"copy",       2, "hardware",    BENCH_COMPUTES,       "in a guest"},
    {"sort",       2, "hardware",    BENCH_COMPUTES,       "in a guest"},
    {"vectors",    2, "hardware",    BENCH_COMPUTES_ASIDE, "in a guest"},
    {"tlb-miss",   2, "hardware",    BENCH_COMPUTES,       "in a guest: walks of two dimensions"},
    {"page-fault", 2, "hardware",    BENCH_MACHINE,        "in a guest, no exit"},
    {"cpuid",      2, "transparent", BENCH_MACHINE,        "VM exit to L1 and entry"},
    {"cpuid",      2, "multilevel",  BENCH_MACHINE,        "VM exit to L1 and entry"},
    {"cpuid",      2, "augmented",   BENCH_MACHINE,        "VM exit to L1 and entry"},
    {"integer",    3, "transparent", BENCH_COMPUTES,       "in a guest's guest"},
    {"copy",       3, "transparent", BENCH_COMPUTES,       "in a guest's guest"},
    {"sort",       3, "transparent", BENCH_COMPUTES,       "in a guest's guest"},
    {"tlb-miss",   3, "transparent", BENCH_COMPUTES,       "in a guest's guest: walks of three dimensions"},
    {"page-fault", 3, "transparent", BENCH_MACHINE,        "in a guest's guest, no exit"},
    {"cpuid",      3, "transparent", BENCH_MACHINE,        "VM exit to L2 and entry"},
    {"cpuid",      3, "multilevel",  BENCH_MACHINE,        "VM exit to L2 and entry"},
    {"copy",       5, "transparent", BENCH_COMPUTES,       "four hypervisors deep"},
    {"cpuid",      5, "transparent", BENCH_MACHINE,        "VM exit to L4 and entry"},
};
/* clang-format on */

struct bench {
    const char *guest;
    const char *only[ONLY_MAX];
    unsigned only_count;
    double seconds;                    /* wanted for each row and column */
    enum bench_column engine;          /* the one that is measured alone, or compared with the peers */
    bool peers, help;
    struct image kernel;
    char message[MESSAGE_MAX];
    struct bench_result results[ARRAY_SIZE(rows)][BENCH_COLUMNS];
    struct bench_table table;
};

static const enum machine_engine engines[BENCH_COLUMNS] = {[BENCH_INTERP] = ENGINE_INTERP, [BENCH_CALLS] = ENGINE_CALLS,
                                                           [BENCH_JIT] = ENGINE_JIT};

static const char usage[] =
    "usage: nestor bench [option]…\n"
    "  --only NAME     only this workload, at all levels; may be repeated. NAME@2: at level 2 only\n"
    "  --time SECONDS  how long to measure each (default 0.4)\n"
    "  --once          no times: run each workload twice and check its result\n"
    "  --engine NAME   jit (the default), calls or interp\n"
    "  --peers         all engines, the workloads as a process of this host, and the same guest in qemu-system-x86_64 (TCG) and bochs;\n"
    "                  ratios compare with --engine. Who is not installed is named\n"
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
    if (strncmp(line, "cost ", 5) == 0) {
        marks->ns_cost = strtod(line + 5, NULL);
        return;
    }
    bool stop = strncmp(line, "stop ", 5) == 0, skip = strncmp(line, "skip ", 5) == 0;
    if ((!stop && !skip && !strstr(line, "error level ")) || sample->outcome != BENCH_NOTHING)
        return;                        /* somebody else's: firmware talks here as well; or where a machine has no way to power off */
    snprintf(sample->said, sizeof(sample->said), "%.150s", line);
    sample->outcome = BENCH_FAILED;
    if (skip)
        sample->outcome = BENCH_SKIPPED;
    if (stop && marks->length > 3 && strcmp(line + marks->length - 3, " ok") == 0) {
        sample->outcome = BENCH_OK;
        sample->ns = marks->ns_cost > 0 ? marks->ns_cost : marks->ns_first - marks->ns_start;
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
static bool run_here(struct bench *b, const struct bench_row *row, enum bench_column column, u64 count, struct bench_sample *sample)
{
    char append[128];
    snprintf(append, sizeof(append), "workload=%s levels=%u count=%llu", row->workload, row->level, (unsigned long long)count);
    const struct machine_config config = {.memory = MEMORY, .cpus = 1, .cpu_model = CPU_MODEL, .policy = row->policy, .engine = engines[column],
                                          .kernel = b->kernel, .append = append, .max_insns = 200000000000ull, .no_reboot = true};
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

static bool run_one(struct bench *b, const struct bench_row *row, enum bench_column column, u64 count, struct bench_sample *sample)
{
    if (bench_is_peer(column))
        return bench_peer_run(column, row, b->guest, count, sample, b->message, MESSAGE_MAX);
    return run_here(b, row, column, count, sample);
}

/* Finds the count of iterations that takes the time wanted, from a guess. */
static bool calibrate(struct bench *b, const struct bench_row *row, enum bench_column column, u64 guess, struct bench_result *r)
{
    struct bench_sample *sample = &r->best;
    u64 count = b->table.once ? CHECK_COUNT : guess;
    if (!run_one(b, row, column, count, sample))
        return false;
    r->count = count;
    if (b->table.once)
        return true;
    while (sample->outcome == BENCH_OK && sample->ns < CALIBRATION_NS && count < 1ull << 40) {
        double factor = sample->ns > 1000 ? 1.5 * CALIBRATION_NS / sample->ns : 100;
        count = (u64)((double)count * (factor < 100 ? factor + 1 : 100));
        if (!run_one(b, row, column, count, sample))
            return false;
    }
    double wanted = b->seconds * 1e9 / REPEATS;
    if (bench_is_peer(column) && wanted < PEER_NS)
        wanted = PEER_NS;
    if (sample->outcome == BENCH_OK)
        r->count = (u64)((double)count * wanted / sample->ns) + 1;
    return true;
}

static bool takes_part(const struct bench *b, const struct bench_row *row, enum bench_column column)
{
    return b->table.columns[column] && (!bench_is_peer(column) || bench_peer_can(column, row));
}

/* All columns of a row: their samples are taken in turn, so that all see the same disturbances, and the fastest of each counts. */
static bool measure(struct bench *b, unsigned at)
{
    const struct bench_row *row = &rows[at];
    struct bench_result *results = b->results[at];
    /* The own engine first: the others begin with a fraction of its count. */
    if (!calibrate(b, row, b->engine, 1, &results[b->engine]))
        return false;
    u64 guess = results[b->engine].count / GUESS_PART + 1;
    for (unsigned c = 0; c < BENCH_COLUMNS; c++)
        if (c != b->engine && takes_part(b, row, (enum bench_column)c) && !calibrate(b, row, (enum bench_column)c, guess, &results[c]))
            return false;
    bool any[BENCH_COLUMNS] = {false};
    for (unsigned i = 0; i < REPEATS && !b->table.once; i++)
        for (unsigned c = 0; c < BENCH_COLUMNS; c++) {
            struct bench_result *r = &results[c];
            struct bench_sample sample;
            if (!takes_part(b, row, (enum bench_column)c) || r->best.outcome != BENCH_OK)
                continue;
            if (!run_one(b, row, (enum bench_column)c, r->count, &sample))
                return false;
            if (sample.outcome == BENCH_OK && sample.ns <= 0 && (any[c] || i + 1 < REPEATS))
                continue;              /* both marks were seen at once: no sample */
            if (!any[c] || sample.outcome != BENCH_OK || sample.ns < r->best.ns)
                r->best = sample;
            if (!any[c] || sample.ns > r->slowest_ns)
                r->slowest_ns = sample.ns;
            any[c] = true;
        }
    return true;
}

/* ---- levels ------------------------------------------------------------------------------------------------------- */

/* The row of the same work at level 1, or NULL: there is none, or it was not measured. CPUID does not exit there. */
static const struct bench_row *row_at_l1(const struct bench *b, const struct bench_row *row)
{
    if (row->level == 1 || strcmp(row->workload, "cpuid") == 0)
        return NULL;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        if (rows[i].level == 1 && strcmp(rows[i].workload, row->workload) == 0)
            return b->results[i][b->engine].best.outcome == BENCH_OK && b->results[i][b->engine].count ? &rows[i] : NULL;
    return NULL;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Host CPU ns per iteration of one short sample; 0: there is none. */
static bool sample_short(struct bench *b, const struct bench_row *row, double *ns)
{
    const struct bench_result *r = &b->results[row - rows][b->engine];
    struct bench_sample sample;
    u64 count = (u64)((double)r->count * REPEATS / PAIRS) + 1;
    if (!run_here(b, row, b->engine, count, &sample))
        return false;
    *ns = sample.outcome == BENCH_OK ? sample.ns / (double)count : 0;
    return true;
}

/* What the level costs: short samples at level 1 and at the row's level in turn, so that both of a pair see the same host. A host that is
 * sometimes half as fast moves single pairs, but neither the median nor much the quartiles. */
static bool measure_level(struct bench *b, const struct bench_row *row)
{
    struct bench_result *r = &b->results[row - rows][b->engine];
    const struct bench_row *l1 = row_at_l1(b, row);
    double ratio[PAIRS];
    unsigned n = 0;
    if (!l1 || b->table.once || r->best.outcome != BENCH_OK)
        return true;
    for (unsigned i = 0; i < PAIRS; i++) {
        const struct bench_row *pair[2] = {i % 2 ? l1 : row, i % 2 ? row : l1};
        double ns[2];
        if (!sample_short(b, pair[0], &ns[0]) || !sample_short(b, pair[1], &ns[1]))
            return false;
        if (ns[0] > 0 && ns[1] > 0)
            ratio[n++] = i % 2 ? ns[1] / ns[0] : ns[0] / ns[1];
    }
    if (n < PAIRS / 2)
        return true;
    qsort(ratio, n, sizeof(*ratio), compare_doubles);
    r->to_l1.low = ratio[n / 4];
    r->to_l1.median = ratio[n / 2];
    r->to_l1.high = ratio[n - 1 - n / 4];
    return true;
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

static bool parse_engine(const char *text, enum bench_column *column)
{
    enum machine_engine engine;
    if (!options_parse_engine(text, strlen(text), &engine))
        return false;
    for (unsigned c = BENCH_INTERP; c <= BENCH_JIT; c++)
        if (engines[c] == engine)
            *column = (enum bench_column)c;
    return true;
}

static bool parse(struct bench *b, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        bool *flag = strcmp(word, "--json") == 0 ? &b->table.json : strcmp(word, "--once") == 0 ? &b->table.once
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
        if (engine && !parse_engine(argv[i], &b->engine))
            return hostio_error(b->message, MESSAGE_MAX, "--engine %s: expected interp, calls or jit", argv[i]);
        if (seconds) {
            char *end;
            b->seconds = strtod(argv[i], &end);
            if (*end || !(b->seconds >= 0.001 && b->seconds <= 3600))
                return hostio_error(b->message, MESSAGE_MAX, "--time %s: expected seconds, 0.001 to 3600", argv[i]);
        }
    }
    return true;
}

static void choose_columns(struct bench *b)
{
    struct bench_table *t = &b->table;
    t->columns[b->engine] = true;
    for (unsigned c = 0; b->peers && c < BENCH_COLUMNS; c++) {
        t->missing[c] = bench_is_peer((enum bench_column)c) ? bench_peer_missing((enum bench_column)c, b->guest) : NULL;
        t->columns[c] = t->missing[c] == NULL;
    }
    t->rows = rows;
    t->row_count = ARRAY_SIZE(rows);
    t->results = b->results;
    t->own = b->engine;
}

/* The status: 1 if a result was wrong. */
static int run_all(struct bench *b)
{
    int status = STATUS_OK;
    bool first = true;
    choose_columns(b);
    bench_table_begin(&b->table);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        if (!is_wanted(b, &rows[i]))
            continue;
        if (!measure(b, i) || !measure_level(b, &rows[i]))
            return command_error(STATUS_HOST, b->message);
        bench_table_row(&b->table, i, first);
        first = false;
        for (unsigned c = 0; c < BENCH_COLUMNS; c++) {
            const struct bench_result *r = &b->results[i][c];
            if (r->count && (r->best.outcome == BENCH_FAILED || (c == b->engine && r->best.outcome != BENCH_OK)))
                status = 1;
        }
    }
    bench_table_end(&b->table);
    return status;
}

int command_bench(int argc, char **argv)
{
    struct bench *b = calloc(1, sizeof(*b));
    if (!b)
        return command_error(STATUS_HOST, "the host has not enough memory");
    b->seconds = 0.4;
    b->engine = BENCH_JIT;
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
