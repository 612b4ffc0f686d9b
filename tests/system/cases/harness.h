/*
 * The harness of the system-mode cases: what a case may set, how it is run, and what it prints.
 *
 * A case is: begin(mode, ring), which makes a whole machine of known state in low memory (GDT, IDT or IVT, LDT, TSS, page tables, stacks);
 * changes to it; code(bytes); run(name, expected). The first exception, interrupt or task switch ends it and is described in one line,
 * which is compared with the expectation. Behind the bytes stands UD2: a case that gets there is "ok".
 *
 *     name: GP(8)@+3 cs=33 …      vector (error code), where, if not at the instruction, and what show() asked for
 *
 * Where: "ok" the end of the bytes; "L3" landing 3 (another UD2 in the code page, where gates, jumps and returns may lead to); "@+3" three
 * bytes behind the first instruction; "@x" any other address. A page fault's address is printed if it is not `m.target`.
 *
 * In 16-bit modes (real, V8086, 16-bit protected) all segments begin at 10000h, in the others at 0; off() gives the offset of an address.
 */
#ifndef SYSTEM_HARNESS_H
#define SYSTEM_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

enum mode { REAL, V86, PM16, PM32, COMPAT, LONG };
#define IN(mode) (1u << (mode))
#define ALL_MODES 0x3fu
#define PROTECTED (IN(PM16) | IN(PM32) | IN(COMPAT) | IN(LONG))

/* Memory of a case: linear and physical. */
#define LOW_CODE 0x8000u
#define REAL_STATE 0x7000u
#define BASE16 0x10000u            /* of the segments in 16-bit modes */
#define CODE 0x10000u              /* 2 pages */
#define START (CODE + 0x100)
#define LANDING(n) (CODE + 0x800 + 16 * (n))
#define DATA 0x12000u              /* 2 pages; EBX and EDI point at DATA, ESI at DATA + 100h */
#define USER_STACK 0x15000u        /* tops of one-page stacks */
#define STACK0 0x17000u
#define STACK1 0x18000u
#define STACK2 0x19000u
#define STACK_IST 0x1a000u
#define STACK_TASK 0x1b000u
#define GDT 0x20000u
#define LDT 0x21000u
#define IDT 0x22000u
#define TSS 0x24000u               /* up to 8 KiB of I/O map behind it */
#define TSS_FAULT 0x27000u         /* the task of double faults in 32-bit modes */
#define TSS_A 0x28000u             /* for cases */
#define TSS_B 0x29000u
#define TSS_APART 0x2a000u         /* catch_apart() */
#define PML5 0x30000u
#define PML4 0x31000u
#define PDPT 0x32000u
#define PD 0x33000u
#define PD_TOP 0x34000u
#define PT 0x35000u                /* 2 pages */
#define PT_TOP 0x37000u
#define TEST_PML4 0x38000u
#define TEST_PDPT 0x39000u
#define TEST_PD 0x3a000u
#define TEST_PT 0x3b000u
#define TEST_PAGE 0x40000u
#define ARENA_END 0x41000u

/* Selectors of a case's GDT. X(n) are 16 places of 16 bytes for cases. */
#define CS32 0x08u
#define DS32 0x10u
#define CS64 0x18u
#define CS16 0x20u
#define DS16 0x28u
#define CS32_3 0x33u
#define DS32_3 0x3bu
#define CS64_3 0x43u
#define CS16_3 0x4bu
#define DS16_3 0x53u
#define CS16_LOW 0x58u
#define DS16_LOW 0x60u
#define SEL_TSS 0x68u
#define SEL_LDT 0x78u
#define SEL_FAULT 0x88u
#define X(n) (0x90u + 16 * (n))
#define GDT_BYTES 0x300u

/* Access bytes [SDM3 "Code- and Data-Segment Descriptor Types", "System Descriptor Types"] and flags, as in bits 40-55. */
#define A_DATA 0x93u
#define A_CODE 0x9bu
#define A_LDT 0x82u
#define A_TSS16 0x81u
#define A_TSS32 0x89u
#define A_CALL16 0x84u
#define A_TASK 0x85u
#define A_INT16 0x86u
#define A_TRAP16 0x87u
#define A_CALL32 0x8cu
#define A_INT32 0x8eu
#define A_TRAP32 0x8fu
#define DPL(n) ((n) << 5)
#define F_G 0x8000u
#define F_D 0x4000u
#define F_L 0x2000u

enum { AX, CX, DX, BX, SP, BP, SI, DI, R8, R9, R10, R11, R12, R13, R14, R15 };
enum { ES, DS, FS, GS };

#define CR0_PE 0x1u
#define CR0_MP 0x2u
#define CR0_EM 0x4u
#define CR0_TS 0x8u
#define CR0_ET 0x10u
#define CR0_NE 0x20u
#define CR0_WP 0x10000u
#define CR0_AM 0x40000u
#define CR0_NW 0x20000000u
#define CR0_CD 0x40000000u
#define CR0_PG 0x80000000u
#define CR4_VME 0x1u
#define CR4_PVI 0x2u
#define CR4_TSD 0x4u
#define CR4_DE 0x8u
#define CR4_PSE 0x10u
#define CR4_PAE 0x20u
#define CR4_MCE 0x40u
#define CR4_PGE 0x80u
#define CR4_PCE 0x100u
#define CR4_OSFXSR 0x200u
#define CR4_OSXMMEXCPT 0x400u
#define CR4_UMIP 0x800u
#define CR4_LA57 0x1000u
#define CR4_VMXE 0x2000u
#define CR4_FSGSBASE 0x10000u
#define CR4_PCIDE 0x20000u
#define CR4_OSXSAVE 0x40000u
#define CR4_SMEP 0x100000u
#define CR4_SMAP 0x200000u
#define CR4_PKE 0x400000u
#define CR4_CET 0x800000u
#define CR4_PKS 0x1000000u
#define CR4_UINTR 0x2000000u
#define CR4_LAM_SUP 0x10000000u
#define EFER_SCE 0x1u
#define EFER_LME 0x100u
#define EFER_LMA 0x400u
#define EFER_NXE 0x800u

#define FL_CF 0x1u
#define FL_ZF 0x40u
#define FL_TF 0x100u
#define FL_IF 0x200u
#define FL_DF 0x400u
#define FL_IOPL(n) ((n) << 12)
#define FL_NT 0x4000u
#define FL_RF 0x10000u
#define FL_VM 0x20000u
#define FL_AC 0x40000u
#define FL_VIF 0x80000u
#define FL_VIP 0x100000u

/* What a line shows besides the event. */
#define SHOW_CS 0x1u
#define SHOW_SS 0x2u
#define SHOW_SP 0x4u
#define SHOW_FL 0x8u               /* of the interrupted code, without the status flags */
#define SHOW_ZF 0x10u
#define SHOW_AX 0x20u
#define SHOW_CX 0x40u
#define SHOW_DX 0x80u
#define SHOW_SI 0x100u
#define SHOW_DS 0x200u             /* ds es fs gs */
#define SHOW_CR0 0x400u
#define SHOW_CR4 0x800u
#define SHOW_DR6 0x1000u
#define SHOW_DR7 0x2000u
#define SHOW_TR 0x4000u
#define SHOW_LDT 0x8000u
#define SHOW_EFER 0x10000u
#define SHOW_BASES 0x20000u
#define SHOW_MEM 0x40000u          /* 4 bytes at m.watch */
#define SHOW_HANDLER 0x80000u      /* handler's CS, SS, stack pointer and flags */
#define SHOW_CF 0x100000u
#define SHOW_BX 0x200000u
#define SHOW_CR2 0x400000u
#define SHOW_R11 0x800000u
#define SHOW_BLD 0x1000000u        /* a bus lock, in what DR6 tells of #DB */

enum paging { NONE, P32, PAE, L4, L5 };

/* Layout known to launch.S */
struct __attribute__((packed)) table_register { u16 limit; u64 base; };
struct __attribute__((packed)) launch_state {
    u32 cr0, cr3, cr4, efer, kind;
    struct table_register gdtr;
    u16 ldt;
    struct table_register idtr;
    u16 tr;
    u32 seg[5];
    u64 rip, cs, rflags, rsp, ss;
    u64 gpr[16];
    u32 dr[6];                     /* 0-3, 6, 7 */
    u64 bases[3];
};
struct capture {
    u32 kind, ss;
    u64 sp, flags, cr0, cr2, cr3, cr4, dr6, dr7;
    u32 tr, ldt, efer, cs;
};

struct machine {
    enum mode mode;
    unsigned ring;
    enum paging paging;
    u64 target;                    /* expected address of page faults */
    u64 watch;                     /* SHOW_MEM */
    u32 show;
    bool soft;                     /* the event is INT n: no error code */
    u32 idt;                       /* where the IDT is, if a case moved it */
    u32 code_at, code_end;         /* la of the first byte and of the UD2 */
    u32 interrupt;                 /* sent through the local APIC's command register before the case begins */
    struct { u32 msr; u64 value; } msrs[12];
    unsigned msr_count;
    bool shutdown;                 /* ends the machine: run by only=NAME */
    bool skip;                     /* the processor lacks something that the case needs */
};
extern struct machine m;
extern struct launch_state launch_state;
#define L launch_state

/* Makes the machine for a case in `mode` at `ring` (0 or 3; PM modes: X descriptors for others). */
void begin(enum mode mode, unsigned ring);
/* Page tables, CR3 and CR0.PG for a protected mode (long modes have L4 from begin()). */
void paging(enum paging kind);
/* Appends bytes in hexadecimal digits ("0f 01 d0"); spaces are free. */
void code(const char *hex);
/* The same at another place, for landings. */
void bytes_at(u64 la, const char *hex);
void code_byte(unsigned byte);
void code_word(unsigned word);     /* 2 bytes */
void code_long(u32 value);         /* 4 bytes */
void code_quad(u64 value);
void code_push(u32 value);         /* PUSH imm32 */
/* From 64-bit code of ring 0 to that of ring 3, with USER_STACK and clear flags: pushes the frame, IRETQ. */
void code_iretq_3(u32 ip);
#define IRETQ_3_BYTES 24u          /* its length */
/* A pointer's offset part in the code size of the mode: 2 or 4 bytes. */
void code_offset(u64 la);
/* Offset of an address in the segments of the mode. */
u64 off(u64 la);
/* An MSR of the case: written before it begins, zeroed after it. Only of what need() has asked for. */
void set_msr(u32 msr, u64 value);
/* Whether WRMSR takes this value (tried as a case of its own, and taken back to 0). */
bool msr_takes(u32 msr, u32 value);
/* Says that the case needs a CPUID flag; without it the line says "absent", whatever is expected. */
void need(bool has);
/* Runs, prints `name: result`, and a line "! expected" if that differs. */
void run(const char *name, const char *expect);
/* Printf-like for names and expectations: %s %x %d %c; static buffers taken in turn. */
const char *text(const char *format, ...);

static inline void poke8(u64 la, u8 v) { *(volatile u8 *)la = v; }
static inline void poke16(u64 la, u16 v) { *(volatile u16 *)la = v; }
static inline void poke32(u64 la, u32 v) { *(volatile u32 *)la = v; }
static inline void poke64(u64 la, u64 v) { *(volatile u64 *)la = v; }
static inline u32 peek32(u64 la) { return *(volatile u32 *)la; }
static inline u64 peek64(u64 la) { return *(volatile u64 *)la; }

/* A descriptor of a segment, TSS or LDT at table + (selector & ~7); flags F_*. */
void segment(u64 table, u32 selector, u32 base, u32 limit, u32 access, u32 flags);
/* Call, interrupt, trap or task gate; `count` is the parameter count, or the IST in long mode. */
void gate(u64 at, u32 selector, u64 offset, u32 access, u32 count, bool wide);
/* Replaces the IDT's entry of a vector, to its usual stub. */
void idt_gate(unsigned vector, u32 selector, u32 access, u32 ist);
/* Lets the vector be taken on a stack of its own, whatever the interrupted one is like: by a task gate, or IST 1 in long mode. */
void catch_apart(unsigned vector);
/* The stub's address. */
u64 stub(unsigned vector);
/* Puts the I/O permission map behind the TSS: all denied; and the interrupt redirection map: all to protected mode. */
void io_map(void);
#define IO_MAP (TSS + 0x88)
#define REDIRECTION_MAP (TSS + 0x68)
/* A 32-bit or 16-bit TSS with sane contents: runs at LANDING(n) of ring 0. */
void task32(u64 at, unsigned landing);
void task16(u64 at, unsigned landing);
/* Page-table entries of an address below 4 MiB in the case's tables. */
u64 pte(u64 la);
void set_pte(u64 la, u64 value);
/* The pages of code, data and stacks become the user's. */
void user_pages(void);
#define PTE_P 1u
#define PTE_W 2u
#define PTE_U 4u
#define PTE_A 0x20u
#define PTE_D 0x40u
#define PTE_PS 0x80u
#define PTE_G 0x100u
#define PTE_NX (1ull << 63)
/* The address that has table entries of its own at every level: TEST_PML4 … TEST_PT, and TEST_PAGE behind them. */
u64 test_la(void);

/* CPUID */
struct features {
    u32 max_leaf, max_extended, pa_bits;
    u32 l1c, l1d, l7b, l7c, l7d, l7_1a, ld1a, e1c, e1d;
    u32 xcr0;
};
extern struct features cpu;
#define HAS_VME (cpu.l1d >> 1 & 1)
#define HAS_PSE36 (cpu.l1d >> 17 & 1)
#define HAS_MONITOR (cpu.l1c >> 3 & 1)
#define HAS_VMX (cpu.l1c >> 5 & 1)
#define HAS_PCID (cpu.l1c >> 17 & 1)
#define HAS_XSAVE (cpu.l1c >> 26 & 1)
#define HAS_RDRAND (cpu.l1c >> 30 & 1)
#define HAS_FSGSBASE (cpu.l7b & 1)
#define HAS_SMEP (cpu.l7b >> 7 & 1)
#define HAS_INVPCID (cpu.l7b >> 10 & 1)
#define HAS_SMAP (cpu.l7b >> 20 & 1)
#define HAS_UMIP (cpu.l7c >> 2 & 1)
#define HAS_PKU (cpu.l7c >> 3 & 1)
#define HAS_CET_SS (cpu.l7c >> 7 & 1)
#define HAS_LAM (cpu.l7_1a >> 26 & 1)
#define HAS_LA57 (cpu.l7c >> 16 & 1)
#define HAS_BUS_LOCK_DETECT (cpu.l7c >> 24 & 1)
#define HAS_RDPID (cpu.l7c >> 22 & 1)
#define HAS_PKS (cpu.l7c >> 31 & 1)
#define HAS_UINTR (cpu.l7d >> 5 & 1)
#define HAS_PCONFIG (cpu.l7d >> 18 & 1)
#define HAS_CET_IBT (cpu.l7d >> 20 & 1)
#define HAS_XSAVES (cpu.ld1a >> 3 & 1)
#define HAS_NX (cpu.e1d >> 20 & 1)
#define HAS_PDPE1GB (cpu.e1d >> 26 & 1)
#define HAS_RDTSCP (cpu.e1d >> 27 & 1)
#define HAS_SYSCALL (cpu.e1d >> 11 & 1)

u64 read_msr(u32 msr);
void write_msr(u32 msr, u64 value);
void print(const char *format, ...);
void quit(int status);

/* The families: cases_*.c */
void cases_privilege(void);
void cases_control(void);
void cases_segment(void);
void cases_gate(void);
void cases_transfer(void);
void cases_task(void);
void cases_smm(void);
void cases_v86(void);
void cases_io(void);
void cases_paging(void);
void cases_double(void);
void cases_debug(void);
void cases_syscall(void);
void cases_cet(void);
void cases_trap(void);
void cases_limit(void);
void cases_state(void);
void cases_uintr(void);

#endif
