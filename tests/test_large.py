"""Arrays with more than 2^31 elements: no index is held in 32 bits."""

from __future__ import annotations

import numpy as np
import pytest

import fastdl


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """Zeros, of which the system keeps only the pages that are written, and numbers in the last corner."""
    x = np.zeros((1, 1, 65_003, 34_003), np.float32)
    assert x.size > 2**31
    x[0, 0, -3:, -3:] = np.arange(1, 10).reshape(3, 3)
    x[0, 0, -1003, -3:] = 10, 20, 30
    return x


@pytest.mark.slow
def test_convolution_of_a_large_image(image: np.ndarray) -> None:
    weight = np.arange(18, dtype=np.float32).reshape(2, 1, 3, 3)
    for algorithm in ("direct", "im2col"):
        y = fastdl.conv2d(image, weight, stride=1000, algorithm=algorithm)
        assert y.shape == (1, 2, 66, 35)
        np.testing.assert_array_equal(y[0, :, -1, -1], (weight[:, 0] * image[0, 0, -3:, -3:]).sum((1, 2)))
        np.testing.assert_array_equal(y[0, :, -2, -1], (weight[:, 0, 0] * image[0, 0, -1003, -3:]).sum(1))
        assert np.count_nonzero(y) == 4


@pytest.mark.slow
def test_pooling_of_a_large_image(image: np.ndarray) -> None:
    y = fastdl.max_pool2d(image, 3, stride=1000)
    assert y.shape == (1, 1, 66, 35)
    np.testing.assert_array_equal(y[0, 0, -2:, -1], (30, 9))
    assert np.count_nonzero(y) == 2


@pytest.mark.slow
def test_columns_of_a_large_image(image: np.ndarray) -> None:
    columns = fastdl.im2col(image, 3, stride=1000)
    np.testing.assert_array_equal(columns[0, :, -1], np.arange(1, 10))


@pytest.mark.slow
def test_crop_of_a_large_image(image: np.ndarray) -> None:
    end = fastdl.pad(image, (5 - 34_003, 1, 4 - 65_003, 0))
    assert end.shape == (1, 1, 4, 6)
    np.testing.assert_array_equal(end[0, 0, :, :5], image[0, 0, -4:, -5:])
    np.testing.assert_array_equal(end[0, 0, :, 5], 0)


@pytest.mark.slow
def test_gradient_of_a_large_border(image: np.ndarray) -> None:
    grad = fastdl.pad_backward(image, (5, 34_003 - 12, 5, 65_003 - 13), "replicate")
    assert grad.shape == (1, 1, 8, 7)
    assert grad[0, 0, -1, -1] == 45 + 60
    assert np.count_nonzero(grad) == 1


@pytest.mark.slow
def test_results_of_more_than_eight_gigabytes(image: np.ndarray) -> None:
    """These are written throughout."""
    y = fastdl.pad(image[:, :, -4:, -5:], (33_998, 0, 64_999, 0), value=2.0)
    assert y.shape == image.shape
    np.testing.assert_array_equal(y[0, 0, -4:, -5:], image[0, 0, -4:, -5:])
    assert (y[0, 0, -5] == 2).all()
    assert (y[0, 0, -1, :-5] == 2).all()
    del y
    grad_output, weight = np.zeros((1, 1, 66, 35), np.float32), np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    grad_output[0, 0, -1, -1] = 2
    grad = fastdl.conv2d_backward(grad_output, image, weight, stride=1000)
    np.testing.assert_array_equal(grad.input[0, 0, -3:, -3:], 2 * weight[0, 0])
    assert not grad.input[0, 0, -1003:-3].any()
    np.testing.assert_array_equal(grad.weight[0, 0], 2 * image[0, 0, -3:, -3:])
