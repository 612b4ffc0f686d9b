/* The physical bus of the emulated board: RAM, ROM, memory-mapped devices and I/O ports.
 *
 * Addresses here are `hpa`: host-physical addresses of the emulated machine, what the emulated processor puts on its
 * bus (L1's "physical address"). RAM lies at [0, low_size) and [4 GiB, 4 GiB + high_size); its bytes are also numbered
 * by `ram offset` (0 .. ram_size), which is how code pages and blocks are keyed. ROMs mapped above RAM (flash below 4
 * GiB) lie behind RAM in the same memory and have offsets ram_size .. memory_size, so that their code is cached like
 * any other.
 *
 * Kept true: the first mapping made wins nothing: overlapping MMIO or port registrations are refused (false). Reads of
 * nothing give all ones, writes to nothing vanish. ROM pages ignore writes from the bus. Whatever changes what an hpa
 * means (A20, ROM, windows over RAM) empties the TLBs of all vCPUs.
 */
#ifndef NESTOR_MMU_BUS_H
#define NESTOR_MMU_BUS_H

#include "cpu/base.h"

#define PAGE_SIZE 4096u
#define BUS_NO_RAM (~0ull)
#define BUS_ROM_RESERVE (16ull << 20)   /* room for ROMs above RAM */
#define BUS_MAX_ROMS 8
#define BUS_MAX_CPUS 256

struct cpu;

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
    PAGE_ROM = 1 << 2,      /* writes are ignored */
    PAGE_WATCHED = 1 << 3,  /* a vCPU monitors a line of it: writes take the slow path and report to bus_note_write() */
    PAGE_FORESEEN = 1 << 4, /* the host was told that it will be written */
};

struct bus_window;

struct bus_rom {
    u64 hpa, size;       /* bytes, multiples of 4096 */
    u64 offset;          /* where its bytes are in the memory */
};

struct bus {
    u8 *ram;             /* memory_size bytes, page aligned */
    u64 ram_size;        /* bytes, multiple of 4096 */
    u64 low_size;        /* bytes of RAM below 4 GiB, at hpa 0 */
    u64 memory_size;     /* RAM and room for ROMs, bytes: limit of all offsets, and of the arrays by page below */
    u64 hole_start, hole_size; /* legacy video window: RAM in it is hidden behind devices; size 0 without any */
    u64 secret_start, secret_size; /* RAM that does not answer the processor that runs (bus_set_view); size 0: none */
    u8 *page_flags;      /* one byte a page */
    u64 *code_map;       /* one word a page: bit n set, the 64-byte chunk n of the page holds decoded code */
    u64 *writers;        /* one word a page: which TLB entries allow writing it (mmu/tlb.c) */
    /* Called after [ram_off, ram_off + n) (within one page) was written and touched a chunk that holds code. */
    void (*code_written)(void *arg, u64 ram_off, unsigned n);
    void *code_written_arg;
    /* The n bytes at `host` are about to be written for the first time, some of them at once; the host may make room for all. NULL: it is not told. */
    void (*foresee)(u8 *host, u64 n);
    /* Pages above RAM that hold ROM (BIOS area below 4 GiB) are windows with direct memory. */
    struct bus_window *mmio;
    unsigned mmio_count, mmio_capacity;
    struct bus_window *ports;
    unsigned port_count, port_capacity;
    u16 *port_index;     /* 65536 entries: index + 1 into ports, 0 = nothing there */
    struct bus_rom rom[BUS_MAX_ROMS];
    unsigned rom_count;
    struct cpu *cpu[BUS_MAX_CPUS]; /* vCPUs whose TLBs hold translations to this memory; entered by tlb_init */
    unsigned cpu_count;
    u64 a20_mask;        /* ANDed into every hpa: all ones, or bit 20 clear while A20 is masked. Set by bus_set_a20 */
    /* What the two above follow from. */
    bool video;          /* a device covers the video window */
    u8 smram;            /* enum bus_smram */
    bool a20_on;         /* the A20 gate */
    bool smm;            /* accesses are those of a processor in SMM (bus_set_view) */
    void *allocation;    /* what ram lies in */
};

/* Makes a bus with `ram_size` bytes of zeroed RAM, at most `low_limit` of them below 4 GiB. False if the host has not
 * enough memory. */
bool bus_init(struct bus *bus, u64 ram_size, u64 low_limit);
void bus_free(struct bus *bus);

/* Forgets decoded code and what RAM holds (all zeros, except ROM); A20 on. Pages never touched cost no host memory. */
void bus_reset(struct bus *bus);

/* Maps a ROM that holds `data`; hpa and size are multiples of 4096. Inside RAM (the BIOS area below 1 MiB) it becomes
 * read-only RAM; above RAM it takes room of its own. False when it is neither wholly inside nor outside of RAM,
 * overlaps a window, or there is no room left. */
bool bus_map_rom(struct bus *bus, u64 hpa, const void *data, u64 size);

/* Makes RAM pages ignore writes, or accept them again (shadow RAM of the BIOS area). False when any page is not RAM. */
bool bus_set_readonly(struct bus *bus, u64 hpa, u64 size, bool readonly);

/* A20 gate. */
void bus_set_a20(struct bus *bus, bool on);

/* The chipset's SMRAM, which is the RAM below the video window. `enabled`: it exists; `open`: outside SMM, too. Without it the
 * window shows devices, or RAM as long as no device covers it. */
enum bus_smram { BUS_SMRAM_NONE, BUS_SMRAM_CLOSED, BUS_SMRAM_OPEN };
void bus_set_smram(struct bus *bus, enum bus_smram smram);

/* Whose accesses come now: those of a processor in SMM (SMRAM answers, A20 is not masked), or of one outside that must not
 * see [secret, secret + size) (its SMRR; size 0: none). TLBs are the caller's business: each processor's hold what its own
 * view showed. */
void bus_set_view(struct bus *bus, bool smm, u64 secret, u64 size);

/* Maps a device's registers. False when the window overlaps another one or RAM, where only 0xa0000-0xbffff (video) may
 * be covered. size 0 makes a hidden window, for bus_move_mmio. */
bool bus_map_mmio(struct bus *bus, u64 hpa, u64 size, const struct bus_ops *ops, void *dev);
bool bus_map_ports(struct bus *bus, u16 first, unsigned count, const struct bus_ops *ops, void *dev);

/* Moves or hides a window that bus_map_mmio made for `dev` (PCI BARs, the LAPIC base). size 0 hides it. Guests place
 * BARs where they like: where windows overlap, the one mapped first answers, and RAM hides any. False when dev has no
 * window or the range wraps. */
bool bus_move_mmio(struct bus *bus, void *dev, u64 hpa, u64 size);

/* The offset in RAM of a bus address, or BUS_NO_RAM. */
static inline u64 bus_ram_offset(const struct bus *bus, u64 hpa)
{
    hpa &= bus->a20_mask;
    if (hpa < bus->low_size)
        return UNLIKELY(hpa - bus->hole_start < bus->hole_size || hpa - bus->secret_start < bus->secret_size) ? BUS_NO_RAM : hpa;
    if (hpa >= BIT(32) && hpa - BIT(32) < bus->ram_size - bus->low_size)
        return hpa - BIT(32) + bus->low_size;
    return BUS_NO_RAM;
}

/* The same with ROMs above RAM: offset in bus->ram of what answers at hpa, or BUS_NO_RAM for devices and nothing. */
u64 bus_memory_offset(const struct bus *bus, u64 hpa);

/* Reads or writes 1, 2, 4 or 8 bytes anywhere on the bus (RAM, ROM, device). May cross pages. Writes to RAM report
 * touched code and keep PAGE_CODE pages coherent. */
u64 bus_read(struct bus *bus, unsigned cpu, u64 hpa, unsigned size);
void bus_write(struct bus *bus, unsigned cpu, u64 hpa, unsigned size, u64 value);

/* Copies between host memory and memory (loaders, DMA). False, and nothing copied, when any byte is a device's or
 * nothing's. Writes report touched code; those to ROM pages vanish. */
bool bus_copy_from(struct bus *bus, void *to, u64 hpa, u64 n);
bool bus_copy_to(struct bus *bus, u64 hpa, const void *from, u64 n);

/* Tells that [ram_off, +n) was written: invalidates decoded code in it, and wakes vCPUs that monitor a line of it. Cheap
 * when the pages hold neither. True when code was touched. */
bool bus_note_write(struct bus *bus, u64 ram_off, u64 n);

/* From now on writes to the page of hpa are looked at for the line that a vCPU monitors (event.monitor_hpa); until nobody
 * does. False: it is not RAM. */
bool bus_watch(struct bus *bus, u64 hpa);

/* Tells that the n bytes at ram_off (within one page) hold decoded code from now on: writes to them will be reported. */
void bus_mark_code(struct bus *bus, u64 ram_off, unsigned n);

/* Tells that the page at ram_off holds no decoded code any more: writes to it are as fast as to others again. */
void bus_unmark_code(struct bus *bus, u64 ram_off);

/* Tells the host that pages around the one at ram_off are going to be written, as neighbours of a written page mostly are. */
void bus_foresee(struct bus *bus, u64 ram_off);

/* Port I/O; size 1, 2 or 4. An access that straddles windows is split into bytes. Nothing there: all ones. */
u32 bus_port_in(struct bus *bus, unsigned cpu, u16 port, unsigned size);
void bus_port_out(struct bus *bus, unsigned cpu, u16 port, unsigned size, u32 value);

#endif
