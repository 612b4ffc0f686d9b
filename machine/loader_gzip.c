/* gzip'd kernels (Xen's is one): unpacked before their format is looked at. The size is bounded by the machine's RAM, so
 * that a small file cannot ask for all memory of the host.
 */
#include "machine/loader.h"

#include <stdlib.h>

#ifdef NESTOR_HAVE_ZLIB
#include <zlib.h>

/* Inflates all members of the file into a growing buffer. */
static const char *inflate_image(const struct image *in, struct image *out, u64 limit)
{
    z_stream z = {.next_in = in->data};
    u64 taken = 0, capacity = in->size * 4 + 65536;
    if (inflateInit2(&z, 15 + 16) != Z_OK)
        return "the host has not enough memory";
    const char *error = NULL;
    if (capacity > limit)
        capacity = limit;
    out->data = malloc(capacity ? capacity : 1);
    if (!out->data)
        error = "the host has not enough memory";
    while (!error) {
        if (z.avail_in == 0 && taken < in->size) {
            u64 part = in->size - taken < BIT(30) ? in->size - taken : BIT(30);
            z.next_in = in->data + taken;
            z.avail_in = (unsigned)part;
            taken += part;
        }
        u64 space = capacity - out->size < BIT(30) ? capacity - out->size : BIT(30);
        z.next_out = out->data + out->size;
        z.avail_out = (unsigned)space;
        int status = inflate(&z, Z_NO_FLUSH);
        out->size += space - z.avail_out;
        if (status == Z_STREAM_END) {
            break;
        } else if (status != Z_OK && status != Z_BUF_ERROR) {
            error = "the gzip data is damaged";
        } else if (out->size == capacity) {
            if (capacity == limit) {
                error = "unpacked it is larger than the machine's memory";
                break;
            }
            capacity = capacity * 2 < limit ? capacity * 2 : limit;
            u8 *grown = realloc(out->data, capacity);
            if (grown)
                out->data = grown;
            else
                error = "the host has not enough memory";
        } else if (status == Z_BUF_ERROR && z.avail_in == 0 && taken == in->size) {
            error = "the gzip data ends too soon";
        }
    }
    inflateEnd(&z);
    return error;
}
#else
static const char *inflate_image(const struct image *in, struct image *out, u64 limit)
{
    (void)in, (void)out, (void)limit;
    return "it is gzip'd and this nestor was built without zlib";
}
#endif

bool loader_gunzip(const struct image *in, struct image *out, u64 limit, char *message, size_t message_size)
{
    *out = (struct image){0};
    const char *error = loader_is_gzip(in) ? inflate_image(in, out, limit) : "not gzip data";
    if (!error) {
        out->name = malloc(strlen(in->name) + 1);
        if (out->name)
            strcpy(out->name, in->name);
        else
            error = "the host has not enough memory";
    }
    if (!error)
        return true;
    hostio_free_image(out);
    return hostio_error(message, message_size, "kernel %s: %s", in->name, error);
}
