/* What answers where on the bus: RAM, ROM, windows, ports, A20; reports of written code. */
#include "tests/mmu/rig.h"

struct probe_device {
    u64 off, value;
    unsigned size, cpu, reads, writes;
};

static u64 probe_read(void *dev, unsigned n, u64 off, unsigned size)
{
    struct probe_device *d = dev;
    d->off = off, d->size = size, d->cpu = n;
    d->reads++;
    return 0x1122334455667788;
}
static void probe_write(void *dev, unsigned n, u64 off, unsigned size, u64 value)
{
    struct probe_device *d = dev;
    d->off = off, d->size = size, d->cpu = n, d->value = value;
    d->writes++;
}
static const struct bus_ops probe_ops = {probe_read, probe_write};
static struct probe_device a, b;

static u64 code_off;
static unsigned code_n, code_calls;
static void code_written(void *arg, u64 off, unsigned n)
{
    (void)arg;
    code_off = off, code_n = n;
    code_calls++;
}

START_TEST(ram_low_and_high)
{
    struct bus split;
    ck_assert(bus_init(&split, 8 << 20, 6 << 20));
    ck_assert_uint_eq(split.low_size, 6 << 20);
    bus_write(&split, 0, (6 << 20) - 8, 8, 1);
    bus_write(&split, 0, BIT(32), 8, 2);
    bus_write(&split, 0, BIT(32) + (2 << 20) - 8, 8, 3);
    ck_assert_uint_eq(load64(split.ram + (6 << 20) - 8), 1);
    ck_assert_uint_eq(load64(split.ram + (6 << 20)), 2);
    ck_assert_uint_eq(load64(split.ram + (8 << 20) - 8), 3);
    ck_assert_uint_eq(bus_read(&split, 0, 6 << 20, 4), 0xffffffff);
    ck_assert_uint_eq(bus_read(&split, 0, BIT(32) + (2 << 20), 8), ~0ull);
    /* Straddling the end of RAM. */
    ck_assert_uint_eq(bus_read(&split, 0, (6 << 20) - 4, 8), 0xffffffff00000000);
    u8 buffer[16] = {0};
    ck_assert(!bus_copy_from(&split, buffer, (6 << 20) - 8, 16));
    ck_assert(!bus_copy_to(&split, ~0ull - 4, buffer, 16));
    ck_assert(bus_copy_from(&split, buffer, BIT(32), 16));
    ck_assert_uint_eq(buffer[0], 2);
    bus_reset(&split);
    ck_assert_uint_eq(bus_read(&split, 0, BIT(32), 8), 0);
    bus_free(&split);
}
END_TEST

START_TEST(windows)
{
    ck_assert(bus_map_mmio(&bus, 0xfec00000, 0x1000, &probe_ops, &a));
    ck_assert(!bus_map_mmio(&bus, 0xfec00800, 0x1000, &probe_ops, &b));
    ck_assert(!bus_map_mmio(&bus, 0xfebff800, 0x801, &probe_ops, &b));
    ck_assert(!bus_map_mmio(&bus, RIG_RAM - 1, 2, &probe_ops, &b));
    ck_assert(!bus_map_mmio(&bus, ~0ull, 2, &probe_ops, &b));
    ck_assert(bus_map_mmio(&bus, 0xfec01000, 0x10, &probe_ops, &b));
    ck_assert_uint_eq(bus_read(&bus, 3, 0xfec00010, 4), 0x55667788);
    ck_assert_uint_eq(a.off, 0x10);
    ck_assert_uint_eq(a.size, 4);
    ck_assert_uint_eq(a.cpu, 3);
    bus_write(&bus, 1, 0xfec01008, 8, 42);
    ck_assert_uint_eq(b.value, 42);
    /* Straddling two windows: bytes to each. */
    a.reads = b.reads = 0;
    bus_read(&bus, 0, 0xfec00ffe, 4);
    ck_assert_uint_eq(a.reads, 2);
    ck_assert_uint_eq(b.reads, 2);
    /* Straddling a window's end. */
    b.writes = 0;
    bus_write(&bus, 0, 0xfec0100c, 8, ~0ull);
    ck_assert_uint_eq(b.writes, 4);
    ck_assert_uint_eq(b.value, 0xff);

    ck_assert(bus_move_mmio(&bus, &a, 0xe0000000, 0x1000));
    ck_assert_uint_eq(bus_read(&bus, 0, 0xfec00010, 4), 0xffffffff);
    ck_assert_uint_eq(bus_read(&bus, 0, 0xe0000010, 2), 0x7788);
    ck_assert(bus_move_mmio(&bus, &a, 0, 0));
    ck_assert_uint_eq(bus_read(&bus, 0, 0xe0000010, 2), 0xffff);
    ck_assert(!bus_move_mmio(&bus, &bus, 0, 0x1000));
    /* Overlapping after a move: the first one mapped answers. */
    ck_assert(bus_move_mmio(&bus, &a, 0xfec01000, 0x10));
    a.reads = b.reads = 0;
    bus_read(&bus, 0, 0xfec01000, 1);
    ck_assert_uint_eq(a.reads, 1);
    ck_assert_uint_eq(b.reads, 0);
}
END_TEST

START_TEST(video_window)
{
    put64(0xa0000, 7);
    rig_mode(PAGING_NONE, 0);
    ck_assert_uint_eq(rig_read(0xa0000), 7);
    ck_assert(bus_map_mmio(&bus, 0xa0000, 0x20000, &probe_ops, &a));
    ck_assert_uint_eq(rig_read(0xa0000), 0x1122334455667788);
    rig_write(0xb8000, 0x0741);
    ck_assert_uint_eq(a.off, 0x18000);
    ck_assert_uint_eq(rig_read(0xc0000), 0);
    u64 v;
    ck_assert(!bus_copy_from(&bus, &v, 0xa0000, 8));
    ck_assert(!bus_map_mmio(&bus, 0xc0000, 0x1000, &probe_ops, &b));
}
END_TEST

START_TEST(roms)
{
    static u8 image[0x20000];
    for (unsigned i = 0; i < sizeof(image); i += 2)
        store16(image + i, (u16)i);
    rig_mode(PAGING_NONE, 0);
    rig_write(0xf0000, 1);
    ck_assert(bus_map_rom(&bus, 0xe0000, image, sizeof(image)));
    ck_assert(bus_map_rom(&bus, 0xfffe0000, image, sizeof(image)));
    ck_assert(!bus_map_rom(&bus, 0xffff0000, image, 0x10000));
    ck_assert(!bus_map_rom(&bus, 0xf0800, image, 0x1000));
    ck_assert(!bus_map_mmio(&bus, 0xffff0000, 0x1000, &probe_ops, &a));
    ck_assert_uint_eq(bus_read(&bus, 0, 0xf1234, 2), 0x1234);
    ck_assert_uint_eq(bus_read(&bus, 0, 0xfffffff0, 2), 0xfff0);
    bus_write(&bus, 0, 0xf1234, 4, 0);
    bus_write(&bus, 0, 0xfffffff0, 4, 0);
    u64 zero = 0;
    ck_assert(bus_copy_to(&bus, 0xf1230, &zero, 8));
    ck_assert_uint_eq(bus_read(&bus, 0, 0xf1234, 2), 0x1234);
    ck_assert_uint_eq(bus_read(&bus, 0, 0xfffffff0, 2), 0xfff0);
    /* The CPU's writes vanish, before and after the TLB knows the page. */
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_uint_eq((u16)rig_read(0xf1234), 0x1234);
        rig_write(0xf1234, 0);
        ck_assert_uint_eq((u16)rig_read(0xffff1234), 0x1234);
        rig_write(0xffff1234, 0);
    }
    /* Code in both can be cached. */
    const u8 *host;
    u64 off;
    ck_assert(mem_fetch_page(cpu, 0xfffffff0, &host, &off));
    ck_assert_uint_ge(off, bus.ram_size);
    ck_assert_uint_lt(off, bus.memory_size);
    ck_assert_uint_eq(load16(host + 0xff0), 0xfff0);
    bus_mark_code(&bus, off + 0xff0, 16);
    bus_reset(&bus);
    ck_assert_uint_eq((u16)rig_read(0xf1234), 0x1234);
    ck_assert_uint_eq((u16)rig_read(0xffff1234), 0x1234);
    /* Shadow RAM. */
    ck_assert(bus_set_readonly(&bus, 0xf0000, 0x10000, false));
    rig_write(0xf1234, 5);
    ck_assert_uint_eq(rig_read(0xf1234), 5);
    ck_assert(bus_set_readonly(&bus, 0xf0000, 0x10000, true));
    rig_write(0xf1234, 6);
    ck_assert_uint_eq(rig_read(0xf1234), 5);
    ck_assert(!bus_set_readonly(&bus, 0xfffe0000, 0x1000, false));
    /* No more room than there is. */
    static u8 large[BUS_ROM_RESERVE];
    ck_assert(!bus_map_rom(&bus, 0xc0000000, large, sizeof(large)));
}
END_TEST

START_TEST(a20)
{
    rig_mode(PAGING_NONE, 0);
    put64(0x100010, 1);
    put64(0x10, 2);
    ck_assert_uint_eq(rig_read(0x100010), 1);
    bus_set_a20(&bus, false);
    ck_assert_uint_eq(rig_read(0x100010), 2);
    ck_assert_uint_eq(bus_read(&bus, 0, 0x300010, 8), bus_read(&bus, 0, 0x200010, 8));
    bus_set_a20(&bus, true);
    ck_assert_uint_eq(rig_read(0x100010), 1);
}
END_TEST

START_TEST(ports)
{
    ck_assert(bus_map_ports(&bus, 0x60, 1, &probe_ops, &a));
    ck_assert(bus_map_ports(&bus, 0x64, 4, &probe_ops, &b));
    ck_assert(!bus_map_ports(&bus, 0x63, 2, &probe_ops, &a));
    ck_assert(!bus_map_ports(&bus, 0xffff, 2, &probe_ops, &a));
    ck_assert_uint_eq(bus_port_in(&bus, 2, 0x60, 1), 0x88);
    ck_assert_uint_eq(a.cpu, 2);
    ck_assert_uint_eq(bus_port_in(&bus, 0, 0x64, 4), 0x55667788);
    ck_assert_uint_eq(bus_port_in(&bus, 0, 0x70, 2), 0xffff);
    ck_assert_uint_eq(bus_port_in(&bus, 0, 0xfffe, 4), 0xffffffff);
    /* Straddling: bytes. */
    ck_assert_uint_eq(bus_port_in(&bus, 0, 0x66, 4), 0xffff8888);
    ck_assert_uint_eq(b.size, 1);
    a.writes = 0;
    bus_port_out(&bus, 0, 0x5f, 4, 0x44332211);
    ck_assert_uint_eq(a.writes, 1);
    ck_assert_uint_eq(a.value, 0x22);
    bus_port_out(&bus, 0, 0x64, 2, 0x9988);
    ck_assert_uint_eq(b.value, 0x9988);
    ck_assert_uint_eq(b.size, 2);
}
END_TEST

START_TEST(code_reports)
{
    bus.code_written = code_written;
    rig_mode(PAGING_NONE, 0);
    rig_write(0x5000, 0x90);           /* the TLB lets it be written */
    bus_mark_code(&bus, 0x5040, 70);   /* chunks 1 and 2 */
    ck_assert_uint_eq(bus.code_map[5], 6);
    code_calls = 0;
    cpu->run_end = (const struct insn *)(uintptr_t)1;
    rig_write(0x5000, 1);
    rig_write(0x50c0, 1);
    ck_assert_uint_eq(code_calls, 0);
    ck_assert_ptr_nonnull(cpu->run_end);
    rig_write(0x5038 + 1, 0x11);       /* its last byte is in chunk 1 */
    ck_assert_uint_eq(code_calls, 1);
    ck_assert_uint_eq(code_off, 0x5039);
    ck_assert_uint_eq(code_n, 8);
    ck_assert_ptr_null(cpu->run_end);
    /* Misaligned over two pages of code: two reports. */
    bus_mark_code(&bus, 0x5fff, 1);
    bus_mark_code(&bus, 0x6000, 1);
    code_calls = 0;
    rig_write(0x5ffc, 0);
    ck_assert_uint_eq(code_calls, 2);
    /* Other writers report, too. */
    code_calls = 0;
    bus_write(&bus, 0, 0x5040, 1, 0);
    put64(0x5080, 0);
    ck_assert_uint_eq(code_calls, 2);
    ck_assert(!bus_note_write(&bus, 0, 0x5000));
    ck_assert(bus_note_write(&bus, 0, bus.ram_size));
    /* And no more when the code is gone. */
    bus_unmark_code(&bus, 0x5000);
    code_calls = 0;
    rig_write(0x5040, 0);
    rig_write(0x5040, 0);
    ck_assert_uint_eq(code_calls, 0);
}
END_TEST

/* A page writable through many entries, contexts and CPUs: marking it as code takes all of them back. */
START_TEST(code_takes_writers_back)
{
    bus.code_written = code_written;
    struct cpu *first = cpu, *second = calloc(1, sizeof(*second));
    second->bus = &bus;
    second->mode = first->mode;
    ck_assert(tlb_init(second));
    cpu->sys.cr4 |= CR4_PCIDE;
    for (unsigned rounds = 0; rounds < 3; rounds++) {
        unsigned aliases = rounds == 0 ? 1 : rounds == 1 ? 3 : 7;
        u64 cr3 = rig_page();
        for (unsigned k = 0; k < 2; k++) {
            cpu = k ? second : first;
            cpu->sys.cr3 = cr3;
            cpu->sys.cr4 |= CR4_PCIDE;
            rig_mode(PAGING_4LEVEL, 0);
            for (unsigned i = 0; i < aliases; i++) {
                cpu->sys.cr3 = (cr3 & ~0xfffull) | i;
                tlb_select(cpu);
                rig_map(0x400000 + i * 0x1000, 0x9000, P | W, 12);
                rig_write(0x400000 + i * 0x1000, i);
            }
        }
        bus_mark_code(&bus, 0x9000, 64);
        code_calls = 0;
        for (unsigned k = 0; k < 2; k++) {
            cpu = k ? second : first;
            for (unsigned i = 0; i < aliases; i++) {
                cpu->sys.cr3 = (cr3 & ~0xfffull) | i;
                tlb_select(cpu);
                rig_write(0x400000 + i * 0x1000, i);
            }
        }
        ck_assert_uint_eq(code_calls, 2 * aliases);
        bus_unmark_code(&bus, 0x9000);
    }
    cpu = first;
    tlb_free(second);
    free(second);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {ram_low_and_high, windows, video_window, roms, a20, ports, code_reports,
                                  code_takes_writers_back};
    return rig_run("bus", tests, ARRAY_SIZE(tests));
}
