/* ACPI fixed hardware. */
#include "devices/acpipm.h"
#include "devices/access.h"

enum { TMR_STS = 1, GBL_STS = 0x20, PWRBTN_STS = 0x100, SLPBTN_STS = 0x200, RTC_STS = 0x400, WAK_STS = 0x8000 };
enum { SCI_EN = 1, SLP_EN = 0x2000 };
#define STATUS_BITS (TMR_STS | 0x10 | GBL_STS | PWRBTN_STS | SLPBTN_STS | RTC_STS | WAK_STS)
#define ENABLE_BITS (TMR_STS | GBL_STS | PWRBTN_STS | SLPBTN_STS | RTC_STS)
#define SECOND 1000000000ull

static u64 ticks(const struct acpipm *pm) { return muldiv64(clock_now(pm->clock), ACPIPM_HZ, SECOND); }
static unsigned top_bit(const struct acpipm *pm) { return pm->wide ? 31 : 23; }

static void update_sci(struct acpipm *pm)
{
    irq_set(&pm->sci, (pm->control & SCI_EN) && (pm->status & pm->enable & ENABLE_BITS));
}

/* Notes a change of the timer's top bit, shows the line, and waits for the next change if it would interrupt. */
static void sync(struct acpipm *pm)
{
    u64 now = ticks(pm);
    unsigned bit = top_bit(pm);
    if (now >> bit != pm->checked >> bit)
        pm->status |= TMR_STS;
    pm->checked = now;
    update_sci(pm);
    u64 at = CLOCK_NEVER;
    if ((pm->control & SCI_EN) && (pm->enable & TMR_STS) && !(pm->status & TMR_STS)) {
        u64 next = ((now >> bit) + 1) << bit;
        at = (u64)(((u128)next * SECOND + ACPIPM_HZ - 1) / ACPIPM_HZ);
    }
    clock_set(pm->clock, pm->timer, at);
}

static void fire(void *arg, u64 now)
{
    (void)now;
    sync(arg);
}

void acpipm_power_button(struct acpipm *pm)
{
    pm->status |= PWRBTN_STS;
    sync(pm);
}

static u64 event_read(void *dev, unsigned cpu, u64 off, unsigned size)
{
    struct acpipm *pm = dev;
    (void)cpu;
    sync(pm);
    return access_extract(pm->status | (u64)pm->enable << 16, (unsigned)off, size);
}

static void event_write(void *dev, unsigned cpu, u64 off, unsigned size, u64 value)
{
    struct acpipm *pm = dev;
    (void)cpu;
    sync(pm);
    /* Status bits are cleared by writing 1. */
    u32 ones = (u32)access_insert(0, (unsigned)off, size, value);
    pm->status &= (u16)~(ones & STATUS_BITS);
    if (off + size > 2)
        pm->enable = (u16)(access_insert((u64)pm->enable << 16, (unsigned)off, size, value) >> 16) & ENABLE_BITS;
    sync(pm);
}

static u64 control_read(void *dev, unsigned cpu, u64 off, unsigned size)
{
    (void)cpu;
    return access_extract(((struct acpipm *)dev)->control, (unsigned)off, size);
}

static void control_write(void *dev, unsigned cpu, u64 off, unsigned size, u64 value)
{
    struct acpipm *pm = dev;
    (void)cpu;
    u16 written = (u16)access_insert(pm->control, (unsigned)off, size, value);
    /* SCI_EN belongs to the SMI command port, or to the firmware behind it; SLP_EN and GBL_RLS are write-only. */
    u16 enabled = pm->smi && pm->smi(pm->smi_arg, false) ? written : pm->control;
    pm->control = (u16)((enabled & SCI_EN) | (written & 0x1c02));
    sync(pm);
    if ((written & SLP_EN) && (written >> 10 & 7) == ACPIPM_SLP_TYP_S5)
        pm->host->power_off(pm->host->arg);
}

static u64 timer_read(void *dev, unsigned cpu, u64 off, unsigned size)
{
    struct acpipm *pm = dev;
    (void)cpu;
    return access_extract(ticks(pm) & mask_low(top_bit(pm) + 1), (unsigned)off, size);
}

static void timer_write(void *dev, unsigned cpu, u64 off, unsigned size, u64 value)
{
    (void)dev, (void)cpu, (void)off, (void)size, (void)value; /* read-only */
}

static u8 smi_read8(void *dev, u64 off)
{
    struct acpipm *pm = dev;
    return off ? pm->smi_status : pm->smi_command;
}

static void smi_write8(void *dev, u64 off, u8 value)
{
    struct acpipm *pm = dev;
    if (off) {
        pm->smi_status = value;
        return;
    }
    pm->smi_command = value;
    if (pm->smi && pm->smi(pm->smi_arg, true))
        return;
    /* What a BIOS would do in its SMI handler. */
    if (value == ACPIPM_ENABLE)
        pm->control |= SCI_EN;
    else if (value == ACPIPM_DISABLE)
        pm->control &= (u16)~SCI_EN;
    sync(pm);
}

static u64 smi_read(void *dev, unsigned cpu, u64 off, unsigned size)
{
    (void)cpu;
    return access_read_bytes(smi_read8, dev, off, size);
}

static void smi_write(void *dev, unsigned cpu, u64 off, unsigned size, u64 value)
{
    (void)cpu;
    access_write_bytes(smi_write8, dev, off, size, value);
}

static u64 reset_read(void *dev, unsigned cpu, u64 off, unsigned size)
{
    (void)cpu, (void)off, (void)size;
    return ((struct acpipm *)dev)->reset_control;
}

static void reset_write(void *dev, unsigned cpu, u64 off, unsigned size, u64 value)
{
    struct acpipm *pm = dev;
    (void)cpu, (void)off, (void)size;
    /* RST_CPU (bit 2) acts when it goes from 0 to 1; SYS_RST (bit 1) chooses hard or soft, which are one here. */
    bool rises = (value & 4) && !(pm->reset_control & 4);
    pm->reset_control = value & 0x0e;
    if (rises)
        pm->host->reset(pm->host->arg);
}

const struct bus_ops acpipm_event_ops = {.read = event_read, .write = event_write};
const struct bus_ops acpipm_control_ops = {.read = control_read, .write = control_write};
const struct bus_ops acpipm_timer_ops = {.read = timer_read, .write = timer_write};
const struct bus_ops acpipm_smi_ops = {.read = smi_read, .write = smi_write};
const struct bus_ops acpipm_reset_ops = {.read = reset_read, .write = reset_write};

void acpipm_reset(struct acpipm *pm)
{
    pm->status = pm->enable = pm->control = 0;
    pm->smi_command = pm->smi_status = pm->reset_control = 0;
    pm->checked = ticks(pm);
    sync(pm);
}

void acpipm_init(struct acpipm *pm, struct clock *clock, const struct host *host, struct irq_line sci, bool wide)
{
    memset(pm, 0, sizeof *pm);
    pm->clock = clock;
    pm->host = host;
    pm->sci = sci;
    pm->wide = wide;
    pm->timer = clock_add_timer(clock, fire, pm);
    acpipm_reset(pm);
}
