/* The fw_cfg device: how firmware and test kernels learn about the board and get files from outside (ports 0x510,
 * 0x511, DMA interface at 0x514).
 *
 * Items are bytes that the machine adds before it starts; they stay where they are (nothing is copied but integers), so
 * the caller keeps them alive as long as the device.
 *
 * Kept true: reading past an item's end gives zeros; a DMA request that touches anything but RAM ends with the error
 * bit and transfers nothing more.
 *
 * Source: the fw_cfg specification published by the QEMU project.
 */
#ifndef NESTOR_DEVICES_FWCFG_H
#define NESTOR_DEVICES_FWCFG_H

#include "cpu/base.h"
#include "mmu/bus.h"

#define FWCFG_ITEMS 96
#define FWCFG_FILES 48
#define FWCFG_NAME 56

enum fwcfg_key {
    FWCFG_SIGNATURE = 0x00, FWCFG_ID = 0x01, FWCFG_UUID = 0x02, FWCFG_RAM_SIZE = 0x03, FWCFG_NOGRAPHIC = 0x04,
    FWCFG_NB_CPUS = 0x05, FWCFG_KERNEL_ADDR = 0x07, FWCFG_KERNEL_SIZE = 0x08, FWCFG_INITRD_ADDR = 0x0a,
    FWCFG_INITRD_SIZE = 0x0b, FWCFG_BOOT_DEVICE = 0x0c, FWCFG_BOOT_MENU = 0x0e, FWCFG_MAX_CPUS = 0x0f,
    FWCFG_KERNEL_ENTRY = 0x10, FWCFG_KERNEL_DATA = 0x11, FWCFG_INITRD_DATA = 0x12, FWCFG_CMDLINE_ADDR = 0x13,
    FWCFG_CMDLINE_SIZE = 0x14, FWCFG_CMDLINE_DATA = 0x15, FWCFG_SETUP_ADDR = 0x16, FWCFG_SETUP_SIZE = 0x17,
    FWCFG_SETUP_DATA = 0x18, FWCFG_FILE_DIR = 0x19, FWCFG_FIRST_FILE = 0x20,
};

struct fwcfg_item {
    u16 key;
    u32 size;
    u8 small[8];        /* integers live here */
    const u8 *data;     /* NULL: in `small` */
};

struct fwcfg {
    u16 selector;
    u32 offset;         /* of the next byte in the selected item */
    u8 dma_address[8];  /* big-endian, as written so far */
    /* wiring, and what the machine put in: a guest changes none of it */
    unsigned items, files;
    u8 directory[4 + FWCFG_FILES * 64];
    struct fwcfg_item item[FWCFG_ITEMS];
    struct bus *bus;
};

/* Makes a device that holds the signature, the interface's version and an empty directory. `bus` is where DMA goes. */
void fwcfg_init(struct fwcfg *fw, struct bus *bus);
void fwcfg_reset(struct fwcfg *fw);
/* Adds (or replaces) an item. False when there is no room. */
bool fwcfg_add_bytes(struct fwcfg *fw, u16 key, const void *data, u32 size);
/* The same for a little-endian integer of `size` 2, 4 or 8 bytes. */
bool fwcfg_add_int(struct fwcfg *fw, u16 key, u64 value, unsigned size);
/* Adds a named file ("etc/e820", "opt/…"; at most 55 characters). False when there is no room or the name is too long. */
bool fwcfg_add_file(struct fwcfg *fw, const char *name, const void *data, u32 size);

/* dev = the struct fwcfg. data: ports 0x510-0x511; dma: ports 0x514-0x51b. */
extern const struct bus_ops fwcfg_data_ops, fwcfg_dma_ops;

#endif
