"""ONNX files: read, checked, and as lists of nodes whose functions are known."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
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
_GRAPH, _INITIALIZER, _RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 7, 5, 9, 13, 14
"""Fields of ONNX's messages."""
_INSIDE, _LARGE = "\0inside", 1 << 12
"""In place of a file's name: the model's own. From how many bytes on tensors are left there."""
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


class Source:
    """Where a model comes from."""

    def __init__(self, given: Any) -> None:
        self.folder: Path | None = None
        """Which external data may lie in."""
        self.file: Any = None
        """The file, whose large tensors are read when they are needed: parsed, each would be there three times."""
        self.name = "model"
        if isinstance(given, onnx.ModelProto):
            self.model = given
            return
        if isinstance(given, (bytes, bytearray, memoryview)):
            self.file = BytesIO(bytes(given))
        elif isinstance(given, (str, os.PathLike)):
            path = Path(given)
            self.folder, self.name = path.resolve().parent, str(path)
            self.file = path.open("rb")
        else:
            raise TypeError(f"model: found {type(given).__name__}, expected a path, bytes or an onnx.ModelProto")
        self.model = onnx.ModelProto()
        try:
            self.model.ParseFromString(self._without_large_tensors())
        except Exception as error:
            self.close()
            raise ValueError(
                f"model: found {self.name} to be no ONNX model, or a damaged one ({error}), expected one"
            ) from error

    def close(self) -> None:
        if self.file is not None:
            self.file.close()

    def _without_large_tensors(self) -> bytes:
        """The file with the data of large initializers replaced by where it is, as if it were external."""
        end = self.file.seek(0, os.SEEK_END)
        return self._rewritten(0, end, (_GRAPH, _INITIALIZER))

    def _rewritten(self, start: int, end: int, inner: tuple[int, ...]) -> bytes:
        """A message, with messages in the fields `inner`, one in the other, rewritten as well."""
        parts = []
        for number, at, begin, after in self._fields(start, end):
            if inner and number == inner[0]:
                parts.append(_message(number, self._rewritten(begin, after, inner[1:])))
            elif not inner and number == _RAW_DATA and after - begin >= _LARGE:
                entries = {"location": _INSIDE, "offset": str(begin), "length": str(after - begin)}
                parts.append(_varint(_DATA_LOCATION << 3) + _varint(onnx.TensorProto.EXTERNAL))
                for key, value in entries.items():
                    entry = onnx.StringStringEntryProto(key=key, value=value)
                    parts.append(_message(_EXTERNAL_DATA, entry.SerializeToString()))
            else:
                self.file.seek(at)
                parts.append(self.file.read(after - at))
        return b"".join(parts)

    def _fields(self, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Of protobuf's encoding: each field, where it begins, where its value does, and where it ends."""
        at = start
        while at < end:
            self.file.seek(at)
            key = self._number()
            begin = self.file.tell()
            if key & 7 == 0:
                self._number()
                after = self.file.tell()
            elif key & 7 == 2:
                size = self._number()
                begin = self.file.tell()
                after = begin + size
            else:
                after = begin + {1: 8, 5: 4}.get(key & 7, end)
            if after > end:
                raise ValueError("it is cut off")
            yield key >> 3, at, begin, after
            at = after

    def _number(self) -> int:
        value = 0
        for shift in range(0, 64, 7):
            byte = self.file.read(1)
            if not byte:
                raise ValueError("it is cut off")
            value |= int(byte[0] & 127) << shift
            if byte[0] < 128:
                return value
        raise ValueError("a number has no end")

    def place(self, tensor: Any) -> tuple[Path | None, int, int, int]:
        """Of external data: its file, which has to lie in the model's folder (None: the model's own), where it begins,
        how long it is, and how long the file."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        where = f"model: found data of {tensor.name!r} in {location!r}"
        path = None
        if location == _INSIDE and self.file is not None:
            total = self.file.seek(0, os.SEEK_END)
        else:
            if self.folder is None:
                raise ValueError(f"{where}, outside of the model, expected a path to the model, whose folder has it")
            named = Path(location.replace("\0", "?"))
            path = (self.folder / named).resolve()
            inside = not named.is_absolute() and ".." not in named.parts and path.is_relative_to(self.folder)
            if not location or not inside:
                raise ValueError(f"{where}, expected a file in the model's folder")
            if not path.is_file():
                raise ValueError(f"{where}, expected that file in the model's folder")
            total = path.stat().st_size
        try:
            offset = int(entries.get("offset", 0))
            length = int(entries.get("length", total - offset))
        except ValueError:
            raise ValueError(f"{where} at {entries}, expected numbers") from None
        if offset < 0 or length < 0:
            raise ValueError(f"{where} at {offset}, {length} bytes, expected no negative numbers")
        return path, offset, length, total

    def read(self, tensor: Any, memory: Any) -> None:
        """Fill memory with a tensor's external data."""
        path, offset, _, _ = self.place(tensor)
        file = self.file if path is None else path.open("rb")
        try:
            file.seek(offset)
            if file.readinto(memory) != memory.nbytes:
                raise ValueError(f"model: found data of {tensor.name!r} cut off")
        finally:
            if path is not None:
                file.close()


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def _message(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def check(source: Source) -> None:
    """Refuse what is no valid model."""
    model = source.model
    for graph in _graphs(model):
        for tensor in _tensors(graph):
            _check_sizes(tensor, source)
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
            raise ValueError(
                f"model: found {sparse.values.name!r} of shape {tuple(sparse.dims)}, expected a smaller one"
            )
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


def _check_sizes(tensor: Any, source: Source) -> None:
    """Whether there is as much data as the shape says, before anything that large is made."""
    if tensor.data_type == onnx.TensorProto.STRING:
        return
    itemsize = _bytes_of((), tensor.data_type)
    elements = _bytes_of(tensor.dims, tensor.data_type) // itemsize
    packed = _packed(tensor.data_type)
    wanted = -(-elements * packed // 8)
    where = f"model: found tensor {tensor.name!r} of shape {tuple(tensor.dims)}"
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        path, offset, length, total = source.place(tensor)
        if length < wanted or offset + length > total or (path is None and length != wanted):
            raise ValueError(f"{where} with {min(length, total - offset)} bytes in its file, expected {wanted}")
        return
    if tensor.HasField("raw_data"):
        if len(tensor.raw_data) != wanted:
            raise ValueError(f"{where} with {len(tensor.raw_data)} bytes of data, expected {wanted}")
        return
    numbers = max(len(getattr(tensor, f"{kind}_data")) for kind in ("float", "int32", "int64", "double", "uint64"))
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


def _has_external(model: Any) -> bool:
    return any(t.data_location == onnx.TensorProto.EXTERNAL for g in _graphs(model) for t in _tensors(g))


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


def array_of(tensor: Any, source: Source) -> Array:
    """A tensor as an array that owns its memory."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        if _packed(tensor.data_type) < 8:
            raw = np.empty(source.place(tensor)[2], np.uint8)
            source.read(tensor, raw)
            inside = onnx.TensorProto(data_type=tensor.data_type, dims=tensor.dims, raw_data=raw.tobytes())
            return np.array(numpy_helper.to_array(inside))
        found = np.empty(tuple(tensor.dims), dtype)
        source.read(tensor, found.reshape(-1).view(np.uint8))
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
        tuple(int(d.dim_value) if d.HasField("dim_value") else d.dim_param or None for d in kind.shape.dim),
        dtype,
    )


class Builder:
    """Makes graphs of a model's."""

    def __init__(self, model: Any, source: Source) -> None:
        self.source = source
        self.versions = {_DOMAINS.get(o.domain, o.domain): o.version for o in model.opset_import}
        self.missing: list[str] = []
        self.counts: dict[str, int] = {}

    def graph(self, proto: Any, known: frozenset[str] = frozenset()) -> Graph:
        """known: names that are defined outside."""
        constants: dict[str, Array] = {}
        for tensor in proto.initializer:
            constants[tensor.name] = array_of(tensor, self.source)
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
        attributes: dict[str, Any] = {}
        captured: list[str] = []
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
            return array_of(attribute.t, self.source)
        if kind == "SPARSE_TENSOR":
            return _sparse(attribute.sparse_tensor)
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            return value.decode()
        if kind == "STRINGS":
            return [v.decode() for v in value]
        return list(value) if kind in ("INTS", "FLOATS") else value


def build(source: Source) -> Graph:
    """The graph, or an error that names every node that cannot be computed."""
    model = source.model
    if model.functions:
        from onnx.inliner import inline_local_functions

        model = inline_local_functions(model)
    builder = Builder(model, source)
    graph = builder.graph(model.graph)
    if builder.missing:
        shown = builder.missing[:8]
        more = [f"{len(builder.missing) - 8} more"] if len(builder.missing) > 8 else []
        raise NotImplementedError("model: found what fastdl.onnx does not have: " + "; ".join([*shown, *more]))
    if graph.captured:
        raise ValueError(f"model: found {', '.join(graph.captured)} used, but made by no node")
    graph.counts = builder.counts
    return graph
