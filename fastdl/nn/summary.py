"""Networks as tables: what each layer returns, holds and costs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from fastdl import nn
from fastdl.functional.verbs import fail
from fastdl.nn import _saved
from fastdl.nn.conv import _Convolution
from fastdl.nn.loss import _Loss
from fastdl.nn.module import Module
from fastdl.nn.normalization import _Norm
from fastdl.nn.pooling import _AdaptivePool, _MaxUnpool, _Windows
from fastdl.nn.receptive_field import ReceptiveField, _collect, _ranks, _through, _union
from fastdl.nn.recurrent import _Cell, _Recurrent

__all__ = ["Summary", "summarize"]


class Summary(str):
    """A table as text, which an interactive session shows as it is."""

    def __repr__(self) -> str:
        return str(self)


class _Calls(NamedTuple):
    """What is known of the calls of a module."""

    shapes: list[str]
    flops: list[int | None]
    memory: list[int]


def summarize(net: Module, input_shapes: tuple[Any, ...], dtype: Any = None) -> Summary:
    """Module.summary."""
    inputs = [np.zeros(_checked(shape), _dtype(net, dtype)) for shape in input_shapes]
    calls: dict[int, _Calls] = {}

    def note(module: Module, given: tuple[Any, ...], result: Any) -> None:
        called = calls.setdefault(id(module), _Calls([], [], []))
        called.shapes.append(_shape(result))
        called.flops.append(_flops(module, given, result))
        own = [a for a in _arrays(result) if not any(np.may_share_memory(a, x) for x in _arrays(given))]
        called.memory.append(sum(a.nbytes for a in own) if _makes(module) else 0)

    modes = [(module, module.training) for module in net.modules()]
    try:
        for module, _ in modes:
            module.training = False
        with _saved.no_grad(), _saved.watching(note):
            net(*inputs)
    finally:
        for module, mode in modes:
            module.training = mode
    return Summary(_table(net, calls))


def _table(net: Module, calls: dict[int, _Calls]) -> str:
    fields, rows = _fields(net), []
    counted: set[int] = set()
    parameters = flops = memory = weights = 0
    unknown = False
    for name, module in net.named_modules():
        called = calls.get(id(module), _Calls([], [], []))
        held = {id(a): a for n in module.parameter_names if (a := getattr(module, n)) is not None}
        new = [a for key, a in held.items() if key not in counted]
        counted |= held.keys()
        known = [n for n in called.flops if n is not None]
        unknown |= len(known) < len(called.flops)
        count: int = sum(known)
        parameters += sum(a.size for a in new)
        weights += sum(a.nbytes for a in new)
        flops += count
        memory += sum(called.memory)
        kind = type(module).__name__ + (f" x{len(called.shapes)}" if len(called.shapes) > 1 else "")
        leaf = _makes(module)
        rows.append(
            (
                "  " * (name.count(".") + bool(name)) + (f"{name.rpartition('.')[2]}: {kind}" if name else kind),
                called.shapes[-1] if called.shapes else "not called",
                f"{sum(a.size for a in new):,}" if leaf or new else "",
                "?" if len(known) < len(called.flops) else f"{count:,}" if leaf or count else "",
                _bytes(sum(called.memory)) if leaf else "",
                fields.get(id(module), ""),
            )
        )
    least = "at least " if unknown else ""
    total = ("total", "", f"{parameters:,}", f"{least}{flops:,}", _bytes(memory), "")
    heads = ("layer", "output", "parameters", "flops", "memory", "receptive field")
    widths = [max(len(row[i]) for row in [heads, total, *rows]) for i in range(len(heads))]
    line = "-" * (sum(widths) + 2 * (len(widths) - 1))

    def text(row: tuple[str, ...]) -> str:
        left = [cell.ljust(width) for cell, width in zip(row[:2], widths, strict=False)]
        return "  ".join(left + [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]).rstrip()

    frozen = {id(array): array.size for _, module, own, array in net._named_arrays(False) if own in module._frozen}
    note = f"parameters: {_bytes(weights)}" + (f", {sum(frozen.values()):,} of them frozen" if frozen else "")
    return "\n".join([text(heads), line, *map(text, rows), line, text(total), note])


def _makes(module: Module) -> bool:
    """Whether a module makes a result of its own, beside those of modules in it."""
    return not module.children() or isinstance(module, (nn.Residual, nn.Concat))


def _flops(module: Module, inputs: tuple[Any, ...], result: Any) -> int | None:
    """Of one call, without those of modules inside of it: a formula for each family; None where there is none."""
    x, y = (next(_arrays(part), None) for part in (inputs, result))
    size = 0 if y is None else y.size
    for kind, per_position in _PRODUCTS:
        if isinstance(module, kind):
            given = x if per_position.startswith("in") else y
            positions = given.size // max(getattr(module, per_position), 1) if given is not None else 0
            weights = (getattr(module, name) for name in module.parameter_names if name.startswith("weight"))
            return int(2 * positions * sum(w.size for w in weights if w is not None))
    if isinstance(module, _MaxUnpool):
        return 0
    if isinstance(module, _Windows):
        return size * math.prod(_each(module.kernel_size, module.rank))
    if isinstance(module, (_AdaptivePool, _Loss)):
        return (1 if isinstance(module, _AdaptivePool) else 4) * (x.size if x is not None else 0)
    if isinstance(module, _Norm):
        return 6 * size
    if isinstance(module, nn.Softmax):
        return 4 * size
    if isinstance(module, _FREE):
        return 0
    if isinstance(module, nn.Add):
        return (len(inputs) - 1) * size
    if isinstance(module, nn.Residual) or module.elementwise or isinstance(module, nn.PReLU):
        return size
    if module.children() or type(module).__module__.startswith("fastdl.nn."):
        return 0  # changes of shape, padding
    return None


_PRODUCTS: tuple[tuple[Any, str], ...] = (
    ((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), "in_channels"),
    (_Convolution, "out_channels"),
    (nn.Linear, "in_features"),
    ((_Recurrent, _Cell), "input_size"),
)
"""The families that are products: every element of their weights is multiplied and added once for each position, of
which there are as many as there are elements, of input or result, by so many channels or features."""

_FREE = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


def _fields(net: Module) -> dict[int, str]:
    """The receptive field of what each module of a Sequential returns, up to a head or what has none that is known."""
    parts: list[Any] = []
    found: dict[int, str] = {}
    with suppress(TypeError, ValueError):  # as far as it goes
        _collect([net], parts)
    rank = max(_ranks(parts), default=0)
    if rank:
        _walk(net, ReceptiveField((1,) * rank, (1,) * rank, (0,) * rank), found)
    return found


def _walk(module: Module, field: ReceptiveField | None, found: dict[int, str]) -> ReceptiveField | None:
    """The field behind a module, those of all modules in it written into `found`; None where it ends."""
    if isinstance(module, nn.Sequential):
        for child in module:
            field = _walk(child, field, found)
            if field is None:
                return None
    elif isinstance(module, nn.Graph):
        fields: dict[str, ReceptiveField | None] = dict.fromkeys(module.inputs, field)
        for name, child, sources in module.nodes():
            fields[name] = _walk(child, _met([fields[source] for source in sources]), found)
        field = _met([fields[name] for name in module.results()])
    elif field is not None:
        parts: list[Any] = []
        try:
            if not _collect([module], parts):
                return None
            field = _through(parts, field)
        except (TypeError, ValueError):
            return None
    if field is not None:
        found[id(module)] = " x ".join(map(str, field.size))
    return field


def _met(fields: list[ReceptiveField | None]) -> ReceptiveField | None:
    """The field where branches of these meet, if it is known."""
    known = [field for field in fields if field is not None]
    with suppress(ValueError):  # branches of different strides
        return _union(known) if known and len(known) == len(fields) else None
    return None


def _each(value: Any, rank: int) -> tuple[int, ...]:
    return tuple(value) * (rank if len(value) == 1 else 1) if isinstance(value, (tuple, list)) else (value,) * rank


def _arrays(values: Any) -> Iterator[Any]:
    if isinstance(values, np.ndarray):
        yield values
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from _arrays(value)


def _shape(result: Any) -> str:
    return ", ".join(str(array.shape) for array in _arrays(result))


def _bytes(count: int) -> str:
    for unit, size in ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def _checked(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, (tuple, list)) or not all(isinstance(n, (int, np.integer)) for n in shape):
        raise TypeError(f"input_shapes: found {shape!r}, expected tuples of ints, such as (1, 3, 32, 32)")
    if min(shape, default=0) < 0:
        fail("input_shapes", shape, "sizes of at least 0")
    return tuple(shape)


def _dtype(net: Module, dtype: Any) -> Any:
    if dtype is not None:
        return np.dtype(dtype)
    return next((a.dtype for a in net.parameters().values() if a.dtype.kind == "f"), np.dtype(np.float32))
