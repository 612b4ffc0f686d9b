/* VEX and EVEX packed-integer arithmetic, comparison into vectors, logic and shifts. What an operation does to its elements mostly stands in
 * cpu/packed.h, shared with MMX and SSE; cpu/vector.h makes the handlers of every length, masked and not.
 *
 * [SDM2 "PADDB/PADDW/PADDD/PADDQ—...", "VPTERNLOGD/VPTERNLOGQ—...", "VPSLLVW/VPSLLVD/VPSLLVQ—..."]
 */
#include "cpu/packed.h"
#include "cpu/vector.h"

/* ---- element by element, as in cpu/packed.h ------------------------------------------------------------------------ */

#define ELEMENTS(name, type, expr)                                                                                     \
    HOT_INLINE void v##name##_elements(void *d, const void *a, const void *b, unsigned imm, unsigned n)                \
    {                                                                                                                  \
        (void)imm;                                                                                                     \
        packed_##name(d, a, b, n);                                                                                     \
    }                                                                                                                  \
    VEC_FAMILY(v##name, sizeof(type), sizeof(type), v##name##_elements)
ELEMENTS(paddd, u32, )
