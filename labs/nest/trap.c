/*
 * trap: this level's own exceptions. One that was expected (the try_ functions) gives its vector as a value; any other is a
 * bug, here or in what runs this level, and ends the machine with a report.
 */
#include "nest.h"

struct trap_frame {
    uint64_t error_code, rip, cs, rflags, rsp, ss;
};

struct idt_entry {
    uint16_t offset_low, selector;
    uint8_t ist, type;
    uint16_t offset_middle;
    uint32_t offset_high, reserved;
};

enum { CODE64 = 0x10, INTERRUPT_GATE = 0x8e, EXCEPTIONS = 32, STUB_SIZE = 16 };

extern const char trap_stubs[];
void trap_handle(uint64_t vector, struct trap_frame *frame);

static struct idt_entry idt[EXCEPTIONS];
static volatile uint64_t resume_rip; /* where an expected exception continues; 0: none is expected */
static volatile unsigned trapped;

void trap_init(void)
{
    for (unsigned i = 0; i < EXCEPTIONS; i++) {
        uint64_t stub = (uint64_t)trap_stubs + i * STUB_SIZE;
        idt[i] = (struct idt_entry){.offset_low = stub, .selector = CODE64, .type = INTERRUPT_GATE, .offset_middle = stub >> 16};
    }
    struct __attribute__((packed)) {
        uint16_t limit;
        uint64_t base;
    } pointer = {sizeof idt - 1, (uint64_t)idt};
    __asm__ volatile("lidt %0" : : "m"(pointer));
}

void trap_handle(uint64_t vector, struct trap_frame *frame)
{
    if (resume_rip) {
        frame->rip = resume_rip;
        resume_rip = 0;
        trapped = vector;
        return;
    }
    uint64_t cr2;
    __asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
    fail("unexpected exception %s (vector %lu), error code 0x%lx, rip 0x%lx, rsp 0x%lx, cr2 0x%lx", trap_name(vector), vector,
         frame->error_code, frame->rip, frame->rsp, cr2);
}

const char *trap_name(unsigned vector)
{
    switch (vector) {
    case TRAP_NONE: return "works";
    case VECTOR_UD: return "#UD";
    case VECTOR_GP: return "#GP";
    case 14: return "#PF";
    default: return "another exception";
    }
}

/* Runs one instruction between setting resume_rip to the label behind it and clearing it. */
#define TRY(instruction, outputs, ...)                                                                                       \
    trapped = TRAP_NONE;                                                                                                     \
    __asm__ volatile("movq $1f, %[resume]\n\t" instruction "\n1:\tmovq $0, %[resume]"                                        \
                     : [resume] "+m"(resume_rip) outputs                                                                     \
                     : __VA_ARGS__                                                                                           \
                     : "memory", "cc")
#define AND ,

unsigned try_read_msr(uint32_t index, uint64_t *value)
{
    uint32_t low = 0, high = 0;
    TRY("rdmsr", AND "+a"(low) AND "+d"(high), "c"(index));
    *value = (uint64_t)high << 32 | low;
    return trapped;
}

unsigned try_write_msr(uint32_t index, uint64_t value)
{
    TRY("wrmsr", , "c"(index), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
    return trapped;
}

unsigned try_write_cr4(uint64_t value)
{
    TRY("mov %[value], %%cr4", , [value] "r"(value));
    return trapped;
}

unsigned try_vmxon(uint64_t region_pa, bool *succeeded)
{
    uint8_t above = 0;
    TRY("vmxon %[region]\n\tseta %[above]", AND[above] "+r"(above), [region] "m"(region_pa));
    *succeeded = above;
    return trapped;
}
