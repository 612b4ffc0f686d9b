/* Whole machines on programs of a few bytes: every way a run can end, exact counts, interrupts that wake a sleeping
 * processor, a second processor started by INIT and SIPI, and the same run twice.
 */
#include "machine/machine.h"
#include "tests/suite.h"

#define LOAD 0x100000u
#define HEADER 0x400u                  /* file offset of the multiboot header */
#define IDT 0x100600u

static char output[256];
static unsigned output_size;
static char message[256];
static const char *input, *cpu_model;

static void put(void *arg, enum host_stream stream, u8 byte)
{
    (void)arg;
    if (stream == HOST_SERIAL0 && output_size < sizeof(output) - 1)
        output[output_size++] = (char)byte;
}

static int get(void *arg, u8 *bytes, unsigned n)
{
    (void)arg, (void)n;
    if (!*input)
        return -1;
    *bytes = (u8)*input++;
    return 1;
}

/* A machine that will run `code` at 1 MiB in flat 32-bit mode. `image` must outlive it. */
static struct machine *machine_of(u8 *image, const u8 *code, size_t size, unsigned cpus, u64 max_insns, bool no_reboot)
{
    memset(image, 0, 0x1000);
    memcpy(image, code, size);
    u8 *h = image + HEADER;
    store32(h, 0x1badb002);
    store32(h + 4, 1 << 16);
    store32(h + 8, 0u - 0x1badb002u - (1u << 16));
    store32(h + 12, LOAD + HEADER);
    store32(h + 16, LOAD);
    store32(h + 20, LOAD + 0x1000);
    store32(h + 28, LOAD);
    const struct machine_config config = {.memory = 4 << 20, .cpus = cpus, .append = "", .max_insns = max_insns,
                                          .no_reboot = no_reboot, .cpu_model = cpu_model, .kernel = {image, 0x1000, (char *)(uintptr_t)"test"}};
    const struct machine_frontend frontend = {.put = put, .get = input ? get : NULL};
    memset(output, 0, sizeof(output));
    output_size = 0;
    struct machine *m = machine_create(&config, &frontend, message, sizeof(message));
    ck_assert_msg(m != NULL, "%s", message);
    return m;
}

#define RUN(cpus, max, no_reboot, ...)                                                                                  \
    static u8 image[0x1000];                                                                                            \
    static const u8 code[] = {__VA_ARGS__};                                                                             \
    struct machine *m = machine_of(image, code, sizeof(code), cpus, max, no_reboot)

START_TEST(power_off)
{
    RUN(1, 1000, false, 0xba, 0x04, 0x06, 0, 0, 0xb8, 0, 0x34, 0, 0, 0x66, 0xef, 0xeb, 0xfe);
    ck_assert_int_eq(machine_run(m), MACHINE_POWER_OFF);
    ck_assert_uint_eq(m->time.icount, 3);
    machine_free(m);
}
END_TEST

START_TEST(debug_exit)
{
    RUN(1, 1000, false, 0xb0, 5, 0xe6, 0xf4, 0xeb, 0xfe);
    ck_assert_int_eq(machine_run(m), MACHINE_DEBUG_EXIT);
    ck_assert_uint_eq(m->end_status, 11);
    machine_free(m);
}
END_TEST

/* INC EAX; JMP: exactly as many instructions as allowed, for many limits. */
START_TEST(max_insns_is_exact)
{
    for (u64 limit = 0; limit < 70; limit += 1 + limit / 8) {
        RUN(1, limit * 977, false, 0x40, 0xeb, 0xfd);
        ck_assert_int_eq(machine_run(m), MACHINE_MAX_INSNS);
        ck_assert_uint_eq(m->time.icount, limit * 977);
        ck_assert_uint_eq((u32)m->cpu[0].core.rax, 0x2badb002 + (limit * 977 + 1) / 2);
        machine_free(m);
    }
}
END_TEST

START_TEST(triple_fault)
{
    RUN(1, 1000, false, 0x90, 0x0f, 0x0b);
    ck_assert_int_eq(machine_run(m), MACHINE_TRIPLE_FAULT);
    ck_assert_uint_eq(m->end_cpu, 0);
    ck_assert_uint_eq(m->cpu[0].core.rip, LOAD + 1);
    machine_free(m);
}
END_TEST

START_TEST(serial_then_halted_for_ever)
{
    RUN(1, 1000, false, 0xba, 0xf8, 3, 0, 0, 0xb0, 0x48, 0xee, 0xb0, 0x69, 0xee, 0xfa, 0xf4);
    ck_assert_int_eq(machine_run(m), MACHINE_HALTED);
    ck_assert_str_eq(output, "Hi");
    machine_free(m);
}
END_TEST

START_TEST(reset_reboots_or_ends)
{
    RUN(1, 1000, true, 0xb0, 6, 0xba, 0xf9, 0x0c, 0, 0, 0xee, 0xeb, 0xfe);
    ck_assert_int_eq(machine_run(m), MACHINE_RESET);
    ck_assert_uint_eq(m->time.icount, 3);
    machine_free(m);
    /* The virtual clock goes on over reboots, so the limit ends the run. */
    m = machine_of(image, code, sizeof(code), 1, 3001, false);
    ck_assert_int_eq(machine_run(m), MACHINE_MAX_INSNS);
    ck_assert_uint_eq(m->time.icount, 3001);
    ck_assert_uint_eq((u8)m->cpu[0].core.rax, 6);
    machine_free(m);
}
END_TEST

/* Channel 0 of the PIT every 1193 ticks through the 8259 to a gate at vector 0x20; the tenth interrupt ends the run. */
static const u8 timer_code[] = {
    0x0f, 0x01, 0x1d, 0x00, 0x09, 0x10, 0x00, 0xb0, 0x11, 0xe6, 0x20, 0xb0, 0x20, 0xe6, 0x21, 0xb0, 0x04, 0xe6, 0x21, 0xb0,
    0x01, 0xe6, 0x21, 0xb0, 0xfe, 0xe6, 0x21, 0xb0, 0x34, 0xe6, 0x43, 0xb0, 0xa9, 0xe6, 0x40, 0xb0, 0x04, 0xe6, 0x40, 0xbc,
    0x00, 0x00, 0x20, 0x00, 0xfb, 0xf4, 0xeb, 0xfd, 0x90, 0x90,
    /* the handler, at 50: INC EBP; EOI; at 10 exit with 0x20; IRET */
    0x45, 0xb0, 0x20, 0xe6, 0x20, 0x83, 0xfd, 0x0a, 0x72, 0x02, 0xe6, 0xf4, 0xcf};

static struct machine *timer_machine(u8 *image)
{
    struct machine *m = machine_of(image, timer_code, sizeof(timer_code), 1, 1000000, false);
    u8 gate[8], idtr[6];
    store16(gate, (u16)(LOAD + 50));
    store16(gate + 2, 0x08);
    store16(gate + 4, 0x8e00);
    store16(gate + 6, (LOAD + 50) >> 16);
    store16(idtr, 0x21 * 8 - 1);
    store32(idtr + 2, IDT);
    ck_assert(bus_copy_to(&m->bus, IDT + 0x20 * 8, gate, 8));
    ck_assert(bus_copy_to(&m->bus, 0x100900, idtr, 6));
    return m;
}

START_TEST(timer_wakes_and_time_skips)
{
    static u8 image[0x1000];
    struct machine *m = timer_machine(image);
    ck_assert_int_eq(machine_run(m), MACHINE_DEBUG_EXIT);
    ck_assert_uint_eq(m->end_status, 0x41);
    u64 ns = m->time.icount + m->time.skipped;
    ck_assert_uint_ge(ns, 9990000);         /* ten periods of 1193 / 1193182 s */
    ck_assert_uint_le(ns, 10100000);
    ck_assert_uint_le(m->time.icount, 200);
    machine_free(m);
}
END_TEST

START_TEST(same_run_twice)
{
    static u8 image[0x1000];
    u64 icount[2], skipped[2];
    struct cpu_core core[2];
    for (unsigned i = 0; i < 2; i++) {
        struct machine *m = timer_machine(image);
        machine_run(m);
        icount[i] = m->time.icount;
        skipped[i] = m->time.skipped;
        core[i] = m->cpu[0].core;
        machine_free(m);
    }
    ck_assert_uint_eq(icount[0], icount[1]);
    ck_assert_uint_eq(skipped[0], skipped[1]);
    ck_assert_int_eq(memcmp(&core[0], &core[1], sizeof(core[0])), 0);
}
END_TEST

/* The BSP starts the other processor at 0x8000 by INIT and SIPI through its local APIC and waits for its sign. */
START_TEST(second_processor)
{
    static const u8 trampoline[] = {0x66, 0xff, 0x06, 0x00, 0x70, 0xf4, 0xeb, 0xfd};    /* INC dword [0x7000]; HLT */
    RUN(2, 1000000, false, 0xbf, 0x00, 0x03, 0xe0, 0xfe, 0xc7, 0x07, 0x00, 0x45, 0x0c, 0x00, 0xc7, 0x07, 0x08, 0x46, 0x0c,
        0x00, 0x83, 0x3d, 0x00, 0x70, 0x00, 0x00, 0x00, 0x74, 0xf7, 0xb0, 0x09, 0xe6, 0xf4, 0xeb, 0xfe);
    ck_assert(bus_copy_to(&m->bus, 0x8000, trampoline, sizeof(trampoline)));
    ck_assert_uint_eq(m->cpu[1].event.activity, ACTIVITY_WAIT_SIPI);
    ck_assert_int_eq(machine_run(m), MACHINE_DEBUG_EXIT);
    ck_assert_uint_eq(m->end_status, 19);
    ck_assert_uint_eq(m->cpu[1].event.activity, ACTIVITY_HLT);
    machine_free(m);
}
END_TEST

/* Waits for DATA READY on the serial port and sends the byte back, twice. */
/* Firmware has locked IA32_FEATURE_CONTROL on all processors where they have SGX, which it leaves off. */
START_TEST(firmware_leaves_sgx_off)
{
    static const struct { const char *model; u64 locked; } row[] = {{"base", 0}, {"icelake", 5}, {"icelake,-vmx", 1}, {"icelake,-sgx", 0}};
    for (unsigned n = 0; n < ARRAY_SIZE(row); n++) {
        cpu_model = row[n].model;
        RUN(2, 3, false, 0xeb, 0xfe);
        for (unsigned i = 0; i < 2; i++)
            ck_assert_uint_eq(m->cpu[i].sys.feature_control, row[n].locked);
        machine_free(m);
    }
    cpu_model = NULL;
}
END_TEST

START_TEST(serial_input)
{
    input = "ok";
    RUN(1, 10000000, false, 0xb9, 0x02, 0, 0, 0, 0xba, 0xfd, 3, 0, 0, 0xec, 0xa8, 0x01, 0x74, 0xfb, 0xb2, 0xf8, 0xec, 0xee,
        0xe2, 0xf0, 0xb0, 0x00, 0xe6, 0xf4, 0xeb, 0xfe);
    input = "ok";
    ck_assert_int_eq(machine_run(m), MACHINE_DEBUG_EXIT);
    ck_assert_str_eq(output, "ok");
    machine_free(m);
    input = NULL;
}
END_TEST

/* System management: the PIIX3 makes an SMI of a write to port 0xb2, the local APIC one of an IPI to itself. Each time the handler, at
 * 0x38000, writes S and resumes the program. */
START_TEST(system_management)
{
    RUN(1, 1000000, false, 0xc7, 0x05, 0x00, 0x80, 0x03, 0x00, 0xba, 0xf8, 0x03, 0xb0,      /* 38000: mov $0x3f8, %dx; mov $'S', %al */
        0xc7, 0x05, 0x04, 0x80, 0x03, 0x00, 0x53, 0xee, 0x0f, 0xaa,                         /* out %al, (%dx); rsm */
        0xba, 0xf8, 0x0c, 0x00, 0x00, 0xb8, 0xa0, 0x08, 0x00, 0x80, 0xef,                   /* SMICNTL and SMIEN of 00:01.0 */
        0xb8, 0x01, 0x00, 0x80, 0x00, 0x66, 0xba, 0xfc, 0x0c, 0xef,                         /* the gate, APMC writes */
        0xe6, 0xb2,                                                                         /* out %al, $0xb2 */
        0xba, 0xf8, 0x03, 0x00, 0x00, 0xb0, 0x31, 0xee,                                     /* 1 */
        0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x00, 0x02, 0x04, 0x00,                         /* ICR: self, SMI */
        0xb0, 0x32, 0xee, 0xb0, 0x05, 0xe6, 0xf4, 0xeb, 0xfe);                              /* 2 */
    ck_assert_int_eq(machine_run(m), MACHINE_DEBUG_EXIT);
    ck_assert_str_eq(output, "S1S2");
    ck_assert_uint_eq(m->cpu[0].smm.count, 2);
    machine_free(m);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        power_off, debug_exit, max_insns_is_exact, triple_fault, serial_then_halted_for_ever, reset_reboots_or_ends,
        timer_wakes_and_time_skips, same_run_twice, second_processor, firmware_leaves_sgx_off, serial_input,
        system_management,
    };
    return suite_run_tests("run", tests, ARRAY_SIZE(tests), NULL, NULL, CK_FORK_GETENV);
}
