"""Every case but the large ones, every fourth in float64 too, against the reference: what can run without pytest.

run_cases.py [PART PARTS]: each PARTS-th case, from PART on
"""

import sys

import numpy as np

import fastdl
from tests.cases import all_cases

part, parts = map(int, sys.argv[1:] or ("0", "1"))
checked = 0
for i, case in enumerate(all_cases()[part::parts]):
    if "large" not in case.tags:
        for dtype in (np.float32, np.float64)[: 2 if i % 4 == 0 else 1]:  # one source, and emulation is slow
            arguments = case.make(dtype)
            case.check(case.run(arguments), arguments)
            checked += 1
assert checked, "no case was run"
print(f"level {fastdl.active_isa()}: {checked} checks passed")
