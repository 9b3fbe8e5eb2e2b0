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


def _one_thread() -> None:
    import torch

    import fastdl

    fastdl.set_num_threads(1)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)


def _checked(calls: dict[str, Any], expected: Any) -> dict[str, Any]:
    """Each as a bench.contenders.Prepared: arrays within rounding of those."""
    import numpy as np

    from bench import peers
    from bench.contenders import Prepared

    def check(found: Any) -> None:
        arrays = peers.arrays_of(found)
        if len(arrays) != len(expected):
            raise AssertionError(f"found {len(arrays)} results, expected {len(expected)}")
        for a, b in zip(arrays, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)

    for call in calls.values():
        check(call())
    return {name: Prepared(call, check) for name, call in calls.items()}


def relu_contenders() -> dict[str, Any]:
    import functools

    import numpy as np
    import torch

    import fastdl

    _one_thread()
    x = np.random.default_rng(0).standard_normal(VALUES).astype(np.float32)
    calls = {
        "fastdl": functools.partial(fastdl.relu, x),
        "numpy": functools.partial(np.maximum, x, 0),
        "torch": functools.partial(torch.relu, torch.from_numpy(x.copy())),
    }
    return _checked(calls, [np.maximum(x, 0)])


def relu_call(rounds: int) -> Report:
    times = _times(relu_contenders(), rounds)
    return {
        "fastdl.relu, us": _us(times["fastdl"]),
        "torch.relu, us": _us(times["torch"]),
        "fastdl's time over torch's": _ratio(times["fastdl"], times["torch"]),
    }


def conv2d_contenders() -> dict[str, Any]:
    import functools

    import numpy as np
    import torch

    import fastdl
    from fastdl import reference

    _one_thread()
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in ((1, 1, 8, 8), (4, 1, 3, 3), (4,))]
    tensors = [torch.from_numpy(array.copy()) for array in arrays]
    convolve = torch.nn.functional.conv2d
    calls = {
        "fastdl": functools.partial(fastdl.conv2d, *arrays, 1, 1),
        "numpy": functools.partial(reference.conv2d, *arrays, 1, 1),
        "torch": functools.partial(convolve, *tensors, 1, 1),
    }
    return _checked(calls, [convolve(*tensors, padding=1).numpy()])


def conv2d_call(rounds: int) -> Report:
    times = _times(conv2d_contenders(), rounds)
    return {
        "fastdl.conv2d, us": _us(times["fastdl"]),
        "torch conv2d, us": _us(times["torch"]),
        "torch over fastdl": _ratio(times["torch"], times["fastdl"]),
    }


def recurrent_contenders() -> dict[str, Any]:
    """One sample, 32 numbers in: the function, and torch's LSTMCell. The bound cell starts from its state anew."""
    import functools

    import numpy as np
    import torch

    import fastdl
    from fastdl import reference

    _one_thread()
    cell = torch.nn.LSTMCell(32, 32)
    rng = np.random.default_rng(0)
    x, h, c = (rng.standard_normal((1, 32)).astype(np.float32) for _ in range(3))
    tensors = [torch.from_numpy(array.copy()) for array in (x, h, c)]
    weights = [parameter.numpy().copy() for parameter in cell.parameters()]
    state = tuple(tensors[1:])
    calls = {
        "fastdl": functools.partial(fastdl.lstm_cell, x, h, c, *weights),
        "numpy": functools.partial(reference.lstm_cell, x, h, c, *weights),
        "torch": functools.partial(cell, tensors[0], state),
    }
    own = fastdl.nn.LSTMCell(32, 32)
    own.load_state_dict({name: parameter.numpy() for name, parameter in cell.state_dict().items()})
    found = _checked(calls, [tensor.numpy() for tensor in cell(tensors[0], state)])
    bound = own.bind()

    def begin() -> None:
        bound.x[...], bound.h[...], bound.c[...] = x, h, c

    begin()
    bound.step()
    np.testing.assert_allclose(bound.h, cell(tensors[0], state)[0].numpy(), rtol=1e-4, atol=1e-5)

    def moves(result: Any) -> None:
        """It goes on from step to step, so that one step from the beginning is what can be compared."""
        begin()
        bound.step()
        np.testing.assert_allclose(bound.h, cell(tensors[0], state)[0].numpy(), rtol=1e-4, atol=1e-5)

    both = {"bound": bound.step, "bound with a copy": functools.partial(bound, x)}
    return found | {name: found["fastdl"]._replace(call=call, check=moves) for name, call in both.items()}


def recurrent_call(rounds: int) -> Report:
    times = _times(recurrent_contenders(), rounds)
    return {
        "fastdl.lstm_cell, us": _us(times["fastdl"]),
        "bound step, us": _us(times["bound"]),
        "bound step of a copy, us": _us(times["bound with a copy"]),
        "torch.nn.LSTMCell, us": _us(times["torch"]),
        "torch over fastdl": _ratio(times["torch"], times["fastdl"]),
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
    return {f"{name}, us": _us(t) for name, t in times.items()}


def adam_contenders(arrays: int = 1000, size: int = 100) -> dict[str, Any]:
    """With gradients in the same arrays as before, and ("other arrays") in new ones every time."""
    import functools

    import numpy as np
    import torch

    from bench.contenders import Prepared
    from fastdl import optim

    _one_thread()
    rng = np.random.default_rng(0)
    grads = list(rng.standard_normal((arrays, size)).astype(np.float32))
    others = [g.copy() for g in grads]
    parameters: dict[str, list[Any]] = {
        name: [np.zeros(size, np.float32) for _ in grads] for name in ("fastdl", "torch", "other arrays", "numpy")
    }
    peers = [torch.from_numpy(a).requires_grad_() for a in parameters["torch"]]
    for parameter, grad in zip(peers, grads, strict=True):
        parameter.grad = torch.from_numpy(grad)
    same, new = (optim.Adam(parameters[name], lr=1e-3) for name in ("fastdl", "other arrays"))
    peer = torch.optim.Adam(peers, lr=1e-3, fused=True)
    moments = [(np.zeros(size, np.float32), np.zeros(size, np.float32)) for _ in grads]
    step = 0

    def by_numpy() -> None:
        """As one writes it, array by array."""
        nonlocal step
        step += 1
        rate, correction = 1e-3 / (1 - 0.9**step), np.float32(1 / np.sqrt(1 - 0.999**step))
        for p, g, (mean, square) in zip(parameters["numpy"], grads, moments, strict=True):
            mean += np.float32(0.1) * (g - mean)
            square *= np.float32(0.999)
            square += np.float32(0.001) * g * g
            p -= np.float32(rate) * mean / (np.sqrt(square) * correction + np.float32(1e-8))

    def alternating() -> None:
        new.step(others)
        new.step(grads)

    calls = {
        "fastdl": functools.partial(same.step, grads),
        "other arrays": alternating,
        "numpy": by_numpy,
        "torch": peer.step,
    }
    steps = {"other arrays": 2}
    for name in ("fastdl", "numpy", "torch"):
        calls[name]()
        for a, b in zip(parameters[name], parameters["fastdl"], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-9)

    def moving(name: str) -> Any:
        before = np.copy(parameters[name][-1])

        def check(result: Any) -> None:
            now = parameters[name][-1]
            if not np.isfinite(now).all() or np.array_equal(before, now):
                raise AssertionError(f"{name}: a turn left the last array of parameters as it was")
            before[...] = now

        return check

    return {name: Prepared(call, moving(name), steps=steps.get(name, 1)) for name, call in calls.items()}


def many_arrays(rounds: int) -> Report:
    times = _times(adam_contenders(), rounds)
    return {f"{name}, us": _us(t) for name, t in times.items()} | {
        "torch over fastdl": _ratio(times["torch"], times["fastdl"]),
        "torch over fastdl, other arrays": _ratio(times["torch"], times["other arrays"]),
    }


CONTENDERS = {
    "relu of 8 values": relu_contenders,
    "conv2d of an image of 8x8": conv2d_contenders,
    "lstm_cell of 32": recurrent_contenders,
    "adam step of 1000 arrays": adam_contenders,
    "adam step of 1000 numbers": lambda: adam_contenders(1, 1000),
}
"""Of what is timed in bench.suites.calls as well."""


def _times(contenders: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    """Seconds of one step."""
    from bench.timing import interleave

    times = interleave({name: each.call for name, each in contenders.items()}, rounds, seconds=0.01)
    return {name: [t / contenders[name].steps for t in found] for name, found in times.items()}


def _us(times: list[float]) -> float:
    return 1e6 * statistics.median(times)


def _ratio(numerator: list[float], denominator: list[float]) -> float:
    from bench.timing import median_ratio

    return median_ratio(numerator, denominator)


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
