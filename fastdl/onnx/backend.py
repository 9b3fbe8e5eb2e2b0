"""ONNX's own interface to what runs models (onnx.backend.base), over fastdl.onnx."""

from __future__ import annotations

from typing import Any

from onnx import ModelProto, NodeProto
from onnx.backend.base import Backend, BackendRep

from fastdl.onnx.model import Model, load

__all__ = ["FastdlBackend", "FastdlBackendRep", "prepare", "run_model", "run_node", "supports_device"]


class FastdlBackendRep(BackendRep):
    """A model that is ready."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs, of inputs in their order, or of the only one."""
        given = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        return tuple(self.model.run(given))


class FastdlBackend(Backend):
    """Runs models on the CPU.

    Examples
    --------
    >>> import numpy as np, onnx
    >>> from fastdl.onnx import backend
    >>> node = onnx.helper.make_node("Relu", ["x"], ["y"])
    >>> x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [2]) for n in "xy")
    >>> model = onnx.helper.make_model(onnx.helper.make_graph([node], "small", [x], [y]))
    >>> backend.prepare(model).run([np.array([-1, 2], np.float32)])
    (array([0., 2.], dtype=float32),)
    """

    @classmethod
    def is_compatible(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether it has the model's operators."""
        try:
            cls.prepare(model, device)
        except (NotImplementedError, ValueError, TypeError):
            return False
        return True

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> FastdlBackendRep:
        """Load a model, which is left as it is."""
        if not cls.supports_device(device):
            raise ValueError(f"device: found {device!r}, expected 'CPU'")
        return FastdlBackendRep(load(model))

    @classmethod
    def run_node(
        cls, node: NodeProto, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any
    ) -> Any:
        """One node, of these inputs."""
        import numpy as np
        from onnx import TensorProto, helper

        given = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        named = dict(zip(node.input, map(np.asarray, given), strict=True))
        infos = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for name, a in named.items()
        ]
        outputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output]
        graph = helper.make_graph([node], "node", infos, outputs)
        return tuple(load(helper.make_model(graph)).run(list(named.values())))

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Only the CPU."""
        return device == "CPU" or device.startswith("CPU:")


prepare = FastdlBackend.prepare
run_node = FastdlBackend.run_node
run_model = FastdlBackend.run_model
supports_device = FastdlBackend.supports_device
