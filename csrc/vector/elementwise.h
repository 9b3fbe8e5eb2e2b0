/* Passes over arrays, element by element: activations, losses, optimizers.
 *
 *     for (pass p = pass_over(begin, end, y, streams); p.lanes > 0; pass_next(&p))
 *         pass_store(&p, y, f(pass_load(&p, x)));
 *
 * takes elements [begin, end) of x and y a vector at a time; the last vector, or the first where y has to be aligned,
 * may be short, and its other lanes load as 0. Where an array is long, a pass streams: what it stores goes past the
 * caches, which spares reading each line of y before it is written, a third of all traffic in a copy. */
#ifndef FASTDL_ELEMENTWISE_H
#define FASTDL_ELEMENTWISE_H

#include "vector/simd.h"

/* Elements for which a second thread is worth waking: passes that memory limits, and those that compute. */
enum { MEMORY_GRAIN = 1 << 15, COMPUTE_GRAIN = 1 << 13 };

typedef struct {
    int64_t at, end;
    int64_t lanes; /* of the vector that begins at `at`; 0 at the end */
    bool streams;
} pass;

/* Whether to stream an output of that many elements: where it would not stay in the caches. Not one that is also an
 * input, whose lines have been read anyway. */
FDL_INLINE bool pass_streams(int64_t size) { return size * (int64_t)sizeof(real) >= (int64_t)8 << 20; }

/* Elements that p lies past the start of a whole vector in memory. */
FDL_INLINE int64_t past_aligned(const real *p) { return (int64_t)((uintptr_t)p / sizeof(real) % LANES); }

FDL_INLINE pass pass_over(int64_t begin, int64_t end, const real *out, bool streams)
{
    streams = streams && (uintptr_t)out % sizeof(real) == 0;
    const int64_t first = streams ? LANES - past_aligned(out + begin) : LANES;
    return (pass){begin, end, max64(0, min64(first, end - begin)), streams};
}

FDL_INLINE void pass_next(pass *p)
{
    p->at += p->lanes;
    p->lanes = min64(LANES, p->end - p->at);
    if (p->lanes == 0 && p->streams)
        vstream_end();
}

FDL_INLINE vreal pass_load(const pass *p, const real *x) { return vload_up_to(x + p->at, p->lanes); }

FDL_INLINE void pass_store(const pass *p, real *x, vreal v)
{
    if (p->lanes == LANES && p->streams)
        vstream(x + p->at, v);
    else
        vstore_up_to(x + p->at, v, p->lanes);
}

#endif
