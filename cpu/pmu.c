/* The registers of the performance counters; see cpu/pmu.h. */
#include "cpu/pmu.h"

#include "cpu/mode.h"
#include "cpu/model.h"

enum { MSR_PMC = 0xc1, MSR_EVTSEL = 0x186, MSR_FIXED_CTR = 0x309, MSR_FIXED_CTRL = 0x38d, MSR_GLOBAL_STATUS,
       MSR_GLOBAL_CTRL, MSR_GLOBAL_STATUS_RESET, MSR_GLOBAL_STATUS_SET, MSR_GLOBAL_INUSE, MSR_A_PMC = 0x4c1 };

/* Of IA32_PERF_GLOBAL_STATUS beside the counters' own bits: never set by Nestor itself but CTR_FRZ; software may set
 * them from version 4 on. */
#define STATUS_OVERFLOW_BUFFER BIT(62)
#define STATUS_CHANGED BIT(63)
#define STATUS_VERSION_4 (PMU_STATUS_FROZEN | BIT(58) /* LBR_FRZ */ | BIT(60) /* ASCI */ | BIT(61) /* uncore */)

unsigned pmu_version(const struct cpu *cpu)
{
    return cpu_has(cpu, FEATURE_PMU) ? cpu_model_of(cpu)->pmu.version : 0;
}

unsigned pmu_general(const struct cpu *cpu)
{
    return cpu_has(cpu, FEATURE_PMU) ? cpu_model_of(cpu)->pmu.general : 0;
}

unsigned pmu_fixed(const struct cpu *cpu)
{
    return pmu_version(cpu) >= 2 ? cpu_model_of(cpu)->pmu.fixed : 0;
}

u64 pmu_global_ctrl_bits(const struct cpu *cpu)
{
    return pmu_version(cpu) >= 2 ? mask_low(pmu_general(cpu)) | mask_low(pmu_fixed(cpu)) << 32 : 0;
}

/* ---- which counters run ---------------------------------------------------------------------------------------- */

void pmu_update(struct cpu *cpu)
{
    const struct cpu_sys *sys = &cpu->sys;
    bool runs = false;
    u64 enabled = pmu_version(cpu) >= 2 ? sys->perf_global_ctrl : ~0ull;
    if (cpu_has(cpu, FEATURE_PMU) && !(sys->perf_global_status & PMU_STATUS_FROZEN)) {
        for (unsigned n = 0; n < pmu_general(cpu); n++)
            runs |= enabled >> n & 1 && sys->perf_evtsel[n] & PMU_SELECT_EN &&
                    sys->perf_evtsel[n] & (PMU_SELECT_USR | PMU_SELECT_OS);
        for (unsigned n = 0; n < pmu_fixed(cpu); n++)
            runs |= enabled >> (32 + n) & 1 && sys->perf_fixed_ctrl >> (4 * n) & 3;
    }
    if (runs)
        cpu->event.attention |= ATT_PMU;
    else
        cpu->event.attention &= ~(u32)ATT_PMU;
    cpu_cut_block(cpu);
}

void pmu_load_global_ctrl(struct cpu *cpu, u64 value)
{
    cpu->sys.perf_global_ctrl = value & pmu_global_ctrl_bits(cpu);
    pmu_update(cpu);
}

void pmu_reset(struct cpu *cpu)
{
    /* All general counters are enabled here, and none by its own register, as version 1 would have it. */
    cpu->sys.perf_global_ctrl = pmu_version(cpu) >= 2 ? mask_low(pmu_general(cpu)) : 0;
    pmu_update(cpu);
}

/* ---- MSRs ------------------------------------------------------------------------------------------------------ */

/* The any-thread bits have a meaning from version 3 on, and version 5 took them back. There is one thread a core. */
static bool any_thread_exists(const struct cpu *cpu) { return pmu_version(cpu) == 3 || pmu_version(cpu) == 4; }

static u64 evtsel_bits(const struct cpu *cpu)
{
    return 0xffffffffull & ~(any_thread_exists(cpu) ? 0 : (u64)PMU_SELECT_ANY_THREAD);
}

static u64 fixed_ctrl_bits(const struct cpu *cpu)
{
    u64 bits = 0;
    for (unsigned n = 0; n < pmu_fixed(cpu); n++)
        bits |= (any_thread_exists(cpu) ? 0xfull : 0xbull) << (4 * n);
    return bits;
}

/* What software may clear, and from version 4 on set, in IA32_PERF_GLOBAL_STATUS. */
static u64 status_bits(const struct cpu *cpu)
{
    return pmu_global_ctrl_bits(cpu) | STATUS_OVERFLOW_BUFFER | STATUS_CHANGED |
           (pmu_version(cpu) >= 4 ? STATUS_VERSION_4 : 0);
}

/* Counters that are programmed at all, and whether one interrupts (bit 63). */
static u64 in_use(const struct cpu *cpu)
{
    u64 value = 0;
    for (unsigned n = 0; n < pmu_general(cpu); n++) {
        value |= cpu->sys.perf_evtsel[n] & 0xff ? BIT(n) : 0;
        value |= cpu->sys.perf_evtsel[n] & PMU_SELECT_INT ? BIT(63) : 0;
    }
    for (unsigned n = 0; n < pmu_fixed(cpu); n++) {
        value |= cpu->sys.perf_fixed_ctrl >> (4 * n) & 3 ? BIT(32 + n) : 0;
        value |= cpu->sys.perf_fixed_ctrl >> (4 * n) & 8 ? BIT(63) : 0;
    }
    return value;
}

bool pmu_read(struct cpu *cpu, u32 msr, u64 *value)
{
    const struct cpu_sys *sys = &cpu->sys;
    unsigned version = pmu_version(cpu), general = pmu_general(cpu);
    *value = 0;
    if (msr - MSR_PMC < general)
        *value = sys->perf_pmc[msr - MSR_PMC];
    else if (msr - MSR_A_PMC < general && cpu_model_of(cpu)->perf_capabilities & PERF_CAP_FULL_WIDTH)
        *value = sys->perf_pmc[msr - MSR_A_PMC];
    else if (msr - MSR_EVTSEL < general)
        *value = sys->perf_evtsel[msr - MSR_EVTSEL];
    else if (msr - MSR_FIXED_CTR < pmu_fixed(cpu))
        *value = sys->perf_fixed[msr - MSR_FIXED_CTR];
    else if (msr == MSR_FIXED_CTRL && version >= 2)
        *value = sys->perf_fixed_ctrl;
    else if (msr == MSR_GLOBAL_STATUS && version >= 2)
        *value = sys->perf_global_status;
    else if (msr == MSR_GLOBAL_CTRL && version >= 2)
        *value = sys->perf_global_ctrl;
    else if (msr == MSR_GLOBAL_INUSE && version >= 4)
        *value = in_use(cpu);
    else                                   /* the two that set and clear bits of the status read as 0 */
        return (msr == MSR_GLOBAL_STATUS_RESET && version >= 2) || (msr == MSR_GLOBAL_STATUS_SET && version >= 4);
    return true;
}

static bool write_checked(u64 *member, u64 writable, u64 value)
{
    if (value & ~writable)
        return false;
    *member = value;
    return true;
}

bool pmu_write(struct cpu *cpu, u32 msr, u64 value)
{
    struct cpu_sys *sys = &cpu->sys;
    unsigned version = pmu_version(cpu), general = pmu_general(cpu);
    bool done = false;
    if (msr - MSR_PMC < general) {
        /* The old way of writing: 32 bits, sign-extended to the counter's width. */
        sys->perf_pmc[msr - MSR_PMC] = (u64)(i64)(i32)value & mask_low(PMU_WIDTH);
        done = true;
    } else if (msr - MSR_A_PMC < general && cpu_model_of(cpu)->perf_capabilities & PERF_CAP_FULL_WIDTH) {
        done = write_checked(&sys->perf_pmc[msr - MSR_A_PMC], mask_low(PMU_WIDTH), value);
    } else if (msr - MSR_EVTSEL < general) {
        done = write_checked(&sys->perf_evtsel[msr - MSR_EVTSEL], evtsel_bits(cpu), value);
    } else if (msr - MSR_FIXED_CTR < pmu_fixed(cpu)) {
        done = write_checked(&sys->perf_fixed[msr - MSR_FIXED_CTR], mask_low(PMU_WIDTH), value);
    } else if (msr == MSR_FIXED_CTRL && version >= 2) {
        done = write_checked(&sys->perf_fixed_ctrl, fixed_ctrl_bits(cpu), value);
    } else if (msr == MSR_GLOBAL_CTRL && version >= 2) {
        done = write_checked(&sys->perf_global_ctrl, pmu_global_ctrl_bits(cpu), value);
    } else if (msr == MSR_GLOBAL_STATUS_RESET && version >= 2 && !(value & ~status_bits(cpu))) {
        sys->perf_global_status &= ~value;
        done = true;
    } else if (msr == MSR_GLOBAL_STATUS_SET && version >= 4 && !(value & (~status_bits(cpu) | STATUS_CHANGED))) {
        sys->perf_global_status |= value;
        done = true;
    }
    if (done)
        pmu_update(cpu);
    return done;
}

bool pmu_rdpmc(const struct cpu *cpu, u32 index, u64 *value)
{
    const u32 fixed = 1u << 30;            /* ECX[31:16] = 4000H: fixed-function counters */
    if (index < pmu_general(cpu))
        *value = cpu->sys.perf_pmc[index];
    else if (index >= fixed && index - fixed < pmu_fixed(cpu))
        *value = cpu->sys.perf_fixed[index - fixed];
    else
        return false;
    return true;
}

/* ---- CPUID ----------------------------------------------------------------------------------------------------- */

void pmu_leaf(const struct cpu *cpu, u32 *eax, u32 *ebx, u32 *ecx, u32 *edx)
{
    unsigned version = pmu_version(cpu);
    *eax = *ebx = *ecx = *edx = 0;
    if (!version)
        return;
    /* Seven architectural events are told of; a set bit of EBX means that one cannot be counted: there are no caches to
     * refer to or to miss in, and no branch is mispredicted. */
    *eax = version | pmu_general(cpu) << 8 | PMU_WIDTH << 16 | 7u << 24;
    *ebx = 1u << 3 | 1u << 4 | 1u << 6;
    if (version >= 2)
        *edx = pmu_fixed(cpu) | PMU_WIDTH << 5;
    if (version >= 5) {
        *ecx = (u32)mask_low(pmu_fixed(cpu));
        *edx |= 1u << 15;                  /* AnyThread is deprecated */
    }
}
