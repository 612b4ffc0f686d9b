/* See trace.h. Each output has its own mask; the sink's mask is their union, so that a class nobody wants costs one test
 * where it would arise.
 *
 * Kept true: nothing here changes the machine. Guest memory is read through mem_peek_translate and RAM only, so looking at
 * an instruction never touches a device or an accessed bit.
 */
#include "debug/trace.h"

#include "cpu/insn.h"
#include "cpu/table.h"
#include "debug/disasm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define OUTPUTS 8
#define TRACKS 256                     /* vCPUs with a track of their own */
#define LEVELS (VMX_MAX_FRAMES + 2)
#define EXIT_FIELDS 8

static const char *const class_names[TRACE_CLASS_COUNT] = {
#define CLASS(name, text) [TRACE_##name] = text,
    TRACE_CLASSES(CLASS)
#undef CLASS
};

enum format { FORMAT_TEXT, FORMAT_JSON_LINES, FORMAT_PERFETTO, FORMAT_ROWS };

/* A VM exit that the hypervisor at a level has taken and not answered yet. */
struct open_exit {
    bool open;
    u64 since;
    u32 from;                          /* level that exited */
    char name[32];
    struct trace_field field[EXIT_FIELDS];
    unsigned count;
};

/* A vCPU as a Perfetto trace shows it: the level it was last seen at, and since when; by handler's level, the exit in hand. */
struct track {
    u64 since;
    u32 level;
    u32 named;                         /* bit k: the track of level k has its name; bit 0: the vCPU */
    struct open_exit exit[LEVELS];
};

struct trace_output {
    FILE *file;
    u32 mask;
    enum format format;
    struct track *tracks;              /* FORMAT_PERFETTO: TRACKS of them */
    bool any;
    bool *rows;                        /* FORMAT_ROWS: by row of cpu/insn.def, executed */
};

struct trace_sink {
    struct trace trace;                /* first: struct trace * is struct trace_sink * */
    u64 (*icount)(void *arg);
    void *arg;
    u64 last;                          /* icount of the last event */
    struct trace_output output[OUTPUTS];
    unsigned count;
};

/* ---- writing ------------------------------------------------------------------------------------------------------ */

static void write_json_text(FILE *f, const char *text)
{
    fputc('"', f);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fprintf(f, "\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            fprintf(f, "\\u%04x", (unsigned char)*text);
        else
            fputc(*text, f);
    }
    fputc('"', f);
}

static void write_field(const struct trace_output *out, const struct trace_field *field, bool first)
{
    unsigned long long value = field->value;
    if (out->format != FORMAT_TEXT) {
        fprintf(out->file, "%s\"%s\":", first ? "" : ",", field->name);
        if (field->kind == TRACE_KIND_TEXT)
            write_json_text(out->file, field->text ? field->text : "");
        else
            fprintf(out->file, field->kind == TRACE_KIND_HEX ? "\"0x%llx\"" : "%llu", value);
    } else if (field->kind == TRACE_KIND_TEXT) {
        fprintf(out->file, " %s=%s", field->name, field->text ? field->text : "");
    } else {
        fprintf(out->file, field->kind == TRACE_KIND_HEX ? " %s=0x%llx" : " %s=%llu", field->name, value);
    }
}

/* Times in Perfetto's JSON are microseconds: instructions are nanoseconds, written with three decimals. */
static void write_time(FILE *f, const char *key, u64 ns)
{
    fprintf(f, ",\"%s\":%llu.%03llu", key, (unsigned long long)ns / 1000, (unsigned long long)ns % 1000);
}

static void begin_record(struct trace_output *out)
{
    fputs(out->any ? ",\n" : "[\n", out->file);
    out->any = true;
}

static void write_name(struct trace_output *out, unsigned cpu, u32 level)
{
    u32 *named = &out->tracks[cpu].named;
    if (*named >> level & 1)
        return;
    *named |= 1u << level;
    begin_record(out);
    if (level)
        fprintf(out->file, "{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":%u,\"tid\":%u,\"args\":{\"name\":\"L%u\"}}", cpu, level, level);
    else
        fprintf(out->file, "{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":%u,\"args\":{\"name\":\"vCPU %u\"}}", cpu, cpu);
}

/* The time a vCPU spent at a level as a slice on the level's track. */
static void write_slice(struct trace_output *out, unsigned cpu, u64 now)
{
    const struct track *t = &out->tracks[cpu];
    if (t->level == 0 || now == t->since)
        return;
    begin_record(out);
    fprintf(out->file, "{\"name\":\"L%u\",\"ph\":\"X\",\"pid\":%u,\"tid\":%u", t->level, cpu, t->level);
    write_time(out->file, "ts", t->since);
    write_time(out->file, "dur", now - t->since);
    fputc('}', out->file);
}

/* A VM exit as a slice on the track of the level that handles it, from the exit to that level's next VM entry. */
static void write_exit(struct trace_output *out, unsigned cpu, u32 handler, u64 now)
{
    struct open_exit *e = &out->tracks[cpu].exit[handler];
    if (!e->open)
        return;
    begin_record(out);
    fprintf(out->file, "{\"name\":\"%s of L%u\",\"cat\":\"vmx.exit\",\"ph\":\"X\",\"pid\":%u,\"tid\":%u", e->name,
            e->from, cpu, handler);
    write_time(out->file, "ts", e->since);
    write_time(out->file, "dur", now - e->since);
    fprintf(out->file, ",\"args\":{\"from\":%u", e->from);
    for (unsigned k = 0; k < e->count; k++)
        write_field(out, &e->field[k], false);
    fputs("}}", out->file);
    e->open = false;
}

static void open_exit(struct trace_output *out, unsigned cpu, u64 now, u32 from, u32 handler, const char *name,
                      const struct trace_field *fields, unsigned count)
{
    struct open_exit *e = &out->tracks[cpu].exit[handler];
    write_exit(out, cpu, handler, now);
    *e = (struct open_exit){.open = true, .since = now, .from = from};
    snprintf(e->name, sizeof e->name, "%s", name);
    for (unsigned k = 0; k < count && e->count < EXIT_FIELDS; k++)
        if (fields[k].kind != TRACE_KIND_TEXT)
            e->field[e->count++] = fields[k];
}

/* The level that a VM entry or exit goes to: its field "to"; 0 for other events and entries that failed. */
static u32 destination(enum trace_class class, const struct trace_field *fields, unsigned count)
{
    if (class == TRACE_VMX_ENTRY || class == TRACE_VMX_EXIT)
        for (unsigned k = 0; k < count; k++)
            if (strcmp(fields[k].name, "to") == 0 && fields[k].value < LEVELS)
                return (u32)fields[k].value;
    return 0;
}

static void arrive(struct trace_output *out, unsigned cpu, u32 level, u64 now)
{
    struct track *t = &out->tracks[cpu];
    if (t->level == level)
        return;
    write_slice(out, cpu, now);
    t->level = level;
    t->since = now;
}

/* The Chrome trace format, which Perfetto reads: vCPUs are processes, levels are their threads, events are instants. What
 * an exit takes is a slice of its handler's. */
static void write_perfetto(struct trace_output *out, u64 icount, const struct cpu *cpu, enum trace_class class, const char *name,
                           const struct trace_field *fields, unsigned count)
{
    unsigned track = cpu->index % TRACKS;
    u32 level = cpu->vmx.depth + 1, to = destination(class, fields, count);
    write_name(out, track, 0);
    write_name(out, track, to ? to : level);
    write_name(out, track, level);
    arrive(out, track, level, icount);
    for (u32 k = 1; k < level || (k == level && class == TRACE_VMX_ENTRY); k++)
        write_exit(out, track, k, icount);
    begin_record(out);
    fprintf(out->file, "{\"name\":\"%s %s\",\"cat\":\"%s\",\"ph\":\"i\",\"s\":\"t\",\"pid\":%u,\"tid\":%u",
            class_names[class], name, class_names[class], track, level);
    write_time(out->file, "ts", icount);
    fputs(",\"args\":{", out->file);
    for (unsigned k = 0; k < count; k++)
        write_field(out, &fields[k], k == 0);
    fputs("}}", out->file);
    if (to == 0)
        return;
    if (class == TRACE_VMX_EXIT)
        open_exit(out, track, icount, level, to, name, fields, count);
    arrive(out, track, to, icount);
}

static void sink_emit(struct trace *trace, struct cpu *cpu, enum trace_class class, const char *name,
                      const struct trace_field *fields, unsigned count)
{
    struct trace_sink *sink = (struct trace_sink *)trace;
    unsigned long long icount = sink->icount(sink->arg);
    sink->last = icount;
    for (unsigned i = 0; i < sink->count; i++) {
        struct trace_output *out = &sink->output[i];
        if (!(out->mask >> class & 1) || out->format == FORMAT_ROWS)
            continue;
        if (out->format == FORMAT_PERFETTO) {
            write_perfetto(out, icount, cpu, class, name, fields, count);
            continue;
        }
        if (out->format == FORMAT_JSON_LINES)
            fprintf(out->file, "{\"icount\":%llu,\"cpu\":%u,\"level\":%u,\"class\":\"%s\",\"name\":\"%s\"", icount,
                    cpu->index, cpu->vmx.depth + 1, class_names[class], name);
        else
            fprintf(out->file, "%12llu cpu%u L%u %s %s", icount, cpu->index, cpu->vmx.depth + 1, class_names[class], name);
        for (unsigned k = 0; k < count; k++)
            write_field(out, &fields[k], false);
        fputs(out->format == FORMAT_JSON_LINES ? "}\n" : "\n", out->file);
    }
}

/* Marks the row where that is all an output wants; true when another wants the instruction itself. */
static bool mark_rows(struct trace_sink *sink, const struct insn *in)
{
    bool wanted = false;
    for (unsigned i = 0; i < sink->count; i++) {
        struct trace_output *out = &sink->output[i];
        if (!(out->mask >> TRACE_INSN & 1))
            continue;
        if (out->format != FORMAT_ROWS)
            wanted = true;
        else if (in->row < insn_row_count)
            out->rows[in->row] = true;
    }
    return wanted;
}

static void write_rows(const struct trace_output *out)
{
    char key[200];
    for (unsigned i = 0; i < insn_row_count; i++)
        if (out->rows[i]) {
            insn_row_key(&insn_rows[i], key, sizeof(key));
            fprintf(out->file, "%s\n", key);
        }
    fputs("end\n", out->file);
}

static void sink_insn(struct trace *trace, struct cpu *cpu, const struct insn *in)
{
    if (!mark_rows((struct trace_sink *)trace, in))
        return;
    u8 bytes[15];
    char hex[2 * sizeof(bytes) + 1] = "", text[128];
    u64 la = cpu->seg.s[SEG_CS].base + cpu->core.rip;
    unsigned n = disasm_fetch(cpu, la, bytes, in->length <= sizeof(bytes) ? in->length : sizeof(bytes));
    for (unsigned i = 0; i < n; i++)
        snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
    disasm_text(bytes, n, cpu->core.rip, cpu->mode.code_bits, text, sizeof(text));
    sink_emit(trace, cpu, TRACE_INSN, "run",
              TRACE_FIELDS(trace_hex("cs", cpu->seg.s[SEG_CS].selector), trace_hex("rip", cpu->core.rip),
                           trace_text("bytes", hex), trace_text("text", text)));
}

/* ---- opening ------------------------------------------------------------------------------------------------------ */

static u32 classes_of(const char *word, size_t length)
{
    u32 mask = 0;
    if (length == 3 && memcmp(word, "all", 3) == 0)
        return (1u << TRACE_CLASS_COUNT) - 1;
    for (unsigned i = 0; i < TRACE_CLASS_COUNT; i++) {
        const char *name = class_names[i];
        if (strncmp(name, word, length) == 0 && (name[length] == 0 || name[length] == '.'))
            mask |= 1u << i;
    }
    return mask;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

static bool refuse(char *message, size_t message_size, const char *spec, const char *part, int length)
{
    int n = snprintf(message, message_size, "--trace %s: unknown category %.*s; expected all", spec, length, part);
    for (unsigned i = 0; i < TRACE_CLASS_COUNT && n > 0 && (size_t)n < message_size; i++)
        n += snprintf(message + n, message_size - (size_t)n, " %s", class_names[i]);
    return false;
}

struct trace *trace_new(u64 (*icount)(void *arg), void *arg)
{
    struct trace_sink *sink = calloc(1, sizeof(*sink));
    if (!sink)
        return NULL;
    sink->trace.emit = sink_emit;
    sink->trace.insn = sink_insn;
    sink->icount = icount;
    sink->arg = arg;
    return &sink->trace;
}

bool trace_add_output(struct trace *trace, const char *spec, char *message, size_t message_size)
{
    struct trace_sink *sink = (struct trace_sink *)trace;
    const char *colon = strchr(spec, ':');
    struct trace_output out = {0};
    if (!colon || sink->count == OUTPUTS) {
        snprintf(message, message_size, "--trace %s: expected CATEGORIES:FILE, at most %d times", spec, OUTPUTS);
        return false;
    }
    for (const char *word = spec; word < colon;) {
        size_t length = strcspn(word, ",:");
        u32 mask = classes_of(word, length);
        if (!mask)
            return refuse(message, message_size, spec, word, (int)length);
        out.mask |= mask;
        word += length + 1;
    }
    const char *file = colon + 1;
    out.format = ends_with(file, ".perfetto.json") ? FORMAT_PERFETTO
               : ends_with(file, ".json") || ends_with(file, ".jsonl") ? FORMAT_JSON_LINES
               : ends_with(file, ".rows") ? FORMAT_ROWS : FORMAT_TEXT;
    if ((out.format == FORMAT_ROWS && !(out.rows = calloc(insn_row_count, sizeof(*out.rows)))) ||
        (out.format == FORMAT_PERFETTO && !(out.tracks = calloc(TRACKS, sizeof(*out.tracks))))) {
        snprintf(message, message_size, "--trace %s: the host has not enough memory", spec);
        return false;
    }
    out.file = strcmp(file, "-") == 0 ? stderr : fopen(file, "w");
    if (!out.file) {
        snprintf(message, message_size, "--trace %s: cannot write %s: %s", spec, file, strerror(errno));
        free(out.rows);
        free(out.tracks);
        return false;
    }
    sink->output[sink->count++] = out;
    trace->mask |= out.mask;
    return true;
}

void trace_flush(struct trace *trace)
{
    struct trace_sink *sink = (struct trace_sink *)trace;
    for (unsigned i = 0; i < sink->count; i++)
        fflush(sink->output[i].file);
}

void trace_free(struct trace *trace)
{
    struct trace_sink *sink = (struct trace_sink *)trace;
    for (unsigned i = 0; i < sink->count; i++) {
        struct trace_output *out = &sink->output[i];
        if (out->format == FORMAT_PERFETTO) {
            for (unsigned cpu = 0; cpu < TRACKS; cpu++) {
                write_slice(out, cpu, sink->last);
                for (u32 k = 1; k < LEVELS; k++)
                    write_exit(out, cpu, k, sink->last);
            }
            fputs(out->any ? "\n]\n" : "[]\n", out->file);
        }
        if (out->format == FORMAT_ROWS)
            write_rows(out);
        free(out->rows);
        free(out->tracks);
        if (out->file == stderr)
            fflush(stderr);
        else
            fclose(out->file);
    }
    free(sink);
}
