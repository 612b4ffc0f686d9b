/* What both sides of a vector run in: the windows, the pattern between them, and the segments of 16- and 32-bit code. */
#include "vector.h"

#include "random.h"

const struct window windows[WINDOWS] = {
    {DATA_OFF, 128, 0},
    {DATA_OFF + PAGE - 256, 512, 128},
    {READONLY_OFF - 64, 128, 640},
    {DATA_END - 64, 64, 768},
    {DATA_OFF + 1024, 1024, OPERAND_BYTES},
};

i32 windows_stray(const struct bench *bench, u8 *region)
{
    static const u8 order[WINDOWS] = {0, WINDOW_IMAGE, 1, 2, 3};   /* by offset */
    u32 at = DATA_OFF;
    i32 stray = -1;
    for (unsigned i = 0; i <= WINDOWS; i++) {
        u32 end = i < WINDOWS ? windows[order[i]].off : DATA_END;
        const u8 *pattern = bench->pattern + (at - DATA_OFF);
        if (memcmp(region + at, pattern, end - at) != 0) {
            for (u32 n = 0; stray < 0 && n < end - at; n++)
                if (region[at + n] != pattern[n])
                    stray = (i32)(at + n);
            memcpy(region + at, pattern, end - at);
        }
        at = i < WINDOWS ? end + windows[order[i]].bytes : end;
    }
    return stray;
}

static void make_pattern(u8 *pattern)
{
    struct rng r = {.state = 0x5eed};
    for (unsigned i = 0; i < DATA_BYTES; i++)
        pattern[i] = (u8)rng64(&r);
}
void bench_pattern(struct bench *b) { make_pattern(b->pattern); }

void bench_pattern_window(unsigned window, u8 *memory)
{
    static u8 pattern[DATA_BYTES];
    static bool made;
    if (!made)
        make_pattern(pattern);
    made = true;
    memcpy(memory + windows[window].at, pattern + (windows[window].off - DATA_OFF), windows[window].bytes);
}

void bench_segments(struct bench *b)
{
    enum { FLAT = AR_P | AR_S | AR_DPL | AR_G | AR_DB | AR_ACCESSED };
    u32 region = (u32)b->region;
    for (unsigned n = SEG_ES; n <= SEG_GS; n++)
        b->seg[BITS_32][n] = (struct bench_segment){0x2b, 0, 0xffffffff, FLAT | AR_WRITABLE};
    b->seg[BITS_32][SEG_CS] = (struct bench_segment){0x23, 0, 0xffffffff, FLAT | AR_CODE | AR_READABLE};
    memcpy(b->seg[BITS_16], b->seg[BITS_32], sizeof b->seg[BITS_16]);
    if (!b->ldt)
        return;
    enum { SMALL = AR_P | AR_S | AR_DPL | AR_ACCESSED };
    /* FS ends inside a window, GS is read-only and grows down from another; 16-bit code has CS, DS and ES at the
     * region. */
    static const u16 first_of_ldt = 7;
    const struct bench_segment fs = {first_of_ldt, region, windows[1].off + 299, SMALL | AR_WRITABLE | AR_DB};
    const struct bench_segment gs = {first_of_ldt + 8, region, DATA_OFF + PAGE - 100, SMALL | AR_EXPAND_DOWN};
    const struct bench_segment cs16 = {first_of_ldt + 16, region, 0xffff, SMALL | AR_CODE | AR_READABLE};
    const struct bench_segment ds16 = {first_of_ldt + 24, region, 0xffff, SMALL | AR_WRITABLE};
    for (unsigned bits = BITS_16; bits <= BITS_32; bits++) {
        b->seg[bits][SEG_FS] = fs;
        b->seg[bits][SEG_GS] = gs;
    }
    b->seg[BITS_16][SEG_CS] = cs16;
    b->seg[BITS_16][SEG_DS] = b->seg[BITS_16][SEG_ES] = ds16;
    /* What else selectors may name: read-only, big, unreadable, absent, expand-down, empty. */
    const struct bench_segment all[BENCH_ENTRIES] = {
        fs, gs, cs16, ds16,
        {0, 0, 0xffffffff, SMALL | AR_G | AR_DB},
        {0, region, 0xffff, (SMALL | AR_CODE | AR_CONFORMING | AR_READABLE) & ~(unsigned)AR_P},   /* Linux lets no other be */
        {0, region, 0xffff, SMALL | AR_CODE | AR_DB},
        {0, region, 0xffff, (SMALL | AR_WRITABLE) & ~(unsigned)AR_P},
        {0, region, 0xffff, (SMALL | AR_CODE | AR_READABLE) & ~(unsigned)AR_P},
        {0, region, 0x0fff, SMALL | AR_EXPAND_DOWN | AR_WRITABLE | AR_DB},
        {0, 0, 0, 0},
        {0, region, 0xfffff, SMALL | AR_CODE | AR_READABLE | AR_DB},
        {0, region, 0xffffffff, SMALL | AR_G | AR_WRITABLE | AR_DB},
        {0, region + DATA_OFF, 100, SMALL | AR_WRITABLE},
        {0, region + DATA_OFF, 0xffff, SMALL | AR_WRITABLE},
    };
    b->entries = b->stored ? STORED_ENTRIES : BENCH_ENTRIES;
    for (unsigned i = 0; i < b->entries; i++) {
        b->entry[i] = all[i];
        b->entry[i].selector = (u16)(i << 3 | first_of_ldt);
    }
    b->small_stack = b->entry[b->entries - 1];
}
