/* The peers of `nestor bench --peers`, each in a process of its own: the workloads as a process of this host (bench-native), the same
 * guest in QEMU's TCG, and in Bochs, which starts it as a ROM in place of its BIOS.
 *
 * A guest's debug console comes through a pipe or, as Bochs wants it, a terminal; at each mark the process's CPU clock is read, so that the
 * machine's other load does not count. TCG has no VMX; Bochs has it, but no policies: it runs what two levels need.
 */
#define _XOPEN_SOURCE 700
#include "frontends/headless/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_MS 300000             /* a peer that says nothing for so long is ended */
#define ROM_WORDS 2048                 /* the command line stands so far from the ROM's end (labs/guest/rom.S) */
#define ROM_MAX (2u << 20)
#define NAME_MAX_BYTES 1024

static const char *const programs[BENCH_COLUMNS] = {[BENCH_QEMU] = "qemu-system-x86_64", [BENCH_BOCHS] = "bochs"};
static const char *const files[BENCH_COLUMNS] = {[BENCH_NATIVE] = "bench-native", [BENCH_BOCHS] = "bench.rom"};

/* ---- what there is ------------------------------------------------------------------------------------------------ */

static bool installed(const char *program)
{
    const char *path = getenv("PATH");
    char file[NAME_MAX_BYTES];
    while (path && *path) {
        size_t length = strcspn(path, ":");
        snprintf(file, sizeof(file), "%.*s/%s", (int)length, path, program);
        if (access(file, X_OK) == 0)
            return true;
        path += length + (path[length] == ':');
    }
    return false;
}

/* The file `name` in the guest's folder. */
static void beside(const char *guest, const char *name, char *file)
{
    const char *slash = strrchr(guest, '/');
    snprintf(file, NAME_MAX_BYTES, "%.*s%s", slash ? (int)(slash - guest) + 1 : 0, guest, name);
}

const char *bench_peer_missing(enum bench_column peer, const char *guest)
{
    static char texts[BENCH_COLUMNS][NAME_MAX_BYTES + 64];
    char *text = texts[peer], file[NAME_MAX_BYTES];
    if (programs[peer] && !installed(programs[peer])) {
        snprintf(text, sizeof(texts[peer]), "%s is not installed", programs[peer]);
        return text;
    }
    if (files[peer]) {
        beside(guest, files[peer], file);
        if (access(file, R_OK) != 0) {
            snprintf(text, sizeof(texts[peer]), "%s: %s", file, strerror(errno));
            return text;
        }
    }
    return NULL;
}

bool bench_peer_can(enum bench_column peer, const struct bench_row *row)
{
    switch (peer) {
    case BENCH_NATIVE: return row->level == 1 && row->kind != BENCH_MACHINE;
    case BENCH_QEMU: return row->level == 1;
    default: return row->level == 1 || (row->level == 2 && strcmp(row->policy, "hardware") == 0);
    }
}

/* ---- starting ----------------------------------------------------------------------------------------------------- */

struct peer {
    pid_t pid;
    int from;                          /* its console */
    char folder[64];                   /* its files, "": none */
};

static bool start_pipe(struct peer *peer, char *const words[])
{
    int ends[2];
    if (pipe(ends) != 0)
        return false;
    peer->pid = fork();
    if (peer->pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execvp(words[0], words);
        _exit(127);
    }
    close(ends[1]);
    peer->from = ends[0];
    if (peer->pid < 0)
        close(ends[0]);
    return peer->pid >= 0;
}

static bool start_terminal(struct peer *peer, char *const words[])
{
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0)
        return false;
    const char *name = ptsname(master);
    peer->pid = name ? fork() : -1;
    if (peer->pid == 0) {
        setsid();
        int slave = open(name, O_RDWR);
        if (slave < 0)
            _exit(127);
        ioctl(slave, TIOCSCTTY, 0);
        for (int fd = 0; fd <= 2; fd++)
            dup2(slave, fd);
        close(slave);
        close(master);
        setenv("TERM", "vt100", 1);
        execvp(words[0], words);
        _exit(127);
    }
    peer->from = master;
    if (peer->pid < 0)
        close(master);
    return peer->pid >= 0;
}

static bool start_native(struct peer *peer, const struct bench_row *row, const char *guest, u64 count)
{
    char program[NAME_MAX_BYTES], workload[32], number[32];
    beside(guest, files[BENCH_NATIVE], program);
    snprintf(workload, sizeof(workload), "%s", row->workload);
    snprintf(number, sizeof(number), "%llu", (unsigned long long)count);
    return start_pipe(peer, (char *[]){program, workload, number, NULL});
}

static bool start_qemu(struct peer *peer, const char *guest, const char *append)
{
    char kernel[NAME_MAX_BYTES], words[128], program[32];
    snprintf(kernel, sizeof(kernel), "%s", guest);
    snprintf(words, sizeof(words), "%s", append);
    snprintf(program, sizeof(program), "%s", programs[BENCH_QEMU]);
    return start_pipe(peer, (char *[]){program, "-accel", "tcg,thread=single", "-cpu", "max", "-m", "128M", "-kernel", kernel, "-append",
                                       words, "-display", "none", "-serial", "none", "-monitor", "none", "-no-reboot", "-nodefaults",
                                       "-vga", "none", "-chardev", "stdio,id=marks", "-device",
                                       "isa-debugcon,iobase=0x402,chardev=marks", "-device", "isa-debug-exit,iobase=0xf4", NULL});
}

static bool write_file(const char *folder, const char *name, const void *bytes, size_t size)
{
    char path[NAME_MAX_BYTES];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    bool ok = file && fwrite(bytes, 1, size, file) == size;
    return file && fclose(file) == 0 && ok;
}

/* The guest's ROM with its command line in it. */
static bool write_rom(const char *folder, const char *rom, const char *append)
{
    FILE *file = fopen(rom, "rb");
    u8 *bytes = malloc(ROM_MAX);
    size_t size = file && bytes ? fread(bytes, 1, ROM_MAX, file) : 0;
    if (file)
        fclose(file);
    if (size > ROM_WORDS)
        memcpy(bytes + size - ROM_WORDS, append, strlen(append) + 1);
    bool ok = size > ROM_WORDS && write_file(folder, "rom", bytes, size);
    free(bytes);
    return ok;
}

static bool start_bochs(struct peer *peer, const char *guest, const char *append)
{
    char rom[NAME_MAX_BYTES], set[2048], set_path[128], rc_path[128], words[160], program[32];
    const char *temporary = getenv("TMPDIR");
    snprintf(peer->folder, sizeof(peer->folder), "%.40s/nestor-bench-XXXXXX", temporary ? temporary : "/tmp");
    if (!mkdtemp(peer->folder)) {
        peer->folder[0] = 0;
        return false;
    }
    beside(guest, files[BENCH_BOCHS], rom);
    snprintf(words, sizeof(words), "%s port=%d", append, 0xe9);        /* 0x402 is nothing there */
    /* A Bochs with a debugger built in, as Debian's, waits for "c". */
    int n = snprintf(set, sizeof(set),
                     "display_library: term\n"
                     "cpu: model=corei7_icelake_u, ips=200000000, reset_on_triple_fault=0, ignore_bad_msrs=0\n"
                     "memory: guest=128, host=128\n"
                     "romimage: file=%s/rom\n"
                     "port_e9_hack: enabled=1\n"
                     "sound: waveoutdrv=dummy, waveout=none, waveindrv=dummy, wavein=none, midioutdrv=dummy, midiout=none\n"
                     "speaker: enabled=0\n"
                     "panic: action=fatal\nerror: action=ignore\ninfo: action=ignore\ndebug: action=ignore\n"
                     "log: %s/log\nclock: sync=none\n", peer->folder, peer->folder);
    if (!write_rom(peer->folder, rom, words) || !write_file(peer->folder, "set", set, (size_t)n) ||
        !write_file(peer->folder, "rc", "c\n", 2))
        return false;
    snprintf(set_path, sizeof(set_path), "%s/set", peer->folder);
    snprintf(rc_path, sizeof(rc_path), "%s/rc", peer->folder);
    snprintf(program, sizeof(program), "%s", programs[BENCH_BOCHS]);
    return start_terminal(peer, (char *[]){program, "-q", "-f", set_path, "-rc", rc_path, NULL});
}

static void remove_files(const char *folder)
{
    static const char *const names[] = {"rom", "set", "rc", "log"};
    char path[NAME_MAX_BYTES];
    for (unsigned i = 0; folder[0] && i < ARRAY_SIZE(names); i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        unlink(path);
    }
    if (folder[0])
        rmdir(folder);
}

/* ---- following ---------------------------------------------------------------------------------------------------- */

static void follow(const struct peer *peer, struct bench_sample *sample)
{
    struct bench_marks marks = {.sample = sample};
    char bytes[4096];
    clockid_t clock;
    bool timed = clock_getcpuclockid(peer->pid, &clock) == 0;
    while (sample->outcome == BENCH_NOTHING) {
        struct pollfd wait = {.fd = peer->from, .events = POLLIN};
        int ready = poll(&wait, 1, PATIENCE_MS);
        if (ready < 0 && errno == EINTR)
            continue;
        ssize_t n = ready > 0 ? read(peer->from, bytes, sizeof(bytes)) : 0;
        struct timespec t = {0};
        if (n <= 0 || !timed || clock_gettime(clock, &t) != 0)
            return;
        for (ssize_t i = 0; i < n; i++)
            bench_mark(&marks, bytes[i], (double)t.tv_sec * 1e9 + (double)t.tv_nsec, 0);
    }
}

bool bench_peer_run(enum bench_column column, const struct bench_row *row, const char *guest, u64 count, struct bench_sample *sample,
                    char *message, size_t message_size)
{
    char append[128];
    struct peer peer = {.pid = -1};
    memset(sample, 0, sizeof(*sample));
    snprintf(append, sizeof(append), "workload=%s levels=%u count=%llu", row->workload, row->level, (unsigned long long)count);
    bool started = column == BENCH_NATIVE ? start_native(&peer, row, guest, count)
                 : column == BENCH_QEMU ? start_qemu(&peer, guest, append) : start_bochs(&peer, guest, append);
    if (!started) {
        bool result = hostio_error(message, message_size, "%s: cannot be started: %s", programs[column] ? programs[column] : files[column],
                                   strerror(errno));
        remove_files(peer.folder);
        return result;
    }
    follow(&peer, sample);
    close(peer.from);
    kill(peer.pid, SIGKILL);
    while (waitpid(peer.pid, NULL, 0) < 0 && errno == EINTR)
        ;
    remove_files(peer.folder);
    return true;
}
