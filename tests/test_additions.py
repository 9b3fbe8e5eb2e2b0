"""What an activation or an optimizer consists of in Python is one declaration: toys are added, and all of them works.

What they need in C is a kind in fastdl.h and its formula, which no test builds: here a kernel that there is stands in.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import HOME

_ACTIVATION = '''
"""As in fastdl/functional/activation/, fastdl/reference/activation.py and fastdl/nn/activation.py."""

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import operation
from fastdl.functional.activation.elementwise import ELEMENTWISE, elementwise, elementwise_backward
from fastdl.functional.verbs import Array, ArrayLike


@operation
@doc(ELEMENTWISE)
def toy(x: ArrayLike, out: Array | None = None) -> Array:
    """A toy: softsign under another name.

    {forward}
    """
    return elementwise(x, _kernels.ACTIVATION_SOFTSIGN, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def toy_backward(grad_output: ArrayLike, x: ArrayLike, out: Array | None = None) -> Array:
    """The gradient of `toy` in x.

    {backward_x}
    """
    return elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_SOFTSIGN, 0.0, 0.0, out)
'''

_USED = """
import inspect
import numba, numpy as np, pytest
import fastdl
from activation import toy, toy_backward
from fastdl import nn
from fastdl.reference._implements import implements

fastdl.toy, fastdl.toy_backward = toy, toy_backward
x = np.array([-3.0, 0.0, 1.0])
y = np.array([-0.75, 0.0, 0.5])
np.testing.assert_allclose(toy(x), y)
np.testing.assert_allclose(numba.njit(lambda x: fastdl.toy(x))(x), y)
np.testing.assert_allclose(numba.njit(lambda x: fastdl.toy_backward(x, x))(x), x / (1 + abs(x)) ** 2)
assert "in place" in toy.__doc__ and "{" not in toy.__doc__

@implements(toy)
def reference(x):
    return x / (1 + np.abs(x))

assert inspect.signature(reference) == inspect.signature(toy)
np.testing.assert_allclose(reference(x, out=np.empty(3)), y)

from fastdl.nn.activation import _Elementwise

class Toy(_Elementwise, function="toy"):
    pass

layer = Toy()
np.testing.assert_allclose(layer(x), y)
np.testing.assert_allclose(layer.backward(np.ones(3)), 1 / (1 + abs(x)) ** 2)
for wrong, error, message in (
    (np.ones(3, int), TypeError, "x: found dtype <i8, expected float32 or float64"),
    ([1.0], TypeError, "x: found list, expected an array"),
):
    for call in (toy, layer):
        with pytest.raises(error, match=message):
            call(wrong)
with pytest.raises(ValueError, match="out: found shape"):
    toy(x, out=np.empty(4))
"""

_OPTIMIZER = '''
"""As in a family of fastdl/optim/."""

from math import inf

import numpy as np

from fastdl._docs import doc
from fastdl.functional._operation import operation
from fastdl.functional.verbs import Array, ArrayLike, in_place, number, state
from fastdl.optim._shared import SHARED, check_common, gradient_of
from fastdl.optim.optimizer import Optimizer, Params


@operation
@doc(SHARED)
def toy_step(
    param: Array,
    grad: ArrayLike,
    momentum_buffer: Array,
    lr: float = 0.25,
    decay: float = 0.5,
    weight_decay: float = 0.0,
    maximize: bool = False,
    grad_scale: float = 1.0,
    clip_value: float = inf,
) -> None:
    """Step by an average of the gradient.

    Parameters
    ----------
    {param_grad}
    """
    param = in_place(param, "param")
    grad = gradient_of(grad, param)
    momentum_buffer = state(momentum_buffer, "momentum_buffer", param, grad)
    check_common(lr, weight_decay, maximize, grad_scale, clip_value)
    number(decay, "decay", 0.0, 1.0)
    scaled = np.clip(grad * grad_scale, -clip_value, clip_value)
    momentum_buffer *= decay
    momentum_buffer += -scaled if maximize else scaled
    param *= 1 - lr * weight_decay
    param -= lr * momentum_buffer


class Toy(Optimizer):
    update = staticmethod(toy_step)

    def __init__(
        self,
        params: Params,
        lr: float = 0.25,
        decay: float = 0.5,
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "decay": decay, "weight_decay": weight_decay, "maximize": maximize})
'''

_STEPPED = """
import numba, numpy as np, pytest
import fastdl
from fastdl.optim import lr_scheduler
from optimizer import Toy, toy_step

fastdl.toy_step = toy_step
grad = np.array([1.0, -2.0])
made = []
for step in (
    toy_step,
    numba.njit(lambda param, grad, buffer: fastdl.toy_step(param, grad, buffer)),
):
    param, buffer = np.ones(2), np.zeros(2)
    for _ in range(2):
        step(param, grad, buffer)
    made.append(param)
param = np.ones(2)
optimizer = Toy([param])
for _ in range(2):
    optimizer.step([grad])
np.testing.assert_array_equal([*made, param], [[0.375, 2.25]] * 3)
np.testing.assert_array_equal(optimizer.state["0"]["momentum_buffer"], 1.5 * grad)
assert "step" not in optimizer.state["0"]
assert "Updated in place" in toy_step.__doc__

optimizer.param_groups[0]["decay"] = 0.0
optimizer.step([grad], clip_value=0.5)
np.testing.assert_array_equal(param, [0.25, 2.375])
schedule = lr_scheduler.StepLR(optimizer, 1, 0.1)
optimizer.step([grad])
schedule.step()
assert optimizer.lr == 0.025

def function(**options):
    toy_step(np.ones(2), grad, np.zeros(2), **options)

def option(**options):
    optimizer.param_groups[0][next(iter(options))] = next(iter(options.values()))

for call in (lambda **options: Toy([param], **options), function, option):
    with pytest.raises(ValueError, match="decay: found 2, expected a number between 0 and 1"):
        call(decay=2)
    with pytest.raises(ValueError, match="lr: found -1"):
        call(lr=-1)
    with pytest.raises(TypeError, match="decay: found 'a', expected a number"):
        call(decay="a")
with pytest.raises(ValueError, match="grad: found"):
    toy_step(np.ones(2), np.ones(3), np.zeros(2))
"""


@pytest.mark.parametrize(
    ("name", "declared", "used"), [("activation", _ACTIVATION, _USED), ("optimizer", _OPTIMIZER, _STEPPED)]
)
def test_one_declaration_is_all_there_is_to_it(name: str, declared: str, used: str, tmp_path: Path) -> None:
    pytest.importorskip("numba")
    (tmp_path / f"{name}.py").write_text(declared)
    (tmp_path / "use.py").write_text(used)
    path = os.pathsep.join([str(HOME), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, tmp_path / "use.py"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def _generator() -> tuple[Any, str]:
    folder = Path(__file__).parents[1] / "csrc"
    if not folder.is_dir():
        pytest.skip("the sources are not here")
    spec = importlib.util.spec_from_file_location("generate", folder / "binding" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, (folder / "fastdl.h").read_text()


def test_a_kind_in_the_header_is_a_name_and_a_number_in_python() -> None:
    generate, header = _generator()
    made = []
    for text in (header, header.replace("FDL_ACTIVATION_ERF,", "FDL_ACTIVATION_ERF,\n    FDL_ACTIVATION_TOY,")):
        namespace: dict[str, Any] = {}
        lines = generate.python_names(text, *generate.parse(text)).splitlines()
        kinds = [line for line in lines if line.startswith(("ACTIVATION_", "NAMES"))]
        exec("\n".join(kinds), namespace)
        made.append(namespace)
    before, after = made
    assert after["ACTIVATION_NAMES"] == (*before["ACTIVATION_NAMES"], "toy")
    assert after["ACTIVATION_TOY"] == len(before["ACTIVATION_NAMES"])
