/* Convolution that reads the input's rows where they lie, for few channels (the first layer of a network) or few
 * filters, where packing every window costs more than it saves.
 *
 * A block of rows of the input is copied once, with its padding and, at stride s, split into s phases:
 *
 *   line [s, phase]: line[j % s][j / s] = the padded row's element j
 *
 * What tap t of the kernel's row sees at output column j is then line[t dilation % s][t dilation / s + j]: consecutive
 * elements, from which the micro-kernel loads without any packing (gemm_in_place). Products are over all channels and
 * taps of one output row; sums in `real`, in registers. Every pixel is copied once, not once a tap. */
#include "kernels/conv/conv.h"

enum { BUFFER = 192 * 1024 }; /* bytes of lines in a block: they stay in the second-level cache */

typedef struct {
    const convolution *v;
    int64_t phase, line;          /* elements of a phase, and of a line: stride_width phases */
    int64_t block, blocks, lines; /* output rows in a block, blocks in a plane, input rows that a block sees */
    const real *weights;          /* as gemm_pack lays them out */
    const int64_t *offset;        /* [terms] of a tap's elements, from those of the first tap of the first channel */
} plan;

static plan describe_lines(const convolution *v)
{
    const fdl_window *w = &v->w;
    plan p = {.v = v};
    const int64_t reach = (w->kernel_width - 1) * w->dilation_width / w->stride_width;
    p.phase = reach + ceil_div(w->out_width, LANES) * LANES + LANES;
    p.line = w->stride_width * p.phase;
    return p;
}

/* Bytes of one row of all channels. */
static int64_t row_bytes(const plan *p)
{
    return p->v->channels * p->v->w.kernel_depth * p->line * (int64_t)sizeof(real);
}

/* The row x [width] to the phases of a stride of 2 or 4, a constant wherever inlined. */
FDL_INLINE void deal_line(const plan *p, const real *x, real *line, const int64_t stride)
{
    const int64_t before = p->v->w.padding_width;
    real *to[4]; /* where elements i of each i % stride begin */
    for (int64_t q = 0; q < stride; q++)
        to[q] = line + (before + q) % stride * p->phase + (before + q) / stride;
    const int64_t count = min64(p->v->w.width, stride * (p->phase - (before + stride - 1) / stride));
    for (int64_t i = 0; i < count; i += stride * LANES) { /* main loop and tail */
        vreal part[4];
        for (int64_t q = 0; q < stride; q++)
            part[q] = vload_up_to(x + i + q * LANES, max64(0, count - i - q * LANES));
        for (int64_t q = 0; q < stride; q += 2) {
            const vreal even = veven(part[q], part[q + 1]), odd = vodd(part[q], part[q + 1]);
            part[q] = even, part[q + 1] = odd;
        }
        if (stride == 4) {
            const vreal even = part[0], odd = part[1];
            part[0] = veven(even, part[2]), part[1] = veven(odd, part[3]);
            part[2] = vodd(even, part[2]), part[3] = vodd(odd, part[3]);
        }
        for (int64_t q = 0; q < stride; q++)
            vstore_up_to(to[q] + i / stride, part[q], (count - i + stride - 1 - q) / stride);
    }
}

/* One padded row: x [width], or NULL outside the image. What is not x's is zero already. */
static void fill_line(const plan *p, const real *x, real *line)
{
    const fdl_window *w = &p->v->w;
    const int64_t stride = w->stride_width, before = w->padding_width;
    if (!x) {
        memset(line, 0, (size_t)p->line * sizeof(real));
        return;
    }
    if (stride == 1) {
        memcpy(line + before, x, (size_t)min64(w->width, p->phase - before) * sizeof(real));
        return;
    }
    if (stride == 2) {
        deal_line(p, x, line, 2);
    } else if (stride == 4) {
        deal_line(p, x, line, 4);
    } else {
        for (int64_t i = 0, j = before / stride, q = before % stride; i < w->width && j < p->phase; i++) {
            line[q * p->phase + j] = x[i];
            if (++q == stride)
                q = 0, j++;
        }
    }
}

/* Items are blocks of output rows of one output plane of one image. */
static int rows_task(void *context, int64_t begin, int64_t end)
{
    const plan *p = context;
    const convolution *v = p->v;
    const fdl_window *w = &v->w;
    const fdl_mark mark = fdl_scratch_mark();
    const size_t size = (size_t)(v->channels * w->kernel_depth * p->lines * p->line) * sizeof(real);
    real *lines = fdl_scratch((int64_t)size);
    if (!lines)
        return FDL_OUT_OF_MEMORY;
    memset(lines, 0, size); /* where zeros stay */
    for (int64_t item = begin; item < end; item++) {
        const int64_t plane = item / p->blocks, n = plane / w->out_depth, d = plane % w->out_depth;
        const int64_t i_begin = item % p->blocks * p->block, i_end = min64(w->out_height, i_begin + p->block);
        const int64_t top = i_begin * w->stride_height - w->padding_height;
        real *line = lines;
        for (int64_t c = 0; c < v->channels; c++)
            for (int64_t q = 0; q < w->kernel_depth; q++) {
                const int64_t z = d * w->stride_depth - w->padding_depth + q * w->dilation_depth;
                const real *x = v->x + ((n * v->channels + c) * w->depth + z) * w->height * w->width;
                for (int64_t r = top; r < top + p->lines; r++, line += p->line)
                    fill_line(p, z >= 0 && z < w->depth && r >= 0 && r < w->height ? x + r * w->width : NULL, line);
            }
        /* Whole vectors are stored where what they spill over is of rows to come. Not where addends lie, which may be
         * y's own, nor where an activation would be computed for nothing. */
        const bool spills = !v->residual && (v->activation.kind == FDL_ACTIVATION_NONE || is_relu(&v->activation));
        const int64_t whole = spills ? ceil_div(w->out_width, LANES) * LANES : w->out_width;
        for (int64_t f = 0, rows; f < v->filters; f += rows) {
            rows = gemm_packed_rows(f, v->filters);
            const real *weights = p->weights + f / GEMM_A_PANEL * GEMM_A_PANEL * v->terms + f % GEMM_A_PANEL;
            for (int64_t i = i_begin; i < i_end; i++) {
                const int64_t y = n * v->filters * v->positions + (d * w->out_height + i) * w->out_width;
                const gemm_problem product = {
                    .m = v->filters,
                    .n = (i_end - i) * w->out_width < whole ? w->out_width : whole,
                    .k = v->terms,
                    .c = v->y + y,
                    .c_row = v->positions,
                    .row_bias = v->bias,
                    .addend = v->residual ? v->residual + y : NULL,
                    .activation = v->activation,
                };
                gemm_in_place(&product, f, rows, weights, lines + (i - i_begin) * w->stride_height * p->line,
                              p->offset);
            }
        }
    }
    fdl_scratch_release(mark);
    return FDL_OK;
}

/* All that a window of the kernel's rows sees has to fit the buffer. */
bool conv_rows_applies(const convolution *v)
{
    const plan p = describe_lines(v);
    const int64_t extent = (v->w.kernel_height - 1) * v->w.dilation_height + 1;
    return v->w.groups == 1 && !v->w.channels_last && v->weights.column == 1 && v->terms > 0 && v->terms <= GEMM_K &&
           !v->is_matrix && row_bytes(&p) <= BUFFER / extent;
}

/* Vectors are partly empty where rows end within one; each line is copied once, but where blocks overlap. */
double conv_rows_cycles(const convolution *v)
{
    const fdl_window *w = &v->w;
    const int64_t vectors = ceil_div(w->out_width, LANES), results = w->out_depth * w->out_height;
    const double multiplied = (double)(v->filters * v->terms) * (double)(results * vectors);
    const double tiles = (double)(ceil_div(v->filters, GEMM_ROWS) * results * ceil_div(vectors, 2));
    const double lines = (double)(v->channels * w->kernel_depth) * (double)(w->out_depth * w->height);
    const double pixels = (double)ceil_div(w->width, LANES);
    double line = 3.2 * (double)w->width;
    if (w->stride_width == 1)
        line = 8 + 10 * pixels;
    else if (w->stride_width == 2 || w->stride_width == 4)
        line = 11 + 12 * pixels;
    return 0.5 * conv_slowness() * multiplied + 80 * tiles + lines * line;
}

bool conv_rows_pays(const convolution *v) { return conv_rows_cycles(v) < conv_products_cycles(v); }

int conv_rows_forward(const convolution *v)
{
    const fdl_window *w = &v->w;
    plan p = describe_lines(v);
    const int64_t extent = (w->kernel_height - 1) * w->dilation_height + 1;
    const int64_t fit = (BUFFER / row_bytes(&p) - extent) / w->stride_height + 1;
    const double work = (double)w->batch * (double)v->filters * (double)v->terms * (double)v->positions;
    const int64_t planes = w->batch * w->out_depth, threads = gemm_parts(work, 1);
    p.block = min64(fit, ceil_div(w->out_height, planes >= threads ? 1 : threads));
    p.blocks = ceil_div(w->out_height, p.block);
    p.block = ceil_div(w->out_height, p.blocks);
    p.lines = (p.block - 1) * w->stride_height + extent;

    const fdl_mark mark = fdl_scratch_mark();
    real *weights = v->packed ? NULL : fdl_scratch(gemm_packed_size(v->filters, v->terms) * (int64_t)sizeof(real));
    int64_t *offset = fdl_scratch(v->terms * (int64_t)sizeof(int64_t));
    if ((!v->packed && !weights) || !offset) {
        fdl_scratch_release(mark);
        return FDL_OUT_OF_MEMORY;
    }
    if (weights)
        gemm_pack(&v->weights, v->filters, v->terms, weights);
    for (int64_t k = 0, c_q = 0; c_q < v->channels * w->kernel_depth; c_q++)
        for (int64_t r = 0; r < w->kernel_height; r++)
            for (int64_t s = 0; s < w->kernel_width; s++, k++) {
                const int64_t column = s * w->dilation_width;
                offset[k] = (c_q * p.lines + r * w->dilation_height) * p.line + column % w->stride_width * p.phase +
                            column / w->stride_width;
            }
    p.weights = v->packed ? v->packed : weights, p.offset = offset;
    const int status = fdl_parallel(planes * p.blocks, threads == 1 ? INT64_MAX : 1, rows_task, &p);
    fdl_scratch_release(mark);
    return status;
}
