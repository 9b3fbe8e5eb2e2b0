/* The gradient of a convolution's input at strides above 1, which is also the transposed convolution, by phases.
 *
 *   grad_x[c, u] = sum over filters f and taps r with u - r dilation divisible by the stride of
 *                  weight[f, c, r] grad_y[f, (u - r dilation) / stride],   u counted in the padded image
 *
 * in every dimension alike. Positions of grad_x with the same remainder by the stride (a phase) see the same taps,
 * every step-th one, turned round: each phase is a convolution of grad_y at stride 1, and a product on the building
 * block, with no multiplication by the zeros between. The phases of a row of grad_x are computed side by side into a
 * tile in cache and interleaved from there. Sums in `real` as described in gemm.h. */
#include "kernels/conv/conv.h"

enum {
    TILE_BYTES = 1 << 18,            /* of results: they stay in the second-level cache */
    WEIGHTS_BLOCK = 32,              /* channels whose weights are packed together */
    FEW_COLUMNS = 16 * GEMM_COLUMNS, /* of all rows: threads then share the channels, not the rows */
    TILE_COLUMNS = 16 * 32,          /* that one product should have, so that weights are not read too often */
};

/* One phase of one dimension: positions first + t stride of grad_x, t < count, from taps tap, tap + step, ..., as a
 * convolution with `taps` taps of that dilation after that padding, which may be negative. */
typedef struct {
    int64_t first, count, tap, step, taps, dilation, padding;
} axis;

static axis find_axis(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation, int64_t first)
{
    axis a = {.first = first, .count = first < size ? ceil_div(size - first, stride) : 0, .step = 1};
    while (a.step * dilation % stride != 0)
        a.step++;
    while (a.tap < min64(a.step, kernel) && (first + padding - a.tap * dilation) % stride != 0)
        a.tap++;
    if (a.tap == min64(a.step, kernel)) /* no tap ever reaches it */
        return a;
    a.taps = ceil_div(kernel - a.tap, a.step);
    a.dilation = a.step * dilation / stride;
    a.padding = (a.taps - 1) * a.dilation - (first + padding - a.tap * dilation) / stride;
    return a;
}

typedef struct {
    const convolution *v;
    real *packed;          /* weights [groups, phases, channels, filters, taps of the phase]; NULL: where they are */
    bool merged;           /* they are [groups, phases of depth and height, channels, phases of the width, ...] */
    int64_t *taps;         /* [phases]: how many of the kernel's taps each has */
    int64_t *tap;          /* [taps]: which they are, phase by phase */
    int64_t rows, tiles;   /* output rows of a phase that a tile takes, of all images; tiles of the longest phase */
    int64_t block, blocks; /* channels of a tile, and blocks of channels; where they are merged, of all phases' */
    bool steady;           /* how many rows a tile takes follows from the threads, too */
    int64_t width;         /* columns of all phases of a row */
    int64_t pitch;         /* most of one phase */
    int64_t *shift;        /* [phases of the width], where they are merged: by how many columns each lies further on */
    int64_t *shift_height; /* [phases of the height]: by how many rows */
} phases;

static axis axis_d(const fdl_window *w, int64_t first)
{
    return find_axis(w->depth, w->kernel_depth, w->stride_depth, w->padding_depth, w->dilation_depth, first);
}

static axis axis_h(const fdl_window *w, int64_t first)
{
    return find_axis(w->height, w->kernel_height, w->stride_height, w->padding_height, w->dilation_height, first);
}

static axis axis_w(const fdl_window *w, int64_t first)
{
    return find_axis(w->width, w->kernel_width, w->stride_width, w->padding_width, w->dilation_width, first);
}

/* The taps phase by phase, those of each turned round. */
static void list_taps(const fdl_window *w, int64_t *taps, int64_t *tap)
{
    for (int64_t d = 0; d < w->stride_depth; d++)
        for (int64_t h = 0; h < w->stride_height; h++)
            for (int64_t j = 0; j < w->stride_width; j++) {
                const axis a = axis_d(w, d), b = axis_h(w, h), c = axis_w(w, j);
                *taps = a.taps * b.taps * c.taps;
                for (int64_t t = *taps++ - 1; t >= 0; t--) {
                    const int64_t q = a.tap + t / c.taps / b.taps * a.step, r = b.tap + t / c.taps % b.taps * b.step;
                    *tap++ = (q * w->kernel_height + r) * w->kernel_width + c.tap + t % c.taps * c.step;
                }
            }
}

/* to[f * taps + t] = columns[tap[t] * LANES + f], for f < filters. */
static void zip_taps(const real *columns, const int64_t *tap, int64_t taps, int64_t filters, real *to)
{
    if (filters == LANES && taps == 1) {
        vstore(to, vload(columns + tap[0] * LANES));
    } else if (filters == LANES && taps == 2) {
        const vreal a = vload(columns + tap[0] * LANES), b = vload(columns + tap[1] * LANES);
        vstore(to, vzip_low(a, b));
        vstore(to + LANES, vzip_high(a, b));
    } else if (filters == LANES && taps == 4) {
        const vreal a = vload(columns + tap[0] * LANES), b = vload(columns + tap[1] * LANES);
        const vreal c = vload(columns + tap[2] * LANES), d = vload(columns + tap[3] * LANES);
        const vreal ac = vzip_low(a, c), bd = vzip_low(b, d), ac_high = vzip_high(a, c), bd_high = vzip_high(b, d);
        vstore(to, vzip_low(ac, bd));
        vstore(to + LANES, vzip_high(ac, bd));
        vstore(to + 2 * LANES, vzip_low(ac_high, bd_high));
        vstore(to + 3 * LANES, vzip_high(ac_high, bd_high));
    } else {
        for (int64_t f = 0; f < filters; f++)
            for (int64_t t = 0; t < taps; t++)
                to[f * taps + t] = columns[tap[t] * LANES + f];
    }
}

/* The row of a phase's channel in the one product of all phases: those that make up one row of grad_x side by side. */
static int64_t merged_row(const convolution *v, int64_t phase, int64_t channel)
{
    const int64_t stride = v->w.stride_width;
    return (phase / stride * v->channels + channel) * stride + phase % stride;
}

/* Items are groups and blocks of channels. LANES filters at a time: what lies between two rows of taps is read by the
 * channels to come. */
static int pack_weights(void *context, int64_t begin, int64_t end)
{
    const phases *p = context;
    const convolution *v = p->v;
    const int64_t count = v->w.stride_depth * v->w.stride_height * v->w.stride_width;
    const int64_t blocks = ceil_div(v->channels, WEIGHTS_BLOCK);
    const fdl_mark mark = fdl_scratch_mark();
    real *columns = fdl_scratch(v->taps * LANES * (int64_t)sizeof(real)); /* [taps, LANES filters], of a channel */
    if (!columns)
        return FDL_OUT_OF_MEMORY;
    for (int64_t item = begin; item < end; item++) {
        const int64_t g = item / blocks, first = item % blocks * WEIGHTS_BLOCK;
        for (int64_t f = 0; f < v->filters; f += LANES)
            for (int64_t c = first; c < min64(first + WEIGHTS_BLOCK, v->channels); c++) {
                const int64_t filters = min64(LANES, v->filters - f);
                const real *from = v->weight + (g * v->filters + f) * v->terms + c * v->taps;
                for (int64_t tap = 0; tap < v->taps; tap += LANES) {
                    const int64_t taps = min64(LANES, v->taps - tap);
                    const vmask present = vmask_range(0, taps);
                    vreal block[LANES];
                    FDL_UNROLL
                    for (int i = 0; i < LANES; i++)
                        block[i] = vload_masked(from + min64(i, filters - 1) * v->terms + tap, present);
                    FDL_UNROLL
                    for (int i = 0; i < LANES; i++) /* more streams than the hardware follows */
                        __builtin_prefetch(from + i * v->terms + tap + 256 / (int)sizeof(real));
                    vtranspose(block);
                    FDL_UNROLL
                    for (int i = 0; i < LANES; i++)
                        if (i < taps)
                            vstore(columns + (tap + i) * LANES, block[i]);
                }
                real *to = p->packed + g * v->group_weights;
                const int64_t *tap = p->tap;
                for (int64_t phase = 0; phase < count; tap += p->taps[phase++]) {
                    const int64_t row = p->merged ? merged_row(v, phase, c) : c;
                    zip_taps(columns, tap, p->taps[phase], filters, to + (row * v->filters + f) * p->taps[phase]);
                    if (!p->merged)
                        to += v->channels * v->filters * p->taps[phase];
                }
            }
    }
    fdl_scratch_release(mark);
    return FDL_OK;
}

/* Columns from one row of a phase to the next if rows have their padding with them, so that every tap's columns are one
 * run of all rows, and packing is no more than copying. What is zero after a row and before the next one is shared. */
static int64_t padded_pitch(const fdl_window *w, axis c)
{
    const int64_t reach = c.count + (c.taps - 1) * c.dilation, after = reach - c.padding - w->out_width;
    return max64(c.count, reach - max64(0, min64(c.padding, after)));
}

/* The same where it pays, else the phase's own columns: those between rows cost `channels` multiply-adds each, packing
 * run by run as much as about 16 for each column. */
static int64_t pitch_of(const convolution *v, axis c)
{
    if (c.taps == 0)
        return c.count;
    const int64_t pitch = padded_pitch(&v->w, c);
    return v->channels * (pitch - c.count) <= 16 * c.count ? pitch : c.count;
}

/* A tile of a phase as a product's B: rows [row, ...) of all images, `pitch` columns each. */
typedef struct {
    conv_image image;    /* the phase */
    const fdl_window *w; /* its window, as given */
    int64_t row, pitch;
    real *lines;      /* [taps of depth and height, rows, pitch] of one filter */
    int64_t *offsets; /* [taps of depth and height, rows]: of their rows of grad_y; -1: outside */
} tile_source;

/* Elements that loads may reach past a line's last row. */
static int64_t slack_of(const fdl_window *w) { return GEMM_COLUMNS + LANES + w->dilation_width * w->kernel_width; }

static const real *pack_runs(const void *context, int64_t k, int64_t terms, int64_t column, int64_t columns, real *out)
{
    const tile_source *t = context;
    return conv_pack_columns(&t->image, k, terms, t->row * t->pitch + column, columns, out);
}

static const real *pack_lines(const void *context, int64_t k, int64_t terms, int64_t column, int64_t columns, real *out)
{
    const tile_source *t = context;
    const fdl_window *w = t->w;
    const int64_t first = column / t->pitch, rows = (column + columns - 1) / t->pitch + 1 - first;
    const int64_t kernel_rows = w->kernel_depth * w->kernel_height, length = rows * t->pitch;
    const int64_t line = length + slack_of(w), pixels = w->depth * w->height * w->width;
    for (int64_t r = 0; r < kernel_rows; r++)
        for (int64_t i = 0; i < rows; i++) {
            const int64_t row = t->row + first + i, d_h = row % (w->out_depth * w->out_height);
            const int64_t plane = d_h / w->out_height - w->padding_depth + r / w->kernel_height * w->dilation_depth;
            const int64_t h = d_h % w->out_height - w->padding_height + r % w->kernel_height * w->dilation_height;
            t->offsets[r * rows + i] =
                plane >= 0 && plane < w->depth && h >= 0 && h < w->height
                    ? row / (w->out_depth * w->out_height) * w->channels * pixels + (plane * w->height + h) * w->width
                    : -1;
        }
    const int64_t pitch = t->pitch, kernel_width = w->kernel_width, dilation = w->dilation_width,
                  taps = kernel_rows * kernel_width;
    const int64_t begin = w->padding_width, width = w->width, ahead = pixels; /* as in conv.c's gather */
    const int64_t reach = (kernel_width - 1) * dilation;
    real *const lines = t->lines;
    for (int64_t f = k / taps; f * taps < k + terms; f++) {
        for (int64_t r = 0; r < kernel_rows; r++) {
            real *to = lines + r * line;
            for (int64_t i = 0; i < rows; i++, to += pitch) {
                const int64_t offset = t->offsets[r * rows + i];
                const real *x = t->image.x + f * pixels + offset - begin;
                const int64_t end = offset < 0 ? begin : begin + width;
                for (int64_t j = 0; j < pitch + reach; j += LANES) { /* what is past the row, the next one overwrites */
                    __builtin_prefetch(x + j + ahead);
                    vstore(to + j, vload_between(x + j, begin - j, end - j));
                }
            }
        }
        for (int64_t j = 0, panel; j < columns; j += panel) {
            panel = gemm_panel_width(columns - j);
            const bool whole = panel == GEMM_COLUMNS && columns - j >= panel;
            const real *from = lines + column - first * pitch + j;
            int64_t tap = f * taps - k; /* counted in the slice */
            real *to = out + j * terms + tap * panel;
            for (int64_t r = 0; r < kernel_rows; r++, from += line)
                for (int64_t s = 0; s < kernel_width; s++, tap++, to += panel) {
                    const real *x = from + s * dilation;
                    if (tap < 0 || tap >= terms) /* in another slice */
                        continue;
                    if (whole) { /* main loop */
                        vstore(to, vload(x));
                        vstore(to + LANES, vload(x + LANES));
                    } else { /* tail */
                        for (int64_t l = 0; l < panel; l += LANES)
                            vstore(to + l, vload_between(x + l, 0, columns - j - l));
                    }
                }
        }
    }
    return out;
}

/* The convolution at stride 1 that a phase is. */
static fdl_window window_of(const fdl_window *w, axis a, axis b, axis c)
{
    return (fdl_window){
        .batch = w->batch,
        .channels = w->out_channels,
        .depth = w->out_depth,
        .height = w->out_height,
        .width = w->out_width,
        .out_channels = w->channels,
        .out_depth = a.count,
        .out_height = b.count,
        .out_width = c.count,
        .kernel_depth = a.taps,
        .kernel_height = b.taps,
        .kernel_width = c.taps,
        .stride_depth = 1,
        .stride_height = 1,
        .stride_width = 1,
        .padding_depth = a.padding,
        .padding_height = b.padding,
        .padding_width = c.padding,
        .dilation_depth = a.dilation,
        .dilation_height = b.dilation,
        .dilation_width = c.dilation,
        .groups = w->groups,
    };
}

/* Rows [source->row, row_end) of phase (a, b, c) of all images, of channels [channel, channel_end) of group g:
 * out [channel_end - channel, rows * source->pitch]. */
static int compute_phase(const phases *p, axis a, axis b, axis c, const real *weights, int64_t g, int64_t channel,
                         int64_t channel_end, tile_source *source, int64_t row_end, real *out)
{
    const convolution *v = p->v;
    const fdl_window *w = &v->w;
    const int64_t columns = (row_end - source->row) * source->pitch, channels = channel_end - channel;
    const real *bias = v->bias ? v->bias + g * v->channels + channel : NULL;
    if (a.taps * b.taps * c.taps == 0) {
        for (int64_t i = 0; i < channels; i++)
            for (int64_t j = 0; j < columns; j++)
                out[i * columns + j] = bias ? bias[i] : 0;
        if (v->activation.kind != FDL_ACTIVATION_NONE)
            activate_rows(&v->activation, out, columns, channels, columns);
        return FDL_OK;
    }
    const fdl_window window = window_of(w, a, b, c);
    const convolution phase = conv_describe(&window, weights);
    const bool exact = source->pitch == c.count && (phase.is_matrix || c.taps > 1);
    source->w = &window, source->image = (conv_image){&phase, v->grad_y + g * v->filters * v->positions};
    const gemm_problem product = {
        .m = channels,
        .n = columns,
        .k = phase.terms,
        .a = p->packed ? (gemm_matrix){weights + channel * phase.terms, phase.terms, 1}
                       : (gemm_matrix){weights + channel, 1, v->terms},
        .pack_b = exact ? pack_runs : pack_lines,
        .b = source,
        .c = out,
        .c_row = columns,
        .steady = p->steady,
        .row_bias = bias,
        .activation = v->activation,
    };
    return gemm_block(&product, (gemm_range){0, channels, 0, columns});
}

/* x[j * stride + phase] = from[phase][j] */
static void interleave(const real *const *from, int64_t stride, int64_t width, real *x)
{
    if (stride == 2) {
        zip_lines(from[0], from[1], width, x);
        return;
    }
    for (int64_t phase = 0; phase < min64(stride, width); phase++)
        for (int64_t j = phase, i = 0; j < width; j += stride, i++)
            x[j] = from[phase][i];
}

/* Items are groups, phases of depth and height, tiles and blocks of channels. */
static int grad_x_task(void *context, int64_t begin, int64_t end)
{
    const phases *p = context;
    const convolution *v = p->v;
    const fdl_window *w = &v->w;
    const int64_t stride = w->stride_width;
    const fdl_mark mark = fdl_scratch_mark();
    const int64_t kernel_rows = w->kernel_depth * w->kernel_height;
    real *tile = fdl_scratch(p->block * p->rows * p->width * (int64_t)sizeof(real));
    const real **from = fdl_scratch(stride * (int64_t)sizeof *from);
    int64_t *pitch = fdl_scratch(stride * (int64_t)sizeof *pitch);
    tile_source source = {
        .lines = fdl_scratch(kernel_rows * (p->rows * p->pitch + slack_of(w)) * (int64_t)sizeof(real)),
        .offsets = fdl_scratch(kernel_rows * p->rows * (int64_t)sizeof *source.offsets),
    };
    int status = tile && from && pitch && source.lines && source.offsets ? FDL_OK : FDL_OUT_OF_MEMORY;
    for (int64_t item = begin; item < end && status == FDL_OK; item++) {
        const int64_t channel = item % p->blocks * p->block, channel_end = min64(channel + p->block, v->channels);
        const int64_t d_h = item / p->blocks / p->tiles % (w->stride_depth * w->stride_height);
        const int64_t g = item / p->blocks / p->tiles / (w->stride_depth * w->stride_height);
        const axis a = axis_d(w, d_h / w->stride_height), b = axis_h(w, d_h % w->stride_height);
        const int64_t row = item / p->blocks % p->tiles * p->rows;
        const int64_t row_end = min64(row + p->rows, w->batch * a.count * b.count);
        if (row >= row_end)
            continue;
        /* The weights of this phase come after those of the phases before it. */
        int64_t done = 0;
        for (int64_t before = 0; before < d_h; before++)
            done += axis_d(w, before / w->stride_height).taps * axis_h(w, before % w->stride_height).taps;
        const real *weights = (p->packed ? p->packed : v->weight) + g * v->group_weights +
                              done * w->kernel_width * v->filters * v->channels;
        real *out = tile;
        for (int64_t j = 0; j < stride && status == FDL_OK; j++) {
            const axis c = axis_w(w, j);
            from[j] = out;
            source.row = row, source.pitch = pitch[j] = pitch_of(v, c);
            if (c.count)
                status = compute_phase(p, a, b, c, weights, g, channel, channel_end, &source, row_end, out);
            out += (channel_end - channel) * (row_end - row) * source.pitch;
            weights += a.taps * b.taps * c.taps * v->filters * v->channels;
        }
        for (int64_t c = channel; c < channel_end && status == FDL_OK; c++)
            for (int64_t r = row; r < row_end; r++) {
                const int64_t n = r / (a.count * b.count), i = r / b.count % a.count, j = r % b.count;
                const int64_t plane = a.first + i * w->stride_depth, line = b.first + j * w->stride_height;
                interleave(from, stride, w->width,
                           v->grad_x + (n * w->channels + g * v->channels + c) * v->pixels +
                               (plane * w->height + line) * w->width);
                for (int64_t phase = 0; phase < min64(stride, w->width); phase++)
                    from[phase] += pitch[phase];
            }
    }
    fdl_scratch_release(mark);
    return status;
}

/* ---- all phases as one product ---- */

/* Where the stride divides the kernel, all phases have as many taps and differ in their padding alone: position t of a
 * phase is position t + most padding - its padding of a convolution with the most padding. So one product, of the
 * weights of all phases one below the other, computes them all from columns that are packed once; of the positions on
 * its edge some phases make no use. */
static axis merge(int64_t stride, axis (*find)(const fdl_window *, int64_t), const fdl_window *w)
{
    axis all = find(w, 0);
    for (int64_t i = 1; i < stride; i++)
        all.padding = max64(all.padding, find(w, i).padding);
    for (int64_t i = 0; i < stride; i++) {
        const axis a = find(w, i);
        all.count = max64(all.count, a.count + all.padding - a.padding);
    }
    return all;
}

static bool phases_can_merge(const convolution *v)
{
    const fdl_window *w = &v->w;
    const axis a = axis_d(w, 0), b = axis_h(w, 0), c = axis_w(w, 0);
    return a.step == w->stride_depth && b.step == w->stride_height && c.step == w->stride_width &&
           w->kernel_depth % a.step == 0 && w->kernel_height % b.step == 0 && w->kernel_width % c.step == 0 &&
           v->taps > 1;
}

/* The one convolution that they then are. */
static fdl_window merged_window(const fdl_window *w)
{
    fdl_window all = window_of(w, merge(w->stride_depth, axis_d, w), merge(w->stride_height, axis_h, w),
                               merge(w->stride_width, axis_w, w));
    all.out_channels *= w->stride_depth * w->stride_height * w->stride_width;
    return all;
}

static bool phases_merge(const convolution *v)
{
    const fdl_window *w = &v->w;
    const axis all_d = merge(w->stride_depth, axis_d, w), all_h = merge(w->stride_height, axis_h, w);
    const axis all_w = merge(w->stride_width, axis_w, w);
    const double computed = (double)all_d.count * (double)all_h.count * (double)padded_pitch(w, all_w);
    const double wanted = (double)ceil_div(w->depth, w->stride_depth) * (double)ceil_div(w->height, w->stride_height) *
                          (double)ceil_div(w->width, w->stride_width);
    return (double)v->channels * (computed - wanted) <=
           10 * wanted; /* what packing once instead of phase by phase saves */
}

/* Items are groups, tiles of rows of the one convolution and blocks of its rows' channels. */
static int grad_x_merged_task(void *context, int64_t begin, int64_t end)
{
    const phases *p = context;
    const convolution *v = p->v;
    const fdl_window *w = &v->w;
    const axis all_d = merge(w->stride_depth, axis_d, w), all_h = merge(w->stride_height, axis_h, w);
    const axis all_w = merge(w->stride_width, axis_w, w);
    const fdl_window window = window_of(w, all_d, all_h, all_w);
    const int64_t stride = w->stride_width, count = w->stride_depth * w->stride_height * stride;
    const int64_t rows_all = w->batch * all_d.count * all_h.count, filters = count * v->channels;
    const fdl_mark mark = fdl_scratch_mark();
    real *tile = fdl_scratch(filters * p->rows * p->pitch * (int64_t)sizeof(real));
    real *bias = fdl_scratch(filters * (int64_t)sizeof(real));
    const real **from = fdl_scratch(stride * (int64_t)sizeof *from);
    tile_source source = {
        .lines = fdl_scratch(all_d.taps * all_h.taps * (p->rows * p->pitch + slack_of(w)) * (int64_t)sizeof(real)),
        .offsets = fdl_scratch(all_d.taps * all_h.taps * p->rows * (int64_t)sizeof *source.offsets),
    };
    int status = tile && bias && from && source.lines && source.offsets ? FDL_OK : FDL_OUT_OF_MEMORY;
    for (int64_t item = begin; item < end && status == FDL_OK; item++) {
        const int64_t g = item / p->blocks / p->tiles, row = item / p->blocks % p->tiles * p->rows;
        const int64_t row_end = min64(row + p->rows, rows_all), line = item % p->blocks * p->block;
        const int64_t line_end = min64(line + p->block, filters / stride);
        const int64_t columns = (row_end - row) * p->pitch;
        const convolution phase = conv_describe(&window, p->packed);
        for (int64_t i = 0; i < filters; i++)
            bias[i] = v->bias ? v->bias[g * v->channels + i / stride % v->channels] : 0;
        source.w = &window, source.image = (conv_image){&phase, v->grad_y + g * v->filters * v->positions};
        source.row = row, source.pitch = p->pitch;
        const gemm_problem product = {
            .m = filters,
            .n = columns,
            .k = phase.terms,
            .a = {p->packed + g * v->group_weights, phase.terms, 1},
            .pack_b = phase.is_matrix ? pack_runs : pack_lines,
            .b = &source,
            .c = tile,
            .c_row = columns,
            .steady = p->steady,
            .row_bias = bias,
            .activation = v->activation,
        };
        status = gemm_block(&product, (gemm_range){line * stride, line_end * stride, 0, columns});
        for (int64_t d_h = line / v->channels; d_h * v->channels < line_end && status == FDL_OK; d_h++) {
            const axis a = axis_d(w, d_h / w->stride_height), b = axis_h(w, d_h % w->stride_height);
            const int64_t first = d_h * v->channels;
            for (int64_t c = max64(0, line - first); c < min64(v->channels, line_end - first); c++)
                for (int64_t r = row; r < row_end; r++) {
                    const int64_t n = r / (all_d.count * all_h.count);
                    const int64_t i = r / all_h.count % all_d.count - (all_d.padding - a.padding);
                    const int64_t j = r % all_h.count - (all_h.padding - b.padding);
                    if (i < 0 || i >= a.count || j < 0 || j >= b.count)
                        continue;
                    for (int64_t k = 0; k < stride; k++)
                        from[k] =
                            tile + merged_row(v, d_h * stride + k, c) * columns + (r - row) * p->pitch + p->shift[k];
                    interleave(from, stride, w->width,
                               v->grad_x + (n * w->channels + g * v->channels + c) * v->pixels +
                                   ((a.first + i * w->stride_depth) * w->height + b.first + j * w->stride_height) *
                                       w->width);
                }
        }
    }
    fdl_scratch_release(mark);
    return status;
}

/* Cut into tiles, and compute. */
static int grad_x_merged(phases *p, double work)
{
    const convolution *v = p->v;
    const fdl_window *w = &v->w;
    const axis all_d = merge(w->stride_depth, axis_d, w), all_h = merge(w->stride_height, axis_h, w);
    const axis all_w = merge(w->stride_width, axis_w, w);
    const int64_t count = w->stride_depth * w->stride_height * w->stride_width;
    const int64_t rows_all = w->batch * all_d.count * all_h.count, parts = ceil_div(gemm_parts(work, 0), w->groups);
    p->pitch = padded_pitch(w, all_w), p->steady = rows_all * p->pitch > FEW_COLUMNS;
    p->rows = TILE_BYTES / (int64_t)sizeof(real) / max64(1, count * v->channels * p->pitch);
    p->rows = max64(1, min64(p->rows, p->steady ? ceil_div(rows_all, parts) : rows_all));
    p->tiles = ceil_div(rows_all, p->rows);
    const int64_t lines = count / w->stride_width * v->channels;
    p->block = ceil_div(lines, p->steady ? 1 : max64(1, min64(parts, lines * w->stride_width / GEMM_ROWS)));
    p->blocks = ceil_div(lines, max64(1, p->block));
    return fdl_parallel(w->groups * p->tiles * p->blocks, parts == 1 && work < 1 << 19 ? INT64_MAX : 1,
                        grad_x_merged_task, p);
}

/* ---- all phases as one convolution by Winograd's algorithm ---- */

enum { WINOGRAD_STRIDE = 4 }; /* at most */

/* Where every phase has 2 x 2 taps side by side. */
bool conv_phases_winograd_applies(const convolution *v)
{
    const fdl_window *w = &v->w;
    return w->groups == 1 && w->depth * w->out_depth * w->kernel_depth * w->stride_depth == 1 &&
           w->padding_depth == 0 && w->kernel_height == 2 * w->stride_height &&
           w->kernel_width == 2 * w->stride_width && w->dilation_height == 1 && w->dilation_width == 1 &&
           w->stride_width <= WINOGRAD_STRIDE && GEMM_A_PANEL % w->stride_width == 0 && phases_can_merge(v);
}

bool conv_phases_winograd_pays(const convolution *v)
{
    const fdl_window window = merged_window(&v->w);
    const convolution all = conv_describe(&window, NULL);
    return conv_phases_pay(v) && conv_winograd_saves(&all, 3, v->pixels / (v->w.stride_height * v->w.stride_width));
}

/* A row of one phase of the height and one channel. */
static void take_row(const void *context, int64_t n, int64_t filter, int64_t row, const real *lines, int64_t pitch)
{
    const phases *p = context;
    const fdl_window *w = &p->v->w;
    const int64_t stride = w->stride_width, channel = filter / stride % w->channels;
    const int64_t phase = filter / stride / w->channels, t = row - p->shift_height[phase];
    const int64_t to = phase + t * w->stride_height;
    if (t < 0 || to >= w->height)
        return;
    const real *from[WINOGRAD_STRIDE];
    for (int64_t k = 0; k < stride; k++)
        from[k] = lines + k * pitch + p->shift[k];
    interleave(from, stride, w->width, p->v->grad_x + ((n * w->channels + channel) * w->height + to) * w->width);
}

static int grad_x_winograd(const phases *p, bool *finite)
{
    const convolution *v = p->v;
    const fdl_window window = merged_window(&v->w);
    const conv_sink sink = {take_row, p, v->w.stride_width};
    convolution all = conv_describe(&window, p->packed);
    real *bias = v->bias ? fdl_scratch(all.filters * (int64_t)sizeof(real)) : NULL;
    if (v->bias && !bias)
        return FDL_OUT_OF_MEMORY;
    for (int64_t i = 0; bias && i < all.filters; i++)
        bias[i] = v->bias[i / v->w.stride_width % v->channels];
    all.x = v->grad_y, all.bias = bias, all.activation = v->activation, all.sink = &sink;
    return conv_winograd_3x3_forward(&all, finite);
}

bool conv_phases_pay(const convolution *v)
{
    enum { MOST_WIDTH = 1 << 17 }; /* a tile is whole rows */
    return v->w.width <= MOST_WIDTH && v->channels >= 4 && v->w.batch * v->positions >= 32 &&
           v->w.stride_depth * v->w.stride_height * v->w.stride_width <= 64;
}

static int compute_phases(const convolution *v, bool winograd)
{
    const fdl_window *w = &v->w;
    const int64_t size = (int64_t)sizeof(real);
    const fdl_mark mark = fdl_scratch_mark();
    phases p = {.v = v, .merged = phases_can_merge(v) && (winograd || phases_merge(v))};
    int status = FDL_OK;
    if (v->taps > 1) { /* one tap is a matrix where it lies */
        p.packed = fdl_scratch(w->groups * v->group_weights * size);
        p.tap = fdl_scratch(v->taps * (int64_t)sizeof *p.tap);
        p.taps = fdl_scratch(w->stride_depth * w->stride_height * w->stride_width * (int64_t)sizeof *p.taps);
        if (!p.packed || !p.tap || !p.taps) {
            fdl_scratch_release(mark);
            return FDL_OUT_OF_MEMORY;
        }
        list_taps(w, p.taps, p.tap);
        const int64_t cost = WEIGHTS_BLOCK * v->filters * v->taps;
        status = fdl_parallel(w->groups * ceil_div(v->channels, WEIGHTS_BLOCK), max64(1, (1 << 16) / max64(1, cost)),
                              pack_weights, &p);
    }

    const double work = (double)w->batch * (double)w->out_channels * (double)v->terms * (double)v->positions;
    if (p.merged) {
        const axis all_h = merge(w->stride_height, axis_h, w), all_w = merge(w->stride_width, axis_w, w);
        p.shift = fdl_scratch(w->stride_width * (int64_t)sizeof *p.shift);
        p.shift_height = fdl_scratch(w->stride_height * (int64_t)sizeof *p.shift_height);
        status = status != FDL_OK || (p.shift && p.shift_height) ? status : FDL_OUT_OF_MEMORY;
        for (int64_t k = 0; status == FDL_OK && k < w->stride_width; k++)
            p.shift[k] = all_w.padding - axis_w(w, k).padding;
        for (int64_t k = 0; status == FDL_OK && k < w->stride_height; k++)
            p.shift_height[k] = all_h.padding - axis_h(w, k).padding;
        bool finite = false;
        if (status == FDL_OK && winograd &&
            conv_suits_winograd(v, v->grad_y, w->batch * w->out_channels * v->positions))
            status = grad_x_winograd(&p, &finite);
        const int64_t apart = winograd && !finite ? conv_apart(v) : 1;
        for (int64_t n = 0; n < apart && apart > 1 && status == FDL_OK; n++) {
            const convolution one = conv_image_of(v, n);
            status = compute_phases(&one, true);
        }
        if (status == FDL_OK && !finite && apart == 1)
            status = grad_x_merged(&p, work);
        fdl_scratch_release(mark);
        return status;
    }
    const int64_t row_phases = w->stride_depth * w->stride_height;
    const int64_t all_rows = w->batch * ceil_div(w->depth, w->stride_depth) * ceil_div(w->height, w->stride_height);
    const int64_t parts = ceil_div(gemm_parts(work, 0), row_phases * w->groups);
    for (int64_t j = 0; j < w->stride_width; j++) {
        const int64_t pitch = pitch_of(v, axis_w(w, j));
        p.width += pitch, p.pitch = max64(p.pitch, pitch);
    }
    const int64_t fit = TILE_BYTES / size / p.width; /* rows of all channels */
    p.rows = max64(
        1, max64(fit / max64(1, v->channels), min64(fit, ceil_div(TILE_COLUMNS, ceil_div(w->width, w->stride_width)))));
    p.steady = all_rows * p.pitch > FEW_COLUMNS;
    p.rows = max64(1, min64(p.rows, p.steady ? ceil_div(all_rows, parts) : all_rows));
    p.tiles = ceil_div(all_rows, p.rows);
    p.rows = ceil_div(all_rows, max64(1, p.tiles));
    p.blocks = ceil_div(v->channels, max64(GEMM_ROWS, fit / max64(1, p.rows)));
    p.blocks = p.steady ? p.blocks : max64(p.blocks, min64(parts, ceil_div(v->channels, GEMM_ROWS)));
    p.block = ceil_div(ceil_div(v->channels, max64(1, p.blocks)), GEMM_ROWS) * GEMM_ROWS;
    p.blocks = ceil_div(v->channels, p.block);
    if (status == FDL_OK)
        status = fdl_parallel(w->groups * row_phases * p.tiles * p.blocks, parts == 1 && work < 1 << 19 ? INT64_MAX : 1,
                              grad_x_task, &p);
    fdl_scratch_release(mark);
    return status;
}

int conv_phases_grad_x(const convolution *v) { return compute_phases(v, false); }
int conv_phases_winograd(const convolution *v) { return compute_phases(v, true); }
