/* What compiled code says of a mistake, from where it is found to where its exception is made: in one thread. */

#include "fastdl.h"

int64_t *fdl_mistake(void)
{
    static _Thread_local int64_t words[FDL_MISTAKE_WORDS];
    return words;
}
