/* The x87's transcendental functions on 80-bit numbers, in integers only, accurate to far less than a unit in the
 * last place. */
#ifndef NESTOR_CPU_FLOAT_MATH_H
#define NESTOR_CPU_FLOAT_MATH_H

#include "cpu/softfloat.h"

/* 2^a - 1; for |a| > 1, where the manual defines nothing, a itself. */
struct f80 f80_exp2_minus_1(struct f80 a, struct float_env *e);
/* y * log2(x). */
struct f80 f80_y_log2(struct f80 x, struct f80 y, struct float_env *e);
/* y * log2(x + 1). */
struct f80 f80_y_log2_plus_1(struct f80 x, struct f80 y, struct float_env *e);
/* The angle of the point (x, y). */
struct f80 f80_arctangent(struct f80 y, struct f80 x, struct float_env *e);

/* Sine, cosine (either may be NULL) and tangent. False, with nothing done, when |a| is 2^63 or more: the program has
 * to reduce it. */
bool f80_sine_cosine(struct f80 a, struct f80 *sine, struct f80 *cosine, struct float_env *e);
bool f80_tangent(struct f80 a, struct f80 *tangent, struct float_env *e);

#endif
