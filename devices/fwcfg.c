/* fw_cfg: an array of items, a selector, an offset; and DMA. */
#include "devices/fwcfg.h"
#include "devices/access.h"

enum { DMA_ERROR = 1, DMA_READ = 2, DMA_SKIP = 4, DMA_SELECT = 8, DMA_WRITE = 16 };
enum { SELECTOR_WRITE = 0x4000 };

static const char dma_signature[8] = {'Q', 'E', 'M', 'U', ' ', 'C', 'F', 'G'};

static struct fwcfg_item *find(struct fwcfg *fw, u16 key)
{
    for (unsigned i = 0; i < fw->items; i++)
        if (fw->item[i].key == key)
            return &fw->item[i];
    return NULL;
}

static struct fwcfg_item *find_or_add(struct fwcfg *fw, u16 key)
{
    struct fwcfg_item *item = find(fw, key);
    if (item || fw->items == FWCFG_ITEMS)
        return item;
    item = &fw->item[fw->items++];
    memset(item, 0, sizeof *item);
    item->key = key;
    return item;
}

bool fwcfg_add_bytes(struct fwcfg *fw, u16 key, const void *data, u32 size)
{
    struct fwcfg_item *item = find_or_add(fw, key);
    if (!item)
        return false;
    item->data = data;
    item->size = data ? size : 0;
    return true;
}

bool fwcfg_add_int(struct fwcfg *fw, u16 key, u64 value, unsigned size)
{
    struct fwcfg_item *item = find_or_add(fw, key);
    if (!item || size > 8)
        return false;
    item->data = NULL;
    item->size = size;
    store64(item->small, value);
    return true;
}

bool fwcfg_add_file(struct fwcfg *fw, const char *name, const void *data, u32 size)
{
    size_t length = strlen(name);
    if (fw->files == FWCFG_FILES || length >= FWCFG_NAME)
        return false;
    u16 key = (u16)(FWCFG_FIRST_FILE + fw->files);
    if (!fwcfg_add_bytes(fw, key, data, size))
        return false;
    u8 *entry = &fw->directory[4 + 64 * fw->files++];
    memset(entry, 0, 64);
    store32(entry, __builtin_bswap32(size));
    store16(entry + 4, __builtin_bswap16(key));
    memcpy(entry + 8, name, length);
    store32(fw->directory, __builtin_bswap32(fw->files));
    return fwcfg_add_bytes(fw, FWCFG_FILE_DIR, fw->directory, 4 + 64 * fw->files);
}

static void select(struct fwcfg *fw, u16 selector)
{
    fw->selector = selector & (u16)~SELECTOR_WRITE;
    fw->offset = 0;
}

/* Gives the next `n` bytes that are in the item, at most `limit` of them, and moves on; NULL behind its end. */
static const u8 *next_bytes(struct fwcfg *fw, u32 limit, u32 *n)
{
    struct fwcfg_item *item = find(fw, fw->selector);
    if (!item || fw->offset >= item->size)
        return NULL;
    u32 left = item->size - fw->offset;
    *n = left < limit ? left : limit;
    const u8 *at = (item->data ? item->data : item->small) + fw->offset;
    fw->offset += *n;
    return at;
}

static u64 data_read(void *dev, unsigned cpu, u64 off, unsigned size)
{
    (void)cpu;
    u64 value = 0;
    for (unsigned i = 0; i < size; i++) {
        u32 n = 0;
        const u8 *byte = off + i == 1 ? next_bytes(dev, 1, &n) : NULL;
        if (byte)
            value |= (u64)*byte << (8 * i);
    }
    return value;
}

static void data_write(void *dev, unsigned cpu, u64 off, unsigned size, u64 value)
{
    (void)cpu;
    /* The selector is 16 bits at 0x510; writes to the data port were taken out of the interface. */
    if (off == 0)
        select(dev, (u16)(value & mask_low(8 * size)));
}

/* Zero-fills `n` bytes of RAM at hpa. */
static bool fill_zeros(struct bus *bus, u64 hpa, u32 n)
{
    static const u8 zeros[PAGE_SIZE];
    while (n) {
        u32 part = n < PAGE_SIZE ? n : PAGE_SIZE;
        if (!bus_copy_to(bus, hpa, zeros, part))
            return false;
        hpa += part;
        n -= part;
    }
    return true;
}

/* Carries out the request whose descriptor lies at `hpa`: control, length, address, all big-endian. */
static void run_dma(struct fwcfg *fw, u64 hpa)
{
    u8 request[16];
    if (!bus_copy_from(fw->bus, request, hpa, sizeof request))
        return;
    u32 control = __builtin_bswap32(load32(request)), length = __builtin_bswap32(load32(request + 4));
    u64 to = __builtin_bswap64(load64(request + 8));
    bool failed = false;
    if (control & DMA_SELECT)
        select(fw, (u16)(control >> 16));
    if (control & DMA_READ) {
        u32 n = 0;
        const u8 *bytes = next_bytes(fw, length, &n);
        if (bytes)
            failed = !bus_copy_to(fw->bus, to, bytes, n);
        failed = failed || !fill_zeros(fw->bus, to + n, length - n);
    } else if (control & DMA_WRITE) {
        failed = true; /* no item is writable */
    } else if (control & DMA_SKIP) {
        u32 n = 0;
        next_bytes(fw, length, &n);
    }
    u32 status = failed ? __builtin_bswap32(DMA_ERROR) : 0;
    bus_copy_to(fw->bus, hpa, &status, 4);
}

static u64 dma_read(void *dev, unsigned cpu, u64 off, unsigned size)
{
    (void)dev, (void)cpu;
    u64 value = 0;
    for (unsigned i = 0; i < size && off + i < 8; i++)
        value |= (u64)(u8)dma_signature[off + i] << (8 * i);
    return value;
}

static void dma_write(void *dev, unsigned cpu, u64 off, unsigned size, u64 value)
{
    struct fwcfg *fw = dev;
    (void)cpu;
    for (unsigned i = 0; i < size && off + i < 8; i++)
        fw->dma_address[off + i] = (u8)(value >> (8 * i));
    /* The last byte of the low half starts the transfer. */
    if (off + size >= 8) {
        u64 hpa = __builtin_bswap64(load64(fw->dma_address));
        memset(fw->dma_address, 0, sizeof fw->dma_address);
        run_dma(fw, hpa);
    }
}

const struct bus_ops fwcfg_data_ops = {.read = data_read, .write = data_write};
const struct bus_ops fwcfg_dma_ops = {.read = dma_read, .write = dma_write};

void fwcfg_reset(struct fwcfg *fw)
{
    select(fw, 0);
    memset(fw->dma_address, 0, sizeof fw->dma_address);
}

void fwcfg_init(struct fwcfg *fw, struct bus *bus)
{
    memset(fw, 0, sizeof *fw);
    fw->bus = bus;
    fwcfg_add_bytes(fw, FWCFG_SIGNATURE, "QEMU", 4);
    fwcfg_add_int(fw, FWCFG_ID, 3, 4); /* the port interface and DMA */
    fwcfg_add_bytes(fw, FWCFG_FILE_DIR, fw->directory, 4);
}
