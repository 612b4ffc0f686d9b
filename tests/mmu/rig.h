/* A CPU and a bus without decoder or devices, and hands to build page tables and EPTs in its RAM. Tables are allocated
 * from a counter; addresses of tables are in the space that the table lies in.
 */
#ifndef NESTOR_TESTS_MMU_RIG_H
#define NESTOR_TESTS_MMU_RIG_H

#include "cpu/features.h"
#include "cpu/mode.h"
#include "mmu/access.h"
#include "mmu/context.h"
#include "tests/suite.h"

#define RIG_RAM (64ull << 20)

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80, G = 0x100 };
#define NX BIT(63)
enum { ER = 1, EW = 2, EX = 4, EWB = 6 << 3, EPS = 0x80, EA = 0x100, ED = 0x200, EXU = 0x400, EALL = ER | EW | EX | EWB };

static struct bus bus;
static struct cpu *cpu;
static u64 rig_next;           /* hpa of the next free page for tables */

static void rig_feature(unsigned feature, bool on)
{
    cpu->feature[feature / 32] &= ~(1u << feature % 32);
    cpu->feature[feature / 32] |= (u32)on << feature % 32;
}

static inline u64 rig_page(void)
{
    u64 page = rig_next;
    rig_next += PAGE_SIZE;
    return page;
}

static inline void rig_start(void)
{
    ck_assert(bus_init(&bus, RIG_RAM, 3ull << 30));
    cpu = calloc(1, sizeof(*cpu));
    ck_assert_ptr_nonnull(cpu);
    cpu->bus = &bus;
    cpu->core.rflags_rest = 2;
    cpu->mode.pa_bits = 46;
    cpu->mode.la_bits = 48;
    for (unsigned i = 0; i < FEATURE_COUNT; i++)
        rig_feature(i, true);
    rig_next = 1 << 20;
    ck_assert(tlb_init(cpu));
}

static inline void rig_stop(void)
{
    tlb_free(cpu);
    free(cpu);
    bus_free(&bus);
}

static inline void put64(u64 hpa, u64 v) { ck_assert(bus_copy_to(&bus, hpa, &v, 8)); }
static inline void put32(u64 hpa, u32 v) { ck_assert(bus_copy_to(&bus, hpa, &v, 4)); }
static inline u64 get64(u64 hpa) { u64 v = 0; ck_assert(bus_copy_from(&bus, &v, hpa, 8)); return v; }
static inline u32 get32(u64 hpa) { u32 v = 0; ck_assert(bus_copy_from(&bus, &v, hpa, 4)); return v; }

/* Sets the derived mode as cpu_mode_update() would, and selects the context. */
static inline void rig_mode(enum paging_mode paging, unsigned cpl)
{
    struct cpu_mode *m = &cpu->mode;
    m->paging = (u8)paging;
    m->cpl = (u8)cpl;
    m->long_mode = paging >= PAGING_4LEVEL;
    m->la_bits = paging == PAGING_5LEVEL ? 57 : 48;
    m->code_bits = m->long_mode ? BITS_64 : BITS_32;
    m->protected_mode = 1;
    cpu->sys.cr0 |= CR0_PE | (paging ? CR0_PG : 0);
    if (paging >= PAGING_PAE)
        cpu->sys.cr4 |= CR4_PAE;
    if (m->long_mode)
        cpu->sys.efer |= EFER_LME | EFER_LMA;
    tlb_select(cpu);
}

/* Where the entry for `address` at `shift` stands, going down from `table` whose entries translate bits from `top`;
 * makes tables with `upper` rights on the way. `base` is added to a table's address to get its hpa (tables of a nested
 * space). */
static inline u64 rig_entry(u64 table, unsigned top, unsigned shift, u64 address, u64 upper, u64 base)
{
    for (;; top -= 9) {
        u64 at = table + (address >> top & 511) * 8;
        if (top == shift)
            return at + base;
        u64 entry = get64(at + base);
        if (!(entry & 7)) {
            entry = (rig_page() - base) | upper;
            put64(at + base, entry);
        }
        table = entry & 0x000ffffffffff000ull;
    }
}

/* Maps la -> gpa in 4-level tables at cpu->sys.cr3 (made if 0). */
static inline u64 rig_map(u64 la, u64 gpa, u64 flags, unsigned shift)
{
    if (!cpu->sys.cr3)
        cpu->sys.cr3 = rig_page();
    unsigned top = cpu->mode.paging == PAGING_5LEVEL ? 48 : 39;
    u64 at = rig_entry(cpu->sys.cr3 & ~0xfffull, top, shift, la, P | W | U, 0);
    put64(at, gpa | flags | (shift > 12 ? PS : 0));
    return at;
}

static inline u64 rig_read(u64 la)
{
    u64 v = 0;
    cpu->fault.kind = FAULT_NONE;
    ck_assert_msg(mem_read64(cpu, la, &v), "read of %llx: fault %u, error %x, gpa %llx, qualification %llx",
                  (unsigned long long)la, cpu->fault.kind, cpu->fault.error, (unsigned long long)cpu->fault.gpa,
                  (unsigned long long)cpu->fault.qualification);
    return v;
}
static inline void rig_write(u64 la, u64 v)
{
    cpu->fault.kind = FAULT_NONE;
    ck_assert_msg(mem_write64(cpu, la, v), "write of %llx: fault %u, error %x, gpa %llx, qualification %llx",
                  (unsigned long long)la, cpu->fault.kind, cpu->fault.error, (unsigned long long)cpu->fault.gpa,
                  (unsigned long long)cpu->fault.qualification);
}

/* The page-fault error code of an access (ACCESS_*), or -1 when it is allowed. */
static inline int rig_error(u64 la, unsigned access)
{
    cpu->fault = (struct mem_fault){0};
    if (access & ACCESS_EXEC) {
        const u8 *host;
        u64 offset;
        if (mem_fetch_page(cpu, la, &host, &offset))
            return -1;
    } else if (mem_probe(cpu, la, 1, access)) {
        return -1;
    }
    ck_assert_uint_eq(cpu->fault.kind, FAULT_PAGE);
    ck_assert_uint_eq(cpu->fault.la, la);
    return (int)cpu->fault.error;
}

static inline int rig_run(const char *name, const TTest *const *tests, unsigned count)
{
    return suite_run_tests(name, tests, count, rig_start, rig_stop, CK_FORK_GETENV);
}

#endif
