/* panic(): the end of the road for a broken invariant of Nestor itself. */
#include "cpu/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void panic(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("nestor: internal error: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}
