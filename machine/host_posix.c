/* machine/hostio.h on POSIX systems. The only file below frontends/ that includes operating-system headers. */
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE                /* madvise() */
#include "machine/hostio.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

bool hostio_error(char *message, size_t message_size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(message, message_size, format, args);
    va_end(args);
    return false;
}

void *hostio_open_library(const char *path, const char *symbol, const void **object, char *message, size_t message_size)
{
    char here[4096];
    if (!strchr(path, '/')) {          /* a bare name would be looked for among the system's libraries */
        snprintf(here, sizeof(here), "./%s", path);
        path = here;
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        hostio_error(message, message_size, "--policy %s: %s", path, dlerror());
        return NULL;
    }
    *object = dlsym(library, symbol);
    if (!*object) {
        hostio_error(message, message_size, "--policy %s: expected it to export `%s` (vmx/policy_api.h)", path, symbol);
        dlclose(library);
        return NULL;
    }
    return library;
}

void hostio_close_library(void *library)
{
    dlclose(library);
}

void hostio_foresee(u8 *host, u64 n)
{
#ifdef __linux__
    /* MADV_POPULATE_WRITE, of Linux 5.14; older headers do not name it, older kernels answer EINVAL. */
    static bool refused;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)host & ~(page - 1);
    uintptr_t to = ((uintptr_t)host + (uintptr_t)n + page - 1) & ~(page - 1);
    union { uintptr_t number; void *pointer; } at = {from};
    if (!refused && madvise(at.pointer, to - from, 23) != 0)
        refused = true;
#else
    (void)host, (void)n;
#endif
}

/* Files of more than this are refused: no image that could be loaded is larger, and sizes stay far from overflow. */
#define FILE_MAX (64ull << 30)

/* Reads to the end of `fd`, whatever its size was said to be. */
static bool read_all(int fd, struct image *image, u64 expected)
{
    u64 capacity = expected + 1;
    u64 size = 0;
    u8 *data = malloc(capacity);
    while (data) {
        ssize_t n = read(fd, data + size, capacity - size < (1u << 30) ? capacity - size : 1u << 30);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            free(data);
            return false;
        }
        if (n == 0) {
            image->data = data;
            image->size = size;
            return true;
        }
        size += (u64)n;
        if (size < capacity)
            continue;
        if (size > FILE_MAX) {
            free(data);
            errno = EFBIG;
            return false;
        }
        capacity = capacity * 2 + 4096;
        u8 *grown = realloc(data, capacity);
        if (!grown)
            free(data);
        data = grown;
    }
    errno = ENOMEM;
    return false;
}

bool hostio_read_file(struct image *image, const char *what, const char *path, char *message, size_t message_size)
{
    *image = (struct image){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return hostio_error(message, message_size, "%s %s: %s", what, path, strerror(errno));
    struct stat st;
    bool ok = fstat(fd, &st) == 0;
    if (ok && S_ISDIR(st.st_mode)) {
        errno = EISDIR;
        ok = false;
    }
    ok = ok && read_all(fd, image, S_ISREG(st.st_mode) && (u64)st.st_size < FILE_MAX ? (u64)st.st_size : 4096);
    int error = errno;
    close(fd);
    if (!ok)
        return hostio_error(message, message_size, "%s %s: %s", what, path, strerror(error));
    image->name = malloc(strlen(path) + 1);
    if (!image->name) {
        hostio_free_image(image);
        return hostio_error(message, message_size, "%s %s: %s", what, path, strerror(ENOMEM));
    }
    strcpy(image->name, path);
    return true;
}

void hostio_free_image(struct image *image)
{
    free(image->data);
    free(image->name);
    *image = (struct image){0};
}

/* ---- the console -------------------------------------------------------------------------------------------------- */

static struct termios console_saved;
static bool console_changed;
static bool console_ended;

void hostio_console_open(void)
{
    console_ended = false;
    if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &console_saved) != 0)
        return;
    struct termios raw = console_saved;
    raw.c_iflag &= ~(tcflag_t)(ICRNL | INLCR | IGNCR | IXON | ISTRIP);
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | IEXTEN);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    console_changed = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
    atexit(hostio_console_close);
}

void hostio_console_close(void)
{
    if (console_changed)
        tcsetattr(STDIN_FILENO, TCSANOW, &console_saved);
    console_changed = false;
}

int hostio_console_read(u8 *bytes, unsigned n)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    if (console_ended)
        return -1;
    int ready = poll(&p, 1, 0);
    if (ready == 0 || (ready < 0 && errno == EINTR) || n == 0)
        return 0;
    ssize_t got = ready < 0 || (p.revents & POLLNVAL) ? 0 : read(STDIN_FILENO, bytes, n);
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return 0;
    console_ended = got <= 0;
    return console_ended ? -1 : (int)got;
}

void hostio_console_wait(void)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    if (!console_ended)
        (void)poll(&p, 1, -1);
}

/* ---- signals and clocks ------------------------------------------------------------------------------------------- */

static volatile int *interrupt_flag;

static void interrupted(int number)
{
    if (*interrupt_flag) {
        hostio_console_close();     /* tcsetattr is async-signal-safe */
        signal(number, SIG_DFL);
        raise(number);
    }
    *interrupt_flag = 1;
}

void hostio_catch_interrupt(volatile int *flag)
{
    interrupt_flag = flag;
    struct sigaction action = {.sa_handler = interrupted};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

u64 hostio_monotonic_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000000000u + (u64)t.tv_nsec;
}
