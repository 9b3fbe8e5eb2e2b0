"""Models."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np

from fastdl._recording import set_recorder
from fastdl.functional.verbs import fail, integer
from fastdl.onnx import operators  # noqa: F401
from fastdl.onnx._fusions import fuse
from fastdl.onnx._graph import Graph, Source, Tensor, build, check
from fastdl.onnx._plan import Evaluated, Plan, evaluate, interpret, own

__all__ = ["Model", "Tensor", "load"]


class Model:
    """What load returns: a model that computes."""

    def __init__(self, graph: Graph, limit: int, title: str) -> None:
        self._graph, self._limit, self._title = graph, limit, title
        with np.errstate(all="ignore"):
            base = evaluate(graph, None)
        graph.constants = base.constants  # what is fused is left by itself
        nodes = fuse(base.nodes, base.constants, [t.name for t in graph.outputs])
        used = {name for n in nodes for name in n.uses} | {t.name for t in graph.outputs}
        self._base = Evaluated(nodes, {name: value for name, value in base.constants.items() if name in used})
        graph.constants, graph.nodes = self._base.constants, nodes
        self._weights = sum(v.nbytes for v in graph.constants.values() if isinstance(v, np.ndarray))
        self._names = [t.name for t in graph.inputs]
        self._outputs = [t.name for t in graph.outputs]
        self._plans: OrderedDict[Any, Plan] = OrderedDict()
        self._lock = Lock()
        self._quick: Plan | None = None
        """The plan that was used last, if it is one program that takes the inputs as they are."""
        self._last: tuple[Any, Callable[[Sequence[Any]], list[Any]] | None] = ((), None)

    @property
    def inputs(self) -> list[Tensor]:
        """What run takes."""
        return list(self._graph.inputs)

    @property
    def outputs(self) -> list[Tensor]:
        """What run returns."""
        return list(self._graph.outputs)

    @property
    def operators(self) -> dict[str, int]:
        """How many nodes of the file there are of each operator."""
        return dict(sorted(self._graph.counts.items(), key=lambda item: (-item[1], item[0])))

    def run(self, inputs: Sequence[Any] | Mapping[str, Any]) -> Any:
        """Compute the outputs.

        The first call with inputs of some shapes and dtypes records programs for them, which later calls replay.

        Parameters
        ----------
        inputs : sequence or dict of arrays
            In the order of `inputs`, or by their names. They have the dtypes that `inputs` says.

        Returns
        -------
        list or dict of arrays
            A dict by name where a dict was given, else a list in the order of `outputs`: new arrays.

        Raises
        ------
        ValueError, TypeError
            For inputs that are not what the model takes; and where a node cannot compute what it is given, which names
            the node.
        """
        plan = self._quick
        if plan is not None and (type(inputs) is list or type(inputs) is tuple):
            try:
                with plan.lock:
                    return list(plan.only(*inputs))
            except (ValueError, TypeError, RuntimeError):
                pass  # another shape, or a mistake: seen below
        named = isinstance(inputs, Mapping)
        values: Any = self._in_order(inputs) if isinstance(inputs, Mapping) else inputs
        last, run = self._last
        plain = type(values) in (list, tuple) and all([type(a) is np.ndarray for a in values])
        key = tuple([(a.shape, a.dtype) for a in values]) if plain else None
        if key != last or run is None:
            values = self._checked(values)
            key = tuple([(a.shape, a.dtype) for a in values if isinstance(a, np.ndarray)])
            run = self._planned(values, key)
        found = run(values)
        plan = self._plans.get(key)
        self._quick = plan if plan is not None and plan.only is not None and self._last[0] == key else None
        return dict(zip(self._outputs, found, strict=True)) if named else found

    __call__ = run

    def _in_order(self, inputs: Mapping[str, Any]) -> list[Any]:
        unknown = [name for name in inputs if name not in self._names]
        optional = {t.name for t in self._graph.inputs if t.dtype is None}
        lacking = [name for name in self._names if name not in inputs and name not in optional]
        if unknown or lacking:
            fail("inputs", f"names {list(inputs)}", f"names {self._names}")
        return [inputs.get(name) for name in self._names]

    def _checked(self, values: Sequence[Any]) -> list[Any]:
        if isinstance(values, np.ndarray) or not isinstance(values, Sequence):
            raise TypeError(f"inputs: found {type(values).__name__}, expected a list, tuple or dict of arrays")
        if len(values) != len(self._names):
            fail("inputs", f"{len(values)} of them", f"{len(self._names)}: {', '.join(self._names)}")
        return [_checked(value, tensor) for value, tensor in zip(values, self._graph.inputs, strict=True)]

    def _planned(self, values: list[Any], key: Any) -> Callable[[Sequence[Any]], list[Any]]:
        """What computes inputs like these."""
        if not all(isinstance(v, np.ndarray) for v in values):
            return lambda given: list(map(own, interpret(self._graph, dict(zip(self._names, given, strict=True)), {})))
        with self._lock:
            plan = self._plans.get(key)
            if plan is None:
                before = set_recorder(None)
                try:
                    plan = Plan(self._graph, self._base, dict(zip(self._names, values, strict=True)))
                finally:
                    set_recorder(before)
                self._plans[key] = plan
                while len(self._plans) > self._limit:
                    self._plans.popitem(last=False)
            self._plans.move_to_end(key)
            self._last, self._quick = (key, plan.run), None
            return plan.run

    def explain(self, inputs: Sequence[Any] | Mapping[str, Any] | None = None, *, time: bool = False) -> str:
        """How the model is computed: which kernels in which order, and what runs in NumPy between them.

        Parameters
        ----------
        inputs : as for run, optional
            Without them, of the shapes that were used last; if there are none, of zeros, 1 in place of a size that is
            free; inputs that are no arrays have to be given.
        time : bool
            Whether to time each kernel.
        """
        if inputs is None and not self._plans:
            inputs = self.example()
        if inputs is not None:
            self.run(inputs)
        plan = next(reversed(self._plans.values()), None)
        parts = plan.explain(time) if plan is not None else ["node by node: of inputs that are no arrays"]
        return "\n".join([str(self), "", *parts])

    def example(self, sizes: Mapping[str, int] | None = None) -> list[Any]:
        """Zeros as inputs. `sizes` are those of dimensions that are free, by name: 1 for others."""
        known = {n for t in self._graph.inputs for n in t.shape or () if isinstance(n, str)}
        if sizes and not known.issuperset(sizes):
            fail("sizes", f"names {sorted(sizes)}", f"among {sorted(known)}")
        if others := [t.name for t in self._graph.inputs if t.dtype is None]:
            fail("inputs", f"none, of which {', '.join(others)} are no arrays", "them to be given")
        return [
            np.zeros([n if isinstance(n, int) else (sizes or {}).get(n or "", 1) for n in t.shape or ()], t.dtype)
            for t in self._graph.inputs
        ]

    @property
    def flops(self) -> int:
        """Floating-point operations of the kernels in a run with inputs as they were last (0 before the first run)."""
        return next(reversed(self._plans.values())).flops if self._plans else 0

    def __reduce__(self) -> Any:
        raise TypeError("a Model can neither be copied nor pickled, as it holds programs: load the file again")

    def __repr__(self) -> str:
        return (
            f"<{self._title}: {len(self._names)} inputs, {len(self._outputs)} outputs, {len(self._graph.nodes)} nodes>"
        )

    def __str__(self) -> str:
        lines = [self._title]
        for title, tensors in (("input", self.inputs), ("output", self.outputs)):
            lines += [f"{title:9} {t.name}: {_described(t)}" for t in tensors]
        lines.append(f"constants {self._weights:,} bytes")
        lines.append("operators " + ", ".join(f"{n} {name}" for name, n in self.operators.items()))
        return "\n".join(lines)


def _described(tensor: Tensor) -> str:
    shape = "any shape" if tensor.shape is None else " x ".join("?" if n is None else str(n) for n in tensor.shape)
    return f"{tensor.dtype or 'no array'}, {shape or 'one number'}"


def _checked(value: Any, tensor: Tensor) -> Any:
    if tensor.dtype is None:
        return value
    array = np.asarray(value)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype != tensor.dtype and not (tensor.dtype == object and array.dtype.kind in "OUT"):
        raise TypeError(f"{tensor.name}: found dtype {array.dtype}, expected {tensor.dtype}")
    if tensor.shape is not None:
        fits = array.ndim == len(tensor.shape) and all(
            n == m or not isinstance(m, int) for n, m in zip(array.shape, tensor.shape, strict=True)
        )
        if not fits:
            fail(tensor.name, f"shape {array.shape}", f"shape ({_described(tensor).split(', ', 1)[1]})")
    return array


def load(model: Any, *, limit: int = 8, progress: bool = False) -> Model:
    """Load an ONNX model, to run it on fastdl's kernels.

    Everything is checked and looked up here: that the file is a valid model, that fastdl has its operators, and what of
    it follows from constants, which is computed. Kernels are chosen for shapes: at the first call of `run`.

    Parameters
    ----------
    model : path, bytes or onnx.ModelProto
        External data (of models larger than 2 GB) is read from files in the model's folder, from nowhere else.
    limit : int
        For how many combinations of shapes and dtypes programs are kept.
    progress : bool
        Whether to draw a progress bar on the terminal (needs rich).

    Returns
    -------
    Model

    Raises
    ------
    ValueError
        For what is no valid model.
    NotImplementedError
        For operators that fastdl does not have: names the nodes.

    Examples
    --------
    >>> import numpy as np, onnx, fastdl.onnx
    >>> x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["batch", 2]) for n in "xy")
    >>> graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "small", [x], [y])
    >>> model = fastdl.onnx.load(onnx.helper.make_model(graph))
    >>> model.inputs
    [Tensor(name='x', shape=('batch', 2), dtype=dtype('float32'))]
    >>> model.run([np.array([[-1, 2]], np.float32)])
    [array([[0., 2.]], dtype=float32)]
    >>> model.run({"x": np.array([[3, -4]], np.float32)})
    {'y': array([[3., 0.]], dtype=float32)}
    """
    integer(limit, "limit", 1)
    with _bar(progress) as advance:
        source = Source(model)
        proto = source.model
        try:
            advance("checking")
            check(source)
            advance("reading")
            graph = build(source)
        finally:
            source.close()
        advance("folding")
        version = max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=0)
        title = f"ONNX model {proto.graph.name!r}, opset {version}"
        if proto.producer_name:
            title += f", made by {proto.producer_name} {proto.producer_version}".rstrip()
        found = Model(graph, limit, title)
        advance("done")
    return found


class _bar:
    """A progress bar of four steps, if one is wanted."""

    def __init__(self, wanted: bool) -> None:
        self._bar: Any = None
        if wanted:
            try:
                from rich.progress import Progress
            except ModuleNotFoundError as error:
                raise ImportError('progress needs rich: pip install "fastdl[examples]"') from error
            self._bar = Progress(transient=True)

    def __enter__(self) -> Callable[[str], None]:
        if self._bar is None:
            return lambda step: None
        self._bar.start()
        task = self._bar.add_task("reading the file", total=4)
        return lambda step: self._bar.update(task, advance=1, description=step)

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.stop()
