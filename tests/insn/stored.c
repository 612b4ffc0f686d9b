/* The file of stored vectors.
 *
 *     "NSTV1\n", u32 vectors, u32 bytes unpacked, u32 features[FEATURE_WORDS], then a zlib stream of entries:
 *     u8 step         index of this vector less that of the one before; 0: u32 index follows
 *     u8 kind         KIND_* bits
 *     u8 length, block, undefined, parts;  u8 code[length]
 *     patches         what differs from stored_state(): GPRs, vector lanes, memory, MXCSR, as `kind` says
 *     u8 exception    if PART_END is in `parts`; 0xff none
 *     u16 hash        for each part of the outcome that is not as the vector left it
 *
 * Everything little-endian. A part whose bit is not set has not changed (PART_END: it ended behind the instruction).
 * Kept true: stored_state() and stored_fpu() never change; files would mean something else.
 */
#include "stored.h"

#include "random.h"

#include <stdio.h>
#include <stdlib.h>
#ifdef NESTOR_HAVE_ZLIB
#include <zlib.h>
#endif

#define SEED 0x4e6573746f72ull
#define MAGIC "NSTV1\n"
#define LONGEST_ENTRY 2048u

enum { KIND_BITS = 3, KIND_VECTOR = 4, KIND_X87 = 8, KIND_GPRS = 16, KIND_LANES = 32, KIND_MEMORY = 64, KIND_MXCSR = 128 };
enum { PART_END, PART_GPRS, PART_FLAGS, PART_VECTORS, PART_X87, PART_MEMORY, PARTS };

struct stored {
    u32 feature[FEATURE_WORDS];
    u32 count, read;
    u8 *bytes;
    size_t n, room, at;
    u64 index;
    /* of the vector read last */
    u8 parts;
    u16 hash[PARTS];
    u64 undefined;
};

/* ---- states ------------------------------------------------------------------------------------------------------ */

static u64 some_value(struct rng *r)
{
    u64 v;
    switch (rng_below(r, 8)) {
    case 0: return rng_below(r, 256);
    case 1: return -(u64)rng_below(r, 256);
    case 2: v = 1ull << rng_below(r, 64); return v + rng_below(r, 3) - 1;
    case 3: v = rng64(r); return v >> rng_below(r, 64);
    case 4: return REGION + DATA_OFF + rng_below(r, DATA_BYTES);
    default: return rng64(r);
    }
}

static u64 some_number(struct rng *r, unsigned kind)
{
    static const u16 doubles[] = {0, 0x8000, 0x3ff0, 0xbff0, 0x7ff0, 0xfff0, 0x7ff8, 0x000f, 0x0010, 0x7fef, 0x41e0, 0xc3e0};
    static const u32 singles[] = {0, 1, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0x7fc00000, 0x7f800001,
                                  0x007fffff, 0x00800000, 0x7f7fffff, 0x4f000000};
    u64 q = rng64(r);
    if (kind == 0 && rng_chance(r, 30))
        return (u64)doubles[rng_below(r, ARRAY_SIZE(doubles))] << 48 | (rng_chance(r, 50) ? 0 : q & 0xffffffffffff);
    if (kind == 0)
        return (q & 0x800fffffffffffff) | (u64)(0x3ff - 40 + rng_below(r, 80)) << 52;
    if (kind == 1) {
        u32 low = rng_chance(r, 30) ? singles[rng_below(r, ARRAY_SIZE(singles))] : ((u32)q & 0x83ffffff) | 0x3c000000;
        u32 high = rng_chance(r, 30) ? singles[rng_below(r, ARRAY_SIZE(singles))] : (u32)(q >> 32);
        return low | (u64)high << 32;
    }
    return kind == 2 ? some_value(r) : q;
}

void stored_state(struct vector *v, u64 index)
{
    struct rng r = rng_for(SEED, index, 0);
    struct user_state *s = &v->before;
    for (unsigned n = 0; n < 16; n++)
        s->r[n] = some_value(&r);
    s->r[REG_RSP] = REGION + windows[1].off + 8 * rng_below(&r, windows[1].bytes / 8);
    s->rflags = FL_R1 | FL_IF | (rng64(&r) & (FL_STATUS | FL_ID));
    s->rflags |= rng_chance(&r, 30) ? FL_DF : 0;
    s->rflags |= rng_chance(&r, 4) ? FL_AC : 0;
    s->fs_base = rng64(&r) >> 20;
    s->gs_base = rng64(&r) >> 17;
    v->code_off = (u16)(CODE_OFF + 1024 + 16 * rng_below(&r, 64));
    bench_pattern_window(WINDOW_IMAGE, v->memory);
    for (unsigned at = 0; at < OPERAND_BYTES; at += 16) {
        unsigned kind = rng_below(&r, 5);
        store64(v->memory + at, some_number(&r, kind));
        store64(v->memory + at + 8, some_number(&r, kind));
    }
}

void stored_fpu(struct vector *v, u64 index, bool x87, bool vector)
{
    struct rng r = rng_for(SEED, index, 1);
    struct fx_image *fx = &v->before.fx;
    *fx = (struct fx_image){.fcw = 0x37f, .mxcsr = 0x1f80};
    for (unsigned i = 0; i < 16; i++) {
        unsigned kind = rng_below(&r, 5);
        for (unsigned q = 0; q < 2; q++) {
            fx->xmm[i][q] = some_number(&r, kind);
            v->before.ymm_high[i][q] = some_number(&r, kind);
        }
    }
    for (unsigned i = 0; i < 8; i++) {
        fx->st[i].mantissa = rng64(&r);
        fx->st[i].mantissa |= rng_chance(&r, 90) ? BIT(63) : 0;
        fx->st[i].exponent = (u16)(rng64(&r) & 0x8000);
        fx->st[i].exponent |= (u16)(0x3fff - 70 + rng_below(&r, 140));
        if (rng_chance(&r, 12)) {
            fx->st[i].exponent = (u16)rng64(&r);
            fx->st[i].exponent |= rng_chance(&r, 50) ? 0x7fff : 0;
        }
        if (rng_chance(&r, 12))
            fx->st[i].mantissa = rng_chance(&r, 50) ? BIT(63) : 0;
    }
    u64 x = rng64(&r);
    if (vector)
        fx->mxcsr |= (u32)x & 0x6000;
    if (vector && rng_chance(&r, 20))
        fx->mxcsr = (u32)(x >> 16) & 0xffff;
    if (!x87)
        return;
    fx->ftw = rng_chance(&r, 60) ? 0xff : (u8)(x >> 8);
    fx->fsw = (u16)((x >> 32 & 0x7800) | (rng_chance(&r, 30) ? x >> 48 & 0x477f : 0));
    fx->fcw |= (u16)(x & 0xc00);
    if (rng_chance(&r, 10))
        fx->fcw = (u16)((x >> 16 & 0x1f3f) | 0x40);
}

/* ---- outcomes ---------------------------------------------------------------------------------------------------- */

static u64 mix(u64 h, u64 value) { return (h ^ value) * 0x100000001b3ull ^ h >> 31; }
static u64 mix_bytes(u64 h, const void *data, size_t n)
{
    const u8 *p = data;
    for (size_t i = 0; i + 8 <= n; i += 8)
        h = mix(h, load64(p + i));
    return h;
}

static u16 part_hash(unsigned part, const struct vector *v, const struct outcome *o, u64 undefined)
{
    const struct user_state *s = &o->state;
    static u8 pattern[WINDOW_BYTES];
    bool wide = v->bits == BITS_64;
    u64 h = 0xcbf29ce484222325ull;
    switch (part) {
    case PART_END:
        h = mix(mix(h, s->rip), (u64)(i64)o->exception);
        h = mix(mix(h, o->exception >= 0 ? o->error : 0), o->exception == EXC_PF ? o->address : 0);
        break;
    case PART_GPRS:
        for (unsigned n = 0; n < (wide ? 16 : 8); n++)
            h = mix(h, wide ? s->r[n] : (u32)s->r[n]);
        if (wide)
            h = mix(mix(h, s->fs_base), s->gs_base);
        break;
    case PART_FLAGS:
        h = mix(h, s->rflags & (FL_STATUS | FL_DF | FL_AC | FL_ID | FL_NT | FL_IOPL | FL_IF) & ~undefined);
        break;
    case PART_VECTORS:
        h = mix_bytes(mix(h, s->fx.mxcsr), s->fx.xmm, wide ? 256 : 128);
        h = mix_bytes(h, s->ymm_high, wide ? 256 : 128);
        break;
    case PART_X87:
        h = mix(mix(mix(h, s->fx.fcw), s->fx.fsw), s->fx.ftw);
        for (unsigned n = 0; n < 8; n++)
            h = mix(mix(h, s->fx.st[n].mantissa), s->fx.st[n].exponent);
        break;
    default:
        h = mix_bytes(mix(h, (u64)(i64)o->stray), o->memory, OPERAND_BYTES);
        bench_pattern_window(WINDOW_IMAGE, pattern);
        if (memcmp(o->memory + OPERAND_BYTES, pattern + OPERAND_BYTES, WINDOW_BYTES - OPERAND_BYTES) != 0)
            h = mix_bytes(h, o->memory + OPERAND_BYTES, WINDOW_BYTES - OPERAND_BYTES);
    }
    return (u16)(h ^ h >> 16 ^ h >> 32 ^ h >> 48);
}

/* What the outcome would be if nothing but RIP changed. */
static void untouched(const struct vector *v, u64 rip, struct outcome *o)
{
    *o = (struct outcome){.exception = -1, .stray = -1};
    o->state = v->before;
    o->state.rip = rip;
    memcpy(o->memory, v->memory, WINDOW_BYTES);
}

static u64 start_of(const struct vector *v)
{
    return v->bits == BITS_16 ? vector_insn_off(v) : REGION + vector_insn_off(v);
}

/* ---- entries ----------------------------------------------------------------------------------------------------- */

/* The places of a state that may be patched: 16 GPRs, 64 vector lanes of 64 bits, the memory's 64-bit words. */
static u64 *lane(struct vector *v, unsigned n)
{
    return n < 32 ? &v->before.fx.xmm[n / 2][n % 2] : &v->before.ymm_high[(n - 32) / 2][n % 2];
}

static void make_state(struct vector *v, u64 index, unsigned kind)
{
    v->at = 16;
    v->index = index;
    v->bits = kind & KIND_BITS;
    stored_state(v, index);
    stored_fpu(v, index, kind & KIND_X87, kind & KIND_VECTOR);
    if (v->block > 1)
        v->before.rflags &= ~(u64)FL_AC;
}

static u8 take8(struct stored *s) { return s->at < s->n ? s->bytes[s->at++] : 0; }
static u64 take(struct stored *s, unsigned n)
{
    u64 value = 0;
    for (unsigned i = 0; i < n; i++)
        value |= (u64)take8(s) << (8 * i);
    return value;
}

static const struct { u8 bit; u32 flag; } undefinable[] = {
    {1, FL_OF}, {2, FL_SF}, {4, FL_ZF}, {8, FL_AF}, {16, FL_PF}, {32, FL_CF}};

bool stored_next(struct stored *s, struct vector *v)
{
    if (s->read == s->count || s->at >= s->n)
        return false;
    s->read++;
    memset(v, 0, sizeof *v);
    u8 step = take8(s);
    s->index = step ? s->index + step : take(s, 4);
    unsigned kind = take8(s);
    v->length = take8(s);
    v->block = take8(s);
    u8 undefined = take8(s);
    s->parts = take8(s);
    s->undefined = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(undefinable); i++)
        s->undefined |= undefined & undefinable[i].bit ? undefinable[i].flag : 0;
    make_state(v, s->index, kind);
    if (v->length > CODE_IMAGE - 32 || v->bits > BITS_64)
        return false;
    for (unsigned i = 0; i < v->length; i++)
        v->code[v->at + i] = take8(s);
    if (kind & KIND_GPRS)
        for (unsigned n = 0, which = (unsigned)take(s, 2); n < 16; n++)
            if (which >> n & 1)
                v->before.r[n] = take(s, 8);
    if (kind & KIND_LANES)
        for (unsigned count = take8(s); count; count--) {
            unsigned n = take8(s) & 63;
            *lane(v, n) = take(s, 8);
        }
    if (kind & KIND_MEMORY)
        for (unsigned count = take8(s); count; count--) {
            unsigned n = take8(s) % (WINDOW_BYTES / 8);
            store64(v->memory + 8 * n, take(s, 8));
        }
    if (kind & KIND_MXCSR)
        v->before.fx.mxcsr = (u32)take(s, 4);
    v->native.exception = -1;
    if (s->parts >> PART_END & 1)
        v->native.exception = (i8)take8(s);
    for (unsigned part = 0; part < PARTS; part++)
        s->hash[part] = s->parts >> part & 1 ? (u16)take(s, 2) : 0;
    return true;
}

const char *stored_differences(const struct stored *s, const struct vector *v, const struct outcome *ours)
{
    static const char *const names[PARTS] = {"end or exception", "general registers", "flags", "vectors or MXCSR", "x87",
                                             "memory"};
    static char text[128];
    static struct outcome same;
    untouched(v, start_of(v) + v->length, &same);
    text[0] = 0;
    for (unsigned part = 0; part < PARTS; part++) {
        u16 expected = s->parts >> part & 1 ? s->hash[part] : part_hash(part, v, &same, s->undefined);
        if (part_hash(part, v, ours, s->undefined) != expected)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", text[0] ? ", " : "", names[part]);
    }
    return text;
}

static void put(struct stored *s, u64 value, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        s->bytes[s->n++] = (u8)(value >> (8 * i));
}

static bool complain(const char *what, const char *file)
{
    fprintf(stderr, "hostcpu: %s: %s\n", file, what);
    return false;
}

bool stored_add(struct stored *s, const struct vector *v, u64 undefined)
{
    static struct vector plain;
    static struct outcome same;
    if (s->room - s->n < LONGEST_ENTRY) {
        u8 *more = realloc(s->bytes, s->room += 1u << 20);
        if (!more)
            return complain("no memory", "stored vectors");
        s->bytes = more;
    }
    memset(&plain, 0, sizeof plain);
    plain.block = v->block;
    unsigned kind = v->bits | (v->stored_x87 ? KIND_X87 : 0) | (v->stored_vector ? KIND_VECTOR : 0);
    make_state(&plain, v->index, kind);
    struct vector *given = (struct vector *)(uintptr_t)v;      /* lane() serves both */
    u16 gprs = 0;
    u8 lanes = 0, words = 0;
    for (unsigned n = 0; n < 16; n++)
        gprs |= (u16)((v->before.r[n] != plain.before.r[n]) << n);
    for (unsigned n = 0; n < 64; n++)
        lanes += *lane(given, n) != *lane(&plain, n);
    for (unsigned n = 0; n < WINDOW_BYTES / 8; n++)
        words += load64(v->memory + 8 * n) != load64(plain.memory + 8 * n);
    bool mxcsr = v->before.fx.mxcsr != plain.before.fx.mxcsr;
    kind |= (gprs ? KIND_GPRS : 0) | (lanes ? KIND_LANES : 0) | (words ? KIND_MEMORY : 0) | (mxcsr ? KIND_MXCSR : 0);
    u8 open = 0, parts = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(undefinable); i++)
        open |= undefined & undefinable[i].flag ? undefinable[i].bit : 0;
    untouched(v, start_of(v) + v->length, &same);
    for (unsigned part = 0; part < PARTS; part++)
        if (part_hash(part, v, &v->native, undefined) != part_hash(part, v, &same, undefined))
            parts |= (u8)(1 << part);
    if (v->native.exception >= 0)
        parts |= 1 << PART_END;
    bool near = v->index > s->index && v->index - s->index <= 255;

    size_t start = s->n;
    put(s, near ? v->index - s->index : 0, 1);
    put(s, v->index, near ? 0 : 4);
    put(s, kind, 1);
    put(s, v->length, 1);
    put(s, v->block, 1);
    put(s, open, 1);
    put(s, parts, 1);
    for (unsigned i = 0; i < v->length; i++)
        put(s, vector_bytes(v)[i], 1);
    if (gprs)
        put(s, gprs, 2);
    for (unsigned n = 0; n < 16; n++)
        if (gprs >> n & 1)
            put(s, v->before.r[n], 8);
    if (lanes)
        put(s, lanes, 1);
    for (unsigned n = 0; n < 64; n++)
        if (*lane(given, n) != *lane(&plain, n)) {
            put(s, n, 1);
            put(s, *lane(given, n), 8);
        }
    if (words)
        put(s, words, 1);
    for (unsigned n = 0; n < WINDOW_BYTES / 8; n++)
        if (load64(v->memory + 8 * n) != load64(plain.memory + 8 * n)) {
            put(s, n, 1);
            put(s, load64(v->memory + 8 * n), 8);
        }
    if (mxcsr)
        put(s, v->before.fx.mxcsr, 4);
    if (parts >> PART_END & 1)
        put(s, (u8)v->native.exception, 1);
    for (unsigned part = 0; part < PARTS; part++)
        if (parts >> part & 1)
            put(s, part_hash(part, v, &v->native, undefined), 2);

    /* What a reader will make of it. */
    struct stored reader = {.count = 1, .bytes = s->bytes, .n = s->n, .at = start, .index = s->index};
    s->index = v->index;
    s->count++;
    if (!stored_next(&reader, &plain) || reader.at != s->n || plain.code_off != v->code_off ||
        memcmp(plain.code + 16, vector_bytes(v), v->length) != 0 ||
        memcmp(&plain.before, &v->before, sizeof plain.before) != 0 ||
        memcmp(plain.memory, v->memory, sizeof plain.memory) != 0)
        return complain("a vector is read back as another", "stored vectors");
    return true;
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

struct stored *stored_new(const u32 *features)
{
    struct stored *s = calloc(1, sizeof *s);
    if (s)
        memcpy(s->feature, features, sizeof s->feature);
    return s;
}

void stored_free(struct stored *s)
{
    free(s->bytes);
    free(s);
}

u32 stored_count(const struct stored *s) { return s->count; }
const u32 *stored_features(const struct stored *s) { return s->feature; }

#define HEADER (6 + 8 + 4 * FEATURE_WORDS)

#ifdef NESTOR_HAVE_ZLIB

bool stored_write(struct stored *s, const char *file)
{
    uLongf n = compressBound(s->n);
    u8 *packed = malloc(HEADER + n);
    if (!packed)
        return complain("no memory", file);
    memcpy(packed, MAGIC, 6);
    store32(packed + 6, s->count);
    store32(packed + 10, (u32)s->n);
    for (unsigned i = 0; i < FEATURE_WORDS; i++)
        store32(packed + 14 + 4 * i, s->feature[i]);
    FILE *f = NULL;
    bool done = compress2(packed + HEADER, &n, s->bytes, s->n, 9) == Z_OK && (f = fopen(file, "wb")) &&
                fwrite(packed, 1, HEADER + n, f) == HEADER + n;
    if (f && fclose(f) != 0)
        done = false;
    free(packed);
    if (done)
        printf("hostcpu: %s: %u vectors, %zu bytes, packed %zu\n", file, s->count, s->n, (size_t)(HEADER + n));
    return done || complain("cannot be written", file);
}

static u8 *read_whole(const char *file, size_t *n)
{
    u8 *bytes = malloc(16u << 20);
    FILE *f = fopen(file, "rb");
    *n = bytes && f ? fread(bytes, 1, 16u << 20, f) : 0;
    if (f)
        fclose(f);
    return bytes;
}

struct stored *stored_open(const char *file)
{
    size_t n;
    u8 *packed = read_whole(file, &n);
    struct stored *s = calloc(1, sizeof *s);
    if (packed && s && n > HEADER && memcmp(packed, MAGIC, 6) == 0) {
        uLongf unpacked = load32(packed + 10);
        for (unsigned i = 0; i < FEATURE_WORDS; i++)
            s->feature[i] = load32(packed + 14 + 4 * i);
        s->count = load32(packed + 6);
        s->bytes = malloc(unpacked);
        if (s->bytes && uncompress(s->bytes, &unpacked, packed + HEADER, n - HEADER) == Z_OK) {
            s->n = unpacked;
            free(packed);
            return s;
        }
    }
    complain("is no file of stored vectors", file);
    free(packed);
    if (s)
        stored_free(s);
    return NULL;
}

#else

bool stored_write(struct stored *s, const char *file) { (void)s; return complain("needs zlib", file); }
struct stored *stored_open(const char *file) { complain("needs zlib", file); return NULL; }

#endif
