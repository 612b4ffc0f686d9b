/* cpu/jit/memory.h on POSIX systems: two mappings of one anonymous file where there are such files, else one mapping whose rights are
 * changed around each writing (with MAP_JIT where the system wants that said). What works is found out when Nestor runs.
 */
#define _GNU_SOURCE
#include "cpu/jit/memory.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif
#ifdef MAP_JIT
enum { MAP_FLAGS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_JIT };
#else
enum { MAP_FLAGS = MAP_PRIVATE | MAP_ANONYMOUS };
#endif

static int anonymous_file(void)
{
#ifdef MFD_CLOEXEC
    return memfd_create("nestor-jit", MFD_CLOEXEC);
#else
    return -1;
#endif
}

static bool map_twice(struct jit_memory *memory, size_t size)
{
    int fd = anonymous_file();
    if (fd < 0)
        return false;
    void *write = MAP_FAILED, *run = MAP_FAILED;
    if (ftruncate(fd, (off_t)size) == 0) {
        write = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        run = mmap(NULL, size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    }
    close(fd);
    if (write != MAP_FAILED && run != MAP_FAILED) {
        *memory = (struct jit_memory){.write = write, .run = run, .size = size};
        return true;
    }
    if (write != MAP_FAILED)
        munmap(write, size);
    if (run != MAP_FAILED)
        munmap(run, size);
    return false;
}

static bool map_once(struct jit_memory *memory, size_t size)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_FLAGS, -1, 0);
    if (at == MAP_FAILED)
        return false;
    if (mprotect(at, size, PROT_READ | PROT_EXEC) != 0) {
        munmap(at, size);
        return false;
    }
    *memory = (struct jit_memory){.write = at, .run = at, .size = size, .flips = true};
    return true;
}

bool jit_memory_new(struct jit_memory *memory, size_t size)
{
    return map_twice(memory, size) || map_once(memory, size);
}

void jit_memory_free(struct jit_memory *memory)
{
    if (!memory->size)
        return;
    munmap(memory->write, memory->size);
    if (!memory->flips) {
        union { const u8 *from; void *to; } run = {memory->run};
        munmap(run.to, memory->size);
    }
    memory->size = 0;
}

void jit_memory_open(const struct jit_memory *memory)
{
    if (memory->flips && mprotect(memory->write, memory->size, PROT_READ | PROT_WRITE) != 0)
        panic("the host does not let the pages of generated code be written any more");
}

void jit_memory_close(const struct jit_memory *memory, size_t from, size_t n)
{
    if (memory->flips && mprotect(memory->write, memory->size, PROT_READ | PROT_EXEC) != 0)
        panic("the host does not let the pages of generated code be executed any more");
    union { const u8 *from; char *to; } run = {memory->run + from};
    __builtin___clear_cache(run.to, run.to + n);   /* where it is executed: the host's instruction cache may go by that address */
}
