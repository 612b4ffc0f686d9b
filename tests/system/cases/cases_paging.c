/*
 * Paging: 32-bit, with 4-MiB pages, PAE, 4-level, 5-level. Each right taken away at each level, for each kind of access under CR0.WP,
 * SMEP, SMAP, NX; each reserved bit; accessed and dirty flags; protection keys.
 * [SDM3 "Paging", "Access Rights", "Page-Fault Exceptions", "Accessed and Dirty Flags", "Protection Keys"]
 *
 * The accessed address (test_la()) has table entries of its own at every level; the access is [rdi] or a jump to it.
 */
#include "harness.h"

enum access { READ, WRITE, EXECUTE };
static const char *const access_names[] = {"read", "write", "execute"};
static const char *const access_code[] = {"8b 1f", "89 1f", "ff e7"};

static const struct paging_kind { enum paging paging; enum mode mode; const char *name; unsigned levels; } kinds[] = {
    {P32, PM32, "p32", 2}, {PAE, PM32, "pae", 3}, {L4, LONG, "l4", 4}, {L5, LONG, "l5", 5}, {L4, COMPAT, "compat", 3},
};

/* Address of the entry at a level: 0 is the page table's. */
static u64 entry_at(unsigned level)
{
    if (m.paging == P32)
        return level ? PD + 4 * 0x201 : TEST_PT + 4 * 0x205;
    switch (level) {
    case 0: return TEST_PT + 8 * 5;
    case 1: return TEST_PD + 8 * 3;
    case 2: return m.paging == PAE || m.mode == COMPAT ? PDPT + 8 * 2 : TEST_PDPT + 8 * 2;
    case 3: return m.paging == L5 ? TEST_PML4 + 8 : PML4 + 8;
    default: return PML5 + 8;
    }
}

static u64 get_entry(unsigned level) { return m.paging == P32 ? peek32(entry_at(level)) : peek64(entry_at(level)); }
static void set_entry(unsigned level, u64 value)
{
    if (m.paging == P32)
        poke32(entry_at(level), (u32)value);
    else
        poke64(entry_at(level), value);
}

static void begin_access(const struct paging_kind *k, unsigned ring, enum access access)
{
    begin(k->mode, ring);
    paging(k->paging);
    if (k->mode == COMPAT)             /* 4-level paging, but an address below 4 GiB */
        poke64(PDPT + 8 * 2, TEST_PD | PTE_P | PTE_W | PTE_U);
    need(k->paging != L5 || HAS_LA57);
    m.target = k->mode == COMPAT ? 0x80605000 : test_la();
    L.gpr[DI] = m.target;
    poke16(TEST_PAGE, 0x0b0f);
    code(access_code[access]);
}

/* What an access that is allowed comes to. */
static const char *allowed(enum access access) { return access == EXECUTE ? text("UD@%x", m.target) : "ok"; }
static const char *fault(enum access access, u32 error)
{
    return access == EXECUTE ? text("PF(%x)@%x", (u64)error, m.target) : text("PF(%x)", (u64)error);
}

static void rights(const struct paging_kind *k)
{
    static const char *const removed_names[] = {"all", "p", "w", "u", "nx"};
    static const char *const settings[] = {"wp0", "wp", "smep", "smap", "smap-ac"};
    for (unsigned removed = 0; removed < 5; removed++)
        for (unsigned level = 0; level < (removed ? k->levels : 1); level++)
            for (unsigned setting = 0; setting < 5; setting++)
                for (unsigned ring = 0; ring <= 3; ring += 3)
                    for (enum access access = READ; access <= EXECUTE; access++) {
                        bool pdpte = k->paging == PAE && level == 2;
                        if ((pdpte && removed > 1) || (removed == 4 && k->paging == P32) || (setting == 4 && ring == 0 && access == EXECUTE))
                            continue;
                        begin_access(k, ring, access);
                        u64 value = get_entry(level);
                        bool nx = removed == 4, smep = setting == 2, smap = setting >= 3, ac = setting == 4, wp = setting != 0;
                        need(!nx || HAS_NX);
                        need(!smep || HAS_SMEP);
                        need(!smap || HAS_SMAP);
                        set_entry(level, removed == 1 ? value & ~1ull : removed == 2 ? value & ~2ull : removed == 3 ? value & ~4ull : nx ? value | PTE_NX : value);
                        L.efer |= nx ? EFER_NXE : 0;
                        L.cr4 |= (smep ? CR4_SMEP : 0) | (smap ? CR4_SMAP : 0);
                        L.rflags |= ac ? FL_AC : 0;
                        if (!wp)
                            L.cr0 &= ~CR0_WP;
                        u32 error = (access == WRITE ? 2 : 0) | (ring ? 4 : 0) | (access == EXECUTE && (nx || smep) ? 16 : 0);
                        const char *expect = allowed(access);
                        if (removed == 1)
                            expect = fault(access, error);
                        else if ((ring && removed == 3) || (access == EXECUTE && nx) || (access == WRITE && removed == 2 && (ring || wp)) ||
                                 (!ring && removed != 3 && ((access == EXECUTE && smep) || (access != EXECUTE && smap && !ac))))
                            expect = fault(access, error | 1);
                        run(text("paging/%s-%d-%s-%s/%s-%d", removed_names[removed], level, settings[setting], access_names[access], k->name, ring),
                            expect);
                    }
}

/* Bits that must be 0 in a present entry. `large`: the entry maps a page above the lowest level. */
static bool is_reserved(const struct paging_kind *k, unsigned level, bool large, unsigned bit, bool nxe)
{
    if (k->paging == P32)
        return large && (bit == 21 || (bit >= 13 && bit < 21 && (!HAS_PSE36 || bit - 13 + 32 >= (cpu.pa_bits < 40 ? cpu.pa_bits : 40))));
    if (bit == 63)
        return !nxe;
    if (bit >= cpu.pa_bits && bit < 52)
        return true;
    if (k->paging == PAE && bit >= 52)
        return true;
    if (bit == 7)
        return level >= 3 || (level == 2 && !HAS_PDPE1GB);
    if (large && bit >= 13)
        return level == 1 ? bit < 21 : bit < 30;
    return false;
}

static void reserved_bits(const struct paging_kind *k)
{
    for (unsigned level = 0; level < k->levels; level++)
        for (unsigned large = 0; large < 2; large++)
            for (unsigned bit = 7; bit < (k->paging == P32 ? 32 : 64); bit++)
                for (unsigned how = 0; how < 3; how++) {
                    /* how 0: ring 0 reads; 1: ring 3 writes; 2: the entry is not present, so nothing is reserved */
                    if ((k->paging == PAE && level == 2) || (large && (level == 0 || level > 2)))
                        continue;
                    begin_access(k, how == 1 ? 3 : 0, how == 1 ? WRITE : READ);
                    bool nxe = how == 1 && HAS_NX && k->paging != P32;
                    L.efer |= nxe ? EFER_NXE : 0;
                    L.cr4 |= k->paging == P32 ? CR4_PSE : 0;
                    need(!large || level != 2 || HAS_PDPE1GB);
                    u64 value = large ? PTE_P | PTE_W | PTE_U | PTE_PS : get_entry(level), before = value;
                    if (large && level == 2 && m.mode == COMPAT)
                        continue;
                    value |= 1ull << bit;
                    bool reserved = is_reserved(k, level, large, bit, nxe);
                    if (bit == 7 && !large && level == 1 && k->paging != P32)
                        reserved = true; /* the table's address becomes a page's: bits 13 up */
                    if (bit == 7 && !large && level == 2 && HAS_PDPE1GB)
                        reserved = true;
                    if (bit == 7 && k->paging == P32 && !large && level == 1)
                        reserved = true;
                    bool address_bit = !reserved && bit >= 12 && bit < (k->paging == P32 ? 32 : 52);
                    if (value == before || address_bit)
                        continue;
                    if (bit == 7 && k->paging == P32 && !large && level == 1 && HAS_PSE36 && !(TEST_PT >> 21 & 1))
                        continue;      /* a page beyond 4 GiB, if there is one */
                    u32 error = how == 1 ? 6 : 0;
                    set_entry(level, how == 2 ? value & ~1ull : value);
                    run(text("paging/reserved-%d%s-bit%d/%s-%s", level, large ? "-large" : "", bit, k->name, how == 0 ? "read" : how == 1 ? "user-write" : "absent"),
                        how == 2 ? "PF(0)" : reserved ? fault(READ, error | 9) : "ok");
                }
}

static void accessed_dirty(const struct paging_kind *k)
{
    for (unsigned level = 0; level < k->levels; level++)
        for (enum access access = READ; access <= EXECUTE; access++) {
            begin_access(k, 0, access);
            u32 before = (u32)get_entry(level);
            m.watch = entry_at(level);
            m.show = SHOW_MEM;
            bool pdpte = k->paging == PAE && level == 2;
            u32 after = pdpte ? before : before | PTE_A | (access == WRITE && level == 0 ? PTE_D : 0);
            run(text("paging/accessed-%d-%s/%s", level, access_names[access], k->name), text("%s mem=%x", allowed(access), (u64)after));
        }
    if (k->paging != P32) {            /* a large page: D in its entry */
        begin_access(k, 0, WRITE);
        set_entry(1, PTE_P | PTE_W | PTE_U | PTE_PS | 0x400000);
        m.watch = entry_at(1);
        m.show = SHOW_MEM;
        run(text("paging/dirty-large/%s", k->name), "ok mem=4000e7");
    }
    begin_access(k, 3, WRITE);         /* a refused write: no D */
    set_entry(0, (get_entry(0) & ~2ull) | PTE_A);
    m.watch = entry_at(0);
    m.show = SHOW_MEM;
    run(text("paging/no-dirty/%s", k->name), text("PF(7) mem=%x", (u64)(TEST_PAGE | 5 | PTE_A)));
}

static void write_pkru(u32 value)
{
    u64 cr4;
    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    __asm__ volatile("mov %0, %%cr4" : : "r"(cr4 | CR4_PKE));
    __asm__ volatile("wrpkru" : : "a"(value), "c"(0), "d"(0));
    __asm__ volatile("mov %0, %%cr4" : : "r"(cr4));
}

/* Keys: of user pages by PKRU, of supervisor pages by IA32_PKRS. */
static void keys(void)
{
    for (unsigned i = 0; i < 2 * 4 * 2 * 2 * 2 * 3; i++) {
        unsigned rest = i;
        unsigned supervisor = rest % 2, rights_ = rest / 2 % 4;
        rest /= 8;
        unsigned ring = rest % 2 ? 3 : 0, wp = rest / 2 % 2, enabled = rest / 4 % 2;
        enum access access = (enum access)(rest / 8);
        begin(LONG, ring);
        need(supervisor ? HAS_PKS : HAS_PKU);
        poke16(TEST_PAGE, 0x0b0f);
        m.target = test_la();
        L.gpr[DI] = m.target;
        code(access_code[access]);
        u64 value = TEST_PAGE | PTE_P | PTE_W | (supervisor ? 0 : PTE_U) | 5ull << 59;
        poke64(TEST_PT + 8 * 5, value);
        if (!wp)
            L.cr0 &= ~CR0_WP;
        if (enabled)
            L.cr4 |= supervisor ? CR4_PKS : CR4_PKE;
        if (!m.skip) {
            if (supervisor)
                write_msr(0x6e1, (u64)rights_ << 10);
            else
                write_pkru(rights_ << 10);
        }
        u32 error = (access == WRITE ? 2 : 0) | (ring ? 4 : 0);
        const char *expect = allowed(access);
        if (supervisor && ring)
            expect = fault(access, error | 1);
        else if (enabled && access != EXECUTE && ((rights_ & 1) || (access == WRITE && rights_ & 2 && (ring || wp))))
            expect = fault(access, error | 0x21);
        run(text("paging/%s-key%d-%s-wp%d-%s/long-%d", supervisor ? "pks" : "pku", rights_, enabled ? "on" : "off", wp, access_names[access], ring), expect);
        if (!m.skip && !supervisor)
            write_pkru(0);
    }
    if (HAS_PKS)
        write_msr(0x6e1, 0);
}

static void implicit(void)
{
    /* Accesses of the processor's own are supervisor accesses, at ring 3 too; SMAP does not ask for AC. */
    for (unsigned i = 0; i < 8; i++) {
        bool user = i & 1, smap = i >> 1 & 1, ac = i >> 2;
        begin(LONG, 3);
        need(!smap || HAS_SMAP);
        segment(LDT, 8, 0, 0xfffff, A_DATA | DPL(3), F_G | F_D);
        set_pte(LDT, pte(LDT) | (user ? PTE_U : 0));
        L.cr4 |= smap ? CR4_SMAP : 0;
        L.rflags |= ac ? FL_AC : 0;
        L.gpr[CX] = 0x0f;
        code("8e d9");
        m.target = LDT + 8;
        run(text("paging/implicit-descriptor-user%d-smap%d-ac%d/long-3", user, smap, ac), user && smap ? "PF(1)" : "ok");
    }
    begin(LONG, 3);                    /* a descriptor that is not there */
    set_pte(LDT, 0);
    L.gpr[CX] = 0x0f;
    m.target = LDT + 8;
    code("8e d9");
    run("paging/descriptor-absent/long-3", "PF(0)");
    begin(LONG, 3);                    /* setting its accessed bit is a supervisor write */
    segment(LDT, 8, 0, 0xfffff, 0xf2, F_G | F_D);
    set_pte(LDT, pte(LDT) & ~2ull);
    L.gpr[CX] = 0x0f;
    code("8e d9");
    m.target = LDT + 8;
    run("paging/descriptor-read-only/long-3", "PF(3) cr2=2100d");
    begin(LONG, 3);                    /* an operand across two pages: the address is the second page's */
    set_pte(DATA + 0x1000, 0);
    L.gpr[DI] = DATA + 0xffe;
    m.target = DATA + 0x1000;
    code("8b 1f");
    run("paging/split-read/long-3", "PF(4)");
    begin(LONG, 3);
    set_pte(DATA + 0x1000, pte(DATA + 0x1000) & ~2ull);
    L.gpr[DI] = DATA + 0xffe;
    m.target = DATA + 0x1000;
    m.watch = DATA + 0xffc;
    m.show = SHOW_MEM;
    L.gpr[BX] = 0x12345678;
    code("89 1f");
    run("paging/split-write/long-3", "PF(7) mem=0");
    begin(LONG, 3);                    /* an instruction across two pages */
    set_pte(CODE + 0x1000, 0);
    L.rip = CODE + 0xffe;
    poke16(CODE + 0xffe, 0x00b8);
    m.target = CODE + 0x1000;
    run("paging/split-fetch/long-3", "PF(4)@10ffe");
}

void cases_paging(void)
{
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        rights(&kinds[i]);
        reserved_bits(&kinds[i]);
        accessed_dirty(&kinds[i]);
    }
    keys();
    implicit();
}
