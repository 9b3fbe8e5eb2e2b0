"""ncnn: a net of one layer, in float32. One image at a time, which is all that it knows.

An extractor is given the input, which is in ncnn's memory already, channels one after the other, and asked for the
output, which is of the same kind: what the net packs and unpacks in between is timed, as its user cannot avoid it.
There is no holding it to an instruction set.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import ncnn
import numpy as np

from bench.peers import Call, layers


class Layer(NamedTuple):
    kind: str
    settings: dict[int, int]
    """By the numbers that ncnn's documentation of layers has for them."""
    weights: tuple[np.ndarray, ...] = ()


def prepare(operation: str, arguments: dict[str, Any], threads: int) -> Call | None:
    layer = _layer(operation, arguments) if layers.plain(arguments) and arguments["x"].shape[:1] == (1,) else None
    if layer is None:
        return None
    net = ncnn.Net()
    net.opt.num_threads = threads
    for name in dir(net.opt):
        if name.startswith(("use_fp16", "use_bf16")):
            setattr(net.opt, name, False)
    settings = " ".join(f"{number}={value}" for number, value in layer.settings.items())
    with tempfile.TemporaryDirectory() as folder:  # weights from memory would have to stay in that memory
        text, data = Path(folder, "one.param"), Path(folder, "one.bin")
        text.write_text(f"7767517\n2 2\nInput x 0 1 x\n{layer.kind} y 1 1 x y {settings}\n")
        data.write_bytes(b"".join(array.tobytes() for array in layer.weights))
        if net.load_param(str(text)) or net.load_model(str(data)):
            raise RuntimeError(f"ncnn does not load {layer.kind} {settings}")
    image = ncnn.Mat(arguments["x"][0]).clone()

    def call() -> Any:
        extractor = net.create_extractor()
        extractor.input("x", image)
        output = extractor.extract("y")[1]
        return lambda: np.array(output)[np.newaxis]

    return call


def _layer(operation: str, a: dict[str, Any]) -> Layer | None:
    relu, bias = int(a.get("activation") == "relu"), int(a.get("bias") is not None)
    family, rank = layers.family(operation)
    if family == "linear" and a["x"].ndim == a["weight"].ndim == 2:
        settings = {0: a["weight"].shape[0], 1: bias, 2: a["weight"].size, 9: relu}
        return Layer("InnerProduct", settings, _weights(a))
    if family not in ("conv", "max_pool", "avg_pool") or a["x"].ndim != rank + 2:
        return None
    dimensions = "" if rank == 2 else f"{rank}D"
    kernel, stride, dilation, before, after = layers.window(a, rank)

    def numbered(first: int, values: tuple[int, ...], step: int = 10) -> dict[int, int]:
        """From the last dimension to the first."""
        return {first + i * step: value for i, value in enumerate(reversed(values))}

    if family == "conv":
        weight, groups = a["weight"], a.get("groups", 1)
        settings = {0: weight.shape[0], 5: bias, 6: weight.size, 7: groups, 9: relu}
        settings |= numbered(1, kernel) | numbered(2, dilation) | numbered(3, stride)
        settings |= numbered(4, before) | numbered(15, after, 1)
        return Layer(f"Convolution{'DepthWise' if groups > 1 else ''}{dimensions}", settings, _weights(a))
    if set(dilation) != {1}:
        return None
    settings = {0: int(family == "avg_pool"), 5: 1, 6: int(a.get("count_include_pad", True))}  # (5: as it is padded)
    settings |= numbered(1, kernel) | numbered(2, stride) | numbered(3, before) | numbered(14, after, 1)
    return Layer(f"Pooling{dimensions}", settings)


def _weights(a: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """As in ncnn's files: a word that says float32, the weights, the bias."""
    return (np.zeros(1, np.int32), a["weight"], *([] if a.get("bias") is None else [a["bias"]]))
