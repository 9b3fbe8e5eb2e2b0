"""That an installed wheel imports and computes. Run with `python -I`, so that the checkout is not on the path."""

import platform

import numpy as np

import fastdl

for dtype in (np.float32, np.float64):
    x = np.array([-1, 0, 2, np.nan], dtype)
    np.testing.assert_array_equal(fastdl.relu(x), np.array([0, 0, 2, np.nan], dtype))
    np.testing.assert_allclose(fastdl.linear(x[:3], np.ones((5, 3), dtype)), np.ones(5, dtype))
print("Python", platform.python_version(), fastdl.show_config())
