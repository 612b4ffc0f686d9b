/* Walks through the guest's own page tables: every mode, right and reserved bit; accessed and dirty flags; error codes.
 * [SDM3 "Paging"] */
#include "tests/mmu/rig.h"

#define LA 0x7f0000403000ull
#define PAGE 0x800000ull

/* Page-fault error codes by rights: index mode-and-access, for a page with W and U as given. */
START_TEST(rights_4level)
{
    cpu->sys.efer |= EFER_NXE;
    cpu->sys.cr0 |= CR0_WP;
    rig_mode(PAGING_4LEVEL, 0);
    for (unsigned rights = 0; rights < 8; rights++) {
        u64 flags = P | (rights & 1 ? W : 0) | (rights & 2 ? U : 0) | (rights & 4 ? NX : 0);
        rig_map(LA, PAGE, flags, 12);
        for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
            bool user = cpl == 3, hidden = user && !(rights & 2);
            u32 u = user ? 4 : 0;
            rig_mode(PAGING_4LEVEL, cpl);
            tlb_flush_context(cpu, false);
            ck_assert_int_eq(rig_error(LA, ACCESS_READ), hidden ? (int)(1 | u) : -1);
            ck_assert_int_eq(rig_error(LA, ACCESS_WRITE), hidden || !(rights & 1) ? (int)(3 | u) : -1);
            ck_assert_int_eq(rig_error(LA, ACCESS_EXEC), hidden || rights & 4 ? (int)(0x11 | u) : -1);
            /* Implicit supervisor accesses do not care for CPL. */
            ck_assert_int_eq(rig_error(LA, ACCESS_READ | ACCESS_SYSTEM), -1);
            ck_assert_int_eq(rig_error(LA, ACCESS_WRITE | ACCESS_SYSTEM), rights & 1 ? -1 : 3);
        }
    }
}
END_TEST

/* Rights are the AND of all levels: each level alone takes them away. */
START_TEST(rights_of_every_level)
{
    cpu->sys.efer |= EFER_NXE;
    cpu->sys.cr0 |= CR0_WP;
    for (unsigned mode = PAGING_4LEVEL; mode <= PAGING_5LEVEL; mode++) {
        cpu->sys.cr3 = 0;
        rig_mode(mode, 3);
        unsigned top = mode == PAGING_5LEVEL ? 48 : 39;
        rig_map(LA, PAGE, P | W | U, 12);
        for (unsigned shift = 12; shift <= top; shift += 9) {
            u64 at = rig_entry(cpu->sys.cr3, top, shift, LA, 0, 0), entry = get64(at);
            tlb_flush_context(cpu, false);
            ck_assert_int_eq(rig_error(LA, ACCESS_WRITE), -1);
            put64(at, entry & ~(u64)W);
            tlb_flush_context(cpu, false);
            ck_assert_int_eq(rig_error(LA, ACCESS_WRITE), 7);
            put64(at, entry & ~(u64)U);
            tlb_flush_context(cpu, false);
            ck_assert_int_eq(rig_error(LA, ACCESS_READ), 5);
            put64(at, entry | NX);
            ck_assert_int_eq(rig_error(LA, ACCESS_EXEC), 0x15);
            put64(at, entry & ~(u64)P);
            tlb_flush_context(cpu, false);
            ck_assert_int_eq(rig_error(LA, ACCESS_READ), 4);
            ck_assert_int_eq(rig_error(LA, ACCESS_WRITE), 6);
            ck_assert_int_eq(rig_error(LA, ACCESS_EXEC), 0x14);
            put64(at, entry);
        }
    }
}
END_TEST

START_TEST(write_protect)
{
    rig_mode(PAGING_4LEVEL, 0);
    rig_map(LA, PAGE, P, 12);
    rig_write(LA, 0x1122334455667788);
    ck_assert_uint_eq(get64(PAGE), 0x1122334455667788);
    cpu->sys.cr0 |= CR0_WP;
    tlb_select(cpu);           /* notices WP by itself */
    ck_assert_int_eq(rig_error(LA, ACCESS_WRITE), 3);
    u64 v;
    ck_assert(!mem_write64(cpu, LA, 0));
    ck_assert(mem_read64(cpu, LA, &v));
    ck_assert_uint_eq(v, 0x1122334455667788);
}
END_TEST

START_TEST(smep_smap)
{
    cpu->sys.efer |= EFER_NXE;
    rig_mode(PAGING_4LEVEL, 0);
    rig_map(LA, PAGE, P | W | U, 12);
    ck_assert_int_eq(rig_error(LA, ACCESS_EXEC), -1);
    cpu->sys.cr4 |= CR4_SMEP;
    tlb_select(cpu);
    ck_assert_int_eq(rig_error(LA, ACCESS_EXEC), 0x11);
    /* Without NXE, SMEP alone makes bit 4 of the error code. */
    cpu->sys.efer &= ~(u64)EFER_NXE;
    tlb_select(cpu);
    ck_assert_int_eq(rig_error(LA, ACCESS_EXEC), 0x11);
    cpu->sys.cr4 &= ~(u64)CR4_SMEP;
    tlb_select(cpu);
    ck_assert_int_eq(rig_error(LA, ACCESS_EXEC), -1);

    rig_write(LA, 1);
    cpu->sys.cr4 |= CR4_SMAP;
    tlb_select(cpu);
    ck_assert_int_eq(rig_error(LA, ACCESS_READ), 1);
    ck_assert_int_eq(rig_error(LA, ACCESS_WRITE), 3);
    cpu->core.rflags_rest |= FL_AC;
    tlb_select(cpu);
    ck_assert_int_eq(rig_error(LA, ACCESS_WRITE), -1);
    rig_write(LA, 2);
    /* Implicit accesses are not let through by AC. */
    ck_assert_int_eq(rig_error(LA, ACCESS_READ | ACCESS_SYSTEM), 1);
    cpu->core.rflags_rest &= ~(u64)FL_AC;
    tlb_select(cpu);
    u64 v;
    ck_assert(!mem_read64(cpu, LA, &v));
    ck_assert_uint_eq(cpu->fault.error, 1);
    /* The user may. */
    rig_mode(PAGING_4LEVEL, 3);
    ck_assert_uint_eq(rig_read(LA), 2);
}
END_TEST

START_TEST(protection_keys)
{
    cpu->sys.cr4 |= CR4_PKE;
    cpu->sys.cr0 |= CR0_WP;
    for (unsigned key = 0; key < 16; key += 5) {
        cpu->sys.cr3 = 0;
        cpu->sys.pkru = 0;
        rig_mode(PAGING_4LEVEL, 3);
        rig_map(LA, PAGE, P | W | U | (u64)key << 59, 12);
        tlb_flush_context(cpu, false);
        ck_assert_int_eq(rig_error(LA, ACCESS_WRITE), -1);
        cpu->sys.pkru = 2u << (2 * key); /* WD */
        tlb_select(cpu);
        ck_assert_int_eq(rig_error(LA, ACCESS_READ), -1);
        ck_assert_int_eq(rig_error(LA, ACCESS_WRITE), 0x27);
        rig_mode(PAGING_4LEVEL, 0);
        ck_assert_int_eq(rig_error(LA, ACCESS_WRITE), 0x23);
        cpu->sys.cr0 &= ~(u64)CR0_WP;
        tlb_select(cpu);
        ck_assert_int_eq(rig_error(LA, ACCESS_WRITE), -1);
        cpu->sys.cr0 |= CR0_WP;
        cpu->sys.pkru = 1u << (2 * key); /* AD */
        tlb_select(cpu);
        ck_assert_int_eq(rig_error(LA, ACCESS_READ), 0x21);
        rig_mode(PAGING_4LEVEL, 3);
        ck_assert_int_eq(rig_error(LA, ACCESS_READ), 0x25);
        ck_assert_int_eq(rig_error(LA, ACCESS_EXEC), -1);
    }
    /* Supervisor pages obey PKRS. */
    cpu->sys.cr4 |= CR4_PKS;
    cpu->sys.cr3 = 0;
    cpu->sys.pkru = ~0u;
    cpu->sys.pkrs = 0;
    rig_mode(PAGING_4LEVEL, 0);
    rig_map(LA, PAGE, P | W | 3ull << 59, 12);
    tlb_flush_context(cpu, false);
    ck_assert_int_eq(rig_error(LA, ACCESS_WRITE), -1);
    cpu->sys.pkrs = 2 << 6;
    tlb_select(cpu);
    ck_assert_int_eq(rig_error(LA, ACCESS_WRITE), 0x23);
    cpu->sys.pkrs = 1 << 6;
    tlb_select(cpu);
    ck_assert_int_eq(rig_error(LA, ACCESS_READ), 0x21);
}
END_TEST

/* Every bit of every entry, one at a time: reserved ones fault with RSVD, the others do not. */
START_TEST(reserved_bits_64)
{
    for (unsigned mode = PAGING_4LEVEL; mode <= PAGING_5LEVEL; mode++)
        for (unsigned nxe = 0; nxe < 2; nxe++)
            for (unsigned page = 12; page <= 30; page += 9) {
                cpu->sys.cr3 = 0;
                cpu->sys.efer = nxe ? EFER_NXE : 0;
                rig_mode(mode, 0);
                unsigned top = mode == PAGING_5LEVEL ? 48 : 39;
                rig_map(LA, 0, P | W | U, page);
                for (unsigned shift = page; shift <= top; shift += 9) {
                    u64 at = rig_entry(cpu->sys.cr3, top, shift, LA, 0, 0), entry = get64(at);
                    for (unsigned bit = 0; bit < 64; bit++) {
                        bool leaf = shift == page;
                        bool reserved = (bit >= 46 && bit < 52) || (bit == 63 && !nxe) || (bit == 7 && shift >= 39) ||
                                        (leaf && bit >= 13 && bit < shift);
                        if (bit == 0 || (!reserved && !leaf && bit >= 12 && bit < 52))
                            continue; /* not present; points elsewhere */
                        if (bit == 7 && shift < 39 && shift > 12)
                            continue; /* PS */
                        put64(at, entry ^ BIT(bit));
                        if (!reserved && (bit == 1 || bit == 2 || bit == 63)) {
                            put64(at, entry);
                            continue;
                        }
                        tlb_flush_context(cpu, false);
                        ck_assert_msg(rig_error(LA, ACCESS_READ) == (reserved ? 9 : -1), "mode %u page %u shift %u bit %u",
                                      mode, page, shift, bit);
                        put64(at, entry);
                    }
                }
            }
    /* 1 GiB pages need their feature. */
    cpu->sys.cr3 = 0;
    cpu->mode.pa_bits = 40;
    rig_mode(PAGING_4LEVEL, 0);
    u64 at = rig_map(LA, 0, P | W, 30);
    ck_assert_int_eq(rig_error(LA, ACCESS_READ), -1);
    rig_feature(FEATURE_PDPE1GB, false);
    tlb_flush_context(cpu, false);
    ck_assert_int_eq(rig_error(LA, ACCESS_WRITE), 11);
    rig_feature(FEATURE_PDPE1GB, true);
    put64(at, get64(at) | BIT(40));
    ck_assert_int_eq(rig_error(LA, ACCESS_READ), 9);
}
END_TEST

START_TEST(pae)
{
    u64 pdpt = rig_page(), pd = rig_page(), pt = rig_page();
    cpu->sys.efer = EFER_NXE;
    put64(pdpt + 8, pd | P);
    put64(pd + 8 * 3, pt | P | W | U);
    put64(pt + 8 * 5, PAGE | P | W | U);
    put64(pd + 8 * 4, 0x200000 | P | W | PS);
    u64 la = 0x40605000, large = 0x40800000;
    cpu->sys.cr3 = pdpt;
    rig_mode(PAGING_PAE, 0);
    ck_assert(mem_load_pdptes(cpu, pdpt));
    put64(PAGE + 0x10, 99);
    ck_assert_uint_eq(rig_read(la + 0x10), 99);
    ck_assert_uint_eq(get64(pt + 8 * 5), PAGE | P | W | U | A);
    rig_write(large + 0x1238, 7);
    ck_assert_uint_eq(get64(0x201238), 7);
    ck_assert_uint_eq(get64(pd + 8 * 4), 0x200000 | P | W | PS | A | D);
    ck_assert_int_eq(rig_error(0x80000000, ACCESS_READ), 0);  /* PDPTE 2 is not present */
    /* la is truncated outside IA-32e mode. */
    ck_assert_uint_eq(rig_read(0xf00000000ull + la + 0x10), 99);

    static const struct { unsigned bit; bool reserved; } bits[] = {{46, 1}, {51, 1}, {52, 1}, {62, 1}, {63, 0}, {9, 0}, {11, 0}};
    for (unsigned i = 0; i < ARRAY_SIZE(bits); i++) {
        put64(pt + 8 * 5, (PAGE | P | W | U) ^ BIT(bits[i].bit));
        tlb_flush_context(cpu, false);
        ck_assert_int_eq(rig_error(la, ACCESS_READ), bits[i].reserved ? 9 : -1);
    }
    cpu->sys.efer = 0;
    tlb_select(cpu);
    put64(pt + 8 * 5, PAGE | P | NX);
    ck_assert_int_eq(rig_error(la, ACCESS_READ), 9);
    /* The registers count, not memory. */
    put64(pt + 8 * 5, PAGE | P);
    put64(pdpt + 8, 0);
    ck_assert_int_eq(rig_error(la, ACCESS_READ), -1);
    ck_assert(mem_load_pdptes(cpu, pdpt));
    tlb_flush_context(cpu, false);
    ck_assert_int_eq(rig_error(la, ACCESS_READ), 0);
    /* Reserved bits of PDPTEs. */
    for (unsigned bit = 1; bit < 64; bit++) {
        bool reserved = bit == 1 || bit == 2 || (bit >= 5 && bit <= 8) || bit >= 46;
        u64 before = cpu->sys.pdpte[2];
        put64(pdpt + 16, P | BIT(bit));
        ck_assert_int_eq(mem_load_pdptes(cpu, pdpt), !reserved);
        ck_assert_uint_eq(cpu->fault.kind, FAULT_NONE);
        ck_assert_uint_eq(cpu->sys.pdpte[2], reserved ? before : (P | BIT(bit)));
        put64(pdpt + 16, reserved ? BIT(bit) : 0);
        ck_assert(mem_load_pdptes(cpu, pdpt));
    }
}
END_TEST

START_TEST(mode_32)
{
    u64 pd = rig_page(), pt = rig_page();
    put32(pd + 4 * 1, (u32)(pt | P | W | U));
    put32(pt + 4 * 3, (u32)(PAGE | P | W | U));
    put32(pd + 4 * 2, 0x400000 | P | W | U | PS);
    cpu->sys.cr3 = pd;
    cpu->sys.cr4 = CR4_PSE;
    rig_mode(PAGING_32, 3);
    rig_write(0x403008, 5);
    ck_assert_uint_eq(get64(PAGE + 8), 5);
    ck_assert_uint_eq(get32(pd + 4), pt | P | W | U | A);
    ck_assert_uint_eq(get32(pt + 12), PAGE | P | W | U | A | D);
    rig_write(0x923458, 6);
    ck_assert_uint_eq(get64(0x523458), 6);
    ck_assert_uint_eq(get32(pd + 8), 0x400000 | P | W | U | PS | A | D);
    ck_assert_int_eq(rig_error(0xc00000, ACCESS_READ), 4);
    /* No NX: fetches are not told apart without SMEP. */
    ck_assert_int_eq(rig_error(0xc00000, ACCESS_EXEC), 4);

    /* PSE-36: bits 20:13 are bits 39:32 of the address; bit 21 is reserved, as is what exceeds MAXPHYADDR. */
    put32(pd + 8, 0x400000 | P | W | U | PS | 0x3f << 13);
    tlb_flush_context(cpu, false);
    u64 hpa;
    ck_assert(mem_peek_translate(cpu, 0x812345, &hpa));
    ck_assert_uint_eq(hpa, 0x3f00412345);
    put32(pd + 8, 0x400000 | P | W | U | PS | 1 << 21);
    ck_assert_int_eq(rig_error(0x812345, ACCESS_READ), 13);
    cpu->mode.pa_bits = 36;
    put32(pd + 8, 0x400000 | P | W | U | PS | 1 << 17);
    ck_assert_int_eq(rig_error(0x812345, ACCESS_READ), 13);
    put32(pd + 8, 0x400000 | P | W | U | PS | 1 << 16);
    ck_assert_int_eq(rig_error(0x812345, ACCESS_READ), -1);
    rig_feature(FEATURE_PSE36, false);
    tlb_flush_context(cpu, false);
    ck_assert_int_eq(rig_error(0x812345, ACCESS_READ), 13);
    /* Without PSE the bit is ignored. */
    put32(pd + 8, (u32)(pt | P | W | U | PS));
    cpu->sys.cr4 = 0;
    tlb_select(cpu);
    ck_assert_uint_eq(rig_read(0x803008), 5);
}
END_TEST

START_TEST(no_paging)
{
    rig_mode(PAGING_NONE, 0);
    cpu->sys.cr4 |= CR4_SMAP | CR4_SMEP;
    cpu->sys.cr0 |= CR0_WP;
    tlb_select(cpu);
    put64(0x1234, 0xabcdef);
    ck_assert_uint_eq(rig_read(0x1234), 0xabcdef);
    ck_assert_uint_eq(rig_read(0xffff000000001234), 0xabcdef);
    ck_assert_int_eq(rig_error(0x1000, ACCESS_EXEC), -1);
    /* Wraps at 4 GiB: RAM is at 0, nothing answers below 4 GiB. */
    u32 v;
    put32(0, 0x11223344);
    ck_assert(mem_read32(cpu, 0xfffffffe, &v));
    ck_assert_uint_eq(v, 0x3344ffff);
}
END_TEST

START_TEST(accessed_and_dirty)
{
    rig_mode(PAGING_4LEVEL, 0);
    u64 at = rig_map(LA, PAGE, P | W, 12);
    rig_read(LA);
    ck_assert_uint_eq(get64(at), PAGE | P | W | A);
    for (unsigned shift = 21; shift <= 39; shift += 9)
        ck_assert_uint_eq(get64(rig_entry(cpu->sys.cr3, 39, shift, LA, 0, 0)) & (A | D), A);
    rig_write(LA, 1);
    ck_assert_uint_eq(get64(at), PAGE | P | W | A | D);
    /* A denied access sets nothing. */
    at = rig_map(LA + 0x1000, PAGE, P, 12);
    cpu->sys.cr0 |= CR0_WP;
    tlb_select(cpu);
    ck_assert_int_eq(rig_error(LA + 0x1000, ACCESS_WRITE), 3);
    ck_assert_uint_eq(get64(at), PAGE | P);
    /* Flags cleared by software are set again after a flush. */
    at = rig_map(LA, PAGE, P | W, 12);
    tlb_flush_page(cpu, LA);
    rig_write(LA, 1);
    ck_assert_uint_eq(get64(at), PAGE | P | W | A | D);
    /* Peeking touches nothing. */
    put64(at, PAGE | P);
    u64 hpa;
    ck_assert(mem_peek_translate(cpu, LA + 5, &hpa));
    ck_assert_uint_eq(hpa, PAGE + 5);
    ck_assert_uint_eq(get64(at), PAGE | P);
    ck_assert(!mem_peek_translate(cpu, LA + 0x100000, &hpa));
    ck_assert(!mem_peek_translate(cpu, 0x8000000000000000, &hpa));
}
END_TEST

START_TEST(shadow_stack)
{
    rig_mode(PAGING_4LEVEL, 3);
    rig_map(LA, PAGE, P | U | D, 12);
    rig_map(LA + 0x1000, PAGE, P | U | W | D, 12);
    ck_assert_int_eq(rig_error(LA, ACCESS_WRITE | ACCESS_SHADOW_STACK), -1);
    ck_assert_int_eq(rig_error(LA, ACCESS_READ | ACCESS_SHADOW_STACK), -1);
    ck_assert_int_eq(rig_error(LA, ACCESS_WRITE), 7);
    ck_assert_int_eq(rig_error(LA + 0x1000, ACCESS_WRITE | ACCESS_SHADOW_STACK), 0x47);
    rig_mode(PAGING_4LEVEL, 0);
    ck_assert_int_eq(rig_error(LA, ACCESS_WRITE | ACCESS_SHADOW_STACK), 0x43);
}
END_TEST

/* Page tables made of device registers or nothing: all ones are reserved bits. */
START_TEST(tables_in_nothing)
{
    cpu->sys.cr3 = 0xd0000000;
    rig_mode(PAGING_4LEVEL, 0);
    ck_assert_int_eq(rig_error(LA, ACCESS_READ), 9);
    u64 hpa;
    ck_assert(!mem_peek_translate(cpu, LA, &hpa));
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {rights_4level, rights_of_every_level, write_protect, smep_smap, protection_keys,
                                  reserved_bits_64, pae, mode_32, no_paging, accessed_and_dirty, shadow_stack,
                                  tables_in_nothing};
    return rig_run("walk", tests, ARRAY_SIZE(tests));
}
