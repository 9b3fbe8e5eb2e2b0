"""What a call costs beyond its arithmetic, and what having the library costs.

python -m bench.calls relu      fastdl.relu on 8 values against torch.relu
python -m bench.calls conv2d    a 3x3 convolution of one 8x8 image to 4 channels, likewise
python -m bench.calls recurrent one step of an LSTM of 32 units, likewise
python -m bench.calls optimizer one Adam and one SGD step on 1,000 parameters
python -m bench.calls optimizers  one Adam step on 1,000 arrays of 100 parameters against torch, fused
python -m bench.calls numba     relu in an @njit loop, above the kernel's own cost
python -m bench.calls import    `import fastdl` beyond numpy's import
python -m bench.calls wheel     the size of the wheel
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

VALUES = 8
Report = dict[str, Any]


def main(argv: list[str] | None = None) -> Report:
    parser = argparse.ArgumentParser(
        prog="bench.calls", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=MEASURES)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--json", help="write the report to this file too")
    options = parser.parse_args(argv)
    report = MEASURES[options.what](options.rounds)
    for name, value in report.items():
        print(f"{name:<34}{value:.3f}" if isinstance(value, float) else f"{name:<34}{value}")
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1))
    return report


def relu_call(rounds: int) -> Report:
    import functools

    import numpy as np
    import torch

    import fastdl
    from bench.timing import interleave, median_ratio

    x = np.random.default_rng(0).standard_normal(VALUES).astype(np.float32)
    tensor = torch.from_numpy(x.copy())
    np.testing.assert_array_equal(fastdl.relu(x), torch.relu(tensor).numpy())
    calls = {"fastdl": functools.partial(fastdl.relu, x), "torch": functools.partial(torch.relu, tensor)}
    times = interleave(calls, rounds, seconds=0.01)
    return {
        "fastdl.relu, us": 1e6 * statistics.median(times["fastdl"]),
        "torch.relu, us": 1e6 * statistics.median(times["torch"]),
        "fastdl's time over torch's": median_ratio(times["fastdl"], times["torch"]),
    }


def conv2d_call(rounds: int) -> Report:
    import functools

    import numpy as np
    import torch

    import fastdl
    from bench.timing import interleave, median_ratio

    fastdl.set_num_threads(1)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in ((1, 1, 8, 8), (4, 1, 3, 3), (4,))]
    tensors = [torch.from_numpy(array.copy()) for array in arrays]
    convolve = torch.nn.functional.conv2d
    expected = convolve(*tensors, padding=1).numpy()
    np.testing.assert_allclose(fastdl.conv2d(*arrays, padding=1), expected, rtol=1e-4, atol=1e-5)
    calls = {
        "fastdl": functools.partial(fastdl.conv2d, *arrays, 1, 1),
        "torch": functools.partial(convolve, *tensors, 1, 1),
    }
    times = interleave(calls, rounds, seconds=0.01)
    return {
        "fastdl.conv2d, us": 1e6 * statistics.median(times["fastdl"]),
        "torch conv2d, us": 1e6 * statistics.median(times["torch"]),
        "torch over fastdl": median_ratio(times["torch"], times["fastdl"]),
    }


def recurrent_call(rounds: int) -> Report:
    """One sample, 32 numbers in: the function, and torch's LSTMCell."""
    import functools

    import numpy as np
    import torch

    import fastdl
    from bench.timing import interleave, median_ratio

    fastdl.set_num_threads(1)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    cell = torch.nn.LSTMCell(32, 32)
    rng = np.random.default_rng(0)
    x, h, c = (rng.standard_normal((1, 32)).astype(np.float32) for _ in range(3))
    tensors = [torch.from_numpy(array.copy()) for array in (x, h, c)]
    weights = [parameter.numpy().copy() for parameter in cell.parameters()]
    state = tuple(tensors[1:])
    for found, wanted in zip(fastdl.lstm_cell(x, h, c, *weights), cell(tensors[0], state), strict=True):
        np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-4, atol=1e-5)
    calls = {
        "fastdl": functools.partial(fastdl.lstm_cell, x, h, c, *weights),
        "torch": functools.partial(cell, tensors[0], state),
    }
    own = fastdl.nn.LSTMCell(32, 32)
    own.load_state_dict({name: parameter.numpy() for name, parameter in cell.state_dict().items()})
    bound = own.bind()
    bound.x[...], bound.h[...], bound.c[...] = x, h, c
    bound.step()
    np.testing.assert_allclose(bound.h, cell(tensors[0], state)[0].numpy(), rtol=1e-4, atol=1e-5)
    calls |= {"bound": bound.step, "bound with a copy": functools.partial(bound, x)}
    times = interleave(calls, rounds, seconds=0.01)
    return {
        "fastdl.lstm_cell, us": 1e6 * statistics.median(times["fastdl"]),
        "bound step, us": 1e6 * statistics.median(times["bound"]),
        "bound step of a copy, us": 1e6 * statistics.median(times["bound with a copy"]),
        "torch.nn.LSTMCell, us": 1e6 * statistics.median(times["torch"]),
        "torch over fastdl": median_ratio(times["torch"], times["fastdl"]),
    }


def optimizer_step(rounds: int) -> Report:
    """Optimizer.step with gradients in the same arrays as before, the bound step, and the kernel's own share."""
    import functools

    import numpy as np

    import fastdl
    from bench.timing import interleave
    from fastdl import optim

    fastdl.set_num_threads(1)
    calls = {}
    for name in ("SGD", "Adam"):
        grads = [np.random.default_rng(0).standard_normal(1000).astype(np.float32)]
        optimizer = getattr(optim, name)([np.zeros(1000, np.float32)], lr=1e-6)
        calls[f"{name}.step"] = functools.partial(optimizer.step, grads)
        calls[f"{name} bound"] = optimizer.bind(grads)
        optimizer.step(grads)
        kernel, *arguments = optimizer._ready.calls[0]
        calls[f"{name}'s C function"] = functools.partial(kernel, *arguments)
    times = interleave(calls, rounds, seconds=0.01)
    return {f"{name}, us": 1e6 * statistics.median(t) for name, t in times.items()}


def many_arrays(rounds: int) -> Report:
    """With gradients in the same arrays as before, and in new ones every time."""
    import functools

    import numpy as np
    import torch

    import fastdl
    from bench.timing import interleave, median_ratio
    from fastdl import optim

    fastdl.set_num_threads(1)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    grads = list(rng.standard_normal((1000, 100)).astype(np.float32))
    others = [g.copy() for g in grads]
    params, tensors = ([np.zeros(100, np.float32) for _ in grads] for _ in range(2))
    peers = [torch.from_numpy(a).requires_grad_() for a in tensors]
    for parameter, grad in zip(peers, grads, strict=True):
        parameter.grad = torch.from_numpy(grad)
    optimizer, peer = optim.Adam(params, lr=1e-3), torch.optim.Adam(peers, lr=1e-3, fused=True)
    optimizer.step(grads)
    peer.step()
    for a, b in zip(params, tensors, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)

    def alternating() -> None:
        optimizer.step(others)
        optimizer.step(grads)

    calls = {
        "same arrays": functools.partial(optimizer.step, grads),
        "other arrays": alternating,
        "torch": peer.step,
    }
    times = interleave(calls, rounds, seconds=0.01)
    times["other arrays"] = [t / 2 for t in times["other arrays"]]
    return {f"{name}, us": 1e6 * statistics.median(t) for name, t in times.items()} | {
        "torch over fastdl": median_ratio(times["torch"], times["same arrays"]),
        "torch over fastdl, other arrays": median_ratio(times["torch"], times["other arrays"]),
    }


def relu_in_numba(rounds: int) -> Report:
    """The kernel's own cost: its C symbol, called through a plain function pointer in a loop of the same shape."""
    import numba
    import numpy as np

    import fastdl
    from bench.timing import interleave
    from fastdl import _kernels
    from fastdl._native import lib

    calls = 100_000
    pointer = ctypes.c_void_p
    number, integer = ctypes.c_double, ctypes.c_int64
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer, integer, integer, number, number)
    kernel = prototype(lib.fdl_address(2 * list(_kernels.SIGNATURES).index("elementwise")))  # float32 is first of two
    relu = _kernels.ACTIVATION_RELU

    @numba.njit
    def public(x, y):  # type: ignore[no-untyped-def]
        for _ in range(calls):
            fastdl.relu(x, out=y)

    @numba.njit
    def allocating(x, y):  # type: ignore[no-untyped-def]
        for _ in range(calls):
            y = fastdl.relu(x)
        return y

    @numba.njit
    def symbol(x, y):  # type: ignore[no-untyped-def]
        for _ in range(calls):
            kernel(x.ctypes.data, y.ctypes.data, x.size, relu, 0.0, 0.0)

    x = np.random.default_rng(0).standard_normal(VALUES).astype(np.float32)
    expected = np.maximum(x, 0)
    for loop in (public, allocating, symbol):
        y = np.full_like(x, np.nan)
        np.testing.assert_array_equal(y if (result := loop(x, y)) is None else result, expected)
    y = np.empty_like(x)
    loops = {
        "public": lambda: public(x, y),
        "allocating": lambda: allocating(x, y),
        "symbol": lambda: symbol(x, y),
    }
    times = interleave(loops, rounds, seconds=0.01)
    nanoseconds = {name: 1e9 * statistics.median(t) / calls for name, t in times.items()}
    above = [1e9 * (a - b) / calls for a, b in zip(times["public"], times["symbol"], strict=True)]
    return {
        "fastdl.relu(x, out=y), ns": nanoseconds["public"],
        "fastdl.relu(x), ns": nanoseconds["allocating"],
        "C symbol alone, ns": nanoseconds["symbol"],
        "with out= above the symbol, ns": statistics.median(above),
    }


def import_time(rounds: int) -> Report:
    """In new processes that have imported numpy already; the files are in the page cache."""
    import fastdl

    program = "import time, numpy; t = time.perf_counter(); import fastdl; print(time.perf_counter() - t)"
    command, home = [sys.executable, "-c", program], Path(fastdl.__file__).parents[1]
    times = [float(subprocess.run(command, cwd=home, check=True, capture_output=True).stdout) for _ in range(rounds)]
    return {"import fastdl beyond numpy, ms": 1e3 * statistics.median(times[1:])}


def wheel_size(rounds: int) -> Report:
    checkout = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, str(checkout)]
        subprocess.run(command, check=True, capture_output=True)
        (wheel,) = Path(folder).glob("*.whl")
        return {"wheel": wheel.name, "size, MB": wheel.stat().st_size / 2**20}


MEASURES = {
    "relu": relu_call,
    "conv2d": conv2d_call,
    "recurrent": recurrent_call,
    "optimizer": optimizer_step,
    "optimizers": many_arrays,
    "numba": relu_in_numba,
    "import": import_time,
    "wheel": wheel_size,
}

if __name__ == "__main__":
    main()
