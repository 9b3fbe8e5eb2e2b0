/* F(2 x 2, 3 x 3). */
#define WINOGRAD_TILE 2
#include "kernels/conv/winograd_forward.h"
