"""That an install without a compiler trains: layers, an optimizer, a program.

Run with `python -I`, and the backend that it is to be on.
"""

import sys

import numpy as np

import fastdl
from fastdl import nn, optim

assert fastdl.active_backend() == sys.argv[1], fastdl.active_backend()
assert "c" not in fastdl.available_backends()
rng = np.random.default_rng(0)
x = rng.standard_normal((64, 1, 8, 8)).astype(np.float32)
target = (x.mean((1, 2, 3)) > 0).astype(np.int64)
net = nn.Sequential(
    nn.Conv2d(1, 8, 3, padding=1, rng=0),
    nn.BatchNorm2d(8),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(128, 2, rng=1),
)
step = nn.compile_step(net, nn.CrossEntropyLoss(), optim.Adam(net.parameters(), lr=0.01), x, target)
losses = [float(step(x, target)) for _ in range(30)]
assert losses[-1] < losses[0] / 4, losses
recurrent = nn.Sequential(nn.LSTM(4, 8, rng=0), nn.Output())
y = recurrent(np.ones((5, 3, 4), np.float32))
recurrent.backward(np.ones_like(y))
print("on", fastdl.active_backend(), "losses", losses[0], losses[-1])
if fastdl.active_backend() == "numba":
    from fastdl import rl

    assert rl.value_iteration(rl.MDP(np.ones((2, 1, 2)) / 2, np.ones(2), 0.5)).value.round(6).tolist() == [2.0, 2.0]
    message = "no error"
    try:
        rl.PPO  # noqa: B018
    except ImportError as error:
        message = str(error)
    assert "without its kernels in C" in message, message
