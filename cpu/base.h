/* The ground floor: integer types, the way instructions report what became of them, little-endian access to host
 * memory, and panic(). Everything may include this header; it includes only libc.
 *
 * Kept true here: no unaligned or aliased punning (loads and stores go through memcpy), little-endian hosts only.
 */
#ifndef NESTOR_CPU_BASE_H
#define NESTOR_CPU_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t i8;
typedef int16_t i16;
typedef int32_t i32;
typedef int64_t i64;
__extension__ typedef unsigned __int128 u128;
__extension__ typedef __int128 i128;

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "Nestor runs on little-endian hosts only"
#endif

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define BIT(n) (1ull << (n))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define NORETURN __attribute__((noreturn))
#define HOT_INLINE static inline __attribute__((always_inline))
#define COLD __attribute__((cold, noinline))
#define NOINLINE __attribute__((noinline))

/* What became of the instruction a handler ran.
 *
 * FLOW_NEXT   It retired and execution goes on behind it: the interpreter advances rip by its length.
 * FLOW_END    It retired, the handler has already set rip, and the block ends (branches, mode changes, HLT …).
 * FLOW_EVENT  It did not retire: an exception or trap is recorded in cpu->event (see cpu/raise.h); rip is as the event
 *             wants it (at the instruction for faults, behind it for traps).
 * FLOW_EXIT   It did not retire: a VM exit has been carried out, all state is that of the hypervisor's host area.
 */
enum flow { FLOW_NEXT, FLOW_END, FLOW_EVENT, FLOW_EXIT };

/* A broken invariant of Nestor itself: prints one line and aborts. A guest can never reach one. */
NORETURN COLD void panic(const char *format, ...) PRINTF_LIKE(1, 2);

/* Little-endian loads and stores at any host alignment. */
static inline u16 load16(const void *p) { u16 v; memcpy(&v, p, 2); return v; }
static inline u32 load32(const void *p) { u32 v; memcpy(&v, p, 4); return v; }
static inline u64 load64(const void *p) { u64 v; memcpy(&v, p, 8); return v; }
static inline void store16(void *p, u16 v) { memcpy(p, &v, 2); }
static inline void store32(void *p, u32 v) { memcpy(p, &v, 4); }
static inline void store64(void *p, u64 v) { memcpy(p, &v, 8); }

/* The low n bits set, n in 0..64. */
static inline u64 mask_low(unsigned n) { return n >= 64 ? ~0ull : (1ull << n) - 1; }

#endif
