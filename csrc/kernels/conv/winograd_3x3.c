/* F(3 x 3, 2 x 2). */
#define WINOGRAD_TILE 3
#include "kernels/conv/winograd_forward.h"
