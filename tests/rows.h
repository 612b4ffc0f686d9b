/* Which rows of cpu/insn.def a test program executes, for cpu/INSNS.md (tests/insn/page.c).
 *
 * Where the environment variable NESTOR_ROWS names a file, the program writes it: a line for each row at its first
 * execution, and "end" when the program ends, so that a file without it is known to be cut off. A line is what
 * insn_row_key() says, or that behind "- ": the program would judge this row on other hosts. Include it in one file
 * of a program. Suites fork: children append to the same file.
 */
#ifndef NESTOR_TESTS_ROWS_H
#define NESTOR_TESTS_ROWS_H

#include "cpu/state.h"
#include "cpu/table.h"
#include "cpu/trace.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct { int file; pid_t owner; u8 seen[16384]; } row_notes = {.file = -1};

__attribute__((constructor)) static void rows_begin(void)
{
    const char *name = getenv("NESTOR_ROWS");
    if (!name || !*name)
        return;
    row_notes.file = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0666);
    row_notes.owner = getpid();
    if (row_notes.file < 0)
        perror(name);
}

static inline void rows_line(const char *prefix, const char *text)
{
    char line[256];
    int n = snprintf(line, sizeof line, "%s%s\n", prefix, text);
    if (row_notes.file >= 0 && write(row_notes.file, line, (size_t)n) != n)
        row_notes.file = -1;
}

__attribute__((destructor)) static void rows_end(void)
{
    if (row_notes.owner == getpid())
        rows_line("", "end");
}

/* The program can judge nothing here: its file will not be taken for a run. */
static inline void rows_nothing(void) { row_notes.owner = 0; }

/* The row is executed; no row is said by 0xffff. */
static inline void rows_note(unsigned row)
{
    char key[200];
    if (row_notes.file < 0 || row >= insn_row_count || row >= sizeof row_notes.seen || row_notes.seen[row])
        return;
    row_notes.seen[row] = 1;
    insn_row_key(&insn_rows[row], key, sizeof key);
    rows_line("", key);
}

/* The program cannot execute the row on this host. */
static inline void rows_excuse(unsigned row)
{
    char key[200];
    if (row_notes.file < 0)
        return;
    insn_row_key(&insn_rows[row], key, sizeof key);
    rows_line("- ", key);
}

/* Bare handlers: every row of the family. */
static inline void rows_note_family(insn_handler *const *family)
{
    for (unsigned i = 0; row_notes.file >= 0 && i < insn_row_count; i++)
        if (*insn_rows[i].family == family)
            rows_note(i);
}

/* For programs that run code by cpu_run(): hangs a trace of the executed rows into the CPU. */
static void rows_trace_insn(struct trace *trace, struct cpu *cpu, const struct insn *in)
{
    (void)trace, (void)cpu;
    rows_note(in->row);
}
static inline void rows_trace(struct cpu *cpu)
{
    static struct trace trace = {.mask = 1u << TRACE_INSN, .insn = rows_trace_insn};
    if (row_notes.file >= 0)
        cpu->trace = &trace;
}

#endif
