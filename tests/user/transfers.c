/* What user-mode code can do to segments, flags, traps and far transfers, and what comes of it: one line a case.
 *
 * The program runs as a process of Linux on any x86-64 processor, or as /init on the emulator, at any level. Each case is a few instructions; its
 * line says what registers and flags they left, or which exception they raised with which error code, at which offset, with which flags. Lines say
 * nothing that depends on where the linker put things. transfers.expected holds the lines as they have to be; it agrees with real
 * hardware, but for lines that begin with '~', where AMD's and Intel's processors (or KVM) differ and Intel's way was written down by hand.
 *
 * Build with -static -no-pie (cases are 32-bit code too, and have absolute addresses) and -mno-red-zone (the handler pushes).
 */
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <asm/prctl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

/* Shared with the assembly below, which names them without RIP. */
u64 saved_rsp, arg, arg2, out[12];
unsigned char buf[8192] __attribute__((aligned(4096)));
unsigned char stk[65536] __attribute__((aligned(4096)));
struct { u32 off; u16 sel; } __attribute__((packed)) far_pointer;
extern char recover[], done64[];
void run_case(const char *code);

/* Known registers, then the case; cases end at done64, faulting ones at recover. */
__asm__(".text\n.globl run_case\n.type run_case, @function\nrun_case:\n"
        " push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        " mov %rsp, saved_rsp; mov %rdi, %r15; lea stk+60000, %rsp\n"
        " mov $0x1111, %eax; mov $0x2222, %ebx; mov $0x3333, %ecx; mov $0x4444, %edx\n"
        " lea buf+256, %rsi; lea buf+1024, %rdi; lea buf+2048, %ebp; xor %r10d, %r10d; jmp *%r15\n"
        ".globl done64\ndone64:\n mov %rax, out; mov %rbx, out+8; mov %rcx, out+16; mov %rdx, out+24; mov %rsp, out+72\n"
        " mov saved_rsp, %rsp; pushfq; pop %rax; mov %rax, out+32\n"
        " mov %ss, %eax; mov %rax, out+40; mov %ds, %eax; mov %rax, out+48; mov %es, %eax; mov %rax, out+56; mov %gs, %eax; mov %rax, out+64\n"
        ".globl recover\nrecover:\n mov $0x2b, %eax; mov %eax, %ss; xor %eax, %eax; mov %eax, %ds; mov %eax, %es; mov %eax, %gs\n"
        " mov saved_rsp, %rsp; push $0x202; popfq\n"
        " pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n");

/* ---- running and reporting a case -------------------------------------------------------------------------------- */

static volatile int caught;
static greg_t at[NGREG];
static int stepping, steps;
static const char *low, *high;          /* the case's code */
static u64 step_rip[64];
static unsigned char signal_stack[65536];

static void on_signal(int number, siginfo_t *info, void *context)
{
    greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)info;
    /* The kernel leaves AC and the segment registers as the case had them. */
    __asm__ volatile("pushfq; andl $~0x40000, (%%rsp); popfq; mov %0, %%ds; mov %0, %%es" : : "r"(0) : "cc", "memory");
    if (number == SIGTRAP && stepping) {
        if (steps < 64)
            step_rip[steps++] = (u64)g[REG_RIP];
        if ((char *)g[REG_RIP] < low || (char *)g[REG_RIP] >= high)
            g[REG_EFL] &= ~0x100;
        if (steps < 64)
            return;
    }
    caught = number;
    memcpy(at, g, sizeof(at));
    g[REG_RIP] = (greg_t)recover;
    g[REG_RSP] = (greg_t)saved_rsp;
    g[REG_EFL] = 0x202;
    g[REG_CSGSFS] = (g[REG_CSGSFS] & 0x0000ffffffff0000ll) | 0x33 | 0x2bll << 48;
}

/* A value, or only that it is an address in this program. */
static const char *value(u64 v)
{
    static char text[8][24];
    static unsigned n;
    char *t = text[n++ % 8];
    if (v >= 0x400000 && v < 0x10000000)
        snprintf(t, 24, "address");
    else
        snprintf(t, 24, "%lx", v);
    return t;
}

static const char *place(u64 rip)
{
    static char text[24];
    if ((char *)rip >= low && (char *)rip <= high)
        snprintf(text, sizeof(text), "+%ld", (long)((char *)rip - low));
    else
        snprintf(text, sizeof(text), "%s", value(rip));
    return text;
}

static const char *stack(u64 rsp)
{
    static char text[24];
    long delta = (long)(rsp - (u64)(stk + 60000));
    if (delta > -8192 && delta < 5536)
        snprintf(text, sizeof(text), "%+ld", delta);
    else
        snprintf(text, sizeof(text), "%s", value(rsp));
    return text;
}

static void run(const char *name, const char *lo, const char *hi, int brief)
{
    u64 fs_base;
    syscall(SYS_arch_prctl, ARCH_GET_FS, &fs_base);
    caught = steps = 0;
    low = lo;
    high = hi;
    memset(out, 0, sizeof(out));
    run_case(lo);
    syscall(SYS_arch_prctl, ARCH_SET_FS, fs_base);
    printf("%s:", name);
    if (caught) {
        printf(" vector %d error %x rip %s", (int)at[REG_TRAPNO], (int)at[REG_ERR], place((u64)at[REG_RIP]));
        if (!brief)
            printf(" flags %x cs %x ss %x rsp %s", (int)at[REG_EFL], (int)(at[REG_CSGSFS] & 0xffff), (int)((u64)at[REG_CSGSFS] >> 48),
                   stack((u64)at[REG_RSP]));
        if (at[REG_TRAPNO] == 14)
            printf(" cr2 %s", value((u64)at[REG_CR2]));
    } else if (brief) {
        printf(" ok %s", value(out[1]));
    } else {
        printf(" ok a %s b %s c %s d %s flags %lx ss %lx ds %lx es %lx gs %lx rsp %s", value(out[0]), value(out[1]), value(out[2]), value(out[3]),
               out[4], out[5], out[6], out[7], out[8], stack(out[9]));
    }
    for (int i = 0; stepping && i < steps; i++)
        printf("%s %s", i ? "" : " steps", place(step_rip[i]));
    printf("\n");
}

#define CASE(name, code)                                                                                               \
    extern const char s_##name[], e_##name[];                                                                          \
    __asm__(".text\n.globl s_" #name ", e_" #name "\ns_" #name ":\n" code "\n jmp done64\ne_" #name ":\n");
/* 32-bit code, with DS and ES usable. */
#define CASE32(name, code)                                                                                             \
    extern const char s_##name[], e_##name[];                                                                          \
    __asm__(".text\n.globl s_" #name ", e_" #name "\ns_" #name ":\n ljmp *7f(%rip)\n7: .long 8f\n .word 0x23\n.code32\n8:"  \
            " push $0x2b; pop %ds; push $0x2b; pop %es\n" code "\n ljmp $0x33, $done64\n.code64\ne_" #name ":\n");
#define RUN(name) run(#name, s_##name, e_##name, 0);
/* Processors differ. */
#define RUN_OTHER(name) run("~" #name, s_##name, e_##name, 0);

/* ---- the cases ---------------------------------------------------------------------------------------------------- */

/* Software interrupts and undefined instructions. */
#define INTERRUPTS(X)                                                                                                  \
    X(nop, "nop") X(int3, "int3") X(int_3, "int $3") X(int_4, "int $4") X(int_1, "int $1") X(int_d, "int $0xd") X(int_e, "int $0xe")     \
    X(int_20, "int $0x20") X(int_ff, "int $0xff") X(int_2, "int $2") X(int_8, "int $8") X(ud2, "ud2") X(ud0, ".byte 0x0f,0xff,0xc0")    \
    X(ud1, ".byte 0x0f,0xb9,0xc0") X(div_zero, "xor %ecx,%ecx; xor %edx,%edx; div %ecx")                               \
    X(div_overflow, "mov $-1,%edx; mov $1,%ecx; div %ecx") X(lock_register, "lock; .byte 0x8b,0xc0")                   \
    X(too_long, ".fill 15,1,0x66; nop") X(push_es_64, ".byte 0x06") X(into_64, ".byte 0xce") X(bound_64, ".byte 0x62,0x06")

#define PRIVILEGED(X)                                                                                                  \
    X(hlt, "hlt") X(cli, "cli") X(sti, "sti") X(in, "in $0x80,%al") X(out, "out %al,$0x80") X(insb, "insb") X(rdmsr, "rdmsr")           \
    X(lgdt, "lgdt buf") X(lldt, "lldt %ax") X(ltr, "ltr %ax") X(clts, "clts") X(mov_cr, "mov %cr0,%rax") X(mov_dr, "mov %dr0,%rax")     \
    X(invd, "invd") X(swapgs, "swapgs") X(sysret, "sysretq") X(sysexit, "sysexitl") X(lmsw, "lmsw %ax") X(invlpg, "invlpg (%rax)")      \
    X(xsetbv, "xor %ecx,%ecx; xsetbv")

#define IRET_FRAME(flags, cs) "mov %rsp,%rax; push $0x2b; push %rax; " flags "; push $" cs "; lea 1f,%rcx; push %rcx; iretq; ud2; "
#define FLAGS_AND_RETURNS(X)                                                                                           \
    X(iret_same, IRET_FRAME("push $0xed7", "0x33") "1: pushfq; pop %rax; cld")                                         \
    X(iret_all_flags, IRET_FRAME("mov $0x3f7ed7,%rcx; push %rcx", "0x33") "1: pushfq; pop %rax; cld; and $~0x40000,%rax; push %rax; popfq") \
    X(iret_nt, "pushfq; orl $0x4000,(%rsp); popfq; " IRET_FRAME("push $0x202", "0x33") "1: nop")                       \
    X(iret_bad_cs, "push $0x2b; push $0; push $0x202; push $0x10; push $0; iretq")                                     \
    X(iret_not_canonical, "mov %rsp,%rax; push $0x2b; push %rax; push $0x202; push $0x33; mov $1<<63,%rcx; push %rcx; iretq")           \
    X(iretd, "mov %esp,%eax; sub $20,%rsp; movl $1f,(%rsp); movl $0x33,4(%rsp); movl $0x8d7,8(%rsp); mov %eax,12(%rsp); movl $0x2b,16(%rsp);" \
             " iretl; 1: pushfq; pop %rax")                                                                            \
    X(iretw, "mov %esp,%eax; sub $10,%rsp; movw $1,(%rsp); movw $0x33,2(%rsp); movw $0x202,4(%rsp); movw $0x100,6(%rsp); movw $0x2b,8(%rsp);"  \
             " .byte 0x66,0xcf")                                                                                       \
    X(iret_compat, IRET_FRAME("push $0x202", "0x23") "\n.code32\n1: mov $0x5555,%eax; mov %cs,%ebx; ljmp $0x33,$2f\n.code64\n2:")  \
    X(lret_null, "push $0; push $0; lretq")                                                                            \
    X(lret_compat, "push $0x23; lea 1f,%rcx; push %rcx; lretq\n.code32\n1: mov %cs,%ebx; ljmp $0x33,$2f\n.code64\n2:") \
    X(lret_imm, "sub $0x40,%rsp; push $0x33; lea 1f,%rcx; push %rcx; lretq $0x40; 1: mov %cs,%ebx")         \
    X(lretw, "sub $4,%rsp; movw $0x10,(%rsp); movw $0x33,2(%rsp); lretw")                                              \
    X(popf_trap, "push $-1; popfq; pushfq; pop %rax; push $0x202; popfq")                                              \
    X(popfw_trap, "pushw $-1; popfw; pushfq; pop %rax; push $0x202; popfq") X(popf_zero, "push $0; popfq; pushfq; pop %rax")            \
    X(popf_all, "mov $0xfffffffffffbfeff,%rax; push %rax; popfq; pushfq; pop %rax; push $0x202; popfq")                \
    X(pushfw, "std; pushfw; mov (%rsp),%ax; add $2,%rsp; cld")                                                         \
    X(syscall, "mov $39,%eax; syscall; 1: xor %eax,%eax; sub $1b,%rcx; and $0xfff,%r11; mov %r11,%rbx")

#define SEGMENT_LOADS(X)                                                                                               \
    X(ss_null, "xor %eax,%eax; mov %eax,%ss") X(ss_3, "mov $3,%eax; mov %eax,%ss") X(ss_2b, "mov $0x2b,%eax; mov %eax,%ss; mov %ss,%ebx") \
    X(ss_28, "mov $0x28,%eax; mov %eax,%ss") X(ss_code, "mov $0x33,%eax; mov %eax,%ss") X(mov_cs, ".byte 0x8e,0xc8")   \
    X(mov_seg6, ".byte 0x8e,0xf0") X(mov_from_seg7, ".byte 0x8c,0xf8") X(ds_code, "mov $0x33,%eax; mov %eax,%ds; mov %ds,%ebx")         \
    X(ds_1, "mov $1,%eax; mov %eax,%ds; mov %ds,%ebx") X(fs_memory, "movw $0x2b,buf; mov buf,%fs; mov %fs,%ebx; xor %eax,%eax; mov %eax,%fs") \
    X(pop_fs, "push $0x2b; pop %fs; mov %fs,%ebx; push $0; pop %fs") X(popw_fs, "pushw $0x2b; popw %fs; mov %fs,%ebx; pushw $0; popw %fs") \
    X(push_fs, "push %fs; pop %rbx; pushw %gs; popw %cx") X(lss_null, "movl $1,buf; movw $0,buf+4; lss buf,%eax")      \
    X(lss_2b, "movl $1,buf; movw $0x2b,buf+4; lss buf,%ebx") X(lfs_64, "movq $0x12345,buf; movw $0x2b,buf+8; .byte 0x48; lfs buf,%ebx; push $0; pop %fs") \
    X(lgs_16, "movw $0x1234,buf; movw $0x2b,buf+2; lgsw buf,%bx; mov %gs,%ecx") X(lgs_bad, "movl $0x1234,buf; movw $0x10,buf+4; lgs buf,%ebx")

#define FAR_JUMPS(X)                                                                                                   \
    X(jmp_far, "movl $1f,buf; movw $0x33,buf+4; ljmp *buf; ud2; 1: nop") X(jmp_far_ring0, "movl $1f,buf; movw $0x10,buf+4; ljmp *buf; 1: nop") \
    X(jmp_far_null, "movq $0,buf; ljmp *buf") X(jmp_far_tss, "movl $1f,buf; movw $0x40,buf+4; ljmp *buf; 1: nop")      \
    X(call_far, "movl $1f,buf; movw $0x33,buf+4; lcall *buf; ud2; 1: pop %rax; sub $1b,%eax")                          \
    X(call_far_data, "movl $1f,buf; movw $0x2b,buf+4; lcall *buf; 1: nop") X(call_far_16, "movw $0x10,buf; movw $0x33,buf+2; lcallw *buf")

#define NC "mov $1<<63,%rax; "
#define FAULTS(X)                                                                                                      \
    X(nc_read, NC "mov (%rax),%rbx") X(nc_push, NC "mov %rax,%rsp; push %rbx") X(nc_rbp, NC "mov %rax,%rbp; mov (%rbp),%rbx")          \
    X(nc_jmp, NC "jmp *%rax") X(nc_call, NC "call *%rax") X(nc_ret, NC "push %rax; ret") X(nc_int80, NC "mov %rax,%rsp; mov $20,%eax; int $0x80; xor %eax,%eax") \
    X(nc_pop, NC "mov %rax,%rsp; pop %rax") X(nc_stack_read, NC "mov %rax,%rsp; mov 8(%rsp),%rax") X(nc_leave, NC "mov %rax,%rbp; leave")  \
    X(nc_enter, NC "mov %rax,%rsp; enter $8,$0") X(nc_fs, NC "mov %fs:(%rax),%rbx") X(nc_after_stack, NC "push %rbx; pop %rbx; mov 8(%rsp),%rbx; mov (%rax),%rbx") \
    X(nc_edge, "mov $0x7ffffffffffc,%rax; mov (%rax),%rbx") X(pf_read, "xor %eax,%eax; mov (%rax),%rbx") X(pf_write, "movl $1,s_nop") \
    X(pf_update, "lock incl s_nop") X(pf_execute, "lea buf,%rax; jmp *%rax") X(pf_execute_0, "xor %eax,%eax; jmp *%rax")               \
    X(ac, "pushfq; orl $0x40000,(%rsp); popfq; mov buf+1,%eax") X(ac_stack, "pushfq; orl $0x40000,(%rsp); popfq; dec %rsp; push %rax")  \
    X(ac_aligned, "pushfq; orl $0x40000,(%rsp); popfq; mov buf+4,%eax; mov buf+1,%al; pushfq; andl $~0x40000,(%rsp); popfq")

#define TF_ON "pushfq; orl $0x100,(%rsp); popfq; "
#define TF_OFF "pushfq; andl $~0x100,(%rsp); popfq; nop"
#define STEPS(X)                                                                                                       \
    X(tf_plain, TF_ON "nop; nop; inc %eax; " TF_OFF) X(tf_mov_ss, TF_ON "nop; mov %ss,%eax; mov %eax,%ss; nop; nop; " TF_OFF)           \
    X(tf_rep, TF_ON "mov $3,%ecx; rep movsb; nop; " TF_OFF) X(tf_rep_none, TF_ON "mov $0,%ecx; rep movsb; nop; " TF_OFF)               \
    X(tf_repe, TF_ON "mov $5,%ecx; movb $1,(%rdi); repe cmpsb; nop; " TF_OFF)                                          \
    X(tf_syscall, TF_ON "mov $39,%eax; syscall; mov $0,%eax; mov $0,%ecx; " TF_OFF) X(tf_int80, TF_ON "mov $20,%eax; int $0x80; mov $0,%eax; " TF_OFF) \
    X(tf_iret, TF_ON IRET_FRAME("pushfq", "0x33") "1: nop; " TF_OFF) X(tf_iret_off, TF_ON IRET_FRAME("push $0x202", "0x33") "1: nop; nop")  \
    X(tf_iret_on, IRET_FRAME("push $0x302", "0x33") "1: nop; nop; " TF_OFF)                                            \
    X(tf_branches, TF_ON "jmp 1f; nop; 1: call 2f; 2: pop %rax; jc 3f; 3: jnc 4f; nop; 4: loop 5f; 5: " TF_OFF)        \
    X(tf_cpuid, TF_ON "mov $0x40000fff,%eax; cpuid; xor %eax,%eax; xor %ebx,%ebx; xor %ecx,%ecx; xor %edx,%edx; " TF_OFF)              \
    X(tf_lret, TF_ON "push $0x33; lea 1f,%rcx; push %rcx; lretq; 1: nop; " TF_OFF) X(tf_enter, TF_ON "enter $8,$2; leave; " TF_OFF)    \
    X(tf_fault, TF_ON "nop; ud2")

#define COMPAT(X)                                                                                                      \
    X(c_int80, "mov $20,%eax; int $0x80; xor %eax,%eax") X(c_into, "mov $0x7fffffff,%eax; inc %eax; into; nop") X(c_into_not, "xor %eax,%eax; into") \
    X(c_bound, "movl $1,buf; movl $5,buf+4; mov $5,%eax; bound %eax,buf") X(c_bound_bad, "movl $1,buf; movl $5,buf+4; mov $6,%eax; bound %eax,buf") \
    X(c_bound_16, "movw $-3,buf; movw $5,buf+2; mov $0xfffe,%eax; bound %ax,buf") X(c_arpl, "mov $0x13,%eax; mov $2,%ebx; arpl %bx,%ax; mov $0x10,%ecx; arpl %bx,%cx") \
    X(c_push_segments, "push %es; pop %eax; push %cs; pop %ebx; push %ss; pop %ecx; push %ds; pop %edx")               \
    X(c_pushw_ss, "mov $0x12345678,%eax; push %eax; pushw %ss; pop %bx; pop %eax") X(c_pop_segments, "push $0x2b; pop %ds; push $0x33; pop %es; mov %es,%eax; push $0x2b; pop %es") \
    X(c_les_lds, "movl $0x77,buf; movw $0x2b,buf+4; les buf,%eax; movw $0x33,buf+4; lds buf,%ebx; mov %ds,%ecx")       \
    X(c_les_bad, "movl $0x77,buf; movw $8,buf+4; les buf,%eax") X(c_jmp_far, "ljmp $0x23,$1f; ud2; 1: mov %cs,%eax")   \
    X(c_call_far, "lcall $0x23,$1f; jmp 2f; 1: mov 4(%esp),%eax; lret; 2: nop") X(c_call_far_16, "movw $0x10,buf; movw $0x23,buf+2; lcallw *buf") \
    X(c_iret, "pushf; push %cs; push $1f; iret; ud2; 1: mov %cs,%eax") X(c_iret_flags, "push $0x3e7cd7; push %cs; push $1f; iret; ud2; 1: pushf; pop %eax; cld; push $0x202; popf") \
    X(c_iret_vm, "push $0x20202; push %cs; push $1f; iret; ud2; 1: pushf; pop %eax") X(c_iretw, "pushfw; pushw %cs; pushw $0x10; iretw") \
    X(c_popf, "push $0xfffbfeff; popf; pushf; pop %eax; push $0x202; popf") X(c_cli, "cli") X(c_null_ds, "xor %eax,%eax; mov %eax,%ds; mov buf,%eax") \
    X(c_null_es, "xor %eax,%eax; mov %eax,%es; mov %es:buf,%eax") X(c_null_ss, "xor %eax,%eax; mov %eax,%ss") X(c_write_cs, "movl $1,%cs:buf") \
    X(c_stack_end, "xor %esp,%esp; push %eax") X(c_lar, "mov $0x2b,%eax; lar %eax,%ebx; lsl %eax,%ecx; mov $0x40,%eax; lar %eax,%edx; mov $0,%eax; setz %al") \
    X(c_to_64, "ljmp $0x33,$1f\n.code64\n1: mov %cs,%eax; ljmp *2f; 2: .long 3f; .word 0x23\n.code32\n3: nop")         \
    X(c_aam_zero, "mov $5,%eax; aam $0") X(c_pop_ss, "push %ss; pop %ss; nop")

/* The LDT's segments: 7 data of 4 KiB at buf, 0f expand-down above 0x1fff, 1f not present, 27 read-only, 37 execute-only code, 3f data at buf + 0x200. */
#define LOCAL_SEGMENTS(X)                                                                                              \
    X(l_inside, "mov $7,%eax; mov %eax,%es; mov %es:0xffc,%ebx") X(l_outside, "mov $7,%eax; mov %eax,%es; mov %es:0xffd,%ebx")          \
    X(l_write_outside, "mov $7,%eax; mov %eax,%es; mov %ebx,%es:0x1000") X(l_string, "mov $7,%eax; mov %eax,%es; mov $0xffe,%edi; mov $5,%ecx; rep stosb") \
    X(l_down_inside, "mov $15,%eax; mov %eax,%es; mov %es:0x2000,%ebx") X(l_down_outside, "mov $15,%eax; mov %eax,%es; mov %es:0x1fff,%ebx") \
    X(l_not_present, "mov $0x1f,%eax; mov %eax,%es") X(l_not_present_ss, "mov $0x1f,%eax; mov %eax,%ss")               \
    X(l_read_only, "mov $0x27,%eax; mov %eax,%es; mov %es:0x800,%ebx") X(l_read_only_write, "mov $0x27,%eax; mov %eax,%es; mov %ebx,%es:0") \
    X(l_read_only_ss, "mov $0x27,%eax; mov %eax,%ss") X(l_code_not_present, "ljmp $0x1f,$0") X(l_code_is_data, "ljmp $7,$0")            \
    X(l_execute_only, "lcall $0x37,$1f; jmp 2f; 1: mov %cs:s_nop,%eax; lret; 2: nop") X(l_execute_only_ds, "mov $0x37,%eax; mov %eax,%ds") \
    X(l_base, "mov $0x3f,%eax; mov %eax,%gs; mov %gs:4,%ebx; xor %eax,%eax; mov %eax,%gs")                             \
    X(l_stack_down, "mov %esp,%ebx; mov $15,%eax; mov %eax,%ss; mov $0x2002,%esp; push %ebx")                          \
    X(l_stack_outside, "mov %esp,%ebx; mov $7,%eax; mov %eax,%ss; mov $0x1000,%esp; mov (%esp),%eax")                  \
    X(l_stack_inside, "mov %esp,%ebx; mov $7,%eax; mov %eax,%ss; mov $0x1000,%esp; push %ebx; pop %ecx; mov $0x2b,%eax; mov %eax,%ss; mov %ebx,%esp") \
    X(l_stack_bottom, "mov %esp,%ebx; mov $7,%eax; mov %eax,%ss; mov $0,%esp; push %ebx")

INTERRUPTS(CASE) PRIVILEGED(CASE) FLAGS_AND_RETURNS(CASE) SEGMENT_LOADS(CASE) FAR_JUMPS(CASE) FAULTS(CASE) STEPS(CASE)
COMPAT(CASE32) LOCAL_SEGMENTS(CASE32)
/* INT1 is reported before itself by some hypervisors; the others differ between AMD and Intel. */
CASE(int1, ".byte 0xf1")
CASE(call_far_64, "movq $1f,buf; movw $0x33,buf+8; .byte 0x48; lcall *buf; ud2; 1: pop %rax; pop %rbx; sub $1b,%eax")
CASE(tf_mov_ss_twice, TF_ON "mov %ss,%eax; mov %eax,%ss; mov %eax,%ss; nop; nop; " TF_OFF)
CASE32(c_syscall, "mov %esp,%ebp; syscall")
CASE32(c_sysret, "sysret")
/* With a selector in `arg` (and one for SS in arg2). */
CASE(sel_jmp, "movl $1f,far_pointer; mov arg,%eax; mov %ax,far_pointer+4; ljmp *far_pointer; 1: nop")
CASE(sel_ds, "mov arg,%eax; mov %eax,%ds; mov %ds,%ebx")
CASE(sel_ss, "mov arg,%eax; mov %eax,%ss; mov %ss,%ebx")
CASE(sel_lar, "mov arg,%eax; mov $0xdead,%ebx; lar %eax,%ebx; mov $0xdead,%ecx; lsl %eax,%ecx; verr %ax; setz %dl; verw %ax; setz %dh; lar %eax,%eax;"
              " mov $0,%eax; setz %al")
CASE(sel_iret, "mov %rsp,%rax; push arg2; push %rax; push $0x202; push arg; lea 1f,%rcx; push %rcx; iretq; 1: mov %cs,%ebx; cmp $0x33,%ebx; je 2f;"
               " .byte 0xea; .long 2f; .word 0x33; 2: nop")
/* Under a debugger. */
CASE(w_access, "nop; mov buf,%eax; nop; mov %eax,buf; nop; incl buf; nop; movb $1,buf+3; nop; movb $1,buf+4; nop")
CASE(w_mov_ss, "mov %ss,buf; nop; mov buf,%ss; nop; nop")
CASE(w_mov_ss_int3, "movl $0x2b,buf; mov buf,%ss; int3; nop; nop")
CASE(w_mov_ss_syscall, "movl $0x2b,buf; mov $39,%eax; mov buf,%ss; syscall; nop; nop")
CASE(w_rep, "lea buf-2,%rdi; mov $6,%ecx; rep stosb; nop")
CASE(w_push, "lea buf+8,%rsp; push %rax; push %rax; nop")
CASE(w_branches, "nop; nop; jmp 1f; nop; 1: nop; nop; call 2f; 2: pop %rax; test %eax,%eax; je 3f; nop; 3: jne 4f; nop; 4: nop")

static void local_segment(unsigned n, const void *base, u32 limit, unsigned contents, unsigned read_only, unsigned pages, unsigned absent)
{
    struct user_desc d = {.entry_number = n, .base_addr = (u32)(uintptr_t)base, .limit = limit, .seg_32bit = 1, .contents = contents,
                          .read_exec_only = read_only, .limit_in_pages = pages, .seg_not_present = absent, .useable = 1};
    if (syscall(SYS_modify_ldt, 1, &d, sizeof(d)) != 0)
        printf("modify_ldt failed\n");
}

static void selectors(void)
{
    char name[32];
    for (unsigned s = 0; s < 0x40; s++) {
        arg = s;
        if ((s & ~3u) != 0x14 && (s & ~3u) != 0x2c && (s & ~3u) != 0x20 && (s & ~3u) != 0x34) {
            snprintf(name, sizeof(name), "jmp_%x", s);
            run(name, s_sel_jmp, e_sel_jmp, 1);
        }
        snprintf(name, sizeof(name), "ds_%x", s);
        run(name, s_sel_ds, e_sel_ds, 1);
        snprintf(name, sizeof(name), "ss_%x", s);
        run(name, s_sel_ss, e_sel_ss, 1);
        if ((s & ~3u) != 0x38) {  /* the per-CPU segment of newer kernels */
            snprintf(name, sizeof(name), "lar_%x", s);
            run(name, s_sel_lar, e_sel_lar, 0);
        }
    }
    static const u16 code[] = {0, 3, 8, 0x10, 0x23, 0x2b, 0x30, 0x33, 0x43, 0x53};
    for (unsigned c = 0; c < sizeof(code) / sizeof(*code); c++) {
        for (unsigned s = 0; s < 0x34; s += code[c] == 0x33 ? 1 : 7) {
            arg = code[c];
            arg2 = s;
            snprintf(name, sizeof(name), "iret_%x_%x", code[c], s);
            run(name, s_sel_iret, e_sel_iret, 1);
        }
    }
}

/* Runs a case in a child under ptrace with DR0 and DR7 as given, or stepping it; prints where it stopped, why, and DR6. */
static void watch(const char *name, const char *lo, const char *hi, const void *dr0, u64 dr7, int how)
{
    fflush(stdout);
    int child = fork(), status;
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        run_case(lo);
        _exit(0);
    }
    waitpid(child, &status, 0);
    if (dr0) {
        ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg[0]), dr0);
        ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg[7]), dr7);
    }
    printf("%s:", name);
    low = lo;
    high = hi;
    for (int n = 0; n < 20000; n++) {
        ptrace(how, child, 0, 0);
        if (waitpid(child, &status, 0) < 0 || !WIFSTOPPED(status))
            break;
        struct user_regs_struct r;
        ptrace(PTRACE_GETREGS, child, 0, &r);
        u64 dr6 = (u64)ptrace(PTRACE_PEEKUSER, child, offsetof(struct user, u_debugreg[6]), 0);
        if ((char *)r.rip >= lo && (char *)r.rip <= hi)
            printf(" %s/%d/%lx", place(r.rip), WSTOPSIG(status), dr6 & 0xe00f);
        if ((char *)r.rip >= done64 && (char *)r.rip <= recover)
            how = PTRACE_CONT;
        ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg[6]), 0);
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    printf("\n");
}

int main(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE};
    stack_t alternate = {.ss_sp = signal_stack, .ss_size = sizeof(signal_stack)};
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigaltstack(&alternate, NULL);
    for (unsigned n = 0; n < sizeof(signals) / sizeof(*signals); n++)
        sigaction(signals[n], &action, NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);

    printf("BEGIN\n");
#define ONE(name, code) RUN(name)
    INTERRUPTS(ONE) PRIVILEGED(ONE) FLAGS_AND_RETURNS(ONE) SEGMENT_LOADS(ONE) FAR_JUMPS(ONE) FAULTS(ONE)
    RUN_OTHER(int1) RUN_OTHER(call_far_64)
    stepping = 1;
    STEPS(ONE) RUN_OTHER(tf_mov_ss_twice)
    stepping = 0;
    COMPAT(ONE) RUN_OTHER(c_syscall) RUN_OTHER(c_sysret)
    local_segment(0, buf, 0xfff, 0, 0, 0, 0);
    local_segment(1, NULL, 0x1fff, 1, 0, 0, 0);
    local_segment(3, NULL, 0xfff, 0, 0, 0, 1);
    local_segment(4, buf, 0xfff, 0, 1, 0, 0);
    local_segment(6, NULL, 0xfffff, 2, 1, 1, 0);
    local_segment(7, buf + 0x200, 0xfff, 0, 0, 0, 0);
    memset(buf, 0, sizeof(buf));
    memcpy(buf + 0x204, "\xfe\xca", 2);
    LOCAL_SEGMENTS(ONE)
    selectors();
    watch("watch_execute", s_w_access, e_w_access, s_w_access + 1, 1, PTRACE_CONT);
    watch("watch_write", s_w_access, e_w_access, buf, 1 | 0xd0000, PTRACE_CONT);
    watch("watch_access", s_w_access, e_w_access, buf, 1 | 0xf0000, PTRACE_CONT);
    watch("watch_mov_ss", s_w_mov_ss, e_w_mov_ss, buf, 1 | 0xf0000, PTRACE_CONT);
    watch("watch_mov_ss_int3", s_w_mov_ss_int3, e_w_mov_ss_int3, buf, 1 | 0xf0000, PTRACE_CONT);
    watch("watch_mov_ss_syscall", s_w_mov_ss_syscall, e_w_mov_ss_syscall, buf, 1 | 0xf0000, PTRACE_CONT);
    watch("watch_rep", s_w_rep, e_w_rep, buf, 1 | 0xd0000, PTRACE_CONT);
    watch("watch_push", s_w_push, e_w_push, buf, 1 | 0xd0000, PTRACE_CONT);
    watch("single_step", s_w_branches, e_w_branches, NULL, 0, PTRACE_SINGLESTEP);
    printf("END\n");
    fflush(stdout);
    if (getpid() == 1)
        reboot(RB_AUTOBOOT);
    return 0;
}
