/* What a user has set for the whole process, apart from threads and levels. */
#include <stdatomic.h>

#include "fastdl.h"

static _Atomic int64_t conv_precision = FDL_PRECISION_FAST, deterministic = 0;

void fdl_set_conv_precision(int64_t precision) { atomic_store(&conv_precision, precision); }
int64_t fdl_get_conv_precision(void) { return atomic_load(&conv_precision); }
void fdl_set_deterministic(int64_t on) { atomic_store(&deterministic, on); }
int64_t fdl_get_deterministic(void) { return atomic_load_explicit(&deterministic, memory_order_relaxed); }
