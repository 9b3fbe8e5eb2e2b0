"""What one unit of a network sees."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from fastdl import nn
from fastdl.functional.verbs import fail, pads, triple

__all__ = [
    "ReceptiveField",
    "receptive_field",
]

_PARAMETERS = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}


class ReceptiveField(NamedTuple):
    """Along each spatial dimension, unit i of the result sees the elements

        offset + i stride, ..., offset + i stride + size - 1

    of the input and no others, around offset + i stride + (size - 1) / 2; those outside of the input are padding.
    """

    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: tuple[int, ...]


def receptive_field(layers: Any) -> ReceptiveField:
    """The receptive field of a stack of convolutions and poolings, in closed form from their geometry.

    layers: an nn.Sequential, or a list, from the input on, of nn layers (convolutions, poolings, padding, and
    elementwise ones, which change nothing), of (kernel_size, stride, padding, dilation), of which all but the first
    may be left out, or of dicts of these. Numbers are given as to the layers: an int, or one for each dimension; ints
    alone, without a layer that says how many dimensions there are, are taken to be of one.

    A layer of kernel k, dilation d, stride s and p elements of padding before the first, on units whose stride in the
    input is S, adds d (k - 1) S to the size, takes p S off the offset and multiplies the stride by s. (Araujo, Norris
    and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill, 2019; their start is this offset.)
    """
    windows = list(_windows(layers))
    ranks = {rank for rank, _ in windows} - {0} or {1}
    if len(ranks) > 1:
        fail("layers", ("layers of", sorted(ranks), "dimensions"), "all of the same number")
    (rank,) = ranks
    images = (1,) * (rank + 2)  # of whatever size
    size, stride, offset = [1] * rank, [1] * rank, [0] * rank
    for _, given in windows:
        kernel, steps, spread = (
            triple(given[name], name, 1, 1, images) for name in ("kernel_size", "stride", "dilation")
        )
        before = given.get("before") or pads(given["padding"], "padding", images, kernel, steps, spread)[3 - rank : 3]
        for i in range(rank):
            at = 3 - rank + i
            offset[i] -= before[i] * stride[i]
            size[i] += spread[at] * (kernel[at] - 1) * stride[i]
            stride[i] *= steps[at]
    return ReceptiveField(tuple(size), tuple(stride), tuple(offset))


def _windows(layers: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """For each layer how many spatial dimensions it has (0: as many as the others), and its window."""
    for layer in layers.children().values() if isinstance(layers, nn.Sequential) else layers:
        if isinstance(layer, nn.Sequential):
            yield from _windows(layer)
        elif isinstance(layer, nn.Module):
            if not layer.elementwise:
                yield _of_module(layer)
        elif isinstance(layer, Mapping):
            if "kernel_size" not in layer or not set(layer) <= set(_PARAMETERS):
                fail("layers", layer, ("a dict of kernel_size and of", *list(_PARAMETERS)[1:]))
            yield _rank(layer.values()), {**_PARAMETERS, **layer}
        elif isinstance(layer, (tuple, list)) and 1 <= len(layer) <= len(_PARAMETERS):
            yield _rank(layer), {**_PARAMETERS, **dict(zip(_PARAMETERS, layer, strict=False))}
        else:
            raise TypeError(f"layers: found {layer!r}, expected nn layers, tuples or dicts of {', '.join(_PARAMETERS)}")


def _rank(values: Iterable[Any]) -> int:
    return max((len(value) for value in values if isinstance(value, (tuple, list))), default=0)


def _of_module(layer: nn.Module) -> tuple[int, dict[str, Any]]:
    names = (
        re.fullmatch(r"(?:(Conv|MaxPool|AvgPool|LPPool)|\w+Pad)(\d)d", kind.__name__) for kind in type(layer).__mro__
    )
    name = next(filter(None, names), None)
    if name is None:
        raise TypeError(
            f"layers: found {type(layer).__name__}, expected convolutions, poolings, padding, elementwise layers"
        )
    rank, attributes = int(name[2]), {**vars(layer), **vars(layer).get("options", {})}
    if name[1] is None:
        return rank, {**_PARAMETERS, "before": attributes["padding"][-2::-2]}
    given = {name: attributes[name] for name in _PARAMETERS if attributes.get(name) is not None}
    return rank, {**_PARAMETERS, "stride": 1 if name[1] == "Conv" else given["kernel_size"], **given}
