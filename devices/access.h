/* Helpers for bus_ops callbacks: devices whose registers are bytes (most of the ISA ones) see a wider access as the bus
 * of a PC delivers it, as a row of byte accesses at rising addresses. Devices of 32-bit registers (HPET, LAPIC …) get
 * narrower and wider accesses cut out of, or assembled from, whole registers.
 */
#ifndef NESTOR_DEVICES_ACCESS_H
#define NESTOR_DEVICES_ACCESS_H

#include "cpu/base.h"

/* Reads `size` bytes at `off` one by one through `read8`. */
static inline u64 access_read_bytes(u8 (*read8)(void *dev, u64 off), void *dev, u64 off, unsigned size)
{
    u64 value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (u64)read8(dev, off + i) << (8 * i);
    return value;
}

/* Writes `size` bytes at `off` one by one through `write8`. */
static inline void access_write_bytes(void (*write8)(void *dev, u64 off, u8 value), void *dev, u64 off, unsigned size,
                                      u64 value)
{
    for (unsigned i = 0; i < size; i++)
        write8(dev, off + i, (u8)(value >> (8 * i)));
}

/* The bytes [at, at + size) of a register of `whole` bytes as a value; bytes past the register read as 0. */
static inline u64 access_extract(u64 reg, unsigned at, unsigned size)
{
    return at >= 8 ? 0 : (reg >> (8 * at)) & mask_low(8 * size);
}

/* `reg` with the bytes [at, at + size) replaced by the low bytes of `value`; bytes past 8 vanish. */
static inline u64 access_insert(u64 reg, unsigned at, unsigned size, u64 value)
{
    if (at >= 8)
        return reg;
    u64 mask = mask_low(8 * size) << (8 * at);
    return (reg & ~mask) | ((value << (8 * at)) & mask);
}

#endif
