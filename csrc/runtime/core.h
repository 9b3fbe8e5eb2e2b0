/* What kernels may use of the library's core: threads and scratch memory. Compiled once, not per level. */
#ifndef FASTDL_CORE_H
#define FASTDL_CORE_H

#include <stddef.h>
#include <stdint.h>

/* 1 if this CPU and operating system can run the named level. */
int fdl_cpu_supports(const char *level);
/* 1 if it executes vectors of 64 bytes as two halves. */
int fdl_cpu_halves(void);

/* A piece of parallel work: items [begin, end). Returns a status. */
typedef int fdl_task(void *context, int64_t begin, int64_t end);

/* Run `task` over [0, count) in pieces of at least `grain` items, on up to fdl_get_num_threads() threads.
 * At most one piece: runs on the calling thread. Returns the first status that is not FDL_OK. */
int fdl_parallel(int64_t count, int64_t grain, fdl_task *task, void *context);

/* A share of a round of work, of `shares` that may run at the same time. It may not fail; what it needs is there
 * before. */
typedef void fdl_round(void *context, int64_t round, int64_t share, int64_t shares);

/* Run `task` for all shares of round 0, then for all of round 1, which see what those wrote, and so on: on that many
 * threads, or fewer where there are fewer, as many shares. A thread takes its own share in each round if it is there
 * in time, so that a share finds its data in that thread's caches. */
void fdl_run_rounds(int64_t threads, int64_t rounds, fdl_round *task, void *context);

/* Threads that fdl_parallel would use here, where the work is worth that many: 1 inside of a piece, and while one is
 * better than several. */
enum { FDL_MOST_THREADS = 256 };
int64_t fdl_available_threads(int64_t worth);

/* Per-thread scratch, 64-byte aligned, last in first out:
 *     fdl_mark mark = fdl_scratch_mark();
 *     float *p = fdl_scratch(bytes);      NULL when out of memory
 *     fdl_scratch_release(mark);          releases everything taken since the mark
 * The memory is kept for the next call, up to 64 MiB a thread, and freed when the thread ends. */
typedef struct {
    int64_t block, used;
} fdl_mark;
fdl_mark fdl_scratch_mark(void);
void *fdl_scratch(int64_t bytes);
void fdl_scratch_release(fdl_mark mark);

#endif
