/* The machine's state in named sections: what is hashed, compared and told apart by name.
 *
 * A section is a struct of plain data and the list of its members (machine/sections.c); wiring (pointers, timer numbers) is
 * not in it. Hashes go over the listed members only, so that padding and wiring never count. tests/machine/test_sections.c
 * fails when a member is added to a struct and not to its list.
 *
 * Equal hashes of all sections mean: the same state of the machine, and the same bytes sent to the outside so far.
 */
#ifndef NESTOR_MACHINE_SECTIONS_H
#define NESTOR_MACHINE_SECTIONS_H

#include "machine/machine.h"

struct section_member {
    const char *name;
    u32 offset, size;                  /* bytes in the section's struct */
    u32 align;                         /* alignment of its type */
};

struct section {
    char name[24];                     /* "cpu0.core", "uart", "memory" … */
    const u8 *base;
    const struct section_member *member;   /* NULL: bytes without names (memory) */
    unsigned members;
    u64 size;                          /* bytes at base; of the struct up to its wiring */
};

/* Puts the lazy parts of the state (status flags) into their canonical form; does not change what software sees. Before
 * hashing or comparing, while no vCPU runs. */
void sections_settle(struct machine *m);

/* The n-th section, from 0. False: there are no more. Memory is the last one. */
bool section_get(const struct machine *m, unsigned n, struct section *s);

u64 section_hash(const struct section *s);

/* A hash of all sections; `memory` false leaves RAM out (it takes a tenth of a second for each GiB). Settles first. */
u64 sections_hash(struct machine *m, bool memory);

/* Compares two machines of the same configuration. True when equal; otherwise `text` says which section and member differs
 * first, with both values: "cpu0.core.r+8: 0000000000000001 | 0000000000000002". Settles both first. */
bool sections_equal(struct machine *a, struct machine *b, bool memory, char *text, size_t text_size);

#endif
