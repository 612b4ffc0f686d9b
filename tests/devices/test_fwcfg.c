/* fw_cfg: items, the file directory, DMA into RAM and its errors. The bus here is a plain array: the two functions that
 * the device calls stand in this file instead of those of mmu/, so that every refusal can be seen.
 */
#include "tests/devices/fake.h"
#include "devices/fwcfg.h"

static struct bus bus;
static u8 ram[0x100000];
static struct fwcfg fw;

static bool is_ram(u64 hpa, u64 n) { return hpa <= sizeof ram && n <= sizeof ram - hpa; }

bool bus_copy_from(struct bus *from, void *to, u64 hpa, u64 n)
{
    if (from != &bus || !is_ram(hpa, n))
        return false;
    memcpy(to, ram + hpa, n);
    return true;
}

bool bus_copy_to(struct bus *to, u64 hpa, const void *from, u64 n)
{
    if (to != &bus || !is_ram(hpa, n))
        return false;
    memcpy(ram + hpa, from, n);
    return true;
}

static void start(void)
{
    fake_start();
    memset(ram, 0, sizeof ram);
    fwcfg_init(&fw, &bus);
    fwcfg_add_int(&fw, FWCFG_NB_CPUS, 4, 2);
    fwcfg_add_bytes(&fw, FWCFG_CMDLINE_DATA, "console=ttyS0", 14);
    ck_assert(fwcfg_add_file(&fw, "opt/test", "0123456789", 10));
}
static void choose(u16 key) { fake_write(&fwcfg_data_ops, &fw, 0, 2, key); }
static u8 next(void) { return in8(&fwcfg_data_ops, &fw, 1); }

START_TEST(items)
{
    start();
    choose(FWCFG_SIGNATURE);
    ck_assert(next() == 'Q' && next() == 'E' && next() == 'M' && next() == 'U' && next() == 0);
    choose(FWCFG_ID);
    ck_assert_uint_eq(next(), 3);
    choose(FWCFG_NB_CPUS);
    ck_assert(next() == 4 && next() == 0 && next() == 0);
    choose(0x1234);
    ck_assert_uint_eq(next(), 0);
    choose(FWCFG_FILE_DIR);
    u8 directory[68];
    for (unsigned i = 0; i < sizeof directory; i++)
        directory[i] = next();
    ck_assert_uint_eq(load32(directory), __builtin_bswap32(1));
    ck_assert_uint_eq(load32(directory + 4), __builtin_bswap32(10));
    ck_assert_str_eq((char *)directory + 12, "opt/test");
    choose(__builtin_bswap16(load16(directory + 8)));
    ck_assert(next() == '0' && next() == '1');
}
END_TEST

static u32 dma(u32 control, u32 length, u64 to)
{
    u8 request[16];
    store32(request, __builtin_bswap32(control));
    store32(request + 4, __builtin_bswap32(length));
    store64(request + 8, __builtin_bswap64(to));
    bus_copy_to(&bus, 0x1000, request, 16);
    fake_write(&fwcfg_dma_ops, &fw, 0, 4, 0);
    fake_write(&fwcfg_dma_ops, &fw, 4, 4, __builtin_bswap32(0x1000));
    bus_copy_from(&bus, request, 0x1000, 4);
    return __builtin_bswap32(load32(request));
}

START_TEST(dma_transfers)
{
    start();
    ck_assert_uint_eq(fake_read(&fwcfg_dma_ops, &fw, 0, 4), load32("QEMU"));
    memset(ram + 0x2000, 0xff, 64);
    ck_assert_uint_eq(dma((u32)FWCFG_FIRST_FILE << 16 | 8 | 2, 20, 0x2000), 0);
    ck_assert_mem_eq(ram + 0x2000, "0123456789\0\0\0\0\0\0\0\0\0\0\xff", 21);
    ck_assert_uint_eq(dma((u32)FWCFG_FIRST_FILE << 16 | 8 | 4, 3, 0), 0);
    ck_assert_uint_eq(dma(2, 2, 0x2000), 0);
    ck_assert_mem_eq(ram + 0x2000, "3423", 4);
    ck_assert_uint_eq(dma((u32)FWCFG_FIRST_FILE << 16 | 8 | 2, 20, 0x40000000), 1);
    ck_assert_uint_eq(dma(2, 0xffffffff, 0xff000), 1);
    ck_assert_uint_eq(dma(16, 4, 0x2000), 1);
}
END_TEST

START_TEST(survives_anything)
{
    start();
    fake_fuzz(&fwcfg_data_ops, &fw, 2, 20000);
    fake_fuzz(&fwcfg_dma_ops, &fw, 8, 20000);
    ck_assert(!fwcfg_add_file(&fw, "a name that is much longer than what the directory has room for", "", 0));
    for (unsigned i = 0; i < 200; i++)
        fwcfg_add_file(&fw, "x", "y", 1);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {items, dma_transfers, survives_anything};
    return fake_run("fwcfg", tests, ARRAY_SIZE(tests));
}
