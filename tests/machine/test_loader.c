/* Loaders: for each format a good image arrives in memory and registers as its boot protocol says, and each mistake is
 * one line that names the file.
 */
#include "images.h"

#include "cpu/flags.h"

#include <stdio.h>

#ifdef NESTOR_HAVE_ZLIB
#include <zlib.h>
#endif

static u8 file[1 << 20];
static u8 module[5000];
static char message[512];

static struct image image_of(u8 *data, u64 size, const char *name)
{
    return (struct image){.data = data, .size = size, .name = (char *)(uintptr_t)name};
}

static struct machine *machine_with(u64 memory, u64 size)
{
    struct machine *m = memory_machine(memory);
    m->config.kernel = image_of(file, size, "k.elf");
    message[0] = 0;
    return m;
}

static void expect_refused(struct machine *m, const char *part)
{
    ck_assert(!loader_load(m, message, sizeof(message)));
    ck_assert_msg(strstr(message, part) != NULL, "\"%s\" does not say \"%s\"", message, part);
    ck_assert_ptr_null(strchr(message, '\n'));
    memory_machine_free(m);
}

static void check_flat32(const struct cpu *cpu)
{
    ck_assert(cpu->sys.cr0 & CR0_PE);
    ck_assert(!(cpu->sys.cr0 & CR0_PG));
    ck_assert_uint_eq(cpu->seg.s[SEG_CS].base, 0);
    ck_assert_uint_eq(cpu->seg.s[SEG_CS].limit, 0xffffffff);
    ck_assert_uint_eq(cpu->seg.s[SEG_CS].access, 0xc09b);
    ck_assert_uint_eq(cpu->seg.s[SEG_SS].access, 0xc093);
    ck_assert_uint_eq(cpu_rflags(cpu) & (FL_IF | FL_VM), 0);
}

/* ---- multiboot 1 -------------------------------------------------------------------------------------------------- */

START_TEST(multiboot1_elf)
{
    make_elf32(file, sizeof(file), 0xc0100000, 0x100000, 0x2000, 0x5000);
    put_multiboot1(file + 0x1000, 3);
    file[0x1040] = 0xf4;
    memset(module, 0x5a, sizeof(module));
    struct machine *m = machine_with(64 << 20, 0x4000);
    m->config.append = "levels=3";
    m->config.module[0].image = image_of(module, sizeof(module), "mod.bin");
    m->config.module[0].arguments = "a b";
    m->config.module_count = 1;
    ck_assert_msg(loader_load(m, message, sizeof(message)), "%s", message);

    const struct cpu *cpu = &m->cpu[0];
    check_flat32(cpu);
    ck_assert_uint_eq(cpu->core.rip, 0x100040);
    ck_assert_uint_eq(m->bus.ram[0x100040], 0xf4);
    ck_assert_uint_eq(cpu->core.rax, 0x2badb002);
    /* BIOS calls end in an answer, not in zeros. */
    ck_assert_uint_eq(ram32(m, 4 * 0x15), 0xf000fe00);
    ck_assert_uint_eq(m->bus.ram[0xffe00], 0x55);
    u64 info = cpu->core.rbx;
    ck_assert_uint_eq(ram32(m, info) & 0x24d, 0x24d);
    ck_assert_uint_eq(ram32(m, info + 4), 639);
    ck_assert_uint_eq(ram32(m, info + 8), 63 * 1024);
    ck_assert_str_eq(ram_text(m, ram32(m, info + 16)), "k.elf levels=3");
    ck_assert_uint_eq(ram32(m, info + 20), 1);
    u64 mods = ram32(m, info + 24), start = ram32(m, mods);
    ck_assert_uint_ge(start, 0x105000);
    ck_assert_uint_eq(start & 0xfff, 0);
    ck_assert_uint_eq(ram32(m, mods + 4), start + sizeof(module));
    ck_assert_str_eq(ram_text(m, ram32(m, mods + 8)), "mod.bin a b");
    ck_assert_int_eq(memcmp(m->bus.ram + start, module, sizeof(module)), 0);
    /* The memory map: the first entry is conventional memory, entries are 20 bytes behind their size. */
    u64 map = ram32(m, info + 48);
    ck_assert_uint_eq(ram32(m, info + 44) % 24, 0);
    ck_assert_uint_eq(ram32(m, map), 20);
    ck_assert_uint_eq(ram64(m, map + 12), 0x9fc00);
    memory_machine_free(m);
}
END_TEST

START_TEST(multiboot1_address_fields)
{
    memset(file, 0, sizeof(file));
    put_multiboot1(file + 0x20, 1 << 16);
    store32(file + 0x20 + 12, 0x200020);    /* header_addr */
    store32(file + 0x20 + 16, 0x200000);    /* load_addr */
    store32(file + 0x20 + 20, 0x200800);    /* load_end_addr */
    store32(file + 0x20 + 24, 0x209000);    /* bss_end_addr */
    store32(file + 0x20 + 28, 0x200100);    /* entry_addr */
    memset(file + 0x700, 0x77, 0x200);
    struct machine *m = machine_with(16 << 20, 0x1000);
    ck_assert_msg(loader_load(m, message, sizeof(message)), "%s", message);
    ck_assert_uint_eq(m->cpu[0].core.rip, 0x200100);
    ck_assert_uint_eq(ram32(m, 0x200020), 0x1badb002);
    ck_assert_uint_eq(m->bus.ram[0x2007ff], 0x77);
    ck_assert_uint_eq(m->bus.ram[0x200800], 0);
    memory_machine_free(m);
}
END_TEST

START_TEST(multiboot1_mistakes)
{
    make_elf32(file, sizeof(file), 0x100000, 0x100000, 0x8000, 0x8000);
    put_multiboot1(file + 0x1000, 0);
    expect_refused(machine_with(16 << 20, 0x4000), "truncated");

    make_elf32(file, sizeof(file), 0x100000, 0x100000, 0x2000, 0x2000);
    put_multiboot1(file + 0x1000, 0x10);
    expect_refused(machine_with(16 << 20, 0x4000), "0x10");

    make_elf32(file, sizeof(file), 0x100000, 0x4000000, 0x2000, 0x2000);
    put_multiboot1(file + 0x1000, 0);
    expect_refused(machine_with(16 << 20, 0x4000), "--memory");

    make_elf32(file, sizeof(file), 0x100000, 0x100000, 0x2000, 0x1000);
    put_multiboot1(file + 0x1000, 0);
    expect_refused(machine_with(16 << 20, 0x4000), "larger in the file");

    make_elf32(file, sizeof(file), 0xe0000, 0xe0000, 0x2000, 0x2000);
    put_multiboot1(file + 0x1000, 0);
    expect_refused(machine_with(16 << 20, 0x4000), "taken");

    make_elf32(file, sizeof(file), 0x100000, 0x100000, 0x2000, 0x2000);
    put_multiboot1(file + 0x1000, 0);
    struct machine *m = machine_with(4 << 20, 0x4000);
    m->config.initrd = image_of(calloc(1, 4 << 20), 4 << 20, "big.img");
    u8 *big = m->config.initrd.data;
    expect_refused(m, "big.img");
    free(big);
}
END_TEST

/* ---- multiboot 2 -------------------------------------------------------------------------------------------------- */

static void put_multiboot2(u8 *header, u32 length)
{
    store32(header, 0xe85250d6);
    store32(header + 4, 0);
    store32(header + 8, length);
    store32(header + 12, 0u - 0xe85250d6u - length);
}

/* The information tag of a type, or 0. */
static u64 find_tag(struct machine *m, u64 info, u32 type)
{
    u64 end = info + ram32(m, info);
    for (u64 at = info + 8; at < end; at += (ram32(m, at + 4) + 7) & ~7u)
        if (ram32(m, at) == type)
            return at;
    return 0;
}

START_TEST(multiboot2_elf)
{
    make_elf32(file, sizeof(file), 0x100000, 0x100000, 0x2000, 0x2000);
    u8 *h = file + 0x1000;
    put_multiboot2(h, 16 + 16 + 16 + 8);
    store16(h + 16, 1), store32(h + 20, 16), store32(h + 24, 6), store32(h + 28, 15);   /* request map, ACPI */
    store16(h + 32, 3), store32(h + 36, 12), store32(h + 40, 0x100080);                 /* entry address */
    store32(h + 52, 8);                                                                 /* end */
    struct machine *m = machine_with(16 << 20, 0x4000);
    m->config.append = "x=1";
    ck_assert_msg(loader_load(m, message, sizeof(message)), "%s", message);
    check_flat32(&m->cpu[0]);
    ck_assert_uint_eq(m->cpu[0].core.rip, 0x100080);
    ck_assert_uint_eq(m->cpu[0].core.rax, 0x36d76289);
    u64 info = m->cpu[0].core.rbx;
    ck_assert_uint_eq(info & 7, 0);
    ck_assert_str_eq(ram_text(m, find_tag(m, info, 1) + 8), "k.elf x=1");
    ck_assert_uint_ne(find_tag(m, info, 6), 0);
    ck_assert_str_eq(ram_text(m, find_tag(m, info, 2) + 8), LOADER_NAME);
    ck_assert_int_eq(memcmp(ram_text(m, find_tag(m, info, 15) + 8), "RSD PTR ", 8), 0);
    memory_machine_free(m);
}
END_TEST

START_TEST(multiboot2_mistakes)
{
    make_elf32(file, sizeof(file), 0x100000, 0x100000, 0x2000, 0x2000);
    u8 *h = file + 0x1000;
    put_multiboot2(h, 16 + 16 + 8);
    store16(h + 16, 1), store32(h + 20, 16), store32(h + 24, 7);    /* requires VBE information */
    store32(h + 36, 8);
    expect_refused(machine_with(16 << 20, 0x4000), "type 7");
    store32(h + 20, 3);
    expect_refused(machine_with(16 << 20, 0x4000), "outside");
}
END_TEST

/* ---- Linux -------------------------------------------------------------------------------------------------------- */

START_TEST(linux_bzimage)
{
    u32 size = make_bzimage(file, 70000, true);
    struct machine *m = machine_with(128 << 20, size);
    m->config.append = "console=ttyS0";
    m->config.initrd = image_of(module, sizeof(module), "initrd.img");
    ck_assert_msg(loader_load(m, message, sizeof(message)), "%s", message);
    const struct cpu *cpu = &m->cpu[0];
    check_flat32(cpu);
    ck_assert_uint_eq(cpu->core.rip, 0x1000000);
    ck_assert_uint_eq(cpu->seg.s[SEG_CS].selector, 0x10);
    ck_assert_uint_eq(cpu->seg.s[SEG_DS].selector, 0x18);
    ck_assert_uint_eq(ram32(m, 0x1000000), 0xcccccccc);
    ck_assert_uint_eq(cpu->core.rbx | cpu->core.rbp | cpu->core.rdi, 0);
    u64 params = cpu->core.rsi;
    ck_assert_uint_eq(ram32(m, params + 0x202), 0x53726448);
    ck_assert_uint_eq(m->bus.ram[params + 0x210], 0xff);
    ck_assert_str_eq(ram_text(m, ram32(m, params + 0x228)), "console=ttyS0");
    ck_assert_uint_eq(ram32(m, params + 0x21c), sizeof(module));
    u64 initrd = ram32(m, params + 0x218);
    ck_assert_uint_ge(initrd, 0x1300000);
    ck_assert_int_eq(memcmp(m->bus.ram + initrd, module, sizeof(module)), 0);
    ck_assert_int_eq(memcmp(ram_text(m, ram64(m, params + 0x70)), "RSD PTR ", 8), 0);
    ck_assert_uint_ge(m->bus.ram[params + 0x1e8], 3);
    ck_assert_uint_eq(ram64(m, params + 0x2d0 + 8), 0x9fc00);
    memory_machine_free(m);
}
END_TEST

START_TEST(linux_small_memory_moves_or_refuses)
{
    u32 size = make_bzimage(file, 70000, true);
    struct machine *m = machine_with(8 << 20, size);
    ck_assert_msg(loader_load(m, message, sizeof(message)), "%s", message);
    ck_assert_uint_eq(m->cpu[0].core.rip, 0x200000);
    memory_machine_free(m);
    expect_refused(machine_with(3 << 20, size), "--memory");
}
END_TEST

START_TEST(linux_mistakes)
{
    u32 size = make_bzimage(file, 70000, true);
    store16(file + 0x206, 0x203);
    expect_refused(machine_with(64 << 20, size), "2.06");
    make_bzimage(file, 70000, true);
    expect_refused(machine_with(64 << 20, 1024), "truncated");
    struct machine *m = machine_with(64 << 20, size);
    char line[3000];
    memset(line, 'x', sizeof(line));
    line[sizeof(line) - 1] = 0;
    m->config.append = line;
    expect_refused(m, "2047");
    m = machine_with(64 << 20, size);
    m->config.initrd = image_of(calloc(1, 60 << 20), 60 << 20, "huge.img");
    u8 *huge = m->config.initrd.data;
    expect_refused(m, "huge.img");
    free(huge);
}
END_TEST

/* ---- PVH, gzip, nothing ------------------------------------------------------------------------------------------- */

/* Adds a second program header: a note with the PVH entry. */
static void add_pvh_note(u32 entry)
{
    store16(file + 44, 2);
    u8 *p = file + 84;
    store32(p, 4);
    store32(p + 4, 0x800);
    store32(p + 16, 20);
    store32(p + 20, 20);
    u8 *n = file + 0x800;
    store32(n, 4), store32(n + 4, 4), store32(n + 8, 18);
    memcpy(n + 12, "Xen", 4);
    store32(n + 16, entry);
}

START_TEST(pvh_elf)
{
    make_elf32(file, sizeof(file), 0x100000, 0x100000, 0x2000, 0x2000);
    add_pvh_note(0x1000f0);
    struct machine *m = machine_with(32 << 20, 0x4000);
    m->config.append = "hello";
    m->config.initrd = image_of(module, sizeof(module), "initrd.img");
    ck_assert_msg(loader_load(m, message, sizeof(message)), "%s", message);
    check_flat32(&m->cpu[0]);
    ck_assert_uint_eq(m->cpu[0].core.rip, 0x1000f0);
    u64 info = m->cpu[0].core.rbx;
    ck_assert_uint_eq(ram32(m, info), 0x336ec578);
    ck_assert_uint_eq(ram32(m, info + 12), 1);
    ck_assert_str_eq(ram_text(m, ram64(m, info + 24)), "hello");
    ck_assert_int_eq(memcmp(ram_text(m, ram64(m, info + 32)), "RSD PTR ", 8), 0);
    ck_assert_uint_eq(ram64(m, ram64(m, info + 16) + 8), sizeof(module));
    memory_machine_free(m);
}
END_TEST

START_TEST(not_a_kernel)
{
    memset(file, 'a', 4096);
    expect_refused(machine_with(16 << 20, 4096), "k.elf");
    make_elf32(file, sizeof(file), 0x100000, 0x100000, 0x2000, 0x2000);
    expect_refused(machine_with(16 << 20, 0x4000), "PVH");
    expect_refused(machine_with(16 << 20, 0), "--kernel");
    expect_refused(machine_with(16 << 20, 10), "neither");
}
END_TEST

#ifdef NESTOR_HAVE_ZLIB
START_TEST(gzip_kernel)
{
    static u8 packed[1 << 20];
    make_elf32(file, sizeof(file), 0x100000, 0x100000, 0x2000, 0x2000);
    put_multiboot1(file + 0x1000, 0);
    z_stream z = {.next_in = file, .avail_in = 0x4000, .next_out = packed, .avail_out = sizeof(packed)};
    ck_assert_int_eq(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    u64 size = z.total_out;
    deflateEnd(&z);

    memcpy(file, packed, size);
    struct machine *m = machine_with(16 << 20, size);
    ck_assert_msg(loader_load(m, message, sizeof(message)), "%s", message);
    ck_assert_uint_eq(ram32(m, 0x100000), 0x1badb002);
    memory_machine_free(m);

    expect_refused(machine_with(16 << 20, size / 2), "gzip data ends");
    file[size / 2] ^= 0xff;
    file[size / 2 + 1] ^= 0xff;
    m = machine_with(16 << 20, size);
    ck_assert(!loader_load(m, message, sizeof(message)));
    memory_machine_free(m);
}
END_TEST
#endif

/* Every image cut or changed anywhere is refused or loaded, and never worse. */
START_TEST(damaged_images)
{
    u64 state = 1;
    for (unsigned round = 0; round < 400; round++) {
        u32 size = 0x4000;
        if (round % 4 == 0) {
            size = make_bzimage(file, 5000, round & 8);
        } else {
            make_elf32(file, sizeof(file), 0x100000, 0x100000, 0x2000, 0x2000);
            if (round % 4 == 1)
                put_multiboot1(file + 0x1000, round & 16 ? 1 << 16 : 3);
            else if (round % 4 == 2)
                put_multiboot2(file + 0x1000, 64);
            else
                add_pvh_note(0x100000);
        }
        for (unsigned i = 0; i < 1 + round % 7; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            u32 at = (u32)(state >> 33) % (i & 1 ? 0x200u : size);
            file[at] = (u8)(state >> 24);
        }
        struct machine *m = machine_with(8 << 20, size);
        if (!loader_load(m, message, sizeof(message)))
            ck_assert_uint_gt(strlen(message), 0);
        memory_machine_free(m);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("loader");
    TCase *tc = suite_case(suite, "loader");
    tcase_add_test(tc, multiboot1_elf);
    tcase_add_test(tc, multiboot1_address_fields);
    tcase_add_test(tc, multiboot1_mistakes);
    tcase_add_test(tc, multiboot2_elf);
    tcase_add_test(tc, multiboot2_mistakes);
    tcase_add_test(tc, linux_bzimage);
    tcase_add_test(tc, linux_small_memory_moves_or_refuses);
    tcase_add_test(tc, linux_mistakes);
    tcase_add_test(tc, pvh_elf);
    tcase_add_test(tc, not_a_kernel);
#ifdef NESTOR_HAVE_ZLIB
    tcase_add_test(tc, gzip_kernel);
#endif
    tcase_add_test(tc, damaged_images);
    return suite_run(suite, CK_FORK_GETENV);
}
