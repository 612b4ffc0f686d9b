/* The 8259A pair: initialization, priorities, EOI kinds, edge and level, cascade, spurious interrupts, poll. */
#include "tests/devices/fake.h"
#include "devices/pic.h"

static struct pic pic;

static void first(u64 off, u8 value) { out8(&pic_first_ops, &pic, off, value); }
static void second(u64 off, u8 value) { out8(&pic_second_ops, &pic, off, value); }

static void start(u8 icw4)
{
    fake_start();
    pic_init(&pic, fake_line(0));
    first(0, 0x11), first(1, 0x20), first(1, 0x04), first(1, icw4);
    second(0, 0x11), second(1, 0x28), second(1, 0x02), second(1, icw4);
}

START_TEST(delivers_edges_by_priority)
{
    start(1);
    pic_set_line(&pic, 4, true);
    pic_set_line(&pic, 1, true);
    ck_assert(pic_has_interrupt(&pic));
    ck_assert(fake_level[0]);
    ck_assert_uint_eq(pic_acknowledge(&pic), 0x21);
    ck_assert(!pic_has_interrupt(&pic)); /* IRQ 4 waits behind the one in service */
    first(0, 0x20);
    ck_assert_uint_eq(pic_acknowledge(&pic), 0x24);
    first(0, 0x64);
    ck_assert(!pic_has_interrupt(&pic)); /* the lines are still high, but there was no new edge */
    pic_set_line(&pic, 4, false);
    pic_set_line(&pic, 4, true);
    ck_assert(pic_has_interrupt(&pic));
}
END_TEST

START_TEST(mask_holds_back)
{
    start(1);
    first(1, 0x10);
    ck_assert_uint_eq(in8(&pic_first_ops, &pic, 1), 0x10);
    pic_set_line(&pic, 4, true);
    ck_assert(!pic_has_interrupt(&pic));
    first(0, 0x0a);
    ck_assert_uint_eq(in8(&pic_first_ops, &pic, 0), 0x10);
    first(1, 0);
    ck_assert_uint_eq(pic_acknowledge(&pic), 0x24);
    first(0, 0x0b);
    ck_assert_uint_eq(in8(&pic_first_ops, &pic, 0), 0x10);
}
END_TEST

START_TEST(cascade_and_both_eois)
{
    start(1);
    pic_set_line(&pic, 12, true);
    ck_assert_uint_eq(pic_acknowledge(&pic), 0x2c);
    pic_set_line(&pic, 8, true);
    ck_assert(!pic_has_interrupt(&pic)); /* not special fully nested: input 2 is in service */
    second(0, 0x20), first(0, 0x20);
    ck_assert_uint_eq(pic_acknowledge(&pic), 0x28);
    second(0, 0x20), first(0, 0x20);
    ck_assert(!pic_has_interrupt(&pic));
}
END_TEST

START_TEST(special_fully_nested)
{
    start(0x11);
    pic_set_line(&pic, 12, true);
    ck_assert_uint_eq(pic_acknowledge(&pic), 0x2c);
    pic_set_line(&pic, 8, true);
    ck_assert(pic_has_interrupt(&pic));
    ck_assert_uint_eq(pic_acknowledge(&pic), 0x28);
}
END_TEST

START_TEST(spurious_interrupts)
{
    start(1);
    pic_set_line(&pic, 3, true);
    pic_set_line(&pic, 3, false); /* gone before it was acknowledged */
    ck_assert(!pic_has_interrupt(&pic));
    ck_assert_uint_eq(pic_acknowledge(&pic), 0x27);
    first(0, 0x0b);
    ck_assert_uint_eq(in8(&pic_first_ops, &pic, 0), 0);
}
END_TEST

START_TEST(level_triggered)
{
    start(1);
    out8(&pic_elcr_ops, &pic, 1, 0xff);
    ck_assert_uint_eq(in8(&pic_elcr_ops, &pic, 1), 0xde);
    pic_set_line(&pic, 11, true);
    ck_assert_uint_eq(pic_acknowledge(&pic), 0x2b);
    second(0, 0x20), first(0, 0x20);
    ck_assert(pic_has_interrupt(&pic)); /* still high: asks again */
    pic_set_line(&pic, 11, false);
    ck_assert(!pic_has_interrupt(&pic));
}
END_TEST

START_TEST(rotation)
{
    start(1);
    first(0, 0xc4); /* input 4 is lowest, 5 highest */
    pic_set_line(&pic, 0, true);
    pic_set_line(&pic, 5, true);
    ck_assert_uint_eq(pic_acknowledge(&pic), 0x25);
    first(0, 0xa0); /* rotate on non-specific EOI: 5 becomes lowest */
    ck_assert_uint_eq(pic_acknowledge(&pic), 0x20);
    first(0, 0x20);
    ck_assert_uint_eq(pic.chip[0].lowest, 5);
}
END_TEST

START_TEST(automatic_eoi)
{
    start(3);
    pic_set_line(&pic, 1, true);
    ck_assert_uint_eq(pic_acknowledge(&pic), 0x21);
    first(0, 0x0b);
    ck_assert_uint_eq(in8(&pic_first_ops, &pic, 0), 0);
    pic_set_line(&pic, 14, true);
    pic_set_line(&pic, 15, true);
    ck_assert_uint_eq(pic_acknowledge(&pic), 0x2e);
    ck_assert_uint_eq(pic_acknowledge(&pic), 0x2f);
}
END_TEST

START_TEST(special_mask_mode)
{
    start(1);
    pic_set_line(&pic, 1, true);
    ck_assert_uint_eq(pic_acknowledge(&pic), 0x21);
    pic_set_line(&pic, 6, true);
    ck_assert(!pic_has_interrupt(&pic));
    first(1, 0x02), first(0, 0x68);
    ck_assert(pic_has_interrupt(&pic)); /* 1 is masked, so it does not hold 6 back */
    ck_assert_uint_eq(pic_acknowledge(&pic), 0x26);
}
END_TEST

START_TEST(poll)
{
    start(1);
    first(0, 0x0c);
    ck_assert_uint_eq(in8(&pic_first_ops, &pic, 0) & 0x80, 0);
    pic_set_line(&pic, 5, true);
    first(0, 0x0c);
    ck_assert_uint_eq(in8(&pic_first_ops, &pic, 0), 0x85);
    ck_assert(!pic_has_interrupt(&pic));
}
END_TEST

START_TEST(survives_anything)
{
    start(1);
    for (unsigned i = 0; i < 200; i++) {
        fake_fuzz(&pic_first_ops, &pic, 2, 50);
        pic_set_line(&pic, i & 15, i & 16);
        fake_fuzz(&pic_second_ops, &pic, 2, 50);
        fake_fuzz(&pic_elcr_ops, &pic, 2, 3);
        pic_acknowledge(&pic);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {delivers_edges_by_priority, mask_holds_back, cascade_and_both_eois,
                                  special_fully_nested, spurious_interrupts, level_triggered, rotation, automatic_eoi,
                                  special_mask_mode, poll, survives_anything};
    return fake_run("pic", tests, ARRAY_SIZE(tests));
}
