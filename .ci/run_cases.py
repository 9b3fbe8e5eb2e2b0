"""Every case but the large ones, both dtypes, against the float64 reference: what can run without pytest."""

import numpy as np

import fastdl
from tests.cases import all_cases

checked = 0
for case in all_cases():
    if "large" not in case.tags:
        for dtype in (np.float32, np.float64):
            arguments = case.make(dtype)
            case.check(case.run(arguments), arguments)
            checked += 1
print(f"level {fastdl.active_isa()}: {checked} checks passed")
