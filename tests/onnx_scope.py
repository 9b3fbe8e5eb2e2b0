"""Which of ONNX's operators fastdl.onnx has follows from its table; here stands what it does not have, and which of the
tests of those that it has cannot pass, each with a reason."""

from __future__ import annotations

from typing import Any

import onnx

from fastdl.onnx import operators  # noqa: F401
from fastdl.onnx._table import TABLE

OUT_OF_SCOPE = {
    "audio": ("BlackmanWindow", "DFT", "HammingWindow", "HannWindow", "MelWeightMatrix", "STFT"),
    "text": ("RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer"),
    "images as files": ("ImageDecoder",),
    "sampling by coordinates": ("AffineGrid", "DeformConv", "GridSample", "RoiAlign"),
    "newer than exporters": ("BitCast", "CausalConvWithState", "FlexAttention", "LinearAttention", "SwiGLU"),
    "preprocessing": ("CenterCropPad",),
    "gradients of a graph": ("Gradient",),
}
OTHERS = frozenset(name for names in OUT_OF_SCOPE.values() for name in names)

_DRAWS = "draws from NumPy's generator without a seed: what comes out differs from call to call"
_HALF = (
    "expects what float16 arithmetic gives step by step; fastdl's result, computed in float32, is nearer to the truth"
)
EXCEPTIONS = {
    "test_bernoulli": _DRAWS,
    "test_bernoulli_double": _DRAWS,
    "test_bernoulli_double_expanded": _DRAWS,
    "test_bernoulli_expanded": _DRAWS,
    "test_bernoulli_seed": _DRAWS,
    "test_bernoulli_seed_expanded": _DRAWS,
    "test_attention_4d_causal_fp16": _HALF,
    "test_attention_4d_causal_fp16_expanded": _HALF,
    "test_loop16_seq_none": "ONNX's runner takes the length of a number, and fails by itself",
}


def operators_of(graph: Any) -> set[str]:
    """Those of a graph and its subgraphs."""
    found = set()
    for node in graph.node:
        found.add(node.op_type)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                found |= operators_of(inner)
    return found


def in_scope(model: Any) -> bool:
    """Whether all operators of a model are in the table."""
    known = {name for _, name in TABLE}
    return operators_of(model.graph) <= known


def all_of_onnx() -> set[str]:
    """The operators that ONNX's newest version has, those of classical machine learning left out."""
    schemas = onnx.defs.get_all_schemas()
    return {s.name for s in schemas if not s.deprecated and s.domain != "ai.onnx.ml"}
