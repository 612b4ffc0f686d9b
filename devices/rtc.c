/* The real-time clock: a calendar computed from the virtual clock, three interrupt sources, memory. */
#include "devices/rtc.h"
#include "devices/access.h"

enum {
    SECONDS, SECONDS_ALARM, MINUTES, MINUTES_ALARM, HOURS, HOURS_ALARM, WEEKDAY, DAY, MONTH, YEAR,
    REG_A, REG_B, REG_C, REG_D,
    CENTURY = 0x32,
};
enum { A_UIP = 0x80, B_SET = 0x80, B_PERIODIC = 0x40, B_ALARM = 0x20, B_UPDATE = 0x10, B_BINARY = 4, B_24H = 2 };
enum { C_IRQ = 0x80 };

#define SECOND 1000000000ll
#define UIP_NS 244000

/* ---- Calendar ---- */

/* Days since 1970-01-01 of a date; month 1..12. Counts from March so that the leap day is the last of the year. */
static i64 days_of(i64 year, i64 month, i64 day)
{
    year -= month <= 2;
    i64 era = year / 400, of_era = year % 400;
    i64 of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static void date_of(i64 days, unsigned *year, unsigned *month, unsigned *day)
{
    days += 719468;
    i64 era = days / 146097, of_era = days % 146097;
    i64 y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    i64 of_year = of_era - (365 * y + y / 4 - y / 100);
    i64 m = (5 * of_year + 2) / 153;
    *day = (unsigned)(of_year - (153 * m + 2) / 5 + 1);
    *month = (unsigned)(m < 10 ? m + 3 : m - 9);
    *year = (unsigned)(era * 400 + y + (*month <= 2));
}

static u8 encode(const struct rtc *rtc, unsigned n)
{
    return (u8)(rtc->cmos[REG_B] & B_BINARY ? n : n / 10 << 4 | n % 10);
}

static unsigned decode(const struct rtc *rtc, u8 byte)
{
    return rtc->cmos[REG_B] & B_BINARY ? byte : (byte >> 4) * 10u + (byte & 15);
}

static u8 encode_hour(const struct rtc *rtc, unsigned hour)
{
    if (rtc->cmos[REG_B] & B_24H)
        return encode(rtc, hour);
    return encode(rtc, (hour + 11) % 12 + 1) | (hour >= 12 ? 0x80 : 0);
}

static unsigned decode_hour(const struct rtc *rtc, u8 byte)
{
    if (rtc->cmos[REG_B] & B_24H)
        return decode(rtc, byte);
    return decode(rtc, byte & 0x7f) % 12 + (byte & 0x80 ? 12 : 0);
}

static i64 now_ns(const struct rtc *rtc) { return (i64)clock_now(rtc->clock); }
static i64 seconds_at(const struct rtc *rtc, i64 ns) { return rtc->base_seconds + (ns - rtc->base_ns) / SECOND; }

/* Writes the running time into the time bytes. */
static void store_time(struct rtc *rtc, i64 seconds)
{
    i64 days = seconds / 86400;
    unsigned of_day = (unsigned)(seconds % 86400), year, month, day;
    date_of(days, &year, &month, &day);
    rtc->cmos[SECONDS] = encode(rtc, of_day % 60);
    rtc->cmos[MINUTES] = encode(rtc, of_day / 60 % 60);
    rtc->cmos[HOURS] = encode_hour(rtc, of_day / 3600);
    rtc->cmos[WEEKDAY] = encode(rtc, (unsigned)((days + 4) % 7) + 1);
    rtc->cmos[DAY] = encode(rtc, day);
    rtc->cmos[MONTH] = encode(rtc, month);
    rtc->cmos[YEAR] = encode(rtc, year % 100);
    rtc->cmos[CENTURY] = encode(rtc, year / 100 % 100);
}

static unsigned at_most(unsigned value, unsigned limit) { return value < limit ? value : limit; }

/* The time that the time bytes say; senseless values are brought into range. Never before 1970. */
static i64 load_time(const struct rtc *rtc)
{
    unsigned month = at_most(decode(rtc, rtc->cmos[MONTH]), 12), day = at_most(decode(rtc, rtc->cmos[DAY]), 31);
    unsigned year = at_most(decode(rtc, rtc->cmos[CENTURY]), 99) * 100 + at_most(decode(rtc, rtc->cmos[YEAR]), 99);
    i64 days = days_of(year < 1970 ? 1970 : year, month ? month : 1, day ? day : 1);
    return days * 86400 + at_most(decode_hour(rtc, rtc->cmos[HOURS]), 23) * 3600 +
           at_most(decode(rtc, rtc->cmos[MINUTES]), 59) * 60 + at_most(decode(rtc, rtc->cmos[SECONDS]), 59);
}

/* ---- Interrupts ---- */

static unsigned periodic_hz(const struct rtc *rtc)
{
    unsigned rate = rtc->cmos[REG_A] & 15;
    if (rate == 0 || (rtc->cmos[REG_A] & 0x60) == 0x60)
        return 0;
    return rate < 3 ? 256u >> (rate - 1) : 32768u >> (rate - 1);
}

static u64 periods_at(const struct rtc *rtc, unsigned hz, i64 ns) { return muldiv64((u64)(ns - rtc->base_ns), hz, SECOND); }

static bool alarm_matches(u8 byte, unsigned alarm, unsigned value)
{
    return (byte & 0xc0) == 0xc0 || alarm == value;
}

/* The first second after `after` at which the alarm bytes match, or -1 if they never do. */
static i64 next_alarm(const struct rtc *rtc, i64 after)
{
    u8 bs = rtc->cmos[SECONDS_ALARM], bm = rtc->cmos[MINUTES_ALARM], bh = rtc->cmos[HOURS_ALARM];
    unsigned as = decode(rtc, bs), am = decode(rtc, bm), ah = decode_hour(rtc, bh);
    i64 midnight = (after + 1) / 86400 * 86400;
    unsigned from = (unsigned)((after + 1) % 86400);
    /* The first match from `from` on today, else the first one tomorrow; at most 60 tries a field and level. */
    for (unsigned day = 0; day < 2; day++, from = 0, midnight += 86400)
        for (unsigned h = from / 3600; h < 24; h++) {
            if (!alarm_matches(bh, ah, h))
                continue;
            for (unsigned m = h == from / 3600 ? from / 60 % 60 : 0; m < 60; m++) {
                if (!alarm_matches(bm, am, m))
                    continue;
                for (unsigned s = h * 60 + m == from / 60 ? from % 60 : 0; s < 60; s++)
                    if (alarm_matches(bs, as, s))
                        return midnight + h * 3600 + m * 60 + s;
                if (as > 59)
                    return -1;
            }
        }
    return -1;
}

static void update_irq(struct rtc *rtc)
{
    u8 *c = &rtc->cmos[REG_C];
    bool asks = *c & rtc->cmos[REG_B] & (B_PERIODIC | B_ALARM | B_UPDATE);
    *c = (u8)((*c & ~C_IRQ) | (asks ? C_IRQ : 0));
    irq_set(&rtc->irq, asks && !rtc->irq_disabled);
}

/* Sets the flags of everything that happened up to now. */
static void sync(struct rtc *rtc)
{
    i64 now = now_ns(rtc), before = rtc->checked;
    unsigned hz = periodic_hz(rtc);
    if (now <= before)
        return;
    rtc->checked = now;
    if (before < rtc->base_ns)
        before = rtc->base_ns;
    if (hz && periods_at(rtc, hz, now) != periods_at(rtc, hz, before))
        rtc->cmos[REG_C] |= B_PERIODIC;
    if (!rtc->frozen && seconds_at(rtc, now) != seconds_at(rtc, before)) {
        rtc->cmos[REG_C] |= B_UPDATE;
        i64 alarm = next_alarm(rtc, seconds_at(rtc, before));
        if (alarm >= 0 && alarm <= seconds_at(rtc, now))
            rtc->cmos[REG_C] |= B_ALARM;
    }
    update_irq(rtc);
}

/* Sets the timer to the next enabled event. None while an interrupt waits for register C to be read. */
static void arm(struct rtc *rtc)
{
    i64 now = now_ns(rtc), at = INT64_MAX;
    u8 enabled = rtc->cmos[REG_B];
    unsigned hz = periodic_hz(rtc);
    if (!(rtc->cmos[REG_C] & C_IRQ)) {
        if ((enabled & B_PERIODIC) && hz) {
            u64 next = periods_at(rtc, hz, now) + 1;
            at = rtc->base_ns + (i64)(((u128)next * (u64)SECOND + hz - 1) / hz);
        }
        if ((enabled & B_UPDATE) && !rtc->frozen) {
            i64 second = rtc->base_ns + ((now - rtc->base_ns) / SECOND + 1) * SECOND;
            at = second < at ? second : at;
        }
        i64 alarm = (enabled & B_ALARM) && !rtc->frozen ? next_alarm(rtc, seconds_at(rtc, now)) : -1;
        if (alarm >= 0) {
            i64 then = rtc->base_ns + (alarm - rtc->base_seconds) * SECOND;
            at = then < at ? then : at;
        }
    }
    clock_set(rtc->clock, rtc->timer, at == INT64_MAX ? CLOCK_NEVER : (u64)at);
}

static void fire(void *arg, u64 now)
{
    (void)now;
    sync(arg);
    arm(arg);
}

void rtc_set_irq_enabled(struct rtc *rtc, bool enabled)
{
    rtc->irq_disabled = !enabled;
    update_irq(rtc);
}

/* ---- Registers ---- */

/* Whether the clock should stand still changed, maybe: takes the running time into the bytes, or the bytes as the time. */
static void update_frozen(struct rtc *rtc, bool divider_started)
{
    bool frozen = (rtc->cmos[REG_B] & B_SET) || (rtc->cmos[REG_A] & 0x60) == 0x60;
    i64 now = now_ns(rtc);
    if (frozen && !rtc->frozen) {
        store_time(rtc, seconds_at(rtc, now));
    } else if (!frozen && rtc->frozen) {
        rtc->base_seconds = load_time(rtc);
        rtc->base_ns = now - (now - rtc->base_ns) % SECOND;
    }
    /* The first update comes half a second after the divider was let go. */
    if (divider_started) {
        if (frozen)
            rtc->base_seconds = seconds_at(rtc, now);
        rtc->base_ns = now - SECOND / 2;
    }
    rtc->frozen = frozen;
}

static bool is_time(u8 index)
{
    return index == SECONDS || index == MINUTES || index == HOURS || (index >= WEEKDAY && index <= YEAR) ||
           index == CENTURY;
}

static void write_data(struct rtc *rtc, u8 value)
{
    u8 index = rtc->index;
    sync(rtc);
    switch (index) {
    case REG_A: {
        bool was_reset = (rtc->cmos[REG_A] & 0x60) == 0x60;
        rtc->cmos[REG_A] = value & (u8)~A_UIP;
        update_frozen(rtc, was_reset && (value & 0x60) != 0x60);
        break;
    }
    case REG_B: {
        /* A running clock is kept as a time, not as bytes: its format changes with the mode. While SET is on, the bytes
         * stand as they are. */
        rtc->cmos[REG_B] = value & B_SET ? value & (u8)~B_UPDATE : value;
        update_frozen(rtc, false);
        update_irq(rtc);
        break;
    }
    case REG_C:
    case REG_D:
        break;
    default:
        if (is_time(index) && !rtc->frozen) {
            i64 now = now_ns(rtc);
            store_time(rtc, seconds_at(rtc, now));
            rtc->cmos[index] = value;
            rtc->base_seconds = load_time(rtc);
            rtc->base_ns = now - (now - rtc->base_ns) % SECOND;
        }
        rtc->cmos[index] = value;
    }
    arm(rtc);
}

static u8 read_data(struct rtc *rtc)
{
    u8 index = rtc->index, value;
    i64 now = now_ns(rtc);
    switch (index) {
    case REG_A:
        value = rtc->cmos[REG_A];
        if (!rtc->frozen && (now - rtc->base_ns) % SECOND >= SECOND - UIP_NS)
            value |= A_UIP;
        return value;
    case REG_C:
        sync(rtc);
        value = rtc->cmos[REG_C];
        rtc->cmos[REG_C] = 0;
        update_irq(rtc);
        arm(rtc);
        return value;
    case REG_D:
        return 0x80; /* the battery is good */
    default:
        if (is_time(index) && !rtc->frozen)
            store_time(rtc, seconds_at(rtc, now));
        return rtc->cmos[index];
    }
}

static u8 rtc_read8(void *dev, u64 off) { return off == 1 ? read_data(dev) : 0xff; }

static void rtc_write8(void *dev, u64 off, u8 value)
{
    struct rtc *rtc = dev;
    if (off == 0) {
        rtc->index = value & 0x7f;
        rtc->nmi_masked = value & 0x80;
    } else if (off == 1) {
        write_data(rtc, value);
    }
}

static u64 rtc_read(void *dev, unsigned cpu, u64 off, unsigned size)
{
    (void)cpu;
    return access_read_bytes(rtc_read8, dev, off, size);
}

static void rtc_write(void *dev, unsigned cpu, u64 off, unsigned size, u64 value)
{
    (void)cpu;
    access_write_bytes(rtc_write8, dev, off, size, value);
}

const struct bus_ops rtc_ops = {.read = rtc_read, .write = rtc_write};

void rtc_nvram_set(struct rtc *rtc, u8 index, u8 value)
{
    if (index > REG_D && index < 128 && index != CENTURY)
        rtc->cmos[index] = value;
}

u8 rtc_nvram_get(const struct rtc *rtc, u8 index) { return rtc->cmos[index & 0x7f]; }

static void set_le(struct rtc *rtc, u8 index, unsigned bytes, u64 value)
{
    for (unsigned i = 0; i < bytes; i++)
        rtc_nvram_set(rtc, (u8)(index + i), (u8)(value >> (8 * i)));
}

static u64 capped(u64 value, u64 limit) { return value < limit ? value : limit; }

void rtc_set_memory(struct rtc *rtc, u64 low, u64 high)
{
    u64 above_1m = low > 0x100000 ? (low - 0x100000) >> 10 : 0;
    u64 above_16m = low > 0x1000000 ? (low - 0x1000000) >> 16 : 0;
    set_le(rtc, 0x15, 2, 640);                              /* base memory, KiB */
    set_le(rtc, 0x17, 2, capped(above_1m, 0xffff));         /* extended memory, KiB */
    set_le(rtc, 0x30, 2, capped(above_1m, 0xffff));
    set_le(rtc, 0x34, 2, capped(above_16m, 0xffff));        /* above 16 MiB, 64 KiB units */
    set_le(rtc, 0x5b, 3, capped(high >> 16, 0xffffff));     /* above 4 GiB, 64 KiB units */
    unsigned sum = 0;
    for (unsigned i = 0x10; i <= 0x2d; i++)
        sum += rtc->cmos[i];
    rtc->cmos[0x2e] = (u8)(sum >> 8);
    rtc->cmos[0x2f] = (u8)sum;
}

void rtc_reset(struct rtc *rtc)
{
    rtc->cmos[REG_B] &= (u8)~(B_PERIODIC | B_ALARM | B_UPDATE | 0x08);
    rtc->cmos[REG_C] = 0;
    rtc->irq_disabled = false;
    rtc->nmi_masked = false;
    update_irq(rtc);
    arm(rtc);
}

void rtc_init(struct rtc *rtc, struct clock *clock, const struct host *host, struct irq_line irq)
{
    memset(rtc, 0, sizeof *rtc);
    rtc->clock = clock;
    rtc->host = host;
    rtc->irq = irq;
    rtc->timer = clock_add_timer(clock, fire, rtc);
    /* What firmware leaves: 32768 Hz base, 1024 Hz periodic rate, BCD, 24 hours. */
    rtc->cmos[REG_A] = 0x26;
    rtc->cmos[REG_B] = B_24H;
    u64 epoch = host->epoch_seconds(host->arg);
    rtc->base_seconds = epoch > 253402300799ull ? 253402300799ll : (i64)epoch; /* the year 9999 */
    rtc->base_ns = 0;
    rtc->checked = 0;
    rtc_reset(rtc);
}
