/* The MC146818 real-time clock with its 128 bytes of CMOS memory (ports 0x70/0x71).
 *
 * The time of day is the host's epoch second at machine start plus virtual time, so it does not drift against any other
 * clock. Flags in register C are worked out when somebody looks, or at the exact time if their interrupt is enabled.
 *
 * Kept true: the time bytes read as one consistent time except while UIP is set (the last 244 µs of a second, as in the
 * chip); the day of the week always fits the date.
 *
 * Source: Motorola MC146818A data sheet.
 */
#ifndef NESTOR_DEVICES_RTC_H
#define NESTOR_DEVICES_RTC_H

#include "cpu/base.h"
#include "devices/clock.h"
#include "devices/host.h"
#include "devices/irq.h"
#include "mmu/bus.h"

struct rtc {
    u8 cmos[128];       /* time bytes are valid only while the clock is frozen */
    u8 index;
    bool nmi_masked;    /* bit 7 of port 0x70 */
    bool irq_disabled;  /* the HPET's legacy replacement has taken IRQ 8 */
    bool frozen;        /* SET, or the divider is held in reset: the time bytes stand */
    i64 base_seconds;   /* seconds since 1970 at ... */
    i64 base_ns;        /* ... this virtual time, where a second begins */
    i64 checked;        /* flags are accounted for up to this virtual time */
    /* wiring */
    struct clock *clock;
    const struct host *host;
    struct irq_line irq;
    unsigned timer;
};

void rtc_init(struct rtc *rtc, struct clock *clock, const struct host *host, struct irq_line irq);
/* The RESET line: interrupts off; time and memory survive. */
void rtc_reset(struct rtc *rtc);
/* Sets or reads a byte of CMOS memory (index 0x0e..0x7f) from the board's side. */
void rtc_nvram_set(struct rtc *rtc, u8 index, u8 value);
u8 rtc_nvram_get(const struct rtc *rtc, u8 index);
/* Fills in the memory-size bytes that PC firmware reads, for `low` bytes of RAM below 4 GiB and `high` above. */
void rtc_set_memory(struct rtc *rtc, u64 low, u64 high);
void rtc_set_irq_enabled(struct rtc *rtc, bool enabled);

/* Ports 0x70-0x71; dev = the struct rtc. */
extern const struct bus_ops rtc_ops;

#endif
