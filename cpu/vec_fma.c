/* Fused multiply-add, VEX and EVEX: three orders of the operands, six signs, packed and scalar in three types.
 *
 * The digits of a mnemonic say which operands (1 the destination, 2 VEX.vvvv, 3 ModRM.rm) are the multiplicand, the
 * multiplier and the addend; of several NaNs the first in that order is the result.
 * [SDM1 "FMA Instruction Operand Order and Arithmetic Behavior", SDM2 "VFMADD132PD/VFMADD213PD/VFMADD231PD—..."]
 */
#include "cpu/vec_float.h"

enum {
    MADD = 0,
    MSUB = FMA_NEGATE_ADDEND,
    NMADD = FMA_NEGATE_PRODUCT,
    NMSUB = FMA_NEGATE_PRODUCT | FMA_NEGATE_ADDEND,
};

/* x is operand 2, y is 3, z is 1. */
#define ORDER_132(bits, negate) f##bits##_fma(z, y, x, negate, e)
#define ORDER_213(bits, negate) f##bits##_fma(x, z, y, negate, e)
#define ORDER_231(bits, negate) f##bits##_fma(x, y, z, negate, e)

#define FMA_TYPE(name, order, packed, scalar, bits, negate)                                                            \
    VEC_FLOAT_LANES(name##order##packed, u##bits, u##bits, ORDER_##order(bits, negate))                                \
    VEC_FLOAT_PACKED(name##order##packed, name##order##packed, u##bits, u##bits)                                       \
    VEC_FLOAT_SCALAR(name##order##scalar, name##order##packed, u##bits, u##bits, true)
#define FMA_ORDER(name, order, negate)                                                                                 \
    FMA_TYPE(name, order, ph, sh, 16, negate)                                                                          \
    FMA_TYPE(name, order, ps, ss, 32, negate)                                                                          \
    FMA_TYPE(name, order, pd, sd, 64, negate)
#define FMA(name, negate) FMA_ORDER(name, 132, negate) FMA_ORDER(name, 213, negate) FMA_ORDER(name, 231, negate)
FMA(vfmadd, MADD)
FMA(vfmsub, MSUB)
FMA(vfnmadd, NMADD)
FMA(vfnmsub, NMSUB)

/* Alternate signs, packed only: even and odd elements. */
#define FMA_MIXED_TYPE(name, order, packed, bits, even, odd)                                                           \
    VEC_FLOAT_LANES(name##order##packed, u##bits, u##bits, ORDER_##order(bits, i & 1 ? odd : even))                    \
    VEC_FLOAT_PACKED(name##order##packed, name##order##packed, u##bits, u##bits)
#define FMA_MIXED_ORDER(name, order, even, odd)                                                                        \
    FMA_MIXED_TYPE(name, order, ph, 16, even, odd)                                                                     \
    FMA_MIXED_TYPE(name, order, ps, 32, even, odd)                                                                     \
    FMA_MIXED_TYPE(name, order, pd, 64, even, odd)
#define FMA_MIXED(name, even, odd)                                                                                     \
    FMA_MIXED_ORDER(name, 132, even, odd) FMA_MIXED_ORDER(name, 213, even, odd) FMA_MIXED_ORDER(name, 231, even, odd)
FMA_MIXED(vfmaddsub, MSUB, MADD)
FMA_MIXED(vfmsubadd, MADD, MSUB)
