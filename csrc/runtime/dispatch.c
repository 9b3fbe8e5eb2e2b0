/* The ordered list of instruction-set levels, the active one, and the public entry points (generated),
 * each of which is one indirect jump through the active level's table. */
#include "runtime/core.h"
#include "fastdl.h"

#include "dispatch_table.h"

enum { LEVELS = sizeof levels / sizeof levels[0] };

const char *fdl_level_name(int64_t index) { return index >= 0 && index < LEVELS ? levels[index].name : 0; }

int fdl_level_supported(int64_t index) { return fdl_level_name(index) && fdl_cpu_supports(levels[index].name); }

void fdl_use_level(int64_t index) { active = levels[index].table; }

int64_t fdl_active_level(void)
{
    for (int64_t i = 0; i < LEVELS; i++)
        if (levels[i].table == active)
            return i;
    return -1;
}
