"""Several nodes that are one kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

import fastdl
from fastdl.onnx._table import FLOATS, Node, find, is_floats


class _Graph:
    """Nodes by what they make, and how often that is taken."""

    def __init__(
        self, nodes: list[Node], constants: dict[str, Any], outputs: Iterable[str], ranks: Mapping[str, int]
    ) -> None:
        self.constants, self.ranks = constants, ranks
        self.makers = {name: node for node in nodes for name in node.outputs if name}
        self.uses = Counter(name for node in nodes for name in node.uses)
        self.uses.update(outputs)

    def number(self, name: str, rank: int) -> float | None:
        """A constant that is one number, of no more dimensions than that (which a result would have too)."""
        value = self.constants.get(name)
        if isinstance(value, np.ndarray) and value.size == 1 and value.ndim <= rank and value.dtype.kind in "fiu":
            return float(value.reshape(-1)[0])
        return None

    def rank(self, *names: str) -> int:
        """How many dimensions these have at least, as far as is known."""
        return min([self.ranks.get(name, 0) for name in names])

    def match(self, pattern: Any, name: str, found: dict[str, Any], inner: list[Node], root: bool = False) -> bool:
        """Whether what makes `name` is like the pattern: a tuple of an operator and patterns of its inputs, a number,
        or a name, which stands for the same everywhere. `found` has what names stand for, `inner` the nodes."""
        if isinstance(pattern, str):
            return bool(found.setdefault(pattern, name) == name)
        if not isinstance(pattern, tuple):
            value = self.number(name, self.rank(found["x"]) if "x" in found else 0)
            return value is not None and _is(value, pattern, self.constants[name].dtype)
        node = self.makers.get(name)
        if node is None or node.operator.name != pattern[0] or (not root and self.uses[name] != 1):
            return False
        wanted = pattern[1:]
        orders = [node.inputs]
        if pattern[0] in ("Add", "Mul") and len(node.inputs) == 2:
            orders.append(node.inputs[::-1])
        for order in orders:
            before, count = dict(found), len(inner)
            inner.append(node)
            if len(order) >= len(wanted) and all(
                self.match(p, n, found, inner) for p, n in zip(wanted, order, strict=False)
            ):
                return True
            found.clear()
            found.update(before)
            del inner[count:]
        return False


def _is(value: float, wanted: float, dtype: Any) -> bool:
    """Whether a constant is that number, exactly where few bits have it."""
    exact = dtype.kind != "f" or float(np.float16(wanted)) == wanted
    return value == wanted or (not exact and abs(value - wanted) <= float(np.finfo(dtype).eps) * abs(wanted))


_ROOT_2 = 2**0.5
_GELU = [
    ("Mul", ("Mul", "x", ("Add", ("Erf", ("Div", "x", _ROOT_2)), 1.0)), 0.5),
    ("Mul", "x", ("Mul", ("Add", ("Erf", ("Div", "x", _ROOT_2)), 1.0), 0.5)),
    ("Mul", ("Mul", "x", 0.5), ("Add", ("Erf", ("Div", "x", _ROOT_2)), 1.0)),
    ("Mul", ("Mul", "x", ("Add", ("Erf", ("Mul", "x", 1 / _ROOT_2)), 1.0)), 0.5),
    ("Mul", ("Mul", "x", 0.5), ("Add", ("Erf", ("Mul", "x", 1 / _ROOT_2)), 1.0)),
    ("Mul", "x", ("Mul", ("Add", ("Erf", ("Mul", "x", 1 / _ROOT_2)), 1.0), 0.5)),
]
_PATTERNS: list[tuple[Any, str]] = [
    *((pattern, "Gelu") for pattern in _GELU),
    (("Mul", "x", ("Sigmoid", "x")), "Swish"),
    (("Mul", "x", ("HardSigmoid", "x")), "HardSwish"),
    (("Div", ("Mul", "x", ("Clip", ("Add", "x", 3.0), 0.0, 6.0)), 6.0), "HardSwish"),
    (("Mul", "x", ("Div", ("Clip", ("Add", "x", 3.0), 0.0, 6.0), 6.0)), "HardSwish"),
    (("Div", ("Clip", ("Add", "x", 3.0), 0.0, 6.0), 6.0), "HardSigmoid"),
    (("Mul", "x", ("Tanh", ("Softplus", "x"))), "Mish"),
]


def fuse(
    nodes: list[Node],
    constants: dict[str, Any],
    outputs: list[str],
    sorts: dict[int, str] | None = None,
    ranks: Mapping[str, int] | None = None,
) -> list[Node]:
    """The list with groups of nodes as one; sorts: of nodes, what computes them, which is given to new ones too; ranks:
    how many dimensions there are, of what is known."""
    for step in (_batch_norms, _attention, _linear, _layer_norms, _activations):
        nodes = step(nodes, _Graph(nodes, constants, outputs, ranks or {}), sorts)
    return nodes


def _put(nodes: list[Node], new: Node, gone: list[Node], sorts: dict[int, str] | None, kernels: bool) -> list[Node]:
    """The new node where the last of those was that it stands for."""
    ids = {id(n) for n in gone}
    last = max(i for i, n in enumerate(nodes) if id(n) in ids)
    if sorts is not None:
        sorts[id(new)] = "kernels" if kernels else sorts[id(nodes[last])]
    return [new if i == last else n for i, n in enumerate(nodes) if i == last or id(n) not in ids]


def _plain(gone: list[Node], sorts: dict[int, str] | None) -> bool:
    """Whether sizes are the same in every call."""
    return sorts is not None and not any(sorts[id(n)] == "varying" for n in gone)


def _new(name: str, domain: str, like: Node, inputs: tuple[str, ...], **attributes: Any) -> Node:
    row = find(domain, name, 1 << 30)
    assert row is not None
    return Node(like.name, row, inputs, like.outputs[:1], attributes)


def _activations(nodes: list[Node], graph: _Graph, sorts: dict[int, str] | None) -> list[Node]:
    for node in list(nodes):
        for pattern, name in _PATTERNS:
            found: dict[str, Any] = {}
            inner: list[Node] = []
            if len(node.outputs) != 1 or not graph.match(pattern, node.outputs[0], found, inner, root=True):
                continue
            options: dict[str, Any] = {}
            if name == "HardSigmoid":
                options = {"alpha": 1 / 6, "beta": 0.5}
            if "HardSigmoid" in str(pattern) and name == "HardSwish":
                inside = next(n for n in inner if n.operator.name == "HardSigmoid").attributes
                if abs(inside.get("alpha", 0.2) - 1 / 6) > 1e-6 or inside.get("beta", 0.5) != 0.5:
                    continue
            if not all(any(n is m for m in nodes) for n in inner):
                continue
            new = _new(name, "", node, (found["x"],), **options)
            nodes = _put(nodes, new, inner, sorts, _plain(inner, sorts) and _of_floats(found["x"], inner, sorts))
            break
    return nodes


def _of_floats(name: str, inner: list[Node], sorts: dict[int, str] | None) -> bool:
    """Whether kernels have that dtype: where one of the nodes was computed by one."""
    return sorts is not None and any(sorts[id(n)] == "kernels" for n in inner)


def _batch_norms(nodes: list[Node], graph: _Graph, sorts: dict[int, str] | None) -> list[Node]:
    """By fixed statistics, they become part of the convolution before."""
    for node in list(nodes):
        if node.operator.name != "BatchNormalization" or node.attributes.get("training_mode", 0):
            continue
        conv = graph.makers.get(node.inputs[0])
        if conv is None or conv.operator.name != "Conv" or graph.uses[node.inputs[0]] != 1:
            continue
        if sum(bool(n) for n in node.outputs) != 1:
            continue
        names = [*conv.inputs[1:3], *node.inputs[1:5]]
        arrays: list[Any] = [graph.constants.get(n) for n in names if n]
        if not all(isinstance(a, np.ndarray) and a.dtype in FLOATS for a in arrays) or not is_floats(*arrays):
            continue
        weight, bias, (scale, shift, mean, variance) = arrays[0], arrays[1:-4], arrays[-4:]
        first: Any = bias[0] if bias else None
        eps = node.attributes.get("epsilon", 1e-5)
        made: Any = fastdl.fuse_conv_bn_weights(weight, first, mean, variance, eps, scale, shift)
        keys = tuple(f"{node.inputs[0]}\0{part}" for part in ("weight", "bias"))  # names that no file has
        graph.constants.update(zip(keys, (np.array(a) for a in made), strict=True))
        new = Node(conv.name, conv.operator, (conv.inputs[0], *keys), node.outputs[:1], conv.attributes)
        for name in names:
            if graph.uses[name] == 1:
                graph.constants.pop(name, None)
        recorded = sorts is not None and _plain([conv, node], sorts) and sorts[id(conv)] == "kernels"
        nodes = _put(nodes, new, [conv, node], sorts, recorded)
        graph.makers[new.outputs[0]] = new
    return nodes


def _linear(nodes: list[Node], graph: _Graph, sorts: dict[int, str] | None) -> list[Node]:
    """A product with constant weights, which are turned round once, and constants added to its columns."""
    for node in list(nodes):
        product = node.operator.name == "MatMul"
        if not product and (node.operator.name != "Gemm" or node.attributes.get("transB", 0)):
            continue
        weight = graph.constants.get(node.inputs[1])
        if not isinstance(weight, np.ndarray) or weight.ndim != 2 or weight.dtype not in FLOATS or not weight.size:
            continue
        if sorts is not None and sorts[id(node)] != "kernels":
            continue
        name = f"{node.inputs[1]}\0turned"
        if name not in graph.constants:
            graph.constants[name] = np.array(weight.T, order="C")
        graph.uses[node.inputs[1]] -= 1
        if not graph.uses[node.inputs[1]]:
            del graph.constants[node.inputs[1]]
        if not product:
            inputs = (node.inputs[0], name, *node.inputs[2:])
            new = Node(node.name, node.operator, inputs, node.outputs, node.attributes | {"transB": 1})
            nodes = _put(nodes, new, [node], sorts, sorts is not None)
            continue
        made, gone, inputs = node.outputs[0], [node], (node.inputs[0], name)
        after = [n for n in nodes if made in n.uses] if graph.uses[made] == 1 else []
        if after and after[0].operator.name == "Add" and not after[0].attributes:
            other = after[0].inputs[after[0].inputs[0] == made]
            bias = graph.constants.get(other)
            if isinstance(bias, np.ndarray) and bias.dtype == weight.dtype and bias.shape == weight.shape[1:]:
                gone, inputs = [node, after[0]], (*inputs, other)
        new = _new("Linear", "fastdl", gone[-1], inputs)
        nodes = _put(nodes, new, gone, sorts, sorts is not None)
    return nodes


def _attention(nodes: list[Node], graph: _Graph, sorts: dict[int, str] | None) -> list[Node]:
    """softmax(scale * q @ k + mask) @ v, where the scale may be part of q and k as well."""
    for node in list(nodes):
        if sorts is None or node.operator.name != "MatMul":
            continue
        inner = [node]

        def only(name: str, *kinds: str, inner: list[Node] = inner) -> Node | None:
            """What makes it, if it is of these kinds, and nobody else takes it."""
            made = graph.makers.get(name)
            if made is None or made.operator.name not in kinds or graph.uses[name] != 1:
                return None
            inner.append(made)
            return made

        def factor(name: str, inner: list[Node] = inner) -> tuple[str, float]:
            """What is multiplied by a number, and that; the name and 1, if it is not."""
            made = graph.makers.get(name)
            if made is None or made.operator.name not in ("Mul", "Div") or graph.uses[name] != 1:
                return name, 1.0
            pairs = [made.inputs[:2], made.inputs[1::-1]][: 1 + (made.operator.name == "Mul")]
            for other, constant in pairs:
                number = graph.number(constant, graph.rank(other))
                if number is not None and number != 0:
                    inner.append(made)
                    return other, number if made.operator.name == "Mul" else 1 / number
            return name, 1.0

        softmax = only(node.inputs[0], "Softmax")
        if softmax is None or softmax.attributes.get("axis", -1) != -1 or softmax.operator.since < 13:
            continue
        scores, mask, scale = softmax.inputs[0], "", 1.0
        added = graph.makers.get(scores)
        if added is not None and added.operator.name == "Add" and graph.uses[scores] == 1:
            made = [graph.makers.get(n) for n in added.inputs]
            first = next(
                (i for i, m in enumerate(made) if m is not None and m.operator.name in ("MatMul", "Mul", "Div")), -1
            )
            if first < 0:
                continue
            inner.append(added)
            scores, mask = added.inputs[first], added.inputs[1 - first]
        scores, scale = factor(scores)
        product = only(scores, "MatMul")
        if product is None:
            continue
        (q, one), (k, two) = (factor(n) for n in product.inputs)
        if not _plain(inner, sorts) or any(sorts[id(n)] != "kernels" for n in inner):
            continue
        inputs = (q, k, node.inputs[1], *([mask] if mask else []))
        new = _new("DotProductAttention", "fastdl", node, inputs, scale=scale * one * two)
        nodes = _put(nodes, new, inner, sorts, True)
    return nodes


def _layer_norms(nodes: list[Node], graph: _Graph, sorts: dict[int, str] | None) -> list[Node]:
    """Written out, over the last dimension: (x - mean) / sqrt(mean((x - mean) ** 2) + eps) * scale + bias."""
    for node in list(nodes):
        if node.operator.name != "Add" or sorts is None:
            continue
        for product, bias in (node.inputs, node.inputs[::-1]):
            scaled = graph.makers.get(product)
            if scaled is None or scaled.operator.name != "Mul" or graph.uses[product] != 1 or len(scaled.inputs) != 2:
                continue
            for quotient, scale in (scaled.inputs, scaled.inputs[::-1]):
                found = _normalized(graph, quotient)
                weights = graph.constants.get(scale), graph.constants.get(bias)
                if found is None or any(w is None or w.ndim != 1 or w.dtype not in FLOATS for w in weights):
                    continue
                x, eps, inner = found
                inner = [*inner, scaled, node]
                if not _plain(inner, sorts) or weights[0].shape != weights[1].shape or weights[0].size == 1:  # type: ignore[union-attr]
                    continue
                new = _new("LayerNormalization", "", node, (x, scale, bias), epsilon=eps)
                nodes = _put(nodes, new, inner, sorts, True)
                break
            else:
                continue
            break
    return nodes


def _normalized(graph: _Graph, name: str) -> tuple[str, float, list[Node]] | None:
    quotient = graph.makers.get(name)
    if quotient is None or quotient.operator.name != "Div" or graph.uses[name] != 1:
        return None
    centred, root = (graph.makers.get(n) for n in quotient.inputs)
    if centred is None or root is None or centred.operator.name != "Sub" or root.operator.name != "Sqrt":
        return None
    x, mean = centred.inputs[0], graph.makers.get(centred.inputs[1])
    total = graph.makers.get(root.inputs[0])
    if mean is None or mean.inputs[0] != x or total is None or total.operator.name != "Add":
        return None
    rank = graph.rank(x)
    for variance, number in (total.inputs, total.inputs[::-1]):
        eps, squares = graph.number(number, rank), graph.makers.get(variance)
        if eps is None or squares is None:
            continue
        power = graph.makers.get(squares.inputs[0])
        if power is None or not all(_of_last(n, graph) for n in (mean, squares)):
            continue
        again = graph.makers.get(power.inputs[0])
        same = again is not None and again.operator.name == "Sub" and again.inputs == centred.inputs
        if not same or not (
            (power.operator.name == "Pow" and graph.number(power.inputs[1], rank) == 2)
            or (power.operator.name == "Mul" and power.inputs[0] == power.inputs[1])
        ):
            continue
        inner = {id(n): n for n in (quotient, centred, root, mean, total, squares, power, again)}
        made = {name for n in inner.values() for name in n.outputs} - {name}  # type: ignore[union-attr]
        taken = Counter(u for n in inner.values() for u in n.uses if u in made)  # type: ignore[union-attr]
        if all(graph.uses[m] == taken[m] for m in made):
            return x, eps, list(inner.values())  # type: ignore[arg-type]
    return None


def _of_last(node: Node, graph: _Graph) -> bool:
    """A mean over the last dimension, which is kept."""
    if node.operator.name != "ReduceMean" or not node.attributes.get("keepdims", 1):
        return False
    axes = node.attributes.get("axes")
    if axes is None and len(node.inputs) > 1:
        axes = graph.constants.get(node.inputs[1])
    return axes is not None and [int(a) for a in np.reshape(axes, -1)] == [-1]
