/* The physical bus of the emulated board: RAM, ROM, memory-mapped devices and I/O ports.
 *
 * Addresses here are `hpa`: host-physical addresses of the emulated machine, what the emulated processor puts on its
 * bus (L1's "physical address"). RAM lies at [0, low_size) and [4 GiB, 4 GiB + high_size); its bytes are also numbered
 * by `ram offset` (0 .. ram_size), which is how code pages and blocks are keyed.
 *
 * Kept true: the first mapping made wins nothing: overlapping MMIO or port registrations are refused (false). Reads of
 * nothing give all ones, writes to nothing vanish. ROM pages ignore writes from the bus.
 */
#ifndef NESTOR_MMU_BUS_H
#define NESTOR_MMU_BUS_H

#include "cpu/base.h"

#define PAGE_SIZE 4096u
#define BUS_NO_RAM (~0ull)

/* A device's memory-mapped or port window. `cpu` is the number of the vCPU that accesses it, `off` the byte offset from
 * the window's start, `size` 1, 2, 4 or 8 (ports: 1, 2, 4). Accesses never cross the window's end. */
struct bus_ops {
    u64 (*read)(void *dev, unsigned cpu, u64 off, unsigned size);
    void (*write)(void *dev, unsigned cpu, u64 off, unsigned size, u64 value);
};

/* Flags kept for each 4 KiB page of RAM (bus->page_flags[ram offset >> 12]). */
enum {
    PAGE_CODE = 1 << 0,     /* holds decoded blocks: writes must take the slow path and report to code_written */
    PAGE_WRITABLE_TLB = 1 << 1, /* some TLB may hold a writable entry for it */
    PAGE_ROM = 1 << 2,      /* bus writes are ignored */
};

struct bus_window;

struct bus {
    u8 *ram;             /* ram_size bytes, page aligned */
    u64 ram_size;        /* bytes, multiple of 4096 */
    u64 low_size;        /* bytes of RAM below 4 GiB, at hpa 0 */
    u8 *page_flags;      /* one byte a RAM page */
    u64 *code_map;       /* one word a RAM page: bit n set, the 64-byte chunk n of the page holds decoded code */
    /* Called after [ram_off, ram_off + n) (within one page) was written and touched a chunk that holds code. */
    void (*code_written)(void *arg, u64 ram_off, unsigned n);
    void *code_written_arg;
    /* Pages above RAM that hold ROM (BIOS area below 4 GiB) are windows with direct memory. */
    struct bus_window *mmio;
    unsigned mmio_count, mmio_capacity;
    struct bus_window *ports;
    unsigned port_count, port_capacity;
    u16 *port_index;     /* 65536 entries: index + 1 into ports, 0 = nothing there */
    u64 a20_mask;        /* ANDed into every hpa: all ones, or bit 20 clear while A20 is masked */
};

/* Makes a bus with `ram_size` bytes of zeroed RAM, at most `low_limit` of them below 4 GiB. False if the host has not
 * enough memory. */
bool bus_init(struct bus *bus, u64 ram_size, u64 low_limit);
void bus_free(struct bus *bus);

/* Maps a device's registers. False when the window overlaps another one or RAM. */
bool bus_map_mmio(struct bus *bus, u64 hpa, u64 size, const struct bus_ops *ops, void *dev);
bool bus_map_ports(struct bus *bus, u16 first, unsigned count, const struct bus_ops *ops, void *dev);

/* Moves or hides a window that bus_map_mmio made for `dev` (PCI BARs, the LAPIC base). size 0 hides it. */
bool bus_move_mmio(struct bus *bus, void *dev, u64 hpa, u64 size);

/* The offset in RAM of a bus address, or BUS_NO_RAM. */
static inline u64 bus_ram_offset(const struct bus *bus, u64 hpa)
{
    hpa &= bus->a20_mask;
    if (hpa < bus->low_size)
        return hpa;
    if (hpa >= BIT(32) && hpa - BIT(32) < bus->ram_size - bus->low_size)
        return hpa - BIT(32) + bus->low_size;
    return BUS_NO_RAM;
}

/* Reads or writes 1, 2, 4 or 8 bytes anywhere on the bus (RAM, ROM, device). May cross pages. Writes to RAM report
 * touched code and keep PAGE_CODE pages coherent. */
u64 bus_read(struct bus *bus, unsigned cpu, u64 hpa, unsigned size);
void bus_write(struct bus *bus, unsigned cpu, u64 hpa, unsigned size, u64 value);

/* Copies between host memory and RAM (loaders, DMA). False, and nothing copied, when any byte is not RAM. Writes report
 * touched code. */
bool bus_copy_from(struct bus *bus, void *to, u64 hpa, u64 n);
bool bus_copy_to(struct bus *bus, u64 hpa, const void *from, u64 n);

/* Tells that [ram_off, +n) was or will be written: invalidates decoded code in it. Cheap when the pages hold none. */
void bus_note_write(struct bus *bus, u64 ram_off, u64 n);

/* Port I/O; size 1, 2 or 4. An access that straddles windows is split into bytes. Nothing there: all ones. */
u32 bus_port_in(struct bus *bus, unsigned cpu, u16 port, unsigned size);
void bus_port_out(struct bus *bus, unsigned cpu, u16 port, unsigned size, u32 value);

#endif
