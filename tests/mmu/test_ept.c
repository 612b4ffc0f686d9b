/* EPT: one frame in every detail, then chains of frames with different page sizes and rights.
 * [SDM3 "The Extended Page Table Mechanism (EPT)"] */
#include "tests/mmu/rig.h"

#define LA 0x7f0000403000ull

/* Frame k's EPT root, an address in its hypervisor's space. */
static u64 root[4];

static struct vmcs *vmcs_of(unsigned k) { return &cpu->vmx.frame[k].vmcs; }

/* Turns on EPT in frame k with its root at `eptp_root`, an address in L(k+1)'s space. */
static void ept_on(unsigned k, u64 eptp_root, u64 flags)
{
    vmcs_of(k)->primary_controls = 1u << 31;
    vmcs_of(k)->secondary_controls |= 1 << 1;
    vmcs_of(k)->ept_pointer = eptp_root | 3 << 3 | 6 | flags;
    root[k] = eptp_root;
}

/* Maps gpa -> to in frame k's EPT, whose tables lie in RAM at address + base. */
static u64 ept_map(unsigned k, u64 gpa, u64 to, u64 flags, unsigned shift, u64 base)
{
    u64 at = rig_entry(root[k], 39, shift, gpa, ER | EW | EX, base);
    put64(at, to | flags | (shift > 12 ? EPS : 0));
    return at;
}

static void depth(unsigned d)
{
    cpu->vmx.depth = d;
    tlb_select(cpu);
}

/* The exit qualification of the EPT violation of an access to la, or -1 when it is allowed. */
static int violation(u64 la, unsigned access)
{
    cpu->fault = (struct mem_fault){0};
    const u8 *host;
    u64 offset;
    if (access & ACCESS_EXEC ? mem_fetch_page(cpu, la, &host, &offset) : mem_probe(cpu, la, 1, access))
        return -1;
    ck_assert_uint_eq(cpu->fault.kind, FAULT_EPT_VIOLATION);
    return (int)(cpu->fault.qualification & ~0xe00ull);      /* test advanced_information is about these */
}

/* Rights of one frame, all combinations. Guest: no paging (its gpas are the las). */
START_TEST(rights)
{
    ept_on(0, rig_page(), 0);
    rig_mode(PAGING_NONE, 0);
    depth(1);
    for (unsigned r = 0; r < 8; r++) {
        u64 gpa = 0x200000 + r * 0x1000, at = ept_map(0, gpa, 0x800000 + r * 0x1000, r | EWB, 12, 0);
        bool bad = r == 2 || r == 6;
        static const unsigned access[3] = {ACCESS_READ, ACCESS_WRITE, ACCESS_EXEC};
        for (unsigned i = 0; i < 3; i++) {
            if (bad) {
                cpu->fault = (struct mem_fault){0};
                ck_assert_int_eq(mem_probe(cpu, gpa + 4, 1, access[i]), false);
                ck_assert_uint_eq(cpu->fault.kind, FAULT_EPT_MISCONFIG);
                ck_assert_uint_eq(cpu->fault.gpa, gpa + 4);
                continue;
            }
            int want = r >> i & 1 ? -1 : (int)(1u << i | r << 3 | 0x180);
            ck_assert_int_eq(violation(gpa + 4, access[i]), want);
            if (want >= 0) {
                ck_assert_uint_eq(cpu->fault.gpa, gpa + 4);
                ck_assert_uint_eq(cpu->fault.la, gpa + 4);
                ck_assert_uint_eq(cpu->fault.frame, 0);
            }
        }
        /* No accessed and dirty flags. */
        ck_assert_uint_eq(get64(at), (0x800000 + r * 0x1000) | r | EWB);
    }
    /* Rights are the AND of all levels. */
    for (unsigned shift = 12; shift <= 39; shift += 9) {
        ept_map(0, 0x300000, 0x900000, EALL, 12, 0);
        u64 at = rig_entry(root[0], 39, shift, 0x300000, 0, 0), entry = get64(at);
        tlb_invept(cpu, 0, root[0], false);
        ck_assert_int_eq(violation(0x300000, ACCESS_WRITE), -1);
        put64(at, entry & ~(u64)EW);
        tlb_invept(cpu, 0, root[0], false);
        ck_assert_int_eq(violation(0x300000, ACCESS_WRITE), 0x1aa);
        put64(at, entry & ~(u64)7);
        tlb_invept(cpu, 0, 0, true);
        ck_assert_int_eq(violation(0x300000, ACCESS_READ), 0x181);
        put64(at, entry);
    }
}
END_TEST

START_TEST(misconfigurations)
{
    ept_on(0, rig_page(), 0);
    rig_mode(PAGING_NONE, 0);
    depth(1);
    u64 gpa = 0x40000000;
    for (unsigned page = 12; page <= 30; page += 9) {
        memset(bus.ram + root[0], 0, PAGE_SIZE);
        ept_map(0, gpa, 0, EALL, page, 0);
        for (unsigned shift = page; shift <= 39; shift += 9) {
            u64 at = rig_entry(root[0], 39, shift, gpa, 0, 0), entry = get64(at);
            bool leaf = shift == page;
            for (unsigned bit = 0; bit < 64; bit++) {
                bool bad = (bit >= 46 && bit < 52) || bit == 0 ||
                           (leaf ? bit >= 12 && bit < shift : bit >= 3 && bit < 7) || (bit == 7 && shift == 39) ||
                           (leaf && (bit == 3 || bit == 5)) /* types 7, 2 */;
                if ((!bad && bit >= 12 && bit < 52) || (bit == 7 && shift < 39) || bit == 1 || bit == 2)
                    continue;
                put64(at, entry ^ BIT(bit));
                tlb_invept(cpu, 0, root[0], false);
                cpu->fault = (struct mem_fault){0};
                bool ok = mem_probe(cpu, gpa, 1, ACCESS_READ);
                ck_assert_msg(ok == !bad && cpu->fault.kind == (bad ? FAULT_EPT_MISCONFIG : FAULT_NONE),
                              "page %u shift %u bit %u: fault %u", page, shift, bit, cpu->fault.kind);
                put64(at, entry);
            }
            if (leaf) {
                for (unsigned type = 0; type < 8; type++) {
                    put64(at, (entry & ~0x38ull) | type << 3);
                    tlb_invept(cpu, 0, root[0], false);
                    cpu->fault = (struct mem_fault){0};
                    ck_assert_int_eq(mem_probe(cpu, gpa, 1, ACCESS_READ), type == 0 || type == 1 || (type >= 4 && type <= 6));
                }
                put64(at, entry);
            }
        }
    }
}
END_TEST

/* The guest's own tables are accessed through the EPT: qualification bit 8 is clear for them. */
START_TEST(guest_tables)
{
    u64 base = 0x2000000; /* gpa g lies at g + base */
    for (unsigned ad = 0; ad < 2; ad++) {
        cpu->sys.cr3 = 0;
        depth(0);
        ept_on(0, rig_page(), ad ? 1 << 6 : 0);
        /* Guest tables at gpa 0x10000..0x13000, built at once. */
        for (unsigned i = 0; i < 4; i++) {
            ept_map(0, 0x10000 + i * 0x1000, base + 0x10000 + i * 0x1000, EALL, 12, 0);
            static const unsigned shifts[4] = {39, 30, 21, 12};
            u64 to = i < 3 ? 0x11000 + i * 0x1000 : 0x5000;
            put64(base + 0x10000 + i * 0x1000 + (LA >> shifts[i] & 511) * 8, to | P | W);
        }
        u64 data = ept_map(0, 0x5000, base + 0x5000, EALL, 12, 0);
        put64(base + 0x5008, 77);
        cpu->sys.cr3 = 0x10000;
        rig_mode(PAGING_4LEVEL, 0);
        depth(1);
        ck_assert_uint_eq(rig_read(LA + 8), 77);
        ck_assert_uint_eq(get64(data) & (EA | ED), ad ? EA : 0);
        rig_write(LA + 8, 78);
        ck_assert_uint_eq(get64(data) & (EA | ED), ad ? EA | ED : 0);
        ck_assert_uint_eq(get64(base + 0x5008), 78);
        /* Page-table pages count as written with the flags enabled. */
        u64 pml4 = rig_entry(root[0], 39, 12, 0x10000, 0, 0);
        ck_assert_uint_eq(get64(pml4) & (EA | ED), ad ? EA | ED : 0);

        for (unsigned i = 0; i < 4; i++) {
            u64 at = rig_entry(root[0], 39, 12, 0x10000 + i * 0x1000, 0, 0), entry = get64(at);
            u64 offset = (LA >> (39 - 9 * i) & 511) * 8;
            put64(at, 0);
            tlb_invept(cpu, 0, root[0], false);
            ck_assert_int_eq(violation(LA + 8, ACCESS_WRITE), ad ? 0x83 : 0x81);
            ck_assert_uint_eq(cpu->fault.gpa, 0x10000 + i * 0x1000 + offset);
            ck_assert_uint_eq(cpu->fault.la, LA + 8);
            /* Read-only table pages: fine unless flags must be set, or count as written. */
            put64(at, entry & ~(u64)EW);
            tlb_invept(cpu, 0, root[0], false);
            ck_assert_int_eq(violation(LA + 8, ACCESS_WRITE), ad ? 0xab : -1);
            u64 guest_entry = get64(base + 0x10000 + i * 0x1000 + offset);
            put64(base + 0x10000 + i * 0x1000 + offset, guest_entry & ~(u64)A);
            tlb_invept(cpu, 0, root[0], false);
            ck_assert_int_eq(violation(LA + 8, ACCESS_WRITE), ad ? 0xab : 0xaa);
            put64(base + 0x10000 + i * 0x1000 + offset, guest_entry);
            put64(at, entry);
        }
        /* The data page. */
        tlb_invept(cpu, 0, root[0], false);
        put64(data, (get64(data) & ~7ull) | ER);
        ck_assert_int_eq(violation(LA + 8, ACCESS_WRITE), 0x18a);
        ck_assert_uint_eq(cpu->fault.gpa, 0x5008);
        ck_assert_int_eq(violation(LA + 8, ACCESS_EXEC), 0x18c);
        /* A violation forgets what was cached: rights added by software count at once. */
        ck_assert_int_eq(violation(LA + 8, ACCESS_READ), -1);
        put64(data, get64(data) | EW | EX);
        ck_assert_int_eq(violation(LA + 8, ACCESS_WRITE), -1);
        ck_assert_int_eq(violation(LA + 8, ACCESS_EXEC), -1);
        /* The guest's page fault comes before the EPT violation of the page. */
        put64(data, 0);
        put64(base + 0x13000 + (LA >> 12 & 511) * 8, 0x5000 | P);
        cpu->sys.cr0 |= CR0_WP;
        tlb_invept(cpu, 0, root[0], false);
        tlb_select(cpu);
        ck_assert_int_eq(rig_error(LA, ACCESS_WRITE), 3);
        ck_assert_int_eq(violation(LA, ACCESS_READ), 0x181);
        cpu->sys.cr0 &= ~(u64)CR0_WP;
        memset(bus.ram + base, 0, 0x20000);
    }
}
END_TEST

START_TEST(pdptes_and_physical_accesses)
{
    ept_on(0, rig_page(), 1 << 6);
    u64 at = ept_map(0, 0x10000, 0x810000, EALL, 12, 0), out;
    put64(0x810040, 0x5000 | P);
    rig_mode(PAGING_PAE, 0);
    depth(1);
    ck_assert(mem_load_pdptes(cpu, 0x10040));
    ck_assert_uint_eq(cpu->sys.pdpte[0], 0x5000 | P);
    ck_assert_uint_eq(get64(at) & (EA | ED), EA); /* a read */
    ck_assert(!mem_load_pdptes(cpu, 0x20000));
    ck_assert_uint_eq(cpu->fault.kind, FAULT_EPT_VIOLATION);
    ck_assert_uint_eq(cpu->fault.qualification, 1); /* no linear address */
    ck_assert_uint_eq(cpu->fault.gpa, 0x20000);

    ck_assert(mem_gpa_to_hpa(cpu, 1, 0x10123, ACCESS_WRITE, &out));
    ck_assert_uint_eq(out, 0x810123);
    ck_assert_uint_eq(get64(at) & ED, ED);
    ck_assert(mem_gpa_to_hpa(cpu, 0, 0x10123, ACCESS_WRITE, &out));
    ck_assert_uint_eq(out, 0x10123);
    ck_assert(!mem_gpa_to_hpa(cpu, 1, 0x20008, ACCESS_WRITE, &out));
    ck_assert_uint_eq(cpu->fault.qualification, 2);
    /* The same from the hypervisor's side, before it has entered. */
    depth(0);
    ck_assert(mem_gpa_to_hpa(cpu, 1, 0x10123, ACCESS_READ, &out));
    ck_assert_uint_eq(out, 0x810123);
}
END_TEST

START_TEST(large_pages_and_five_levels)
{
    ept_on(0, rig_page(), 0);
    rig_mode(PAGING_NONE, 0);
    depth(1);
    ept_map(0, 0x40000000, 0, EALL, 30, 0);
    ept_map(0, 0x80000000, 0x1000000, EALL, 21, 0);
    put64(0x1654320, 1);
    put64(0x1054328, 2);
    ck_assert_uint_eq(rig_read(0x41654320), 1);
    ck_assert_uint_eq(rig_read(0x80054328), 2);
    ck_assert_int_eq(violation(0xc0000000, ACCESS_READ), 0x181);
    /* Five levels: another root above. */
    u64 top = rig_page();
    put64(top, root[0] | ER | EW | EX);
    vmcs_of(0)->ept_pointer = top | 4 << 3 | 6;
    depth(1);
    ck_assert_uint_eq(rig_read(0x41654320), 1);
    put64(top, root[0] | ER | EW | EX | 0x80);
    tlb_invept(cpu, 0, top, false);
    u64 v;
    ck_assert(!mem_read64(cpu, 0x41654320, &v));
    ck_assert_uint_eq(cpu->fault.kind, FAULT_EPT_MISCONFIG);
}
END_TEST

/* With four levels, guest-physical addresses above 48 bits have no translation. */
START_TEST(beyond_the_top)
{
    ept_on(0, rig_page(), 0);
    cpu->mode.pa_bits = 52;
    u64 out;
    depth(1);
    ck_assert(!mem_gpa_to_hpa(cpu, 1, BIT(48), ACCESS_READ, &out));
    ck_assert_uint_eq(cpu->fault.kind, FAULT_EPT_VIOLATION);
    ck_assert_uint_eq(cpu->fault.qualification, 1);
}
END_TEST

START_TEST(mode_based_execution)
{
    ept_on(0, rig_page(), 0);
    vmcs_of(0)->secondary_controls |= 1 << 22;
    rig_mode(PAGING_4LEVEL, 0);
    for (u64 gpa = 0; gpa < 8 << 20; gpa += 1 << 21) {
        ept_map(0, gpa, gpa, EALL | EXU, 21, 0);
        for (unsigned shift = 30; shift <= 39; shift += 9) {
            u64 upper = rig_entry(root[0], 39, shift, gpa, 0, 0);
            put64(upper, get64(upper) | EXU);
        }
    }
    rig_map(LA, 0x600000, P | W | U, 12);
    rig_map(LA + 0x1000, 0x601000, P | W, 12);
    u64 at = rig_entry(root[0], 39, 21, 0x600000, 0, 0), entry = get64(at);
    depth(1);
    for (unsigned x = 0; x < 4; x++) {
        put64(at, (entry & ~(u64)(EX | EXU)) | (x & 1 ? EX : 0) | (x & 2 ? EXU : 0));
        tlb_invept(cpu, 0, root[0], false);
        int want = 0x180 | 3 << 3 | 4 | (x & 1 ? 1 << 5 : 0) | (x & 2 ? 1 << 6 : 0);
        ck_assert_int_eq(violation(LA, ACCESS_EXEC), x & 2 ? -1 : want);
        ck_assert_int_eq(violation(LA + 0x1000, ACCESS_EXEC), x & 1 ? -1 : want);
    }
}
END_TEST

/* Every combination of the four rights against every kind of access. With the control, an entry is present through XU
 * alone, and linear addresses without paging are user-mode ones [SDM3 "EPT Translation Mechanism", "EPT Violations"]. */
START_TEST(mode_based_rights)
{
    enum { READ, WRITE, FETCH_SUPERVISOR, FETCH_USER, KINDS };
    static const unsigned access[KINDS] = {ACCESS_READ, ACCESS_WRITE, ACCESS_EXEC, ACCESS_EXEC};
    static const u64 right[KINDS] = {ER, EW, EX, EXU};
    ept_on(0, rig_page(), 0);
    rig_mode(PAGING_4LEVEL, 0);
    for (unsigned on = 0; on < 2; on++) {
        memset(bus.ram + root[0], 0, PAGE_SIZE);
        for (u64 gpa = 0; gpa < 8 << 20; gpa += 1 << 21)
            ept_map(0, gpa, gpa, EALL | EXU, 21, 0);
        vmcs_of(0)->secondary_controls = 1 << 1 | (on ? 1 << 22 : 0);
        for (unsigned shift = 30; shift <= 39; shift += 9) {
            u64 upper = rig_entry(root[0], 39, shift, 0, 0, 0);
            put64(upper, get64(upper) | EXU);
        }
        u64 user_la = LA, system_la = LA + 0x200000;
        rig_map(user_la, 0x20000000, P | W | U, 12);
        rig_map(system_la, 0x20000000, P | W, 12);
        u64 at = ept_map(0, 0x20000000, 0x600000, EALL, 12, 0);
        u64 middle = rig_entry(root[0], 39, 21, 0x20000000, 0, 0);
        put64(middle, get64(middle) | EXU);
        depth(1);
        for (unsigned mask = 0; mask < 16; mask++) {
            u64 entry = (mask & 7) | (mask & 8 ? EXU : 0);
            put64(at, 0x600000 | EWB | entry);
            for (unsigned kind = 0; kind < KINDS; kind++) {
                u64 la = kind == FETCH_SUPERVISOR ? system_la : user_la, needed = kind == FETCH_USER && !on ? EX : right[kind];
                tlb_invept(cpu, 0, root[0], false);
                cpu->fault = (struct mem_fault){0};
                if (entry & EW && !(entry & ER)) {
                    ck_assert_int_eq(mem_probe(cpu, la, 1, access[kind] & ACCESS_WRITE), false);
                    ck_assert_uint_eq(cpu->fault.kind, FAULT_EPT_MISCONFIG);
                    continue;
                }
                int want = (int)(0x180 | 1u << (kind < FETCH_USER ? kind : 2) | (entry & 7) << 3 | (on && entry & EXU ? 0x40 : 0));
                ck_assert_msg(violation(la, access[kind]) == (entry & needed ? -1 : want), "on %u mask %x kind %u", on, mask, kind);
            }
        }
        depth(0);
    }
    put64(rig_entry(root[0], 39, 12, 0x20000000, 0, 0), 0x600000 | EWB | ER | EXU);
    cpu->sys.cr0 = cpu->sys.cr4 = cpu->sys.efer = 0;
    rig_mode(PAGING_NONE, 0);
    depth(1);
    tlb_invept(cpu, 0, root[0], false);
    ck_assert_int_eq(violation(0x20000000, ACCESS_EXEC), -1);
    put64(rig_entry(root[0], 39, 12, 0x20000000, 0, 0), 0x600000 | EWB | ER | EX);
    tlb_invept(cpu, 0, root[0], false);
    ck_assert_int_eq(violation(0x20000000, ACCESS_EXEC), 0x1ac);
}
END_TEST

START_TEST(modification_log)
{
    u64 log = rig_page();
    ept_on(0, rig_page(), 1 << 6);
    vmcs_of(0)->secondary_controls |= 1 << 17;
    vmcs_of(0)->pml_address = log;
    vmcs_of(0)->pml_index = 511;
    rig_mode(PAGING_NONE, 0);
    depth(1);
    ept_map(0, 0, 0x800000, EALL, 21, 0);
    u64 small = ept_map(0, 0x200000, 0xa00000, EALL, 12, 0);
    rig_read(0x200000);
    ck_assert_uint_eq(vmcs_of(0)->pml_index, 511);
    rig_write(0x200123, 1);
    ck_assert_uint_eq(vmcs_of(0)->pml_index, 510);
    ck_assert_uint_eq(get64(log + 511 * 8), 0x200000);
    rig_write(0x200456, 1);
    ck_assert_uint_eq(vmcs_of(0)->pml_index, 510);
    rig_write(0x5678, 1);              /* in the large page: the 4 KiB page is logged, once for all */
    rig_write(0x9678, 1);
    ck_assert_uint_eq(vmcs_of(0)->pml_index, 509);
    ck_assert_uint_eq(get64(log + 510 * 8), 0x5000);
    /* A full log: the access is not made. */
    vmcs_of(0)->pml_index = 0xffff;
    put64(small, get64(small) & ~(u64)ED);
    tlb_invept(cpu, 0, root[0], false);
    put64(0xa00800, 9);
    ck_assert(!mem_write64(cpu, 0x200800, 1));
    ck_assert_uint_eq(cpu->fault.kind, FAULT_EPT_LOG_FULL);
    ck_assert_uint_eq(cpu->fault.frame, 0);
    ck_assert_uint_eq(get64(0xa00800), 9);
    ck_assert_uint_eq(get64(small) & ED, 0);
    vmcs_of(0)->pml_index = 0;
    rig_write(0x200800, 1);
    ck_assert_uint_eq(vmcs_of(0)->pml_index, 0xffff);
    ck_assert_uint_eq(get64(log), 0x200000);
}
END_TEST

/* ---- APIC-access page -------------------------------------------------------------------------------------------- */

static u64 virtual_apic[512];
static unsigned hook_asks, hook_accesses;
static bool hook(struct cpu *c, unsigned frame, unsigned offset, unsigned size, bool write, void *data)
{
    ck_assert_ptr_eq(c, cpu);
    ck_assert_uint_eq(frame, 0);
    if ((offset & 0xff0) != 0x80)
        return false;
    hook_asks += data == NULL;
    hook_accesses += data != NULL;
    if (data && write)
        memcpy((u8 *)virtual_apic + offset, data, size);
    else if (data)
        memcpy(data, (u8 *)virtual_apic + offset, size);
    return true;
}

START_TEST(apic_access_page)
{
    for (unsigned ept = 0; ept < 2; ept++) {
        depth(0);
        memset(vmcs_of(0), 0, sizeof(struct vmcs));
        if (ept) {
            ept_on(0, rig_page(), 0);
            ept_map(0, 0xfee00000, 0x900000, EALL, 12, 0);
        }
        vmcs_of(0)->primary_controls = 1u << 31;
        vmcs_of(0)->secondary_controls |= 1;
        vmcs_of(0)->apic_access_address = ept ? 0x900000 : 0xfee00000;
        rig_mode(PAGING_NONE, 0);
        depth(1);
        mem_apic_virtual_access = NULL;
        u32 v = 0;
        ck_assert(!mem_read32(cpu, 0xfee000b0, &v));
        ck_assert_uint_eq(cpu->fault.kind, FAULT_APIC_ACCESS);
        ck_assert_uint_eq(cpu->fault.qualification, 0x0b0);
        ck_assert(!mem_write32(cpu, 0xfee000b0, 0));
        ck_assert_uint_eq(cpu->fault.qualification, 0x10b0);
        const u8 *host;
        u64 off;
        ck_assert(!mem_fetch_page(cpu, 0xfee00300, &host, &off));
        ck_assert_uint_eq(cpu->fault.qualification, 0x2300);
        cpu->event.delivering = 1;
        ck_assert(!mem_write_system(cpu, 0xfee00310, &v, 4));
        ck_assert_uint_eq(cpu->fault.qualification, 0x3310);
        cpu->event.delivering = 0;
        mem_apic_virtual_access = hook;
        ck_assert(!mem_write32(cpu, 0xfee000b0, 0));
        hook_asks = hook_accesses = 0;
        ck_assert(mem_write32(cpu, 0xfee00080, 0x40));
        ck_assert(mem_read32(cpu, 0xfee00080, &v));
        ck_assert_uint_eq(v, 0x40);
        ck_assert_uint_eq(hook_accesses, 2);
        /* As a page table it is a guest-physical access. */
        cpu->sys.cr3 = 0xfee00000;
        rig_mode(PAGING_4LEVEL, 0);
        ck_assert(!mem_probe(cpu, LA, 1, ACCESS_READ));
        ck_assert_uint_eq(cpu->fault.kind, FAULT_APIC_ACCESS);
        ck_assert_uint_eq(cpu->fault.qualification >> 12, 15);
        /* Turning the control off counts at once. */
        cpu->sys.cr0 = CR0_PE;
        cpu->sys.efer = 0;
        rig_mode(PAGING_NONE, 0);
        vmcs_of(0)->secondary_controls &= ~1ull;
        depth(1);
        ck_assert(mem_read32(cpu, 0xfee00080, &v));
    }
    mem_apic_virtual_access = NULL;
}
END_TEST

/* ---- chains ------------------------------------------------------------------------------------------------------ */

/* Frames 0..n-1, each shifting its guest's memory by 4 MiB with pages of its own size; their tables are reached
 * through the outer frames. Returns the hpa of the innermost guest's address 0. */
#define STEP (4ull << 20)
static u64 build_chain(unsigned n, const unsigned *shift, const u64 *flags, const u64 *eptp_flags)
{
    u64 base = 0;                      /* L(k+1)'s address x lies at hpa x + base */
    for (unsigned k = 0; k < n; k++) {
        rig_next = base + (2ull << 20) + ((u64)k << 18);
        ept_on(k, rig_page() - base, eptp_flags[k]);
        for (u64 gpa = 0; gpa < 16 << 20; gpa += BIT(shift[k]))
            ept_map(k, gpa, gpa + STEP, flags[k], shift[k], base);
        base += STEP;
    }
    return base;
}

START_TEST(chains)
{
    for (unsigned n = 1; n <= 3; n++)
        for (unsigned sizes = 0; sizes < 1u << n; sizes++) {
            unsigned shift[3];
            u64 flags[3] = {EALL, EALL, EALL}, none[3] = {0};
            for (unsigned k = 0; k < n; k++)
                shift[k] = sizes >> k & 1 ? 21 : 12;
            depth(0);
            memset(bus.ram, 0, bus.ram_size);
            tlb_flush_everything(cpu);
            u64 base = build_chain(n, shift, flags, none);
            depth(0);
            cpu->sys.cr0 = cpu->sys.cr4 = cpu->sys.efer = 0;
            rig_mode(PAGING_NONE, 0);
            depth(n);
            put64(base + 0x123458, 0x100 + n);
            ck_assert_uint_eq(rig_read(0x123458), 0x100 + n);
            rig_write(0x1ff000, 5);
            ck_assert_uint_eq(get64(base + 0x1ff000), 5);
            /* With paging: the guest's tables go through the chain, too. */
            u64 t = 0x200000, index = LA;
            for (unsigned i = 0; i < 4; i++, index <<= 9)
                put64(base + t + i * 0x1000 + (index >> 39 & 511) * 8, (i < 3 ? t + (i + 1) * 0x1000 : 0x123000) | P | W);
            cpu->sys.cr3 = t;
            rig_mode(PAGING_4LEVEL, 0);
            ck_assert_uint_eq(rig_read(LA + 0x458), 0x100 + n);
            u64 out;
            ck_assert(mem_peek_translate(cpu, LA + 0x458, &out));
            ck_assert_uint_eq(out, base + 0x123458);
            for (unsigned k = 0; k <= n; k++) {
                ck_assert(mem_gpa_to_hpa(cpu, k, 0x5000, ACCESS_READ, &out));
                ck_assert_uint_eq(out, 0x5000 + k * STEP);
            }
        }
}
END_TEST

/* Each frame of three takes a right away in turn: it raises the violation, with the address in its own guest's space. */
START_TEST(chain_faults)
{
    static const unsigned shift[3] = {21, 12, 12};
    u64 flags[3] = {EALL, EALL, EALL}, none[3] = {0};
    build_chain(3, shift, flags, none);
    rig_mode(PAGING_NONE, 0);
    depth(3);
    u64 page = 0x3ff000;
    for (unsigned k = 0; k < 3; k++) {
        u64 gpa = page + (2 - k) * STEP;  /* in the space of frame k's guest */
        u64 entry_at = rig_entry(root[k], 39, shift[k], gpa, 0, k * STEP), entry = get64(entry_at);
        put64(entry_at, entry & ~(u64)EW);
        tlb_invept(cpu, k, root[k], false);
        ck_assert_int_eq(violation(page + 8, ACCESS_READ), -1);
        ck_assert_int_eq(violation(page + 8, ACCESS_WRITE), (k == 2 ? 0x180 : 0) | 5 << 3 | 2);
        ck_assert_uint_eq(cpu->fault.frame, k);
        ck_assert_uint_eq(cpu->fault.gpa, gpa + 8);
        put64(entry_at, 0);
        tlb_invept(cpu, k, root[k], false);
        ck_assert_int_eq(violation(page + 8, ACCESS_EXEC), (k == 2 ? 0x180 : 0) | 4);
        ck_assert_uint_eq(cpu->fault.frame, k);
        put64(entry_at, entry | 7 << 3);
        cpu->fault = (struct mem_fault){0};
        ck_assert(!mem_probe(cpu, page + 8, 1, ACCESS_READ));
        ck_assert_uint_eq(cpu->fault.kind, FAULT_EPT_MISCONFIG);
        ck_assert_uint_eq(cpu->fault.frame, k);
        ck_assert_uint_eq(cpu->fault.gpa, gpa + 8);
        put64(entry_at, entry);
        ck_assert_int_eq(violation(page + 8, ACCESS_WRITE), -1);
    }
    /* An inner frame's table that the outer frame does not map: a read, without linear address. */
    u64 entry_at = rig_entry(root[1], 39, 12, root[2], 0, STEP), entry = get64(entry_at);
    put64(entry_at, 0);
    tlb_invept(cpu, 1, root[1], false);
    ck_assert_int_eq(violation(page + 8, ACCESS_WRITE), 1);
    ck_assert_uint_eq(cpu->fault.frame, 1);
    ck_assert_uint_eq(cpu->fault.gpa, root[2]);
    put64(entry_at, entry);
}
END_TEST

/* Accessed and dirty flags at every place; outer frames see the setting of inner flags as writes. */
START_TEST(chain_flags)
{
    static const unsigned shift[2] = {12, 12};
    u64 flags[2] = {EALL, EALL}, ad[2] = {1 << 6, 1 << 6};
    u64 base = build_chain(2, shift, flags, ad);
    rig_mode(PAGING_NONE, 0);
    depth(2);
    rig_read(0x3ff000);
    u64 inner = rig_entry(root[1], 39, 12, 0x3ff000, 0, STEP), outer = rig_entry(root[0], 39, 12, 0x3ff000 + STEP, 0, 0);
    ck_assert_uint_eq(get64(inner) & (EA | ED), EA);
    ck_assert_uint_eq(get64(outer) & (EA | ED), EA);
    /* The page of inner's entry was written. */
    u64 table = rig_entry(root[0], 39, 12, inner - STEP, 0, 0);
    ck_assert_uint_eq(get64(table) & (EA | ED), EA | ED);
    rig_write(0x3ff000, 3);
    ck_assert_uint_eq(get64(inner) & (EA | ED), EA | ED);
    ck_assert_uint_eq(get64(outer) & (EA | ED), EA | ED);
    ck_assert_uint_eq(get64(base + 0x3ff000), 3);
    /* An outer frame that forbids that write: its violation, a write without linear address. */
    put64(inner, get64(inner) & ~(u64)(EA | ED));
    put64(table, get64(table) & ~(u64)EW);
    tlb_invept(cpu, 0, root[0], false);
    ck_assert_int_eq(violation(0x3ff000, ACCESS_READ), 5 << 3 | 2);
    ck_assert_uint_eq(cpu->fault.frame, 0);
    ck_assert_uint_eq(cpu->fault.gpa, inner - STEP);
    ck_assert_uint_eq(get64(inner) & EA, 0);
    put64(table, get64(table) | EW);
    ck_assert_int_eq(violation(0x3ff000, ACCESS_READ), -1);
}
END_TEST

/* Two frames, of which one, the other or both tell user-mode from supervisor-mode fetches: each asks for its own right,
 * by the innermost guest's linear address, whatever was fetched there before. */
START_TEST(chain_mode_based)
{
    static const unsigned shift[2] = {12, 12};
    u64 flags[2] = {EALL | EXU, EALL | EXU}, none[2] = {0};
    u64 base = build_chain(2, shift, flags, none), t = 0x200000, index = LA, page = 0x3fe000;
    for (unsigned k = 0; k < 2; k++)
        for (u64 gpa = 0; gpa < 16 << 20; gpa += 1 << 21)
            for (unsigned top = 21; top <= 39; top += 9) {
                u64 at = rig_entry(root[k], 39, top, gpa, 0, k * STEP);
                put64(at, get64(at) | EXU);
            }
    for (unsigned i = 0; i < 4; i++, index <<= 9)
        put64(base + t + i * 0x1000 + (index >> 39 & 511) * 8, (i < 3 ? t + (i + 1) * 0x1000 : page) | P | W | U);
    put64(base + t + 0x3008 + (LA >> 12 & 511) * 8, page | P | W);      /* the next page, a supervisor's */
    cpu->sys.cr3 = t;
    rig_mode(PAGING_4LEVEL, 0);
    u64 entry_at[2] = {rig_entry(root[0], 39, 12, page + STEP, 0, 0), rig_entry(root[1], 39, 12, page, 0, STEP)};
    for (unsigned controls = 0; controls < 4; controls++)
        for (unsigned mask = 0; mask < 16; mask++) {
            depth(0);
            for (unsigned k = 0; k < 2; k++) {
                vmcs_of(k)->secondary_controls = 1 << 1 | (controls >> k & 1 ? 1u << 22 : 0);
                put64(entry_at[k], (get64(entry_at[k]) & ~(u64)(EX | EXU)) | (mask >> 2 * k & 1 ? EX : 0) | (mask >> 2 * k & 2 ? EXU : 0));
            }
            tlb_invept(cpu, 0, 0, true);
            tlb_invept(cpu, 1, 0, true);
            depth(2);
            for (unsigned round = 0; round < 2; round++)
                for (unsigned user = 0; user < 2; user++) {
                    int frame = -1;
                    for (unsigned k = 0; k < 2; k++)
                        if (!(mask >> 2 * k & (user && controls >> k & 1 ? 2 : 1)))
                            frame = (int)k;                        /* the inner one is looked at first */
                    int got = violation(user ? LA : LA + 0x1000, ACCESS_EXEC);
                    ck_assert_msg((got < 0) == (frame < 0), "controls %u mask %x user %u: %x", controls, mask, user, (unsigned)got);
                    if (frame < 0)
                        continue;
                    ck_assert_int_eq(cpu->fault.frame, frame);
                    unsigned r = mask >> 2 * frame;
                    ck_assert_int_eq(got, 4 | 3 << 3 | (r & 1 ? 1 << 5 : 0) | (controls >> frame & 1 && r & 2 ? 1 << 6 : 0) |
                                              (frame == 1 ? 0x180 : 0));
                }
        }
}
END_TEST

/* A frame without EPT lets addresses pass; others keep their places. */
START_TEST(frames_without_ept)
{
    static const unsigned shift[1] = {21};
    u64 flags[1] = {EALL}, none[1] = {0};
    build_chain(1, shift, flags, none);
    /* Frame 1 has no EPT, frame 2 has one whose tables lie in L2's space. */
    vmcs_of(1)->primary_controls = 0;
    rig_next = STEP + (3ull << 20);
    ept_on(2, rig_page() - STEP, 0);
    ept_map(2, 0x5000, 0x9000, EALL, 12, STEP);
    rig_mode(PAGING_NONE, 0);
    depth(3);
    put64(STEP + 0x9008, 4);
    ck_assert_uint_eq(rig_read(0x5008), 4);
    ck_assert_int_eq(violation(0x6000, ACCESS_READ), 0x181);
    ck_assert_uint_eq(cpu->fault.frame, 2);
    depth(2);
    ck_assert_uint_eq(rig_read(0x9008), 4);
    /* Frame 0's guest is then the hypervisor of frame 1, and la is not its own. */
    ck_assert_int_eq(violation(0x4000000, ACCESS_WRITE), 2);
    ck_assert_uint_eq(cpu->fault.frame, 0);
    depth(1);
    ck_assert_uint_eq(rig_read(0x9008), 4);
    ck_assert_int_eq(violation(0x4000000, ACCESS_WRITE), 0x182);
    depth(0);
    ck_assert_uint_eq(rig_read(STEP + 0x9008), 4);
}
END_TEST

/* ---- what entries say beside rights ------------------------------------------------------------------------------ */

/* The guest's own tables at gpa TABLES.., mapped like everything else one to one by 2 MiB pages, but for single pages that
 * a test changes: those in the 2 MiB from CHANGED on have entries of their own. */
#define CHANGED 0x600000ull
static u64 detail(u64 gpa) { return rig_entry(root[0], 39, 12, gpa, ER | EW | EX | EXU, 0); }

static void one_to_one(u64 eptp_flags, u64 secondary, u64 tertiary)
{
    ept_on(0, rig_page(), eptp_flags);
    vmcs_of(0)->primary_controls |= 1u << 17;
    vmcs_of(0)->secondary_controls |= secondary;
    vmcs_of(0)->tertiary_controls = tertiary;
    for (u64 gpa = 0; gpa < RIG_RAM; gpa += 1 << 21)
        if (gpa != CHANGED)
            ept_map(0, gpa, gpa, EALL, 21, 0);
    for (u64 gpa = CHANGED; gpa < CHANGED + (1 << 21); gpa += 0x1000)
        ept_map(0, gpa, gpa, EALL, 12, 0);
}

static void changed(u64 gpa, u64 flags)
{
    put64(detail(gpa), gpa | EWB | flags);
    tlb_invept(cpu, 0, root[0], false);
}

/* Bits 11:9: what the guest's own paging makes of the page [SDM3 "Exit Qualification for EPT Violations"]. */
START_TEST(advanced_information)
{
    one_to_one(0, 0, 0);
    cpu->sys.efer |= EFER_NXE;
    rig_mode(PAGING_4LEVEL, 0);
    depth(1);
    changed(CHANGED, 0);
    for (unsigned n = 0; n < 8; n++) {
        rig_map(LA, CHANGED, P | (n & 1 ? U : 0) | (n & 2 ? W : 0) | (n & 4 ? NX : 0), 12);
        tlb_flush_context(cpu, false);
        violation(LA + 16, ACCESS_READ);
        ck_assert_uint_eq(cpu->fault.qualification, 0x181 | n << 9);
    }
    /* Rights are those of all levels. */
    rig_map(LA, CHANGED, P | U | W, 12);
    u64 upper = rig_entry(cpu->sys.cr3, 39, 30, LA, 0, 0);
    put64(upper, get64(upper) & ~(u64)(W | U));
    tlb_flush_context(cpu, false);
    violation(LA, ACCESS_READ);
    ck_assert_uint_eq(cpu->fault.qualification, 0x181);
    /* A paging structure is not the page. */
    put64(upper, CHANGED | P | U | W);
    tlb_flush_context(cpu, false);
    violation(LA, ACCESS_READ);
    ck_assert_uint_eq(cpu->fault.qualification, 0x81);
    /* Without paging: user-mode, writable, executable. */
    cpu->sys.cr0 = cpu->sys.cr4 = cpu->sys.efer = 0;
    rig_mode(PAGING_NONE, 0);
    violation(CHANGED, ACCESS_WRITE);
    ck_assert_uint_eq(cpu->fault.qualification, 0x782);
}
END_TEST

/* Bit 60 says whether supervisor shadow-stack accesses may be made, and nothing else does but reading and the rights of
 * the tables on the way; user ones and all others know nothing of it. */
START_TEST(supervisor_shadow_stacks)
{
    one_to_one(1 << 7, 0, 0);
    cpu->sys.cr0 |= CR0_WP;
    cpu->sys.cr4 |= CR4_CET;
    rig_mode(PAGING_4LEVEL, 0);
    rig_map(LA, CHANGED, P | D, 12);
    rig_map(LA + 0x1000, CHANGED, P | D | U, 12);
    u64 upper = rig_entry(root[0], 39, 21, CHANGED, 0, 0), upper_entry = get64(upper);
    for (unsigned on = 0; on < 2; on++) {
        vmcs_of(0)->ept_pointer = root[0] | 3 << 3 | 6 | (on ? 1 << 7 : 0);
        for (unsigned n = 0; n < 16; n++) {
            u64 leaf = (n & 1 ? ER : 0) | (n & 2 ? EW : 0) | EX;
            if ((leaf & (ER | EW)) == EW)
                continue;
            put64(upper, n & 8 ? upper_entry & ~(u64)EW : upper_entry);
            changed(CHANGED, leaf | (n & 4 ? BIT(60) : 0));
            depth(1);
            u64 all = leaf & (n & 8 ? ER | EX : ER | EW | EX);
            for (unsigned user = 0; user < 2; user++)
                for (unsigned write = 0; write < 2; write++) {
                    bool plain = all & (write ? EW : ER), own = leaf & ER && !(n & 8) && n & 4;
                    bool want = on && !user ? own : plain;
                    for (unsigned round = 0; round < 2; round++) {         /* from the tables, from what is cached */
                        rig_mode(PAGING_4LEVEL, user ? 3 : 0);
                        int got = violation(user ? LA + 0x1000 : LA, ACCESS_SHADOW_STACK | (write ? ACCESS_WRITE : 0));
                        int bits = (int)(0x2180 | 1u << write | all << 3 | (on && n & 4 ? 0x4000 : 0));
                        ck_assert_msg(got == (want ? -1 : bits), "on %u n %u user %u write %u: %x", on, n, user, write, (unsigned)got);
                    }
                }
            rig_mode(PAGING_4LEVEL, 0);
            ck_assert_int_eq(violation(LA, ACCESS_READ), all & ER ? -1 : (int)(0x181 | all << 3 | (on && n & 4 ? 0x4000 : 0)));
            depth(0);
        }
    }
}
END_TEST

/* Two frames: both have to agree to a supervisor shadow-stack access, each by its own rule; the dirty flag of the one
 * that has flags is set. */
START_TEST(chain_shadow_stacks)
{
    static const unsigned shift[2] = {12, 12};
    u64 flags[2] = {EALL, EALL}, eptp[2] = {1 << 6, 1 << 7};
    u64 base = build_chain(2, shift, flags, eptp), t = 0x200000, index = LA, page = 0x3fe000;
    for (unsigned i = 0; i < 4; i++, index <<= 9)
        put64(base + t + i * 0x1000 + (index >> 39 & 511) * 8, i < 3 ? (t + (i + 1) * 0x1000) | P | W | A : page | P | D | A);
    cpu->sys.cr3 = t;
    cpu->sys.cr0 |= CR0_WP;
    rig_mode(PAGING_4LEVEL, 0);
    depth(2);
    u64 inner = rig_entry(root[1], 39, 12, page, 0, STEP), outer = rig_entry(root[0], 39, 12, page + STEP, 0, 0);
    u64 inner_entry = get64(inner), outer_entry = get64(outer);
    ck_assert_int_eq(violation(LA, ACCESS_SHADOW_STACK), 0x21b9);
    ck_assert_uint_eq(cpu->fault.frame, 1);
    put64(inner, (inner_entry & ~(u64)EW) | BIT(60));
    ck_assert_int_eq(violation(LA, ACCESS_SHADOW_STACK), -1);
    ck_assert_uint_eq(get64(outer) & (EA | ED), EA);
    ck_assert_int_eq(violation(LA, ACCESS_SHADOW_STACK | ACCESS_WRITE), -1);
    ck_assert_uint_eq(get64(outer) & (EA | ED), EA | ED);
    put64(outer, outer_entry & ~(u64)EW);
    tlb_invept(cpu, 0, 0, true);
    ck_assert_int_eq(violation(LA, ACCESS_SHADOW_STACK), -1);
    ck_assert_int_eq(violation(LA, ACCESS_SHADOW_STACK | ACCESS_WRITE), 0x202a);
    ck_assert_uint_eq(cpu->fault.frame, 0);
}
END_TEST

/* Bit 58 lets guest paging set its flags where nothing else may write, and be read with accessed and dirty flags for EPT,
 * which makes reading count as writing. */
START_TEST(paging_write)
{
    for (unsigned ad = 0; ad < 2; ad++)
        for (unsigned on = 0; on < 2; on++) {
            cpu->sys.cr3 = 0;
            depth(0);
            one_to_one(ad ? 1 << 6 : 0, 0, on ? 1 << 2 : 0);
            rig_mode(PAGING_4LEVEL, 0);
            u64 keep = rig_next;
            rig_next = CHANGED + 0x10000;              /* the guest's tables */
            rig_map(LA, 0x800000, P | W, 12);
            rig_next = keep;
            u64 pte = rig_entry(cpu->sys.cr3, 39, 12, LA, 0, 0), table = pte & ~0xfffull;
            changed(table, ER | BIT(58));
            depth(1);
            ck_assert_int_eq(violation(LA, ACCESS_WRITE), on ? -1 : ad ? 0x8b : 0x8a);
            ck_assert_uint_eq(get64(pte) & (A | D), on ? A | D : 0);
            ck_assert_uint_eq(get64(detail(table)) & (EA | ED), on && ad ? EA | ED : 0);
            /* Software's own writes are another matter, and so is the bit on other pages. */
            rig_map(LA + 0x1000, table, P | W | A | D, 12);
            tlb_flush_context(cpu, false);
            if (on)
                ck_assert_int_eq(violation(LA + 0x1000, ACCESS_WRITE), 0x18a);
            /* Reading must be allowed: that with the bit is a misconfiguration. */
            changed(table, EX | BIT(58));
            cpu->fault = (struct mem_fault){0};
            ck_assert(!mem_probe(cpu, LA, 1, ACCESS_READ));
            ck_assert_uint_eq(cpu->fault.kind, on ? FAULT_EPT_MISCONFIG : FAULT_EPT_VIOLATION);
            memset(bus.ram + CHANGED, 0, 1 << 21);
        }
}
END_TEST

/* Pages with bit 57 are reached only through paging structures in pages with bit 58: each of the four in turn has it not. */
START_TEST(guest_paging_verification)
{
    one_to_one(0, 0, 1 << 3);
    rig_mode(PAGING_4LEVEL, 0);
    u64 keep = rig_next;
    rig_next = CHANGED + 0x10000;
    rig_map(LA, CHANGED, P | W | U | A | D, 12);
    rig_next = keep;
    depth(1);
    ck_assert_int_eq(violation(LA, ACCESS_READ), -1);
    changed(CHANGED, ER | EW | EX | BIT(57));
    ck_assert_int_eq(violation(LA + 8, ACCESS_READ), 0x81b9);
    ck_assert_uint_eq(cpu->fault.gpa, CHANGED + 8);
    ck_assert_int_eq(violation(LA, ACCESS_WRITE), 0x81ba);
    ck_assert_int_eq(violation(LA, ACCESS_EXEC), 0x81bc);
    for (unsigned missing = 0; missing <= 4; missing++) {
        for (unsigned i = 0; i < 4; i++) {
            u64 table = rig_entry(cpu->sys.cr3, 39, 39 - 9 * i, LA, 0, 0) & ~0xfffull;
            changed(table, ER | EW | EX | (i == missing ? 0 : BIT(58)));
        }
        static const unsigned access[3] = {ACCESS_READ, ACCESS_WRITE, ACCESS_EXEC};
        for (unsigned i = 0; i < 3; i++)
            for (unsigned round = 0; round < 2; round++)
                ck_assert_int_eq(violation(LA, access[i]), missing == 4 ? -1 : (int)(0x81b8 | 1u << i));
        /* Rights come first; and one address that was verified says nothing of another that is not. */
        changed(CHANGED, ER | BIT(57));
        ck_assert_int_eq(violation(LA, ACCESS_WRITE), 0x18a);
        changed(CHANGED, ER | EW | EX | BIT(57));
    }
    rig_map(LA + (1ull << 39), CHANGED, P | W | U | A | D, 12);      /* through tables outside, but for the first */
    ck_assert_int_eq(violation(LA, ACCESS_READ), -1);
    ck_assert_int_eq(violation(LA + (1ull << 39), ACCESS_READ), 0x81b9);
    ck_assert_int_eq(violation(LA, ACCESS_READ), -1);
    /* Without the control, and without paging, there is nothing to verify. */
    vmcs_of(0)->tertiary_controls = 0;
    depth(1);
    ck_assert_int_eq(violation(LA + (1ull << 39), ACCESS_READ), -1);
    vmcs_of(0)->tertiary_controls = 1 << 3;
    cpu->sys.cr0 = cpu->sys.cr4 = cpu->sys.efer = 0;
    rig_mode(PAGING_NONE, 0);
    depth(1);
    ck_assert_int_eq(violation(CHANGED, ACCESS_READ), -1);
}
END_TEST

/* ---- sub-page write permissions ---------------------------------------------------------------------------------- */

static bool write_bytes(u64 la, unsigned n)
{
    u8 data[4096];
    memset(data, 0x5a, sizeof data);
    cpu->fault = (struct mem_fault){0};
    return mem_write(cpu, la, data, n);
}

START_TEST(sub_pages)
{
    u64 table[4];
    one_to_one(1 << 6, 1 << 23, 0);
    rig_mode(PAGING_NONE, 0);
    for (unsigned i = 0; i < 4; i++)
        table[i] = rig_page();
    u64 at[4];
    for (unsigned i = 0; i < 4; i++)
        at[i] = table[i] + (CHANGED >> (39 - 9 * i) & 511) * 8;
    vmcs_of(0)->sub_page_permission_table_pointer = table[0];
    changed(CHANGED, ER | EX | BIT(61));
    depth(1);
    /* A table that is not there, at each level: a miss; bits that must be 0: a misconfiguration. */
    for (unsigned i = 0; i < 3; i++) {
        ck_assert(!write_bytes(CHANGED + 4, 1));
        ck_assert_uint_eq(cpu->fault.kind, FAULT_SPP);
        ck_assert_uint_eq(cpu->fault.qualification, 1 << 11);
        ck_assert_uint_eq(cpu->fault.gpa, CHANGED + 4);
        ck_assert_uint_eq(cpu->fault.la, CHANGED + 4);
        static const u8 reserved[] = {1, 11, 46, 51, 52, 63};
        for (unsigned n = 0; n < ARRAY_SIZE(reserved); n++) {
            put64(at[i], table[i + 1] | 1 | BIT(reserved[n]));
            ck_assert(!write_bytes(CHANGED, 1));
            ck_assert_uint_eq(cpu->fault.kind, FAULT_SPP);
            ck_assert_uint_eq(cpu->fault.qualification, 0);
        }
        put64(at[i], table[i + 1] | 1);
    }
    for (unsigned n = 1; n < 64; n += 2) {
        put64(at[3], BIT(n));
        ck_assert(!write_bytes(CHANGED, 1));
        ck_assert_uint_eq(cpu->fault.kind, FAULT_SPP);
        ck_assert_uint_eq(cpu->fault.qualification, 0);
    }
    /* Each of the 32 alone; the write that is allowed is made, marks the page dirty, and allows no other. */
    for (unsigned n = 0; n < 32; n++) {
        put64(at[3], BIT(2 * n));
        for (unsigned m = 0; m < 32; m++) {
            changed(CHANGED, ER | EX | BIT(61));
            put64(CHANGED + m * 128 + 120, 0);
            ck_assert_int_eq(write_bytes(CHANGED + m * 128 + 120, 8), m == n);
            if (m != n) {
                ck_assert_uint_eq(cpu->fault.kind, FAULT_EPT_VIOLATION);
                ck_assert_uint_eq(cpu->fault.qualification, 0x7aa);
            }
            ck_assert_uint_eq(get64(CHANGED + m * 128 + 120), m == n ? 0x5a5a5a5a5a5a5a5aull : 0);
            ck_assert_uint_eq(get64(detail(CHANGED)) & ED, m == n ? ED : 0);
            rig_read(CHANGED + m * 128);               /* reading is none of its business, and caches nothing for writing */
            ck_assert_int_eq(write_bytes(CHANGED + (n + 1) % 32 * 128, 1), 0);
        }
    }
    /* All that is written has to be allowed. */
    put64(at[3], BIT(0) | BIT(2) | BIT(4) | BIT(62));
    ck_assert(write_bytes(CHANGED + 100, 200));
    ck_assert(write_bytes(CHANGED + 0, 384));
    ck_assert(!write_bytes(CHANGED + 380, 5));
    ck_assert_uint_eq(cpu->fault.kind, FAULT_EPT_VIOLATION);
    ck_assert(write_bytes(CHANGED + 0xffc, 8));        /* the next page is writable */
    changed(CHANGED + 0x1000, ER);
    ck_assert(!write_bytes(CHANGED + 0xffc, 8));
    ck_assert_uint_eq(cpu->fault.gpa, CHANGED + 0x1000);
    changed(CHANGED + 0x1000, ER | EW);
    /* Not eligible: pages that may not be read, larger pages, pages without the bit, no control. */
    changed(CHANGED, EX | BIT(61));
    ck_assert(!write_bytes(CHANGED, 1));
    ck_assert_uint_eq(cpu->fault.kind, FAULT_EPT_VIOLATION);
    changed(CHANGED, ER);
    ck_assert(!write_bytes(CHANGED, 1));
    ck_assert_uint_eq(cpu->fault.kind, FAULT_EPT_VIOLATION);
    u64 large = rig_entry(root[0], 39, 21, 0x800000, 0, 0);
    put64(large, 0x800000 | ER | EWB | EPS | BIT(61));
    put64(table[2] + 4 * 8, table[3] | 1);
    put64(table[3], ~0xaaaaaaaaaaaaaaaaull);
    tlb_invept(cpu, 0, root[0], false);
    ck_assert(!write_bytes(0x800000, 1));
    ck_assert_uint_eq(cpu->fault.kind, FAULT_EPT_VIOLATION);
    changed(CHANGED, ER | BIT(61));
    ck_assert(write_bytes(CHANGED, 1));
    vmcs_of(0)->secondary_controls &= ~(u64)(1 << 23);
    ck_assert(!write_bytes(CHANGED, 1));
    ck_assert_uint_eq(cpu->fault.kind, FAULT_EPT_VIOLATION);
    vmcs_of(0)->secondary_controls |= 1 << 23;
    /* Guest paging's flags are no such write. */
    u64 keep = rig_next;
    rig_next = CHANGED;
    memset(bus.ram + CHANGED, 0, 4 * PAGE_SIZE);
    rig_mode(PAGING_4LEVEL, 0);
    rig_map(LA, 0x900000, P | W, 12);
    rig_next = keep;
    put64(at[3], ~0xaaaaaaaaaaaaaaaaull);
    changed(CHANGED, ER | BIT(61));
    ck_assert_int_eq(violation(LA, ACCESS_READ), 0x8b);
}
END_TEST

/* An outer frame's sub-pages hold for the innermost guest's writes, too; its table lies in its hypervisor's memory. */
START_TEST(chain_sub_pages)
{
    static const unsigned shift[2] = {12, 12};
    u64 flags[2] = {EALL, EALL}, none[2] = {0}, page = 0x3ff000;
    build_chain(2, shift, flags, none);
    rig_mode(PAGING_NONE, 0);
    for (unsigned k = 0; k < 2; k++) {
        u64 table = (rig_next = (k * STEP) + (3ull << 20)) - k * STEP, gpa = page + (k ? 0 : STEP);
        memset(bus.ram + table + k * STEP, 0, 4 * PAGE_SIZE);
        for (unsigned i = 0; i < 4; i++)
            put64(table + k * STEP + i * 0x1000 + (gpa >> (39 - 9 * i) & 511) * 8,
                  i < 3 ? (table + (i + 1) * 0x1000) | 1 : k ? BIT(0) | BIT(2) : BIT(0) | BIT(4));
        vmcs_of(k)->secondary_controls |= 1 << 23;
        vmcs_of(k)->sub_page_permission_table_pointer = table;
        u64 at = rig_entry(root[k], 39, 12, gpa, 0, k * STEP);
        put64(at, (get64(at) & ~(u64)EW) | BIT(61));
    }
    tlb_flush_everything(cpu);
    depth(2);
    ck_assert(write_bytes(page, 1));
    ck_assert(!write_bytes(page + 128, 1));            /* the outer one's table forbids it */
    ck_assert_uint_eq(cpu->fault.kind, FAULT_EPT_VIOLATION);
    ck_assert_uint_eq(cpu->fault.frame, 0);
    ck_assert(!write_bytes(page + 256, 1));            /* the inner one's */
    ck_assert_uint_eq(cpu->fault.frame, 1);
    put64(3ull << 20, 0);
    ck_assert(!write_bytes(page, 1));
    ck_assert_uint_eq(cpu->fault.kind, FAULT_SPP);
    ck_assert_uint_eq(cpu->fault.frame, 0);
    ck_assert_uint_eq(cpu->fault.gpa, page + STEP);
}
END_TEST

/* ---- hypervisor-managed linear-address translation --------------------------------------------------------------- */

#define HIGH 0xffff800000403000ull

/* A fault's error code, or -1. */
static int page_fault_of(u64 la, unsigned access)
{
    cpu->fault = (struct mem_fault){0};
    if (mem_probe(cpu, la, 1, access))
        return -1;
    ck_assert_uint_eq(cpu->fault.kind, FAULT_PAGE);
    return (int)cpu->fault.error;
}

START_TEST(managed_translation)
{
    one_to_one(0, 0, 1 << 1);
    put64(0x900000, 1), put64(0xa00000, 2);
    rig_mode(PAGING_4LEVEL, 0);
    /* CR3's tables say 1, the hypervisor's 2. */
    rig_map(HIGH, 0x900000, P | W | U, 12);
    rig_map(LA, 0x900000, P | W | U, 12);
    u64 cr3 = cpu->sys.cr3;
    cpu->sys.cr3 = 0;
    rig_map(HIGH, 0xa00000, P | W | U, 12);
    rig_map(LA, 0xa00000, P | W | U, 12);
    u64 hlatp = cpu->sys.cr3;
    cpu->sys.cr3 = cr3;
    vmcs_of(0)->hlat_pointer = hlatp | 0x18;
    vmcs_of(0)->hlat_prefix_size = 1;
    depth(1);
    ck_assert_uint_eq(rig_read(HIGH), 2);              /* bit 63 is 1 */
    ck_assert_uint_eq(rig_read(LA), 1);
    vmcs_of(0)->hlat_prefix_size = 0;                  /* all addresses; the change is noticed */
    depth(1);
    ck_assert_uint_eq(rig_read(HIGH), 2);
    ck_assert_uint_eq(rig_read(LA), 2);
    vmcs_of(0)->tertiary_controls = 0;
    depth(1);
    ck_assert_uint_eq(rig_read(HIGH), 1);
    vmcs_of(0)->tertiary_controls = 1 << 1;
    vmcs_of(0)->hlat_prefix_size = 1;
    depth(1);
    u64 out;
    ck_assert(mem_peek_translate(cpu, HIGH + 4, &out));
    ck_assert_uint_eq(out, 0xa00004);
    /* Faults of its own have a bit of the error code; those of rights have not [SDM3 "Page-Fault Exceptions"]. */
    u64 pte = rig_entry(hlatp, 39, 12, HIGH, 0, 0), entry = get64(pte);
    ck_assert_uint_eq(entry & A, A);
    put64(pte, 0);
    tlb_flush_context(cpu, false);
    ck_assert_int_eq(page_fault_of(HIGH, ACCESS_WRITE), 0x82);
    put64(pte, entry | BIT(50));
    ck_assert_int_eq(page_fault_of(HIGH, ACCESS_READ), 0x89);
    put64(pte, entry & ~(u64)W);
    cpu->sys.cr0 |= CR0_WP;
    depth(1);
    ck_assert_int_eq(page_fault_of(HIGH, ACCESS_WRITE), 3);
    put64(pte, entry);
    /* Bit 11 at any level: from the start with CR3's tables, the rights of those alone; the entry that says so is
     * accessed, not dirty; what is reserved faults all the same. */
    for (unsigned shift = 12; shift <= 39; shift += 9) {
        u64 at = rig_entry(hlatp, 39, shift, HIGH, 0, 0), kept = get64(at);
        put64(at, (kept & ~(u64)(A | D | W)) | BIT(11));
        tlb_flush_context(cpu, false);
        ck_assert_uint_eq(rig_read(HIGH), 1);
        rig_write(HIGH + 8, 7);
        ck_assert_uint_eq(get64(0x900008), 7);
        ck_assert_uint_eq(get64(at) & (A | D), A);
        put64(at, kept | BIT(11) | BIT(50));
        tlb_flush_context(cpu, false);
        ck_assert_int_eq(page_fault_of(HIGH, ACCESS_READ), 0x89);
        put64(at, (kept & ~(u64)(A | P)) | BIT(11));
        ck_assert_int_eq(page_fault_of(HIGH, ACCESS_READ), 0x80);
        /* A fault of the ordinary tables is an ordinary one, and has marked nothing. */
        put64(at, (kept & ~(u64)A) | BIT(11));
        u64 ordinary = rig_entry(cr3, 39, 12, HIGH, 0, 0), ordinary_entry = get64(ordinary);
        put64(ordinary, 0);
        ck_assert_int_eq(page_fault_of(HIGH, ACCESS_READ), 0);
        ck_assert_uint_eq(get64(at) & A, 0);
        put64(ordinary, ordinary_entry);
        put64(at, kept);
    }
    tlb_flush_context(cpu, false);
    ck_assert_uint_eq(rig_read(HIGH), 2);
    /* Its tables are reached through EPT like CR3's. */
    u64 page = ept_map(0, CHANGED + 0x5000, hlatp, ER | EWB, 12, 0);
    vmcs_of(0)->hlat_pointer = CHANGED + 0x5000;
    tlb_invept(cpu, 0, 0, true);
    depth(1);
    ck_assert_uint_eq(rig_read(HIGH), 2);
    put64(page, 0);
    tlb_invept(cpu, 0, 0, true);
    ck_assert_int_eq(violation(HIGH, ACCESS_READ), 0x81);
    ck_assert_uint_eq(cpu->fault.gpa, CHANGED + 0x5000 + (HIGH >> 39 & 511) * 8);
    /* In root operation and under 32-bit paging there is none of it. */
    depth(0);
    ck_assert_uint_eq(rig_read(HIGH), 1);
}
END_TEST

/* ---- five levels, logs of several frames ------------------------------------------------------------------------- */

/* Guest-physical addresses of 52 bits: each index of the fifth level, its reserved bits, its rights and its flag. */
START_TEST(five_levels)
{
    u64 top = rig_page();
    root[0] = rig_page();
    cpu->mode.pa_bits = 52;
    vmcs_of(0)->primary_controls = 1u << 31;
    vmcs_of(0)->secondary_controls = 1 << 1;
    vmcs_of(0)->ept_pointer = top | 4 << 3 | 6 | 1 << 6;
    for (unsigned n = 0; n < 16; n++) {
        u64 gpa = (u64)n << 48 | 0x7fff12345000ull;
        root[0] = rig_page();
        put64(top + 8 * n, root[0] | ER | EW | EX);
        ept_map(0, gpa & mask_low(48), 0x900000 + n * 0x1000, EALL, 12, 0);
        put64(0x900000 + n * 0x1000, n);
    }
    depth(1);
    u64 out;
    for (unsigned n = 0; n < 16; n++) {
        u64 gpa = (u64)n << 48 | 0x7fff12345000ull, at = top + 8 * n, entry = get64(at);
        ck_assert_uint_eq(entry & EA, 0);
        ck_assert(mem_gpa_to_hpa(cpu, 1, gpa + 8, ACCESS_READ, &out));
        ck_assert_uint_eq(out, 0x900008 + n * 0x1000);
        ck_assert_uint_eq(get64(at) & (EA | ED), EA);
        for (unsigned bit = 3; bit < 8; bit++) {
            put64(at, entry | BIT(bit));
            tlb_invept(cpu, 0, top, false);
            ck_assert(!mem_gpa_to_hpa(cpu, 1, gpa, ACCESS_READ, &out));
            ck_assert_uint_eq(cpu->fault.kind, FAULT_EPT_MISCONFIG);
        }
        for (unsigned bit = 8; bit < 12; bit++) {
            put64(at, entry | BIT(bit));
            ck_assert(mem_gpa_to_hpa(cpu, 1, gpa, ACCESS_READ, &out));
        }
        put64(at, entry & ~(u64)EW);
        tlb_invept(cpu, 0, top, false);
        ck_assert(!mem_gpa_to_hpa(cpu, 1, gpa, ACCESS_WRITE, &out));
        ck_assert_uint_eq(cpu->fault.qualification, 0x2a);
        put64(at, 0);
        tlb_invept(cpu, 0, top, false);
        ck_assert(!mem_gpa_to_hpa(cpu, 1, gpa, ACCESS_READ, &out));
        ck_assert_uint_eq(cpu->fault.qualification, 1);
        ck_assert_uint_eq(cpu->fault.gpa, gpa);
    }
}
END_TEST

/* The rights of the fifth level count like all others; without it the same root is a fourth level. */
START_TEST(walk_length_is_a_tag)
{
    u64 top = rig_page();
    ept_on(0, rig_page(), 0);
    rig_mode(PAGING_NONE, 0);
    ept_map(0, 0x5000, 0x900000, EALL, 12, 0);
    put64(top, root[0] | ER | EW | EX);
    put64(0x900000, 7), put64(root[0] + 0x18, 0);
    vmcs_of(0)->ept_pointer = top | 4 << 3 | 6;
    depth(1);
    ck_assert_uint_eq(rig_read(0x5000), 7);
    vmcs_of(0)->ept_pointer = top | 3 << 3 | 6;
    depth(1);
    u64 v;
    ck_assert(!mem_read64(cpu, 0x5000, &v));           /* the PT is taken for a page directory, its entry for another table */
    ck_assert(cpu->fault.kind == FAULT_EPT_VIOLATION || cpu->fault.kind == FAULT_EPT_MISCONFIG);
    vmcs_of(0)->ept_pointer = top | 4 << 3 | 6;
    depth(1);
    ck_assert_uint_eq(rig_read(0x5000), 7);
}
END_TEST

/* Each frame logs the pages that become dirty in its own guest's memory: the inner one what the innermost guest writes, the
 * outer one that, too, and what the inner one's flags and log make dirty. The log that is full is the one that exits. */
START_TEST(chain_logs)
{
    static const unsigned shift[2] = {12, 12};
    u64 flags[2] = {EALL, EALL}, ad[2] = {1 << 6, 1 << 6}, page = 0x3ff000;
    build_chain(2, shift, flags, ad);
    u64 log[2] = {rig_page(), 0x280000};               /* each in its hypervisor's space */
    for (unsigned k = 0; k < 2; k++) {
        vmcs_of(k)->secondary_controls |= 1 << 17;
        vmcs_of(k)->pml_address = log[k];
        vmcs_of(k)->pml_index = 511;
    }
    rig_mode(PAGING_NONE, 0);
    depth(2);
    rig_read(page);
    ck_assert_uint_eq(vmcs_of(1)->pml_index, 511);
    u64 after_read = vmcs_of(0)->pml_index;
    ck_assert_uint_lt(after_read, 511);                /* the inner frame's accessed flags were set */
    rig_write(page + 8, 1);
    ck_assert_uint_eq(vmcs_of(1)->pml_index, 510);
    ck_assert_uint_eq(get64(log[1] + STEP + 511 * 8), page);
    bool data = false, inner_log = false;
    for (u64 n = vmcs_of(0)->pml_index + 1; n <= after_read; n++) {
        data |= get64(log[0] + n * 8) == page + STEP;
        inner_log |= get64(log[0] + n * 8) == log[1];
    }
    ck_assert(data && inner_log);
    u64 logged = vmcs_of(0)->pml_index;
    rig_write(page + 16, 1);
    ck_assert_uint_eq(vmcs_of(0)->pml_index, logged);
    ck_assert_uint_eq(vmcs_of(1)->pml_index, 510);
    for (unsigned k = 0; k < 2; k++) {
        vmcs_of(0)->pml_index = vmcs_of(1)->pml_index = 511;
        vmcs_of(k)->pml_index = 0xffff;
        u64 at = rig_entry(root[k], 39, 12, page + 0x1000 + (k ? 0 : STEP), 0, k * STEP);
        put64(at, get64(at) & ~(u64)ED);
        tlb_flush_everything(cpu);
        ck_assert(!mem_write64(cpu, page + 0x1000, 1));
        ck_assert_uint_eq(cpu->fault.kind, FAULT_EPT_LOG_FULL);
        ck_assert_uint_eq(cpu->fault.frame, k);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {rights, misconfigurations, guest_tables, pdptes_and_physical_accesses,
                                  large_pages_and_five_levels, beyond_the_top, mode_based_execution, mode_based_rights,
                                  modification_log,
                                  apic_access_page, chains, chain_faults, chain_flags, chain_mode_based, frames_without_ept,
                                  advanced_information, supervisor_shadow_stacks, chain_shadow_stacks, paging_write,
                                  guest_paging_verification, sub_pages, chain_sub_pages, managed_translation, five_levels,
                                  walk_length_is_a_tag, chain_logs};
    return rig_run("ept", tests, ARRAY_SIZE(tests));
}
