"""The library's knobs: instruction-set level and number of threads, and what they are now."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from fastdl import _kernels
from fastdl._implementation import active_backend, available_backends
from fastdl._native import ffi, lib
from fastdl._recording import level_changed

__all__ = [
    "active_isa",
    "deterministic",
    "get_conv_precision",
    "get_deterministic",
    "get_num_threads",
    "set_conv_precision",
    "set_deterministic",
    "set_num_threads",
    "show_config",
    "supported_isas",
    "threads",
    "use_isa",
]


def _levels() -> list[str]:
    names: list[str] = []
    while (name := lib.fdl_level_name(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return names


LEVELS = _levels()
"""Instruction-set levels that this build has, best first."""


def supported_isas() -> list[str]:
    """The instruction-set levels that this build has and this CPU and operating system can run.

    Returns
    -------
    list of str
        Best first: of "v4" (AVX-512), "v3" (AVX2 and FMA), "v2" (SSE4.2), or "neon".

    Examples
    --------
    >>> import fastdl
    >>> fastdl.active_isa() in fastdl.supported_isas()
    True
    """
    return [name for i, name in enumerate(LEVELS) if lib.fdl_level_supported(i)]


def use_isa(name: str) -> None:
    """Make every kernel run at one instruction-set level, for the whole process.

    At import it is the best that the CPU can run, or what the environment variable FASTDL_ISA says. May be called
    while kernels run in other threads: a call that has begun ends at the level at which it began.

    Parameters
    ----------
    name : str
        One of `supported_isas`.

    Raises
    ------
    ValueError
        This build does not have the level, or this CPU cannot run it.

    Examples
    --------
    >>> import fastdl
    >>> before = fastdl.active_isa()
    >>> fastdl.use_isa(fastdl.supported_isas()[-1])
    >>> fastdl.use_isa(before)
    """
    supported = supported_isas()
    if name not in supported:
        reason = "not supported by this CPU" if name in LEVELS else "unknown"
        raise ValueError(f"isa: found {name!r} ({reason}), expected one of {', '.join(supported)}")
    lib.fdl_use_level(LEVELS.index(name))
    level_changed()


def active_isa() -> str:
    """The instruction-set level that runs now, as the code of that level itself reports it.

    Returns
    -------
    str
        One of `supported_isas`.

    Examples
    --------
    >>> import fastdl
    >>> fastdl.active_isa() in fastdl.supported_isas()
    True
    """
    name: str = ffi.string(_kernels.compiled_level()).decode()
    return name


_requested = 0  # 0: as many as there are cores


def set_num_threads(threads: int) -> None:
    """Let every function use at most that many threads, for the whole process.

    At import it is FASTDL_NUM_THREADS, else one for each core that the process may use, as its affinity and its
    container's quota say, but no more than OMP_NUM_THREADS. Small work uses fewer, and so does work beside a busy
    process where several threads were seen to take longer than one. It may be called while other threads run kernels:
    a call that has begun goes on as it is. No result depends on it, not in the last bit.

    Parameters
    ----------
    threads : int
        1 to 4096.

    Raises
    ------
    TypeError, ValueError
        `threads` is not an int, or out of range.

    See Also
    --------
    threads : the same for a block of code.

    Examples
    --------
    >>> import fastdl
    >>> before = fastdl.get_num_threads()
    >>> fastdl.set_num_threads(1)
    >>> fastdl.get_num_threads()
    1
    >>> fastdl.set_num_threads(before)
    """
    global _requested
    if isinstance(threads, bool) or not isinstance(threads, int):
        raise TypeError(f"threads: found {threads!r}, expected an int")
    if not 1 <= threads <= 4096:
        raise ValueError(f"threads: found {threads}, expected 1 to 4096")
    _requested = threads
    lib.fdl_set_num_threads(threads)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Use at most `number` threads inside a ``with`` block, and afterwards what was set before.

    The setting is the process's, not the thread's: kernels that other Python threads call meanwhile follow it too,
    and of blocks that overlap in time in different threads the one that ends last decides what stays. Where Python
    threads share the work, set the number once, outside of them.

    Parameters
    ----------
    number : int
        1 to 4096.

    Raises
    ------
    TypeError, ValueError
        As of `set_num_threads`, on entering the block; nothing has changed then.

    Examples
    --------
    >>> import fastdl
    >>> with fastdl.threads(1):
    ...     fastdl.get_num_threads()
    1
    """
    global _requested
    before = _requested
    set_num_threads(number)
    try:
        yield
    finally:
        _requested = before
        lib.fdl_set_num_threads(before)


def get_num_threads() -> int:
    """The number of threads that a function uses at most.

    Returns
    -------
    int
        What `set_num_threads` or `threads` set, else one for each core, as `set_num_threads` says.

    Examples
    --------
    >>> import fastdl
    >>> fastdl.get_num_threads() >= 1
    True
    """
    return int(lib.fdl_get_num_threads())


def set_conv_precision(precision: Literal["fast", "exact"]) -> None:
    """How exact convolution has to be where a call does not say it, for the whole process.

    The environment variable FASTDL_CONV_PRECISION does the same at import.

    Parameters
    ----------
    precision : {"fast", "exact"}
        "exact": every result as exact as the direct method's, forward and gradients, transposed convolution too: each
        is a sum in the arrays' dtype, wrong by at most about ``terms * eps * sum |weight * x|`` over its own terms.
        "fast", as from the start: Winograd's algorithm where it pays, which mixes the pixels of a tile of 6 x 6 (or
        4 x 4, or 3 x 3 and more), so that each result is wrong by a few eps times the largest magnitude *in its tile*,
        times the sum of the weights' magnitudes: beside pixels much larger than itself, a small result has few exact
        digits, and one that ought to be 0 or above may come out slightly below. Where the largest number of an array is
        more than about ``1 / sqrt(eps)`` times what is typical of it (4096 in float32), the direct method is taken.

    Raises
    ------
    ValueError
        precision is neither.

    See Also
    --------
    conv2d : its argument `precision` says it for one call.

    References
    ----------
    Barabasz, Anderson, Soodhalter and Gregg, "Error Analysis and Improving the Accuracy of Winograd Convolution for
    Deep Neural Networks", ACM TOMS 46(4), 2020.

    Examples
    --------
    >>> import fastdl
    >>> fastdl.set_conv_precision("exact")
    >>> fastdl.explain_conv2d((1, 64, 56, 56), (64, 64, 3, 3), padding=1).algorithm
    'direct'
    >>> fastdl.set_conv_precision("fast")
    """
    if not isinstance(precision, str) or precision not in ("fast", "exact"):
        raise ValueError(f"precision: found {precision!r}, expected 'fast' or 'exact'")
    lib.fdl_set_conv_precision(_kernels.PRECISION_EXACT if precision == "exact" else _kernels.PRECISION_FAST)


def get_conv_precision() -> str:
    """What set_conv_precision said, "fast" from the start.

    Returns
    -------
    str
        "fast" or "exact".

    Examples
    --------
    >>> import fastdl
    >>> fastdl.get_conv_precision()
    'fast'
    """
    return _kernels.PRECISION_NAMES[int(lib.fdl_get_conv_precision())]


def set_deterministic(on: bool) -> None:
    """Let no result of a sample depend on the other samples of its batch, for the whole process.

    At one instruction-set level, results never depend on the number of threads, on what else the machine does, or on
    where arrays lie in memory: the same call gives the same bits. What may change the last digits is how many samples
    there are: a product of few rows, or a convolution of few images, is summed in another order where that takes less
    time. Where this is set, it is not: the result of each sample, forward and in the gradient of the input, is bit for
    bit what it is alone. That holds for every function whose samples are independent by definition; batch
    normalization in training, the gradients of weights, biases and statistics, and losses reduced to one number are of
    all samples, and random masks of `dropout` follow the place in the array. The sign of a NaN is left open. Whether
    it is set may be changed between a forward and its backward.

    It costs time where samples are few: `linear`, cells and recurrent networks pack their weights even for one sample,
    for which `linear` then takes up to 4 times as long, and from some 30 samples on no longer than before; convolution
    takes for every batch the algorithm that suits one image. The environment variable FASTDL_DETERMINISTIC=1 does the
    same at import, and calls inside of Numba functions follow it.

    Parameters
    ----------
    on : bool
        False from the start.

    Raises
    ------
    TypeError
        `on` is not a bool.

    See Also
    --------
    deterministic : the same for a block of code.

    Examples
    --------
    >>> import fastdl
    >>> import numpy as np
    >>> x, weight = np.random.default_rng(0).standard_normal((2, 64, 64), np.float32)
    >>> fastdl.set_deterministic(True)
    >>> np.array_equal(fastdl.linear(x, weight)[5:6], fastdl.linear(x[5:6], weight))
    True
    >>> fastdl.set_deterministic(False)
    """
    if not isinstance(on, bool):
        raise TypeError(f"on: found {on!r}, expected a bool")
    lib.fdl_set_deterministic(on)


@contextmanager
def deterministic(on: bool = True) -> Iterator[None]:
    """What set_deterministic does, inside a ``with`` block, and afterwards what was set before.

    The setting is the process's, as that of `threads`.

    Parameters
    ----------
    on : bool
        False: not inside the block.

    Raises
    ------
    TypeError
        `on` is not a bool.

    Examples
    --------
    >>> import fastdl
    >>> with fastdl.deterministic():
    ...     fastdl.get_deterministic()
    True
    """
    before = get_deterministic()
    set_deterministic(on)
    try:
        yield
    finally:
        set_deterministic(before)


def get_deterministic() -> bool:
    """What set_deterministic said, False from the start.

    Returns
    -------
    bool
        Whether no result of a sample depends on the others of its batch.

    Examples
    --------
    >>> import fastdl
    >>> fastdl.get_deterministic()
    False
    """
    return bool(lib.fdl_get_deterministic())


def show_config() -> dict[str, object]:
    """What was built, what this machine supports and what is in use; ``fastdl info`` prints it.

    Returns
    -------
    dict
        "fastdl" (the version), "machine", "backend" (in use), "backends", "isa" (in use), "isa supported", "isa built",
        "threads", "conv precision", "deterministic".

    Examples
    --------
    >>> import fastdl
    >>> fastdl.show_config()["isa"] == fastdl.active_isa()
    True
    """
    from fastdl import __version__

    return {
        "fastdl": __version__,
        "machine": platform.machine(),
        "backend": active_backend(),
        "backends": available_backends(),
        "isa": active_isa(),
        "isa supported": supported_isas(),
        "isa built": list(LEVELS),
        "threads": get_num_threads(),
        "conv precision": get_conv_precision(),
        "deterministic": get_deterministic(),
    }


def _openmp_threads() -> int:
    """The number in OMP_NUM_THREADS, the first of a list; 0: none."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() else 0


def _quota(root: str = "/sys/fs/cgroup", own: str = "/proc/self/cgroup") -> int:
    """How many cores' time the control groups of this process have, rounded up; 0: as much as there is."""
    found: list[float] = []
    for line in _lines(own):  # hierarchy:controllers:path
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers not in ("", "cpu", "cpu,cpuacct"):
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):  # a group, and those that it is in
            group = "/".join([root, *([controllers] if controllers else []), *parts[:depth]])
            numbers = (
                [line.split() for line in _lines(f"{group}/cpu.max")]
                if not controllers
                else [[*_lines(f"{group}/cpu.cfs_quota_us"), *_lines(f"{group}/cpu.cfs_period_us")]]
            )
            found += [
                int(pair[0]) / int(pair[1])
                for pair in numbers
                if len(pair) == 2 and all(n.isdecimal() for n in pair) and int(pair[1]) > 0
            ]
    return max(1, math.ceil(min(found))) if found else 0


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _from_environment() -> None:
    supported = supported_isas()
    if not supported:
        raise ImportError(f"fastdl needs a CPU with one of the instruction-set levels {', '.join(LEVELS)}")
    use_isa(os.environ.get("FASTDL_ISA") or supported[0])
    limits = [n for n in (_quota(), _openmp_threads()) if n]
    if limits:
        lib.fdl_set_thread_limit(min(limits))
    if threads := os.environ.get("FASTDL_NUM_THREADS"):
        if not threads.isdecimal():
            raise ValueError(f"FASTDL_NUM_THREADS: found {threads!r}, expected a number")
        set_num_threads(int(threads))
    if precision := os.environ.get("FASTDL_CONV_PRECISION"):
        if precision not in ("fast", "exact"):
            raise ValueError(f"FASTDL_CONV_PRECISION: found {precision!r}, expected 'fast' or 'exact'")
        set_conv_precision("exact" if precision == "exact" else "fast")
    if on := os.environ.get("FASTDL_DETERMINISTIC"):
        if on not in ("0", "1"):
            raise ValueError(f"FASTDL_DETERMINISTIC: found {on!r}, expected '0' or '1'")
        set_deterministic(on == "1")


_from_environment()
