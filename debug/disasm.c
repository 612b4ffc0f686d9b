/* See disasm.h. Capstone is opened once for each code size and kept for the life of the process. */
#include "debug/disasm.h"

#include "mmu/access.h"
#include "mmu/bus.h"

#include <stdio.h>

unsigned disasm_fetch(struct cpu *cpu, u64 la, u8 *bytes, unsigned n)
{
    for (unsigned done = 0; done < n; done++) {
        u64 hpa;
        if (!mem_peek_translate(cpu, la + done, &hpa) || !bus_copy_from(cpu->bus, &bytes[done], hpa, 1))
            return done;
    }
    return n;
}

#ifdef NESTOR_HAVE_CAPSTONE
#include <capstone.h>

unsigned disasm_text(const u8 *bytes, unsigned n, u64 rip, unsigned bits, char *text, size_t size)
{
    static csh handle[3];
    static bool opened[3];
    static const cs_mode modes[3] = {CS_MODE_16, CS_MODE_32, CS_MODE_64};
    cs_insn *insn = NULL;
    snprintf(text, size, "?");
    if (bits > 2)
        return 0;
    if (!opened[bits]) {
        if (cs_open(CS_ARCH_X86, modes[bits], &handle[bits]) != CS_ERR_OK)
            return 0;
        opened[bits] = true;
    }
    if (cs_disasm(handle[bits], bytes, n, rip, 1, &insn) != 1)
        return 0;
    unsigned length = insn->size;
    snprintf(text, size, "%s%s%s", insn->mnemonic, *insn->op_str ? " " : "", insn->op_str);
    cs_free(insn, 1);
    return length;
}
#else
unsigned disasm_text(const u8 *bytes, unsigned n, u64 rip, unsigned bits, char *text, size_t size)
{
    (void)bytes, (void)n, (void)rip, (void)bits;
    snprintf(text, size, "?");
    return 0;
}
#endif
