/* Running instructions on the host CPU.
 *
 * A child process loads a vector's state, enters the instruction with IRETQ (which also chooses the width of the code),
 * and gets the state back in one of two ways: behind the instruction stands a jump to the exit stub, which stores all
 * registers without disturbing any; or the instruction faults, and the signal handler takes the state from the signal
 * frame. Branches and random bytes run with TF set, so that they come back by SIGTRAP.
 *
 * Kept true: what the child's own code needs lies at high addresses that no vector names; while a vector runs, FS and
 * GS, and with them thread-local storage, are the vector's, so neither the handler nor anything between entry and exit
 * may use it.
 */
#include "native.h"

#include "cpu/features.h"

#include <stdio.h>
#include <stdlib.h>

#if defined(__x86_64__) && defined(__linux__)
#include <asm/ldt.h>
#include <cpuid.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

/* ---- what the assembly shares with C ----------------------------------------------------------------------------- */

struct area {
    u64 r[16];
    u64 flags, host_rsp, back;
    u64 iret[5];               /* RIP, CS, RFLAGS, RSP, SS, as IRETQ pops them */
    u64 fs_base, gs_base, host_fs_base;
    u32 legacy;                /* 16- or 32-bit code: segment registers are loaded from sel */
    u32 fsgsbase, signalled, avx;
    u16 sel[4];                /* DS, ES, FS, GS */
    u16 after[8];              /* by SEG_ES … SEG_GS, as the vector left them */
    /* What XSAVE stores of x87, SSE and AVX state; without AVX, FXSAVE's part of it. */
    struct fx_image fx __attribute__((aligned(64)));
    u64 header[8];
    u64 ymm_high[16][2];
};

struct shared {
    volatile u32 current;      /* the vector that runs */
    u32 pad[15];
    struct vector vectors[BATCH];
};

static struct bench *bench;
static struct shared *shared;
static struct area *area;
static int to_child = -1, from_child = -1;
static pid_t child = -1;

#define AREA(member) [member] "i"(offsetof(struct area, member))

/* Enters the vector in *area; returns when the exit stub or the signal handler has come back. */
static __attribute__((noinline)) void enter(void)
{
    u64 in_out = (u64)(uintptr_t)area;
    __asm__ volatile(
        "lea -128(%%rsp), %%rsp\n\t"       /* the red zone */
        "push %%rbp\n\t"
        "lea 9f(%%rip), %%rax\n\t"
        "mov %%rax, %c[back](%%rdi)\n\t"
        "mov %%rsp, %c[host_rsp](%%rdi)\n\t"
        "cmpl $0, %c[avx](%%rdi)\n\t"
        "je 7f\n\t"
        "mov $7, %%eax\n\t"
        "xor %%edx, %%edx\n\t"
        "xrstor64 %c[fx](%%rdi)\n\t"
        "jmp 8f\n\t"
        "7: fxrstor64 %c[fx](%%rdi)\n\t"
        "8:\n\t"
        "cmpl $0, %c[legacy](%%rdi)\n\t"
        "je 1f\n\t"
        "mov %c[sel](%%rdi), %%ds\n\t"
        "mov %c[sel]+2(%%rdi), %%es\n\t"
        "mov %c[sel]+4(%%rdi), %%fs\n\t"
        "mov %c[sel]+6(%%rdi), %%gs\n\t"
        "jmp 2f\n\t"
        "1: cmpl $0, %c[fsgsbase](%%rdi)\n\t"
        "je 2f\n\t"
        "mov %c[fs_base](%%rdi), %%rax\n\t"
        "wrfsbase %%rax\n\t"
        "mov %c[gs_base](%%rdi), %%rax\n\t"
        "wrgsbase %%rax\n\t"
        "2: pushq %c[iret]+32(%%rdi)\n\t"
        "pushq %c[iret]+24(%%rdi)\n\t"
        "pushq %c[iret]+16(%%rdi)\n\t"
        "pushq %c[iret]+8(%%rdi)\n\t"
        "pushq %c[iret](%%rdi)\n\t"
        "mov (%%rdi), %%rax\n\t"
        "mov 8(%%rdi), %%rcx\n\t"
        "mov 16(%%rdi), %%rdx\n\t"
        "mov 24(%%rdi), %%rbx\n\t"
        "mov 40(%%rdi), %%rbp\n\t"
        "mov 48(%%rdi), %%rsi\n\t"
        "mov 64(%%rdi), %%r8\n\t"
        "mov 72(%%rdi), %%r9\n\t"
        "mov 80(%%rdi), %%r10\n\t"
        "mov 88(%%rdi), %%r11\n\t"
        "mov 96(%%rdi), %%r12\n\t"
        "mov 104(%%rdi), %%r13\n\t"
        "mov 112(%%rdi), %%r14\n\t"
        "mov 120(%%rdi), %%r15\n\t"
        "mov 56(%%rdi), %%rdi\n\t"
        "iretq\n\t"
        /* Back, with RAX the area and RSP as it was; a signal's return has loaded the vector's registers again. */
        "9: pushq $0x202\n\t"
        "popfq\n\t"
        "mov %%rax, %%rdi\n\t"
        "cmpl $0, %c[legacy](%%rdi)\n\t"
        "je 8f\n\t"
        "mov %%es, %c[after](%%rdi)\n\t"
        "mov %%ds, %c[after]+6(%%rdi)\n\t"
        "mov %%fs, %c[after]+8(%%rdi)\n\t"
        "mov %%gs, %c[after]+10(%%rdi)\n\t"
        "cmpl $0, %c[signalled](%%rdi)\n\t"
        "jne 8f\n\t"
        "mov %%ss, %c[after]+4(%%rdi)\n\t"
        "mov $0x2b, %%ecx\n\t"
        "mov %%ecx, %%ss\n\t"
        "8: cmpl $0, %c[avx](%%rdi)\n\t"
        "je 6f\n\t"
        "cmpl $0, %c[signalled](%%rdi)\n\t"
        "jne 7f\n\t"
        "mov $7, %%eax\n\t"
        "xor %%edx, %%edx\n\t"
        "xsave64 %c[fx](%%rdi)\n\t"
        "7: vzeroupper\n\t"
        "jmp 3f\n\t"
        "6: cmpl $0, %c[signalled](%%rdi)\n\t"
        "jne 3f\n\t"
        "fxsave64 %c[fx](%%rdi)\n\t"
        "3: fninit\n\t"
        "pushq $0x1f80\n\t"
        "ldmxcsr (%%rsp)\n\t"
        "add $8, %%rsp\n\t"
        "xor %%ecx, %%ecx\n\t"
        "cmpl $0, %c[legacy](%%rdi)\n\t"
        "je 4f\n\t"
        "mov %%ecx, %%ds\n\t"
        "mov %%ecx, %%es\n\t"
        "mov %%ecx, %%fs\n\t"
        "mov %%ecx, %%gs\n\t"
        "4: cmpl $0, %c[fsgsbase](%%rdi)\n\t"
        "je 5f\n\t"
        "rdfsbase %%rdx\n\t"
        "mov %%rdx, %c[fs_base](%%rdi)\n\t"
        "rdgsbase %%rdx\n\t"
        "mov %%rdx, %c[gs_base](%%rdi)\n\t"
        "mov %c[host_fs_base](%%rdi), %%rdx\n\t"
        "wrfsbase %%rdx\n\t"
        "wrgsbase %%rcx\n\t"
        "5: pop %%rbp\n\t"
        "lea 128(%%rsp), %%rsp"
        : "+D"(in_out)
        : AREA(back), AREA(host_rsp), AREA(fx), AREA(legacy), AREA(sel), AREA(fsgsbase), AREA(fs_base), AREA(gs_base),
          AREA(iret), AREA(signalled), AREA(avx), AREA(after), AREA(host_fs_base)
        : "rax", "rcx", "rdx", "rbx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc",
          "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
          "xmm13", "xmm14", "xmm15");
}

/* Writes the exit stub: 64-bit code that stores the registers in *area and goes to area->back. */
static void make_exit_stub(u8 *p)
{
    u64 to = (u64)(uintptr_t)area;
    *p++ = 0x48, *p++ = 0xa3;                          /* mov [area], rax */
    store64(p, to), p += 8;
    *p++ = 0x48, *p++ = 0xb8;                          /* mov rax, area */
    store64(p, to), p += 8;
    for (unsigned n = 1; n < 16; n++) {                /* mov [rax + 8n], r(n) */
        *p++ = (u8)(0x48 | (n & 8 ? 4 : 0)), *p++ = 0x89;
        *p++ = (u8)(0x40 | (n & 7) << 3), *p++ = (u8)(8 * n);
    }
    *p++ = 0x48, *p++ = 0x8b, *p++ = 0xa0;             /* mov rsp, [rax + host_rsp] */
    store32(p, offsetof(struct area, host_rsp)), p += 4;
    *p++ = 0x9c;                                       /* pushfq */
    *p++ = 0x8f, *p++ = 0x80;                          /* pop [rax + flags] */
    store32(p, offsetof(struct area, flags)), p += 4;
    *p++ = 0xff, *p++ = 0xa0;                          /* jmp [rax + back] */
    store32(p, offsetof(struct area, back));
}

/* ---- in the child ------------------------------------------------------------------------------------------------ */

/* glibc's names for the registers in a signal frame (which _GNU_SOURCE would define) are also those of cpu/state.h: by
 * number. */
static const u8 greg_of[16] = {13, 14, 12, 11, 15, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7};
enum {
    GREG_RIP = 16,
    GREG_EFL = 17,
    GREG_SELECTORS = 18 /* CS, GS, FS, SS */,
    GREG_ERR = 19,
    GREG_TRAPNO = 20,
    GREG_CR2 = 22
};

static struct { i32 exception; u32 error; u64 address, rip; u16 cs; } caught;

static void on_signal(int number, siginfo_t *info, void *context)
{
    /* The kernel leaves AC as it was. */
    __asm__ volatile("pushfq\n\tandl $0xfffbffff, (%%rsp)\n\tpopfq" ::: "memory", "cc");
    greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)number, (void)info;
    for (unsigned n = 0; n < 16; n++)
        area->r[n] = (u64)g[greg_of[n]];
    area->flags = (u64)g[GREG_EFL];
    /* The kernel's frame is an XSAVE image: the upper halves follow its header. */
    const u8 *image = (const u8 *)((ucontext_t *)context)->uc_mcontext.fpregs;
    memcpy(&area->fx, image, sizeof area->fx);
    if (area->avx)
        memcpy(area->ymm_high, image + sizeof area->fx + sizeof area->header, sizeof area->ymm_high);
    caught.exception = (i32)g[GREG_TRAPNO];
    caught.error = (u32)g[GREG_ERR];
    caught.address = (u64)g[GREG_CR2];
    caught.rip = (u64)g[GREG_RIP];
    caught.cs = (u16)(u64)g[GREG_SELECTORS];
    area->after[SEG_SS] = (u16)((u64)g[GREG_SELECTORS] >> 48);
    area->signalled = 1;
    g[GREG_RIP] = (greg_t)area->back;
    g[greg_of[REG_RSP]] = (greg_t)area->host_rsp;
    g[greg_of[REG_RAX]] = (greg_t)(uintptr_t)area;
    g[GREG_EFL] = 0x202;
    g[GREG_SELECTORS] = (greg_t)(0x33 | 0x2bull << 48);
}

static void run_vector(struct vector *v)
{
    static u32 last_code = CODE_OFF + PAGE;
    struct outcome *out = &v->native;
    u8 *region = bench->alias;
    memset(region + last_code, 0xcc, CODE_IMAGE);
    memcpy(region + v->code_off, v->code, CODE_IMAGE);
    last_code = v->code_off;
    windows_put(region, v->memory);

    const struct bench_segment *seg = bench->seg[v->bits];
    bool legacy = v->bits != BITS_64;
    u64 base = legacy ? seg[SEG_CS].base : 0, start = bench->region + vector_insn_off(v) - base;
    memcpy(area->r, v->before.r, sizeof area->r);
    area->fx = v->before.fx;
    memset(area->header, 0, sizeof area->header);
    area->header[0] = 7;
    memcpy(area->ymm_high, v->before.ymm_high, sizeof area->ymm_high);
    area->fs_base = v->before.fs_base;
    area->gs_base = v->before.gs_base;
    area->legacy = legacy;
    if (legacy) {
        static const u8 order[4] = {SEG_DS, SEG_ES, SEG_FS, SEG_GS};
        for (unsigned i = 0; i < 4; i++)
            area->sel[i] = seg[order[i]].selector;
    }
    area->iret[0] = start - vector_stack_load(v);
    area->iret[1] = legacy ? seg[SEG_CS].selector : 0x33;
    area->iret[2] = v->before.rflags | (v->single_step ? FL_TF : 0);
    area->iret[3] = v->before.r[REG_RSP];
    area->iret[4] = 0x2b;
    area->signalled = 0;

    enter();

    if (area->signalled) {
        bool stepped = v->single_step && caught.exception == EXC_DB;
        out->exception = stepped ? -1 : caught.exception;
        out->error = caught.error;
        out->address = caught.address;
        out->state.rip = caught.rip;
    } else {
        out->exception = -1;
        out->error = 0;
        out->address = 0;
        out->state.rip = start + v->length;
    }
    memcpy(out->state.r, area->r, sizeof area->r);
    out->state.rflags = area->flags & ~(u64)(v->single_step ? FL_TF : 0);
    out->state.fx = area->fx;
    memcpy(out->state.ymm_high, area->ymm_high, sizeof area->ymm_high);
    out->state.fs_base = area->fs_base;
    out->state.gs_base = area->gs_base;
    memcpy(out->state.selector, area->after, sizeof out->state.selector);
    out->state.selector[SEG_CS] = area->signalled ? caught.cs : (u16)area->iret[1];
    windows_get(region, out->memory);
    out->stray = windows_stray(bench, region);
    out->died = 0;
}

static NORETURN void child_main(int in, int out)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    static u8 stack[65536] __attribute__((aligned(16)));
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    static const int signals[] = {SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGBUS};
    sigaltstack(&alternate, NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(signals); i++)
        sigaction(signals[i], &action, NULL);
    area->fsgsbase = bench->fsgsbase;
    area->avx = bench->avx;
    if (bench->fsgsbase)
        __asm__ volatile("rdfsbase %0" : "=r"(area->host_fs_base));
    if (mprotect((void *)(uintptr_t)(bench->region + CODE_OFF), CODE_PAGES * PAGE, PROT_READ | PROT_EXEC) != 0)
        _exit(3);
    *(volatile u8 *)(uintptr_t)(bench->region + ALIAS_OFF);
    for (unsigned page = 1; page < 7; page++) /* present from now on: a fault says "protection" as Nestor's tables do */
        if (page != 3)
            *(volatile u8 *)(uintptr_t)(bench->region + page * PAGE);
    u32 range[2];
    while (read(in, range, sizeof range) == (ssize_t)sizeof range) {
        for (u32 i = range[0]; i < range[1]; i++) {
            shared->current = i;
            run_vector(&shared->vectors[i]);
        }
        shared->current = range[1];
        if (write(out, "", 1) != 1)
            break;
    }
    _exit(0);
}

/* ---- in the parent ----------------------------------------------------------------------------------------------- */

static void start_child(void)
{
    int down[2], up[2];
    if (pipe(down) != 0 || pipe(up) != 0) {
        perror("hostcpu: pipe");
        exit(2);
    }
    fflush(NULL);
    child = fork();
    if (child < 0) {
        perror("hostcpu: fork");
        exit(2);
    }
    if (child == 0) {
        close(down[1]);
        close(up[0]);
        child_main(down[0], up[1]);
    }
    close(down[0]);
    close(up[1]);
    to_child = down[1];
    from_child = up[0];
}

static void stop_child(void)
{
    if (child < 0)
        return;
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(to_child);
    close(from_child);
    child = -1;
}

struct vector *native_batch(void) { return shared->vectors; }

bool native_maps(u64 la)
{
    unsigned char resident;
    return !mincore((void *)(la & ~(u64)(PAGE - 1)), PAGE, &resident);
}

/* Waits until the child has run its batch. False if it died, or a vector does not come back: 20 seconds of its own time, or ten minutes
 * of ours, which a busy machine does not make of a batch. */
static bool batch_done(void)
{
    struct pollfd ready = {.fd = from_child, .events = POLLIN};
    clockid_t clock;
    struct timespec used;
    char byte;
    if (clock_getcpuclockid(child, &clock) != 0 || clock_gettime(clock, &used) != 0)
        return false;
    time_t limit = used.tv_sec + 20;
    for (unsigned seconds = 0; seconds < 600; seconds++) {
        int events = poll(&ready, 1, 1000);
        if (events > 0)
            return read(from_child, &byte, 1) == 1;
        if (events < 0 && errno != EINTR)
            return false;
        if (clock_gettime(clock, &used) != 0 || used.tv_sec > limit)
            return false;
    }
    return false;
}

void native_run(unsigned n)
{
    u32 range[2] = {0, n};
    while (range[0] < n) {
        if (child < 0)
            start_child();
        shared->current = range[0];
        if (write(to_child, range, sizeof range) == (ssize_t)sizeof range && batch_done())
            return;
        u32 culprit = shared->current;
        stop_child();
        memset(&shared->vectors[culprit].native, 0, sizeof shared->vectors[culprit].native);
        shared->vectors[culprit].native.died = 1;
        range[0] = culprit + 1;
    }
}

/* ---- what the host offers ---------------------------------------------------------------------------------------- */

static bool host_has(u32 leaf, u32 subleaf, char reg, unsigned bit)
{
    u32 a, b, c, d;
    if (!__get_cpuid_count(leaf, subleaf, &a, &b, &c, &d))
        return false;
    return (reg == 'A' ? a : reg == 'B' ? b : reg == 'C' ? c : d) >> bit & 1;
}

static void read_features(u32 *feature)
{
#define R_NONE 0
#define R_EAX 'A'
#define R_EBX 'B'
#define R_ECX 'C'
#define R_EDX 'D'
    static const struct { u32 leaf, subleaf; char reg; u8 bit; u16 number; } all[] = {
#define FEATURE(name, text, leaf, subleaf, reg, bit) {leaf, subleaf, reg, bit, FEATURE_##name},
#include "cpu/features.def"
#undef FEATURE
    };
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
        if (all[i].reg == R_NONE || host_has(all[i].leaf, all[i].subleaf, all[i].reg, all[i].bit))
            feature[all[i].number / 32] |= 1u << all[i].number % 32;
}

static u64 host_xcr0(void)
{
    u32 low, high;
    if (!host_has(1, 0, 'C', 27))
        return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low | (u64)high << 32;
}

/* Whether the kernel keeps YMM registers; where it does not, the host counts as one without. */
static void drop_avx(u32 *feature)
{
    static const u16 all[] = {FEATURE_AVX, FEATURE_AVX2, FEATURE_FMA, FEATURE_F16C, FEATURE_VAES, FEATURE_VPCLMULQDQ};
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
        feature[all[i] / 32] &= ~(1u << all[i] % 32);
}

/* Makes a segment of bench_segments() an entry of the LDT. */
static bool make_segment(const struct bench_segment *s)
{
    struct user_desc d = {.entry_number = s->selector >> 3,
                          .base_addr = s->base,
                          .limit = s->access & AR_G ? s->limit >> 12 : s->limit,
                          .seg_32bit = !!(s->access & AR_DB),
                          .contents = s->access >> 2 & 3,
                          .read_exec_only = !(s->access & 2),
                          .limit_in_pages = !!(s->access & AR_G),
                          .seg_not_present = !(s->access & AR_P)};
    return syscall(SYS_modify_ldt, 0x11, &d, sizeof d) == 0;
}

static void make_segments(struct bench *b)
{
    b->ldt = true;
    bench_segments(b);
    bool made = true;
    for (unsigned i = 0; i < b->entries; i++)
        made = made && (!b->entry[i].access || make_segment(&b->entry[i]));
    if (!made) {
        b->ldt = false;
        bench_segments(b);
    }
}

bool native_init(struct bench *b)
{
    bench = b;
    enum { SHARED = MAP_SHARED | MAP_ANONYMOUS, MAY_MOVE = 1, MUST_BE_THERE = 2 };
    area = mmap(NULL, sizeof *area, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, SHARED, -1, 0);
    void *low = mmap((void *)REGION, REGION_BYTES, PROT_READ | PROT_WRITE, SHARED | MAP_FIXED_NOREPLACE, -1, 0);
    if (low == MAP_FAILED)
        low = mmap(NULL, REGION_BYTES, PROT_READ | PROT_WRITE, SHARED | MAP_32BIT, -1, 0);
    if (area == MAP_FAILED || shared == MAP_FAILED || low == MAP_FAILED) {
        perror("hostcpu: mmap");
        return false;
    }
    /* The second, writable view of the same pages. */
    b->alias = (u8 *)syscall(SYS_mremap, low, 0, REGION_BYTES, MAY_MOVE, 0);
    if (b->alias == MAP_FAILED) {
        perror("hostcpu: mremap");
        return false;
    }
    b->region = (u64)(uintptr_t)low;
    if (b->region != REGION)
        fprintf(stderr, "hostcpu: the region is at %#llx: results of an index differ from other runs\n",
                (unsigned long long)b->region);
    b->exit_stub = b->region + CODE_OFF;
    memset(b->alias + CODE_OFF, 0xcc, CODE_PAGES * PAGE);
    make_exit_stub(b->alias + CODE_OFF);
    memcpy(b->alias + DATA_OFF, b->pattern, DATA_BYTES);
    void *twin = (u8 *)low + ALIAS_OFF;
    if (syscall(SYS_mremap, (u8 *)low + ALIAS_OF, 0, PAGE, MAY_MOVE | MUST_BE_THERE, twin) != (long)(uintptr_t)twin) {
        perror("hostcpu: mremap");
        return false;
    }
    u8 *at = low;
    if (mprotect(at, PAGE, PROT_NONE) != 0 || mprotect(at + 3 * PAGE, PAGE, PROT_NONE) != 0 ||
        mprotect(at + READONLY_OFF, PAGE, PROT_READ) != 0 || mprotect(at + DATA_END, PAGE, PROT_NONE) != 0) {
        perror("hostcpu: mprotect");
        return false;
    }
    b->fsgsbase = getauxval(AT_HWCAP2) & 2;
    read_features(b->feature);
    b->xcr0 = host_xcr0();
    b->avx = host_has(1, 0, 'C', 28) && (b->xcr0 & 6) == 6;
    if (!b->avx)
        drop_avx(b->feature);
    make_segments(b);
    return true;
}

#else

bool native_init(struct bench *bench)
{
    (void)bench;
    fprintf(stderr, "hostcpu: the host is no x86-64 Linux: nothing to compare with\n");
    return false;
}
struct vector *native_batch(void) { return NULL; }
void native_run(unsigned n) { (void)n; }
bool native_maps(u64 la) { (void)la; return false; }

#endif
