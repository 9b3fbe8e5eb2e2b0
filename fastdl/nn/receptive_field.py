"""What one unit of a network sees."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from fastdl import nn
from fastdl.functional.verbs import fail, pads, triple

__all__ = [
    "ReceptiveField",
    "receptive_field",
]

_PARAMETERS = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}
_PART: TypeAlias = "tuple[int, dict[str, Any]] | list[list[_PART]] | _Paths"
"""How many spatial dimensions a layer has (0: as many as the others) and its window; or branches; or a graph."""


class ReceptiveField(NamedTuple):
    """What a unit of a result depends on.

    Along each spatial dimension, unit i of the result sees the elements ::

        offset + i * stride, ..., offset + i * stride + size - 1

    of the input and no others, around ``offset + i * stride + (size - 1) / 2``; those outside of the input are padding.
    """

    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: tuple[int, ...]


class _Paths(NamedTuple):
    """A graph: of each node its name, those of its inputs, and what it is; and the names of where it ends."""

    inputs: tuple[str, ...]
    nodes: list[tuple[str, list[str], list[_PART]]]
    ends: list[str]


def receptive_field(layers: Any) -> ReceptiveField:
    """The receptive field of a stack of convolutions and poolings, in closed form from their geometry.

    A layer of kernel k, dilation d, stride s and p elements of padding before the first, on units whose stride in the
    input is S, does ::

        size += d * (k - 1) * S
        offset -= p * S
        S *= s

    Parameters
    ----------
    layers : nn.Sequential, nn.ModuleList, nn.Graph or list
        From the input on: layers of nn, lists and Sequentials of them, tuples ``(kernel_size, stride, padding,
        dilation)`` of which all but the first may be left out, or dicts of these. Numbers are given as to the layers:
        an int, or one for each dimension; ints alone, without a layer that says how many dimensions there are, are
        taken to be of one.

    Returns
    -------
    ReceptiveField
        (size, stride, offset), each with a number for each spatial dimension.

    Raises
    ------
    TypeError
        For what has no window that is known: a transposed convolution, a Module of one's own (give its layers).
    ValueError
        For layers of different numbers of dimensions, and branches of different strides.

    Notes
    -----
    Of nn: convolutions, poolings and padding have a window. Activations, dropout and normalization have none: what
    the statistics of a normalization depend on is left out. `nn.Residual`, `nn.Concat` and `nn.Graph` see what any of
    their branches does. A head ends the spatial part, with all that follows: the first of Flatten, Linear, adaptive
    pooling and recurrent layers; it sees the whole image.

    References
    ----------
    Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill, 2019; their start
    is this offset.

    Examples
    --------
    >>> import fastdl
    >>> from fastdl import nn
    >>> block = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
    >>> fastdl.receptive_field([block, nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8, 10)])
    ReceptiveField(size=(8, 8), stride=(2, 2), offset=(-1, -1))
    >>> fastdl.receptive_field([(7, 2, 3), (3, 2, 1)])
    ReceptiveField(size=(11,), stride=(4,), offset=(-5,))
    """
    parts: list[_PART] = []
    _collect(layers, parts)
    ranks = set(_ranks(parts)) - {0} or {1}
    if len(ranks) > 1:
        fail("layers", ("layers of", sorted(ranks), "dimensions"), "all of the same number")
    (rank,) = ranks
    return _through(parts, ReceptiveField((1,) * rank, (1,) * rank, (0,) * rank))


def _through(parts: list[_PART], field: ReceptiveField) -> ReceptiveField:
    """The field of units behind these, that of units before them being known."""
    rank = len(field.size)
    images = (1,) * (rank + 2)  # of whatever size
    for part in parts:
        if isinstance(part, list):
            field = _union([_through(branch, field) for branch in part])
            continue
        if isinstance(part, _Paths):
            fields = dict.fromkeys(part.inputs, field)
            for name, sources, own in part.nodes:
                fields[name] = _through(own, _union([fields[source] for source in sources]))
            field = _union([fields[name] for name in part.ends])
            continue
        given = part[1]
        size, stride, offset = map(list, field)
        kernel, steps, spread = (
            triple(given[name], name, 1, 1, images) for name in ("kernel_size", "stride", "dilation")
        )
        before = given.get("before") or pads(given["padding"], "padding", images, kernel, steps, spread)[3 - rank : 3]
        for i in range(rank):
            at = 3 - rank + i
            offset[i] -= before[i] * stride[i]
            size[i] += spread[at] * (kernel[at] - 1) * stride[i]
            stride[i] *= steps[at]
        field = ReceptiveField(tuple(size), tuple(stride), tuple(offset))
    return field


def _union(fields: list[ReceptiveField]) -> ReceptiveField:
    """What units see that are made from those of several branches."""
    strides = {field.stride for field in fields}
    if len(strides) > 1:
        fail("layers", ("branches of strides", sorted(strides)), "all of the same")
    dims = range(len(fields[0].size))
    start = tuple(min(field.offset[i] for field in fields) for i in dims)
    end = tuple(max(field.offset[i] + field.size[i] for field in fields) for i in dims)
    return ReceptiveField(tuple(b - a for a, b in zip(start, end, strict=True)), strides.pop(), start)


def _ranks(parts: list[_PART]) -> Iterable[int]:
    for part in parts:
        if isinstance(part, list):
            for branch in part:
                yield from _ranks(branch)
        elif isinstance(part, _Paths):
            for _, _, own in part.nodes:
                yield from _ranks(own)
        else:
            yield part[0]


def _collect(layers: Any, parts: list[_PART]) -> bool:
    """Append what these layers are; false at a head, behind which nothing is spatial."""
    if isinstance(layers, (nn.Sequential, nn.ModuleList)):
        layers = layers.children().values()
    elif isinstance(layers, nn.Graph):
        layers = [layers]
    return all(_collect_layer(layer, parts) for layer in layers)


def _collect_layer(layer: Any, parts: list[_PART]) -> bool:
    if isinstance(layer, nn.Residual):
        shortcut = [] if layer.shortcut is None else [layer.shortcut]
        return _collect_branches([[layer.module], shortcut], parts)
    if isinstance(layer, nn.Concat):
        return _collect_branches([[module] for module in layer], parts)
    if isinstance(layer, nn.Graph):
        return _collect_graph(layer, parts)
    if isinstance(layer, (nn.Sequential, nn.ModuleList)) or (isinstance(layer, list) and _holds_layers(layer)):
        return _collect(layer, parts)
    if isinstance(layer, nn.Module):
        return _collect_module(layer, parts)
    if isinstance(layer, Mapping):
        if "kernel_size" not in layer or not set(layer) <= set(_PARAMETERS):
            fail("layers", layer, ("a dict of kernel_size and of", *list(_PARAMETERS)[1:]))
        parts.append((_rank(layer.values()), {**_PARAMETERS, **layer}))
    elif isinstance(layer, (tuple, list)) and 1 <= len(layer) <= len(_PARAMETERS):
        parts.append((_rank(layer), {**_PARAMETERS, **dict(zip(_PARAMETERS, layer, strict=False))}))
    else:
        raise TypeError(f"layers: found {layer!r}, expected nn layers, tuples or dicts of {', '.join(_PARAMETERS)}")
    return True


def _collect_branches(branches: list[list[Any]], parts: list[_PART]) -> bool:
    collected: list[list[_PART]] = [[] for _ in branches]
    spatial = [_collect(branch, found) for branch, found in zip(branches, collected, strict=True)]
    if not all(spatial):
        fail("layers", "a branch with a head", "branches that are spatial to their end")
    parts.append(collected)
    return True


def _collect_graph(graph: nn.Graph, parts: list[_PART]) -> bool:
    heads: list[str] = []
    nodes: list[tuple[str, list[str], list[_PART]]] = []
    behind: set[str] = set()
    for name, module, sources in graph.nodes():
        own: list[_PART] = []
        if behind.isdisjoint(sources):
            if not _collect([module], own):
                heads.append(name)
            nodes.append((name, sources, own))
        if name in heads or not behind.isdisjoint(sources):
            behind.add(name)
    parts.append(_Paths(graph.inputs, nodes, heads or graph.results()))
    return not heads


def _holds_layers(layers: list[Any]) -> bool:
    return any(isinstance(layer, (nn.Module, Mapping)) for layer in layers)


def _rank(values: Iterable[Any]) -> int:
    return max((len(value) for value in values if isinstance(value, (tuple, list))), default=0)


_POINTWISE = (
    nn.PReLU,
    nn.Cat,
    *(getattr(nn, f"{kind}Norm{rank}d") for kind in ("Batch", "Instance") for rank in (1, 2, 3)),
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
)
_HEADS = (
    nn.Flatten,
    nn.Linear,
    *(getattr(nn, f"Adaptive{kind}Pool{rank}d") for kind in ("Avg", "Max") for rank in (1, 2, 3)),
    nn.RNN,
    nn.LSTM,
    nn.GRU,
)


def _collect_module(layer: nn.Module, parts: list[_PART]) -> bool:
    if isinstance(layer, _HEADS):
        return False
    if layer.elementwise or isinstance(layer, _POINTWISE):
        return True
    names = (
        re.fullmatch(r"(?:(Conv|MaxPool|AvgPool|LPPool)|\w+Pad)(\d)d", kind.__name__) for kind in type(layer).__mro__
    )
    name = next(filter(None, names), None)
    if name is None:
        raise TypeError(
            f"layers: found {type(layer).__name__}, expected convolutions, poolings, padding, activations, dropout, "
            "normalization, and a head"
        )
    rank = int(name[2])
    if name[1] is None:
        parts.append((rank, {**_PARAMETERS, "before": layer.padding[-2::-2]}))  # type: ignore[attr-defined]
    else:
        given = {name: value for name in _PARAMETERS if (value := getattr(layer, name, None)) is not None}
        parts.append((rank, {**_PARAMETERS, "stride": 1 if name[1] == "Conv" else given["kernel_size"], **given}))
    return True
