/* One test vector: an instruction, the state before it, and what became of it; and the memory that both sides see.
 *
 * The same small region of linear addresses exists in the host process and in Nestor's guest:
 *
 *     page  0         1, 2            3         4, 5              6              7
 *           nothing   code, read-only nothing   data, writable    data, read-only nothing
 *
 * The data pages hold a pattern that never changes, except in a few windows around the borders between pages, which
 * each vector fills. Operands are steered into the windows; a write elsewhere is noticed (`stray`). The region lies
 * below 2 GiB so that every addressing form reaches it, and is smaller than 64 KiB so that 16-bit addresses do when a
 * segment begins there. Page 5 is seen once more at ALIAS_OFF: a 16-bit stack that begins at page 4 wraps around from window to
 * window there.
 */
#ifndef NESTOR_TESTS_INSN_VECTOR_H
#define NESTOR_TESTS_INSN_VECTOR_H

#include "cpu/state.h"
#include "cpu/table.h"

#define PAGE 4096u
#define REGION 0x10000000ull      /* la; a host where something else is there takes another */
#define REGION_PAGES 8u
#define REGION_BYTES (REGION_PAGES * PAGE)
#define CODE_OFF (1 * PAGE)        /* the exit stub stands at the first bytes */
#define CODE_PAGES 2u
#define DATA_OFF (4 * PAGE)
#define DATA_PAGES 3u              /* the last one read-only */
#define DATA_BYTES (DATA_PAGES * PAGE)
#define READONLY_OFF (6 * PAGE)
#define DATA_END (7 * PAGE)
#define ALIAS_OFF (DATA_OFF + 0xf000u)
#define ALIAS_OF (5 * PAGE)

struct window { u32 off, bytes, at; };     /* offset in the region, size, place in vector.memory */
#define WINDOWS 5u
#define WINDOW_BYTES 1856u
#define OPERAND_BYTES 832u         /* of the first four; they are what stored vectors have */
#define WINDOW_IMAGE 4u            /* where FXSAVE and its like find room; for all others it holds the pattern */
extern const struct window windows[WINDOWS];

/* The image that FXSAVE64 stores. */
struct fx_image {
    u16 fcw, fsw;
    u8 ftw, reserved;
    u16 fop;
    u64 fip, fdp;
    u32 mxcsr, mxcsr_mask;
    struct { u64 mantissa; u16 exponent, rest[3]; } st[8];
    u64 xmm[16][2];
    u8 unused[96];
} __attribute__((aligned(16)));

struct user_state {
    struct fx_image fx;
    u64 ymm_high[16][2];       /* the upper halves of YMM0-15, 0 where the host has none */
    u64 r[16];
    u64 rip, rflags;
    u64 fs_base, gs_base;      /* counts in 64-bit code only */
    u16 selector[8];           /* by SEG_ES … SEG_GS; counts in 16- and 32-bit code, and not for CS; CS and SS after far transfers */
};

struct outcome {
    struct user_state state;
    u8 memory[WINDOW_BYTES];
    i32 exception;             /* vector, -1 none */
    u32 error;
    u64 address;               /* CR2 of a page fault */
    i32 stray;                 /* offset in the region of a byte changed outside the windows, -1 none */
    u32 died;                  /* the process that ran it died, or hung */
};

#define NO_ROW 0xffffu
#define CODE_IMAGE 128u
struct vector {
    u64 index;
    u16 row;                   /* NO_ROW: bytes that Nestor's decoder knows no row for */
    u8 bits;                   /* enum cpu_bits */
    u8 length;                 /* of the instruction, or of all of a block */
    u8 block;                  /* how many instructions: 1, or a block of several; `row` is the first one's */
    u8 single_step;            /* run by TF: where it goes, or how long it is, is not known beforehand */
    u8 random;                 /* made of random bytes */
    u8 far;                    /* a far transfer: CS is compared, too */
    u8 small_stack;            /* 16- and 32-bit code: SS is bench.small_stack */
    u8 stored_x87, stored_vector;  /* what stored_fpu() was told */
    u8 at;                     /* where the instruction begins in the image */
    u16 code_off;              /* of the image in the region */
    u8 code[CODE_IMAGE];       /* filling, the instruction, the way out, filling */
    u64 undefined;             /* blocks: RFLAGS bits that are undefined at the end … */
    u64 undefined_inside;      /* … and those that are at the end of some instruction */
    struct user_state before;
    u8 memory[WINDOW_BYTES];
    struct outcome native;
};

static inline const u8 *vector_bytes(const struct vector *v) { return v->code + v->at; }
/* Bytes of the code before it that loads a 16-bit stack. */
static inline unsigned vector_stack_load(const struct vector *v) { return !v->small_stack ? 0 : v->bits == BITS_32 ? 6 : 4; }
static inline u32 vector_insn_off(const struct vector *v) { return v->code_off + v->at; }

/* The row of a vector; for bytes without one, a row that says nothing. */
const struct insn_row *vector_row(const struct vector *v);

/* Whether `name` is one of the words in `names`, which begins and ends with a space. */
static inline bool one_of(const char *name, const char *names)
{
    size_t n = strlen(name);
    for (const char *p = names; p && *p && p[1]; p = strchr(p + 1, ' '))
        if (strncmp(p + 1, name, n) == 0 && p[n + 1] == ' ')
            return true;
    return false;
}

/* How a segment looks in code of some width: what is loaded natively and what Nestor is given. */
struct bench_segment { u16 selector; u32 base, limit, access; };

#define BENCH_ENTRIES 15u
#define STORED_ENTRIES 14u         /* that stored vectors know */

/* What vectors need to know of where they run. */
struct bench {
    u64 region;                /* la of the region */
    u8 *alias;                 /* the same pages, writable, in this process */
    u8 pattern[DATA_BYTES];
    struct bench_segment seg[3][6];    /* by width of code; not used for BITS_64 */
    struct bench_segment small_stack;            /* SS of vectors that say so: a 16-bit one */
    struct bench_segment entry[BENCH_ENTRIES];   /* of the LDT; access 0: empty */
    unsigned entries;          /* how many there are */
    bool stored;               /* for stored vectors: without ALIAS_OFF and later entries of the LDT */
    bool fsgsbase;             /* FS and GS bases can be set natively */
    bool avx;                  /* the host has YMM registers, and its kernel lets them be used */
    bool vex_whole;            /* Nestor has every extension that VEX encodes and the host has: what is left is undefined */
    u64 xcr0;                  /* the host's; vectors ask for components 0 to 2 only */
    bool ldt;                  /* so can segments of the LDT: FS and GS in 32-bit code, 16-bit code */
    u32 feature[FEATURE_WORDS];/* of the host */
    u64 exit_stub;             /* la of the code that ends a native run */
};

/* Fills the pattern; sets the segments, which depend on region and ldt. */
void bench_pattern(struct bench *bench);
/* The pattern at a window, into a vector's memory. */
void bench_pattern_window(unsigned window, u8 *memory);
void bench_segments(struct bench *bench);

/* A segment register of 16- and 32-bit code before a vector. */
static inline const struct bench_segment *vector_segment(const struct bench *bench, const struct vector *v, unsigned n)
{
    return n == SEG_SS && v->small_stack ? &bench->small_stack : &bench->seg[v->bits][n];
}

/* The linear address of the memory operand. */
static inline u64 vector_operand(const struct bench *bench, const struct vector *v, const struct insn *in)
{
    bool wide = v->bits == BITS_64;
    u64 base = in->base < 16 ? v->before.r[in->base] : in->base == REG_RIP ? bench->region + vector_insn_off(v) : 0;
    u64 index = in->index < 16 ? v->before.r[in->index] << in->scale : 0;
    u64 offset = (base + index + (u64)in->disp) & mask_low(8u << in->asz);
    u64 segment = !wide ? vector_segment(bench, v, in->arch_seg)->base
                  : in->arch_seg == SEG_FS ? v->before.fs_base : in->arch_seg == SEG_GS ? v->before.gs_base : 0;
    return (segment + offset) & (wide ? ~0ull : 0xffffffff);
}
/* Copies a vector's windows into memory whose first byte is that of the region, and out of it. */
static inline void windows_put(u8 *region, const u8 *memory)
{
    for (unsigned i = 0; i < WINDOWS; i++)
        memcpy(region + windows[i].off, memory + windows[i].at, windows[i].bytes);
}
static inline void windows_get(const u8 *region, u8 *memory)
{
    for (unsigned i = 0; i < WINDOWS; i++)
        memcpy(memory + windows[i].at, region + windows[i].off, windows[i].bytes);
}
/* Where the region differs from the pattern outside the windows, -1 when nowhere; puts the pattern back. */
i32 windows_stray(const struct bench *bench, u8 *region);

#endif
