/* Page tables and EPTs full of noise, in every mode and up to four frames deep: nothing breaks, whatever a guest builds, and what
 * translates does so in the same way for peeking, for a first access and for one from the caches. */
#include "tests/mmu/rig.h"

static u64 x = 88172645463325252ull;
static u64 noise(void)
{
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    return x * 0x2545f4914f6cdd1dull;
}

/* Memory whose words are plausible entries, pointing into its first SPAN bytes. The more frames have to agree, the rarer the odd ones. */
#define SPAN 0x40000ull
#define PAGES (SPAN - 0x1000)
static void fill(unsigned depth)
{
    bool dressed = depth && noise() & 1;       /* what EPT entries say beside rights is everywhere */
    for (u64 at = 0; at < SPAN; at += 8) {
        u64 r = noise(), entry = (r & PAGES) | (r >> 20 & 0xf07) | 7;
        if (dressed) {
            u64 beside = noise();
            entry |= (beside & 3) << 57 | (beside >> 2 & 3) << 60;
            entry &= (beside >> 8 & 7) == 0 ? ~2ull : ~0ull;
        }
        if ((noise() & mask_low(4 + 3 * depth)) == 0) {
            switch (r >> 56 & 15) {
            case 0: entry = r; break;
            case 1: entry &= ~(r >> 40 & 7); break;
            case 2: entry |= 0x80; break;
            case 3: entry |= NX; break;
            case 4: entry |= r & 0xff0000000; break;
            case 5: entry |= r & 0x78; break;
            case 6: entry &= ~2ull; break;
            case 7: entry &= ~1ull; break;
            case 8: entry |= BIT(11); break;             /* restarts */
            case 9: entry = r & 0x5555555555555555; break;   /* sub-pages */
            default: entry |= (entry & ~0x1ff000ull) | 0x80 | 6 << 3; break; /* a large page */
            }
        }
        store64(bus.ram + at, entry);
    }
}

static void frames(unsigned depth)
{
    for (unsigned k = 0; k < depth; k++) {
        struct vmcs *v = &cpu->vmx.frame[k].vmcs;
        u64 r = noise();
        u64 t = noise();
        v->primary_controls = 1u << 31 | (t & 1 ? 1u << 17 : 0);
        v->tertiary_controls = t >> 8 & 0xe;
        v->hlat_pointer = t >> 20 & PAGES;
        v->hlat_prefix_size = t >> 60 & 1;
        v->sub_page_permission_table_pointer = t >> 24 & PAGES;
        v->secondary_controls = (r & 7 ? 2 : 0) | (t & 4 ? 1u << 23 : 0) | (r & 0x40000020) | ((r >> 8 & 3) == 0 ? 1u << 17 : 0) |
                                ((r >> 10 & 3) == 0 ? 1u << 22 : 0) | ((r >> 12 & 7) == 0 ? 1u : 0);
        v->ept_pointer = (r >> 20 & PAGES) | ((r >> 16 & 3) == 0 ? 4 << 3 : 3 << 3) | (r >> 17 & 1) << 6 | (t >> 5 & 1) << 7 | 6;
        v->virtual_processor_identifier = (r >> 40 & 3) + 1;
        v->apic_access_address = r >> 24 & PAGES;
        v->pml_address = r >> 28 & PAGES;
        v->pml_index = r >> 48 & 0x3ff;
    }
}

static unsigned sub_pages, verifications, shadow_pages, managed;      /* faults by what only some entries bring about */
static void fault_is_sane(unsigned depth)
{
    const struct mem_fault *f = &cpu->fault;
    sub_pages += f->kind == FAULT_SPP;
    verifications += f->kind == FAULT_EPT_VIOLATION && f->qualification >> 15 & 1;
    shadow_pages += f->kind == FAULT_EPT_VIOLATION && f->qualification >> 14 & 1;
    managed += f->kind == FAULT_PAGE && f->error >> 7 & 1;
    switch (f->kind) {
    case FAULT_PAGE:
        ck_assert_uint_eq(f->error & ~0xffull, 0);
        break;
    case FAULT_EPT_VIOLATION:
        ck_assert_uint_lt(f->frame, depth);
        ck_assert_uint_ne(f->qualification & 7, 0);
        ck_assert(f->frame == depth - 1 || !(f->qualification & 0x180));
        break;
    case FAULT_EPT_MISCONFIG:
    case FAULT_EPT_LOG_FULL:
    case FAULT_SPP:
    case FAULT_APIC_ACCESS:
        ck_assert_uint_lt(f->frame, depth);
        break;
    default:
        ck_assert_msg(f->kind == FAULT_NONCANONICAL, "fault %u", f->kind);
    }
}

START_TEST(noise_everywhere)
{
    unsigned translated[5] = {0};
    for (unsigned round = 0; round < 300; round++) {
        unsigned depth = round % 5, mode = (unsigned)(noise() % 5);
        if (round % 3 == 0)
            fill(depth);
        cpu->vmx.depth = 0;
        cpu->sys.cr0 = cpu->sys.cr4 = cpu->sys.efer = 0;
        rig_mode(PAGING_NONE, 0);
        frames(depth);
        u64 r = noise();
        cpu->sys.cr0 = r & CR0_WP;
        cpu->sys.cr4 = r >> 8 & (CR4_PSE | CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_PGE);
        cpu->sys.efer = r & EFER_NXE;
        cpu->sys.cr3 = r >> 24 & PAGES;
        cpu->sys.pkru = noise() & noise() & noise();
        cpu->mode.pa_bits = 40 + (r >> 60);
        for (unsigned i = 0; i < 4; i++)
            cpu->sys.pdpte[i] = (noise() & PAGES) | 1;
        cpu->vmx.depth = depth;
        rig_mode(mode, r >> 56 & 1 ? 3 : 0);
        tlb_flush_everything(cpu);
        for (unsigned i = 0; i < 100; i++) {
            u64 la = noise();
            la = (la & 0xfff) | (la >> 12 & 3) << 12 | (la >> 14 & 3) << 21 | (la >> 16 & 3) << 30 | (la >> 18 & 3) << 39 |
                 (la >> 20 & 3 ? 0 : mode == PAGING_4LEVEL ? ~mask_low(47) : ~mask_low(56));
            u64 hpa = 0, value, again;
            cpu->fault = (struct mem_fault){0};
            u8 byte;
            bool peeked = mem_peek_translate(cpu, la, &hpa), read = mem_read8(cpu, la, &byte);
            if (!read)
                fault_is_sane(depth);
            else if (peeked) { /* flags set on the way may change the very tables that are walked: compare what was not touched */
                u64 hpa2 = 0;
                if (mem_peek_translate(cpu, la, &hpa2) && hpa == hpa2 && hpa < RIG_RAM && hpa >= SPAN)
                    ck_assert_uint_eq(byte, bus_read(&bus, 0, hpa, 1));
                translated[depth]++;
            }
            if (mem_read64(cpu, la, &value) && mem_read64(cpu, la, &again) && (la & 0xfff) <= 0xff8)
                ck_assert_uint_eq(value, again);
            cpu->fault = (struct mem_fault){0};
            if (noise() & 1 && !mem_write64(cpu, la, noise() & ~1ull))
                fault_is_sane(depth);
            cpu->fault = (struct mem_fault){0};
            if (!mem_probe(cpu, la & ~7ull, 8, ACCESS_SHADOW_STACK | (noise() & 1 ? ACCESS_WRITE : 0)))
                fault_is_sane(depth);
            cpu->fault = (struct mem_fault){0};
            const u8 *host;
            u64 off;
            if (!mem_fetch_page(cpu, la, &host, &off))
                fault_is_sane(depth);
            else if (host)
                ck_assert_uint_lt(off, bus.memory_size);
            if (mode == PAGING_PAE && (noise() & 15) == 0)
                mem_load_pdptes(cpu, noise() & (SPAN - 32));
        }
    }
    /* The noise is of the right kind. */
    for (unsigned depth = 0; depth < 5; depth++)
        ck_assert_msg(translated[depth] > 100, "depth %u: %u", depth, translated[depth]);
    ck_assert_msg(sub_pages && verifications && shadow_pages && managed, "%u %u %u %u", sub_pages, verifications, shadow_pages, managed);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {noise_everywhere};
    return rig_run("fuzz", tests, ARRAY_SIZE(tests));
}
