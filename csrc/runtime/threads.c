/* Threads: OpenMP behind one knob, with a guard for fork().
 *
 * libgomp's worker threads do not survive fork(), and a child that opens a parallel region then waits for
 * them for ever. A child of a process that has used threads therefore runs on one thread. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "runtime/core.h"
#include "fastdl.h"
#ifdef _OPENMP
#include <omp.h>
#endif

static _Atomic int64_t requested = 0; /* 0: ask OpenMP */

#ifdef _OPENMP
static atomic_int teams_used = 0, fork_guard_set = 0, in_forked_child = 0;

static void after_fork_in_child(void)
{
    if (atomic_load(&teams_used))
        atomic_store(&in_forked_child, 1);
}
#endif

int fdl_has_openmp(void)
{
#ifdef _OPENMP
    return 1;
#else
    return 0;
#endif
}

void fdl_set_num_threads(int64_t threads) { atomic_store(&requested, threads); }

int64_t fdl_get_num_threads(void)
{
#ifdef _OPENMP
    const int64_t threads = atomic_load(&requested);
    return threads > 0 ? threads : omp_get_max_threads();
#else
    return 1;
#endif
}

int64_t fdl_available_threads(void)
{
#ifdef _OPENMP
    return atomic_load(&in_forked_child) || omp_in_parallel() ? 1 : fdl_get_num_threads();
#else
    return 1;
#endif
}

#ifdef _OPENMP
static void before_first_team(void)
{
    if (!atomic_exchange(&fork_guard_set, 1))
        pthread_atfork(NULL, NULL, after_fork_in_child);
    atomic_store(&teams_used, 1);
}
#endif

int fdl_parallel(int64_t count, int64_t grain, fdl_task *task, void *context)
{
    if (count <= 0)
        return FDL_OK;
    grain = grain > 0 ? grain : 1;
    int64_t threads = fdl_available_threads();
    if (threads > count / grain)
        threads = count / grain;
    if (threads <= 1)
        return task(context, 0, count);
#ifdef _OPENMP
    before_first_team();
    /* A few pieces a thread, handed out as threads become free: evens out a busy machine, while the
     * pieces stay large enough for their fixed costs not to matter. */
    int64_t pieces = 4 * threads;
    if (pieces > count / grain)
        pieces = count / grain / threads * threads;
    atomic_int status = FDL_OK;
#pragma omp parallel for schedule(dynamic, 1) num_threads((int)threads)
    for (int64_t piece = 0; piece < pieces; piece++) {
        const int result = task(context, count * piece / pieces, count * (piece + 1) / pieces);
        if (result != FDL_OK)
            atomic_store(&status, result);
    }
    return atomic_load(&status);
#else
    return FDL_OK;
#endif
}

void fdl_run_team(int64_t threads, fdl_team_task *task, void *context)
{
    fdl_team team = {.size = 1};
    const int64_t most = fdl_available_threads();
    threads = threads < most ? threads : most;
#ifdef _OPENMP
    if (threads > 1) {
        before_first_team();
#pragma omp parallel num_threads((int)threads)
        {
            /* As many as there really are; the barrier that `single` ends in lets all of them see it. */
#pragma omp single
            team.size = omp_get_num_threads();
            task(context, &team, omp_get_thread_num());
        }
        return;
    }
#endif
    task(context, &team, 0);
}

void fdl_team_wait(fdl_team *team)
{
    if (team->size == 1)
        return;
    const int64_t round = atomic_load(&team->round);
    if (atomic_fetch_add(&team->arrived, 1) + 1 == team->size) {
        atomic_store(&team->arrived, 0);
        atomic_store(&team->round, round + 1);
        return;
    }
    /* A step takes microseconds: spin, unless somebody else may need this core to arrive. */
    for (int64_t spins = 0; atomic_load(&team->round) == round; spins++) {
        if (spins >= 4096)
            sched_yield();
#if defined(__x86_64__)
        else
            __builtin_ia32_pause();
#endif
    }
}
