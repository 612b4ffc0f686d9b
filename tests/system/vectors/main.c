/*
 * The vector oracle's guest: runs the instructions that make_vectors drew, each between two states made from its row's seed, and prints a
 * hash of what came of each row: registers, opmasks, MXCSR, flags, memory, exception. Two machines that print the same hash for a row agree on
 * all its vectors.
 *
 *     row=N           hashes of each vector of row N          vector=N,M        the state before and after
 *
 * Memory operands lie in the last 512 bytes of a page (WINDOW); the page behind it is absent.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define CODE 0x900000ull
#define PAGE 0x800000ull           /* the page behind it is absent */
#define WINDOW (PAGE + 0xe00)
#define WINDOW_BYTES 512u

struct encoded { u8 length, flags, index, undefined, code[12]; };
extern const u8 blob[];
extern u8 xsave_area[4096], stubs[];
extern u64 general[17];
extern u32 taken;
extern void run_vector(void);
extern void done(void);

static u32 ymm_at, opmask_at, zmm_high_at, zmm16_at;
static u64 idt[64];
static u64 page_table[512] __attribute__((aligned(4096)));

/* ---- console ---- */

static void put_char(char c) { __asm__ volatile("outb %0, %1" : : "a"(c), "Nd"((u16)0xe9)); }
static void put_text(const char *s)
{
    while (*s)
        put_char(*s++);
}
static void put_hex(u64 v, unsigned digits)
{
    while (digits--)
        put_char("0123456789abcdef"[v >> 4 * digits & 15]);
}
static void put_decimal(u32 v)
{
    if (v >= 10)
        put_decimal(v / 10);
    put_char((char)('0' + v % 10));
}

static void cpuid(u32 leaf, u32 subleaf, u32 *a, u32 *b, u32 *c, u32 *d)
{
    __asm__ volatile("cpuid" : "=a"(*a), "=b"(*b), "=c"(*c), "=d"(*d) : "a"(leaf), "c"(subleaf));
}

_Noreturn static void quit(void)
{
    __asm__ volatile("outb %0, %1" : : "a"((u8)0), "Nd"((u16)0xf4));
    __asm__ volatile("outw %0, %1" : : "a"((u16)0x2000), "Nd"((u16)0x604));
    for (const char *p = "Shutdown"; *p; p++)
        __asm__ volatile("outb %0, %1" : : "a"(*p), "Nd"((u16)0x8900));
    for (;;)
        __asm__ volatile("cli; hlt");
}

/* ---- states ---- */

static u64 rng_state;
static u64 rng(void)
{
    rng_state += 0x9e3779b97f4a7c15ull;
    u64 z = rng_state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

/* 64 bits as something may read them: anything, small integers, floating point with its corners. */
static u64 value(unsigned kind)
{
    static const u64 doubles[] = {0, 1ull << 63, 0x3ff0000000000000, 0xbff0000000000000, 0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000,
                                  0x7ff0000000000001, 1, 0x000fffffffffffff, 0x0010000000000000, 0x7fefffffffffffff, 0x41e0000000000000,
                                  0xc3e0000000000000, 0x3fe0000000000000, 0x4330000000000001};
    static const u32 singles[] = {0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 1, 0x007fffff, 0x00800000,
                                  0x7f7fffff, 0x4f000000, 0xcf000000, 0x3f000000, 0x4b000001};
    u64 r = rng(), x = rng();
    unsigned choose = r & 7;
    switch (kind) {
    case 0: return x;
    case 1: /* doubles */
        return choose < 2 ? doubles[r >> 8 & 15] : choose < 6 ? (x & 0x800fffffffffffff) | (0x3fc + (r >> 8 & 7)) << 52 : x;
    case 2: /* pairs of singles */
        if (choose < 2)
            return singles[r >> 8 & 15] | (u64)singles[r >> 12 & 15] << 32;
        return choose < 6 ? (x & 0x807fffff807fffff) | (0x7c + (r >> 8 & 7)) << 23 | (0x7c + (r >> 12 & 7)) << 55 : x;
    case 3: /* small integers in bytes, words, doublewords */
        return choose < 3 ? x & 0x0f0f0f0f0f0f0f0f : choose < 5 ? x & 0x00ff00ff00ff00ff : x & 0x000000ff000000ff;
    case 4: /* halves */
        return choose < 6 ? (x & 0x87ff87ff87ff87ff) | 0x3800380038003800 : x;
    default: /* ends of ranges */
        return choose < 2 ? 0x8000000080000000 : choose < 4 ? 0x7fff80007fff8000 : choose < 5 ? 0x7f807f807f807f80 : choose < 6 ? 0 : ~0ull;
    }
}

static void put64(u32 at, u64 v) { __builtin_memcpy(xsave_area + at, &v, 8); }
static u64 get64(u32 at)
{
    u64 v;
    __builtin_memcpy(&v, xsave_area + at, 8);
    return v;
}

/* Place in the XSAVE area of qword q of vector register r. */
static u32 vector_at(unsigned r, unsigned q)
{
    if (r >= 16)
        return zmm16_at + 64 * (r - 16) + 8 * q;
    return q < 2 ? 160 + 16 * r + 8 * q : q < 4 ? ymm_at + 16 * r + 8 * (q - 2) : zmm_high_at + 32 * r + 8 * (q - 4);
}

static void make_state(const struct encoded *e)
{
    for (unsigned i = 0; i < sizeof(xsave_area) / 8; i++)
        put64(8 * i, 0);
    put64(0, 0x37f);
    u64 r = rng();
    u32 mxcsr = 0x1f80 | (r & 3) << 13 | ((r >> 2 & 7) == 0 ? 0x8000 : 0) | ((r >> 5 & 7) == 0 ? 0x40 : 0);
    if ((r >> 8 & 31) == 0)
        mxcsr &= ~(u32)(r >> 16 & 0x1f80);
    if ((r >> 13 & 7) == 0)
        mxcsr |= r >> 24 & 0x3f;
    put64(24, mxcsr);
    put64(512, 0xe7);
    unsigned kind = r >> 40 & 7;
    for (unsigned reg = 0; reg < (32); reg++)
        for (unsigned q = 0; q < (8); q++)
            put64(vector_at(reg, q), value(kind < 6 ? kind : rng() & 7));
    if (e->flags & 1)
        for (unsigned q = 0; q < (8); q++) {
            u32 at = vector_at(e->index, q);
            put64(at, get64(at) & ((e->flags & 4) || (r >> 43 & 1) ? 0x3f : 0x0000003f0000003f));   /* 4: FLAG_QUADS */
        }
    for (unsigned k = 0; k < 8; k++)
        put64(opmask_at + 8 * k, (rng() & 7) == 0 ? 0 : (rng() & 7) == 0 ? ~0ull : rng());
    for (unsigned i = 0; i < 16; i++)
        general[i] = value((rng() & 3) == 0 ? 3 : (rng() & 7) == 0 ? 1 : 0);
    general[1] &= 7;
    unsigned place = r >> 48 & 15;     /* RBX: aligned, at any byte, or across the page's end */
    general[3] = place < 8 ? PAGE + 0xf00 : place < 12 ? PAGE + 0xf00 + (rng() & 63) : PAGE + 0x1000 - (rng() & 127);
    if (e->flags & 2)                  /* FLAG_WITHIN */
        general[3] = PAGE + 0xf00;
    general[16] = 2 | (rng() & 0x8d5);
    u64 *window = (u64 *)WINDOW;
    for (unsigned i = 0; i < WINDOW_BYTES / 8; i++)
        window[i] = value(kind < 6 ? kind : rng() & 7);
}

/* What is compared, in 64-bit words: at most 16 + 1 + 1 + 1 + 256 + 8 + 64. */
static u64 words[400];
static unsigned collect(const struct encoded *e)
{
    unsigned n = 0;
    words[n++] = (u64)(int)taken;
    for (unsigned i = 0; i < 16; i++)
        words[n++] = i == 4 ? 0 : general[i];
    /* the undefined ones as make_vectors names them: OF is bit 1 */
    words[n++] = general[16] & 0x8d5 & ~(u64)((e->undefined & ~2u) | (e->undefined & 2u) << 10);
    words[n++] = get64(24) & 0xffff;
    for (unsigned reg = 0; reg < (32); reg++)
        for (unsigned q = 0; q < (8); q++)
            words[n++] = get64(vector_at(reg, q));
    for (unsigned k = 0; k < 8; k++)
        words[n++] = get64(opmask_at + 8 * k);
    const u64 *window = (const u64 *)WINDOW;
    for (unsigned i = 0; i < WINDOW_BYTES / 8; i++)
        words[n++] = window[i];
    return n;
}

static u64 mix(u64 hash, u64 word)
{
    hash = (hash ^ word) * 0xff51afd7ed558ccdull;
    return hash ^ hash >> 32;
}

static void print_state(const char *title, unsigned n)
{
    put_text(title);
    for (unsigned i = 0; i < n; i++) {
        if (i % 8 == 3) {
            put_text("\n ");
            put_decimal(i);
            put_char(':');
        }
        put_char(' ');
        put_hex(words[i], 16);
    }
    put_char('\n');
}

static u64 run_one(const struct encoded *e, bool show)
{
    make_state(e);
    u8 *code = (u8 *)CODE;
    unsigned n = 0;
    for (; n < e->length; n++)
        code[n] = e->code[n];
    code[n++] = 0xff;                  /* jmp *0(%rip) */
    code[n++] = 0x25;
    for (unsigned i = 0; i < 4; i++)
        code[n++] = 0;
    u64 target = (u64)done;
    __builtin_memcpy(code + n, &target, 8);
    taken = 0xffffffff;
    if (show) {
        for (unsigned i = 0; i < e->length; i++) {
            put_hex(e->code[i], 2);
            put_char(' ');
        }
        print_state("before", collect(e));
    }
    run_vector();
    unsigned count = collect(e);
    if (show)
        print_state("after", count);
    u64 hash = 0;
    for (unsigned i = 0; i < count; i++)
        hash = mix(hash, words[i]);
    return hash;
}

/* ---- start ---- */

static void set_up(void)
{
    u32 a, b, c, d;
    cpuid(13, 0, &a, &b, &c, &d);
    if ((a & 0xe6) != 0xe6) {          /* the state that the records speak of */
        put_text("vectors: absent\n");
        quit();
    }
    u64 cr4;
    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    __asm__ volatile("mov %0, %%cr4" : : "r"(cr4 | 0x40600));
    __asm__ volatile("xsetbv" : : "a"(0xe7), "c"(0), "d"(0));
    cpuid(13, 2, &a, &ymm_at, &c, &d);
    cpuid(13, 5, &a, &opmask_at, &c, &d);
    cpuid(13, 6, &a, &zmm_high_at, &c, &d);
    cpuid(13, 7, &a, &zmm16_at, &c, &d);
    for (unsigned i = 0; i < 32; i++) {
        u64 stub = (u64)stubs + 16 * i;
        idt[2 * i] = (stub & 0xffff) | 0x10 << 16 | 0x8e00ull << 32 | (stub & 0xffff0000) << 32;
        idt[2 * i + 1] = stub >> 32;
    }
    struct __attribute__((packed)) { u16 limit; u64 base; } idtr = {sizeof(idt) - 1, (u64)idt};
    __asm__ volatile("lidt %0" : : "m"(idtr));
    u64 cr3;
    __asm__ volatile("mov %%cr3, %0" : "=r"(cr3));
    const u64 mask = 0xffffffffff000;
    u64 *pml4 = (u64 *)cr3, *pdpt = (u64 *)(pml4[0] & mask), *pd = (u64 *)(pdpt[0] & mask);
    for (unsigned i = 0; i < 512; i++)
        page_table[i] = i == 1 ? 0 : (PAGE + 4096 * i) | 3;
    pd[PAGE >> 21] = (u64)page_table | 3;
    __asm__ volatile("mov %0, %%cr3" : : "r"(cr3) : "memory");
}

static u32 number(const char **p)
{
    u32 n = 0;
    while (**p >= '0' && **p <= '9')
        n = 10 * n + (u32)(*(*p)++ - '0');
    return n;
}

_Noreturn void guest_main(u32 magic, const u32 *info)
{
    u32 only_row = ~0u, only_vector = ~0u;
    if (magic == 0x2badb002 && *info & 4)
        for (const char *p = (const char *)(u64)info[4]; *p; p++) {
            if (p[0] == 'r' && p[1] == 'o' && p[2] == 'w' && p[3] == '=') {
                p += 4;
                only_row = number(&p);
            }
            if (p[0] == 'v' && p[1] == 'e' && p[6] == '=') {
                p += 7;
                only_row = number(&p);
                p++;
                only_vector = number(&p);
            }
            if (!*p)
                break;
        }
    set_up();
    u32 rows;
    __builtin_memcpy(&rows, blob, 4);
    const struct encoded *e = (const struct encoded *)(blob + 4 + 8 * (u64)rows);
    put_text("vectors: begin\n");
    for (u32 row = 0; row < rows; row++) {
        u64 seed, hash = 0;
        __builtin_memcpy(&seed, blob + 4 + 8 * (u64)row, 8);
        if (only_row != ~0u && row != only_row)
            continue;
        u32 faults = 0;
        for (u32 v = 0; v < COUNT; v++) {
            rng_state = seed ^ (u64)(v + 1) * 0xd6e8feb86659fd93ull;
            if (only_vector != ~0u && v != only_vector)
                continue;
            u64 one = run_one(&e[row * COUNT + v], only_vector != ~0u);
            if (only_row != ~0u) {
                put_decimal(v);
                put_char(' ');
                put_hex(one, 16);
                put_char('\n');
            }
            faults += taken != 0xffffffff;
            hash = mix(hash, one);
        }
        put_hex(seed, 16);
        put_char(' ');
        put_hex(hash, 16);
        put_char(' ');
        put_decimal(faults);
        put_char('\n');
    }
    put_text("vectors: end\n");
    quit();
}
