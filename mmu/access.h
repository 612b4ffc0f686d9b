/* Access to linear memory: the fast path of the TLB inline, everything else in mmu/access.c.
 *
 * Every function returns false when the access cannot be made, with cpu->fault describing why and nothing changed; the
 * caller raises it: `return cpu_raise_fault(cpu);`. mmu/ itself never raises. Accesses may cross pages and be
 * misaligned. An access to a device takes the slow path and cuts the running block, so that time and events stay
 * exact.
 */
#ifndef NESTOR_MMU_ACCESS_H
#define NESTOR_MMU_ACCESS_H

#include "cpu/state.h"
#include "mmu/bus.h"
#include "mmu/tlb.h"

enum access {
    ACCESS_READ = 0,
    ACCESS_WRITE = 1 << 0,
    ACCESS_EXEC = 1 << 1,
    ACCESS_SYSTEM = 1 << 2,    /* implicit supervisor access: descriptor tables, TSS, event delivery, whatever the CPL */
    ACCESS_PROBE = 1 << 3,     /* check and translate only (also sets A, and D for writes, as the access itself would) */
    ACCESS_SHADOW_STACK = 1 << 4,
    ACCESS_USER = 1 << 5,      /* a user access, whatever the CPL (WRUSS) */
    ACCESS_UNALIGNED = 1 << 6, /* no alignment check (elements of masked vectors, gathers) */
};

/* Slow paths: `n` bytes (any number up to 4096), little-endian in `data`. */
bool mem_read_slow(struct cpu *cpu, u64 la, void *data, unsigned n, unsigned access);
bool mem_write_slow(struct cpu *cpu, u64 la, const void *data, unsigned n, unsigned access);

/* An access of `size` bytes at `offset` into the APIC-access page of `frame` (the innermost whose page it is):
 * VMX registers here how it virtualises some of them [SDM3 "Virtualizing Memory-Mapped APIC Accesses"]. True: it is
 * virtualised; data was read from or written to the virtual-APIC page. With data NULL it only tells whether it would
 * be. False: an APIC-access VM exit (FAULT_APIC_ACCESS). */
typedef bool mem_apic_hook(struct cpu *cpu, unsigned frame, unsigned offset, unsigned size, bool write, void *data);
extern mem_apic_hook *mem_apic_virtual_access;

/* True when n bytes at la can be accessed so (ACCESS_*), without accessing them. Used by instructions with several
 * accesses. */
bool mem_probe(struct cpu *cpu, u64 la, unsigned n, unsigned access);

HOT_INLINE struct tlb_entry *tlb_entry_of(struct cpu *cpu, u64 la) { return &cpu->tlb_now[la >> 12 & (TLB_ENTRIES - 1)]; }
HOT_INLINE u64 tlb_key(const struct cpu *cpu, u64 la, unsigned n) { return ((la + n - 1) & ~0xfffull) | cpu->tlb_tag; }
HOT_INLINE u8 *tlb_host(const struct tlb_entry *e, u64 la) { return (u8 *)(uintptr_t)(e->addend + (uintptr_t)la); }

#define DEFINE_MEM_ACCESS(bits)                                                                                        \
    /* Reads with the current privilege. */                                                                            \
    HOT_INLINE bool mem_read##bits(struct cpu *cpu, u64 la, u##bits *value)                                            \
    {                                                                                                                  \
        struct tlb_entry *e = tlb_entry_of(cpu, la);                                                                   \
        if (LIKELY(e->read == tlb_key(cpu, la, bits / 8))) {                                                           \
            memcpy(value, tlb_host(e, la), bits / 8);                                                                  \
            return true;                                                                                               \
        }                                                                                                              \
        return mem_read_slow(cpu, la, value, bits / 8, ACCESS_READ);                                                   \
    }                                                                                                                  \
    /* Reads what will be written next (read-modify-write): fails as a write would, so that the write cannot. */       \
    HOT_INLINE bool mem_read_rmw##bits(struct cpu *cpu, u64 la, u##bits *value)                                        \
    {                                                                                                                  \
        struct tlb_entry *e = tlb_entry_of(cpu, la);                                                                   \
        if (LIKELY(e->write == tlb_key(cpu, la, bits / 8))) {                                                          \
            memcpy(value, tlb_host(e, la), bits / 8);                                                                  \
            return true;                                                                                               \
        }                                                                                                              \
        return mem_read_slow(cpu, la, value, bits / 8, ACCESS_WRITE);                                                  \
    }                                                                                                                  \
    HOT_INLINE bool mem_write##bits(struct cpu *cpu, u64 la, u##bits value)                                            \
    {                                                                                                                  \
        struct tlb_entry *e = tlb_entry_of(cpu, la);                                                                   \
        if (LIKELY(e->write == tlb_key(cpu, la, bits / 8))) {                                                          \
            memcpy(tlb_host(e, la), &value, bits / 8);                                                                 \
            return true;                                                                                               \
        }                                                                                                              \
        return mem_write_slow(cpu, la, &value, bits / 8, ACCESS_WRITE);                                                \
    }
DEFINE_MEM_ACCESS(8)
DEFINE_MEM_ACCESS(16)
DEFINE_MEM_ACCESS(32)
DEFINE_MEM_ACCESS(64)
#undef DEFINE_MEM_ACCESS

/* n bytes with the current privilege. */
static inline bool mem_read(struct cpu *cpu, u64 la, void *data, unsigned n)
{
    const struct tlb_entry *e = tlb_entry_of(cpu, la);
    if (LIKELY(e->read == tlb_key(cpu, la, n))) {
        memcpy(data, tlb_host(e, la), n);
        return true;
    }
    return mem_read_slow(cpu, la, data, n, ACCESS_READ);
}
static inline bool mem_write(struct cpu *cpu, u64 la, const void *data, unsigned n)
{
    const struct tlb_entry *e = tlb_entry_of(cpu, la);
    if (LIKELY(e->write == tlb_key(cpu, la, n))) {
        memcpy(tlb_host(e, la), data, n);
        return true;
    }
    return mem_write_slow(cpu, la, data, n, ACCESS_WRITE);
}
/* Implicit supervisor accesses (GDT, LDT, IDT, TSS, stacks of inner rings before CPL has changed). */
static inline bool mem_read_system(struct cpu *cpu, u64 la, void *data, unsigned n)
{
    return mem_read_slow(cpu, la, data, n, ACCESS_READ | ACCESS_SYSTEM);
}
static inline bool mem_write_system(struct cpu *cpu, u64 la, const void *data, unsigned n)
{
    return mem_write_slow(cpu, la, data, n, ACCESS_WRITE | ACCESS_SYSTEM);
}

/* Code fetch: translates the page of la for execution at the current CPL. Fills the host address of the page's first
 * byte and its offset in RAM. *host is NULL when the page is a device's or absent memory: fetch with
 * mem_read_slow(ACCESS_EXEC). */
bool mem_fetch_page(struct cpu *cpu, u64 la, const u8 **host, u64 *ram_page_offset);

/* The same for what an earlier fetch found out: false where tables would have to be walked, and for what is no memory. */
bool mem_fetch_cached(struct cpu *cpu, u64 la, u64 *ram_page_offset);

/* Whether the n (1..4096) bytes at la, a program's address, lie in write-back memory; touches no state. True where there is no
 * memory to be had: whoever accesses it finds out. */
bool mem_write_back(struct cpu *cpu, u64 la, unsigned n);

/* Translates without touching any state or raising: for debuggers and traces. False when not mapped. hpa on the
 * board's bus. */
bool mem_peek_translate(struct cpu *cpu, u64 la, u64 *hpa);

/* Guest-physical address of the running level -> hpa through all entered frames' EPTs, for accesses that use physical
 * addresses (VMCS pointers, MSR areas, bitmaps of the hypervisor at `level_depth`, i.e. with frames 0..level_depth-1
 * in force). `access`: ACCESS_READ / ACCESS_WRITE. False with cpu->fault set (EPT violation or misconfiguration of
 * some frame). */
bool mem_gpa_to_hpa(struct cpu *cpu, unsigned level_depth, u64 gpa, unsigned access, u64 *hpa);

/* Loads the four PAE PDPTEs from CR3 `cr3` (gpa of the running level) into cpu->sys.pdpte. False: reserved bits set
 * (the caller raises #GP(0)) or a fault (cpu->fault.kind != FAULT_NONE). */
bool mem_load_pdptes(struct cpu *cpu, u64 cr3);

#endif
