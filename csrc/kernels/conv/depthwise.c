/* Convolution of few planes at a time, as where every channel has its own filters (depthwise): there is no matrix to
 * multiply, and the time goes into moving the images, so each input row is read once, into a line in cache.
 *
 *   forward         y[f, i, j]   = sum over the taps (r, s) of
 *                                  w[f, r, s] line[i stride + r dilation][j stride + s dilation]
 *   gradient of x   grad_x[u]    = sum over the taps r with u - r dilation divisible by the stride of
 *                                  w[r] grad_y[(u - r dilation) / stride],
 *                   in both directions, u counted in the padded image; so the taps depend on u mod stride only
 *   gradient of w   grad_w[f, r, s] = sum over i, j of grad_y[f, i, j] line[...][...], as above
 *
 * A line is a row with its padding. Where the stride is t, it is stored as t phases, element u at phase[u % t][u / t],
 * so that neighbouring outputs read neighbouring elements: vectors run along the width whatever the stride. Rows
 * outside the image are lines of zeros. A band of output rows, and a chunk of columns where rows are long, has its
 * lines in cache at once. Small images, whose rows would leave vectors partly empty, are taken LANES at a time, side by
 * side (vector/interleave.h), to the same sums. NCHW. Sums in `real`; those of the weights' gradient go on in double
 * after MOST_ADDED vectors. */
#include "kernels/conv/conv.h"
#include "vector/interleave.h"
#include "vector/sums.h"

enum {
    BLOCK = 4,                        /* output rows that a specialised kernel computes together */
    BAND_BYTES = 3 << 13,             /* of lines: they stay in the first-level cache */
    CHUNK = 8192 / (int)sizeof(real), /* most columns of a line */
    WIDE = 4,                         /* vectors that the general kernel computes together */
    MOST_ADDED = 256,                 /* vectors that one of partial sums takes before double */
};

/* How the output is cut, and where lines are: [sources, rows, phases, pitch]. */
typedef struct {
    const convolution *v;
    int64_t sources;       /* planes that are summed over: channels of the group and taps in depth */
    int64_t band, bands;   /* output rows in a band, bands in a plane */
    int64_t chunk;         /* output columns in a chunk */
    int64_t rows;          /* lines that a band takes from one source */
    int64_t phases, pitch; /* of a line */
} plan;

static int64_t line_size(const plan *p) { return p->phases * p->pitch; }

/* As many rows in a band as fit the cache, at least as many as its neighbours' lines overlap it by. */
static void cut(plan *p, int64_t out_rows, int64_t stride, int64_t extent)
{
    const int64_t fit = BAND_BYTES / (int64_t)sizeof(real) / max64(1, p->sources * line_size(p));
    p->band = max64((fit - extent) / stride, max64(2 * BLOCK, ceil_div(extent, stride)));
    p->bands = max64(1, ceil_div(out_rows, p->band));
    p->band = ceil_div(ceil_div(out_rows, p->bands), BLOCK) * BLOCK;
    p->bands = ceil_div(out_rows, p->band);
}

/* Lines of x, for the forward pass and the gradient of the weights. */
static plan plan_forward(const convolution *v)
{
    const fdl_window *w = &v->w;
    plan p = {.v = v, .sources = v->channels * w->kernel_depth};
    const int64_t reach = w->dilation_width * (w->kernel_width - 1); /* from the first tap to the last */
    p.chunk = min64(w->out_width, CHUNK);
    p.phases = min64(w->stride_width, reach + 1);
    p.pitch = ceil_div(p.chunk + reach / w->stride_width, LANES) * LANES + WIDE * LANES;
    const int64_t extent = w->dilation_height * (w->kernel_height - 1) + 1;
    cut(&p, w->out_height, w->stride_height, extent);
    p.rows = (p.band - 1) * w->stride_height + extent;
    return p;
}

static void fill_zeros(real *to, int64_t begin, int64_t end)
{
    for (; begin < end; begin += LANES)
        vstore(to + begin, (vreal){0});
}

/* The line whose element 0 is column `column` of row [width]: `count` elements of each phase, in whole vectors. */
static void fill_line(const plan *p, const real *row, int64_t width, int64_t column, int64_t stride, int64_t count,
                      real *line)
{
    const int64_t first = -column, last = width - column; /* elements that lie in the image */
    const int64_t ahead = 2048 / (int64_t)sizeof(real);   /* rows, and planes, lie one after the other */
    const real *x = row + column;
    if (stride == 1) {
        for (int64_t i = 0; i < count; i += LANES) { /* main loop, edges and tail */
            __builtin_prefetch(x + i + ahead);
            vstore(line + i, vload_between(x + i, first - i, last - i));
        }
    } else if (stride == 2) {
        real *odd = line + (p->phases - 1) * p->pitch; /* one phase: 1 x 1 kernels read the even elements alone */
        for (int64_t i = 0, u = 0; i < count; i += LANES, u += 2 * LANES) { /* main loop, edges and tail */
            __builtin_prefetch(x + u + ahead);
            __builtin_prefetch(x + u + LANES + ahead);
            vreal evens, odds;
            if (u >= first && u + 2 * LANES <= last) {
                vload_even_odd(x + u, &evens, &odds);
            } else {
                const vreal a = vload_between(x + u, first - u, last - u);
                const vreal b = vload_between(x + u + LANES, first - u - LANES, last - u - LANES);
                evens = veven(a, b), odds = vodd(a, b);
            }
            vstore(odd + i, odds);
            vstore(line + i, evens);
        }
    } else {
        for (int64_t phase = 0; phase < p->phases; phase++)
            for (int64_t i = 0, u = phase; i < count; i++, u += stride)
                line[phase * p->pitch + i] = u >= first && u < last ? x[u] : 0;
    }
}

/* Lines [begin, end) of every source for output plane d; line 0 is row `top` of the image, column `left`. */
static void fill_lines(const plan *p, const real *x, int64_t d, int64_t top, int64_t left, int64_t count, int64_t begin,
                       int64_t end, real *lines)
{
    const fdl_window *w = &p->v->w;
    const int64_t reach = w->dilation_height * (w->kernel_height - 1) + 1, size = line_size(p);
    for (int64_t source = 0; source < p->sources; source++) {
        const int64_t c = source / w->kernel_depth, q = source % w->kernel_depth;
        const int64_t plane = d * w->stride_depth - w->padding_depth + q * w->dilation_depth;
        const bool present = plane >= 0 && plane < w->depth;
        const real *row = x + c * p->v->pixels + (plane * w->height + top + begin) * w->width;
        real *line = lines + (source * p->rows + begin) * size;
        for (int64_t r = begin; r < end; r++, row += w->width, line += size) {
            if (w->stride_height > reach && r % w->stride_height >= reach)
                continue; /* between windows */
            if (present && top + r >= 0 && top + r < w->height)
                fill_line(p, row, w->width, left, w->stride_width, count, line);
            else
                fill_zeros(line, 0, size);
        }
    }
}

/* What becomes of sums: + bias + residual, within limits, rows `row` elements apart. */
typedef struct {
    real bias;
    const real *residual; /* laid out as y; NULL: none */
    real *y;
    int64_t row;
    limits limits;
} target;

FDL_INLINE void store(const target *t, int64_t at, vreal value, int64_t lanes)
{
    if (t->residual)
        value += vload_up_to(t->residual + at, lanes);
    vstore_up_to(t->y + at, vlimit(t->limits, value), lanes);
}

/* BLOCK output rows, of which the first `rows` are stored, from lines `line` elements apart. Constant wherever inlined:
 * kernel_height, kernel_width, stride. */
FDL_INLINE void block_of(const real *lines, int64_t line, const int64_t *at, const real *weight, const target *t,
                         int64_t rows, int64_t columns, const int kernel_height, const int kernel_width,
                         const int stride)
{
    enum { MOST_WIDTH = 5 };
    vreal w[MOST_WIDTH * MOST_WIDTH];
    FDL_UNROLL
    for (int tap = 0; tap < kernel_height * kernel_width; tap++)
        w[tap] = vset1(weight[tap]);
    const target to = {.residual = t->residual, .y = t->y, .row = t->row, .limits = t->limits}; /* in registers */
    const vreal bias = vset1(t->bias);
    int64_t first[MOST_WIDTH];
    FDL_UNROLL
    for (int s = 0; s < kernel_width; s++)
        first[s] = at[s];
    for (int64_t j = 0; j < columns; j += LANES) { /* main loop and tail */
        const real *x = lines + j;
        vreal sum[BLOCK];
        FDL_UNROLL
        for (int i = 0; i < BLOCK; i++)
            sum[i] = bias;
        FDL_UNROLL
        for (int l = 0; l < (BLOCK - 1) * stride + kernel_height; l++, x += line) {
            FDL_OPAQUE(x);
            FDL_UNROLL
            for (int s = 0; s < kernel_width; s++) {
                vreal value = vload(x + first[s]);
                FDL_COMPUTED(value);
                FDL_UNROLL
                for (int i = 0; i < BLOCK; i++)
                    if (l >= i * stride && l < i * stride + kernel_height)
                        sum[i] += w[(l - i * stride) * kernel_width + s] * value;
            }
        }
        FDL_UNROLL
        for (int i = 0; i < BLOCK; i++)
            FDL_COMPUTED(sum[i]);
        FDL_UNROLL
        for (int i = 0; i < BLOCK; i++)
            if (i < rows) {
                __builtin_prefetch(to.y + (i + BLOCK) * to.row + j, 1);
                store(&to, i * to.row + j, sum[i], columns - j);
            }
    }
}

/* The `wide` vectors of sum_taps from column j on; constant wherever inlined. */
FDL_INLINE void sum_taps_of(const real *from, const int64_t *offset, const real *weight, int64_t taps, const target *t,
                            int64_t j, int64_t columns, const int wide)
{
    vreal sum[WIDE];
    FDL_UNROLL
    for (int l = 0; l < wide; l++)
        sum[l] = vset1(t->bias);
    for (int64_t tap = 0; tap < taps; tap++) {
        const vreal w = vset1(weight[tap]);
        FDL_UNROLL
        for (int l = 0; l < wide; l++)
            sum[l] += w * vload(from + offset[tap] + j + l * LANES);
    }
    FDL_UNROLL
    for (int l = 0; l < wide; l++)
        if (j + l * LANES < columns)
            store(t, j + l * LANES, sum[l], columns - j - l * LANES);
}

/* The same of more taps than one block of a sum has. */
static void sum_many_taps(const real *from, const int64_t *offset, const real *weight, int64_t taps, const target *t,
                          int64_t columns)
{
    for (int64_t j = 0; j < columns; j += LANES) { /* main loop and tail */
        vreal high = vset1(t->bias), low = {0};
        for (int64_t tap = 0; tap < taps; tap += SUM_TERMS) {
            real part[LANES];
            const target to = {.y = part, .limits = no_limits};
            sum_taps_of(from + j, offset + tap, weight + tap, min64(SUM_TERMS, taps - tap), &to, 0, LANES, 1);
            vtotal_add(&high, &low, vload(part));
        }
        store(t, j, vtotal(high, low), columns - j);
    }
}

/* y[0 : columns] = sum over the taps of weight[tap] from[offset[tap] : ... + columns], for any number of taps. */
static void sum_taps(const real *from, const int64_t *offset, const real *weight, int64_t taps, const target *t,
                     int64_t columns)
{
    if (taps > SUM_TERMS) {
        sum_many_taps(from, offset, weight, taps, t, columns);
        return;
    }
    int64_t j = 0;
    for (; j + 2 * LANES < columns; j += WIDE * LANES) /* main loop */
        sum_taps_of(from, offset, weight, taps, t, j, columns, WIDE);
    if (j + LANES < columns) /* tail */
        sum_taps_of(from, offset, weight, taps, t, j, columns, 2);
    else if (j < columns)
        sum_taps_of(from, offset, weight, taps, t, j, columns, 1);
}

/* The kernel whose taps in height and width are compiled in, by its size; 0: none. */
static int64_t specialised(const plan *p)
{
    const fdl_window *w = &p->v->w;
    const bool square = w->kernel_height == w->kernel_width && (w->kernel_width == 3 || w->kernel_width == 5);
    return p->sources == 1 && square && w->dilation_height == 1 && w->stride_height <= 2 ? w->kernel_width : 0;
}

bool conv_depthwise_pays(const convolution *v)
{
    enum { MOST_LINES = 1 << 19, MOST_TERMS = 1 << 14 }; /* elements of scratch; of each there are LANES sums */
    if (min64(v->channels, v->filters) != 1 || max64(v->channels, v->filters) > 4)
        return false;
    const plan p = plan_forward(v);
    return p.sources * p.rows * line_size(&p) <= MOST_LINES && v->filters * v->terms <= MOST_TERMS;
}

/* ---- forward ---- */

/* `rows` output rows, of which the first one's first line is `lines`. */
static void compute_rows(const plan *p, const real *lines, const int64_t *at, const int64_t *offset, const real *weight,
                         const target *t, int64_t rows, int64_t columns)
{
    const fdl_window *w = &p->v->w;
    const int64_t line = line_size(p);
    const int64_t kernel = specialised(p);
    if (kernel == 3 && w->stride_height == 1) {
        block_of(lines, line, at, weight, t, rows, columns, 3, 3, 1);
    } else if (kernel == 3) {
        block_of(lines, line, at, weight, t, rows, columns, 3, 3, 2);
    } else if (kernel == 5 && w->stride_height == 1) {
        block_of(lines, line, at, weight, t, rows, columns, 5, 5, 1);
    } else if (kernel == 5) {
        block_of(lines, line, at, weight, t, rows, columns, 5, 5, 2);
    } else {
        for (int64_t i = 0; i < rows; i++) {
            const target row = {
                .bias = t->bias,
                .residual = t->residual ? t->residual + i * t->row : NULL,
                .y = t->y + i * t->row,
                .limits = t->limits,
            };
            sum_taps(lines + i * w->stride_height * line, offset, weight, p->v->terms, &row, columns);
        }
    }
}

/* Where the taps of an output begin: in a line, those of one kernel row, and from the first line on, all. */
static void locate_taps(const plan *p, int64_t *at, int64_t *offset)
{
    const fdl_window *w = &p->v->w;
    for (int64_t s = 0; s < w->kernel_width; s++) {
        const int64_t u = s * w->dilation_width;
        at[s] = u % w->stride_width * p->pitch + u / w->stride_width;
    }
    for (int64_t source = 0; source < p->sources; source++)
        for (int64_t r = 0; r < w->kernel_height; r++)
            for (int64_t s = 0; s < w->kernel_width; s++)
                *offset++ = (source * p->rows + r * w->dilation_height) * line_size(p) + at[s];
}

/* Items are images, groups, output planes and bands. */
static int forward_task(void *context, int64_t begin, int64_t end)
{
    const plan *p = context;
    const convolution *v = p->v;
    const fdl_window *w = &v->w;
    const int64_t size = (int64_t)sizeof(real);
    const fdl_mark mark = fdl_scratch_mark();
    real *lines = fdl_scratch(p->sources * p->rows * line_size(p) * size);
    int64_t *at = fdl_scratch(w->kernel_width * (int64_t)sizeof *at);
    int64_t *offset = fdl_scratch(v->terms * (int64_t)sizeof *offset);
    if (!lines || !at || !offset) {
        fdl_scratch_release(mark);
        return FDL_OUT_OF_MEMORY;
    }
    locate_taps(p, at, offset);
    const int64_t reach = w->dilation_height * (w->kernel_height - 1) + 1;
    for (int64_t item = begin; item < end; item++) {
        const int64_t top = item % p->bands * p->band, d = item / p->bands % w->out_depth;
        const int64_t n_g = item / p->bands / w->out_depth, n = n_g / w->groups, g = n_g % w->groups;
        const int64_t rows = min64(p->band, w->out_height - top);
        const real *x = v->x + (n * w->channels + g * v->channels) * v->pixels;
        const int64_t first = n * w->out_channels + g * v->filters; /* of the planes of y */
        const real *weight = v->weights.data + g * v->group_weights;
        for (int64_t left = 0; left < w->out_width; left += p->chunk) {
            const int64_t columns = min64(p->chunk, w->out_width - left);
            const int64_t count = columns + w->dilation_width * (w->kernel_width - 1) / w->stride_width;
            for (int64_t i = 0, filled = 0; i < rows; i += BLOCK) {
                /* A block ahead, because what was stored just now is slow to load from elsewhere. */
                const int64_t wanted = (min64(i + 2 * BLOCK, p->band) - 1) * w->stride_height + reach;
                fill_lines(p, x, d, top * w->stride_height - w->padding_height,
                           left * w->stride_width - w->padding_width, count, filled, wanted, lines);
                filled = wanted;
                for (int64_t f = 0; f < v->filters; f++) {
                    const int64_t y = (first + f) * v->positions + (d * w->out_height + top + i) * w->out_width + left;
                    const target t = {
                        .bias = v->bias ? v->bias[g * v->filters + f] : 0,
                        .residual = v->residual ? v->residual + y : NULL,
                        .y = v->y + y,
                        .row = w->out_width,
                        .limits = limits_of(&v->activation),
                    };
                    compute_rows(p, lines + i * w->stride_height * line_size(p), at, offset, weight + f * v->terms, &t,
                                 min64(BLOCK, rows - i), columns);
                    activate_stored(&v->activation, t.y, t.row, min64(BLOCK, rows - i), columns);
                }
            }
        }
    }
    fdl_scratch_release(mark);
    return FDL_OK;
}

/* ---- forward, images side by side ---- */

enum { BESIDE = 4, BESIDE_BYTES = 1 << 17 }; /* outputs in a row that are computed together; most of an image */

/* Up to the end of the image, or of the last window: padding after the image may be another than that before it. */
static int64_t padded_height(const fdl_window *w)
{
    return max64(w->padding_height + w->height, (w->out_height - 1) * w->stride_height + w->kernel_height);
}
static int64_t padded_width(const fdl_window *w)
{
    return max64(w->padding_width + w->width, (w->out_width - 1) * w->stride_width + w->kernel_width);
}
static int64_t padded_pixels(const fdl_window *w) { return padded_height(w) * padded_width(w); }

/* Whether images are as small as that, and the kernel is one that is compiled for it. */
static bool is_beside(const convolution *v)
{
    const fdl_window *w = &v->w;
    const bool square = w->kernel_height == w->kernel_width && (w->kernel_width == 3 || w->kernel_width == 5);
    const bool even = w->stride_height == w->stride_width && w->stride_width <= 2;
    return v->channels == 1 && v->filters == 1 && w->groups >= LANES && w->depth == 1 && w->kernel_depth == 1 &&
           w->out_depth == 1 && square && even && w->dilation_height == 1 && w->dilation_width == 1 && !v->residual &&
           padded_pixels(w) * VECTOR_BYTES <= BESIDE_BYTES;
}

/* `outputs` of a row, from rows of x `row` elements apart, [taps, LANES] weights; constant wherever inlined: the last
 * three. */
FDL_INLINE void beside_outputs(const real *x, int64_t row, const real *weight, vreal bias, limits cut, real *y,
                               const int outputs, const int kernel, const int stride)
{
    vreal sum[BESIDE];
    FDL_UNROLL
    for (int i = 0; i < outputs; i++)
        sum[i] = bias;
    for (int r = 0; r < kernel; r++, x += row) {
        FDL_UNROLL
        for (int c = 0; c < (outputs - 1) * stride + kernel; c++) {
            const vreal value = vload(x + c * LANES);
            FDL_UNROLL
            for (int i = 0; i < outputs; i++)
                if (c >= i * stride && c < i * stride + kernel)
                    sum[i] += vload(weight + (r * kernel + c - i * stride) * LANES) * value;
        }
    }
    FDL_UNROLL
    for (int i = 0; i < outputs; i++)
        vstore(y + i * LANES, vlimit(cut, sum[i]));
}

FDL_INLINE void beside_image(const fdl_window *w, const real *x, const real *weight, vreal bias, limits cut, real *y,
                             const int kernel, const int stride)
{
    const int64_t row = padded_width(w) * LANES, columns = w->out_width;
    for (int64_t i = 0; i < w->out_height; i++, y += columns * LANES) {
        const real *from = x + i * stride * row;
        for (int64_t next = 0; next < columns && columns >= BESIDE;
             next += BESIDE) { /* main loop; the tail: some once more */
            const int64_t j = min64(next, columns - BESIDE);
            beside_outputs(from + j * stride * LANES, row, weight, bias, cut, y + j * LANES, BESIDE, kernel, stride);
        }
        for (int64_t j = 0; j < columns && columns < BESIDE; j++)
            beside_outputs(from + j * stride * LANES, row, weight, bias, cut, y + j * LANES, 1, kernel, stride);
    }
}

/* y from x, both `dense` [pixels, LANES], by way of a copy whose padding is 0 already. */
static void beside_padded(const convolution *v, real *dense, real *padded, const real *weight, vreal bias)
{
    const fdl_window *w = &v->w;
    const limits cut = limits_of(&v->activation);
    const int64_t width = padded_width(w), size = (int64_t)sizeof(real) * LANES;
    for (int64_t i = 0; i < w->height; i++)
        memcpy(padded + ((i + w->padding_height) * width + w->padding_width) * LANES, dense + i * w->width * LANES,
               (size_t)(w->width * size));
    if (w->kernel_width == 3 && w->stride_width == 1)
        beside_image(w, padded, weight, bias, cut, dense, 3, 1);
    else if (w->kernel_width == 3)
        beside_image(w, padded, weight, bias, cut, dense, 3, 2);
    else if (w->stride_width == 1)
        beside_image(w, padded, weight, bias, cut, dense, 5, 1);
    else
        beside_image(w, padded, weight, bias, cut, dense, 5, 2);
}

/* Items are images and LANES groups. */
static int beside_images_task(void *context, int64_t begin, int64_t end)
{
    const convolution *v = context;
    const fdl_window *w = &v->w;
    const int64_t blocks = ceil_div(w->groups, LANES);
    const int64_t pixels = padded_pixels(w), taps = v->terms, size = (int64_t)sizeof(real) * LANES;
    const fdl_mark mark = fdl_scratch_mark();
    real *dense = fdl_scratch(max64(v->pixels, v->positions) * size), *padded = fdl_scratch(pixels * size);
    real *weight = fdl_scratch(taps * size);
    if (!dense || !padded || !weight) {
        fdl_scratch_release(mark);
        return FDL_OUT_OF_MEMORY;
    }
    const bool streams = conv_stream_applies(v); /* without padding in memory */
    if (!streams)
        memset(padded, 0, (size_t)(pixels * size));
    for (int64_t item = begin; item < end; item++) {
        const int64_t n = item / blocks, g = item % blocks * LANES, groups = min64(LANES, w->groups - g);
        real *y = v->y + (n * w->groups + g) * v->positions;
        interleave(v->x + (n * w->groups + g) * v->pixels, v->pixels, groups, v->pixels, dense);
        interleave(v->weights.data + g * v->group_weights, v->group_weights, groups, taps, weight);
        const vreal bias = v->bias ? vload_up_to(v->bias + g, groups) : (vreal){0};
        if (streams)
            conv_stream_beside(v, dense, weight, bias, padded);
        else
            beside_padded(v, dense, padded, weight, bias);
        separate(streams ? padded : dense, v->positions, groups, v->positions, y);
        activate_stored(&v->activation, y, v->positions, groups, v->positions);
    }
    fdl_scratch_release(mark);
    return FDL_OK;
}

/* Of one image. */
static double beside_cycles(const convolution *v)
{
    return (v->w.stride_width == 1 ? 18.0 : 11.5) * (double)v->pixels / LANES;
}

int conv_depthwise_forward(const convolution *v)
{
    const bool beside = is_beside(v);
    if (conv_depthwise_masked_applies(v) && (!beside || conv_depthwise_masked_cycles(v) < beside_cycles(v)))
        return conv_depthwise_masked_forward(v);
    if (beside) {
        const int64_t items = v->w.batch * ceil_div(v->w.groups, LANES);
        return fdl_parallel(items, conv_depthwise_grain(v, items), beside_images_task, (void *)v);
    }
    plan p = plan_forward(v);
    const int64_t items = v->w.batch * v->w.groups * v->w.out_depth * p.bands;
    return fdl_parallel(items, conv_depthwise_grain(v, items), forward_task, &p);
}

/* ---- gradient of the input ---- */

static int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -ceil_div(-a, b); }

/* The plane of grad_y that reaches plane d of grad_x through tap q; -1: none. */
static int64_t locate_plane(const fdl_window *w, int64_t d, int64_t q)
{
    const int64_t u = d + w->padding_depth - q * w->dilation_depth;
    return u >= 0 && u % w->stride_depth == 0 && u / w->stride_depth < w->out_depth ? u / w->stride_depth : -1;
}

/* Lines of grad_y. Bands and chunks are of grad_x; chunks begin at multiples of the stride. */
static plan plan_grad_x(const convolution *v)
{
    const fdl_window *w = &v->w;
    plan p = {.v = v, .sources = v->filters * w->kernel_depth, .phases = 1};
    const int64_t wide = w->dilation_width * (w->kernel_width - 1), high = w->dilation_height * (w->kernel_height - 1);
    p.chunk = min64(ceil_div(w->width, w->stride_width), CHUNK) * w->stride_width;
    p.pitch = ceil_div((p.chunk + wide) / w->stride_width + 2, LANES) * LANES + WIDE * LANES;
    /* A row of grad_y serves `stride` rows of grad_x. */
    const int64_t fit = BAND_BYTES / (int64_t)sizeof(real) / max64(1, p.sources * p.pitch);
    p.band = max64(fit * w->stride_height - high, max64(2 * BLOCK, high));
    p.bands = max64(1, ceil_div(w->height, p.band));
    p.band = ceil_div(w->height, p.bands);
    p.rows = (p.band + high) / w->stride_height + 2;
    return p;
}

/* The taps of one dimension fall into sets, by the remainder of u that they are for: tap, tap + step, ... of every set;
 * of one and the same u, each next one reads `back` elements of grad_y before. */
typedef struct {
    int64_t sets, step, back;
} tap_sets;

static tap_sets find_sets(int64_t kernel, int64_t stride, int64_t dilation)
{
    int64_t step = 1;
    while (step * dilation % stride != 0)
        step++;
    return (tap_sets){min64(step, kernel), step, step * dilation / stride};
}

/* What a row of grad_x is summed from: with each set of rows, a list of taps for each set of columns. */
typedef struct {
    tap_sets rows, columns;
    int64_t first_column; /* of grad_y, for the first of grad_x: element 0 of a line */
    int64_t *begin;       /* [rows.sets * columns.sets + 1], of each list */
    int64_t *offset;      /* of each tap: from the line of its set's first row */
    int64_t *index;       /* of its weight, from the group's first filter on */
} lists;

/* For plane d of grad_x. */
static void make_lists(const plan *p, int64_t d, lists *t)
{
    const convolution *v = p->v;
    const fdl_window *w = &v->w;
    int64_t taps = 0;
    for (int64_t set = 0; set < t->rows.sets * t->columns.sets; set++) {
        const int64_t set_r = set / t->columns.sets, set_s = set % t->columns.sets;
        const int64_t at = -floor_div(set_s * w->dilation_width - w->padding_width, w->stride_width) - t->first_column;
        t->begin[set] = taps;
        for (int64_t source = 0; source < p->sources; source++) {
            const int64_t f = source / w->kernel_depth, q = source % w->kernel_depth;
            for (int64_t r = set_r; r < w->kernel_height && locate_plane(w, d, q) >= 0; r += t->rows.step)
                for (int64_t s = set_s; s < w->kernel_width; s += t->columns.step, taps++) {
                    const int64_t row = source * p->rows - r / t->rows.step * t->rows.back;
                    t->offset[taps] = row * p->pitch + at - s / t->columns.step * t->columns.back;
                    t->index[taps] = f * v->terms + (q * w->kernel_height + r) * w->kernel_width + s;
                }
        }
    }
    t->begin[t->rows.sets * t->columns.sets] = taps;
}

/* Row i [columns] of grad_x, whose lines begin with row first_row of grad_y. `phases` [2, pitch]: what is still to be
 * interleaved, at a stride above 1. */
static void compute_grad_row(const plan *p, const lists *list, int64_t i, int64_t first_row, const real *lines,
                             const real *weight, real bias, real *phases, int64_t columns, real *x)
{
    const fdl_window *w = &p->v->w;
    const int64_t stride = w->stride_width;
    const limits cut = limits_of(&p->v->activation);
    int64_t set_r = 0, row = 0;
    for (; set_r < list->rows.sets; set_r++) {
        const int64_t u = i + w->padding_height - set_r * w->dilation_height;
        row = floor_div(u, w->stride_height);
        if (row * w->stride_height == u)
            break;
    }
    const bool any = set_r < list->rows.sets;
    if (!any || list->columns.sets < stride)
        for (int64_t j = 0; j < columns; j++)
            x[j] = bias < cut.low ? cut.low : bias > cut.high ? cut.high : bias;
    for (int64_t set_s = 0; set_s < list->columns.sets && any; set_s++) {
        const int64_t u = set_s * w->dilation_width - w->padding_width, phase = u - floor_div(u, stride) * stride;
        const int64_t begin = list->begin[set_r * list->columns.sets + set_s];
        const int64_t end = list->begin[set_r * list->columns.sets + set_s + 1];
        const bool zipped = stride == 2 && list->columns.sets == 2;
        const target t = {.bias = bias, .y = stride == 1 ? x : phases + zipped * phase * p->pitch, .limits = cut};
        sum_taps(lines + (row - first_row) * p->pitch, list->offset + begin, weight + begin, end - begin, &t,
                 ceil_div(columns - phase, stride));
        if (zipped && set_s == 1)
            zip_lines(phases, phases + p->pitch, columns, x);
        else if (stride > 1 && !zipped)
            for (int64_t j = phase, k = 0; j < columns; j += stride, k++)
                x[j] = phases[k];
    }
    activate_stored(&p->v->activation, x, 0, 1, columns);
}

/* Items are images, groups, planes of grad_x and bands. */
static int grad_x_task(void *context, int64_t begin, int64_t end)
{
    const plan *p = context;
    const convolution *v = p->v;
    const fdl_window *w = &v->w;
    const int64_t size = (int64_t)sizeof(real), high = w->dilation_height * (w->kernel_height - 1);
    const int64_t wide = w->dilation_width * (w->kernel_width - 1);
    const fdl_mark mark = fdl_scratch_mark();
    real *lines = fdl_scratch(p->sources * p->rows * p->pitch * size);
    real *phases = fdl_scratch(2 * p->pitch * size);
    real *weight = fdl_scratch(v->filters * v->taps * size);
    lists list = {
        .rows = find_sets(w->kernel_height, w->stride_height, w->dilation_height),
        .columns = find_sets(w->kernel_width, w->stride_width, w->dilation_width),
        .first_column = floor_div(w->padding_width - wide, w->stride_width),
        .offset = fdl_scratch(v->filters * v->taps * (int64_t)sizeof *list.offset),
        .index = fdl_scratch(v->filters * v->taps * (int64_t)sizeof *list.index),
    };
    list.begin = fdl_scratch((list.rows.sets * list.columns.sets + 1) * (int64_t)sizeof *list.begin);
    if (!lines || !phases || !weight || !list.offset || !list.index || !list.begin) {
        fdl_scratch_release(mark);
        return FDL_OUT_OF_MEMORY;
    }
    int64_t listed = -1;
    for (int64_t item = begin; item < end; item++) {
        const int64_t top = item % p->bands * p->band, d = item / p->bands % w->depth;
        const int64_t n_g = item / p->bands / w->depth, n = n_g / w->groups, g = n_g % w->groups;
        const int64_t bottom = min64(top + p->band, w->height);
        if (d != listed)
            make_lists(p, listed = d, &list);
        const int64_t first_row = floor_div(top + w->padding_height - high, w->stride_height);
        const int64_t rows = floor_div(bottom - 1 + w->padding_height, w->stride_height) + 1 - first_row;
        const real *grad_y = v->grad_y + (n * w->out_channels + g * v->filters) * v->positions;
        real *grad_x = v->grad_x + (n * w->channels + g * v->channels) * v->pixels + d * w->height * w->width;
        for (int64_t left = 0; left < w->width; left += p->chunk) {
            const int64_t columns = min64(p->chunk, w->width - left);
            const int64_t first = left / w->stride_width + list.first_column;
            const int64_t count = ceil_div(columns + wide, w->stride_width) + 1;
            for (int64_t source = 0; source < p->sources; source++) {
                const int64_t f = source / w->kernel_depth, plane = locate_plane(w, d, source % w->kernel_depth);
                for (int64_t r = 0; r < rows && plane >= 0; r++) {
                    real *line = lines + (source * p->rows + r) * p->pitch;
                    const int64_t row = first_row + r;
                    if (row >= 0 && row < w->out_height)
                        fill_line(p, grad_y + f * v->positions + (plane * w->out_height + row) * w->out_width,
                                  w->out_width, first, 1, count, line);
                    else
                        fill_zeros(line, 0, count);
                }
            }
            for (int64_t c = 0; c < v->channels; c++) {
                const real *weights = v->weight + g * v->filters * v->terms + c * v->taps;
                for (int64_t tap = 0; tap < list.begin[list.rows.sets * list.columns.sets]; tap++)
                    weight[tap] = weights[list.index[tap]];
                for (int64_t i = top; i < bottom; i++)
                    compute_grad_row(p, &list, i, first_row, lines, weight, v->bias ? v->bias[g * v->channels + c] : 0,
                                     phases, columns, grad_x + c * v->pixels + i * w->width + left);
            }
        }
    }
    fdl_scratch_release(mark);
    return FDL_OK;
}

int conv_depthwise_grad_x(const convolution *v)
{
    plan p = plan_grad_x(v);
    const int64_t items = v->w.batch * v->w.groups * v->w.depth * p.bands;
    return fdl_parallel(items, conv_depthwise_grain(v, items), grad_x_task, &p);
}

/* ---- gradient of the weights ---- */

/* The sums of a filter's taps: vectors of partial sums, and what they have been emptied into. */
typedef struct {
    real *partial; /* [terms, LANES] */
    double *total; /* [terms] */
    int64_t added; /* vectors that have gone into each partial sum */
} sums;

static void empty_into_total(sums *t, int64_t terms)
{
    for (int64_t k = 0; k < terms; k++) {
        t->total[k] += vsum_double(vload(t->partial + k * LANES));
        vstore(t->partial + k * LANES, (vreal){0});
    }
    t->added = 0;
}

/* sum[r, s] += grad_y[i, 0 : n] line[i stride + r][at[s] : at[s] + n], n <= LANES. Constant wherever inlined: rows,
 * kernel, stride, and `whole`: n == LANES. */
FDL_INLINE void add_products(const real *x, int64_t line, const int64_t *first, const real *grad_y, int64_t grad_row,
                             int64_t n, vreal *sum, const int rows, const int kernel, const int stride,
                             const bool whole)
{
    vreal g[2];
    FDL_UNROLL
    for (int i = 0; i < rows; i++)
        g[i] = whole ? vload(grad_y + i * grad_row) : vload_first(grad_y + i * grad_row, n);
    FDL_UNROLL
    for (int l = 0; l < (rows - 1) * stride + kernel; l++, x += line) {
        FDL_OPAQUE(x);
        FDL_UNROLL
        for (int s = 0; s < kernel; s++) {
            /* What is past the last position may be NaN, and 0 NaN is not 0. */
            vreal value = whole ? vload(x + first[s]) : vload_first(x + first[s], n);
            FDL_COMPUTED(value);
            FDL_UNROLL
            for (int i = 0; i < rows; i++)
                if (l >= i * stride && l < i * stride + kernel)
                    sum[(l - i * stride) * kernel + s] += g[i] * value;
        }
    }
}

/* partial[r, s] += the sum of these products over the columns, for `rows` (at most 2) rows of grad_y. */
FDL_INLINE void add_rows_of(const real *lines, int64_t line, const int64_t *at, const real *grad_y, int64_t grad_row,
                            int64_t columns, real *partial, const int rows, const int kernel, const int stride)
{
    enum { MOST_WIDTH = 5 };
    vreal sum[MOST_WIDTH * MOST_WIDTH];
    int64_t first[MOST_WIDTH];
    FDL_UNROLL
    for (int s = 0; s < kernel; s++)
        first[s] = at[s];
    FDL_UNROLL
    for (int tap = 0; tap < kernel * kernel; tap++)
        sum[tap] = vload(partial + tap * LANES);
    int64_t j = 0;
    for (; j + LANES <= columns; j += LANES) { /* main loop */
        __builtin_prefetch(grad_y + rows * grad_row + j);
        add_products(lines + j, line, first, grad_y + j, grad_row, LANES, sum, rows, kernel, stride, true);
    }
    if (j < columns) /* tail */
        add_products(lines + j, line, first, grad_y + j, grad_row, columns - j, sum, rows, kernel, stride, false);
    FDL_UNROLL
    for (int tap = 0; tap < kernel * kernel; tap++)
        vstore(partial + tap * LANES, sum[tap]);
}

/* The same for any kernel and source, one row. */
static void add_row_products(const plan *p, const real *lines, const int64_t *at, const real *grad_y, int64_t columns,
                             real *partial)
{
    const fdl_window *w = &p->v->w;
    for (int64_t source = 0; source < p->sources; source++)
        for (int64_t r = 0; r < w->kernel_height; r++)
            for (int64_t s = 0; s < w->kernel_width; s++, partial += LANES) {
                const real *x = lines + (source * p->rows + r * w->dilation_height) * line_size(p) + at[s];
                vreal sum[2] = {vload(partial)};
                int64_t j = 0;
                for (; j + 2 * LANES <= columns; j += 2 * LANES) { /* main loop */
                    sum[0] += vload(grad_y + j) * vload(x + j);
                    sum[1] += vload(grad_y + j + LANES) * vload(x + j + LANES);
                }
                for (; j < columns; j += LANES) /* tail */
                    sum[0] += vload_up_to(grad_y + j, columns - j) * vload_up_to(x + j, columns - j);
                vstore(partial, sum[0] + sum[1]);
            }
}

static void add_rows(const plan *p, const real *lines, const int64_t *at, const real *grad_y, int64_t rows,
                     int64_t columns, real *partial)
{
    const fdl_window *w = &p->v->w;
    const int64_t line = line_size(p), step = w->stride_height * line, kernel = specialised(p);
    int64_t i = 0;
    for (; kernel == 3 && i + 2 <= rows; i += 2) {
        if (w->stride_height == 1)
            add_rows_of(lines + i * step, line, at, grad_y + i * w->out_width, w->out_width, columns, partial, 2, 3, 1);
        else
            add_rows_of(lines + i * step, line, at, grad_y + i * w->out_width, w->out_width, columns, partial, 2, 3, 2);
    }
    for (; i < rows; i++) {
        if (kernel == 3)
            add_rows_of(lines + i * step, line, at, grad_y + i * w->out_width, 0, columns, partial, 1, 3, 1);
        else if (kernel == 5)
            add_rows_of(lines + i * step, line, at, grad_y + i * w->out_width, 0, columns, partial, 1, 5, 1);
        else
            add_row_products(p, lines + i * step, at, grad_y + i * w->out_width, columns, partial);
    }
}

/* Items are groups: each is summed over all images by one thread. */
static int grad_weight_task(void *context, int64_t begin, int64_t end)
{
    const plan *p = context;
    const convolution *v = p->v;
    const fdl_window *w = &v->w;
    const int64_t size = (int64_t)sizeof(real);
    const fdl_mark mark = fdl_scratch_mark();
    real *lines = fdl_scratch(p->sources * p->rows * line_size(p) * size);
    int64_t *at = fdl_scratch(w->kernel_width * (int64_t)sizeof *at);
    real *partial = fdl_scratch(v->filters * v->terms * LANES * size);
    double *total = fdl_scratch(v->filters * v->terms * (int64_t)sizeof *total);
    int64_t *offset = fdl_scratch(v->terms * (int64_t)sizeof *offset);
    if (!lines || !at || !offset || !partial || !total) {
        fdl_scratch_release(mark);
        return FDL_OUT_OF_MEMORY;
    }
    locate_taps(p, at, offset);
    const int64_t terms = v->filters * v->terms;
    const int64_t reach = w->dilation_height * (w->kernel_height - 1) + 1;
    memset(partial, 0, (size_t)(terms * LANES * size));
    for (int64_t g = begin; g < end; g++) {
        sums t = {partial, total, 0};
        memset(total, 0, (size_t)terms * sizeof *total);
        for (int64_t item = 0; item < w->batch * w->out_depth * p->bands; item++) {
            const int64_t top = item % p->bands * p->band, d = item / p->bands % w->out_depth;
            const int64_t n = item / p->bands / w->out_depth, rows = min64(p->band, w->out_height - top);
            const real *x = v->x + (n * w->channels + g * v->channels) * v->pixels;
            for (int64_t left = 0; left < w->out_width; left += p->chunk) {
                const int64_t columns = min64(p->chunk, w->out_width - left);
                const int64_t count = columns + w->dilation_width * (w->kernel_width - 1) / w->stride_width;
                for (int64_t i = 0, filled = 0; i < rows; i += BLOCK) {
                    const int64_t few = min64(BLOCK, rows - i);
                    const int64_t wanted = (min64(i + 2 * BLOCK, rows) - 1) * w->stride_height + reach;
                    fill_lines(p, x, d, top * w->stride_height - w->padding_height,
                               left * w->stride_width - w->padding_width, count, filled, wanted, lines);
                    filled = wanted;
                    for (int64_t f = 0; f < v->filters; f++)
                        add_rows(p, lines + i * w->stride_height * line_size(p), at,
                                 v->grad_y + (n * w->out_channels + g * v->filters + f) * v->positions +
                                     (d * w->out_height + top + i) * w->out_width + left,
                                 few, columns, partial + f * v->terms * LANES);
                    t.added += few * ceil_div(columns, LANES);
                    if (t.added >= MOST_ADDED)
                        empty_into_total(&t, terms);
                }
            }
        }
        empty_into_total(&t, terms);
        for (int64_t k = 0; k < terms; k++)
            v->grad_weight[g * terms + k] = (real)total[k];
    }
    fdl_scratch_release(mark);
    return FDL_OK;
}

int conv_depthwise_grad_weight(const convolution *v)
{
    plan p = plan_forward(v);
    return fdl_parallel(v->w.groups, conv_depthwise_grain(v, v->w.groups), grad_weight_task, &p);
}
