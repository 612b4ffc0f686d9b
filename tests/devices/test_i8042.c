/* The keyboard controller: self test, command byte, key translation, mouse, A20 and reset. */
#include "tests/devices/fake.h"
#include "devices/i8042.h"

static struct i8042 c;
static bool a20;

static void on_a20(void *arg, bool on) { (void)arg; a20 = on; }
static void command(u8 value) { out8(&i8042_command_ops, &c, 0, value); }
static void data(u8 value) { out8(&i8042_data_ops, &c, 0, value); }
static u8 status(void) { return in8(&i8042_command_ops, &c, 0); }
static u8 take(void)
{
    ck_assert(status() & 1);
    return in8(&i8042_data_ops, &c, 0);
}
static void expect(u8 byte) { ck_assert_uint_eq(take(), byte); }

static void start(void)
{
    fake_start();
    i8042_init(&c, &fake_host, fake_line(1), fake_line(12), on_a20, NULL);
}

START_TEST(controller)
{
    start();
    ck_assert_uint_eq(status(), 0x14);
    command(0xaa);
    expect(0x55);
    command(0xab);
    expect(0);
    command(0x20);
    expect(0x65);
    command(0x60), data(0x07);
    command(0x20);
    expect(0x07);
    command(0x65), data(0x5a);
    command(0x25);
    expect(0x5a);
    command(0xd3), data(0xa5); /* mouse loop */
    ck_assert(fake_level[12]);
    ck_assert_uint_eq(status() & 0x21, 0x21);
    expect(0xa5);
    ck_assert_uint_eq(status() & 1, 0);
}
END_TEST

START_TEST(keys)
{
    start();
    i8042_key(&c, 0x1e, true); /* A */
    i8042_key(&c, 0x1e, false);
    i8042_key(&c, 0xe048, true); /* cursor up */
    i8042_key(&c, 0xe048, false);
    const u8 translated[] = {0x1e, 0x9e, 0xe0, 0x48, 0xe0, 0xc8};
    for (unsigned i = 0; i < ARRAY_SIZE(translated); i++) {
        ck_assert(fake_level[1]);
        expect(translated[i]);
    }
    ck_assert(!fake_level[1]);
    ck_assert_uint_eq(fake_rises[1], 6);
    command(0x60), data(0x01); /* no translation */
    i8042_key(&c, 0x1e, true), i8042_key(&c, 0x1e, false);
    const u8 raw[] = {0x1c, 0xf0, 0x1c};
    for (unsigned i = 0; i < ARRAY_SIZE(raw); i++)
        expect(raw[i]);
    data(0xf2);
    expect(0xfa), expect(0xab), expect(0x83);
    data(0xf0), expect(0xfa);
    data(0), expect(0xfa), expect(2);
    data(0xed), data(7), expect(0xfa), expect(0xfa);
    ck_assert_uint_eq(c.keyboard.leds, 7);
    data(0xff), expect(0xfa), expect(0xaa);
    data(0xf5), expect(0xfa);
    ck_assert(!i8042_key(&c, 0x1e, true));
}
END_TEST

START_TEST(every_key_translates_to_itself)
{
    start();
    for (u8 code = 1; code < 0x80; code++) {
        i8042_key(&c, code, true), i8042_key(&c, code, false);
        expect(code);
        expect(code | 0x80);
    }
}
END_TEST

static void to_mouse(u8 byte)
{
    command(0xd4), data(byte);
    ck_assert(status() & 0x20);
    expect(0xfa);
}

START_TEST(mouse)
{
    start();
    command(0x60), data(0x43);
    to_mouse(0xff), expect(0xaa), expect(0);
    to_mouse(0xf2), expect(0);
    to_mouse(0xf3), to_mouse(200), to_mouse(0xf3), to_mouse(100), to_mouse(0xf3), to_mouse(80);
    to_mouse(0xf2), expect(3);
    to_mouse(0xf4);
    i8042_mouse(&c, 5, -3, 1, 1);
    ck_assert(fake_level[12]);
    expect(0x29), expect(5), expect(0xfd);
    expect(1);
    ck_assert(!(status() & 1));
    for (unsigned i = 0; i < 100; i++)
        i8042_mouse(&c, 3000, -3000, 100, (u8)i);
}
END_TEST

START_TEST(gates)
{
    start();
    a20 = true;
    command(0xd1), data(0xdd);
    ck_assert(!a20);
    ck_assert_uint_eq(in8(&i8042_port92_ops, &c, 0), 0);
    out8(&i8042_port92_ops, &c, 0, 2);
    ck_assert(a20);
    command(0xd0);
    ck_assert_uint_eq(take() & 3, 3);
    command(0xfe);
    ck_assert_uint_eq(fake_resets, 1);
    out8(&i8042_port92_ops, &c, 0, 3);
    ck_assert_uint_eq(fake_resets, 2);
    command(0xd1), data(0xde);
    ck_assert_uint_eq(fake_resets, 3);
}
END_TEST

START_TEST(survives_anything)
{
    start();
    for (unsigned i = 0; i < 500; i++) {
        fake_fuzz(&i8042_data_ops, &c, 1, 100);
        out8(&i8042_command_ops, &c, 0, (u8)(i * 7));
        fake_fuzz(&i8042_command_ops, &c, 1, 30);
        i8042_key(&c, (u16)(i * 77), i & 1);
        i8042_mouse(&c, (int)(i * 1000003), -(int)i, (int)i, (u8)i);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {controller, keys, every_key_translates_to_itself, mouse, gates, survives_anything};
    return fake_run("i8042", tests, ARRAY_SIZE(tests));
}
