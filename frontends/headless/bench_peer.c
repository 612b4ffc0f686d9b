/* The peer of `nestor bench --peers`: the same guest in QEMU's TCG, in a process of its own. Its debug console comes through a
 * pipe; at each mark the process's CPU clock is read, so that the machine's other load does not count. TCG has no VMX:
 * only rows of level 1 can be compared.
 */
#include "frontends/headless/bench.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROGRAM "qemu-system-x86_64"

const char *bench_peer_name(void)
{
    const char *path = getenv("PATH");
    char file[1024];
    while (path && *path) {
        size_t length = strcspn(path, ":");
        snprintf(file, sizeof(file), "%.*s/" PROGRAM, (int)length, path);
        if (access(file, X_OK) == 0)
            return PROGRAM;
        path += length + (path[length] == ':');
    }
    return NULL;
}

static pid_t start(const char *guest, const char *append, int *from)
{
    int ends[2];
    if (pipe(ends) != 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execlp(PROGRAM, PROGRAM, "-accel", "tcg,thread=single", "-cpu", "max", "-m", "128M", "-kernel", guest, "-append", append,
               "-display", "none", "-serial", "none", "-monitor", "none", "-no-reboot", "-nodefaults", "-vga", "none",
               "-chardev", "stdio,id=marks", "-device", "isa-debugcon,iobase=0x402,chardev=marks", "-device", "isa-debug-exit",
               "-device", "isa-debug-exit,iobase=0xf4", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    if (pid < 0)
        close(ends[0]);
    *from = ends[0];
    return pid;
}

bool bench_peer_run(const struct bench_row *row, const char *guest, u64 count, struct bench_sample *sample, char *message,
                    size_t message_size)
{
    char append[128], bytes[4096];
    struct bench_marks marks = {.sample = sample};
    memset(sample, 0, sizeof(*sample));
    snprintf(append, sizeof(append), "workload=%s levels=%u count=%llu", row->workload, row->level, (unsigned long long)count);
    int from;
    pid_t pid = start(guest, append, &from);
    if (pid < 0)
        return hostio_error(message, message_size, PROGRAM ": cannot be started: %s", strerror(errno));
    clockid_t clock;
    bool timed = clock_getcpuclockid(pid, &clock) == 0;
    ssize_t n;
    while (sample->outcome == BENCH_NOTHING && ((n = read(from, bytes, sizeof(bytes))) > 0 || (n < 0 && errno == EINTR))) {
        struct timespec t = {0};
        if (!timed || clock_gettime(clock, &t) != 0)
            break;
        for (ssize_t i = 0; i < n; i++)
            bench_mark(&marks, bytes[i], (double)t.tv_sec * 1e9 + (double)t.tv_nsec, 0);
    }
    close(from);
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return true;
}
