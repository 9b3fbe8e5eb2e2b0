"""ONNX files: read, checked, and as lists of nodes whose functions are known."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastdl.functional.verbs import Array
from fastdl.onnx._table import LIMIT, Node, find

try:
    import onnx
    from onnx import checker, numpy_helper
except ModuleNotFoundError as error:  # pragma: no cover
    raise ImportError('fastdl.onnx needs ONNX: pip install "fastdl[onnx]"') from error

Shape = tuple[int | str | None, ...]
_DOMAINS = {"ai.onnx": ""}
_IGNORED = frozenset({"consumed_inputs"})
"""Attributes of operators' first versions that say nothing about results."""


class Tensor(NamedTuple):
    """An input or output of a model."""

    name: str
    shape: Shape | None
    """Numbers, names of sizes that are free, and None for one without a name; None: of any shape."""
    dtype: np.dtype[Any] | None
    """None: no array (a sequence, or an optional one)."""


@dataclass
class Graph:
    """A model's graph, or that of a branch or a loop's body."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    nodes: list[Node]
    constants: dict[str, Array]
    captured: tuple[str, ...] = ()
    """Names that are defined outside."""
    counts: dict[str, int] = field(default_factory=dict)
    """How many nodes there are of each operator, those of subgraphs included."""


def read(source: Any) -> tuple[Any, Path | None]:
    """The ModelProto, and the folder that its external data is in."""
    if isinstance(source, onnx.ModelProto):
        return source, None
    if isinstance(source, (bytes, bytearray, memoryview)):
        data, folder, name = bytes(source), None, "model"
    elif isinstance(source, (str, os.PathLike)):
        path = Path(source)
        data, folder, name = path.read_bytes(), path.resolve().parent, str(path)
    else:
        raise TypeError(f"model: found {type(source).__name__}, expected a path, bytes or an onnx.ModelProto")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:
        raise ValueError(f"model: found {name} to be no ONNX model, or a damaged one ({error}), expected one") from error
    return model, folder


def check(model: Any, folder: Path | None) -> None:
    """Refuse what is no valid model."""
    for graph in _graphs(model):
        for tensor in _tensors(graph):
            _check_sizes(tensor, folder)
    unknown = [o.type.tensor_type for o in model.graph.output if o.type.HasField("tensor_type")]
    unknown = [kind for kind in unknown if not kind.HasField("shape")]
    try:
        for kind in unknown:  # which many models have, and the checker minds
            kind.shape.SetInParent()
        checker.check_model(_without_external(model))
        for kind in unknown:
            kind.ClearField("shape")
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"model: found an invalid one: {lines[0]}") from error


def _graphs(model: Any) -> Iterable[Any]:
    """All graphs, whose nodes may hold others."""
    waiting = [model.graph]
    for function in model.functions:
        waiting += [a.g for n in function.node for a in n.attribute if a.HasField("g")]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else []
                waiting += attribute.graphs


def _tensors(graph: Any) -> Iterable[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        if _bytes_of(sparse.dims, sparse.values.data_type) > LIMIT:
            raise ValueError(f"model: found {sparse.values.name!r} of shape {tuple(sparse.dims)}, expected a smaller one")
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _bytes_of(dims: Iterable[int], data_type: int) -> int:
    try:
        size = onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize
    except KeyError:
        raise ValueError(f"model: found a tensor of type {data_type}, expected one of ONNX's") from None
    for n in dims:
        if n < 0:
            raise ValueError(f"model: found a tensor of shape {tuple(dims)}, expected no negative sizes")
        size *= n
    return int(size)


def _check_sizes(tensor: Any, folder: Path | None) -> None:
    """Whether there is as much data as the shape says, before anything that large is made."""
    if tensor.data_type == onnx.TensorProto.STRING:
        return
    wanted = _bytes_of(tensor.dims, tensor.data_type)
    where = f"model: found tensor {tensor.name!r} of shape {tuple(tensor.dims)}"
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        path, offset, length = _place(tensor, folder)
        if length < wanted or offset + length > path.stat().st_size:
            raise ValueError(f"{where} with {path.stat().st_size - offset} bytes at {offset} of its file, expected {wanted}")
        return
    packed = _packed(tensor.data_type)
    stored = len(tensor.raw_data)
    if tensor.HasField("raw_data"):
        elements = wanted // onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        least = -(-elements * packed // 8)
        if stored != least:
            raise ValueError(f"{where} with {stored} bytes of data, expected {least}")
        return
    numbers = max(len(getattr(tensor, f"{kind}_data")) for kind in ("float", "int32", "int64", "double", "uint64"))
    elements = int(np.prod([int(n) for n in tensor.dims], dtype=object))
    if elements > numbers * (8 if packed < 8 else 1):
        raise ValueError(f"{where} with {numbers} numbers, expected {elements}")


def _packed(data_type: int) -> int:
    """Bits of an element, as raw data."""
    name = onnx.TensorProto.DataType.Name(data_type)
    if name in ("UINT4", "INT4", "FLOAT4E2M1"):
        return 4
    if name in ("UINT2", "INT2"):
        return 2
    return int(8 * onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize)


def _place(tensor: Any, folder: Path | None) -> tuple[Path, int, int]:
    """Of external data: its file, which has to lie in the model's folder, where it begins, and how long it is."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    where = f"model: found data of {tensor.name!r} in {location!r}"
    if folder is None:
        raise ValueError(f"{where}, outside of the model, expected a path to the model, whose folder has it")
    named = Path(location)
    path = (folder / named).resolve()
    if not location or named.is_absolute() or ".." in named.parts or not path.is_relative_to(folder):
        raise ValueError(f"{where}, expected a file in the model's folder")
    if not path.is_file():
        raise ValueError(f"{where}, expected that file in the model's folder")
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", path.stat().st_size - offset))
    except ValueError:
        raise ValueError(f"{where} at {entries}, expected numbers") from None
    if offset < 0 or length < 0:
        raise ValueError(f"{where} at {offset}, {length} bytes, expected no negative numbers")
    return path, offset, length


def _has_external(model: Any) -> bool:
    return any(
        t.data_location == onnx.TensorProto.EXTERNAL for g in _graphs(model) for t in _tensors(g)
    )


def _without_external(model: Any) -> Any:
    """The model with data of its tensors left out, for the checker, which would look for files itself."""
    if not _has_external(model):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for graph in _graphs(copy):
        for tensor in _tensors(graph):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                tensor.ClearField("external_data")
                tensor.data_location = onnx.TensorProto.DEFAULT
                del tensor.dims[:]
                tensor.dims.append(0)
                tensor.raw_data = b""
    return copy


def array_of(tensor: Any, folder: Path | None) -> Array:
    """A tensor as an array that owns its memory."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        path, offset, _ = _place(tensor, folder)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        count = int(np.prod(tensor.dims, dtype=np.int64))
        if _packed(tensor.data_type) < 8:
            raise ValueError(f"model: found {tensor.name!r} of packed external data, expected 8 bits an element or more")
        found = np.empty(tuple(tensor.dims), dtype)
        with path.open("rb") as file:
            file.seek(offset)
            if file.readinto(found.reshape(-1).view(np.uint8)) != count * dtype.itemsize:  # type: ignore[arg-type]
                raise ValueError(f"model: found data of {tensor.name!r} cut off in {path.name!r}")
        return found
    return np.array(numpy_helper.to_array(tensor))


def _sparse(sparse: Any) -> Array:
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    found = np.zeros(tuple(sparse.dims), values.dtype)
    if indices.ndim == 1:
        found.reshape(-1)[indices] = values
    else:
        found[tuple(indices.T)] = values
    return found


def _tensor(info: Any) -> Tensor:
    if info.type.WhichOneof("value") != "tensor_type":
        return Tensor(info.name, None, None)
    kind = info.type.tensor_type
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)) if kind.elem_type else None
    if not kind.HasField("shape"):
        return Tensor(info.name, None, dtype)
    return Tensor(
        info.name,
        tuple(
            int(d.dim_value) if d.HasField("dim_value") else d.dim_param or None for d in kind.shape.dim
        ),
        dtype,
    )


class Builder:
    """Makes graphs of a model's."""

    def __init__(self, model: Any, folder: Path | None) -> None:
        self.folder = folder
        self.versions = {_DOMAINS.get(o.domain, o.domain): o.version for o in model.opset_import}
        self.missing: list[str] = []
        self.counts: dict[str, int] = {}

    def graph(self, proto: Any, known: frozenset[str] = frozenset()) -> Graph:
        """known: names that are defined outside."""
        constants: dict[str, Array] = {}
        for tensor in proto.initializer:
            constants[tensor.name] = array_of(tensor, self.folder)
            tensor.ClearField("raw_data")  # two of each would be twice the memory
            tensor.ClearField("float_data")
        for sparse in proto.sparse_initializer:
            constants[sparse.values.name] = _sparse(sparse)
        inputs = [_tensor(i) for i in proto.input if i.name not in constants]
        outputs = [_tensor(o) for o in proto.output]
        here = {*constants, *(i.name for i in inputs), *(name for n in proto.node for name in n.output)}
        nodes = [self.node(node, known | here, i) for i, node in enumerate(proto.node)]
        used = {name for n in nodes for name in n.uses} | {o.name for o in outputs}
        captured = tuple(sorted(used - here - {""}))
        return Graph(inputs, outputs, nodes, constants, captured)

    def node(self, proto: Any, known: frozenset[str], at: int) -> Node:
        domain = _DOMAINS.get(proto.domain, proto.domain)
        name = proto.name or f"{proto.op_type}_{at}"
        version = self.versions.get(domain, 1)
        row = find(domain, proto.op_type, version)
        title = f"{domain}.{proto.op_type}" if domain else proto.op_type
        self.counts[title] = self.counts.get(title, 0) + 1
        if row is None:
            self.missing.append(f"node {name!r}: operator {title} (version {version})")
            row = find("", "Identity", 1)
            assert row is not None
            return Node(name, row, tuple(proto.input), tuple(proto.output), {})
        attributes, captured = {}, []
        for attribute in proto.attribute:
            if attribute.name in _IGNORED:
                continue
            if attribute.name not in row.attributes:
                self.missing.append(f"node {name!r}: attribute {attribute.name} of {title} (version {version})")
                continue
            value = self._value(attribute, known)
            if isinstance(value, Graph):
                captured += value.captured
            attributes[attribute.name] = value
        lacking = row.required - attributes.keys()
        if lacking:
            raise ValueError(f"model: found node {name!r} ({title}) without {', '.join(sorted(lacking))}")
        low, high = row.inputs
        inputs = tuple(proto.input)
        if not low <= len(inputs) <= high:
            self.missing.append(f"node {name!r}: {title} (version {version}) with {len(inputs)} inputs")
        return Node(name, row, inputs, tuple(proto.output), attributes, tuple(dict.fromkeys(captured)))

    def _value(self, attribute: Any, known: frozenset[str]) -> Any:
        kind = onnx.AttributeProto.AttributeType.Name(attribute.type)
        if kind == "GRAPH":
            return self.graph(attribute.g, known)
        if kind == "TENSOR":
            return array_of(attribute.t, self.folder)
        if kind == "SPARSE_TENSOR":
            return _sparse(attribute.sparse_tensor)
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            return value.decode()
        if kind == "STRINGS":
            return [v.decode() for v in value]
        return list(value) if kind in ("INTS", "FLOATS") else value


def build(model: Any, folder: Path | None) -> Graph:
    """The graph, or an error that names every node that cannot be computed."""
    if model.functions:
        from onnx.inliner import inline_local_functions

        model = inline_local_functions(model)
    builder = Builder(model, folder)
    graph = builder.graph(model.graph)
    if builder.missing:
        shown = builder.missing[:8]
        more = [f"{len(builder.missing) - 8} more"] if len(builder.missing) > 8 else []
        raise NotImplementedError("model: found what fastdl.onnx does not have: " + "; ".join([*shown, *more]))
    if graph.captured:
        raise ValueError(f"model: found {', '.join(graph.captured)} used, but made by no node")
    graph.counts = builder.counts
    return graph
