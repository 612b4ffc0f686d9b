/* See policy_source.h. A policy file is a small ini file:
 *
 *     # who handles what in our lab
 *     policy = multilevel
 *     levels = 5
 *     route.cpuid = L0
 *
 * One parameter a line, in the order in which they shall be given; # and ; begin a comment; section headings in brackets
 * are for the reader. The line `policy` names the policy and may stand anywhere, once; without it, it is multilevel.
 */
#include "machine/policy_source.h"

#include "machine/hostio.h"
#include "vmx/policy.h"

#include <stdio.h>
#include <stdlib.h>

static bool ends_with(const char *text, size_t length, const char *ending)
{
    size_t n = strlen(ending);
    return length > n && memcmp(text + length - n, ending, n) == 0;
}

static void trim(char **text)
{
    char *end = *text + strlen(*text);
    while (end > *text && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
        *--end = 0;
    while (**text == ' ' || **text == '\t')
        (*text)++;
}

static char *copy_text(const char *text, size_t length)
{
    char *copy = malloc(length + 1);
    if (copy) {
        memcpy(copy, text, length);
        copy[length] = 0;
    }
    return copy;
}

/* Appends ",key=value". */
static bool append(char **list, const char *key, const char *value)
{
    size_t length = *list ? strlen(*list) : 0, more = strlen(key) + strlen(value) + 3;
    char *grown = realloc(*list, length + more);
    if (!grown)
        return false;
    snprintf(grown + length, more, ",%s=%s", key, value);
    *list = grown;
    return true;
}

struct ini {
    const char *path;
    unsigned line;
    char *name, *parameters;               /* malloc'd or NULL */
    char *message;
    size_t message_size;
};

static bool ini_mistake(const struct ini *ini, const char *what)
{
    return hostio_error(ini->message, ini->message_size, "--policy %s, line %u: %s", ini->path, ini->line, what);
}

static bool ini_line(struct ini *ini, char *line)
{
    line[strcspn(line, "#;")] = 0;
    trim(&line);
    if (*line == 0 || *line == '[')
        return true;
    char *equals = strchr(line, '=');
    if (!equals || equals == line)
        return ini_mistake(ini, "expected key = value");
    *equals = 0;
    char *value = equals + 1;
    trim(&line);
    trim(&value);
    if (*value == 0 || strchr(value, ',') || strchr(line, ','))
        return ini_mistake(ini, "expected one value without a comma");
    if (strcmp(line, "policy") != 0)
        return append(&ini->parameters, line, value) || ini_mistake(ini, "the host has not enough memory");
    if (ini->name)
        return ini_mistake(ini, "the policy is named a second time");
    ini->name = copy_text(value, strlen(value));
    return ini->name || ini_mistake(ini, "the host has not enough memory");
}

/* The file's parameters, and those that follow it on the command line, as one text. */
static bool read_ini(struct policy_source *source, const char *path, const char *more, char *message, size_t message_size)
{
    struct image file;
    if (!hostio_read_file(&file, "--policy", path, message, message_size))
        return false;
    struct ini ini = {.path = path, .message = message, .message_size = message_size};
    bool ok = true;
    for (u64 at = 0; ok && at < file.size;) {
        const u8 *newline = memchr(file.data + at, '\n', file.size - at);
        u64 length = newline ? (u64)(newline - (file.data + at)) : file.size - at;
        char *line = copy_text((const char *)file.data + at, length);
        ini.line++;
        ok = line ? ini_line(&ini, line) : ini_mistake(&ini, "the host has not enough memory");
        free(line);
        at += length + 1;
    }
    const char *name = ini.name ? ini.name : "multilevel", *parameters = ini.parameters ? ini.parameters : "";
    size_t size = strlen(name) + strlen(parameters) + strlen(more) + 1;
    if (ok && !(source->text = malloc(size)))
        ok = ini_mistake(&ini, "the host has not enough memory");
    if (ok)
        snprintf(source->text, size, "%s%s%s", name, parameters, more);
    free(ini.name);
    free(ini.parameters);
    hostio_free_image(&file);
    return ok;
}

bool policy_source_open(struct policy_source *source, const char *text, char *message, size_t message_size)
{
    size_t length = strcspn(text, ",");
    bool ini = ends_with(text, length, ".ini");
    bool library = ends_with(text, length, ".so") || ends_with(text, length, ".dylib") || ends_with(text, length, ".dll");
    *source = (struct policy_source){0};
    char *path = ini || library ? copy_text(text, length) : NULL;
    bool ok = true;
    if (ini)
        ok = path && read_ini(source, path, text + length, message, message_size);
    else if (library)
        ok = path && (source->library = hostio_open_library(path, NESTOR_POLICY_SYMBOL, (const void **)&source->policy, message,
                                                            message_size));
    free(path);
    if (ok && !source->text) {
        const char *rest = library ? text + length + (text[length] == ',') : text;
        source->text = copy_text(rest, strlen(rest));
    }
    if (ok && !source->text)
        ok = hostio_error(message, message_size, "--policy: the host has not enough memory");
    return ok;
}

bool policy_source_give(const struct policy_source *source, struct cpu *cpu, char *message, size_t message_size)
{
    return source->library ? vmx_policy_set_library(cpu, source->policy, source->text, message, message_size)
                           : vmx_policy_set(cpu, source->text, message, message_size);
}

void policy_source_close(struct policy_source *source)
{
    if (source->library)
        hostio_close_library(source->library);
    free(source->text);
    *source = (struct policy_source){0};
}
