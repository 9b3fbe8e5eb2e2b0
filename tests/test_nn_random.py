"""Networks drawn at random, with layers in several places and several forwards, against torch's autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastdl import nn

SIZE = 3


class _Draw:
    """The same network in both libraries: pairs (fastdl's, torch's)."""

    def __init__(self, torch: Any, seed: int) -> None:
        self.torch, self.rng = torch, np.random.default_rng(seed)
        self.shared: list[tuple[nn.Module, Any]] = []

        class Residual(torch.nn.Module):
            def __init__(self, module: Any, shortcut: Any = None) -> None:
                super().__init__()
                self.module, self.shortcut = module, shortcut

            def forward(self, x: Any) -> Any:
                return self.module(x) + (x if self.shortcut is None else self.shortcut(x))

        class Concat(torch.nn.Sequential):
            def forward(self, x: Any) -> Any:
                return torch.cat([module(x) for module in self], 1)

        self.residual, self.concat = Residual, Concat

    def linear(self, features: int = SIZE) -> tuple[nn.Module, Any]:
        peer = self.torch.nn.Linear(features, SIZE).double()
        own = nn.Linear(features, SIZE, dtype=np.float64)
        own.load_state_dict({name: value.numpy() for name, value in peer.state_dict().items()})
        return own, peer

    def module(self, depth: int) -> tuple[nn.Module, Any]:
        kind = self.rng.integers(0, 7 if depth else 3)
        if kind == 0 and self.shared:
            return self.shared[self.rng.integers(len(self.shared))]
        if kind == 1:
            return nn.Tanh(), self.torch.nn.Tanh()
        if kind <= 2:
            made = self.linear()
        elif kind <= 4:
            made = self.sequential(depth - 1)
        elif kind == 5:
            parts = [self.module(depth - 1) for _ in range(self.rng.integers(1, 3))]
            made = nn.Residual(*(own for own, _ in parts)), self.residual(*(peer for _, peer in parts))
        else:
            parts = [self.module(depth - 1) for _ in range(self.rng.integers(1, 4))]
            last = self.linear(SIZE * len(parts))
            own = nn.Concat(*(own for own, _ in parts), dim=1)
            made = nn.Sequential(own, last[0]), self.torch.nn.Sequential(self.concat(*(p for _, p in parts)), last[1])
        self.shared.append(made)
        return made

    def sequential(self, depth: int) -> tuple[nn.Module, Any]:
        parts = [self.module(depth) for _ in range(self.rng.integers(1, 5))]
        return nn.Sequential(*(own for own, _ in parts)), self.torch.nn.Sequential(*(peer for _, peer in parts))


@pytest.mark.parametrize("seed", range(60))
def test_random_networks_agree_with_torch(seed: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.manual_seed(seed)
    draw = _Draw(torch, seed)
    net, peer = draw.sequential(3)
    rng = draw.rng
    names = [name for name, _ in peer.named_parameters()]
    assert list(net.parameters()) == names
    assert list(net.state_dict()) == list(peer.state_dict())
    assert [name for name, _ in net.named_modules()] == [name for name, _ in peer.named_modules()]
    frozen = {name for name in names if rng.random() < 0.2}
    for name, parameter in peer.named_parameters():
        parameter.requires_grad_(name not in frozen)
    if frozen:
        net.requires_grad_(False, *frozen)
    accumulate = bool(rng.integers(2))
    if accumulate:
        net.zero_grad()
    for _ in range(3):
        training = bool(rng.integers(2))
        net.train(training)
        count = int(rng.integers(1, net.max_forwards + 1)) if training else 1
        inputs = [rng.standard_normal((4, SIZE)) for _ in range(count)]
        grads = [rng.standard_normal((4, SIZE)) for _ in range(count)]
        if not accumulate:
            peer.zero_grad()
        for x in inputs:
            net(x)
        if rng.integers(2):  # neither of these takes anything away
            net.train(not training)(inputs[0])
            net.train(training)
            with nn.no_grad():
                net(inputs[0])
        tensors = [torch.from_numpy(x).requires_grad_() for x in inputs]
        torch.autograd.backward([peer(x) for x in tensors], [torch.from_numpy(g) for g in grads])
        for x, grad in zip(reversed(tensors), reversed(grads), strict=True):
            np.testing.assert_allclose(net.backward(grad), x.grad.numpy(), rtol=1e-9, atol=1e-11)
        expected = {name: p.grad.numpy() for name, p in peer.named_parameters() if p.grad is not None}
        assert list(net.grads) == list(expected)
        for name, found in net.grads.items():
            np.testing.assert_allclose(found, expected[name], rtol=1e-9, atol=1e-11)
