/* The sixteen conditions of Jcc, SETcc and CMOVcc [SDM1 "EFLAGS Condition Codes"].
 */
#ifndef NESTOR_CPU_COND_H
#define NESTOR_CPU_COND_H

#include "cpu/flags.h"

/* CONDITION(suffix, expression) in the order of the low nibble of their opcodes. */
#define CONDITIONS(CONDITION)                                                                                          \
    CONDITION(o, flag_of(cpu)) CONDITION(no, !flag_of(cpu)) CONDITION(b, flag_cf(cpu)) CONDITION(ae, !flag_cf(cpu))    \
    CONDITION(e, flag_zf(cpu)) CONDITION(ne, !flag_zf(cpu)) CONDITION(be, flag_cf(cpu) || flag_zf(cpu))                \
    CONDITION(a, !flag_cf(cpu) && !flag_zf(cpu)) CONDITION(s, flag_sf(cpu)) CONDITION(ns, !flag_sf(cpu))               \
    CONDITION(p, flag_pf(cpu)) CONDITION(np, !flag_pf(cpu)) CONDITION(l, flag_sf(cpu) != flag_of(cpu))                 \
    CONDITION(ge, flag_sf(cpu) == flag_of(cpu)) CONDITION(le, flag_zf(cpu) || flag_sf(cpu) != flag_of(cpu))            \
    CONDITION(g, !flag_zf(cpu) && flag_sf(cpu) == flag_of(cpu))

#endif
