/* cpu/INSNS.md: every row of cpu/insn.def with what judges it, made and checked.
 *
 *     insns_page --write PAGE DIR PROGRAM…   writes PAGE anew from the table and the *.rows files in DIR (tests/rows.h)
 *     insns_page --check PAGE DIR PROGRAM…   status 1, with a line for each, where PAGE is not what it should be
 *
 * The PROGRAMs are those that there are. Kept true by the check: the page shows the table as it is, and every row is judged: a
 * program executed it in its run, of which DIR has all; or the page names one that did not run (another host, missing data,
 * left out), or could not execute this row here: these are believed, and --write keeps them. A run that is older than PAGE or
 * than insns_page, which is made of the table, says nothing.
 */
#include "cpu/features.h"
#include "cpu/table.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>

#define PROGRAMS 256
#define KEY 240

static struct program {
    char name[64];
    bool known;                /* it is one of those that there are */
    bool ran;                  /* DIR has a whole run of it */
    bool *executed, *excused;  /* by row */
} programs[PROGRAMS];
static unsigned program_count;

static unsigned problems;

static NORETURN void give_up(const char *what, const char *name)
{
    fprintf(stderr, "insns_page: %s %s\n", what, name);
    exit(2);
}

static struct program *program_named(const char *name, size_t length)
{
    for (unsigned i = 0; i < program_count; i++)
        if (strlen(programs[i].name) == length && memcmp(programs[i].name, name, length) == 0)
            return &programs[i];
    if (program_count == PROGRAMS || length >= sizeof programs[0].name)
        give_up("too many programs, or too long a name:", name);
    struct program *p = &programs[program_count++];
    memcpy(p->name, name, length);
    p->executed = calloc(insn_row_count, sizeof *p->executed);
    p->excused = calloc(insn_row_count, sizeof *p->excused);
    if (!p->executed || !p->excused)
        give_up("no memory for", name);
    return p;
}

/* Rows whose columns are all the same are one for this page; the first stands for them. */
static unsigned row_of_key(const char *key)
{
    static char (*keys)[KEY];
    if (!keys) {
        keys = calloc(insn_row_count, sizeof *keys);
        if (!keys)
            give_up("no memory for", "keys");
        for (unsigned i = 0; i < insn_row_count; i++)
            insn_row_key(&insn_rows[i], keys[i], sizeof keys[i]);
    }
    static unsigned near;      /* lists are in order, mostly */
    for (unsigned n = 0; n < insn_row_count; n++) {
        unsigned i = (near + n) % insn_row_count;
        if (strcmp(keys[i], key) == 0)
            return near = i;
    }
    return insn_row_count;
}

static bool same_text(const struct insn_row *a, const struct insn_row *b)
{
    return strcmp(a->name, b->name) == 0 && strcmp(a->encoding, b->encoding) == 0 && strcmp(a->operands, b->operands) == 0;
}

/* ---- what ran ---------------------------------------------------------------------------------------------------- */

static time_t age_of(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 ? s.st_mtime : 0;
}

/* `since`: what is older says nothing. */
static void read_run(const char *dir, const char *file, time_t since)
{
    char path[1024], line[KEY + 4];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    struct program *p = program_named(file, strlen(file) - strlen(".rows"));
    if (!p->known || age_of(path) < since)
        return;
    FILE *f = fopen(path, "r");
    if (!f)
        give_up("cannot read", path);
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        bool excuse = strncmp(line, "- ", 2) == 0;
        if (strcmp(line, "end") == 0) {
            p->ran = true;
            continue;
        }
        unsigned row = row_of_key(line + (excuse ? 2 : 0));
        if (row < insn_row_count)
            (excuse ? p->excused : p->executed)[row] = true;
    }
    fclose(f);
    if (!p->ran) {             /* cut off: says nothing */
        memset(p->executed, 0, insn_row_count * sizeof *p->executed);
        memset(p->excused, 0, insn_row_count * sizeof *p->excused);
    }
}

static void read_runs(const char *dir, time_t since)
{
    DIR *d = opendir(dir);
    if (!d)
        give_up("cannot read", dir);
    for (struct dirent *e; (e = readdir(d));) {
        size_t n = strlen(e->d_name);
        if (n > 5 && strcmp(e->d_name + n - 5, ".rows") == 0)
            read_run(dir, e->d_name, since);
    }
    closedir(d);
}

/* ---- the page ---------------------------------------------------------------------------------------------------- */

/* Where a row is valid: R real mode, V virtual-8086 mode, P protected and compatibility mode, L 64-bit mode. */
static const char *modes_of(const struct insn_row *row)
{
    bool protected_only = row->attr & ROW_PROT || row->vector != VECTOR_LEGACY;
    if (row->attr & ROW_O64)
        return "L";
    if (row->attr & ROW_I64)
        return protected_only ? "P" : "R V P";
    return protected_only ? "P L" : "R V P L";
}

/* The columns that follow from the table; `text` begins and ends with a bar. */
static void columns_of(const struct insn_row *row, char *text, size_t size)
{
    snprintf(text, size, "| %s | `%s` | %s%s%s | %s | %s | %s |", row->name, row->encoding, row->operands[0] ? "`" : "",
             row->operands, row->operands[0] ? "`" : "", modes_of(row), row->flags[0] ? row->flags : "",
             strcmp(row->exit, "NONE") == 0 ? "" : row->exit);
}

static bool first_of_kind(unsigned row)
{
    for (unsigned i = 0; i < row; i++)
        if (same_text(&insn_rows[i], &insn_rows[row]))
            return false;
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct program *)a)->name, ((const struct program *)b)->name);
}

static void write_row(FILE *out, unsigned row)
{
    char text[512];
    columns_of(&insn_rows[row], text, sizeof text);
    fprintf(out, "%s", text);
    for (unsigned i = 0; i < program_count; i++)
        if (programs[i].executed[row])
            fprintf(out, " %s", programs[i].name);
    fprintf(out, " |\n");
}

static void write_page(const char *name)
{
    FILE *out = fopen(name, "w");
    if (!out)
        give_up("cannot write", name);
    qsort(programs, program_count, sizeof *programs, by_name);
    fprintf(out,
            "# The instructions\n\n"
            "Made by `insns_page` (tests/insn/page.c) from `cpu/insn.def`, whose opening explains the notation, and from what the\n"
            "tests executed; `insns_page --check` tells what is out of date. `ninja insns-page` after a run of the tests makes it anew.\n\n"
            "Modes: R real, V virtual-8086, P protected and compatibility, L 64-bit. Judged by: the programs that have\n"
            "executed the row and compared the outcome: `hostcpu` with this host's processor, `stored` with recorded results of\n"
            "one, `recorded` with a real 80286, `system` with the cases of tests/system, others are suites of that name.\n");
    for (unsigned feature = 0; feature < FEATURE_COUNT; feature++) {
        bool any = false;
        for (unsigned i = 0; i < insn_row_count; i++) {
            if (insn_rows[i].feature != feature || !first_of_kind(i))
                continue;
            if (!any)
                fprintf(out, "\n## %s\n\n| Instruction | Encoding | Operands | Modes | Flags | VM exit | Judged by |\n"
                             "|---|---|---|---|---|---|---|\n", insn_rows[i].cpuid);
            any = true;
            write_row(out, i);
        }
    }
    if (fclose(out) != 0)
        give_up("cannot write", name);
}

/* `who` ends with a bar or the line. */
static void problem(const struct insn_row *row, const char *what, const char *who)
{
    if (problems++ < 40)
        printf("%s \"%s\" \"%s\": %s%.*s\n", row->name, row->encoding, row->operands, what, (int)strcspn(who, "|\n"), who);
}

static bool executed_by_any(unsigned row)
{
    for (unsigned i = 0; i < program_count; i++)
        if (programs[i].executed[row])
            return true;
    return false;
}

/* The row that a line of the page is about, by its first columns; `judges` becomes what follows them. */
static unsigned row_of_line(const char *line, const char **judges)
{
    static unsigned near;
    for (unsigned n = 0; n < insn_row_count; n++) {
        unsigned i = (near + n) % insn_row_count;
        char text[512];
        columns_of(&insn_rows[i], text, sizeof text);
        size_t length = strlen(text);
        if (strncmp(line, text, length) == 0) {
            near = i;
            *judges = line + length;
            return i;
        }
    }
    return insn_row_count;
}

/* Reads the page: with `keep`, what it says of programs that did not run becomes part of what is known; otherwise it is
 * held against what ran. */
static void read_page(const char *name, bool keep)
{
    FILE *f = fopen(name, "r");
    if (!f) {
        if (keep)
            return;
        give_up("cannot read", name);
    }
    bool *listed = calloc(insn_row_count, sizeof *listed);
    char line[2048];
    while (listed && fgets(line, sizeof line, f)) {
        if (strncmp(line, "| ", 2) != 0 || strncmp(line, "| Instruction |", 15) == 0)
            continue;
        const char *judges;
        unsigned row = row_of_line(line, &judges);
        if (row == insn_row_count) {
            if (!keep && problems++ < 40)
                printf("not in the table: %s", line);
            continue;
        }
        listed[row] = true;
        bool judged = executed_by_any(row);
        const char *names = judges + strspn(judges, " |\n");
        for (const char *at = names; *at; at += strspn(at, " |\n")) {
            size_t n = strcspn(at, " |\n");
            struct program *p = program_named(at, n);
            bool believed = !p->ran || p->excused[row];
            if (!p->known && !keep)
                problem(&insn_rows[row], "the page names what is no test: ", p->name);
            if (p->known && believed) {
                judged = true;
                if (keep)
                    p->executed[row] = true;
            }
            at += n;
        }
        if (!keep && !judged && *names)
            problem(&insn_rows[row], "was executed by none of", judges);
        else if (!keep && !judged)
            problem(&insn_rows[row], "is judged by nothing", "");
    }
    for (unsigned i = 0; listed && !keep && i < insn_row_count; i++)
        if (!listed[i] && first_of_kind(i))
            problem(&insn_rows[i], "is not on the page, or differs from it", "");
    free(listed);
    fclose(f);
}

int main(int argc, char **argv)
{
    if (argc < 5 || (strcmp(argv[1], "--write") != 0 && strcmp(argv[1], "--check") != 0)) {
        fprintf(stderr, "usage: insns_page --write|--check PAGE DIR PROGRAM...\n");
        return 2;
    }
    insn_table_init();
    for (int i = 4; i < argc; i++)
        program_named(argv[i], strlen(argv[i]))->known = true;
    time_t page = age_of(argv[2]), self = age_of(argv[0]);
    read_runs(argv[3], page > self ? page : self);
    unsigned runs = 0;
    for (unsigned i = 0; i < program_count; i++)
        runs += programs[i].ran;
    if (argv[1][2] == 'w') {
        read_page(argv[2], true);
        write_page(argv[2]);
        printf("%s: %u rows; %u programs have run since it and insns_page were made\n", argv[2], insn_row_count, runs);
        return 0;
    }
    read_page(argv[2], false);
    if (problems)
        printf("%u problems: run the tests, then `ninja insns-page`; what is judged by nothing needs a test\n", problems);
    else
        printf("%u rows, all judged; %u programs have run\n", insn_row_count, runs);
    return problems != 0;
}
