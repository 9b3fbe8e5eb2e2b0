/* Images (sequences, volumes) of other sizes, axis by axis: along each, with what stands before and after it,
 *
 *   y[o, i, n] = sum_t weight[t] x[o, index[t], n]    over the taps t of i
 *
 * Which taps an output has, and their weights, is worked out once a call for each axis, as a table; every mode is a way to
 * fill it, and the gradient is the same sum over the table turned round. With i the place in the output, s = `scale` (how
 * many elements of the input one of the output covers), the place in the input is
 *
 *   half_pixel             s (i + 1/2) - 1/2
 *   pytorch_half_pixel     the same, 0 where the output has one element
 *   align_corners          i (size - 1) / (out - 1), 0 likewise
 *   asymmetric             s i
 *   nearest_exact          s (i + 1/2), of which the floor is the nearest (float, as torch computes it)
 *
 * and the taps around it are, clamped to the input: the one that it is rounded to (nearest), two (linear), four (cubic:
 * Keys, "Cubic Convolution Interpolation", 1981, of the coefficient given), or (area) all that the output covers.
 *
 * Axes that shrink come first, then those that grow least. Where there are few planes, threads share those; else each
 * plane goes through all axes in a thread's own cache. */
#include "vector/elementwise.h"

typedef struct {
    int64_t size, out; /* of the arrays that are read and written */
    int64_t *start;    /* [out + 1], into the taps */
    int64_t *index;
    real *weight;
    int64_t taps; /* of each output, or 0: they vary */
} table;

typedef struct {
    int64_t mode, coordinates, nearest, exclude_outside;
    double cubic;
} resizing;

typedef struct {
    const real *x;
    real *y;
    table axis[3];
    int64_t before[3], after[3]; /* elements around each axis when its turn comes; before: of one plane */
    int64_t axes, planes, group; /* planes that go together */
    int64_t most;                /* elements of a plane, at its largest in between */
} resize;

/* ---- the table ---- */

static double place(const resizing *r, int64_t i, int64_t size, int64_t out, double scale)
{
    switch (r->coordinates) {
    case FDL_COORDINATES_ALIGN_CORNERS:
        return out > 1 ? (double)i * ((double)(size - 1) / (double)(out - 1)) : 0;
    case FDL_COORDINATES_ASYMMETRIC:
        return r->mode == FDL_RESIZE_NEAREST ? (double)((float)i * (float)scale) : (double)i * scale;
    case FDL_COORDINATES_NEAREST_EXACT:
        return (double)(((float)i + 0.5f) * (float)scale);
    case FDL_COORDINATES_PYTORCH_HALF_PIXEL:
        if (out == 1)
            return 0;
    }
    return scale * ((double)i + 0.5) - 0.5;
}

static double rounded(int64_t how, double x)
{
    switch (how) {
    case FDL_NEAREST_CEIL:
        return ceil(x);
    case FDL_NEAREST_ROUND_PREFER_FLOOR:
        return ceil(x - 0.5);
    case FDL_NEAREST_ROUND_PREFER_CEIL:
        return floor(x + 0.5);
    }
    return floor(x);
}

/* Taps 0 to 3 of a cubic, t past the second. */
static void cubic_weights(double a, double t, double weight[4])
{
    const double far = 1 + t, back = 1 - t, last = 2 - t;
    weight[0] = ((a * far - 5 * a) * far + 8 * a) * far - 4 * a;
    weight[1] = ((a + 2) * t - (a + 3)) * t * t + 1;
    weight[2] = ((a + 2) * back - (a + 3)) * back * back + 1;
    weight[3] = ((a * last - 5 * a) * last + 8 * a) * last - 4 * a;
}

static int64_t most_taps(const resizing *r, int64_t size, int64_t out)
{
    static const int64_t taps[] = {[FDL_RESIZE_NEAREST] = 1, [FDL_RESIZE_LINEAR] = 2, [FDL_RESIZE_CUBIC] = 4};
    return r->mode == FDL_RESIZE_AREA ? size + 2 * out : taps[r->mode] * out;
}

static void fill_table(const resizing *r, double scale, table *t)
{
    int64_t count = 0;
    for (int64_t i = 0; i < t->out; i++) {
        t->start[i] = count;
        if (r->mode == FDL_RESIZE_AREA) {
            const int64_t first = i * t->size / t->out, last = ceil_div((i + 1) * t->size, t->out);
            for (int64_t j = first; j < last; j++) {
                t->index[count] = j;
                t->weight[count++] = (real)(1 / (double)(last - first));
            }
            continue;
        }
        double weight[4] = {1}, at = place(r, i, t->size, t->out, scale), total = 0;
        int64_t taps = 1, first;
        if (r->mode == FDL_RESIZE_NEAREST) {
            first = max64(0, min64((int64_t)rounded(r->nearest, at), t->size - 1)); /* none is outside */
        } else if (r->mode == FDL_RESIZE_LINEAR) {
            at = at<0 ? 0 : at>(double)(t->size - 1) ? (double)(t->size - 1) : at;
            taps = 2, first = (int64_t)floor(at);
            weight[1] = at - (double)first, weight[0] = 1 - weight[1];
        } else {
            taps = 4, first = (int64_t)floor(at) - 1;
            cubic_weights(r->cubic, at - floor(at), weight);
        }
        for (int64_t j = 0; j < taps && r->exclude_outside; j++) {
            weight[j] = first + j < 0 || first + j >= t->size ? 0 : weight[j];
            total += weight[j];
        }
        for (int64_t j = 0; j < taps; j++) {
            t->index[count] = max64(0, min64(first + j, t->size - 1));
            t->weight[count++] = (real)(r->exclude_outside && total != 0 ? weight[j] / total : weight[j]);
        }
    }
    t->start[t->out] = count;
}

/* What the elements of the input give to which outputs, as a table in memory that has room. */
static void turn_round(const table *from, table *to)
{
    memset(to->start, 0, (size_t)(to->out + 1) * sizeof *to->start);
    for (int64_t k = 0; k < from->start[from->out]; k++)
        to->start[from->index[k] + 1]++;
    for (int64_t j = 0; j < to->out; j++)
        to->start[j + 1] += to->start[j];
    for (int64_t i = 0; i < from->out; i++)
        for (int64_t k = from->start[i]; k < from->start[i + 1]; k++) {
            const int64_t at = to->start[from->index[k]]++;
            to->index[at] = i;
            to->weight[at] = from->weight[k];
        }
    for (int64_t j = to->out; j > 0; j--) /* each is where the next one begins now */
        to->start[j] = to->start[j - 1];
    to->start[0] = 0;
}

/* How many taps each output has, where all have as many. */
static int64_t equal_taps(const table *t)
{
    const int64_t taps = t->out > 0 ? t->start[1] : 0;
    for (int64_t i = 0; i < t->out; i++)
        if (t->start[i + 1] != (i + 1) * taps)
            return 0;
    return taps;
}

static bool take_table(table *t, int64_t size, int64_t out, int64_t taps)
{
    t->size = size, t->out = out;
    t->start = fdl_scratch((out + 1) * (int64_t)sizeof *t->start);
    t->index = fdl_scratch(max64(1, taps) * (int64_t)sizeof *t->index);
    t->weight = fdl_scratch(max64(1, taps) * (int64_t)sizeof(real));
    return t->start && t->index && t->weight;
}

/* ---- one axis ---- */

typedef struct {
    const table *t;
    const real *x;
    real *y;
    int64_t after;
} along;

/* taps: a constant where it is not 0. */
FDL_INLINE void sum_rows(const along *a, int64_t begin, int64_t end, const int taps)
{
    const table *t = a->t;
    for (int64_t row = begin; row < end; row++) { /* after = 1: a row is all of the axis; else, one of its outputs */
        const bool lines = a->after == 1;
        const real *x = a->x + (lines ? row : row / t->out) * t->size * a->after;
        const int64_t first = lines ? 0 : row % t->out, last = lines ? t->out : first + 1;
        real *y = a->y + (lines ? row * t->out : (row - first) * a->after);
        for (int64_t i = first; i < last; i++) {
            const int64_t k = taps ? i * taps : t->start[i], n = taps ? taps : t->start[i + 1] - k;
            if (lines) {
                real sum = 0;
                for (int64_t j = 0; j < n; j++)
                    sum += t->weight[k + j] * x[t->index[k + j]];
                y[i] = sum;
                continue;
            }
            for (int64_t v = 0; v < a->after; v += LANES) {
                vreal sum = {0};
                for (int64_t j = 0; j < n; j++)
                    sum += t->weight[k + j] * vload_up_to(x + t->index[k + j] * a->after + v, a->after - v);
                vstore_up_to(y + i * a->after + v, sum, a->after - v);
            }
        }
    }
}

static int sum_range(void *context, int64_t begin, int64_t end)
{
    const along *a = context;
    switch (a->t->taps) {
    case 1:
        sum_rows(a, begin, end, 1);
        break;
    case 2:
        sum_rows(a, begin, end, 2);
        break;
    case 4:
        sum_rows(a, begin, end, 4);
        break;
    default:
        sum_rows(a, begin, end, 0);
    }
    return FDL_OK;
}

/* ---- all axes, of groups of planes ---- */

static int resize_groups(void *context, int64_t begin, int64_t end)
{
    const resize *r = context;
    const fdl_mark mark = fdl_scratch_mark();
    real *between[2] = {NULL, NULL};
    int status = FDL_OK;
    for (int64_t i = 0; i < min64(2, r->axes - 1); i++) {
        between[i] = fdl_scratch(r->group * r->most * (int64_t)sizeof(real));
        status = between[i] ? status : FDL_OUT_OF_MEMORY;
    }
    for (int64_t g = begin; g < end && status == FDL_OK; g++) {
        const table *first = &r->axis[0], *last = &r->axis[r->axes - 1];
        const real *x = r->x + g * r->group * r->before[0] * first->size * r->after[0];
        for (int64_t i = 0; i < r->axes && status == FDL_OK; i++) {
            const table *t = &r->axis[i];
            real *whole = r->y + g * r->group * r->before[r->axes - 1] * last->out * r->after[r->axes - 1];
            along a = {t, x, i == r->axes - 1 ? whole : between[i % 2], r->after[i]};
            const int64_t taps = t->start[t->out], rows = r->group * r->before[i] * (a.after == 1 ? 1 : t->out);
            const int64_t each = max64(1, (a.after == 1 ? taps : taps / max64(1, t->out)) * a.after);
            status = fdl_parallel(rows, ceil_div(COMPUTE_GRAIN, each), sum_range, &a);
            x = a.y;
        }
    }
    fdl_scratch_release(mark);
    return status;
}

static int resize_planes(const real *x, real *y, const fdl_volumes *w, const resizing *how, const double scales[3],
                         bool backward)
{
    const int64_t sizes[] = {w->depth, w->height, w->width}, outs[] = {w->out_depth, w->out_height, w->out_width};
    resize r = {.x = x, .y = y, .planes = w->planes};
    int64_t turn[3], now[3];
    for (int64_t d = 0; d < 3; d++) {
        now[d] = backward ? outs[d] : sizes[d];
        const bool in_place = scales[d] == 1 || how->mode == FDL_RESIZE_AREA ||
                              how->coordinates == FDL_COORDINATES_ALIGN_CORNERS || sizes[d] == 1;
        if (sizes[d] != outs[d] || !in_place)
            turn[r.axes++] = d;
    }
    if (r.axes == 0)
        turn[r.axes++] = 2;
    /* By how much each grows; of those that do, the last ones first, of the others the first ones. */
    for (int64_t i = 1; i < r.axes; i++)
        for (int64_t j = i; j > 0; j--) {
            const int64_t a = turn[j - 1], b = turn[j];
            const double from_a = (double)(backward ? sizes[a] : outs[a]) / (double)max64(1, now[a]);
            const double from_b = (double)(backward ? sizes[b] : outs[b]) / (double)max64(1, now[b]);
            if (from_b < from_a || (from_b == from_a && from_b > 1 && b > a))
                turn[j - 1] = b, turn[j] = a;
        }
    r.group = r.planes >= 8 || fdl_available_threads(2) == 1 ? 1 : r.planes;
    const fdl_mark mark = fdl_scratch_mark();
    int status = FDL_OK;
    for (int64_t i = 0; i < r.axes && status == FDL_OK; i++) {
        const int64_t d = turn[i], taps = most_taps(how, sizes[d], outs[d]);
        table forward;
        bool fits = take_table(&forward, sizes[d], outs[d], taps);
        if (backward)
            fits = take_table(&r.axis[i], outs[d], sizes[d], taps) && fits;
        if (!fits) {
            status = FDL_OUT_OF_MEMORY;
            break;
        }
        fill_table(how, scales[d], &forward);
        if (backward)
            turn_round(&forward, &r.axis[i]);
        else
            r.axis[i] = forward;
        r.axis[i].taps = equal_taps(&r.axis[i]);
        r.before[i] = r.after[i] = 1;
        for (int64_t e = 0; e < 3; e++)
            *(e < d ? &r.before[i] : &r.after[i]) *= e == d ? 1 : now[e];
        now[d] = backward ? sizes[d] : outs[d];
        r.most = max64(r.most, now[0] * now[1] * now[2]);
    }
    if (status == FDL_OK && r.planes > 0)
        status = fdl_parallel(r.planes / r.group, ceil_div(COMPUTE_GRAIN, max64(1, r.most)), resize_groups, &r);
    fdl_scratch_release(mark);
    return status;
}

int fdl_resize(const real *x, real *y, const fdl_volumes *volumes, int64_t mode, int64_t coordinates, int64_t nearest,
               double scale_depth, double scale_height, double scale_width, double cubic, int64_t exclude_outside)
{
    const resizing how = {mode, coordinates, nearest, exclude_outside, cubic};
    return resize_planes(x, y, volumes, &how, (double[]){scale_depth, scale_height, scale_width}, false);
}

int fdl_resize_backward(const real *grad_output, real *grad_input, const fdl_volumes *volumes, int64_t mode,
                        int64_t coordinates, int64_t nearest, double scale_depth, double scale_height,
                        double scale_width, double cubic, int64_t exclude_outside)
{
    const resizing how = {mode, coordinates, nearest, exclude_outside, cubic};
    return resize_planes(grad_output, grad_input, volumes, &how, (double[]){scale_depth, scale_height, scale_width},
                         true);
}
