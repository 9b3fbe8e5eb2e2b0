"""Measurements: pytest-benchmark over the cases of tests/cases, and comparisons with peers in one run."""

import sys
from pathlib import Path

# `python -m bench.compare` puts the checkout first on the path, where fastdl/ may be source only. Last, it lets
# the installed package go first, and still provides tests/.
_checkout = str(Path(__file__).parents[1])
if sys.path[0] in ("", _checkout):
    sys.path.append(sys.path.pop(0))
