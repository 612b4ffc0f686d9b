/* The physical bus: what answers at a host-physical address or an I/O port.
 *
 * Memory comes first (RAM, then ROMs above it), then device windows in the order they were mapped. There are few
 * windows and a device access costs far more than the search, so they are searched one by one. Ports go through a
 * table of all 65536.
 *
 * Kept true: an access given to a device lies within its window; accesses that straddle are split into bytes. Writes
 * to memory report decoded code they touch, whoever makes them.
 */
#include "mmu/bus.h"

#include <stdlib.h>

#include "mmu/context.h"
#include "mmu/tlb.h"

/* A device's window. first: hpa or port; size 0: hidden. */
struct bus_window {
    u64 first, size;
    const struct bus_ops *ops;
    void *dev;
};

#define VIDEO_START 0xa0000ull
#define VIDEO_END 0xc0000ull

/* ---- making ------------------------------------------------------------------------------------------------------ */

bool bus_init(struct bus *bus, u64 ram_size, u64 low_limit)
{
    memset(bus, 0, sizeof(*bus));
    bus->a20_mask = ~0ull;
    bus->a20_on = true;
    bus->ram_size = ram_size & ~(u64)(PAGE_SIZE - 1);
    bus->low_size = bus->ram_size < low_limit ? bus->ram_size : low_limit & ~(u64)(PAGE_SIZE - 1);
    bus->memory_size = bus->ram_size + BUS_ROM_RESERVE;
    if (bus->memory_size < bus->ram_size || bus->memory_size > SIZE_MAX - PAGE_SIZE)
        return false;

    size_t pages = (size_t)(bus->memory_size / PAGE_SIZE);
    /* calloc leaves large blocks to the host to fill with zero pages when they are touched. */
    bus->allocation = calloc(1, (size_t)bus->memory_size + PAGE_SIZE);
    bus->page_flags = calloc(pages, sizeof(*bus->page_flags));
    bus->code_map = calloc(pages, sizeof(*bus->code_map));
    bus->writers = calloc(pages, sizeof(*bus->writers));
    bus->port_index = calloc(65536, sizeof(*bus->port_index));
    if (!bus->allocation || !bus->page_flags || !bus->code_map || !bus->writers || !bus->port_index) {
        bus_free(bus);
        return false;
    }
    uintptr_t start = (uintptr_t)bus->allocation;
    bus->ram = (u8 *)bus->allocation + (-start & (PAGE_SIZE - 1));
    return true;
}

void bus_free(struct bus *bus)
{
    free(bus->allocation);
    free(bus->page_flags);
    free(bus->code_map);
    free(bus->writers);
    free(bus->port_index);
    free(bus->mmio);
    free(bus->ports);
    memset(bus, 0, sizeof(*bus));
}

static void flush_all_tlbs(struct bus *bus)
{
    for (unsigned i = 0; i < bus->cpu_count; i++)
        tlb_flush_everything(bus->cpu[i]);
}

void bus_reset(struct bus *bus)
{
    static const u8 zeros[PAGE_SIZE];

    bus_set_a20(bus, true);
    bus_set_smram(bus, BUS_SMRAM_NONE);
    bus_set_view(bus, false, 0, 0);
    for (u64 off = 0; off < bus->ram_size; off += PAGE_SIZE) {
        if (bus->page_flags[off / PAGE_SIZE] & PAGE_ROM)
            continue;
        bus_note_write(bus, off, PAGE_SIZE);
        /* Looking first keeps pages that were never touched from taking host memory. */
        if (memcmp(bus->ram + off, zeros, PAGE_SIZE) != 0)
            memset(bus->ram + off, 0, PAGE_SIZE);
    }
}

/* ---- what lies where --------------------------------------------------------------------------------------------- */

/* True when [a, a + an) and [b, b + bn) have a byte in common. */
static bool overlap(u64 a, u64 an, u64 b, u64 bn)
{
    return an && bn && a <= b + (bn - 1) && b <= a + (an - 1);
}

static bool overlaps_ram(const struct bus *bus, u64 hpa, u64 size)
{
    return overlap(hpa, size, 0, bus->low_size) || overlap(hpa, size, BIT(32), bus->ram_size - bus->low_size);
}

static bool overlaps_window(const struct bus_window *w, unsigned count, u64 first, u64 size)
{
    for (unsigned i = 0; i < count; i++)
        if (overlap(first, size, w[i].first, w[i].size))
            return true;
    return false;
}

static bool overlaps_rom(const struct bus *bus, u64 hpa, u64 size)
{
    for (unsigned i = 0; i < bus->rom_count; i++)
        if (overlap(hpa, size, bus->rom[i].hpa, bus->rom[i].size))
            return true;
    return false;
}

static bool window_add(struct bus_window **windows, unsigned *count, unsigned *capacity, struct bus_window w)
{
    if (*count == *capacity) {
        unsigned more = *capacity ? *capacity * 2 : 16;
        struct bus_window *grown = realloc(*windows, more * sizeof(*grown));
        if (!grown)
            return false;
        *windows = grown;
        *capacity = more;
    }
    (*windows)[(*count)++] = w;
    return true;
}

/* What follows from the A20 gate, from SMRAM, and from who is looking. */
static void update_view(struct bus *bus)
{
    bool hidden = bus->smram != BUS_SMRAM_NONE ? bus->smram == BUS_SMRAM_CLOSED && !bus->smm : bus->video;
    bus->hole_start = VIDEO_START;
    bus->hole_size = hidden ? VIDEO_END - VIDEO_START : 0;
    bus->a20_mask = bus->a20_on || bus->smm ? ~0ull : ~BIT(20);
}

bool bus_map_mmio(struct bus *bus, u64 hpa, u64 size, const struct bus_ops *ops, void *dev)
{
    if (size && hpa + (size - 1) < hpa)
        return false;
    if (overlaps_window(bus->mmio, bus->mmio_count, hpa, size) || overlaps_rom(bus, hpa, size))
        return false;
    bool video = size && hpa >= VIDEO_START && hpa < VIDEO_END && size <= VIDEO_END - hpa;
    if (overlaps_ram(bus, hpa, size) && !video)
        return false;
    if (!window_add(&bus->mmio, &bus->mmio_count, &bus->mmio_capacity, (struct bus_window){hpa, size, ops, dev}))
        return false;
    if (video) {
        bus->video = true;
        update_view(bus);
        flush_all_tlbs(bus);
    }
    return true;
}

bool bus_move_mmio(struct bus *bus, void *dev, u64 hpa, u64 size)
{
    if (size && hpa + (size - 1) < hpa)
        return false;
    for (unsigned i = 0; i < bus->mmio_count; i++) {
        if (bus->mmio[i].dev == dev) {
            bus->mmio[i].first = hpa;
            bus->mmio[i].size = size;
            return true;
        }
    }
    return false;
}

bool bus_map_ports(struct bus *bus, u16 first, unsigned count, const struct bus_ops *ops, void *dev)
{
    if (count == 0 || count > 65536u - first)
        return false;
    for (unsigned i = 0; i < count; i++)
        if (bus->port_index[first + i])
            return false;
    if (bus->port_count >= 65535 ||
        !window_add(&bus->ports, &bus->port_count, &bus->port_capacity, (struct bus_window){first, count, ops, dev}))
        return false;
    for (unsigned i = 0; i < count; i++)
        bus->port_index[first + i] = (u16)bus->port_count;
    return true;
}

bool bus_set_readonly(struct bus *bus, u64 hpa, u64 size, bool readonly)
{
    if ((hpa | size) & (PAGE_SIZE - 1))
        return false;
    for (u64 at = 0; at < size; at += PAGE_SIZE)
        if (bus_ram_offset(bus, hpa + at) == BUS_NO_RAM)
            return false;
    for (u64 at = 0; at < size; at += PAGE_SIZE) {
        u8 *flags = &bus->page_flags[bus_ram_offset(bus, hpa + at) / PAGE_SIZE];
        *flags = (u8)(readonly ? *flags | PAGE_ROM : *flags & ~PAGE_ROM);
    }
    flush_all_tlbs(bus);
    return true;
}

bool bus_map_rom(struct bus *bus, u64 hpa, const void *data, u64 size)
{
    if ((hpa | size) & (PAGE_SIZE - 1) || size == 0 || hpa + (size - 1) < hpa)
        return false;
    if (overlaps_ram(bus, hpa, size)) {
        u64 masked = bus->a20_mask;
        bus->a20_mask = ~0ull;
        bool done = bus_set_readonly(bus, hpa, size, false) && bus_copy_to(bus, hpa, data, size) &&
                    bus_set_readonly(bus, hpa, size, true);
        bus->a20_mask = masked;
        return done;
    }

    struct bus_rom *last = bus->rom_count ? &bus->rom[bus->rom_count - 1] : NULL;
    u64 offset = last ? last->offset + last->size : bus->ram_size;
    if (bus->rom_count == BUS_MAX_ROMS || size > bus->memory_size - offset || overlaps_rom(bus, hpa, size) ||
        overlaps_window(bus->mmio, bus->mmio_count, hpa, size))
        return false;
    bus->rom[bus->rom_count++] = (struct bus_rom){.hpa = hpa, .size = size, .offset = offset};
    memcpy(bus->ram + offset, data, (size_t)size);
    memset(&bus->page_flags[offset / PAGE_SIZE], PAGE_ROM, (size_t)(size / PAGE_SIZE));
    flush_all_tlbs(bus);
    return true;
}

void bus_set_a20(struct bus *bus, bool on)
{
    if (on == bus->a20_on)
        return;
    bus->a20_on = on;
    update_view(bus);
    flush_all_tlbs(bus);
}

void bus_set_smram(struct bus *bus, enum bus_smram smram)
{
    if (bus->smram == smram)
        return;
    bus->smram = (u8)smram;
    update_view(bus);
    flush_all_tlbs(bus);
}

void bus_set_view(struct bus *bus, bool smm, u64 secret, u64 size)
{
    bus->secret_start = secret;
    bus->secret_size = smm ? 0 : size;
    if (bus->smm == smm)
        return;
    bus->smm = smm;
    update_view(bus);
}

u64 bus_memory_offset(const struct bus *bus, u64 hpa)
{
    u64 off = bus_ram_offset(bus, hpa);
    if (LIKELY(off != BUS_NO_RAM))
        return off;
    hpa &= bus->a20_mask;
    for (unsigned i = 0; i < bus->rom_count; i++)
        if (hpa - bus->rom[i].hpa < bus->rom[i].size)
            return bus->rom[i].offset + (hpa - bus->rom[i].hpa);
    return BUS_NO_RAM;
}

static const struct bus_window *mmio_at(const struct bus *bus, u64 hpa)
{
    for (unsigned i = 0; i < bus->mmio_count; i++)
        if (hpa - bus->mmio[i].first < bus->mmio[i].size)
            return &bus->mmio[i];
    return NULL;
}

/* ---- accesses ---------------------------------------------------------------------------------------------------- */

u64 bus_read(struct bus *bus, unsigned cpu, u64 hpa, unsigned size)
{
    u64 value = 0;

    hpa &= bus->a20_mask;
    if ((hpa & (PAGE_SIZE - 1)) + size <= PAGE_SIZE) {
        u64 off = bus_memory_offset(bus, hpa);
        if (off != BUS_NO_RAM) {
            memcpy(&value, bus->ram + off, size);
            return value;
        }
        const struct bus_window *w = mmio_at(bus, hpa);
        if (!w || !w->ops->read)
            return mask_low(8 * size);
        if (size <= w->size - (hpa - w->first))
            return w->ops->read(w->dev, cpu, hpa - w->first, size) & mask_low(8 * size);
    }
    for (unsigned i = 0; i < size; i++)
        value |= bus_read(bus, cpu, hpa + i, 1) << (8 * i);
    return value;
}

void bus_write(struct bus *bus, unsigned cpu, u64 hpa, unsigned size, u64 value)
{
    hpa &= bus->a20_mask;
    if ((hpa & (PAGE_SIZE - 1)) + size <= PAGE_SIZE) {
        u64 off = bus_memory_offset(bus, hpa);
        if (off != BUS_NO_RAM) {
            if (bus->page_flags[off / PAGE_SIZE] & PAGE_ROM)
                return;
            memcpy(bus->ram + off, &value, size);
            bus_note_write(bus, off, size);
            return;
        }
        const struct bus_window *w = mmio_at(bus, hpa);
        if (!w || !w->ops->write)
            return;
        if (size <= w->size - (hpa - w->first)) {
            w->ops->write(w->dev, cpu, hpa - w->first, size, value & mask_low(8 * size));
            return;
        }
    }
    for (unsigned i = 0; i < size; i++)
        bus_write(bus, cpu, hpa + i, 1, value >> (8 * i) & 0xff);
}

/* The bytes from hpa to the end of its page, at most n. */
static u64 in_page(u64 hpa, u64 n)
{
    u64 rest = PAGE_SIZE - (hpa & (PAGE_SIZE - 1));
    return n < rest ? n : rest;
}

static bool all_memory(const struct bus *bus, u64 hpa, u64 n)
{
    if (n && hpa + (n - 1) < hpa)
        return false;
    for (u64 part; n; hpa += part, n -= part) {
        part = in_page(hpa, n);
        if (bus_memory_offset(bus, hpa) == BUS_NO_RAM)
            return false;
    }
    return true;
}

bool bus_copy_from(struct bus *bus, void *to, u64 hpa, u64 n)
{
    if (!all_memory(bus, hpa, n))
        return false;
    u8 *out = to;
    for (u64 part; n; hpa += part, out += part, n -= part) {
        part = in_page(hpa, n);
        memcpy(out, bus->ram + bus_memory_offset(bus, hpa), (size_t)part);
    }
    return true;
}

bool bus_copy_to(struct bus *bus, u64 hpa, const void *from, u64 n)
{
    if (!all_memory(bus, hpa, n))
        return false;
    const u8 *in = from;
    for (u64 part; n; hpa += part, in += part, n -= part) {
        part = in_page(hpa, n);
        u64 off = bus_memory_offset(bus, hpa);
        if (bus->page_flags[off / PAGE_SIZE] & PAGE_ROM)
            continue;
        memcpy(bus->ram + off, in, (size_t)part);
        bus_note_write(bus, off, part);
    }
    return true;
}

/* By so many pages at a time the host makes room, which costs it less than page by page. */
#define FORESEEN_PAGES 16u

void bus_foresee(struct bus *bus, u64 ram_off)
{
    u64 first = ram_off / PAGE_SIZE & ~(u64)(FORESEEN_PAGES - 1), end = bus->memory_size / PAGE_SIZE;
    if (end > first + FORESEEN_PAGES)
        end = first + FORESEEN_PAGES;
    for (u64 page = first; page < end; page++)
        bus->page_flags[page] |= PAGE_FORESEEN;
    if (bus->foresee)
        bus->foresee(bus->ram + first * PAGE_SIZE, (end - first) * PAGE_SIZE);
}

/* ---- ports ------------------------------------------------------------------------------------------------------- */

/* The window that holds all of [port, port + size), or NULL; *any tells whether some byte has one. */
static const struct bus_window *port_window(const struct bus *bus, u16 port, unsigned size, bool *any)
{
    u16 index = bus->port_index[port];
    bool all = true;
    *any = index != 0;
    for (unsigned i = 1; i < size; i++) {
        u16 other = bus->port_index[(u16)(port + i)];
        all = all && other == index && port + i < 65536u;
        *any = *any || other != 0;
    }
    return index && all ? &bus->ports[index - 1] : NULL;
}

u32 bus_port_in(struct bus *bus, unsigned cpu, u16 port, unsigned size)
{
    bool any;
    const struct bus_window *w = port_window(bus, port, size, &any);
    if (w)
        return (u32)((w->ops->read ? w->ops->read(w->dev, cpu, port - w->first, size) : ~0ull) & mask_low(8 * size));
    if (!any || size == 1)
        return (u32)mask_low(8 * size);
    u32 value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= bus_port_in(bus, cpu, (u16)(port + i), 1) << (8 * i);
    return value;
}

void bus_port_out(struct bus *bus, unsigned cpu, u16 port, unsigned size, u32 value)
{
    bool any;
    const struct bus_window *w = port_window(bus, port, size, &any);
    if (w) {
        if (w->ops->write)
            w->ops->write(w->dev, cpu, port - w->first, size, value & mask_low(8 * size));
        return;
    }
    for (unsigned i = 0; any && size > 1 && i < size; i++)
        bus_port_out(bus, cpu, (u16)(port + i), 1, value >> (8 * i) & 0xff);
}

/* ---- decoded code ------------------------------------------------------------------------------------------------ */

/* The 64-byte chunks of a page that [off, off + n) touches; n > 0 and within the page. */
static u64 chunk_mask(u64 off, unsigned n)
{
    unsigned first = (unsigned)(off >> 6 & 63), last = (unsigned)((off + n - 1) >> 6 & 63);
    return mask_low(last - first + 1) << first;
}

/* Writes to the page take the slow path, where they are looked at. */
static void report_writes(struct bus *bus, u64 page, unsigned flag)
{
    bus->page_flags[page] |= (u8)flag;
    if (bus->page_flags[page] & PAGE_WRITABLE_TLB) {
        bus->page_flags[page] &= (u8)~PAGE_WRITABLE_TLB;
        tlb_drop_writers(bus, page * PAGE_SIZE);
    }
}

bool bus_watch(struct bus *bus, u64 hpa)
{
    u64 off = bus_ram_offset(bus, hpa);
    if (off == BUS_NO_RAM)
        return false;
    report_writes(bus, off / PAGE_SIZE, PAGE_WATCHED);
    return true;
}

/* n bytes of a watched page were written: the vCPUs whose line it was need not wait any more. The watch ends with the last
 * line in the page. */
static COLD void watched_write(struct bus *bus, u64 ram_off, u64 n)
{
    bool watched = false;
    for (unsigned i = 0; i < bus->cpu_count; i++) {
        struct cpu_event *e = &bus->cpu[i]->event;
        if (!(e->monitor_armed & (MONITOR_ARMED | MONITOR_WAITING)))
            continue;
        u64 line = bus_ram_offset(bus, e->monitor_hpa);
        if (line + 64 <= ram_off || ram_off + n <= line) {
            watched |= line / PAGE_SIZE == ram_off / PAGE_SIZE;
            continue;
        }
        if (e->activity == ACTIVITY_MWAIT) {
            e->activity = ACTIVITY_ACTIVE;
            e->attention &= ~(u32)ATT_ACTIVITY;
        }
        e->monitor_armed = 0;
        e->monitor_hpa = 0;
    }
    if (!watched)
        bus->page_flags[ram_off / PAGE_SIZE] &= (u8)~PAGE_WATCHED;
}

bool bus_note_write(struct bus *bus, u64 ram_off, u64 n)
{
    bool touched = false;
    for (u64 part; n; ram_off += part, n -= part) {
        part = in_page(ram_off, n);
        u64 page = ram_off / PAGE_SIZE;
        if (UNLIKELY(bus->page_flags[page] & PAGE_WATCHED))
            watched_write(bus, ram_off, part);
        if (LIKELY(!(bus->page_flags[page] & PAGE_CODE)) || !(bus->code_map[page] & chunk_mask(ram_off, (unsigned)part)))
            continue;
        touched = true;
        if (bus->code_written)
            bus->code_written(bus->code_written_arg, ram_off, (unsigned)part);
    }
    return touched;
}

void bus_mark_code(struct bus *bus, u64 ram_off, unsigned n)
{
    u64 page = ram_off / PAGE_SIZE;
    bus->code_map[page] |= chunk_mask(ram_off, n);
    report_writes(bus, page, PAGE_CODE);
}

void bus_unmark_code(struct bus *bus, u64 ram_off)
{
    u64 page = ram_off / PAGE_SIZE;
    bus->code_map[page] = 0;
    bus->page_flags[page] &= (u8)~PAGE_CODE;
}
