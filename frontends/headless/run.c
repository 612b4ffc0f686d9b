/* `nestor run`: a machine without a display. The serial port and the debug consoles go to streams, --until-serial watches the
 * serial port, and the way the run ended becomes the exit status.
 */
#include "frontends/headless/commands.h"
#include "frontends/headless/options.h"
#include "frontends/headless/status.h"

#include "debug/trace.h"
#include "machine/sections.h"
#include "machine/stats.h"

#include <errno.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>

#define LINE_MAX_BYTES 4096            /* a longer line is watched in its last part only */
#define MESSAGE_MAX 512

struct run {
    struct options options;
    struct machine *machine;
    FILE *stream[HOST_STREAMS];        /* NULL: thrown away */
    struct trace *trace;
    bool input;
    bool watching;
    bool compiled;                     /* `until` holds an expression */
    bool at_line_start;                /* stdout is at the start of a line */
    regex_t until;
    char line[LINE_MAX_BYTES];
    unsigned length;
    char message[MESSAGE_MAX];
};

/* ---- what the machine says ---------------------------------------------------------------------------------------- */

/* --until-serial is asked at every character, so that prompts without a line end are seen as well. */
static void watch(struct run *s, u8 byte)
{
    if (byte == '\n') {
        s->length = 0;
        return;
    }
    if (byte == '\r' || byte == 0)
        return;
    if (s->length == LINE_MAX_BYTES - 1) {
        memmove(s->line, s->line + LINE_MAX_BYTES / 2, s->length - LINE_MAX_BYTES / 2);
        s->length -= LINE_MAX_BYTES / 2;
    }
    s->line[s->length++] = (char)byte;
    s->line[s->length] = 0;
    if (regexec(&s->until, s->line, 0, NULL, 0) == 0) {
        s->watching = false;
        machine_finish(s->machine, MACHINE_STOPPED, 0);
    }
}

static void put(void *arg, enum host_stream stream, u8 byte)
{
    struct run *s = arg;
    FILE *f = s->stream[stream];
    if (f) {
        putc(byte, f);
        if (f == stdout)
            s->at_line_start = byte == '\n';
        if (byte == '\n' || s->input)
            fflush(f);
    }
    if (stream == HOST_SERIAL0 && s->watching)
        watch(s, byte);
}

static int get(void *arg, u8 *bytes, unsigned n)
{
    (void)arg;
    return hostio_console_read(bytes, n);
}

static void wait_for_input(void *arg)
{
    struct run *s = arg;
    fflush(stdout);
    if (!s->machine->interrupt)
        hostio_console_wait();
}

/* ---- setting up --------------------------------------------------------------------------------------------------- */

/* The stream of "stdio", "stderr", "none" or "file:F". False with the message set. */
static bool open_stream(struct run *s, const char *option, const char *where, FILE **stream)
{
    *stream = NULL;
    if (strcmp(where, "stdio") == 0)
        *stream = stdout;
    else if (strcmp(where, "stderr") == 0)
        *stream = stderr;
    else if (strncmp(where, "file:", 5) == 0 && !(*stream = fopen(where + 5, "wb")))
        return hostio_error(s->message, MESSAGE_MAX, "--%s: cannot write %s: %s", option, where + 5, strerror(errno));
    return true;
}

static int open_outputs(struct run *s)
{
    const struct options *o = &s->options;
    if (!open_stream(s, "serial", o->serial, &s->stream[HOST_SERIAL0]) ||
        !open_stream(s, "debugcon", o->debugcon ? o->debugcon : "stderr", &s->stream[HOST_DEBUG_E9]))
        return STATUS_HOST;
    s->stream[HOST_DEBUG_402] = s->stream[HOST_DEBUG_E9];
    s->input = s->stream[HOST_SERIAL0] == stdout;
    if (o->until_serial) {
        int error = regcomp(&s->until, o->until_serial, REG_EXTENDED | REG_NOSUB);
        if (error) {
            char why[128];
            regerror(error, &s->until, why, sizeof(why));
            hostio_error(s->message, MESSAGE_MAX, "--until-serial %s: expected a POSIX extended regular expression: %s",
                         o->until_serial, why);
            return STATUS_USAGE;
        }
        s->watching = s->compiled = true;
    }
    return 0;
}

static u64 trace_icount(void *arg)
{
    return machine_icount(((struct run *)arg)->machine);
}

static int open_traces(struct run *s)
{
    const struct options *o = &s->options;
    if (o->trace_count == 0)
        return 0;
    s->trace = trace_new(trace_icount, s);
    if (!s->trace)
        return hostio_error(s->message, MESSAGE_MAX, "--trace: the host has not enough memory"), STATUS_HOST;
    for (unsigned i = 0; i < o->trace_count; i++)
        if (!trace_add_output(s->trace, o->trace[i], s->message, MESSAGE_MAX))
            return STATUS_USAGE;
    machine_set_trace(s->machine, s->trace, o->trace_start, o->trace_stop);
    return 0;
}

static int set_up(struct run *s)
{
    int status = open_outputs(s);
    if (!status)
        status = options_read_images(&s->options, s->message, MESSAGE_MAX);
    if (status)
        return status;
    const struct machine_frontend frontend = {.put = put, .get = s->input ? get : NULL, .wait = wait_for_input, .arg = s};
    s->machine = machine_create(&s->options.machine, &frontend, s->message, MESSAGE_MAX);
    if (s->machine && s->machine->config.engine != s->options.machine.engine)
        fprintf(stderr, "nestor: --engine %s: this host offers no translated code; interpreting\n",
                options_engine_name(s->options.machine.engine));
    return s->machine ? open_traces(s) : STATUS_INPUT;
}

/* ---- the end ------------------------------------------------------------------------------------------------------ */

static int report_end(struct run *s)
{
    const struct machine *m = s->machine;
    if (s->stream[HOST_SERIAL0] == stdout && !s->at_line_start)
        putchar('\n');
    fflush(stdout);
    switch (m->end) {
    case MACHINE_POWER_OFF:
    case MACHINE_RESET:
    case MACHINE_STOPPED:
        return STATUS_OK;
    case MACHINE_DEBUG_EXIT:
        return (int)(m->end_status & 0xff);
    case MACHINE_MAX_INSNS:
        return STATUS_MAX_INSNS;
    case MACHINE_TRIPLE_FAULT:
    case MACHINE_HALTED:
        machine_report(s->machine, stderr);
        return STATUS_TRIPLE_FAULT;
    case MACHINE_INTERRUPTED:
        machine_report(s->machine, stderr);
        return STATUS_INTERRUPTED;
    case MACHINE_RUNS:
        break;
    }
    panic("the run ended without a reason");
}

static void print_state_hash(struct machine *m)
{
    struct section section;
    sections_settle(m);
    for (unsigned n = 0; section_get(m, n, &section); n++)
        fprintf(stderr, "state %-16s %016llx\n", section.name, (unsigned long long)section_hash(&section));
    fprintf(stderr, "state %-16s %016llx\n", "all", (unsigned long long)sections_hash(m, true));
}

static void tear_down(struct run *s)
{
    hostio_console_close();
    if (s->machine)
        machine_free(s->machine);
    if (s->trace)
        trace_free(s->trace);
    for (unsigned i = 0; i < HOST_STREAMS; i++)
        if (s->stream[i] && s->stream[i] != stdout && s->stream[i] != stderr && i != HOST_DEBUG_402)
            fclose(s->stream[i]);
    options_free_images(&s->options);
    if (s->compiled)
        regfree(&s->until);
    free(s);
}

int command_run(int argc, char **argv)
{
    struct run *s = calloc(1, sizeof(*s));
    if (!s)
        return command_error(STATUS_HOST, "the host has not enough memory");
    s->at_line_start = true;
    int status = options_parse(&s->options, argc, argv, s->message, MESSAGE_MAX);
    if (!status && s->options.help) {
        fputs(options_usage, stdout);
        free(s);
        return STATUS_OK;
    }
    if (!status)
        status = set_up(s);
    if (status) {
        command_error(status, s->message);
        tear_down(s);
        return status;
    }
    hostio_catch_interrupt(&s->machine->interrupt);
    if (s->input)
        hostio_console_open();
    u64 start = hostio_monotonic_ns();
    machine_run(s->machine);
    u64 elapsed = hostio_monotonic_ns() - start;
    status = report_end(s);
    if (s->options.machine.stats)
        stats_print(s->machine, elapsed, stderr);
    if (s->options.state_hash)
        print_state_hash(s->machine);
    tear_down(s);
    return status;
}
