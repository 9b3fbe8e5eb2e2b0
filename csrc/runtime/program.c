/* Programs: kernel calls that were recorded, made again without anything in between. fastdl/program.py records them, and
 * fastdl.h has their layout. */
#ifndef _WIN32
#include <pthread.h>
#endif
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "fastdl.h"

/* An argument of a kernel, 8 bytes whatever it is. */
typedef union {
    int64_t i;
    double d;
    void *p;
} slot;
typedef int kernel_of_slots(const slot *);

#include "program_table.h"

/* What stands for "busy": another number after each fork, because a child has no thread that is in a program. */
static int64_t busy_now = 1;
#ifndef _WIN32
static void after_fork(void) { busy_now++; }
__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(NULL, NULL, after_fork); }
#endif

int64_t fdl_slot_kernel(int64_t index) { return (int64_t)(intptr_t)kernels_of_slots[index]; }

/* The calls from one to another of them. */
static int make_calls(int64_t *program, int64_t from, int64_t to)
{
    const int64_t *calls = program + FDL_PROGRAM_HEADER;
    for (int64_t i = from; i < to; i++) {
        const int status = ((kernel_of_slots *)(intptr_t)calls[2 * i])((const slot *)(intptr_t)calls[2 * i + 1]);
        if (status != FDL_OK) {
            program[FDL_PROGRAM_FAILED] = i;
            return status;
        }
    }
    return FDL_OK;
}

/* The prepared calls, where something changed that they read. */
static int prepare(int64_t *program, int64_t *watch)
{
    for (int64_t *end = watch + 2 * program[FDL_PROGRAM_WATCHES]; watch < end; watch += 2) {
        const int64_t now = atomic_load_explicit((_Atomic int64_t *)(intptr_t)watch[0], memory_order_acquire);
        if (watch[1] != now)
            program[FDL_PROGRAM_CHANGED] = 1, watch[1] = now;
    }
    int status = FDL_OK;
    if (program[FDL_PROGRAM_CHANGED])
        status = make_calls(program, 0, program[FDL_PROGRAM_PREPARED]);
    program[FDL_PROGRAM_CHANGED] = status != FDL_OK;
    return status;
}

int fdl_program_run(int64_t *program, const int64_t *arguments)
{
    _Atomic int64_t *busy = (_Atomic int64_t *)&program[FDL_PROGRAM_BUSY];
    int64_t found = 0;
    while (!atomic_compare_exchange_weak_explicit(busy, &found, busy_now, memory_order_acquire, memory_order_relaxed))
        if (found == busy_now)
            return FDL_BUSY;
    int status = program[FDL_PROGRAM_STALE] ? FDL_STALE : FDL_OK;
    const int64_t *binding = program + FDL_PROGRAM_HEADER + 2 * program[FDL_PROGRAM_CALLS];
    const int64_t *load = binding + 3 * program[FDL_PROGRAM_BINDINGS], *advance = load + 3 * program[FDL_PROGRAM_LOADS];
    const int64_t *watch = advance + 2 * program[FDL_PROGRAM_ADVANCES];
    const int64_t *version = watch + 2 * program[FDL_PROGRAM_WATCHES], *end = version + program[FDL_PROGRAM_VERSIONS];
    for (; binding < load; binding += 3)
        ((slot *)(intptr_t)binding[0])->i = arguments[binding[1]] + binding[2];
    for (; load < advance; load += 3)
        ((slot *)(intptr_t)load[0])->i = *(const int64_t *)(intptr_t)load[1] + load[2];
    if (status == FDL_OK && program[FDL_PROGRAM_PREPARED])
        status = prepare(program, program + (watch - program));
    if (status == FDL_OK) {
        status = make_calls(program, program[FDL_PROGRAM_PREPARED], program[FDL_PROGRAM_CALLS]);
        for (; version < end; version++) /* also after an error: what was written is */
            atomic_fetch_add_explicit((_Atomic int64_t *)(intptr_t)version[0], 1, memory_order_release);
    }
    for (; advance < watch && status == FDL_OK; advance += 2)
        *(int64_t *)(intptr_t)advance[0] += advance[1];
    atomic_store_explicit(busy, 0, memory_order_release);
    return status;
}

/* to [batch, size bytes]: these rows of `from`. */
static void gather(const char *from, const int64_t *rows, int64_t batch, int64_t size, char *to)
{
    enum { AHEAD = 4 }; /* rows that are fetched before: they are anywhere */
    for (int64_t i = 0; i < batch; i++, to += size) {
        if (i + AHEAD < batch)
            __builtin_prefetch(from + rows[i + AHEAD] * size);
        if (size == 4)
            memcpy(to, from + rows[i] * 4, 4);
        else if (size == 8)
            memcpy(to, from + rows[i] * 8, 8);
        else
            memcpy(to, from + rows[i] * size, (size_t)size);
    }
}

int fdl_program_batches(int64_t *program, const int64_t *arguments, const int64_t *order, int64_t steps, int64_t batch,
                        const int64_t *gathers, int64_t gather_count, const int64_t *collects, int64_t collect_count,
                        int64_t *done)
{
    int status = FDL_OK;
    for (*done = 0; *done < steps; ++*done) {
        for (const int64_t *g = gathers; g < gathers + 3 * gather_count; g += 3)
            gather((const char *)(intptr_t)g[0], order + *done * batch, batch, g[1], (char *)(intptr_t)g[2]);
        status = fdl_program_run(program, arguments);
        if (status != FDL_OK)
            break;
        for (const int64_t *c = collects; c < collects + 3 * collect_count; c += 3)
            memcpy((char *)(intptr_t)c[2] + *done * c[1], (const char *)(intptr_t)c[0], (size_t)c[1]);
    }
    return status;
}
