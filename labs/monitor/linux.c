/*
 * linux: a bzImage, an initrd and a command line by the Linux boot protocol.
 *
 * Follows Documentation/arch/x86/boot.rst, "64-bit Boot Protocol" (Linux).
 */
#include <string.h>
#include <unistd.h>
#include <asm/bootparam.h>

#include "monitor.h"

static void e820_add(struct boot_params *zero_page, uint64_t from_gpa, uint64_t to_gpa)
{
    struct boot_e820_entry entry = {.addr = from_gpa, .size = to_gpa - from_gpa, .type = 1 /* RAM */};
    zero_page->e820_table[zero_page->e820_entries++] = entry;
}

/*
 * Loads a bzImage, an initrd (may be NULL) and the command line, and fills in the zero page.
 *
 * The kernel goes to the address that it prefers: it then unpacks itself in place, and need not apply its relocations.
 */
void linux_load(struct guest *guest, const struct options *options)
{
    uint64_t file_size;
    int fd = file_open(options->kernel, &file_size);
    struct boot_params *zero_page = (struct boot_params *)(guest->memory + GPA_ZERO_PAGE);
    struct setup_header *header = &zero_page->hdr;
    memset(zero_page, 0, sizeof *zero_page);
    if (file_size < 4096)
        die(1, "%s: too short for a Linux kernel", options->kernel);
    file_read(fd, options->kernel, offsetof(struct boot_params, hdr), header, sizeof *header);
    if (header->boot_flag != 0xaa55 || header->header != 0x53726448 /* "HdrS" */)
        die(1, "%s: not a bzImage (no \"HdrS\" at 0x202)", options->kernel);
    /* The jump at 0x200 says where this kernel's header ends; what follows is set-up code, no fields. */
    size_t header_size = header->jump >> 8 & 0xff;
    header_size += 0x202 - offsetof(struct boot_params, hdr);
    if (header_size < sizeof *header)
        memset((uint8_t *)header + header_size, 0, sizeof *header - header_size);
    if (header->version < 0x20c || !(header->xloadflags & XLF_KERNEL_64))
        die(1, "%s: has no 64-bit entry point (boot protocol %x.%02x)", options->kernel, header->version >> 8,
            header->version & 0xff);

    uint64_t setup_size = ((header->setup_sects ? header->setup_sects : 4) + 1) * 512ull;
    uint64_t kernel_gpa = header->pref_address;
    uint64_t end_gpa = kernel_gpa + header->init_size;
    if (setup_size >= file_size || end_gpa > guest->size || kernel_gpa < MIB || file_size > header->init_size)
        die(1, "%s: needs %llu MiB of memory; the guest has %llu", options->kernel,
            (unsigned long long)(end_gpa / MIB + 1), (unsigned long long)(guest->size / MIB));
    file_read(fd, options->kernel, setup_size, guest->memory + kernel_gpa, file_size - setup_size);
    close(fd);
    guest->entry_gpa = kernel_gpa + 0x200;

    if (options->initrd) {
        uint64_t size;
        fd = file_open(options->initrd, &size);
        uint64_t initrd_gpa = guest->size > size ? (guest->size - size) & ~0xfffull : 0;
        if (initrd_gpa < end_gpa)
            die(1, "%s: %llu KiB do not fit above the kernel in %llu MiB", options->initrd,
                (unsigned long long)(size / 1024), (unsigned long long)(guest->size / MIB));
        file_read(fd, options->initrd, 0, guest->memory + initrd_gpa, size);
        close(fd);
        header->ramdisk_image = initrd_gpa;
        header->ramdisk_size = size;
    }

    size_t length = strlen(options->append);
    if (length > COMMAND_LINE_MAX)
        die(1, "--append: longer than %d characters", COMMAND_LINE_MAX);
    memcpy(guest->memory + GPA_COMMAND_LINE, options->append, length + 1);
    header->cmd_line_ptr = GPA_COMMAND_LINE;
    header->type_of_loader = 0xff; /* one without a number of its own */
    header->loadflags |= LOADED_HIGH;
    e820_add(zero_page, 0, GPA_LOW_END);
    e820_add(zero_page, MIB, guest->size);
}
