/* The queue of device timers: few entries (tens), so the earliest is kept in one word and found again by a scan. */
#include "devices/clock.h"

static void find_earliest(struct clock *clock)
{
    u64 earliest = CLOCK_NEVER;
    for (unsigned i = 0; i < clock->count; i++)
        if (clock->timer[i].deadline < earliest)
            earliest = clock->timer[i].deadline;
    clock->earliest = earliest;
}

unsigned clock_add_timer(struct clock *clock, void (*fire)(void *arg, u64 now), void *arg)
{
    if (clock->count == CLOCK_TIMERS)
        panic("clock_add_timer: the board has more than %d timers", CLOCK_TIMERS);
    clock->timer[clock->count] = (struct clock_timer){.deadline = CLOCK_NEVER, .fire = fire, .arg = arg};
    if (clock->count == 0)
        clock->earliest = CLOCK_NEVER;
    return clock->count++;
}

void clock_set(struct clock *clock, unsigned timer, u64 deadline)
{
    u64 before = clock->earliest;
    clock->timer[timer].deadline = deadline;
    find_earliest(clock);
    if (clock->earliest != before && clock->rearmed)
        clock->rearmed(clock->arg);
}

void clock_run(struct clock *clock, u64 now)
{
    /* A timer that rearms itself in the past is fired again, but no more often than there are timers times 1024: a
     * device that asks for a period of 0 must not hang the machine. */
    for (unsigned fired = 0; clock->earliest <= now && fired < CLOCK_TIMERS * 1024; fired++) {
        unsigned first = 0;
        while (clock->timer[first].deadline != clock->earliest)
            first++;
        struct clock_timer *timer = &clock->timer[first];
        timer->deadline = CLOCK_NEVER;
        find_earliest(clock);
        timer->fire(timer->arg, now);
    }
}
