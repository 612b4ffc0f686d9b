/* Why an entry check fired, for people: each field that the row names with its bits by name, and for words that the
 * capability MSRs govern, which bits had to be 1, which had to be 0, and who says so.
 *
 * Only text is made here, when somebody traces failed entries (vmx/checks.c); nothing depends on it.
 * [SDM3 "Format of the … Controls"], [SDM3 Appendix "VMX Capability Reporting Facility"], [SDM3 "Format of Access Rights"].
 */
#include "cpu/state.h"
#include "vmx/capability.h"
#include "vmx/checks.h"
#include "vmx/fields.h"

#include <stdarg.h>
#include <stdio.h>

struct writer { char *at; size_t left; };

__attribute__((format(printf, 2, 3))) static void put(struct writer *w, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(w->at, w->left, format, args);
    va_end(args);
    size_t used = n < 0 ? 0 : (size_t)n < w->left ? (size_t)n : w->left - 1;
    w->at += used;
    w->left -= used;
}

struct bit_name { u8 bit; const char *name; };
static const struct bit_name cr0_bits[] = {{0, "PE"}, {1, "MP"}, {2, "EM"}, {3, "TS"}, {4, "ET"}, {5, "NE"}, {16, "WP"},
                                           {18, "AM"}, {29, "NW"}, {30, "CD"}, {31, "PG"}, {0, NULL}};
static const struct bit_name cr4_bits[] = {{0, "VME"}, {1, "PVI"}, {2, "TSD"}, {3, "DE"}, {4, "PSE"}, {5, "PAE"}, {6, "MCE"},
                                           {7, "PGE"}, {8, "PCE"}, {9, "OSFXSR"}, {10, "OSXMMEXCPT"}, {11, "UMIP"}, {12, "LA57"},
                                           {13, "VMXE"}, {14, "SMXE"}, {16, "FSGSBASE"}, {17, "PCIDE"}, {18, "OSXSAVE"},
                                           {20, "SMEP"}, {21, "SMAP"}, {22, "PKE"}, {23, "CET"}, {24, "PKS"}, {28, "LAM_SUP"}, {0, NULL}};
static const struct bit_name efer_bits[] = {{0, "SCE"}, {8, "LME"}, {10, "LMA"}, {11, "NXE"}, {0, NULL}};
static const struct bit_name rflags_bits[] = {{0, "CF"}, {1, "1"}, {2, "PF"}, {4, "AF"}, {6, "ZF"}, {7, "SF"}, {8, "TF"}, {9, "IF"},
                                              {10, "DF"}, {11, "OF"}, {14, "NT"}, {16, "RF"}, {17, "VM"}, {18, "AC"}, {19, "VIF"},
                                              {20, "VIP"}, {21, "ID"}, {0, NULL}};
static const struct bit_name vm_function_bits[] = {{0, "EPTP-switching"}, {0, NULL}};
static const struct bit_name blocking_bits[] = {{0, "STI"}, {1, "MOV-SS"}, {2, "SMI"}, {3, "NMI"}, {4, "enclave"}, {0, NULL}};
static const struct bit_name pending_bits[] = {{0, "B0"}, {1, "B1"}, {2, "B2"}, {3, "B3"}, {11, "BLD"}, {12, "enabled-breakpoint"},
                                               {14, "BS"}, {16, "RTM"}, {0, NULL}};

static void put_bits(struct writer *w, u64 value, const struct bit_name *names)
{
    for (unsigned n = 0; n < 64; n++) {
        if (!(value >> n & 1))
            continue;
        const char *name = NULL;
        for (const struct bit_name *b = names; b && b->name; b++)
            if (b->bit == n)
                name = b->name;
        if (name)
            put(w, " %s", name);
        else
            put(w, " bit%u", n);
    }
}

static void put_control_bits(struct writer *w, u64 value, enum vmx_control_word word)
{
    for (unsigned n = 0; n < 64; n++) {
        const char *name = NULL;
        for (unsigned c = 0; c < CTL_COUNT; c++)
            if (vmx_control_info(c)->word == word && vmx_control_info(c)->bit == n)
                name = vmx_control_info(c)->text;
        if (!(value >> n & 1))
            continue;
        if (name)
            put(w, " \"%s\"", name);
        else
            put(w, " bit%u", n);
    }
}

static void put_control_word(struct writer *w, const struct cpu *cpu, u64 value, enum vmx_control_word word, const char *msr)
{
    u64 low = vmx_allowed_0(word) & ~value, high = value & ~vmx_allowed_1(cpu, word);
    put_control_bits(w, value & ~vmx_allowed_0(word), word);
    if (!low && !high)
        return;
    put(w, " (%s", msr);
    if (low) {
        put(w, ": must be 1:");
        put_control_bits(w, low, word);
    }
    if (high) {
        put(w, "%s must be 0:", low ? ";" : ":");
        put_control_bits(w, high, word);
    }
    put(w, "; may be 1: 0x%llx)", (unsigned long long)vmx_allowed_1(cpu, word));
}

static void put_fixed(struct writer *w, u64 value, u64 fixed0, u64 fixed1, const struct bit_name *names, const char *msr)
{
    put_bits(w, value, names);
    if (~value & fixed0 || value & ~fixed1)
        put(w, " (%s", msr);
    if (~value & fixed0) {
        put(w, ": fixed to 1:");
        put_bits(w, ~value & fixed0, names);
    }
    if (value & ~fixed1) {
        put(w, "%s fixed to 0:", ~value & fixed0 ? ";" : ":");
        put_bits(w, value & ~fixed1, names);
    }
    if (~value & fixed0 || value & ~fixed1)
        put(w, ")");
}

static void put_rights(struct writer *w, u64 rights)
{
    put(w, " type %u%s, DPL %u%s%s%s%s%s", (unsigned)rights & 0xf, rights & AR_S ? ", S" : ", system", (unsigned)rights >> 5 & 3,
        rights & AR_P ? ", P" : ", not present", rights & AR_L ? ", L" : "", rights & AR_DB ? ", D/B" : "", rights & AR_G ? ", G" : "",
        rights & AR_UNUSABLE ? ", unusable" : "");
    if (rights & 0xfffe0f00)
        put(w, ", reserved bits 0x%x", (unsigned)rights & 0xfffe0f00);
}

static void put_event(struct writer *w, u64 info)
{
    static const char *const type[8] = {"external interrupt", "reserved type", "NMI", "hardware exception", "software interrupt",
                                        "privileged software exception", "software exception", "other event"};
    put(w, info >> 31 & 1 ? " %s, vector %u%s" : " not valid (%s, vector %u%s)", type[info >> 8 & 7], (unsigned)info & 0xff,
        info >> 11 & 1 ? ", with error code" : "");
}

static void put_eptp(struct writer *w, const struct cpu *cpu, u64 eptp)
{
    u64 cap = vmx_capability(cpu, MSR_IA32_VMX_EPT_VPID_CAP);
    static const char *const type[8] = {"UC", "WC", "reserved type", "reserved type", "WT", "WP", "WB", "reserved type"};
    put(w, " %s, page walks of length %u%s%s%s (IA32_VMX_EPT_VPID_CAP:%s%s%s%s%s%s)", type[eptp & 7], (unsigned)(eptp >> 3 & 7) + 1,
        eptp >> 6 & 1 ? ", accessed and dirty flags" : "", eptp >> 7 & 1 ? ", supervisor shadow-stack control" : "",
        eptp & 0xf00 ? ", reserved bits 11:8" : "", cap & EPTCAP_UNCACHEABLE ? " UC" : "", cap & EPTCAP_WRITE_BACK ? " WB" : "",
        cap & EPTCAP_WALK_4 ? ", length 4" : "", cap & EPTCAP_WALK_5 ? ", length 5" : "", cap & EPTCAP_ACCESSED_DIRTY ? ", flags" : "",
        cap & EPTCAP_SHADOW_STACK ? ", shadow-stack control" : "");
}

static void explain_field(struct writer *w, const struct cpu *cpu, unsigned field, u64 value)
{
    static const char *const activity[] = {" active", " HLT", " shutdown", " wait-for-SIPI"};
    const char *name = vmx_field_info(field)->name;
    switch (field) {
    case VMX_FIELD_pin_controls: put_control_word(w, cpu, value, VMX_WORD_PIN, "IA32_VMX_TRUE_PINBASED_CTLS"); return;
    case VMX_FIELD_primary_controls: put_control_word(w, cpu, value, VMX_WORD_PRIMARY, "IA32_VMX_TRUE_PROCBASED_CTLS"); return;
    case VMX_FIELD_secondary_controls: put_control_word(w, cpu, value, VMX_WORD_SECONDARY, "IA32_VMX_PROCBASED_CTLS2"); return;
    case VMX_FIELD_tertiary_controls: put_control_word(w, cpu, value, VMX_WORD_TERTIARY, "IA32_VMX_PROCBASED_CTLS3"); return;
    case VMX_FIELD_exit_controls: put_control_word(w, cpu, value, VMX_WORD_VMEXIT, "IA32_VMX_TRUE_EXIT_CTLS"); return;
    case VMX_FIELD_secondary_exit_controls: put_control_word(w, cpu, value, VMX_WORD_VMEXIT2, "IA32_VMX_EXIT_CTLS2"); return;
    case VMX_FIELD_entry_controls: put_control_word(w, cpu, value, VMX_WORD_VMENTRY, "IA32_VMX_TRUE_ENTRY_CTLS"); return;
    case VMX_FIELD_ept_pointer: put_eptp(w, cpu, value); return;
    case VMX_FIELD_vm_function_controls:
        put_fixed(w, value, 0, vmx_capability(cpu, MSR_IA32_VMX_VMFUNC), vm_function_bits, "IA32_VMX_VMFUNC");
        return;
    case VMX_FIELD_guest_cr0:
    case VMX_FIELD_host_cr0:
        put_fixed(w, value, vmx_capability(cpu, MSR_IA32_VMX_CR0_FIXED0), vmx_capability(cpu, MSR_IA32_VMX_CR0_FIXED1), cr0_bits,
                  "IA32_VMX_CR0_FIXED0/1; with unrestricted guest PE and PG are free");
        return;
    case VMX_FIELD_guest_cr4:
    case VMX_FIELD_host_cr4:
        put_fixed(w, value, vmx_capability(cpu, MSR_IA32_VMX_CR4_FIXED0), vmx_capability(cpu, MSR_IA32_VMX_CR4_FIXED1), cr4_bits,
                  "IA32_VMX_CR4_FIXED0/1");
        return;
    case VMX_FIELD_guest_ia32_efer:
    case VMX_FIELD_host_ia32_efer: put_bits(w, value, efer_bits); return;
    case VMX_FIELD_guest_rflags: put_bits(w, value, rflags_bits); return;
    case VMX_FIELD_guest_interruptibility: put_bits(w, value, blocking_bits); return;
    case VMX_FIELD_guest_pending_debug: put_bits(w, value, pending_bits); return;
    case VMX_FIELD_entry_interruption_info: put_event(w, value); return;
    case VMX_FIELD_guest_activity: put(w, "%s", value < ARRAY_SIZE(activity) ? activity[value] : " no such state"); return;
    default:
        if (strstr(name, "_access_rights"))
            put_rights(w, value);
    }
}

void vmx_check_explain(const struct cpu *cpu, unsigned id, const struct vmcs *vmcs, char *text, size_t size)
{
    struct writer w = {.at = text, .left = size};
    const char *at = vmx_check_info(id)->values;
    if (!size)
        return;
    *text = 0;
    for (bool first = true; *at;) {
        size_t n = strcspn(at, " ");
        int field = vmx_field_find_name(at, n);
        if (field >= 0) {
            char decoded[600];
            struct writer d = {.at = decoded, .left = sizeof decoded};
            *decoded = 0;
            explain_field(&d, cpu, (unsigned)field, vmx_field_get(vmcs, (unsigned)field));
            if (*decoded)
                put(&w, "%s%.*s:%s", first ? "" : ", ", (int)n, at, decoded);
            first = first && !*decoded;
        }
        at += n;
        at += strspn(at, " ");
    }
}
