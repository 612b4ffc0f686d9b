/* One instruction, run twice from the same state: by Nestor (decoder and handler) and by the host CPU itself, where it
 * is an x86-64.
 *
 * The state is an FXSAVE image, five general registers, the flags and 64 bytes of memory that RDI points to: a memory
 * operand is encoded as [RDI] (ModRM.mod 0, rm 7). A host #MF or #XM arrives as SIGFPE and ends the run with `trapped`
 * set and the registers as they are.
 */
#ifndef NESTOR_TESTS_FPU_NATIVE_H
#define NESTOR_TESTS_FPU_NATIVE_H

#include <stdio.h>

#include "cpu/decode.h"
#include "cpu/features.h"
#include "cpu/flags.h"
#include "cpu/mode.h"
#include "cpu/table.h"
#include "cpu/x87.h"
#include "mmu/access.h"
#include "tests/rows.h"
#include "tests/suite.h"

#define ARENA 0x10000u         /* la of the memory operand in the emulated machine */

struct fx {
    u16 fcw, fsw;
    u8 ftw, pad;
    u16 fop;
    u64 fip, fdp;
    u32 mxcsr, mxcsr_mask;
    struct { u64 mantissa; u16 exponent; u16 pad[3]; } st[8];
    u64 xmm[16][2];
    u8 rest[96];
};

struct run {
    struct fx fx __attribute__((aligned(16)));
    u64 rax, rcx, rdx, rbx, rsi, flags;
    u8 memory[64] __attribute__((aligned(16)));
    u64 trapped;
};

static struct bus bus;
static struct cpu *cpu;

/* ---- random numbers, the same in every run ----------------------------------------------------------------------- */

static u64 random_state = 0x9e3779b97f4a7c15ull;
static inline u64 random64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 0x2545f4914f6cdd1dull;
}
static inline unsigned random_below(unsigned n) { return (unsigned)(random64() >> 33) % n; }

/* ---- the emulated machine ---------------------------------------------------------------------------------------- */

static inline void emulator_start(void)
{
    insn_table_init();
    ck_assert(bus_init(&bus, 1 << 20, 3ull << 30));
    cpu = calloc(1, sizeof *cpu);
    ck_assert_ptr_nonnull(cpu);
    cpu->bus = &bus;
    for (unsigned i = 0; i < FEATURE_WORDS; i++)
        cpu->feature[i] = ~0u;
    cpu->feature[FEATURE_AVX / 32] &= ~(1u << FEATURE_AVX % 32);
    ck_assert(tlb_init(cpu));
    cpu_reset(cpu, false);
    cpu->sys.cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_MP;
    cpu->sys.cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
    cpu_mode_update(cpu);
    cpu->mode.code_bits = BITS_64;      /* as far as handlers look at it */
}

static inline void emulator_stop(void)
{
    tlb_free(cpu);
    free(cpu);
    bus_free(&bus);
}

/* Runs the instruction in 64-bit code (paging is off: linear addresses are physical). */
static inline enum flow emulate(struct run *r, const u8 *code, unsigned length)
{
    struct cpu_fpu *f = &cpu->fpu;
    struct insn in;
    ck_assert_int_eq(insn_decode(cpu->feature, BITS_64, code, length, &in), DECODE_OK);
    ck_assert_msg(in.row != 0xffff && in.length == length, "bytes %02x %02x %02x %02x: length %u of %u", code[0],
                  code[1], length > 2 ? code[2] : 0, length > 3 ? code[3] : 0, in.length, length);
    f->fcw = r->fx.fcw;
    f->fsw = r->fx.fsw;
    f->ftw_full = 0;
    unsigned top = f->fsw >> 11 & 7;
    for (unsigned n = 0; n < 8; n++) {
        f->ftw_full |= (u16)((r->fx.ftw >> n & 1 ? 0 : 3) << (2 * n));
        f->st[(top + n) & 7].mantissa = r->fx.st[n].mantissa;
        f->st[(top + n) & 7].exponent = r->fx.st[n].exponent;
    }
    x87_update_summary(cpu);
    f->mxcsr = r->fx.mxcsr;
    for (unsigned n = 0; n < 16; n++)
        memcpy(f->v[n], r->fx.xmm[n], 16);
    cpu->core.rax = r->rax, cpu->core.rcx = r->rcx, cpu->core.rdx = r->rdx, cpu->core.rbx = r->rbx,
    cpu->core.rsi = r->rsi;
    cpu->core.rdi = ARENA;
    cpu_set_rflags(cpu, r->flags);
    memcpy(bus.ram + ARENA, r->memory, sizeof r->memory);
    cpu->event.valid = 0;
    cpu->event.attention = 0;

    rows_note(in.row);
    enum flow flow = in.handler(cpu, &in);

    r->trapped = flow == FLOW_EVENT && (cpu->event.vector == EXC_MF || cpu->event.vector == EXC_XM);
    r->fx.fcw = f->fcw;
    r->fx.fsw = f->fsw;
    r->fx.ftw = 0;
    top = f->fsw >> 11 & 7;
    for (unsigned n = 0; n < 8; n++) {
        r->fx.ftw |= (u8)(((f->ftw_full >> (2 * n) & 3) != 3) << n);
        r->fx.st[n].mantissa = f->st[(top + n) & 7].mantissa;
        r->fx.st[n].exponent = f->st[(top + n) & 7].exponent;
    }
    r->fx.mxcsr = f->mxcsr;
    for (unsigned n = 0; n < 16; n++)
        memcpy(r->fx.xmm[n], f->v[n], 16);
    r->rax = cpu->core.rax, r->rcx = cpu->core.rcx, r->rdx = cpu->core.rdx, r->rbx = cpu->core.rbx,
    r->rsi = cpu->core.rsi;
    r->flags = cpu_rflags(cpu) & FL_STATUS;
    memcpy(r->memory, bus.ram + ARENA, sizeof r->memory);
    return flow;
}

/* ---- the host ---------------------------------------------------------------------------------------------------- */

#if defined(__x86_64__) && defined(__linux__)
#define NATIVE 1
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#define GREG_RIP 16            /* glibc's REG_RIP, a name that cpu/state.h has taken */

static u8 *native_page;
static volatile u64 native_trapped;

static void native_signal(int number, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    (void)info;
    if ((u8 *)u->uc_mcontext.gregs[GREG_RIP] < native_page ||
        (u8 *)u->uc_mcontext.gregs[GREG_RIP] >= native_page + 4096) {
        signal(number, SIG_DFL);
        return;
    }
    native_trapped = (u64)number;
    u->uc_mcontext.gregs[GREG_RIP] = (greg_t)(native_page + 64);   /* where every run ends */
}

static inline void native_start(void)
{
    struct sigaction action = {.sa_sigaction = native_signal, .sa_flags = SA_SIGINFO};
    native_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(native_page, MAP_FAILED);
    memset(native_page, 0x90, 4096);
    native_page[64] = 0xc3;
    sigaction(SIGFPE, &action, NULL);
    sigaction(SIGILL, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
}

static inline void native_run(struct run *r, const u8 *code, unsigned length)
{
    static struct fx host __attribute__((aligned(16)));
    memset(native_page, 0x90, 64);
    memcpy(native_page, code, length);
    native_trapped = 0;
    void *a = native_page, *c = &host, *d = r;
    __asm__ volatile("push %%rbp\n\t"
                     "mov %%rcx, %%r13\n\t"
                     "fxsave64 (%%r13)\n\t"
                     "fninit\n\t"
                     "mov %%rax, %%r14\n\t"
                     "mov %%rdx, %%r15\n\t"
                     "fxrstor64 (%%r15)\n\t"
                     "mov 512(%%r15), %%rax\n\t"
                     "mov 520(%%r15), %%rcx\n\t"
                     "mov 528(%%r15), %%rdx\n\t"
                     "mov 536(%%r15), %%rbx\n\t"
                     "mov 544(%%r15), %%rsi\n\t"
                     "lea 560(%%r15), %%rdi\n\t"
                     "mov %%rsp, %%r12\n\t"
                     "and $-64, %%rsp\n\t"
                     "pushq 552(%%r15)\n\t"
                     "popfq\n\t"
                     "call *%%r14\n\t"
                     "fxsave64 (%%r15)\n\t"
                     "pushfq\n\t"
                     "popq 552(%%r15)\n\t"
                     "mov %%r12, %%rsp\n\t"
                     "mov %%rax, 512(%%r15)\n\t"
                     "mov %%rcx, 520(%%r15)\n\t"
                     "mov %%rdx, 528(%%r15)\n\t"
                     "mov %%rbx, 536(%%r15)\n\t"
                     "mov %%rsi, 544(%%r15)\n\t"
                     "fninit\n\t"
                     "fxrstor64 (%%r13)\n\t"
                     "pop %%rbp\n\t"
                     : "+a"(a), "+c"(c), "+d"(d)
                     :
                     : "rbx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
    r->trapped = native_trapped;
    r->fx.mxcsr &= 0xffff;
    r->flags &= FL_STATUS;
}
#else
#define NATIVE 0
#endif

/* ---- comparison -------------------------------------------------------------------------------------------------- */

struct tolerance {
    u16 fsw;                   /* status-word bits left undefined */
    u32 flags;                 /* RFLAGS bits left undefined */
    bool pointers;
};

/* Fails the test, with both states, when they differ. */
static inline bool same_state(const struct run *a, const struct run *b, struct tolerance t)
{
    return a->trapped == b->trapped && a->fx.fcw == b->fx.fcw && !((a->fx.fsw ^ b->fx.fsw) & ~t.fsw) &&
           a->fx.ftw == b->fx.ftw && a->fx.mxcsr == b->fx.mxcsr && memcmp(a->fx.st, b->fx.st, sizeof a->fx.st) == 0 &&
           memcmp(a->fx.xmm, b->fx.xmm, sizeof a->fx.xmm) == 0 && a->rax == b->rax && a->rcx == b->rcx &&
           a->rdx == b->rdx && a->rbx == b->rbx && a->rsi == b->rsi && !((a->flags ^ b->flags) & ~t.flags) &&
           memcmp(a->memory, b->memory, sizeof a->memory) == 0;
}

static inline void show_state(const char *who, const struct run *r)
{
    printf("%-8s fcw %04x fsw %04x ftw %02x mxcsr %04x flags %03llx trapped %llu rax %016llx rcx %016llx rdx %016llx "
           "rbx %016llx\n",
           who, r->fx.fcw, r->fx.fsw, r->fx.ftw, r->fx.mxcsr, (unsigned long long)r->flags,
           (unsigned long long)r->trapped, (unsigned long long)r->rax, (unsigned long long)r->rcx,
           (unsigned long long)r->rdx, (unsigned long long)r->rbx);
    for (unsigned n = 0; n < 3; n++)
        printf("         st%u %04x %016llx", n, r->fx.st[n].exponent, (unsigned long long)r->fx.st[n].mantissa);
    printf("   st7 %04x %016llx\n", r->fx.st[7].exponent, (unsigned long long)r->fx.st[7].mantissa);
    for (unsigned n = 0; n < 3; n++)
        printf("         xmm%u %016llx %016llx", n, (unsigned long long)r->fx.xmm[n][1],
               (unsigned long long)r->fx.xmm[n][0]);
    printf("\n         memory");
    for (unsigned n = 0; n < 16; n++)
        printf(" %02x", r->memory[n]);
    printf("\n");
}

/* ---- main() ------------------------------------------------------------------------------------------------------ */

/* main() of a suite out of a list of tests, run in one process; `setup` and `teardown` may be NULL. */
static inline int native_run_suite(const char *name, const TTest *const *tests, size_t count, void (*setup)(void),
                                   void (*teardown)(void))
{
    return suite_run_tests(name, tests, count, setup, teardown, CK_NOFORK);
}

#endif
