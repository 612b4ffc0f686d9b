/* Handlers against the host CPU: random instructions of every row that user code may run, in random states, executed
 * natively and by Nestor; registers, flags, vectors, memory and exceptions must be equal.
 *
 *     hostcpu [--n N] [--seed S|random] [--bits 64|32|16] [--row NAME] [--index I] [--rows] [--verbose N]
 *     hostcpu --record FILE [--n N] [--seed S]     writes vectors with their outcome
 *     hostcpu --replay FILE                        runs those on Nestor alone, on any host
 *
 * Every vector follows from the seed and its index alone: a failure prints what runs it again. Rows take turns, so none
 * starves; one vector in sixteen is made of random bytes. --rows counts vectors and exceptions by row, --verbose is the
 * number of failures printed for each row (default 3).
 * Exit status: 0 all equal, 1 differences, 2 usage or host error, 77 the host is no x86-64.
 */
#include "cpu/decode.h"
#include "debug/disasm.h"
#include "emulate.h"
#include "generate.h"
#include "native.h"
#include "random.h"
#include "stored.h"
#include "tests/rows.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "masks.h"

#define SKIPPED 77
#define MOST_PRINTED 200

static struct bench bench;
static struct plan plan;
static struct {
    u64 n, index;
    u64 seed;
    const char *row;
    int bits;                  /* 0: all */
    bool one, by_row;
    const char *record, *replay;
    unsigned verbose;
} options = {.n = 200000, .seed = 1, .verbose = 3};

static struct row_count { u64 vectors, faults, failures, skipped; } counts[4096];
static u64 failures, printed;
static struct stored *recording;   /* --record */

/* ---- comparison -------------------------------------------------------------------------------------------------- */

static const char *const reg_names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

static const char *const segment_names[6] = {"es", "cs", "ss", "ds", "fs", "gs"};

struct report { char text[2048]; size_t n; unsigned differences; };

static void PRINTF_LIKE(2, 3) differ(struct report *r, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (r->differences++ < 12 && r->n < sizeof r->text - 200)
        r->n += (size_t)vsnprintf(r->text + r->n, sizeof r->text - r->n, format, args);
    va_end(args);
}

#define LL(x) (unsigned long long)(x)

/* Two registers of four lanes are the same, or nearly; never where one is NaN, infinite, zero or denormal. */
static bool lanes_equal(const u64 *a, const u64 *b, unsigned ulps)
{
    if (memcmp(a, b, 16) == 0)
        return true;
    for (unsigned i = 0; i < 4; i++) {
        u32 x = (u32)(a[i / 2] >> 32 * (i & 1)), y = (u32)(b[i / 2] >> 32 * (i & 1)), e = x >> 23 & 0xff, f = y >> 23 & 0xff;
        if (x != y && (!ulps || !e || !f || e == 0xff || f == 0xff || x - y + ulps > 2 * ulps))
            return false;
    }
    return true;
}

static void compare_fpu(struct report *r, const struct user_state *host, const struct user_state *ours,
                        const struct mask *mask, unsigned xmms)
{
    const struct fx_image *a = &host->fx, *b = &ours->fx;
    for (unsigned n = 0; n < xmms; n++)
        if (!(mask->vectors >> n & 1) && !lanes_equal(a->xmm[n], b->xmm[n], mask->lane_ulps))
            differ(r, "    xmm%-2u  host %016llx %016llx  nestor %016llx %016llx\n", n, LL(a->xmm[n][1]),
                   LL(a->xmm[n][0]), LL(b->xmm[n][1]), LL(b->xmm[n][0]));
    for (unsigned n = 0; n < xmms && bench.avx; n++)
        if (!(mask->vectors >> n & 1) && !lanes_equal(host->ymm_high[n], ours->ymm_high[n], mask->lane_ulps))
            differ(r, "    ymm%-2u upper half  host %016llx %016llx  nestor %016llx %016llx\n", n,
                   LL(host->ymm_high[n][1]), LL(host->ymm_high[n][0]), LL(ours->ymm_high[n][1]),
                   LL(ours->ymm_high[n][0]));
    if (a->mxcsr != b->mxcsr)
        differ(r, "    mxcsr  host %04x  nestor %04x\n", a->mxcsr, b->mxcsr);
    if (a->fcw != b->fcw)
        differ(r, "    fcw    host %04x  nestor %04x\n", a->fcw, b->fcw);
    if ((a->fsw ^ b->fsw) & ~mask->fsw)
        differ(r, "    fsw    host %04x  nestor %04x\n", a->fsw, b->fsw);
    if (a->ftw != b->ftw)
        differ(r, "    ftw    host %02x  nestor %02x\n", a->ftw, b->ftw);
    for (unsigned n = 0; n < 8; n++)
        if (a->st[n].exponent != b->st[n].exponent ||
            a->st[n].mantissa - b->st[n].mantissa + mask->ulps > 2 * mask->ulps)
            differ(r, "    st%u    host %04x %016llx  nestor %04x %016llx\n", n, a->st[n].exponent,
                   LL(a->st[n].mantissa), b->st[n].exponent, LL(b->st[n].mantissa));
}

static void compare(struct report *r, const struct vector *v, const struct outcome *ours, const struct mask *mask)
{
    const struct outcome *host = &v->native;
    u64 width = v->bits == BITS_64 && !mask->halves ? ~0ull : 0xffffffff;
    if (host->died) {
        differ(r, "    the process that ran it died or hung\n");
        return;
    }
    if (host->exception != ours->exception)
        differ(r, "    exception  host %d  nestor %d\n", host->exception, ours->exception);
    else if (host->exception >= 0) {
        if (host->error != ours->error && !mask->error)
            differ(r, "    error code  host %#x  nestor %#x\n", host->error, ours->error);
        if (host->exception == EXC_PF && host->address != ours->address && !mask->address)
            differ(r, "    cr2    host %llx  nestor %llx\n", LL(host->address), LL(ours->address));
    }
    if (host->state.rip != ours->state.rip)
        differ(r, "    rip    host +%lld  nestor +%lld\n", LL(host->state.rip - bench.region - vector_insn_off(v)),
               LL(ours->state.rip - bench.region - vector_insn_off(v)));
    for (unsigned n = 0; n < (v->bits == BITS_64 ? 16 : 8); n++)
        if ((host->state.r[n] ^ ours->state.r[n]) & width && !(mask->registers >> n & 1))
            differ(r, "    %-5s  host %016llx  nestor %016llx  (was %016llx)\n", reg_names[n],
                   LL(host->state.r[n] & width), LL(ours->state.r[n] & width), LL(v->before.r[n] & width));
    u64 flags = (FL_STATUS | FL_DF | FL_AC | FL_ID | FL_NT | FL_IOPL | FL_IF) & ~mask->flags;
    if ((host->state.rflags ^ ours->state.rflags) & flags)
        differ(r, "    flags  host %06llx  nestor %06llx  differ in %03llx  (was %06llx)\n",
               LL(host->state.rflags & 0x3f7fd5), LL(ours->state.rflags & 0x3f7fd5),
               LL((host->state.rflags ^ ours->state.rflags) & flags), LL(v->before.rflags));
    if (v->bits == BITS_64 && bench.fsgsbase &&
        (host->state.fs_base != ours->state.fs_base || host->state.gs_base != ours->state.gs_base))
        differ(r, "    fs, gs  host %llx %llx  nestor %llx %llx\n", LL(host->state.fs_base), LL(host->state.gs_base),
               LL(ours->state.fs_base), LL(ours->state.gs_base));
    for (unsigned n = SEG_ES; n <= SEG_GS; n++)
        /* The host's IRET from an interrupt leaves 0 where a null selector was [SDM2 "IRET"]: null is null. */
        if ((n == SEG_CS ? v->far : v->bits != BITS_64 || (n == SEG_SS && v->far)) &&
            host->state.selector[n] != ours->state.selector[n] &&
            (host->state.selector[n] || ours->state.selector[n] > 3))
            differ(r, "    %s     host %04x  nestor %04x\n", segment_names[n], host->state.selector[n],
                   ours->state.selector[n]);
    compare_fpu(r, &host->state, &ours->state, mask, v->bits == BITS_64 ? 16 : 8);
    bool same_memory = mask->memory || memcmp(host->memory, ours->memory, sizeof host->memory) == 0;
    for (unsigned i = 0; i < WINDOWS && !same_memory; i++)
        for (unsigned at = windows[i].at; at < windows[i].at + windows[i].bytes; at++)
            if (host->memory[at] != ours->memory[at] && !(mask->open[at / 8] >> at % 8 & 1))
                differ(r, "    memory %llx  host %02x  nestor %02x  (was %02x)\n",
                       LL(bench.region + windows[i].off + at - windows[i].at), host->memory[at], ours->memory[at],
                       v->memory[at]);
    if (host->stray != ours->stray && !mask->memory)
        differ(r, "    write outside the windows  host %#x  nestor %#x\n", host->stray, ours->stray);
}

static void print_failure(const struct vector *v, const struct report *r)
{
    const struct insn_row *row = vector_row(v);
    static const char *const widths[] = {"16", "32", "64"};
    char text[128];
    u64 la = bench.region + vector_insn_off(v);
    disasm_text(vector_bytes(v), v->length, la, v->bits, text, sizeof text);
    printf("%s \"%s\"%s  --bits %s --seed %llu%s%s --index %llu\n   ", row->name, row->encoding,
           v->random ? " (random bytes)" : "", widths[v->bits], LL(options.seed), options.row ? " --row " : "",
           options.row ? options.row : "", LL(v->index));
    for (unsigned i = 0; i < v->length; i++)
        printf(" %02x", vector_bytes(v)[i]);
    printf("    %s%s\n%s", text, v->block > 1 ? " and more" : "", r->text);
    if (v->native.exception >= 0)
        printf("    (host: exception %d, error %#x, cr2 %llx)\n", v->native.exception, v->native.error,
               LL(v->native.address));
    if (r->differences > 12)
        printf("    … and %u more\n", r->differences - 12);
}

static void print_state(const struct vector *v)
{
    for (unsigned n = 0; n < 16; n++)
        printf("    %-4s %016llx%s", reg_names[n], LL(v->before.r[n]), n % 4 == 3 ? "\n" : "");
    printf("    rip  %016llx    flags %06llx    fs %llx  gs %llx    fcw %04x fsw %04x ftw %02x mxcsr %04x\n",
           LL(bench.region + vector_insn_off(v)), LL(v->before.rflags), LL(v->before.fs_base), LL(v->before.gs_base),
           v->before.fx.fcw, v->before.fx.fsw, v->before.fx.ftw, v->before.fx.mxcsr);
    for (unsigned n = 0; n < 16; n += 2)
        printf("    xmm%-2u %016llx %016llx    xmm%-2u %016llx %016llx\n", n, LL(v->before.fx.xmm[n][1]),
               LL(v->before.fx.xmm[n][0]), n + 1, LL(v->before.fx.xmm[n + 1][1]), LL(v->before.fx.xmm[n + 1][0]));
    for (unsigned n = 0; n < 16 && bench.avx; n += 2)
        printf("    ymm%-2u %016llx %016llx .. ymm%-2u %016llx %016llx ..\n", n, LL(v->before.ymm_high[n][1]),
               LL(v->before.ymm_high[n][0]), n + 1, LL(v->before.ymm_high[n + 1][1]),
               LL(v->before.ymm_high[n + 1][0]));
    for (unsigned n = 0; n < 8; n++)
        printf("    st%u %04x %016llx%s", n, v->before.fx.st[n].exponent, LL(v->before.fx.st[n].mantissa),
               n % 4 == 3 ? "\n" : "");
}

/* #UD says nothing of what a row does, unless that is what it does. */
static void note_row(const struct vector *v, const struct outcome *ours)
{
    if (ours->exception != EXC_UD || strcmp(vector_row(v)->family_name, "undefined") == 0)
        rows_note(v->row);
}

static void judge(const struct vector *v)
{
    static struct outcome ours;
    emulate_run(v, &ours);
    struct row_count *count = &counts[v->row == NO_ROW ? insn_row_count : v->row];
    count->vectors++;
    count->faults += v->native.exception >= 0;
    static const struct mask nothing;
    struct report r = {.n = 0};
    compare(&r, v, &ours, &nothing);
    if (!r.differences && !options.one) {
        note_row(v, &ours);
        return;
    }
    struct insn in;
    insn_decode(bench.feature, v->bits, vector_bytes(v), 15, &in);
    struct mask mask = mask_for(&bench, v, &in, &ours);
    /* No page of the guest's, but one of the host process's: the instruction did not fault there. */
    if (ours.exception == EXC_PF && (v->native.exception != EXC_PF || v->native.address != ours.address) &&
        ours.address - bench.region >= REGION_BYTES && native_maps(ours.address))
        mask.skip = true;
    /* A far transfer goes wherever its pointer says, into memory of the process as well, a sanitizer's say: code without an end. */
    if (v->far && v->native.died)
        mask.skip = true;
    if (mask.skip) {
        count->skipped++;
        return;
    }
    note_row(v, &ours);
    r = (struct report){.n = 0};
    compare(&r, v, &ours, &mask);
    if (r.differences || options.one) {
        if (r.differences)
            failures++;
        if (r.differences && count->failures++ >= options.verbose)
            return;
        if (printed++ < MOST_PRINTED)
            print_failure(v, &r);
        if (options.one)
            print_state(v);
    }
}

/* ---- the run ----------------------------------------------------------------------------------------------------- */

/* For a file: what can be said of the outcome in a few words, so no vector whose outcome is partly open but for flags. */
static void keep(struct stored *stored, const struct vector *v)
{
    static struct outcome ours;
    struct insn in;
    struct report r = {.n = 0};
    emulate_run(v, &ours);
    insn_decode(bench.feature, v->bits, vector_bytes(v), 15, &in);
    struct mask mask = mask_for(&bench, v, &in, &ours);
    u64 undefined = mask.flags;
    mask.flags = 0;
    static const struct mask nothing;
    if (memcmp(&mask, &nothing, sizeof mask) != 0 || v->native.died)
        return;
    mask.flags = undefined;
    compare(&r, v, &ours, &mask);
    if (r.differences == 0 && !stored_add(stored, v, undefined))
        exit(2);
}

static void run_bits(unsigned bits, u64 n)
{
    if (!plan_make(&plan, &bench, bits, options.row, options.seed)) {
        printf("hostcpu: no row for %u-bit code\n", 16u << bits);
        return;
    }
    plan.stored = recording != NULL;
    struct vector *batch = native_batch();
    u64 at = options.one ? options.index : 0, end = options.one ? at + 1 : n;
    while (at < end) {
        unsigned filled = 0;
        for (; filled < BATCH && at < end; at++) {
            if (generate_vector(&plan, at, &batch[filled]))
                filled++;
            else
                failures++;
        }
        native_run(filled);
        for (unsigned i = 0; i < filled; i++) {
            if (recording)
                keep(recording, &batch[i]);
            else
                judge(&batch[i]);
        }
    }
    printf("hostcpu: %u-bit code: %llu vectors over %u rows\n", 16u << bits, LL(end - (options.one ? at - 1 : 0)),
           plan.count);
}

/* Stored vectors on Nestor alone. */
static int replay(const char *file)
{
    struct stored *stored = stored_open(file);
    if (!stored) {
        rows_nothing();
        return SKIPPED;
    }
    static u8 region[REGION_BYTES];
    static struct vector v;
    static struct outcome ours;
    bench.region = REGION;
    bench.alias = region;
    bench.exit_stub = REGION + CODE_OFF;
    bench.fsgsbase = bench.avx = bench.ldt = bench.stored = true;
    memcpy(bench.feature, stored_features(stored), sizeof bench.feature);
    memcpy(region + DATA_OFF, bench.pattern, DATA_BYTES);
    bench_segments(&bench);
    emulate_init(&bench);
    emulate_blank_code();
    u32 n = 0;
    for (; stored_next(stored, &v); n++) {
        generate_image(&bench, &v);
        emulate_run(&v, &ours);
        const char *parts = stored_differences(stored, &v, &ours);
        if (!*parts) {
            note_row(&v, &ours);
            continue;
        }
        struct report r = {.n = 0};
        differ(&r, "    differs in: %s (number %u)\n", parts, n);
        counts[v.row == NO_ROW ? insn_row_count : v.row].failures++;
        if (failures++ < 40) {
            print_failure(&v, &r);
            print_state(&v);
        }
    }
    printf("hostcpu: %s: %u of %u vectors, %llu differences\n", file, n, stored_count(stored), LL(failures));
    bool whole = n == stored_count(stored);
    stored_free(stored);
    return failures || !whole ? 1 : 0;
}

static void print_rows(void)
{
    printf("%-12s %-28s %10s %10s %10s %10s\n", "ROW", "ENCODING", "VECTORS", "EXCEPTIONS", "NOT JUDGED", "FAILURES");
    for (unsigned i = 0; i < insn_row_count; i++)
        if (counts[i].vectors)
            printf("%-12s %-28s %10llu %10llu %10llu %10llu\n", insn_rows[i].name, insn_rows[i].encoding,
                   LL(counts[i].vectors), LL(counts[i].faults), LL(counts[i].skipped), LL(counts[i].failures));
}

static void usage(void)
{
    fprintf(
        stderr,
        "usage: hostcpu [--n N] [--seed S|random] [--bits 64|32|16] [--row NAME] [--index I] [--rows] [--verbose N]\n"
        "               [--record FILE | --replay FILE]\n");
    exit(2);
}

static u64 number(const char *text)
{
    char *end;
    errno = 0;
    u64 v = strtoull(text, &end, 0);
    if (errno || end == text || *end)
        usage();
    return v;
}

static void parse(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--rows") == 0) {
            options.by_row = true;
            continue;
        }
        if (i + 1 == argc)
            usage();
        const char *value = argv[i + 1];
        if (strcmp(argv[i], "--n") == 0) {
            options.n = number(value);
        } else if (strcmp(argv[i], "--verbose") == 0) {
            options.verbose = (unsigned)number(value);
        } else if (strcmp(argv[i], "--record") == 0) {
            options.record = value;
        } else if (strcmp(argv[i], "--replay") == 0) {
            options.replay = value;
        } else if (strcmp(argv[i], "--row") == 0) {
            options.row = value;
        } else if (strcmp(argv[i], "--index") == 0) {
            options.index = number(value);
            options.one = true;
        } else if (strcmp(argv[i], "--bits") == 0) {
            options.bits = (int)number(value);
            if (options.bits != 64 && options.bits != 32 && options.bits != 16)
                usage();
        } else if (strcmp(argv[i], "--seed") == 0) {
            if (strcmp(value, "random") == 0) {
                FILE *f = fopen("/dev/urandom", "rb");
                if (!f || fread(&options.seed, sizeof options.seed, 1, f) != 1)
                    usage();
                fclose(f);
            } else {
                options.seed = number(value);
            }
        } else {
            usage();
        }
        i++;
    }
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    if (options.one && !options.bits)
        options.bits = 64;
    bench_pattern(&bench);
    bench.stored = options.record;
    if (options.replay)
        return replay(options.replay);
    if (!native_init(&bench)) {
        rows_nothing();
        return SKIPPED;
    }
    bench.vex_whole = emulate_offers("avx,+avx2,+fma,+f16c,+vaes,+vpclmulqdq,+bmi1,+bmi2");
    emulate_init(&bench);
    if (options.record) {
        if (bench.region != REGION || !bench.fsgsbase || !bench.ldt || !(recording = stored_new(bench.feature))) {
            fprintf(stderr, "hostcpu: --record: this host lacks FSGSBASE, an LDT or the usual address\n");
            return 2;
        }
        emulate_blank_code();      /* the exit stub holds addresses of this process: no vector that reads it */
    }
    printf("hostcpu: seed %llu%s%s\n", LL(options.seed), bench.fsgsbase ? "" : ", no FSGSBASE",
           bench.ldt ? "" : ", no LDT");
    static const unsigned share[] = {[BITS_16] = 1, [BITS_32] = 5, [BITS_64] = 10};
    for (int bits = BITS_64; bits >= BITS_16; bits--) {
        if (options.bits && options.bits != 16 << bits)
            continue;
        if (bits == BITS_16 && !bench.ldt)
            continue;
        run_bits((unsigned)bits, options.bits ? options.n : options.n * share[bits] / 16);
    }
    if (recording)
        return stored_write(recording, options.record) && !failures ? 0 : 2;
    if (options.by_row)
        print_rows();
    for (unsigned i = 0; i < insn_row_count; i++)
        if (plan_lacks_feature(&bench, i))
            rows_excuse(i);
    unsigned rows = 0, failing = 0;
    for (unsigned i = 0; i <= insn_row_count; i++) {
        rows += counts[i].vectors != 0;
        failing += counts[i].failures != 0;
    }
    printf("hostcpu: %u rows run, %llu differences in %u rows\n", rows, LL(failures), failing);
    return failures ? 1 : 0;
}
