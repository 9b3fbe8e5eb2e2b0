/* What is known of Winograd's algorithm before it runs: whether it computes a convolution, whether it is worth it, and
 * whether the numbers are such that it is exact enough. */
#include "kernels/conv/conv.h"

bool conv_winograd_applies(const convolution *v, int64_t out)
{
    const fdl_window *w = &v->w;
    const bool has_weights = v->packed_tile < 0 || w->channels_last || (v->packed_tile & out);
    return has_weights && conv_is_3x3(w) && w->stride_height == 1 && w->stride_width == 1 && w->groups == 1 &&
           (out == 4 || !w->channels_last);
}

/* Cycles of Winograd's algorithm with tiles of `out`, about: the products, with what a tile of C costs beside its terms,
 * and the transforms; reading U, where it does not stay in the second-level cache; making it, unless it is packed; and
 * what every call costs. Vectors are of channels and of filters where out is 4; else of tiles in a row, and taken whole
 * however short the rows are. The constants were found by timing. */
static double winograd_cost(const convolution *v, int64_t out)
{
    const int64_t in = out + v->w.kernel_width - 1, row_tiles = ceil_div(v->w.out_width, out);
    const double rows = (double)(v->w.batch * ceil_div(v->w.out_height, out)), points = (double)(in * in);
    const double channels = (double)v->channels, filters = (double)v->filters;
    const double elements = points * channels * filters; /* of U */
    double computing;
    if (out == 4) {
        const double of_channels = (double)ceil_div(v->channels, LANES),
                     of_filters = (double)ceil_div(v->filters, LANES);
        computing = points * rows * (double)row_tiles * (of_filters * (0.9 * channels + 28) + of_channels * 19);
    } else {
        const double row_vectors = (double)ceil_div(row_tiles, LANES);
        const double tile_vectors = (double)ceil_div((int64_t)rows * row_tiles, LANES);
        const double transforms = rows * row_vectors * points * (11 * channels + 9 * filters);
        computing = points * filters * tile_vectors * (channels + 24) + transforms;
    }
    const double cached = v->packed_tile < 0 ? 1 << 20 : 1 << 19; /* bytes of U; one that is packed is not just made */
    const double reading = elements * sizeof(real) > cached ? elements / LANES * (out == 4 ? 12 : 6) : 0;
    const double making = v->packed_tile < 0 ? channels / LANES * filters * (points * 4 + 80) : 0;
    return computing + reading + making + 10000 / conv_slowness();
}

static double direct_cost(const convolution *v, int64_t positions)
{
    const double vectors = (double)ceil_div(v->w.batch * positions, LANES);
    return (double)v->terms * vectors * ((double)v->filters + 10); /* 10: packing */
}

bool conv_winograd_saves(const convolution *v, int64_t out, int64_t positions)
{
    return v->channels >= 16 && v->filters >= 16 && winograd_cost(v, out) < direct_cost(v, positions);
}

bool conv_winograd_pays(const convolution *v, int64_t out)
{
    return conv_winograd_applies(v, out) && conv_winograd_saves(v, out, v->positions) &&
           (out == 4 || !conv_winograd_pays(v, 4) || winograd_cost(v, 2) < winograd_cost(v, 4));
}

/* Cycles of both methods, about, for vectors of channels of a filter: of the direct one each position costs 9
 * multiplications, of Winograd's each tile 36, with what a dU costs beside its terms. Found by timing. */
bool conv_winograd_grad_weight_pays(const convolution *v)
{
    const fdl_window *w = &v->w;
    const double tiles = (double)(w->batch * ceil_div(w->out_height, 4) * ceil_div(w->out_width, 4));
    const double direct = 9 * (double)(w->batch * v->positions), channels = (double)v->channels;
    const double transforms = 15 * tiles * 36 * (1 / (double)v->filters + 1 / channels);
    return v->channels >= 16 && v->filters >= 16 && 36 * (tiles + 8) + transforms < 0.9 * direct;
}

/* ---- a look at the data ---- */

/* A tile's transform mixes its pixels, so that an error of eps times the largest is left in all of its results. Where
 * the largest of an array is 1 / sqrt(eps) times what is typical of it, half of the digits of the results beside it
 * would be lost. What is typical of a chunk, whatever a few of its elements are: the mean over lanes, without the
 * largest, of the least of LOOKS maxima, each of every (LOOKS LANES)-th element. */
enum { LOOKS = 4, CHUNK = 32 * LOOKS * LANES, SEGMENT = 16 * CHUNK };

typedef struct {
    const real *x;
    int64_t size;
    double *found; /* [segments, 3]: the largest, the sum of what is typical, and of how many chunks */
} look;

/* Items are segments. */
static int look_task(void *context, int64_t begin, int64_t end)
{
    const look *t = context;
    for (int64_t segment = begin; segment < end; segment++) {
        double typical = 0;
        int64_t chunks = 0;
        vreal largest = {0};
        const int64_t stop = min64(t->size, (segment + 1) * SEGMENT);
        for (int64_t i = segment * SEGMENT; i < stop;) {
            const int64_t chunk_end = min64(stop, i + CHUNK);
            vreal most[LOOKS] = {{0}};
            const bool any = i + LOOKS * LANES <= chunk_end;
            for (; i + LOOKS * LANES <= chunk_end; i += LOOKS * LANES) { /* main loop */
                FDL_UNROLL
                for (int r = 0; r < LOOKS; r++)
                    most[r] = vmax(most[r], vabs(vload(t->x + i + r * LANES)));
            }
            for (; i < chunk_end; i += LANES) /* tail */
                largest = vmax(largest, vabs(vload_up_to(t->x + i, chunk_end - i)));
            i = chunk_end;
            vreal least = most[0];
            FDL_UNROLL
            for (int r = 0; r < LOOKS; r++)
                least = vmin(least, most[r]), largest = vmax(largest, most[r]);
            const double mean = (double)(vsum(least) - vmax_lane(least)) / max64(1, LANES - 1);
            if (any && mean > 0)
                typical += mean, chunks++;
        }
        double *found = t->found + 3 * segment;
        found[0] = (double)vmax_lane(largest), found[1] = typical, found[2] = (double)chunks;
    }
    return FDL_OK;
}

bool conv_winograd_suits(const real *x, int64_t size)
{
    const int64_t segments = ceil_div(size, SEGMENT);
    const fdl_mark mark = fdl_scratch_mark();
    look t = {x, size, fdl_scratch(max64(1, 3 * segments) * (int64_t)sizeof(double))};
    if (!t.found)
        return false;
    fdl_parallel(segments, 4, look_task, &t);
    double largest = 0, typical = 0, chunks = 0;
    for (int64_t i = 0; i < segments; i++) {
        largest = t.found[3 * i] > largest ? t.found[3 * i] : largest;
        typical += t.found[3 * i + 1], chunks += t.found[3 * i + 2];
    }
    fdl_scratch_release(mark);
    const double root = sizeof(real) == 4 ? 0x1p-12 : 0x1p-26; /* of eps / 2 */
    return chunks == 0 || largest * root <= typical / chunks;
}
