"""ONNX models on fastdl's kernels: fastdl.onnx.load(path).run(inputs). Needs the extra `onnx`.

A model is read, checked and folded once; for each combination of input shapes it becomes programs (fastdl.record), with
NumPy between them where there are no kernels. docs/onnx.md says which operators there are.
"""

from fastdl.onnx.model import Model, Tensor, load

__all__ = ["Model", "Tensor", "load"]
