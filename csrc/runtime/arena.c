/* Per-thread scratch memory: a stack of blocks. A request that does not fit opens a new block, so that
 * earlier pointers stay valid; when everything is released, the blocks are merged into one that fits. */
#include <pthread.h>
#include <stdlib.h>

#include "runtime/core.h"
#include "fastdl.h"

enum { ALIGNMENT = 64, MAX_BLOCKS = 32, FIRST_BLOCK = 1 << 16 };
static const int64_t KEEP_AT_MOST = (int64_t)64 << 20;

typedef struct {
    char *memory;
    int64_t size, used;
} block;

typedef struct {
    block blocks[MAX_BLOCKS];
    int64_t count;   /* blocks that exist */
    int64_t current; /* the one being filled */
    int64_t in_use, peak;
} arena;

static __thread arena *mine;
static pthread_key_t at_thread_end;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void drop_blocks(arena *a)
{
    for (int64_t i = 0; i < a->count; i++)
        free(a->blocks[i].memory);
    a->count = a->current = 0;
}

static void free_arena(void *pointer)
{
    drop_blocks(pointer);
    free(pointer);
    mine = NULL;
}

static void make_key(void) { pthread_key_create(&at_thread_end, free_arena); }

static arena *get_arena(void)
{
    if (!mine) {
        pthread_once(&once, make_key);
        mine = calloc(1, sizeof(arena));
        if (mine)
            pthread_setspecific(at_thread_end, mine);
    }
    return mine;
}

static int add_block(arena *a, int64_t size)
{
    void *memory = NULL;
    if (a->count == MAX_BLOCKS || posix_memalign(&memory, ALIGNMENT, (size_t)size))
        return 0;
    a->blocks[a->count++] = (block){memory, size, 0};
    return 1;
}

void *fdl_scratch(int64_t bytes)
{
    arena *a = get_arena();
    if (!a || bytes < 0 || bytes > PTRDIFF_MAX - ALIGNMENT)
        return NULL;
    bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    while (a->current < a->count && a->blocks[a->current].size - a->blocks[a->current].used < bytes) {
        if (a->current + 1 == a->count)
            break;
        a->current++;
    }
    if (a->count == 0 || a->blocks[a->current].size - a->blocks[a->current].used < bytes) {
        if (!add_block(a, bytes > FIRST_BLOCK ? bytes : FIRST_BLOCK))
            return NULL;
        a->current = a->count - 1;
    }
    block *b = &a->blocks[a->current];
    void *pointer = b->memory + b->used;
    b->used += bytes;
    a->in_use += bytes;
    if (a->in_use > a->peak)
        a->peak = a->in_use;
    return pointer;
}

fdl_mark fdl_scratch_mark(void)
{
    arena *a = get_arena();
    if (!a || a->count == 0)
        return (fdl_mark){0, 0};
    return (fdl_mark){a->current, a->blocks[a->current].used};
}

void fdl_scratch_release(fdl_mark mark)
{
    arena *a = mine;
    if (!a || a->count == 0)
        return;
    for (int64_t i = mark.block; i <= a->current; i++) {
        const int64_t keep = i == mark.block ? mark.used : 0;
        a->in_use -= a->blocks[i].used - keep;
        a->blocks[i].used = keep;
    }
    a->current = mark.block;
    if (a->in_use == 0) {
        const int64_t total = fdl_scratch_held();
        if (total > KEEP_AT_MOST) {
            drop_blocks(a);
        } else if (a->count > 1) {
            drop_blocks(a);
            add_block(a, total); /* if this fails, the next request tries again */
        }
    }
}

int64_t fdl_scratch_held(void)
{
    int64_t total = 0;
    for (int64_t i = 0; mine && i < mine->count; i++)
        total += mine->blocks[i].size;
    return total;
}

int64_t fdl_scratch_peak(void) { return mine ? mine->peak : 0; }

void fdl_scratch_reset(void)
{
    if (mine)
        mine->peak = mine->in_use;
}
