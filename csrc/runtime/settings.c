/* What a user has set for the whole process, apart from threads and levels. */
#include <stdatomic.h>

#include "fastdl.h"

static _Atomic int64_t conv_precision = FDL_PRECISION_FAST;

void fdl_set_conv_precision(int64_t precision) { atomic_store(&conv_precision, precision); }
int64_t fdl_get_conv_precision(void) { return atomic_load(&conv_precision); }
