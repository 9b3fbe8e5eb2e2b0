/* Depthwise convolution forward, 3 x 3, where lanes are masked at no cost: rows are read where they lie.
 *
 *   y [f, i, j] = bias[f] + sum over the taps (r, s) of w[f, r, s] x[c, i stride - padding + r, j stride - padding + s]
 *
 * What a column of the kernel sees, for LANES outputs, is a vector of the image's row (at stride 2 every other element
 * of two), whose lanes outside the row are masked: the same masks in every row and plane. Rows outside the image are one
 * row of zeros. ROWS output rows are computed together, for which every row is loaded once. NCHW; sums in `real`, term
 * after term as in depthwise.c. */
#include "kernels/conv/conv.h"

#ifdef FDL_MASKS_ARE_FREE
enum {
    KERNEL = 3,
    ROWS = 4,  /* output rows that are computed together */
    LOADS = 4, /* most vectors of a row that LANES outputs see */
};

typedef struct {
    const convolution *v;
    int64_t blocks;      /* of ROWS output rows in a plane */
    int64_t lines;       /* rows that they see */
    const vmask *inside; /* [vectors of an output row, LOADS] */
    const real *zeros;   /* [width] */
} plan;

/* Where vector `load` of those begins. */
FDL_INLINE int64_t load_column(int load, int stride) { return stride == 1 ? load : load / 2 * 2 + load % 2 * LANES; }

/* What the kernel's columns see of a row, from what the first one sees on. */
FDL_INLINE void load_seen(const real *x, const vmask *inside, vreal seen[KERNEL], const int stride)
{
    if (stride == 1) {
        FDL_UNROLL
        for (int s = 0; s < KERNEL; s++)
            seen[s] = vload_masked(x + s, inside[s]);
    } else {
        vreal part[LOADS];
        FDL_UNROLL
        for (int l = 0; l < LOADS; l++)
            part[l] = vload_masked(x + load_column(l, 2), inside[l]);
        seen[0] = veven(part[0], part[1]), seen[1] = vodd(part[0], part[1]), seen[2] = veven(part[2], part[3]);
    }
}

/* One output plane: y [out_height, out_width], and where the rows begin that the kernel sees, padding and all. */
typedef struct {
    const real *const *line;
    const real *weight, *residual;
    real bias, *y;
} plane;

/* Blocks [begin, end) of it; constant wherever inlined: stride. */
FDL_INLINE void filter_blocks(const plan *p, const plane *q, int64_t begin, int64_t end, const int stride)
{
    enum { MOST_LINES = (ROWS - 1) * 2 + KERNEL };
    const fdl_window *w = &p->v->w;
    const int lines = (ROWS - 1) * stride + KERNEL; /* that a block sees */
    const limits cut = limits_of(&p->v->activation);
    vreal taps[KERNEL * KERNEL], bias = vset1(q->bias);
    FDL_COMPUTED(bias);
    FDL_UNROLL
    for (int t = 0; t < KERNEL * KERNEL; t++) {
        taps[t] = vset1(q->weight[t]);
        FDL_COMPUTED(taps[t]);
    }
    const int64_t row = w->out_width, row_count = w->out_height;
    const int64_t ahead = ROWS * stride * w->width; /* to the rows of the next block */
    for (int64_t block = begin; block < end; block++) {
        const int64_t i = block * ROWS, count = min64(ROWS, row_count - i);
        const real *line[MOST_LINES];
        FDL_UNROLL
        for (int l = 0; l < lines; l++)
            line[l] = q->line[i * stride + l];
        const vmask *inside = p->inside;
        for (int64_t j = 0; j < row; j += LANES, inside += LOADS) { /* main loop and tail */
            vreal sum[ROWS];
            FDL_UNROLL
            for (int k = 0; k < ROWS; k++)
                sum[k] = bias;
            FDL_UNROLL
            for (int l = 0; l < lines; l++) {
                const real *x = line[l] + j * stride;
                FDL_OPAQUE(x);
                vreal seen[KERNEL];
                load_seen(x, inside, seen, stride);
                if (l >= KERNEL - stride) {
                    FDL_UNROLL
                    for (int part = 0; part < stride; part++)
                        __builtin_prefetch(x + part * LANES + ahead);
                }
                FDL_UNROLL
                for (int s = 0; s < KERNEL; s++) {
                    FDL_COMPUTED(seen[s]);
                    FDL_UNROLL
                    for (int k = 0; k < ROWS; k++)
                        if (l >= k * stride && l < k * stride + KERNEL)
                            sum[k] += taps[(l - k * stride) * KERNEL + s] * seen[s];
                }
            }
            const int64_t at = i * row + j;
            const vmask columns = vmask_range(0, min64(LANES, row - j));
            vmask stored[ROWS];
            FDL_UNROLL
            for (int k = 0; k < ROWS; k++)
                stored[k] = (vmask)(columns & -(k < count)); /* no row: no lane */
            if (q->residual) {
                FDL_UNROLL
                for (int k = 0; k < ROWS; k++)
                    sum[k] += vload_masked(q->residual + at + k * row, stored[k]);
            }
            FDL_UNROLL
            for (int k = 0; k < ROWS; k++) {
                __builtin_prefetch(q->y + at + (k + ROWS) * row, 1);
                vstore_masked(q->y + at + k * row, vlimit(cut, sum[k]), stored[k]);
            }
        }
    }
}

/* Items are images, filters and blocks of their rows. */
static int forward_task(void *context, int64_t begin, int64_t end)
{
    const plan *p = context;
    const convolution *v = p->v;
    const fdl_mark mark = fdl_scratch_mark();
    const real **line = fdl_scratch(p->lines * (int64_t)sizeof *line);
    if (!line) {
        fdl_scratch_release(mark);
        return FDL_OUT_OF_MEMORY;
    }
    const int64_t before = v->w.padding_height, height = min64(v->w.height, p->lines - before);
    for (int64_t l = 0; l < p->lines; l++)
        line[l] = p->zeros - v->w.padding_width;
    for (int64_t item = begin, next; item < end; item = next) {
        const int64_t n_f = item / p->blocks, n = n_f / v->w.out_channels, f = n_f % v->w.out_channels;
        next = min64(end, (n_f + 1) * p->blocks);
        const real *x = v->x + (n * v->w.channels + f / v->filters) * v->pixels - v->w.padding_width;
        for (int64_t r = 0; r < height; r++)
            line[before + r] = x + r * v->w.width;
        const plane q = {
            .line = line,
            .weight = v->weights.data + f * v->terms,
            .residual = v->residual ? v->residual + n_f * v->positions : NULL,
            .bias = v->bias ? v->bias[f] : 0,
            .y = v->y + n_f * v->positions,
        };
        const int64_t first = item - n_f * p->blocks, last = next - n_f * p->blocks;
        if (v->w.stride_width == 1)
            filter_blocks(p, &q, first, last, 1);
        else
            filter_blocks(p, &q, first, last, 2);
        const int64_t columns = v->w.out_width, top = first * ROWS;
        activate_stored(&v->activation, q.y + top * columns, columns, min64(last * ROWS, v->w.out_height) - top,
                        columns);
    }
    fdl_scratch_release(mark);
    return FDL_OK;
}

/* Lanes of the columns from `column` on that lie in a row. Not inlined, and so not computed in vectors. */
__attribute__((noinline)) static vmask mask_columns(int64_t column, int64_t width)
{
    return vlanes_between(-column, width - column);
}

bool conv_depthwise_masked_applies(const convolution *v)
{
    const fdl_window *w = &v->w;
    return v->channels == 1 && conv_is_3x3(w) && w->stride_height == w->stride_width && w->stride_width <= 2;
}

double conv_depthwise_masked_cycles(const convolution *v)
{
    const double tiles = (double)(ceil_div(v->w.out_height, ROWS) * ceil_div(v->w.out_width, LANES));
    return 100 + (v->w.stride_width == 1 ? 31 : 60) * tiles;
}

int conv_depthwise_masked_forward(const convolution *v)
{
    const fdl_window *w = &v->w;
    const int stride = (int)w->stride_width;
    const int64_t vectors = ceil_div(w->out_width, LANES), blocks = ceil_div(w->out_height, ROWS);
    const fdl_mark mark = fdl_scratch_mark();
    vmask *inside = fdl_scratch(vectors * LOADS * (int64_t)sizeof *inside);
    real *zeros = fdl_scratch(w->width * (int64_t)sizeof(real));
    if (!inside || !zeros) {
        fdl_scratch_release(mark);
        return FDL_OUT_OF_MEMORY;
    }
    memset(zeros, 0, (size_t)w->width * sizeof(real));
    for (int64_t at = 0; at < vectors * LOADS; at++) {
        const int64_t column = at / LOADS * LANES * stride + load_column(at % LOADS, stride);
        inside[at] = mask_columns(column - w->padding_width, w->width);
    }
    plan p = {v, blocks, (blocks * ROWS - 1) * stride + KERNEL, inside, zeros};
    const int64_t items = v->w.batch * w->out_channels * blocks;
    const int status = fdl_parallel(items, conv_depthwise_grain(v, items), forward_task, &p);
    fdl_scratch_release(mark);
    return status;
}
#else
bool conv_depthwise_masked_applies(const convolution *v)
{
    (void)v;
    return false;
}
double conv_depthwise_masked_cycles(const convolution *v)
{
    (void)v;
    return 0;
}
int conv_depthwise_masked_forward(const convolution *v)
{
    (void)v;
    return FDL_OK;
}
#endif
