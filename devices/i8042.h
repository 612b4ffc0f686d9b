/* The 8042 keyboard controller (ports 0x60/0x64) with an AT keyboard and a PS/2 wheel mouse, and port 0x92.
 *
 * The keyboard speaks scan code set 2 (or 1, if told so); the controller translates to set 1 when its command byte says
 * so, as firmware leaves it. Keys and mouse movements come from the machine through i8042_key and i8042_mouse.
 *
 * Kept true: one byte stands in the output buffer at a time; its interrupt line is high as long as it does, and falls
 * when it is read, so that the next byte makes a new edge. Queues are bounded; what does not fit is lost whole (a key,
 * a packet), never in part. There is one A20 gate: the controller and port 0x92 show and set the same one.
 *
 * Sources: IBM PS/2 Hardware Interface Technical Reference; the keyboard's and mouse's command sets therein.
 */
#ifndef NESTOR_DEVICES_I8042_H
#define NESTOR_DEVICES_I8042_H

#include "cpu/base.h"
#include "devices/host.h"
#include "devices/irq.h"
#include "mmu/bus.h"

#define I8042_QUEUE 64

struct i8042_queue {
    u8 byte[I8042_QUEUE];
    u8 first, count;
};

struct i8042_keyboard {
    struct i8042_queue queue;
    u8 command;         /* a command that waits for its parameter, 0 = none */
    u8 set;             /* scan code set: 1 or 2 */
    u8 leds;
    u8 rate;
    bool scanning;
    u8 last_sent;       /* for Resend */
};

struct i8042_mouse {
    struct i8042_queue queue;
    u8 command;
    u8 rate, resolution;
    u8 rates[2];        /* the two sample rates set before, for the wheel's magic knock */
    u8 id;              /* 0, or 3 once the wheel is unlocked */
    bool scaling, remote, wrap, reporting;
    u8 buttons, shown_buttons;
    i16 dx, dy, dz;     /* movement not reported yet */
};

struct i8042 {
    struct i8042_keyboard keyboard;
    struct i8042_mouse mouse;
    struct i8042_queue reply;   /* the controller's own answers */
    u64 reply_aux;              /* bit n: byte n of `reply` (ring index) shows as one from the mouse */
    u8 ram[32];                 /* byte 0 is the command byte */
    u8 command;                 /* a controller command that waits for its parameter, 0 = none */
    u8 output;                  /* the output buffer */
    bool full, from_aux;
    bool wrote_command;         /* status bit 3 */
    bool system;                /* status bit 2 */
    bool a20_on;
    bool translating_break;     /* a 0xf0 prefix was swallowed by the translation */
    u8 port92;
    /* wiring */
    const struct host *host;
    struct irq_line irq_keyboard, irq_mouse;
    void (*a20)(void *arg, bool on);
    void *a20_arg;
};

void i8042_init(struct i8042 *c, const struct host *host, struct irq_line irq_keyboard, struct irq_line irq_mouse,
                void (*a20)(void *arg, bool on), void *a20_arg);
/* A20 is open after reset. */
void i8042_reset(struct i8042 *c);

/* A key goes down or up. `code` is its set 1 make code, 0x01..0x7f, or 0xe000 | code for an extended key. False if the
 * keyboard's buffer is full: the key is lost. */
bool i8042_key(struct i8042 *c, u16 code, bool pressed);
/* The mouse moved by dx to the right and dy up, the wheel by dz towards the user; buttons: bit 0 left, 1 right,
 * 2 middle. */
void i8042_mouse(struct i8042 *c, int dx, int dy, int dz, u8 buttons);

/* dev = the struct i8042. data: port 0x60; command: port 0x64; port92: port 0x92. */
extern const struct bus_ops i8042_data_ops, i8042_command_ops, i8042_port92_ops;

#endif
