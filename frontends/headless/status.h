/* Exit statuses of every command: a contract that scripts and tests rely on. */
#ifndef NESTOR_FRONTENDS_HEADLESS_STATUS_H
#define NESTOR_FRONTENDS_HEADLESS_STATUS_H

enum {
    STATUS_OK = 0,                     /* the guest powered off, reset with --no-reboot, or --until-serial matched */
    STATUS_MAX_INSNS = 3,
    STATUS_TRIPLE_FAULT = 4,           /* or every CPU is halted for ever */
    STATUS_USAGE = 64,                 /* a mistake on the command line, or something not implemented yet */
    STATUS_INPUT = 66,                 /* a file is missing, unreadable or not what it should be */
    STATUS_HOST = 71,                  /* the host refused something: memory, a file to write */
    STATUS_INTERRUPTED = 130,          /* Ctrl-C */
};

#endif
