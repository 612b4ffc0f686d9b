/*
 * mkcpio: writes an initramfs ("newc" cpio) from a list, the same bytes each time.
 *
 * No root is needed for device nodes, and owners, times and inode numbers do not come from the file system: everything is
 * root's, of time 0, numbered in the order of the list. The list is read from stdin, one entry a line, `#` for remarks:
 *
 *     dir  NAME MODE                 dir  /bin 755
 *     file NAME MODE SOURCE          file /init 755 stack/init.sh
 *     link NAME TARGET               link /bin/sh busybox
 *     char NAME MODE MAJOR MINOR     char /dev/console 600 5 1
 *
 * The archive goes to stdout. Exit status 1, and one line on stderr, if anything is wrong.
 *
 * Format: Documentation/driver-api/early-userspace/buffer-format.rst (Linux).
 */
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static unsigned line_number;
static unsigned next_inode = 1;
static uint64_t bytes_written;

static _Noreturn void die(const char *format, ...)
{
    va_list arguments;
    fprintf(stderr, "mkcpio: line %u: ", line_number);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static void put(const void *bytes, size_t size)
{
    if (fwrite(bytes, 1, size, stdout) != size)
        die("writing: %s", strerror(errno));
    bytes_written += size;
}

static void pad_to(unsigned alignment)
{
    static const char zeros[512];
    put(zeros, -bytes_written & (alignment - 1));
}

/* The header and the name; the entry's data, size bytes of it, has to follow. */
static void put_header(const char *name, unsigned mode, uint32_t size, unsigned major, unsigned minor)
{
    char header[110 + 1];
    while (*name == '/')
        name++;
    snprintf(header, sizeof header, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", next_inode++, mode, 0, 0,
             S_ISDIR(mode) ? 2 : 1, 0, size, 0, 0, major, minor, (unsigned)strlen(name) + 1, 0);
    put(header, 110);
    put(name, strlen(name) + 1);
    pad_to(4);
}

static void put_file(const char *name, unsigned mode, const char *source)
{
    static char buffer[1 << 16];
    FILE *file = fopen(source, "rb");
    if (!file || fseek(file, 0, SEEK_END))
        die("%s: %s", source, strerror(errno));
    long size = ftell(file);
    rewind(file);
    if (size < 0 || size > INT32_MAX)
        die("%s: too large", source);
    put_header(name, S_IFREG | mode, size, 0, 0);
    for (long done = 0; done < size;) {
        size_t got = fread(buffer, 1, sizeof buffer, file);
        if (!got || (long)got > size - done)
            die("%s: changed while it was read", source);
        put(buffer, got);
        done += got;
    }
    fclose(file);
    pad_to(4);
}

static void put_entry(char *line)
{
    char *words[6];
    int count = 0;
    for (char *word = strtok(line, " \t\n"); word && count < 6; word = strtok(NULL, " \t\n"))
        words[count++] = word;
    if (!count || words[0][0] == '#')
        return;
    unsigned mode = count > 2 ? strtoul(words[2], NULL, 8) & 07777 : 0;
    if (!strcmp(words[0], "dir") && count == 3) {
        put_header(words[1], S_IFDIR | mode, 0, 0, 0);
    } else if (!strcmp(words[0], "file") && count == 4) {
        put_file(words[1], mode, words[3]);
    } else if (!strcmp(words[0], "link") && count == 3) {
        put_header(words[1], S_IFLNK | 0777, strlen(words[2]), 0, 0);
        put(words[2], strlen(words[2]));
        pad_to(4);
    } else if (!strcmp(words[0], "char") && count == 5) {
        put_header(words[1], S_IFCHR | mode, 0, strtoul(words[3], NULL, 10), strtoul(words[4], NULL, 10));
    } else {
        die("\"%s\" with %d words: not an entry", words[0], count);
    }
}

int main(void)
{
    char line[4096];
    while (fgets(line, sizeof line, stdin)) {
        line_number++;
        put_entry(line);
    }
    next_inode = 0;
    put_header("TRAILER!!!", 0, 0, 0, 0);
    pad_to(512);
    if (fflush(stdout))
        die("writing: %s", strerror(errno));
    return 0;
}
