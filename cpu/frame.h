/* Stack frames of far transfers: several values pushed at once, all or nothing, on the stack in use or on one that is about to be loaded.
 */
#ifndef NESTOR_CPU_FRAME_H
#define NESTOR_CPU_FRAME_H

#include "cpu/insn.h"
#include "cpu/segment.h"

#define FRAME_MAX 48           /* values: a call gate's 31 parameters and its frame */

struct frame {
    struct segment ss;         /* the stack's segment; not looked at when bits == BITS_64 */
    u64 sp;                    /* its pointer; moves down with each push */
    u8 bits;                   /* enum cpu_bits: width of the pointer */
    u8 access;                 /* ACCESS_SYSTEM when the stack belongs to an inner level than the CPL of now, else 0 */
    u16 error;                 /* error code of #SS when it does not fit */
    u8 osz;                    /* OSZ_16, OSZ_32, OSZ_64: size of each value */
    u8 count;
    u64 value[FRAME_MAX];      /* in the order of pushing */
};

/* A frame on the stack in use, values of size index osz. */
void frame_begin(const struct cpu *cpu, struct frame *f, unsigned osz);
/* A frame on the stack `ss`:`sp` of privilege level `cpl`; in 64-bit mode (`wide`) ss does not count. */
void frame_begin_new(const struct cpu *cpu, struct frame *f, unsigned osz, const struct segment *ss, u64 sp, unsigned cpl, bool wide);
static inline void frame_add(struct frame *f, u64 value) { f->value[f->count++] = value; }
/* Writes the frame. FLOW_NEXT: f->sp is the new stack pointer (whole RSP). Otherwise nothing was written and the fault has been raised. */
enum flow frame_push(struct cpu *cpu, struct frame *f);
/* The same checks as frame_push without writing anything. */
enum flow frame_probe(struct cpu *cpu, struct frame *f);

#endif
