/* See recurrent.h. */
#include "kernels/recurrent/recurrent.h"
#include "vector/dropout.h"

int recurrent_schedule(const fdl_recurrence *r, const int64_t *lengths, recurrent_rows *rows)
{
    const int64_t steps = r->steps, batch = r->batch;
    if (steps > INT64_MAX / 64) /* of an empty batch: arrays that are empty may have any size */
        return FDL_OUT_OF_MEMORY;
    int64_t total = lengths ? 0 : steps * batch;
    int64_t *own = lengths ? fdl_scratch(max64(1, batch) * (int64_t)sizeof(int64_t)) : NULL;
    if (lengths && !own)
        return FDL_OUT_OF_MEMORY;
    for (int64_t b = 0; lengths && b < batch; b++) { /* loaded once: the caller's may change meanwhile */
        own[b] = lengths[b];
        if (own[b] < 1 || own[b] > steps)
            return FDL_BAD_LENGTH;
        total += own[b];
    }
    const bool whole = total == steps * batch, plain = whole && (!r->batch_first || steps == 1 || batch == 1);
    int64_t *memory = fdl_scratch((batch + steps + 1 + steps + (plain ? 0 : total)) * (int64_t)sizeof(int64_t));
    if (!memory)
        return FDL_OUT_OF_MEMORY;
    *rows = (recurrent_rows){steps, batch, total, memory, memory + batch, memory + batch + steps + 1, NULL};
    if (whole) {
        for (int64_t b = 0; b < batch; b++)
            rows->order[b] = b;
        for (int64_t t = 0; t < steps; t++)
            rows->active[t] = batch;
    } else {
        /* Counting sort: longer ones before, equals in their order. `first` counts what each length has so far. */
        for (int64_t t = 0; t < steps; t++)
            rows->active[t] = rows->first[t] = 0;
        for (int64_t b = 0; b < batch; b++)
            rows->active[own[b] - 1]++;
        for (int64_t t = steps - 2; t >= 0; t--)
            rows->active[t] += rows->active[t + 1];
        for (int64_t b = 0; b < batch; b++) {
            const int64_t last = own[b] - 1, longer = last + 1 < steps ? rows->active[last + 1] : 0;
            rows->order[longer + rows->first[last]++] = b;
        }
    }
    rows->active[steps] = 0;
    for (int64_t t = 0, row = 0; t < steps; row += rows->active[t], t++)
        rows->first[t] = row;
    if (plain)
        return FDL_OK;
    rows->place = rows->first + steps;
    for (int64_t t = 0; t < steps; t++)
        for (int64_t i = 0; i < rows->active[t]; i++) {
            const int64_t b = rows->order[i];
            rows->place[rows->first[t] + i] = r->batch_first ? b * steps + t : t * batch + b;
        }
    return FDL_OK;
}

recurrent_weights recurrent_arrays(const fdl_recurrence *r, const int64_t *arrays, int64_t column, int64_t layer,
                                   int64_t direction)
{
    const int64_t each = 2 + 2 * r->biases + r->projection, which = layer * r->directions + direction;
    const int64_t peephole = r->layers * r->directions * each + which;
    const int64_t *row = arrays + which * each * 3 + column;
    recurrent_weights w = {(real *)(uintptr_t)row[0], (real *)(uintptr_t)row[3], NULL, NULL, NULL, NULL};
    if (r->biases)
        w.bias_ih = (real *)(uintptr_t)row[6], w.bias_hh = (real *)(uintptr_t)row[9];
    if (r->projection)
        w.weight_hr = (real *)(uintptr_t)row[3 * (each - 1)];
    if (r->peepholes)
        w.peephole = (real *)(uintptr_t)arrays[peephole * 3 + column];
    return w;
}

recurrent_saved recurrent_saved_of(const fdl_recurrence *r, real *saved, int64_t rows, int64_t layer, int64_t direction)
{
    const int64_t gates = rows * recurrent_saved_gates(r->kind) * r->hidden;
    const int64_t c = r->kind == FDL_RECURRENT_LSTM ? rows * r->hidden : 0, h = rows * r->output;
    real *base = saved + layer * r->directions * (gates + c + h);
    return (recurrent_saved){
        base + direction * gates,
        c ? base + r->directions * gates + direction * c : NULL,
        base + r->directions * (gates + c) + direction * r->output,
        r->directions * r->output,
    };
}

void recurrent_sorted(const recurrent_rows *rows, const real *x, int64_t size, int64_t stride, real *out)
{
    for (int64_t i = 0; i < rows->batch; i++)
        for (int64_t j = 0; j < stride; j++)
            out[i * stride + j] = x && j < size ? x[rows->order[i] * size + j] : 0;
}

int recurrent_dropout(const fdl_recurrence *r, const recurrent_rows *rows, int64_t layer, const real *x, real *y,
                      double keep, int64_t seed, int64_t offset)
{
    const int64_t width = r->directions * r->output;
    int status = FDL_OK;
    for (int64_t t = 0; t < rows->steps; t++)
        for (int64_t i = 0; i < rows->active[t] && status == FDL_OK; i++) {
            const int64_t row = rows->first[t] + i, number = (layer * r->steps + t) * r->batch + rows->order[i];
            const uint64_t first = (uint64_t)(number * ceil_div(width, 4)), start = (uint64_t)offset + first;
            status = dropout_array(x + row * width, y + row * width, width, 1, keep, seed, (int64_t)start,
                                   keep > 0 ? 1 / keep : 0, 0, 0);
        }
    return status;
}

int64_t recurrent_threads(const fdl_recurrence *r)
{
    /* A step ends in a barrier, which takes the time of some ten thousand multiply-adds. */
    const double work = (double)r->batch * (double)(recurrent_gates(r->kind) * r->hidden) * (double)r->output;
    const int64_t worth = work < 0x1p22 ? (int64_t)(work / 0x1p16) : 64;
    return fdl_available_threads(min64(worth, ceil_div(r->hidden, PANEL_SPREAD * LANES)));
}

int recurrent_directions(const fdl_recurrence *r, int64_t rows, fdl_task *task, void *context)
{
    const double work = (double)rows * (double)(recurrent_gates(r->kind) * r->hidden) * (double)r->output;
    const int64_t threads = work > 0x1p17 ? fdl_available_threads(4) : 1;
    const bool side_by_side = threads >= 2 && (threads < 4 || recurrent_threads(r) < 2);
    if (side_by_side)
        return fdl_parallel(r->directions, 1, task, context);
    return task(context, 0, r->directions);
}
