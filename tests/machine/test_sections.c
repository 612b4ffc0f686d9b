/* The state in sections: every member of every section is listed, a change of any of them is seen and named, hashes are equal
 * exactly when the state is, and stopping on the way changes nothing.
 */
#include "cpu/flags.h"
#include "machine/sections.h"
#include "tests/suite.h"

static char message[512];

static void put(void *arg, enum host_stream stream, u8 byte)
{
    (void)arg, (void)stream, (void)byte;
}

/* A 32-bit multiboot program that counts, stores, and writes to the serial port for ever. */
static struct machine *make(unsigned cpus)
{
    static const u8 code[] = {
        0x40,                               /* inc %eax */
        0xa3, 0x00, 0x00, 0x20, 0x00,       /* mov %eax, 0x200000 */
        0x66, 0xba, 0xf8, 0x03,             /* mov $0x3f8, %dx */
        0xee,                               /* out %al, (%dx) */
        0xeb, 0xf3,                         /* jmp 0 */
    };
    static u8 image[0x1000];
    memcpy(image, code, sizeof(code));
    u8 *h = image + 0x400;
    store32(h, 0x1badb002);
    store32(h + 4, 1 << 16);
    store32(h + 8, 0u - 0x1badb002u - (1u << 16));
    store32(h + 12, 0x100400);
    store32(h + 16, 0x100000);
    store32(h + 20, 0x101000);
    store32(h + 28, 0x100000);
    const struct machine_config config = {.memory = 4 << 20, .cpus = cpus, .append = "", .max_insns = MACHINE_NO_LIMIT,
                                          .kernel = {image, 0x1000, (char *)(uintptr_t)"test"}};
    const struct machine_frontend frontend = {.put = put};
    struct machine *m = machine_create(&config, &frontend, message, sizeof(message));
    ck_assert_msg(m != NULL, "%s", message);
    return m;
}

/* Members stand in the order of the struct, without gaps but for alignment. Sections that are a selection of a larger struct
 * are left out: their lists say what belongs to them. */
START_TEST(test_members_are_all_listed)
{
    struct machine *m = make(1);
    struct section s;
    for (unsigned n = 0; section_get(m, n, &s); n++) {
        if (!s.member || strcmp(s.name, "time") == 0 || strcmp(s.name, "board") == 0 || strcmp(s.name, "cpu0.vmx") == 0)
            continue;
        u32 end = 0;
        for (unsigned i = 0; i < s.members; i++) {
            const struct section_member *member = &s.member[i];
            ck_assert_msg(member->offset >= end && member->offset - end < member->align,
                          "%s: between offsets %u and %u (before %s) something is not listed in machine/sections.c", s.name,
                          end, member->offset, member->name);
            end = member->offset + member->size;
        }
    }
#define LISTED_TO_THE_END(section, type)                                                                               \
    for (unsigned n = 0; section_get(m, n, &s); n++)                                                                    \
        if (s.member && strcmp(s.name, section) == 0)                                                                   \
            ck_assert_msg(s.size + _Alignof(type) > sizeof(type), "%s: members at the end are not listed", section);
    LISTED_TO_THE_END("cpu0.core", struct cpu_core)
    LISTED_TO_THE_END("cpu0.seg", struct cpu_seg)
    LISTED_TO_THE_END("cpu0.sys", struct cpu_sys)
    LISTED_TO_THE_END("cpu0.fpu", struct cpu_fpu)
    LISTED_TO_THE_END("cpu0.event", struct cpu_event)
    LISTED_TO_THE_END("cpu0.vmx", struct vmx_state)
    LISTED_TO_THE_END("cpu0.frame0", struct vmx_frame)
    machine_free(m);
}
END_TEST

/* Whatever member of whatever section is changed, the comparison names it and the hash differs. */
START_TEST(test_every_member_counts)
{
    struct machine *a = make(1), *b = make(1);
    struct section s;
    char text[256], expected[128];
    machine_run_to(a, 1000);
    machine_run_to(b, 1000);
    ck_assert_msg(sections_equal(a, b, true, text, sizeof(text)), "%s", text);
    u64 whole = sections_hash(a, true), without_memory = sections_hash(a, false);
    ck_assert_uint_eq(whole, sections_hash(b, true));
    for (unsigned n = 0; section_get(b, n, &s); n++) {
        if (s.member && strcmp(s.name, "cpu0.core") == 0)
            continue;                       /* settled before each comparison: below */
        for (unsigned i = 0; s.member && i < s.members; i++) {
            u8 *last = (u8 *)(uintptr_t)s.base + s.member[i].offset + s.member[i].size - 1;
            *last ^= 0x40;
            ck_assert(!sections_equal(a, b, false, text, sizeof(text)));
            snprintf(expected, sizeof(expected), "%s.%s", s.name, s.member[i].name);
            ck_assert_msg(strncmp(text, expected, strlen(expected)) == 0, "changed %s, told %s", expected, text);
            ck_assert_uint_ne(sections_hash(b, false), without_memory);
            *last ^= 0x40;
        }
    }
    b->cpu[0].core.rax ^= 1;
    ck_assert(!sections_equal(a, b, false, text, sizeof(text)));
    ck_assert_msg(strstr(text, "cpu0.core.r+0"), "%s", text);
    b->cpu[0].core.rax ^= 1;
    b->bus.ram[0x212345] ^= 1;
    ck_assert(sections_equal(a, b, false, text, sizeof(text)));
    ck_assert(!sections_equal(a, b, true, text, sizeof(text)));
    ck_assert_msg(strstr(text, "0x212340"), "%s", text);
    ck_assert_uint_ne(sections_hash(b, true), whole);
    ck_assert_uint_eq(sections_hash(b, false), sections_hash(a, false));
    machine_free(a);
    machine_free(b);
}
END_TEST

/* Two lazy forms of the same flags are the same state; other flags are not. */
START_TEST(test_flags_are_compared_as_software_sees_them)
{
    struct machine *a = make(1), *b = make(1);
    char text[256];
    a->cpu[0].core.fl_zero = 5, a->cpu[0].core.fl_sign = 0xf00, a->cpu[0].core.fl_carry = 0;
    b->cpu[0].core.fl_zero = 7, b->cpu[0].core.fl_sign = 0x3, b->cpu[0].core.fl_carry = 4;
    ck_assert_msg(sections_equal(a, b, true, text, sizeof(text)), "%s", text);
    b->cpu[0].core.fl_sign = 1;             /* odd parity */
    ck_assert(!sections_equal(a, b, true, text, sizeof(text)));
    machine_free(a);
    machine_free(b);
}
END_TEST

START_TEST(test_stopping_on_the_way_changes_nothing)
{
    struct machine *a = make(2), *b = make(2);
    char text[256];
    ck_assert_int_eq(machine_run_to(a, 500000), MACHINE_RUNS);
    for (u64 at = 0; at < 500000; at += 997)
        ck_assert_int_eq(machine_run_to(b, at), MACHINE_RUNS);
    ck_assert_int_eq(machine_run_to(b, 500000), MACHINE_RUNS);
    ck_assert_uint_eq(a->time.icount, 500000);
    ck_assert_msg(sections_equal(a, b, true, text, sizeof(text)), "%s", text);
    machine_free(a);
    machine_free(b);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        test_members_are_all_listed, test_every_member_counts, test_flags_are_compared_as_software_sees_them,
        test_stopping_on_the_way_changes_nothing,
    };
    return suite_run_tests("sections", tests, ARRAY_SIZE(tests), NULL, NULL, CK_FORK_GETENV);
}
