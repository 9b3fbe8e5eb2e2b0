/* Threads: one pool for the process, whose members take pieces of work as they come.
 *
 * Whoever calls a kernel works too, and waits at its end only for pieces that somebody has begun: a member that does
 * not get its core, beside a busy process, holds up nothing that it has not taken. Where one is held up in the middle
 * of a piece, and often enough for one thread to have been faster, work stays on the calling thread for a while.
 *
 * There is one job at a time. Another thread that comes with one meanwhile does it alone, and so does a member that
 * is in a piece: nothing here waits for a lock. After fork() the child starts a pool of its own when it needs one, and
 * where no thread can be created the others do the work. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/core.h"
#include "fastdl.h"

enum {
    PIECES_A_THREAD = 4, /* evens out a busy machine, while pieces stay large enough for their fixed costs */
    SPINS = 1000,        /* before a member that has nothing to do sleeps: some tens of microseconds */
    PATIENCE = 4000,     /* spins before whoever waits gives its core away in between */
};

static _Atomic int64_t requested = 0, limit = 0; /* 0: not set */
static _Thread_local bool busy = false;          /* in a piece, or waiting for others' */
static _Thread_local int64_t kept = 0;           /* by fdl_keep_to_one_thread */

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Return when the count is reached: how long that took, if it was long. */
static int64_t wait_for(_Atomic int64_t *count, int64_t wanted)
{
    int64_t began = 0;
    for (int64_t spins = 0; atomic_load(count) < wanted; spins++) {
        if (spins == SPINS)
            began = now();
        if (spins < PATIENCE)
            relax();
        else
            sched_yield();
    }
    return began ? now() - began : 0;
}

/* ---- how many ---- */

/* Cores that this thread may run on. */
static int64_t cores(void)
{
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return CPU_COUNT(&set);
#endif
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? online : 1;
}

void fdl_set_thread_limit(int64_t threads) { atomic_store(&limit, threads); }

int64_t fdl_get_num_threads(void)
{
    const int64_t threads = atomic_load(&requested), most = atomic_load(&limit);
    if (threads > 0)
        return threads;
    const int64_t found = cores();
    return most > 0 && most < found ? most : found;
}

/* ---- whether it pays ---- */

/* While other threads were more of a hindrance, the time until which work stays on the calling one; and for how long
 * that was. Balance: what they have saved of late, at most CREDIT, less what they have cost: a hindrance now and then, as
 * on any machine, is no reason to do without them. All in nanoseconds. */
enum { CREDIT = 16000000 };
static _Atomic int64_t alone_until = 0, penalty = 0, balance = 0;

static bool is_alone(void)
{
    const int64_t until = atomic_load_explicit(&alone_until, memory_order_relaxed);
    return until != 0 && now() < until;
}

/* After a job: how long it took, and how long the calling thread would have needed for all of it. */
static void judge(int64_t took, int64_t alone)
{
    enum { SLACK = 10000, SHORTEST = 8000000, LONGEST = 512000000 };
    const int64_t last = atomic_load_explicit(&penalty, memory_order_relaxed);
    const int64_t sum = atomic_load_explicit(&balance, memory_order_relaxed) + alone - took;
    atomic_store_explicit(&balance, sum < -SLACK ? 0 : sum < CREDIT ? sum : CREDIT, memory_order_relaxed);
    if (sum < -SLACK) {
        const int64_t next = last * 2 < SHORTEST ? SHORTEST : last * 2 > LONGEST ? LONGEST : last * 2;
        atomic_store_explicit(&penalty, next, memory_order_relaxed);
        atomic_store_explicit(&alone_until, now() + next, memory_order_relaxed);
    } else if (last > 0 && took <= alone) { /* back, step by step */
        atomic_store_explicit(&penalty, last - last / 16, memory_order_relaxed);
    }
}

void fdl_set_num_threads(int64_t threads)
{
    atomic_store(&requested, threads);
    /* Whoever sets it is to have it. */
    atomic_store(&alone_until, 0), atomic_store(&penalty, 0), atomic_store(&balance, 0);
}

int64_t fdl_keep_to_one_thread(int64_t on)
{
    const int64_t before = kept;
    kept = on;
    return before;
}

/* Of Python's stable interface; missing where the library is used without. */
extern void *PyGILState_GetThisThreadState(void) __attribute__((weak));

/* Whether this thread works in somebody else's parallel loop: it was told so, or Python does not know it, which is so of
 * those that Numba's prange runs on. */
static bool in_parallel_loop(void)
{
    return kept || (PyGILState_GetThisThreadState && !PyGILState_GetThisThreadState());
}

int64_t fdl_available_threads(int64_t worth)
{
    /* How many cores there are is a question to the system, which takes as long as a small kernel. */
    if (worth <= 1 || busy || in_parallel_loop() || is_alone())
        return 1;
    const int64_t threads = fdl_get_num_threads();
    const int64_t most = worth < FDL_MOST_THREADS ? worth : FDL_MOST_THREADS;
    return threads < most ? threads : most;
}

/* ---- the pool ---- */

/* What a job is to a member of the pool: take what there is to take, as number `index`. */
typedef void member_task(void *context, int64_t index);

static struct {
    pthread_mutex_t owner; /* held by whose job it is */
    pthread_mutex_t lock;  /* of the two below */
    pthread_cond_t wake;
    atomic_int sleepers;
    int64_t members; /* that were started; the owner is none of them */
    bool fork_guard;
    /* The job: its number, above 32 bits that count who has joined; no more than `seats` may. Fields are written while
     * no one can join. */
    _Atomic uint64_t ticket;
    _Atomic int64_t seats, left; /* left: who has joined and is done */
    _Atomic(member_task *) task;
    _Atomic(void *) context;
} pool = {.owner = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

/* Take part in the job with that number, if there is a seat. */
static void join_job(uint64_t number)
{
    uint64_t ticket = atomic_load(&pool.ticket);
    while (ticket >> 32 == number && (int64_t)(uint32_t)ticket < atomic_load(&pool.seats)) {
        member_task *task = atomic_load(&pool.task);
        void *context = atomic_load(&pool.context);
        if (atomic_compare_exchange_strong(&pool.ticket, &ticket,
                                           ticket + 1)) { /* so all that was read is of this job */
            task(context, (int64_t)(uint32_t)ticket + 1);
            atomic_fetch_add(&pool.left, 1);
            return;
        }
    }
}

static void *member(void *unused)
{
    busy = true;
    for (uint64_t seen = 0;;) {
        uint64_t number = atomic_load(&pool.ticket) >> 32;
        for (int64_t spins = 0; number == seen && spins < SPINS; spins++) {
            relax();
            number = atomic_load(&pool.ticket) >> 32;
        }
        if (number == seen) {
            pthread_mutex_lock(&pool.lock);
            atomic_fetch_add(&pool.sleepers, 1);
            while ((number = atomic_load(&pool.ticket) >> 32) == seen)
                pthread_cond_wait(&pool.wake, &pool.lock);
            atomic_fetch_sub(&pool.sleepers, 1);
            pthread_mutex_unlock(&pool.lock);
        }
        seen = number;
        join_job(number);
    }
    return unused;
}

static void after_fork_in_child(void)
{
    pthread_mutex_init(&pool.owner, NULL);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
    atomic_store(&pool.sleepers, 0);
    pool.members = 0;
    busy = false;
}

/* Have that many members, or as many as there can be. Signals are for other threads. */
static void have_members(int64_t wanted)
{
    if (pool.members >= wanted)
        return;
    if (!pool.fork_guard)
        pool.fork_guard = pthread_atfork(NULL, NULL, after_fork_in_child) == 0;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    while (pool.members < wanted && pool.fork_guard && pthread_create(&thread, &attributes, member, NULL) == 0)
        pool.members++;
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Offer a job to at most `threads`, the caller being number 0 of them; when that was. Unless there is something to
 * share and the pool is free, it is 0, and the caller is alone. */
static int64_t open_job(int64_t threads, member_task *task, void *context)
{
    if (threads <= 1 || pthread_mutex_trylock(&pool.owner) != 0)
        return 0;
    busy = true;
    const int64_t began = now();
    have_members(threads - 1);
    atomic_store(&pool.task, task);
    atomic_store(&pool.context, context);
    atomic_store(&pool.left, 0);
    atomic_store(&pool.seats, threads - 1);
    atomic_store(&pool.ticket, ((atomic_load(&pool.ticket) >> 32) + 1) << 32);
    if (atomic_load(&pool.sleepers) > 0) {
        pthread_mutex_lock(&pool.lock);
        pthread_cond_broadcast(&pool.wake);
        pthread_mutex_unlock(&pool.lock);
    }
    return began;
}

/* Let no one else in, wait for who is, and judge: the caller did `taken` of `all` pieces, and waited meanwhile. */
static void close_job(int64_t began, int64_t waited, int64_t taken, int64_t all)
{
    const int64_t worked = now() - began - waited;
    uint64_t ticket = atomic_load(&pool.ticket);
    atomic_store(&pool.seats, 0);
    while (!atomic_compare_exchange_weak(&pool.ticket, &ticket, (ticket >> 32) << 32 | UINT32_MAX))
        ;
    waited += wait_for(&pool.left, (int64_t)(uint32_t)ticket);
    judge(worked + waited, taken > 0 ? worked * all / taken : worked + waited);
    busy = false;
    pthread_mutex_unlock(&pool.owner);
}

/* ---- pieces ---- */

typedef struct {
    fdl_task *task;
    void *context;
    int64_t count, pieces;
    _Atomic int64_t next, status;
} pieces_job;

static int64_t take_pieces(pieces_job *job)
{
    int64_t taken = 0;
    for (int64_t piece; (piece = atomic_fetch_add(&job->next, 1)) < job->pieces; taken++) {
        const int result =
            job->task(job->context, job->count * piece / job->pieces, job->count * (piece + 1) / job->pieces);
        if (result != FDL_OK)
            atomic_store(&job->status, result);
    }
    return taken;
}

static void take_as_member(void *context, int64_t index)
{
    (void)index;
    take_pieces(context);
}

int fdl_parallel(int64_t count, int64_t grain, fdl_task *task, void *context)
{
    if (count <= 0)
        return FDL_OK;
    grain = grain > 0 ? grain : 1;
    if (count / 2 < grain) /* a division by what is no constant takes longer than small work does */
        return task(context, 0, count);
    int64_t threads = fdl_available_threads(count / grain);
    int64_t pieces = PIECES_A_THREAD * threads;
    if (pieces > count / grain)
        pieces = count / grain / threads * threads;
    pieces_job job = {.task = task, .context = context, .count = count, .pieces = pieces, .status = FDL_OK};
    const int64_t began = open_job(threads, take_as_member, &job);
    if (!began)
        return task(context, 0, count);
    close_job(began, 0, take_pieces(&job), pieces);
    return (int)atomic_load(&job.status);
}

/* ---- rounds ---- */

enum { CACHE_LINE = 64 };

typedef struct {
    fdl_round *task;
    void *context;
    int64_t rounds, shares;
    _Alignas(CACHE_LINE) _Atomic int64_t finished; /* shares, of all rounds */
    struct {
        _Alignas(CACHE_LINE) _Atomic int64_t round; /* the first in which this share is not yet taken */
    } next[FDL_MOST_THREADS];
} rounds_job;

/* Take part: in each round the own share, then those that nobody has begun. Returns how many; waited: for how long
 * others kept it waiting, where that was long. */
static int64_t take_rounds(rounds_job *job, int64_t own, int64_t *waited)
{
    enum { COURTESY = 8 }; /* spins before a share is taken from who may just be about to begin it */
    int64_t taken = 0;
    for (int64_t round = 0; round < job->rounds;) {
        const int64_t all = (round + 1) * job->shares;
        for (int64_t i = 0; i < job->shares; i++) {
            const int64_t share = (own + i) % job->shares;
            for (int64_t spins = 0; i > 0 && spins < COURTESY && atomic_load(&job->finished) < all; spins++)
                relax();
            int64_t expected = round;
            if (atomic_load(&job->next[share].round) == round &&
                atomic_compare_exchange_strong(&job->next[share].round, &expected, round + 1)) {
                job->task(job->context, round, share, job->shares);
                atomic_fetch_add(&job->finished, 1);
                taken++;
            }
            if (atomic_load(&job->finished) >= all)
                break;
        }
        *waited += wait_for(&job->finished, all);
        round = atomic_load(&job->finished) / job->shares;
    }
    return taken;
}

static void rounds_as_member(void *context, int64_t index)
{
    rounds_job *job = context;
    int64_t waited = 0;
    take_rounds(job, index % job->shares, &waited);
}

void fdl_run_rounds(int64_t threads, int64_t rounds, fdl_round *task, void *context)
{
    threads = fdl_available_threads(threads);
    rounds_job job;
    job.task = task, job.context = context, job.rounds = rounds, job.shares = threads;
    atomic_init(&job.finished, 0);
    for (int64_t i = 0; i < threads; i++)
        atomic_init(&job.next[i].round, 0);
    const int64_t began = open_job(threads, rounds_as_member, &job);
    if (!began) {
        for (int64_t round = 0; round < rounds; round++)
            task(context, round, 0, 1);
        return;
    }
    int64_t waited = 0;
    const int64_t taken = take_rounds(&job, 0, &waited);
    close_job(began, waited, taken, rounds * threads);
}
