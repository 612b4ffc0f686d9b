/* A machine's life: creation, reset, end. The wires are in machine/wiring.c, the run loop in machine/vtime.c, what is
 * put into memory before the first instruction in machine/loader*.c and machine/acpi.c.
 *
 * A reset is a power cycle that keeps the virtual clock: memory is cleared and the images are loaded again, since there
 * is no firmware that could find the kernel a second time.
 */
#include "machine/machine.h"

#include "cpu/interp.h"
#include "cpu/jit/jit.h"
#include "cpu/mode.h"
#include "cpu/trace.h"
#include "machine/loader.h"
#include "machine/policy_source.h"
#include "machine/vtime.h"
#include "machine/wiring.h"
#include "mmu/tlb.h"
#include "vmx/capability.h"
#include "vmx/policy.h"
#include "vmx/stats.h"

#include <stdlib.h>

/* ---- what the devices ask of the host ----------------------------------------------------------------------------- */

static void host_put(void *arg, enum host_stream stream, u8 byte)
{
    struct machine *m = arg;
    m->output.bytes++;
    m->output.hash = (m->output.hash ^ byte ^ (u64)stream << 8) * 0x100000001b3ull;    /* FNV-1a's step */
    m->frontend.put(m->frontend.arg, stream, byte);
}

static void host_power_off(void *arg)
{
    machine_finish(arg, MACHINE_POWER_OFF, 0);
}

static void host_reset(void *arg)
{
    struct machine *m = arg;
    m->reset_wanted = true;
    if (m->time.running) {
        m->cpu[m->time.turn].event.attention |= ATT_STOP;
        machine_look_again(m);
    }
}

static void host_debug_exit(void *arg, u32 status)
{
    machine_finish(arg, MACHINE_DEBUG_EXIT, status);
}

static u64 host_epoch_seconds(void *arg)
{
    return ((struct machine *)arg)->config.epoch_seconds;
}

void machine_finish(struct machine *m, enum machine_end end, u32 status)
{
    if (m->end != MACHINE_RUNS)
        return;
    m->end = end;
    m->end_status = status;
    if (m->time.running) {
        m->cpu[m->time.turn].event.attention |= ATT_STOP;
        machine_look_again(m);
    }
}

/* ---- input of the first serial port ------------------------------------------------------------------------------- */

#define INPUT_PERIOD_NS 1000000u       /* the outside is looked at once a virtual millisecond */

static void input_poll(void *arg, u64 now)
{
    struct machine *m = arg;
    if (m->input.count == 0) {
        int got = m->frontend.get(m->frontend.arg, m->input.byte, sizeof(m->input.byte));
        m->input.open = got >= 0;
        m->input.first = 0;
        m->input.count = got > 0 ? (unsigned)got : 0;
    }
    while (m->input.count && uart_room(&m->uart)) {
        uart_receive(&m->uart, m->input.byte[m->input.first++]);
        m->input.count--;
    }
    if (m->input.open || m->input.count)
        clock_set(&m->clock, m->input.timer, now + INPUT_PERIOD_NS);
}

static void input_init(struct machine *m)
{
    m->input.timer = clock_add_timer(&m->clock, input_poll, m);
    m->input.open = m->frontend.get != NULL;
    if (m->input.open)
        clock_set(&m->clock, m->input.timer, INPUT_PERIOD_NS);
}

/* ---- creation ----------------------------------------------------------------------------------------------------- */

static bool create_cpus(struct machine *m, char *message, size_t message_size)
{
    const struct machine_config *config = &m->config;
    if (!policy_source_open(&m->policy, config->policy ? config->policy : "hardware", message, message_size))
        return false;
    m->cpu_count = config->cpus;
    m->cpu = calloc(config->cpus, sizeof(*m->cpu));
    m->lapic = calloc(config->cpus, sizeof(*m->lapic));
    m->tsc_offset_seen = calloc(config->cpus, sizeof(*m->tsc_offset_seen));
    m->interp = interp_new(&m->bus);
    if (!m->cpu || !m->lapic || !m->tsc_offset_seen || !m->interp)
        return hostio_error(message, message_size, "--cpus %u: the host has not enough memory", config->cpus);
    for (unsigned i = 0; i < config->cpus; i++) {
        struct cpu *cpu = &m->cpu[i];
        cpu->index = i;
        cpu->cpu_count = config->cpus;
        cpu->bus = &m->bus;
        cpu->board = &wiring_cpu_board;
        cpu->board_arg = m;
        cpu->interp = m->interp;
        if (!cpu_model_set(cpu, config->cpu_model ? config->cpu_model : "base", message, message_size))
            return false;
        if (!policy_source_give(&m->policy, cpu, message, message_size))
            return false;
        if (config->stats && !(cpu->stats = vmx_stats_create()))
            return hostio_error(message, message_size, "--stats: the host has not enough memory");
        if (!tlb_init(cpu))
            return hostio_error(message, message_size, "--cpus %u: the host has not enough memory", config->cpus);
    }
    return true;
}

/* Where the host has no translated code there is the interpreter: config.engine tells what there is. */
static void choose_engine(struct machine *m)
{
    m->run = cpu_run;
    if (m->config.engine != ENGINE_INTERP && !jit_attach(m->interp, m->cpu, m->cpu_count, m->config.engine == ENGINE_CALLS, JIT_SAMPLE_EVERY))
        m->config.engine = ENGINE_INTERP;
}

struct machine *machine_create(const struct machine_config *config, const struct machine_frontend *frontend,
                               char *message, size_t message_size)
{
    struct machine *m = calloc(1, sizeof(*m));
    if (!m) {
        hostio_error(message, message_size, "the host has not enough memory");
        return NULL;
    }
    m->config = *config;
    m->frontend = *frontend;
    m->host = (struct host){.put = host_put, .power_off = host_power_off, .reset = host_reset,
                            .debug_exit = host_debug_exit, .epoch_seconds = host_epoch_seconds, .arg = m};
    vtime_init(m);
    if (!bus_init(&m->bus, config->memory, MACHINE_LOW_LIMIT)) {
        hostio_error(message, message_size, "--memory: the host cannot give %llu MiB",
                     (unsigned long long)(config->memory >> 20));
        free(m);
        return NULL;
    }
    m->bus.foresee = hostio_foresee;
    if (!create_cpus(m, message, message_size)) {
        machine_free(m);
        return NULL;
    }
    choose_engine(m);
    wiring_init(m);
    input_init(m);
    if (!machine_reset(m, message, message_size)) {
        machine_free(m);
        return NULL;
    }
    return m;
}

void machine_free(struct machine *m)
{
    for (unsigned i = 0; m->cpu && i < m->cpu_count; i++) {
        if (m->cpu[i].stats)
            vmx_stats_destroy(m->cpu[i].stats);
        if (m->cpu[i].tlb)
            tlb_free(&m->cpu[i]);
        vmx_policy_free(&m->cpu[i]);
    }
    if (m->interp)
        interp_free(m->interp);
    free(m->cpu);
    free(m->lapic);
    free(m->tsc_offset_seen);
    bus_free(&m->bus);
    policy_source_close(&m->policy);
    free(m);
}

/* ---- reset -------------------------------------------------------------------------------------------------------- */

/* Memory types as firmware leaves them: write-back, except for the device holes [SDM3 "Memory Type Range Registers
 * (MTRRs)"]. Without them a kernel switches its page attributes off. */
static void set_firmware_mtrrs(struct machine *m, struct cpu *cpu)
{
    static const u64 wb = 0x0606060606060606u, wp = 0x0505050505050505u, uc = 0;
    struct cpu_sys *sys = &cpu->sys;
    sys->mtrr_fixed[0] = wb;                            /* 0x00000-0x7ffff */
    sys->mtrr_fixed[1] = wb;                            /* 0x80000-0x9ffff */
    sys->mtrr_fixed[2] = uc;                            /* 0xa0000-0xbffff */
    for (unsigned i = 3; i < 11; i++)
        sys->mtrr_fixed[i] = wp;                        /* 0xc0000-0xfffff, 32 KiB each */
    sys->mtrr_physbase[0] = MACHINE_LOW_LIMIT;          /* the device hole, 1 GiB of uncached */
    sys->mtrr_physmask[0] = (mask_low(cpu_physical_bits(cpu)) & ~(BIT(30) - 1)) | BIT(11);
    sys->mtrr_def_type = BIT(11) | BIT(10) | 6;         /* MTRRs and fixed ranges on, default write-back */
    sys->cr0 &= ~(u64)(CR0_CD | CR0_NW);
    (void)m;
}

/* Firmware that leaves SGX off says so for good: an operating system would write IA32_FEATURE_CONTROL itself, and enable it. On processors
 * without SGX the register is the operating system's to write. */
static void set_firmware_feature_control(struct cpu *cpu)
{
    if (cpu_has(cpu, FEATURE_SGX))
        cpu->sys.feature_control = FEATURE_CONTROL_LOCKED | (cpu_has(cpu, FEATURE_VMX) ? FEATURE_CONTROL_VMX : 0);
}

bool machine_reset(struct machine *m, char *message, size_t message_size)
{
    if (m->memory_used)
        bus_reset(&m->bus);             /* looks at every page: fresh memory need not pay for that */
    m->memory_used = true;
    for (unsigned i = 0; i < m->cpu_count; i++)
        cpu_reset(&m->cpu[i], false);
    wiring_reset(m);
    m->time.turn = 0;
    for (unsigned i = 0; i < m->cpu_count; i++) {
        set_firmware_mtrrs(m, &m->cpu[i]);
        set_firmware_feature_control(&m->cpu[i]);
        m->tsc_offset_seen[i] = m->cpu[i].sys.tsc_offset;
    }
    wiring_set_firmware_state(m);
    if (!loader_load(m, message, message_size))
        return false;
    for (unsigned i = 0; i < m->cpu_count; i++)
        cpu_mode_update(&m->cpu[i]);
    return true;
}

void machine_set_trace(struct machine *m, struct trace *trace, u64 start, u64 stop)
{
    m->trace = trace;
    m->trace_mask = trace ? trace->mask : 0;
    m->time.trace_start = start;
    m->time.trace_stop = stop;
    for (unsigned i = 0; i < m->cpu_count; i++)
        m->cpu[i].trace = trace;
}
