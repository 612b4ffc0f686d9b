/* Virtual time as devices see it. The only clock of the machine is the count of instructions (machine/vtime.c derives
 * nanoseconds from it); devices read it and set timers on it. All timers stand in one queue ordered by (deadline,
 * order of registration), so that the same run always fires them at the same instruction.
 *
 * Timers are plain data apart from the callback, which is registered once at start-up and never changes.
 */
#ifndef NESTOR_DEVICES_CLOCK_H
#define NESTOR_DEVICES_CLOCK_H

#include "cpu/base.h"

#define CLOCK_NEVER (~0ull)
#define CLOCK_TIMERS 128

struct clock_timer {
    u64 deadline;                       /* ns of virtual time, CLOCK_NEVER when idle */
    void (*fire)(void *arg, u64 now);   /* called with the timer idle again; `now` >= deadline, in ns */
    void *arg;
};

struct clock {
    u64 (*now)(void *arg);              /* ns since the machine started, exact to the running instruction */
    void (*rearmed)(void *arg);         /* the earliest deadline may have changed: the running vCPU must look again */
    void *arg;
    struct clock_timer timer[CLOCK_TIMERS];
    unsigned count;
    u64 earliest;                       /* min of all deadlines */
};

/* ns of virtual time. */
static inline u64 clock_now(const struct clock *clock) { return clock->now(clock->arg); }

/* Adds a timer, idle. Returns its number, for clock_set. Panics past CLOCK_TIMERS (a board's size is fixed by us). */
unsigned clock_add_timer(struct clock *clock, void (*fire)(void *arg, u64 now), void *arg);
/* (Re)arms a timer at an absolute time in ns; CLOCK_NEVER stops it. A time that has passed fires at the next
 * opportunity (the end of the running instruction). */
void clock_set(struct clock *clock, unsigned timer, u64 deadline);
/* Fires every timer whose deadline is <= now, in order. Called by the machine between instructions. */
void clock_run(struct clock *clock, u64 now);

/* a * b / c without overflow of the product; c > 0. For converting between ns and ticks. */
static inline u64 muldiv64(u64 a, u64 b, u64 c) { return (u64)((u128)a * b / c); }

#endif
