/* The table of `nestor bench`: as text for people, as JSON for programs.
 *
 * Ratios compare with the column `own`: "native" how many times as long as the host's own process it takes, "QEMU" and "Bochs" how many
 * times as long as `own` these take. The spread is the slowest sample of `own` over its fastest: how much to trust a number.
 */
#include "frontends/headless/bench.h"

#include <math.h>
#include <stdio.h>

static const char *const names[BENCH_COLUMNS] = {"native", "interp", "calls", "jit", "QEMU", "Bochs"};
static const char *const json_names[BENCH_COLUMNS] = {"native", "interp", "calls", "jit", "qemu", "bochs"};

static bool measured(const struct bench_result *r) { return r->count && r->best.outcome == BENCH_OK && r->best.ns > 0; }

static double per_iteration(const struct bench_result *r) { return r->best.ns / (double)r->count; }

/* How many times as long a takes as b; 0: one of them is not known. */
static double ratio(const struct bench_result *a, const struct bench_result *b)
{
    return measured(a) && measured(b) ? per_iteration(a) / per_iteration(b) : 0;
}

static double spread(const struct bench_result *r) { return measured(r) && r->best.ns > 0 ? r->slowest_ns / r->best.ns : 0; }

/* The ratio of a peer to `own`, the way round in which it is printed. */
static double peer_ratio(const struct bench_table *t, unsigned at, enum bench_column peer)
{
    const struct bench_result *own = &t->results[at][t->own], *other = &t->results[at][peer];
    return peer == BENCH_NATIVE ? ratio(own, other) : ratio(other, own);
}

static bool has_peers(const struct bench_table *t)
{
    return t->columns[BENCH_NATIVE] || t->columns[BENCH_QEMU] || t->columns[BENCH_BOCHS];
}

/* The mean over the compute rows; 0: nothing to take it of. `rows`: how many. */
static double mean(const struct bench_table *t, enum bench_column peer, unsigned *rows)
{
    double sum = 0;
    *rows = 0;
    for (unsigned i = 0; i < t->row_count; i++) {
        double r = t->rows[i].kind == BENCH_COMPUTES && t->rows[i].level == 1 ? peer_ratio(t, i, peer) : 0;
        if (r > 0) {
            sum += log(r);
            ++*rows;
        }
    }
    return *rows ? exp(sum / *rows) : 0;
}

/* ---- text ---------------------------------------------------------------------------------------------------------- */

static void print_head(const struct bench_table *t)
{
    if (t->once) {
        printf("%-16s %-11s %s\n", "workload", "policy", "result");
        return;
    }
    printf("%-13s %-11s", "ns/iteration", "policy");
    for (unsigned c = 0; c < BENCH_COLUMNS; c++)
        if (t->columns[c])
            printf(" %11s", names[c]);
    printf(" %7s %6s %6s %-11s", "MIPS", "spread", "to L1", "quartiles");
    if (has_peers(t)) {
        char heads[3][24];
        snprintf(heads[0], sizeof(heads[0]), "%s/native", names[t->own]);
        snprintf(heads[1], sizeof(heads[1]), "QEMU/%s", names[t->own]);
        snprintf(heads[2], sizeof(heads[2]), "Bochs/%s", names[t->own]);
        printf(" %11s %10s %10s", heads[0], heads[1], heads[2]);
    }
    printf("  %s\n", "one iteration");
}

static void print_number(double number, int width, const char *format)
{
    char text[32] = "";
    if (number > 0)
        snprintf(text, sizeof(text), format, number);
    printf(" %*s", width, text);
}

static void print_row(const struct bench_table *t, unsigned at)
{
    const struct bench_row *row = &t->rows[at];
    const struct bench_result *own = &t->results[at][t->own];
    char name[32];
    snprintf(name, sizeof(name), row->level == 1 ? "%s" : "%s@%u", row->workload, row->level);
    if (t->once || own->best.outcome != BENCH_OK) {
        printf("%-16s %-11s %s\n", name, row->policy, own->best.said[0] ? own->best.said : "the machine ended before the stop line");
        return;
    }
    printf("%-13s %-11s", name, row->policy);
    for (unsigned c = 0; c < BENCH_COLUMNS; c++) {
        const struct bench_result *r = &t->results[at][c];
        if (!t->columns[c])
            continue;
        if (r->count && !measured(r))
            printf(" %11s", r->best.outcome == BENCH_SKIPPED ? "skipped" : r->best.outcome == BENCH_FAILED ? "WRONG" :
                             r->best.outcome == BENCH_OK ? "too short" : "ended");
        else
            print_number(measured(r) ? per_iteration(r) : 0, 11, "%.1f");
    }
    print_number((double)own->best.insns * 1e3 / own->best.ns, 7, "%.1f");
    print_number(spread(own), 6, "%.2f");
    print_number(own->to_l1.median, 6, "%.3f");
    char quartiles[32] = "";
    if (own->to_l1.median > 0)
        snprintf(quartiles, sizeof(quartiles), "%.3f-%.3f", own->to_l1.low, own->to_l1.high);
    printf(" %-11s", quartiles);
    if (has_peers(t)) {
        print_number(peer_ratio(t, at, BENCH_NATIVE), 11, "%.2f");
        print_number(peer_ratio(t, at, BENCH_QEMU), 10, "%.2f");
        print_number(peer_ratio(t, at, BENCH_BOCHS), 10, "%.2f");
    }
    printf("  %s\n", row->text);
}

static void print_means(const struct bench_table *t)
{
    static const enum bench_column peers[] = {BENCH_NATIVE, BENCH_QEMU, BENCH_BOCHS};
    static const char *const texts[] = {"%s takes %.2f times as long as native", "%s is %.2f times as fast as QEMU",
                                        "%s is %.2f times as fast as Bochs"};
    for (unsigned i = 0; i < ARRAY_SIZE(peers); i++) {
        unsigned rows;
        double m = mean(t, peers[i], &rows);
        if (m > 0) {
            printf("geometric mean of %u computing rows: ", rows);
            printf(texts[i], names[t->own], m);
            putchar('\n');
        }
    }
    for (unsigned c = 0; c < BENCH_COLUMNS; c++)
        if (t->missing[c])
            printf("no %s: %s\n", names[c], t->missing[c]);
    for (unsigned i = 0; i < t->row_count; i++)
        for (unsigned c = 0; c < BENCH_COLUMNS; c++) {
            const struct bench_result *r = &t->results[i][c];
            if (r->count && !measured(r) && c != t->own)
                printf("%s, %s@%u: %s\n", names[c], t->rows[i].workload, t->rows[i].level,
                       r->best.said[0] ? r->best.said : "it ended before the stop line");
        }
}

/* ---- JSON ---------------------------------------------------------------------------------------------------------- */

static void print_json_column(const struct bench_table *t, unsigned at, enum bench_column c)
{
    static const char *const outcomes[] = {"nothing", "ok", "skipped", "failed"};
    const struct bench_result *r = &t->results[at][c];
    printf(", \"%s\": {\"outcome\": \"%s\"", json_names[c], outcomes[r->best.outcome]);
    if (measured(r) && !t->once) {
        printf(", \"iterations\": %llu, \"ns_per_iteration\": %.3f, \"spread\": %.3f", (unsigned long long)r->count, per_iteration(r),
               spread(r));
        if (r->best.insns)
            printf(", \"instructions_per_iteration\": %.1f, \"mips\": %.2f", (double)r->best.insns / (double)r->count,
                   (double)r->best.insns * 1e3 / r->best.ns);
        if (r->to_l1.median > 0)
            printf(", \"ratio_to_l1\": %.3f, \"ratio_to_l1_quartiles\": [%.3f, %.3f]", r->to_l1.median, r->to_l1.low, r->to_l1.high);
    }
    putchar('}');
}

static void print_json_row(const struct bench_table *t, unsigned at, bool first)
{
    static const char *const ratios[BENCH_COLUMNS] = {[BENCH_NATIVE] = "times_native", [BENCH_QEMU] = "times_as_fast_as_qemu",
                                                      [BENCH_BOCHS] = "times_as_fast_as_bochs"};
    const struct bench_row *row = &t->rows[at];
    printf("%s    {\"workload\": \"%s\", \"level\": %u, \"policy\": \"%s\", \"compute\": %s", first ? "" : ",\n", row->workload, row->level,
           row->policy, row->kind == BENCH_COMPUTES ? "true" : "false");
    for (unsigned c = 0; c < BENCH_COLUMNS; c++)
        if (t->results[at][c].count)
            print_json_column(t, at, (enum bench_column)c);
    for (unsigned c = 0; c < BENCH_COLUMNS; c++)
        if (ratios[c] && peer_ratio(t, at, (enum bench_column)c) > 0)
            printf(", \"%s\": %.3f", ratios[c], peer_ratio(t, at, (enum bench_column)c));
    putchar('}');
}

static void print_json_end(const struct bench_table *t)
{
    fputs("\n  ],\n  \"geometric_means\": {", stdout);
    static const enum bench_column peers[] = {BENCH_NATIVE, BENCH_QEMU, BENCH_BOCHS};
    static const char *const keys[] = {"times_native", "times_as_fast_as_qemu", "times_as_fast_as_bochs"};
    const char *comma = "";
    for (unsigned i = 0; i < ARRAY_SIZE(peers); i++) {
        unsigned rows;
        double m = mean(t, peers[i], &rows);
        if (m > 0) {
            printf("%s\"%s\": %.3f", comma, keys[i], m);
            comma = ", ";
        }
    }
    fputs("},\n  \"missing\": [", stdout);
    comma = "";
    for (unsigned c = 0; c < BENCH_COLUMNS; c++)
        if (t->missing[c]) {
            printf("%s\"%s\"", comma, json_names[c]);
            comma = ", ";
        }
    fputs("]\n}\n", stdout);
}

/* ---- both ---------------------------------------------------------------------------------------------------------- */

void bench_table_begin(const struct bench_table *t)
{
    if (t->json)
        printf("{\n  \"own\": \"%s\",\n  \"rows\": [\n", json_names[t->own]);
    else
        print_head(t);
}

void bench_table_row(const struct bench_table *t, unsigned row, bool first)
{
    if (t->json)
        print_json_row(t, row, first);
    else
        print_row(t, row);
    fflush(stdout);
}

void bench_table_end(const struct bench_table *t)
{
    if (t->json)
        print_json_end(t);
    else if (!t->once)
        print_means(t);
}
