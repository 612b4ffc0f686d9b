/* The keyboard controller and what is plugged into it. Bytes travel: device queue -> (translation) -> output buffer. */
#include "devices/i8042.h"

enum { CFG_KEYBOARD_INT = 1, CFG_MOUSE_INT = 2, CFG_SYSTEM = 4, CFG_NO_KEYBOARD = 0x10, CFG_NO_MOUSE = 0x20,
       CFG_TRANSLATE = 0x40 };
enum { STATUS_FULL = 1, STATUS_SYSTEM = 4, STATUS_COMMAND = 8, STATUS_UNLOCKED = 0x10, STATUS_AUX = 0x20 };
enum { ACK = 0xfa, RESEND = 0xfe, SELF_TEST_OK = 0xaa };

/* ---- Queues ---- */

static bool push(struct i8042_queue *q, u8 byte)
{
    if (q->count == I8042_QUEUE)
        return false;
    q->byte[(q->first + q->count++) % I8042_QUEUE] = byte;
    return true;
}

static u8 pop(struct i8042_queue *q)
{
    u8 byte = q->byte[q->first];
    q->first = (q->first + 1) % I8042_QUEUE;
    q->count--;
    return byte;
}

static void clear(struct i8042_queue *q) { q->first = q->count = 0; }

/* ---- Scan codes ---- */

/* Set 2 make codes by set 1 make code; 0 = no such key. */
static const u8 set2_of[0x80] = {
    /* clang-format off */
    0x00, 0x76, 0x16, 0x1e, 0x26, 0x25, 0x2e, 0x36, 0x3d, 0x3e, 0x46, 0x45, 0x4e, 0x55, 0x66, 0x0d,
    0x15, 0x1d, 0x24, 0x2d, 0x2c, 0x35, 0x3c, 0x43, 0x44, 0x4d, 0x54, 0x5b, 0x5a, 0x14, 0x1c, 0x1b,
    0x23, 0x2b, 0x34, 0x33, 0x3b, 0x42, 0x4b, 0x4c, 0x52, 0x0e, 0x12, 0x5d, 0x1a, 0x22, 0x21, 0x2a,
    0x32, 0x31, 0x3a, 0x41, 0x49, 0x4a, 0x59, 0x7c, 0x11, 0x29, 0x58, 0x05, 0x06, 0x04, 0x0c, 0x03,
    0x0b, 0x83, 0x0a, 0x01, 0x09, 0x77, 0x7e, 0x6c, 0x75, 0x7d, 0x7b, 0x6b, 0x73, 0x74, 0x79, 0x69,
    0x72, 0x7a, 0x70, 0x71, 0x84, 0x60, 0x61, 0x78, 0x07, 0x0f, 0x17, 0x1f, 0x27, 0x2f, 0x37, 0x3f,
    0x47, 0x4f, 0x56, 0x5e, 0x08, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38, 0x40, 0x48, 0x50, 0x57, 0x6f,
    0x13, 0x19, 0x39, 0x51, 0x53, 0x5c, 0x5f, 0x62, 0x63, 0x64, 0x65, 0x67, 0x68, 0x6a, 0x6d, 0x6e,
    /* clang-format on */
};

/* The controller's translation of one byte from the keyboard: the inverse of the table, other bytes as they are. */
static u8 translate(u8 byte)
{
    for (unsigned code = 1; code < 0x80; code++)
        if (set2_of[code] == byte)
            return (u8)code;
    return byte;
}

/* ---- The output buffer ---- */

static void update_lines(struct i8042 *c)
{
    irq_set(&c->irq_keyboard, c->full && !c->from_aux && (c->ram[0] & CFG_KEYBOARD_INT));
    irq_set(&c->irq_mouse, c->full && c->from_aux && (c->ram[0] & CFG_MOUSE_INT));
}

static void fill(struct i8042 *c, u8 byte, bool from_aux)
{
    c->output = byte;
    c->full = true;
    c->from_aux = from_aux;
}

/* Moves the next byte that may go into the output buffer: the controller's own, then the keyboard's, then the mouse's. */
static void refill(struct i8042 *c)
{
    if (!c->full && c->reply.count) {
        bool aux = c->reply_aux >> c->reply.first & 1;
        fill(c, pop(&c->reply), aux);
    }
    while (!c->full && c->keyboard.queue.count && !(c->ram[0] & CFG_NO_KEYBOARD)) {
        u8 byte = pop(&c->keyboard.queue);
        c->keyboard.last_sent = byte;
        if (c->ram[0] & CFG_TRANSLATE) {
            if (byte == 0xf0) {
                c->translating_break = true;
                continue;
            }
            byte = translate(byte) | (c->translating_break ? 0x80 : 0);
            c->translating_break = false;
        }
        fill(c, byte, false);
    }
    if (!c->full && c->mouse.queue.count && !(c->ram[0] & CFG_NO_MOUSE))
        fill(c, pop(&c->mouse.queue), true);
    update_lines(c);
}

static void reply(struct i8042 *c, u8 byte, bool aux)
{
    u64 bit = BIT((c->reply.first + c->reply.count) % I8042_QUEUE);
    if (push(&c->reply, byte))
        c->reply_aux = aux ? c->reply_aux | bit : c->reply_aux & ~bit;
}

/* ---- The keyboard ---- */

static void keyboard_defaults(struct i8042_keyboard *k)
{
    k->set = 2;
    k->rate = 0x2b;
    k->command = 0;
}

bool i8042_key(struct i8042 *c, u16 code, bool pressed)
{
    struct i8042_keyboard *k = &c->keyboard;
    u8 set1 = code & 0x7f;
    if (set1 == 0 || !k->scanning || k->queue.count + 3u > I8042_QUEUE)
        return false;
    if (code >> 8 == 0xe0)
        push(&k->queue, 0xe0);
    if (k->set == 1) {
        push(&k->queue, set1 | (pressed ? 0 : 0x80));
    } else {
        if (!pressed)
            push(&k->queue, 0xf0);
        push(&k->queue, set2_of[set1]);
    }
    refill(c);
    return true;
}

static void keyboard_parameter(struct i8042_keyboard *k, u8 byte)
{
    struct i8042_queue *q = &k->queue;
    u8 command = k->command;
    k->command = 0;
    switch (command) {
    case 0xed: /* LEDs */
        k->leds = byte & 7;
        push(q, ACK);
        break;
    case 0xf3: /* typematic rate and delay */
        k->rate = byte & 0x7f;
        push(q, ACK);
        break;
    default: /* 0xf0: scan code set; 0 asks for it */
        if (byte == 0) {
            push(q, ACK);
            push(q, k->set);
        } else if (byte <= 2) {
            k->set = byte;
            push(q, ACK);
        } else {
            push(q, RESEND); /* set 3 is not spoken */
        }
    }
}

static void keyboard_write(struct i8042_keyboard *k, u8 byte)
{
    struct i8042_queue *q = &k->queue;
    /* A byte from 0xed on is a command, even where a parameter is awaited. */
    if (k->command && byte < 0xed) {
        keyboard_parameter(k, byte);
        return;
    }
    k->command = 0;
    switch (byte) {
    case 0xed:
    case 0xf0:
    case 0xf3:
        k->command = byte;
        push(q, ACK);
        break;
    case 0xee: /* echo */
        push(q, 0xee);
        break;
    case 0xf2: /* identify */
        push(q, ACK);
        push(q, 0xab);
        push(q, 0x83);
        break;
    case 0xf4:
        clear(q);
        k->scanning = true;
        push(q, ACK);
        break;
    case 0xf5: /* defaults, scanning off */
    case 0xf6: /* defaults */
        clear(q);
        keyboard_defaults(k);
        k->scanning = byte == 0xf6;
        push(q, ACK);
        break;
    case 0xf7: case 0xf8: case 0xf9: case 0xfa: /* key types of set 3: nothing to set */
        push(q, ACK);
        break;
    case 0xfe:
        push(q, k->last_sent);
        break;
    case 0xff: /* reset and self test */
        clear(q);
        keyboard_defaults(k);
        k->leds = 0;
        k->scanning = true;
        push(q, ACK);
        push(q, SELF_TEST_OK);
        break;
    default:
        push(q, RESEND);
    }
}

/* ---- The mouse ---- */

static void mouse_defaults(struct i8042_mouse *m)
{
    m->rate = 100;
    m->resolution = 2;
    m->scaling = m->remote = m->wrap = m->reporting = false;
    m->command = 0;
    m->dx = m->dy = m->dz = 0;
}

static int clamp(int value, int limit) { return value > limit ? limit : value < -limit ? -limit : value; }

/* Queues one movement packet if the whole of it fits. */
static bool mouse_packet(struct i8042_mouse *m)
{
    if (m->queue.count + 4u > I8042_QUEUE)
        return false;
    int dx = clamp(m->dx, 255), dy = clamp(m->dy, 255), dz = clamp(m->dz, 7);
    push(&m->queue, (u8)(8 | (m->buttons & 7) | (dx < 0) << 4 | (dy < 0) << 5));
    push(&m->queue, (u8)dx);
    push(&m->queue, (u8)dy);
    if (m->id == 3)
        push(&m->queue, (u8)dz);
    m->dx = (i16)(m->dx - dx);
    m->dy = (i16)(m->dy - dy);
    m->dz = m->id == 3 ? (i16)(m->dz - dz) : 0;
    m->shown_buttons = m->buttons;
    return true;
}

void i8042_mouse(struct i8042 *c, int dx, int dy, int dz, u8 buttons)
{
    struct i8042_mouse *m = &c->mouse;
    /* What was not reported adds up, as far as a few packets can carry it. */
    m->dx = (i16)clamp(m->dx + clamp(dx, 4096), 2048);
    m->dy = (i16)clamp(m->dy + clamp(dy, 4096), 2048);
    m->dz = (i16)clamp(m->dz + clamp(dz, 4096), 64);
    m->buttons = buttons & 7;
    if (!m->reporting || m->remote || m->wrap)
        return;
    while ((m->dx || m->dy || m->dz || m->buttons != m->shown_buttons) && mouse_packet(m))
        continue;
    refill(c);
}

static void mouse_parameter(struct i8042_mouse *m, u8 byte)
{
    u8 command = m->command;
    m->command = 0;
    if (command == 0xe8) {
        m->resolution = byte & 3;
    } else {
        /* Sample rates 200, 100, 80 in a row unlock the wheel. */
        if (m->rates[0] == 200 && m->rates[1] == 100 && byte == 80)
            m->id = 3;
        m->rates[0] = m->rates[1];
        m->rates[1] = byte;
        m->rate = byte;
    }
    push(&m->queue, ACK);
}

static void mouse_write(struct i8042_mouse *m, u8 byte)
{
    struct i8042_queue *q = &m->queue;
    if (m->wrap && byte != 0xec && byte != 0xff) {
        push(q, byte);
        return;
    }
    if (m->command && byte < 0xe6) {
        mouse_parameter(m, byte);
        return;
    }
    m->command = 0;
    switch (byte) {
    case 0xe6:
    case 0xe7:
        m->scaling = byte & 1;
        push(q, ACK);
        break;
    case 0xe8:
    case 0xf3:
        m->command = byte;
        push(q, ACK);
        break;
    case 0xe9: /* status */
        push(q, ACK);
        push(q, (u8)((m->remote ? 0x40 : 0) | (m->reporting ? 0x20 : 0) | (m->scaling ? 0x10 : 0) |
                     (m->buttons & 1) << 2 | (m->buttons >> 2 & 1) << 1 | (m->buttons >> 1 & 1)));
        push(q, m->resolution);
        push(q, m->rate);
        break;
    case 0xea: /* stream mode */
        m->remote = false;
        push(q, ACK);
        break;
    case 0xeb: /* read data */
        push(q, ACK);
        mouse_packet(m);
        break;
    case 0xec:
        m->wrap = false;
        push(q, ACK);
        break;
    case 0xee:
        m->wrap = true;
        push(q, ACK);
        break;
    case 0xf0: /* remote mode */
        m->remote = true;
        push(q, ACK);
        break;
    case 0xf2: /* identify */
        push(q, ACK);
        push(q, m->id);
        break;
    case 0xf4:
        m->reporting = true;
        push(q, ACK);
        break;
    case 0xf5:
        m->reporting = false;
        push(q, ACK);
        break;
    case 0xf6:
        mouse_defaults(m);
        push(q, ACK);
        break;
    case 0xff:
        clear(q);
        mouse_defaults(m);
        m->id = 0;
        push(q, ACK);
        push(q, SELF_TEST_OK);
        push(q, 0);
        break;
    default:
        push(q, RESEND);
    }
}

/* ---- The controller ---- */

static void set_a20(struct i8042 *c, bool on)
{
    if (on == c->a20_on)
        return;
    c->a20_on = on;
    if (c->a20)
        c->a20(c->a20_arg, on);
}

static u8 output_port(const struct i8042 *c)
{
    return (u8)(0xcd | (c->a20_on ? 2 : 0) | (c->full && !c->from_aux ? 0x10 : 0) |
                (c->full && c->from_aux ? 0x20 : 0));
}

static void write_output_port(struct i8042 *c, u8 value)
{
    set_a20(c, value & 2);
    if (!(value & 1))
        c->host->reset(c->host->arg);
}

static void command_write8(struct i8042 *c, u8 command)
{
    c->wrote_command = true;
    c->command = 0;
    switch (command) {
    case 0xa7:
        c->ram[0] |= CFG_NO_MOUSE;
        break;
    case 0xa8:
        c->ram[0] &= (u8)~CFG_NO_MOUSE;
        break;
    case 0xa9: /* test the mouse port */
    case 0xab: /* test the keyboard port */
        reply(c, 0, false);
        break;
    case 0xa4: /* is a password installed? no */
        reply(c, 0xf1, false);
        break;
    case 0xaa: /* self test */
        c->system = true;
        reply(c, 0x55, false);
        break;
    case 0xad:
        c->ram[0] |= CFG_NO_KEYBOARD;
        break;
    case 0xae:
        c->ram[0] &= (u8)~CFG_NO_KEYBOARD;
        break;
    case 0xc0: /* input port: not locked, colour display */
        reply(c, 0xbf, false);
        break;
    case 0xd0:
        reply(c, output_port(c), false);
        break;
    case 0xd1: case 0xd2: case 0xd3: case 0xd4:
        c->command = command;
        break;
    case 0xdd:
        set_a20(c, false);
        break;
    case 0xdf:
        set_a20(c, true);
        break;
    case 0xe0: /* test inputs */
        reply(c, 0, false);
        break;
    default:
        if ((command & 0xe0) == 0x20)
            reply(c, command == 0x20 ? (u8)((c->ram[0] & ~CFG_SYSTEM) | (c->system ? CFG_SYSTEM : 0))
                                     : c->ram[command & 0x1f], false);
        else if ((command & 0xe0) == 0x60)
            c->command = command;
        else if (command >= 0xf0 && !(command & 1)) /* pulse output lines: bit 0 is reset */
            c->host->reset(c->host->arg);
    }
    refill(c);
}

static void data_write8(struct i8042 *c, u8 byte)
{
    u8 command = c->command;
    c->wrote_command = false;
    c->command = 0;
    switch (command) {
    case 0: /* for the keyboard; writing to it switches its clock on */
        c->ram[0] &= (u8)~CFG_NO_KEYBOARD;
        keyboard_write(&c->keyboard, byte);
        break;
    case 0xd1:
        write_output_port(c, byte);
        break;
    case 0xd2:
        reply(c, byte, false);
        break;
    case 0xd3:
        reply(c, byte, true);
        break;
    case 0xd4:
        c->ram[0] &= (u8)~CFG_NO_MOUSE;
        mouse_write(&c->mouse, byte);
        break;
    default: /* 0x60..0x7f: controller memory */
        c->ram[command & 0x1f] = byte;
        if (command == 0x60)
            c->system = byte & CFG_SYSTEM;
    }
    refill(c);
}

static u64 data_read(void *dev, unsigned cpu, u64 off, unsigned size)
{
    struct i8042 *c = dev;
    (void)cpu, (void)off, (void)size;
    u8 byte = c->output;
    if (c->full) {
        c->full = false;
        update_lines(c);
        refill(c);
    }
    return byte;
}

static void data_write(void *dev, unsigned cpu, u64 off, unsigned size, u64 value)
{
    (void)cpu, (void)off, (void)size;
    data_write8(dev, (u8)value);
}

static u64 command_read(void *dev, unsigned cpu, u64 off, unsigned size)
{
    const struct i8042 *c = dev;
    (void)cpu, (void)off, (void)size;
    return (u64)(STATUS_UNLOCKED | (c->full ? STATUS_FULL : 0) | (c->full && c->from_aux ? STATUS_AUX : 0) |
                 (c->system ? STATUS_SYSTEM : 0) | (c->wrote_command ? STATUS_COMMAND : 0));
}

static void command_write(void *dev, unsigned cpu, u64 off, unsigned size, u64 value)
{
    (void)cpu, (void)off, (void)size;
    command_write8(dev, (u8)value);
}

static u64 port92_read(void *dev, unsigned cpu, u64 off, unsigned size)
{
    const struct i8042 *c = dev;
    (void)cpu, (void)off, (void)size;
    return (c->port92 & 0xfc) | (c->a20_on ? 2 : 0);
}

static void port92_write(void *dev, unsigned cpu, u64 off, unsigned size, u64 value)
{
    struct i8042 *c = dev;
    (void)cpu, (void)off, (void)size;
    /* Bit 0 resets when it goes from 0 to 1; it reads as 0 after the reset. */
    c->port92 = (u8)value & 0xfc;
    set_a20(c, value & 2);
    if (value & 1)
        c->host->reset(c->host->arg);
}

const struct bus_ops i8042_data_ops = {.read = data_read, .write = data_write};
const struct bus_ops i8042_command_ops = {.read = command_read, .write = command_write};
const struct bus_ops i8042_port92_ops = {.read = port92_read, .write = port92_write};

void i8042_reset(struct i8042 *c)
{
    memset(&c->keyboard, 0, sizeof c->keyboard);
    memset(&c->mouse, 0, sizeof c->mouse);
    keyboard_defaults(&c->keyboard);
    c->keyboard.scanning = true;
    mouse_defaults(&c->mouse);
    memset(&c->reply, 0, sizeof c->reply);
    c->reply_aux = 0;
    memset(c->ram, 0, sizeof c->ram);
    /* As firmware leaves it: keyboard interrupt and translation on, mouse off. */
    c->ram[0] = CFG_KEYBOARD_INT | CFG_SYSTEM | CFG_NO_MOUSE | CFG_TRANSLATE;
    c->system = true;
    c->command = c->output = c->port92 = 0;
    c->full = c->from_aux = c->wrote_command = c->translating_break = false;
    set_a20(c, true);
    update_lines(c);
}

void i8042_init(struct i8042 *c, const struct host *host, struct irq_line irq_keyboard, struct irq_line irq_mouse,
                void (*a20)(void *arg, bool on), void *a20_arg)
{
    memset(c, 0, sizeof *c);
    c->host = host;
    c->irq_keyboard = irq_keyboard;
    c->irq_mouse = irq_mouse;
    c->a20 = a20;
    c->a20_arg = a20_arg;
    i8042_reset(c);
}
