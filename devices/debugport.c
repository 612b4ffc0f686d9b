/* Debug consoles, debug exit and POST port: no state but the latched POST code. */
#include "devices/debugport.h"

static u64 console_read(void *dev, unsigned cpu, u64 off, unsigned size)
{
    (void)dev, (void)cpu, (void)off;
    return 0xe9e9e9e9u & mask_low(8 * size);
}

static void put(struct debugport *port, enum host_stream stream, unsigned size, u64 value)
{
    for (unsigned i = 0; i < size; i++)
        port->host->put(port->host->arg, stream, (u8)(value >> (8 * i)));
}

static void e9_write(void *dev, unsigned cpu, u64 off, unsigned size, u64 value)
{
    (void)cpu, (void)off;
    put(dev, HOST_DEBUG_E9, size, value);
}

static void p402_write(void *dev, unsigned cpu, u64 off, unsigned size, u64 value)
{
    (void)cpu, (void)off;
    put(dev, HOST_DEBUG_402, size, value);
}

static u64 exit_read(void *dev, unsigned cpu, u64 off, unsigned size)
{
    (void)dev, (void)cpu, (void)off, (void)size;
    return 0;
}

static void exit_write(void *dev, unsigned cpu, u64 off, unsigned size, u64 value)
{
    struct debugport *port = dev;
    (void)cpu, (void)off;
    port->host->debug_exit(port->host->arg, ((u32)(value & mask_low(8 * size)) << 1) | 1);
}

static u64 post_read(void *dev, unsigned cpu, u64 off, unsigned size)
{
    (void)cpu, (void)off, (void)size;
    return ((struct debugport *)dev)->post;
}

static void post_write(void *dev, unsigned cpu, u64 off, unsigned size, u64 value)
{
    (void)cpu, (void)off, (void)size;
    ((struct debugport *)dev)->post = (u8)value;
}

const struct bus_ops debugport_e9_ops = {.read = console_read, .write = e9_write};
const struct bus_ops debugport_402_ops = {.read = console_read, .write = p402_write};
const struct bus_ops debugport_exit_ops = {.read = exit_read, .write = exit_write};
const struct bus_ops debugport_post_ops = {.read = post_read, .write = post_write};

void debugport_reset(struct debugport *port) { port->post = 0; }

void debugport_init(struct debugport *port, const struct host *host)
{
    memset(port, 0, sizeof *port);
    port->host = host;
}
