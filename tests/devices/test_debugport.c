/* Debug consoles, debug exit, POST port. */
#include "tests/devices/fake.h"
#include "devices/debugport.h"

static struct debugport port;

START_TEST(ports)
{
    fake_start();
    debugport_init(&port, &fake_host);
    out8(&debugport_e9_ops, &port, 0, 'E');
    out8(&debugport_402_ops, &port, 0, 'S');
    ck_assert_uint_eq(in8(&debugport_e9_ops, &port, 0), 0xe9);
    ck_assert_uint_eq(in8(&debugport_402_ops, &port, 0), 0xe9);
    ck_assert_str_eq(fake_output[HOST_DEBUG_E9], "E");
    ck_assert_str_eq(fake_output[HOST_DEBUG_402], "S");
    out8(&debugport_exit_ops, &port, 0, 0x10);
    ck_assert_uint_eq(fake_exit, 0x21);
    fake_write(&debugport_exit_ops, &port, 0, 4, 0x12345);
    ck_assert_uint_eq(fake_exit, 0x2468b);
    out8(&debugport_post_ops, &port, 0, 0x42);
    ck_assert_uint_eq(in8(&debugport_post_ops, &port, 0), 0x42);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {ports};
    return fake_run("debugport", tests, ARRAY_SIZE(tests));
}
