/* See options.h. Options are a table; an option that is planned but absent stands in it too, so that asking for it gives
 * one clear line instead of "unknown option".
 */
#include "frontends/headless/options.h"
#include "frontends/headless/status.h"


const char options_usage[] =
    "usage: nestor run --kernel FILE [option]…\n"
    "  --kernel FILE          multiboot 1/2 ELF, Linux bzImage or ELF with a PVH note; may be gzip'd\n"
    "  --initrd FILE          initial RAM disk (multiboot: the first module)\n"
    "  --append TEXT          the kernel's command line\n"
    "  --module FILE[,TEXT]   a multiboot module and its command line; may be repeated\n"
    "  --memory SIZE          RAM, e.g. 512M or 4G (default 512M; plain numbers are MiB)\n"
    "  --cpus N               virtual processors, 1-255 (default 1)\n"
    "  --cpu MODEL[,+F,-F]…   processor model and features (see `nestor dump cpus`)\n"
    "  --policy NAME[,K=V]…   who handles what between nested levels (see `nestor dump policies`); also FILE.ini, FILE.so\n"
    "  --serial WHERE         first serial port: stdio (default), file:FILE or none\n"
    "  --debugcon WHERE       debug consoles (ports 0xe9, 0x402): stderr (default), stdio, file:FILE or none\n"
    "  --display none         no display (the default)\n"
    "  --engine NAME          how instructions run: jit (the default), calls or interp\n"
    "  --max-insns N          end after exactly N instructions with status 3 (suffixes k, M, G)\n"
    "  --until-serial REGEX   end with status 0 when a line on the serial port matches (POSIX extended)\n"
    "  --no-reboot            a reset of the guest ends the run with status 0\n"
    "  --trace CATS:FILE      write trace events; CATS like vmx,irq or vmx.exit (vmx.entry vmx.exit vmx.inject\n"
    "                         vmx.check vmx.insn ept irq msr io cr mode sched insn, or all); FILE ending in .json or\n"
    "                         .jsonl gives JSON lines, in .perfetto.json a Perfetto trace; - is stderr; repeatable\n"
    "  --trace-start N        trace from this instruction count on\n"
    "  --trace-stop N         … and up to this one\n"
    "  --stats                at the end, print what was executed and every VM exit by level and reason\n"
    "  --state-hash           at the end, print a hash of each section of the machine's state\n"
    "exit status: 0 powered off or matched; (v<<1)|1 for v written to isa-debug-exit (port 0xf4); 3 --max-insns reached;\n"
    "             4 triple fault or halted for ever; 64 and above: usage or host errors\n";

/* ---- numbers ------------------------------------------------------------------------------------------------------ */

static bool parse_number(const char *text, u64 *value, const char **rest)
{
    if (*text < '0' || *text > '9')
        return false;
    u64 base = text[0] == '0' && (text[1] == 'x' || text[1] == 'X') ? 16 : 10, v = 0;
    const char *p = base == 16 ? text + 2 : text;
    const char *first = p;
    for (;; p++) {
        u64 digit;
        if (*p >= '0' && *p <= '9')
            digit = (u64)(*p - '0');
        else if (base == 16 && ((*p | 32) >= 'a' && (*p | 32) <= 'f'))
            digit = (u64)((*p | 32) - 'a') + 10;
        else if (*p == '_' && p != first)
            continue;
        else
            break;
        if (v > (~0ull - digit) / base)
            return false;
        v = v * base + digit;
    }
    *value = v;
    *rest = p;
    return p != first;
}

static bool scale(u64 *value, u64 unit)
{
    if (unit && *value > ~0ull / unit)
        return false;
    *value *= unit;
    return true;
}

bool options_parse_size(const char *text, u64 unit, u64 *size)
{
    static const struct { char suffix; u64 unit; } units[] = {{'K', 1ull << 10}, {'M', 1ull << 20}, {'G', 1ull << 30},
                                                              {'T', 1ull << 40}};
    const char *rest;
    if (!parse_number(text, size, &rest))
        return false;
    if (*rest == 0)
        return scale(size, unit);
    for (unsigned i = 0; i < ARRAY_SIZE(units); i++) {
        if ((*rest & ~32) != units[i].suffix)
            continue;
        const char *tail = rest + 1;
        if (strcmp(tail, "iB") == 0 || strcmp(tail, "B") == 0)
            tail += strlen(tail);
        return *tail == 0 && scale(size, units[i].unit);
    }
    return false;
}

bool options_parse_count(const char *text, u64 *count)
{
    const char *rest;
    if (!parse_number(text, count, &rest))
        return false;
    if (*rest == 0)
        return true;
    u64 unit = *rest == 'k' || *rest == 'K' ? 1000 : *rest == 'M' ? 1000000 : *rest == 'G' ? 1000000000 : 0;
    return unit && rest[1] == 0 && scale(count, unit);
}

/* ---- options ------------------------------------------------------------------------------------------------------ */

struct parsing {
    struct options *options;
    char *message;
    size_t message_size;
};

static int usage_error(struct parsing *p, const char *option, const char *value, const char *expected)
{
    hostio_error(p->message, p->message_size, "%s %s: expected %s", option, value, expected);
    return STATUS_USAGE;
}

static int set_memory(struct parsing *p, const char *option, char *value)
{
    u64 size;
    if (!options_parse_size(value, 1ull << 20, &size) || size < (2u << 20) || size > 1ull << 40 || size % PAGE_SIZE)
        return usage_error(p, option, value, "a size from 2M to 1T in whole 4 KiB pages, such as 512M or 4G");
    p->options->machine.memory = size;
    return 0;
}

static int set_cpus(struct parsing *p, const char *option, char *value)
{
    u64 n;
    if (!options_parse_count(value, &n) || n < 1 || n > MACHINE_CPUS)
        return usage_error(p, option, value, "a number of processors from 1 to 255");
    p->options->machine.cpus = (unsigned)n;
    return 0;
}

static int set_count(struct parsing *p, const char *option, const char *value, u64 *count)
{
    if (!options_parse_count(value, count))
        return usage_error(p, option, value, "a number of instructions, such as 1000000 or 200M");
    return 0;
}

static int set_max_insns(struct parsing *p, const char *option, char *value)
{
    return set_count(p, option, value, &p->options->machine.max_insns);
}

static int set_trace_start(struct parsing *p, const char *option, char *value)
{
    return set_count(p, option, value, &p->options->trace_start);
}

static int set_trace_stop(struct parsing *p, const char *option, char *value)
{
    return set_count(p, option, value, &p->options->trace_stop);
}

static int add_module(struct parsing *p, const char *option, char *value)
{
    struct options *o = p->options;
    if (o->machine.module_count == MACHINE_MODULES)
        return usage_error(p, option, value, "at most 64 modules");
    char *comma = strchr(value, ',');
    o->machine.module[o->machine.module_count].arguments = comma ? comma + 1 : "";
    if (comma)
        *comma = 0;
    o->module[o->machine.module_count++] = value;
    return 0;
}

static int set_serial(struct parsing *p, const char *option, char *value)
{
    if (strncmp(value, "tcp:", 4) == 0)
        return hostio_error(p->message, p->message_size, "%s %s: serial over TCP is not implemented yet", option, value),
               STATUS_USAGE;
    if (strcmp(value, "stdio") != 0 && strcmp(value, "none") != 0 && strncmp(value, "file:", 5) != 0)
        return usage_error(p, option, value, "stdio, file:FILE or none");
    p->options->serial = value;
    return 0;
}

static int set_debugcon(struct parsing *p, const char *option, char *value)
{
    if (strcmp(value, "stdio") != 0 && strcmp(value, "stderr") != 0 && strcmp(value, "none") != 0 &&
        strncmp(value, "file:", 5) != 0)
        return usage_error(p, option, value, "stderr, stdio, file:FILE or none");
    p->options->debugcon = value;
    return 0;
}

static int set_display(struct parsing *p, const char *option, char *value)
{
    if (strcmp(value, "none") == 0)
        return 0;
    if (strcmp(value, "sdl") == 0)
        return hostio_error(p->message, p->message_size, "%s sdl: not implemented yet", option), STATUS_USAGE;
    return usage_error(p, option, value, "none");
}

static const char *const engine_names[ENGINE_COUNT] = {"interp", "calls", "jit"};

const char *options_engine_name(enum machine_engine engine)
{
    return engine_names[engine];
}

bool options_parse_engine(const char *text, size_t length, enum machine_engine *engine)
{
    for (unsigned i = 0; i < ENGINE_COUNT; i++) {
        if (strlen(engine_names[i]) == length && memcmp(engine_names[i], text, length) == 0) {
            *engine = (enum machine_engine)i;
            return true;
        }
    }
    return false;
}

static int set_engine(struct parsing *p, const char *option, char *value)
{
    if (!options_parse_engine(value, strlen(value), &p->options->machine.engine))
        return usage_error(p, option, value, "interp, calls or jit");
    return 0;
}

static int add_trace(struct parsing *p, const char *option, char *value)
{
    const char *colon = strchr(value, ':');
    if (!colon || colon == value || colon[1] == 0)
        return usage_error(p, option, value, "CATEGORIES:FILE, such as vmx,irq:- or vmx.exit:exits.jsonl");
    if (p->options->trace_count == OPTIONS_TRACES)
        return usage_error(p, option, value, "at most 8 traces");
    p->options->trace[p->options->trace_count++] = value;
    return 0;
}

/* An option either has a function, or a string or flag to set, or is planned. */
static const struct option {
    const char *name;
    enum { WORD, FUNCTION, FLAG, ABSENT, ABSENT_FLAG } kind;
    size_t offset;                                     /* of a const char * or bool in struct options */
    int (*set)(struct parsing *p, const char *option, char *value);
} option_table[] = {
    // clang-format off
    {"kernel",         WORD,        offsetof(struct options, kernel),            NULL},
    {"initrd",         WORD,        offsetof(struct options, initrd),            NULL},
    {"append",         WORD,        offsetof(struct options, machine.append),    NULL},
    {"module",         FUNCTION,    0,                                           add_module},
    {"memory",         FUNCTION,    0,                                           set_memory},
    {"cpus",           FUNCTION,    0,                                           set_cpus},
    {"cpu",            WORD,        offsetof(struct options, machine.cpu_model), NULL},
    {"policy",         WORD,        offsetof(struct options, machine.policy),    NULL},
    {"serial",         FUNCTION,    0,                                           set_serial},
    {"debugcon",       FUNCTION,    0,                                           set_debugcon},
    {"display",        FUNCTION,    0,                                           set_display},
    {"engine",         FUNCTION,    0,                                           set_engine},
    {"max-insns",      FUNCTION,    0,                                           set_max_insns},
    {"until-serial",   WORD,        offsetof(struct options, until_serial),      NULL},
    {"trace",          FUNCTION,    0,                                           add_trace},
    {"trace-start",    FUNCTION,    0,                                           set_trace_start},
    {"trace-stop",     FUNCTION,    0,                                           set_trace_stop},
    {"stats",          FLAG,        offsetof(struct options, machine.stats),     NULL},
    {"state-hash",     FLAG,        offsetof(struct options, state_hash),        NULL},
    {"no-reboot",      FLAG,        offsetof(struct options, machine.no_reboot), NULL},
    {"help",           FLAG,        offsetof(struct options, help),              NULL},
    {"disk",           ABSENT,      0,                                           NULL},
    {"cdrom",          ABSENT,      0,                                           NULL},
    {"bios",           ABSENT,      0,                                           NULL},
    {"record",         ABSENT,      0,                                           NULL},
    {"gdb",            ABSENT,      0,                                           NULL},
    {"snapshot-every", ABSENT,      0,                                           NULL},
    {"realtime",       ABSENT_FLAG, 0,                                           NULL},
    // clang-format on
};

static const struct option *find_option(const char *name, size_t length)
{
    for (unsigned i = 0; i < ARRAY_SIZE(option_table); i++)
        if (strlen(option_table[i].name) == length && memcmp(option_table[i].name, name, length) == 0)
            return &option_table[i];
    return NULL;
}

int options_parse(struct options *options, int argc, char **argv, char *message, size_t message_size)
{
    struct parsing p = {options, message, message_size};
    *options = (struct options){.serial = "stdio", .trace_stop = MACHINE_NO_LIMIT};
    options->machine = (struct machine_config){.memory = 512ull << 20, .cpus = 1, .engine = ENGINE_JIT, .append = "",
                                               .max_insns = MACHINE_NO_LIMIT,
                                               .epoch_seconds = 1704067200 /* 2024-01-01 00:00:00 UTC */};
    for (int i = 0; i < argc; i++) {
        char *word = argv[i];
        const char *name = word + (strncmp(word, "--", 2) == 0 ? 2 : *word == '-' ? 1 : 0);
        char *equals = strchr(name, '=');
        if (strcmp(word, "-h") == 0) {
            options->help = true;
            continue;
        }
        const struct option *option = name != word ? find_option(name, equals ? (size_t)(equals - name) : strlen(name)) : NULL;
        if (!option) {
            hostio_error(message, message_size, "%s: unknown %s; `nestor run --help` lists the options", word,
                         name != word ? "option" : "word");
            return STATUS_USAGE;
        }
        if (option->kind == ABSENT || option->kind == ABSENT_FLAG) {
            hostio_error(message, message_size, "--%s: not implemented yet", option->name);
            return STATUS_USAGE;
        }
        if (option->kind == FLAG) {
            if (equals) {
                hostio_error(message, message_size, "--%s: takes no value", option->name);
                return STATUS_USAGE;
            }
            *(bool *)((char *)options + option->offset) = true;
            continue;
        }
        char *value = equals ? equals + 1 : i + 1 < argc ? argv[++i] : NULL;
        if (!value) {
            hostio_error(message, message_size, "--%s: expected a value behind it", option->name);
            return STATUS_USAGE;
        }
        char shown[40];
        hostio_error(shown, sizeof(shown), "--%s", option->name);
        int status = 0;
        if (option->kind == FUNCTION)
            status = option->set(&p, shown, value);
        else
            *(const char **)((char *)options + option->offset) = value;
        if (status)
            return status;
    }
    return 0;
}

int options_read_images(struct options *o, char *message, size_t message_size)
{
    if (!o->kernel) {
        hostio_error(message, message_size, "--kernel is missing: nothing to run (`nestor run --help`)");
        return STATUS_USAGE;
    }
    if (!hostio_read_file(&o->machine.kernel, "--kernel", o->kernel, message, message_size) ||
        (o->initrd && !hostio_read_file(&o->machine.initrd, "--initrd", o->initrd, message, message_size)))
        return STATUS_INPUT;
    if (o->machine.kernel.size == 0) {
        hostio_error(message, message_size, "--kernel %s: the file is empty", o->kernel);
        return STATUS_INPUT;
    }
    for (unsigned i = 0; i < o->machine.module_count; i++)
        if (!hostio_read_file(&o->machine.module[i].image, "--module", o->module[i], message, message_size))
            return STATUS_INPUT;
    return 0;
}

void options_free_images(struct options *o)
{
    hostio_free_image(&o->machine.kernel);
    hostio_free_image(&o->machine.initrd);
    for (unsigned i = 0; i < o->machine.module_count; i++)
        hostio_free_image(&o->machine.module[i].image);
}
