"""Programs: what is recorded replays to the last bit, and what cannot be recorded is refused by name."""

import copy
import gc
import os
import pickle
import threading
import weakref

import numpy as np
import pytest

import fastdl
from fastdl import nn, optim
from fastdl.program import RecordError

F32 = np.float32


def mlp(dropout=0.0, seed=0):
    layers = [nn.Linear(4, 16, rng=seed), nn.ReLU(), nn.Linear(16, 3, rng=seed + 1)]
    if dropout:
        layers.insert(2, nn.Dropout(dropout, seed=seed))
    return nn.Sequential(*layers)


def batch(rows=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, 4), dtype=F32), rng.integers(0, 3, rows)


def training_step(net, optimizer, **options):
    loss = nn.CrossEntropyLoss()

    def step(x, target):
        value = loss(net(x), target)
        net.backward(loss.backward(), input_grad=False)
        optimizer.step(net.grads, **options)
        return value

    return step


OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: optim.Adam(p, lr=0.01),
    "amsgrad": lambda p: optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: optim.AdamW(p, lr=0.01),
    "nadam": lambda p: optim.NAdam(p, lr=0.01),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.01, centered=True, momentum=0.5),
    "adagrad": lambda p: optim.Adagrad(p, lr=0.1),
    "adadelta": lambda p: optim.Adadelta(p),
    "lion": lambda p: optim.Lion(p, lr=0.01),
}
SCALINGS = {"plain": {}, "scaled": {"grad_scale": 0.5}, "norm": {"max_norm": 0.3}, "value": {"clip_value": 0.01}}


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_training_step(name, scaling):
    nets = mlp(), mlp()
    optimizers = [OPTIMIZERS[name](net.parameters()) for net in nets]
    plain, recorded = (training_step(n, o, **SCALINGS[scaling]) for n, o in zip(nets, optimizers, strict=True))
    program = fastdl.record(recorded, *batch())
    for i in range(6):
        x, target = batch(seed=i)
        np.testing.assert_array_equal(program(x, target), plain(x, target))
    for a, b in zip(nets[0].parameters().values(), nets[1].parameters().values(), strict=True):
        np.testing.assert_array_equal(a, b)
    for key, value in optimizers[0].state_dict().items():
        np.testing.assert_array_equal(optimizers[1].state_dict()[key], value, err_msg=key)


def test_recording_changes_nothing():
    net = nn.Sequential(nn.Linear(4, 8, rng=0), nn.BatchNorm1d(8), nn.Dropout(0.5, seed=3), nn.Linear(8, 3, rng=1))
    optimizer = optim.Adam(net.parameters(), lr=0.1)
    step = training_step(net, optimizer)
    step(*batch())
    grads = {name: g.copy() for name, g in net.grads.items()}
    before, states = net.state_dict(), optimizer.state_dict()
    position = net[2].seed, net[2].offset
    fastdl.record(step, *batch())
    after = net.state_dict()
    assert all(np.array_equal(before[k], after[k]) for k in before)
    assert all(np.array_equal(v, optimizer.state_dict()[k]) for k, v in states.items())
    assert (net[2].seed, net[2].offset) == position
    assert all(np.array_equal(g, net.grads[name]) for name, g in grads.items())
    assert type(net[2].offset) is int


def test_what_moves_on_lies_in_memory():
    def make():
        net = nn.Sequential(nn.Linear(4, 8, rng=0), nn.BatchNorm1d(8), nn.Dropout(0.5, seed=3), nn.Linear(8, 3, rng=1))
        optimizer = optim.SGD(net.parameters(), lr=0.1)
        return net, optimizer, training_step(net, optimizer)

    net, optimizer, recorded = make()
    other, other_optimizer, plain = make()
    program = fastdl.record(recorded, *batch())
    schedules = [optim.lr_scheduler.StepLR(o, step_size=2, gamma=0.5) for o in (optimizer, other_optimizer)]
    for i in range(6):
        x, target = batch(seed=i)
        np.testing.assert_array_equal(program(x, target), plain(x, target))
        for schedule in schedules:
            schedule.step()
    assert optimizer.lr == other_optimizer.lr < 0.1
    assert net[2].offset == other[2].offset > 0
    assert net[1].num_batches_tracked == 6
    for key, value in other.state_dict().items():
        np.testing.assert_array_equal(net.state_dict()[key], value, err_msg=key)
    net[2].offset = other[2].offset = 0  # and may be set between calls
    np.testing.assert_array_equal(program(x, target), plain(x, target))


def test_a_layer_that_draws_twice_in_a_step():
    drop = nn.Dropout(0.5, seed=1)

    def function(x):
        return drop(x), drop(x)

    program = fastdl.record(function, np.ones(64, F32))
    one, two = program(np.ones(64, F32))
    again = nn.Dropout(0.5, seed=1)
    np.testing.assert_array_equal(one, again(np.ones(64, F32)))
    np.testing.assert_array_equal(two, again(np.ones(64, F32)))
    np.testing.assert_array_equal(program(np.ones(64, F32))[0], again(np.ones(64, F32)))


def test_two_networks_and_two_optimizers():
    def make():
        generator, critic = nn.Linear(4, 4, rng=0), mlp()
        optimizers = optim.Adam(generator.parameters(), lr=0.01), optim.SGD(critic.parameters(), lr=0.1)
        loss = nn.CrossEntropyLoss()

        def step(x, target):
            fake = generator(x)
            value = loss(critic(fake), target)
            grad = critic.backward(loss.backward())
            generator.backward(grad, input_grad=False)
            optimizers[1].step(critic.grads)
            optimizers[0].step(generator.grads, max_norm=1.0)
            return {"loss": value, "both": (float(value), fake)}

        return generator, step

    (one, plain), (two, recorded) = make(), make()
    program = fastdl.record(recorded, *batch())
    for i in range(4):
        a, b = program(*batch(seed=i)), plain(*batch(seed=i))
        np.testing.assert_array_equal(a["loss"], b["loss"])
        assert a["both"][0] == b["both"][0]
        assert type(a["both"][0]) is float
        np.testing.assert_array_equal(a["both"][1], b["both"][1])
    np.testing.assert_array_equal(one.weight, two.weight)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_of_every_kind(dtype):
    weight = np.ones((3, 4), dtype)
    kept = np.zeros((2, 4), dtype)

    def function(x):
        y = fastdl.relu(x)
        fastdl.relu(x, out=kept)
        return y, y.T, x, weight, kept, x[0], None, 7, "name", y.reshape(4, 2), np.empty((0, 3), dtype)

    x = np.arange(-3, 5, dtype=dtype).reshape(2, 4)
    program = fastdl.record(function, x)
    kept[:] = -1
    got, wanted = program(x), function(x)
    for a, b in zip(got, wanted, strict=True):
        assert type(a) is type(b)
        np.testing.assert_array_equal(a, b)
    assert [got[2] is x, got[3] is weight, got[4] is kept] == [True] * 3
    assert np.shares_memory(got[0], got[1])
    assert not np.shares_memory(program(x)[0], got[0])  # a new array at each call


def test_an_argument_that_is_written():
    def function(x):
        fastdl.relu(x, out=x)

    program = fastdl.record(function, np.ones(4, F32))
    x = np.array([-1, 2, -3, 4], F32)
    assert program(x) is None
    np.testing.assert_array_equal(x, [0, 2, 0, 4])
    with pytest.raises(ValueError, match=r"argument\[0\].*not C-contiguous and writable"):
        program(np.zeros((4, 2), F32)[:, 0])


def test_results_go_in_again():
    program = fastdl.record(lambda h: fastdl.tanh(fastdl.linear(h, SQUARE)), np.ones((2, 4), F32))
    h = plain = np.full((2, 4), 0.5, F32)
    for _ in range(5):
        h, plain = program(h), np.tanh(plain)
    np.testing.assert_allclose(h, plain, rtol=1e-5)


def test_nested_arguments():
    def function(pair, more):
        return [fastdl.relu(pair[0]), fastdl.relu(more["x"])]

    x = np.array([-1, 1], F32)
    program = fastdl.record(function, (x, None), {"x": x})
    np.testing.assert_array_equal(program((x, None), {"x": -x})[1], [1, 0])
    with pytest.raises(ValueError, match="arguments"):
        program((x, None), {"y": x})
    with pytest.raises(ValueError, match=r"argument\[0\]\[1\]: found 3, expected None"):
        program((x, 3), {"x": x})


# ---- what is refused at a call ----


def test_arguments_of_another_shape_or_dtype():
    program = fastdl.record(training_step(net := mlp(), optim.SGD(net.parameters(), lr=0.1)), *batch())
    before = net.state_dict()
    x, target = batch()
    with pytest.raises(ValueError, match=r"argument\[0\]: found shape \(4, 4\), expected shape \(5, 4\), with which"):
        program(x[:4], target)
    with pytest.raises(TypeError, match=r"argument\[0\]: found dtype float64, expected float32, with which"):
        program(x.astype(np.float64), target)
    with pytest.raises(ValueError, match=r"arguments: found .*expected"):
        program(x)
    assert all(np.array_equal(v, net.state_dict()[k]) for k, v in before.items())
    wide = np.zeros((5, 8), F32)
    wide[:, ::2] = x
    np.testing.assert_array_equal(fastdl.record(fastdl.relu, x)(wide[:, ::2]), fastdl.relu(x))  # copied


def test_what_a_kernel_refuses_is_raised_with_its_place():
    program = fastdl.record(lambda x, t: fastdl.cross_entropy(x, t), np.ones((2, 3), F32), np.array([0, 1]))
    with pytest.raises(ValueError, match=r"target: found a class index outside.*call 0 of the program, cross_entropy"):
        program(np.ones((2, 3), F32), np.array([0, 7]))
    assert program(np.ones((2, 3), F32), np.array([0, 2])) > 0


def test_a_replaced_parameter():
    net = mlp()
    program = fastdl.record(net.forward, batch()[0])
    net[0].weight[...] = 0  # in place: seen
    np.testing.assert_array_equal(program(batch()[0]), net(batch()[0]))
    net.load_state_dict(mlp(seed=5).state_dict())
    np.testing.assert_array_equal(program(batch()[0]), net(batch()[0]))
    net[0].weight = np.ones_like(net[0].weight)
    with pytest.raises(RuntimeError, match="replaced since it was recorded"):
        program(batch()[0])


def test_replaced_states():
    net = mlp()
    optimizer = optim.Adam(net.parameters(), lr=0.1)
    program = fastdl.record(training_step(net, optimizer), *batch())
    start, state = net.state_dict(), optimizer.state_dict()
    expected = [program(*batch()) for _ in range(3)]
    optimizer.lr = 0.5
    net.load_state_dict(start)
    optimizer.load_state_dict(state)  # into the same memory: seen
    assert [program(*batch()) for _ in range(3)] == expected
    assert optimizer.lr == 0.1
    optimizer.load_state_dict(optim.Adam(net.parameters(), amsgrad=True).state_dict())
    with pytest.raises(RuntimeError, match="replaced since it was recorded"):
        program(*batch())


def test_threads_and_copies():
    x = np.ones((64, 64), F32)
    program = fastdl.record(lambda x: fastdl.tanh(fastdl.tanh(fastdl.linear(x, x))), x)
    other = program.copy()
    wanted = program(x)
    failures, results = [], []

    def many(p):
        for _ in range(200):
            try:
                results.append(np.array_equal(p(x), wanted))
            except RuntimeError as error:
                failures.append(str(error))

    threads = [threading.Thread(target=many, args=(p,)) for p in (program, other)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert all(results)
    assert (len(results), failures) == (400, [])
    program._code[0] = 1  # as if another thread were in it
    with pytest.raises(RuntimeError, match="found it running"):
        program(x)
    program._code[0] = 0


def test_no_pickle_and_no_leak():
    program = fastdl.record(fastdl.relu, np.ones(3, F32))
    for attempt in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled"):
            attempt(program)
    gone = weakref.ref(program)
    del program
    gc.collect()
    assert gone() is None


def test_what_recording_made_is_not_kept():
    made = []
    net = mlp()
    optimizer = optim.Adam(net.parameters(), lr=0.1)
    step = training_step(net, optimizer, max_norm=1.0)

    def watched(x, target):
        made.append(weakref.ref(hidden := fastdl.relu(x)))
        value = step(hidden, target)
        made.extend(weakref.ref(grad) for grad in net.grads.values())
        return value

    program = fastdl.record(watched, *batch(), verify=False)
    gc.collect()
    optimizer.step({})  # which keeps the last gradients it was given
    gc.collect()
    assert not [i for i, ref in enumerate(made) if ref() is not None]
    assert len(made) == 4 * 5
    program(*batch())
    program.copy()(*batch())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is of POSIX systems only")
def test_a_forked_child_goes_on():
    program = fastdl.record(fastdl.relu, np.ones(3, F32))
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(program(np.full(3, -1, F32)), np.zeros(3, F32)) else 1)
    assert os.waitpid(child, 0)[1] == 0


# ---- what cannot be recorded ----

X = np.linspace(-1, 1, 12, dtype=F32).reshape(3, 4)
SQUARE = np.eye(4, dtype=F32)
ZEROS = np.zeros((2, 4), F32)
KERNEL = np.ones((2, 3, 3, 3), F32)
SAME = np.ones((3, 3, 3, 3), F32)


def numpy_in_between(x):
    return fastdl.relu(fastdl.relu(x) * 2)


def numpy_in_place(x):
    y = fastdl.relu(x)
    y *= 2
    return fastdl.tanh(y)


def numpy_at_the_end(x):
    y = fastdl.relu(x)
    y += 1
    return y


def numpy_result(x):
    return fastdl.relu(x) * 2


def array_by_hand(x):
    return fastdl.linear(x, np.eye(4, dtype=F32))


def control_flow(x):
    loss = fastdl.mse_loss(x, x)
    return fastdl.relu(x) if float(loss) < 0.1 else fastdl.tanh(x)


def magnitude(x):
    loss = fastdl.mse_loss(x, x)
    return fastdl.relu(x) if abs(float(loss)) > 1 else fastdl.tanh(x)


def a_loop(x):
    while float(fastdl.mse_loss(x, x)) > 1e20:
        return fastdl.relu(x)
    return x


def shape_by_values(x):
    y = fastdl.relu(x)
    return fastdl.relu(y[: 1 + int(y.max() > 1)])


def number_of_results(x):
    return fastdl.leaky_relu(x, float(np.clip(fastdl.mse_loss(x, x), 0, 1)))


def integers_that_steer(x, indices):
    return fastdl.relu(x) if indices[0] == 0 else fastdl.tanh(x)


def integers_that_count(x, indices):
    return fastdl.relu(x[: int(indices[0])])


def random_seed(x):
    return fastdl.dropout(x, 0.5, True, int(np.random.default_rng().integers(2**40)))


def printing(x):
    print("step")
    return fastdl.relu(x)


def raising(x):
    y = fastdl.relu(x)
    if y.max() > 10:
        raise OverflowError("too large")
    return y


def a_number_of_numbers(x):
    return float(fastdl.mse_loss(x, x)) * 2


STATE = {"calls": 0}


def counting(x):
    STATE["calls"] += 1
    return fastdl.leaky_relu(x, 0.01 * STATE["calls"])


def finite_only(x):
    y = fastdl.relu(x)
    return fastdl.tanh(y) if np.isfinite(y).all() else y


def by_position(x):
    y, indices = fastdl.max_pool1d(x[None], 2, return_indices=True)
    return fastdl.relu(y) if int(indices[0, 0, 0]) == 0 else fastdl.tanh(y)


def a_number_read_too_early(x):
    y = fastdl.linear(x[:1], SQUARE[:1])
    value = float(y[0, 0])
    fastdl.relu(y, out=y)
    return value


def set_generator(x, layer=nn.Dropout(0.5, seed=0)):  # noqa: B008
    layer.offset = 5
    return layer(x)


REFUSED = [
    (numpy_in_between, r"x of elementwise \(call 1\).*something else than fastdl made"),
    (numpy_in_place, r"x of elementwise \(call 1\) changed since fastdl wrote it"),
    (numpy_at_the_end, "NumPy changed after fastdl used it"),
    (numpy_result, "result to be an array that NumPy made"),
    (array_by_hand, r"weight of linear \(call 0\).*make it before, or pass it"),
    (control_flow, "control flow depends on values"),
    (magnitude, "control flow depends on values"),
    (a_loop, "control flow depends on values"),
    (shape_by_values, r"size of elementwise \(call 1\) to be"),
    (number_of_results, "raises ValueError|alpha of elementwise"),
    (random_seed, r"seed of dropout \(call 0\).*one that changes from call to call, which has to lie in an array"),
    (printing, "the function prints .'step'"),
    (raising, r"raises OverflowError \(too large\) when values are replaced"),
    (a_number_of_numbers, "result to be .*a number that Python made"),
    (counting, r"alpha of elementwise \(call 0\) to be 0.01 and, in the next run, 0.02"),
    (finite_only, "control flow depends on values"),
    (by_position, "control flow depends on values|to be 1 and"),
    (a_number_read_too_early, "read before its array was written again"),
    (set_generator, "a generator set to 5 inside of the function"),
]


@pytest.mark.parametrize(("function", "message"), REFUSED, ids=[f.__name__ for f, _ in REFUSED])
def test_refused(function, message):
    before = X.copy()
    with pytest.raises(RecordError, match=message):
        fastdl.record(function, X)
    np.testing.assert_array_equal(X, before)
    np.testing.assert_array_equal(fastdl.relu(X), np.maximum(X, 0))  # kernels run again


def integers_that_sum(x, indices):
    return fastdl.leaky_relu(x, 1 / (1 + float(indices.sum())))


@pytest.mark.parametrize("function", [integers_that_steer, integers_that_count, integers_that_sum])
def test_integers_that_python_looks_at(function):
    with pytest.raises(RecordError, match="control flow depends on values"):
        fastdl.record(function, X, np.array([0, 1, 2]), verify=False)


def test_parameters_changed_by_numpy():
    net = mlp()
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    step = training_step(net, optimizer)

    def decayed(x, target):
        value = step(x, target)
        net[0].weight *= 0.9
        return value

    before = net.state_dict()
    with pytest.raises(RecordError, match="NumPy changed"):
        fastdl.record(decayed, *batch())
    assert all(np.array_equal(v, net.state_dict()[k]) for k, v in before.items())


def test_buffers_filled_by_numpy():
    kept = np.zeros((3, 4), F32)

    def function(x):
        kept[...] = x
        return fastdl.relu(kept)

    with pytest.raises(RecordError, match=r"x of elementwise \(call 0\) to hold other numbers"):
        fastdl.record(function, X, verify=False)


def test_one_program_for_each_shape():
    net = mlp()
    step = fastdl.recorded(training_step(net, optim.SGD(net.parameters(), lr=0.1)), limit=2)
    other = mlp()
    plain = training_step(other, optim.SGD(other.parameters(), lr=0.1))
    for rows in (5, 5, 3, 5, 2, 3, 3):
        np.testing.assert_array_equal(step(*batch(rows)), plain(*batch(rows)))
        assert len(step.programs) <= 2
    assert "recorded for 2 of at most 2" in repr(step)
    assert step.program(*batch(3)) is step.program(*batch(3))
    for limit, kind in ((0, ValueError), (1.5, TypeError)):
        with pytest.raises(kind, match="limit: found"):
            fastdl.recorded(fastdl.relu, limit=limit)
    with pytest.raises(TypeError, match="function: found int"):
        fastdl.recorded(3)
    nested = fastdl.recorded(lambda pair: fastdl.relu(pair[0]))
    np.testing.assert_array_equal(nested((X, 1)), fastdl.relu(X))
    assert nested((X, 2)) is not None
    assert len(nested.programs) == 2


def test_a_schedule_inside():
    net = mlp()
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    step = training_step(net, optimizer)
    schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.9)

    def scheduled(x, target):
        value = step(x, target)
        schedule.step()
        return value

    with pytest.raises(RecordError):
        fastdl.record(scheduled, *batch())


def test_cumulative_averages():
    layer = nn.BatchNorm1d(4, momentum=None)
    with pytest.raises(RecordError, match="momentum=None"):
        fastdl.record(layer.forward, X)


def test_not_a_function():
    with pytest.raises(TypeError, match="function: found int, expected a function"):
        fastdl.record(3, X)


def test_memory_is_shared_by_what_does_not_live_at_once():
    def deep(x):
        for _ in range(10):
            x = fastdl.tanh(x)
        return x

    memory = fastdl.record(deep, np.ones(1000, F32)).memory
    assert memory == {"planned": 2 * 4032, "unplanned": 9 * 4032, "prepared": 0}


def test_a_program_in_a_program():
    inner = fastdl.record(fastdl.relu, X)
    outer = fastdl.record(lambda x: fastdl.tanh(inner(x)), X)
    np.testing.assert_array_equal(outer(X), fastdl.tanh(fastdl.relu(X)))


# ---- passes ----


def test_passes_change_no_bit():
    net, loss = nn.Sequential(nn.Linear(4, 16, rng=0), nn.GELU(), nn.Linear(16, 3, rng=1)), nn.CrossEntropyLoss()

    def step(x, target):
        hidden = fastdl.relu(fastdl.linear(x, SQUARE))
        value = loss(net(hidden), target)
        return value, net.backward(loss.backward())

    whole = fastdl.record(step, *batch(), passes=())
    short = fastdl.record(step, *batch())
    assert len(short) < len(whole)
    for i in range(3):
        for a, b in zip(whole(*batch(seed=i)), short(*batch(seed=i)), strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="passes: found 'faster', expected among"):
        fastdl.record(step, *batch(), passes=("faster",))


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "sigmoid"])
@pytest.mark.parametrize("product", ["linear", "conv2d", "conv_transpose2d"])
def test_activations_within_products(product, activation):
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6), dtype=F32)
    weight = np.random.default_rng(1).standard_normal((4, 6) if product == "linear" else (3, 3, 3, 3), dtype=F32)

    def function(x):
        return getattr(fastdl, activation)(getattr(fastdl, product)(x, weight))

    program = fastdl.record(function, x)
    assert len(program) == 1
    np.testing.assert_array_equal(program(x), function(x))


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("shape", [(1, 3, 9, 9), (2, 64, 14, 14), (64, 16, 8, 8), (1, 64, 28, 28)])
def test_residuals_within_convolutions(shape, swapped):
    x = np.random.default_rng(0).standard_normal(shape, dtype=F32)
    weight = np.random.default_rng(1).standard_normal((shape[1], shape[1], 3, 3), dtype=F32)

    def function(x):
        y = fastdl.conv2d(x, weight, padding=1)
        return fastdl.relu(fastdl.add(x, y) if swapped else fastdl.add(y, x))

    program = fastdl.record(function, x)
    assert len(program) == 1
    np.testing.assert_array_equal(program(x), fastdl.record(function, x, passes=())(x))


def test_residuals_that_come_later_are_not_fused():
    def after(x):
        y = fastdl.conv2d(x, SAME, padding=1)
        return fastdl.add(y, fastdl.tanh(x))

    def twice(x):
        y = fastdl.conv2d(x, SAME, padding=1)
        return fastdl.add(y, y)

    def scaled(x):
        return fastdl.add(fastdl.conv2d(x, SAME, padding=1), x, alpha=0.5)

    def in_place(x):
        y = fastdl.conv2d(x, SAME, padding=1)
        return fastdl.add(y, x, out=y)

    x = np.random.default_rng(0).standard_normal((2, 3, 5, 5), dtype=F32)
    for function in (after, twice, scaled, in_place):
        program = fastdl.record(function, x)
        np.testing.assert_array_equal(program(x), function(x))
        assert len(program) >= 2


def test_what_is_used_elsewhere_is_not_fused():
    def twice(x):
        y = fastdl.linear(x, SQUARE)
        return fastdl.relu(y), fastdl.tanh(y)

    def returned(x):
        y = fastdl.linear(x, SQUARE)
        return y, fastdl.relu(y)

    def read_before(x):
        y = fastdl.linear(x, SQUARE)
        z = fastdl.tanh(y)
        return z, fastdl.relu(y, out=y)

    for function in (twice, returned, read_before):
        program = fastdl.record(function, X)
        for a, b in zip(program(X), function(X), strict=True):
            np.testing.assert_array_equal(a, b)
    assert len(fastdl.record(twice, X)) == 3
    assert len(fastdl.record(returned, X)) == 2


def test_numbers_outlive_what_comes_after():
    def function(x):
        loss = float(fastdl.mse_loss(x, X))
        for _ in range(6):
            x = fastdl.tanh(x)
        return loss, x

    program = fastdl.record(function, X)
    other = X * 2
    assert program(other)[0] == function(other)[0]


# ---- over data ----


def epoch_data(rows=50):
    rng = np.random.default_rng(7)
    return rng.standard_normal((rows, 4), dtype=F32), rng.integers(0, 3, rows)


def test_epochs_are_the_steps_that_they_stand_for():
    x, target = epoch_data()
    nets = mlp(0.5), mlp(0.5)
    optimizers = [optim.Adam(net.parameters(), lr=0.01) for net in nets]
    recorded, plain = (training_step(n, o) for n, o in zip(nets, optimizers, strict=True))
    program = fastdl.record(recorded, x[:8], target[:8])
    losses = program.run_epochs(x, target, epochs=3, rng=1)
    order, wanted = np.random.default_rng(1), []
    for _ in range(3):
        for rows in order.permutation(50)[:48].reshape(-1, 8):
            wanted.append(plain(x[rows], target[rows]))
    np.testing.assert_array_equal(losses, np.array(wanted))
    for a, b in zip(nets[0].parameters().values(), nets[1].parameters().values(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_given_order_and_a_callback():
    x, _ = epoch_data()
    program = fastdl.record(lambda x: (fastdl.mse_loss(x, ZEROS), float(3)), x[:2])
    order = np.array([[0, 1], [5, 5], [2, 49]])
    calls = []
    losses = program.run_epochs(x, order=order, every=2, callback=lambda step, part: calls.append((step, len(part))))
    np.testing.assert_array_equal(losses, [program(x[rows])[0] for rows in order])
    assert calls == [(2, 2), (3, 1)]
    stopped = program.run_epochs(x, order=order, every=1, callback=lambda step, part: step == 2)
    assert stopped.shape == (2,)


def test_epochs_refuse_what_does_not_fit():
    x, target = epoch_data()
    net = mlp()
    program = fastdl.record(training_step(net, optim.SGD(net.parameters(), lr=0.1)), x[:8], target[:8])
    before = net.state_dict()
    for arguments, options, kind, message in (
        ((x,), {}, ValueError, "arrays: found 1 arrays, expected 2"),
        ((x, target[:-1]), {}, ValueError, r"arrays: found \[49, 50\] rows"),
        ((x[:, :3], target), {}, ValueError, r"arrays\[0\]: found shape \(50, 3\)"),
        ((x.astype(np.float64), target), {}, TypeError, r"arrays\[0\]: found dtype float64, expected float32"),
        ((x[:4], target[:4]), {}, ValueError, "arrays: found 4 rows, expected at least 8"),
        ((x, target), {"order": np.array([[0] * 8, [50] * 8])}, ValueError, "order: found rows from 0 to 50"),
        (
            (x, target),
            {"order": np.zeros((2, 7), int)},
            ValueError,
            r"order: found shape \(2, 7\), expected",
        ),
        ((x, target), {"order": np.zeros((2, 8))}, TypeError, "order: found dtype float64"),
        ((x, target), {"epochs": -1}, ValueError, "epochs: found -1"),
        ((x, target), {"every": 1.5}, TypeError, "every: found 1.5"),
    ):
        with pytest.raises(kind, match=message):
            program.run_epochs(*arguments, **options)
    assert all(np.array_equal(v, net.state_dict()[k]) for k, v in before.items())
    wrong = target.copy()
    wrong[20] = 9
    with pytest.raises(ValueError, match="target: found a class index outside"):
        program.run_epochs(x, wrong, rng=0)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int16])
def test_integers_of_any_size(dtype):
    x, target = epoch_data(20)
    small = target.astype(dtype)
    nets = mlp(), mlp()
    plain, recorded = (training_step(net, optim.SGD(net.parameters(), lr=0.1)) for net in nets)
    program = fastdl.record(recorded, x[:5], small[:5])
    for i in range(0, 20, 5):
        np.testing.assert_array_equal(program(x[i : i + 5], small[i : i + 5]), plain(x[i : i + 5], small[i : i + 5]))
    np.testing.assert_array_equal(program(x[:5], target[:5]), plain(x[:5], target[:5]))
    order = np.arange(20).reshape(4, 5)
    losses = [plain(x[rows], small[rows]) for rows in order]
    np.testing.assert_array_equal(program.run_epochs(x, small, order=order), losses)
    with pytest.raises(TypeError, match=r"argument\[1\]: found dtype float32"):
        program(x[:5], x[:5, 0])
    with pytest.raises(ValueError, match="target: found a class index"):
        program(x[:5], np.full(5, 9, dtype))


def test_an_argument_that_is_returned_is_itself():
    def both(x, index):
        return fastdl.take(x, index), index

    x, index = np.arange(6.0, dtype=F32), np.array([1, 0], np.int32)
    assert fastdl.record(both, x, index)(x, index)[1] is index


# ---- training steps and inference in one line ----


def test_compile_step():
    x, target = batch()
    nets = mlp(), mlp()
    optimizers = [optim.SGD(net.parameters(), lr=0.1) for net in nets]
    program = nn.compile_step(nets[0], nn.CrossEntropyLoss(), optimizers[0], x, target, max_norm=0.5)
    plain = training_step(nets[1], optimizers[1], max_norm=0.5)
    for i in range(4):
        np.testing.assert_array_equal(program(*batch(seed=i)), plain(*batch(seed=i)))


def test_bind():
    net = nn.Sequential(nn.Linear(4, 8, rng=0), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2, rng=1))
    net(batch()[0])  # statistics
    program = net.bind(batch()[0], freeze=False)
    assert net.training
    assert net[2].training
    wanted = net.eval()(batch(seed=3)[0])
    np.testing.assert_array_equal(program(batch(seed=3)[0]), wanted)
    net[1].running_mean[:] = 1
    np.testing.assert_array_equal(program(batch(seed=3)[0]), net(batch(seed=3)[0]))


def test_what_nobody_takes_is_not_computed():
    def step(x):
        fastdl.tanh(x)
        y = fastdl.relu(x)
        fastdl.add(y, y)
        return fastdl.sigmoid(y)

    x = np.linspace(-1, 1, 9, dtype=F32)
    program = fastdl.record(step, x)
    assert len(program) == 2
    assert len(fastdl.record(step, x, passes=())) == 4
    np.testing.assert_array_equal(program(x), step(x))


@pytest.mark.parametrize("net", ["linear", "conv", "transposed", "norm"])
def test_gradients_that_nobody_takes_are_not_computed(net):
    layer, shape = {
        "linear": (nn.Linear(6, 40, rng=0), (5, 6)),
        "conv": (nn.Conv2d(3, 20, 3, rng=0), (5, 3, 8, 8)),
        "transposed": (nn.ConvTranspose2d(3, 20, 3, rng=0), (5, 3, 8, 8)),
        "norm": (nn.BatchNorm2d(3), (5, 3, 8, 8)),
    }[net]
    x = np.random.default_rng(0).standard_normal(shape).astype(F32)

    def backward(x, names):
        y = layer(x)
        grad_input = layer.backward(fastdl.tanh(y))
        return tuple(grad_input if name == "input" else layer.grads[name] for name in names)

    kinds = ("input", "weight", "bias")
    for names in [(a,) for a in kinds] + [(a, b) for a in kinds for b in kinds if a != b]:
        program = fastdl.record(lambda x, names=names: backward(x, names), x)
        (call,) = [c for c in program._first.run.calls if c.kernel.endswith("_backward")]
        parts = {"input": "grad_x", "weight": "grad_weight", "bias": "grad_bias"}
        written = {use.name for use in call.uses if use.writes} - {"grad_input"}  # which norms always compute
        assert written <= {parts[name] for name in names}
        for found, right in zip(program(x), backward(x, names), strict=True):
            np.testing.assert_array_equal(found, right)


# ---- explained ----


def test_explain():
    x, target = batch()
    net = mlp()
    program = fastdl.record(training_step(net, optim.SGD(net.parameters(), lr=0.1)), x, target)
    before = net.state_dict()
    text = program.explain(time=True)
    assert all(np.array_equal(v, net.state_dict()[k]) for k, v in before.items())
    assert [row.kernel for row in text.rows].count("linear") == 2
    linear = text.rows[0]
    assert (linear.kernel, linear.reads, linear.writes, linear.flops) == ("linear", (5, 4), (5, 16), 2 * 5 * 4 * 16)
    assert linear.traffic == 4 * (20 + 64 + 16 + 80)
    assert all(row.seconds > 0 for row in text.rows)
    assert f"{len(program)} kernels" in str(program)
    step = fastdl.record(lambda x: fastdl.conv2d(x, KERNEL), np.ones((1, 3, 8, 8), F32))
    assert step.explain().rows[0].flops == 2 * 2 * 36 * 27


# ---- inside compiled code ----


def test_inside_njit():
    numba = pytest.importorskip("numba")
    x, target = epoch_data(5)
    nets = mlp(), mlp()
    optimizers = [optim.Adam(net.parameters(), lr=0.01) for net in nets]

    def both(step):
        return lambda x, target: (step(x, target), float(fastdl.mse_loss(x, x)), None)

    recorded, plain = (both(training_step(n, o)) for n, o in zip(nets, optimizers, strict=True))
    program = fastdl.record(recorded, x, target)

    @numba.njit
    def loop(program, x, target, losses):
        number = 0.0
        for i in range(len(losses)):
            loss, number, nothing = program(x, target)
            losses[i] = loss[()]
        return number, nothing

    losses = np.zeros(6)
    assert loop(program, x, target, losses) == (0.0, None)
    np.testing.assert_array_equal(losses, [plain(x, target)[0] for _ in range(6)])
    with pytest.raises(ValueError, match=r"argument\[0\]: found another shape, expected shape \(5, 4\)"):
        loop(program, x[:4], target, losses)
    with pytest.raises(ValueError, match="target: found a class index outside"):
        loop(program, x, target + 5, losses)
    for wrong in (x.astype(np.float64), x.T.copy().T):
        with pytest.raises(numba.TypingError, match=r"argument\[0\]: found array.*with which the program was recorded"):
            loop(program, wrong, target, losses)
    with pytest.raises(numba.TypingError, match="arguments: found 1, expected 2"):
        numba.njit(lambda program, x: program(x))(program, x)
    nets[0][0].weight = nets[0][0].weight.copy()
    with pytest.raises(RuntimeError, match="replaced since it was recorded"):
        loop(program, x, target, losses)


def test_written_arguments_inside_njit():
    numba = pytest.importorskip("numba")

    def function(x, y):
        fastdl.relu(x, out=y)
        return x

    program = fastdl.record(function, np.ones(4, F32), np.ones(4, F32))
    call = numba.njit(lambda program, x, y: program(x, y))
    x, y = np.array([-1, 1, -2, 2], F32), np.zeros(4, F32)
    assert call(program, x, y).ctypes.data == x.ctypes.data
    np.testing.assert_array_equal(y, [0, 1, 0, 2])
    with pytest.raises(ValueError, match=r"argument\[0\]: found memory shared with argument\[1\]"):
        call(program, x, x)
    with pytest.raises(ValueError, match=r"argument\[0\]: found memory shared with argument\[1\]"):
        program(x, x)


def test_nested_programs_are_refused_inside_njit():
    numba = pytest.importorskip("numba")
    program = fastdl.record(lambda pair: fastdl.relu(pair[0]), (X, X))
    with pytest.raises(numba.TypingError, match="program: found nested arguments"):
        numba.njit(lambda program, x: program((x, x)))(program, X)


# ---- what a review found ----


def test_gradients_are_clipped_in_place():
    """The options of the kernel that clips are filled in by Python, in part: they come along."""

    def value(grad):
        fastdl.clip_grad_value_([grad], 0.5)

    def norm(grad):
        return fastdl.clip_grad_norm_([grad], 1.0)

    for function in (value, norm):
        program = fastdl.record(function, np.zeros(3, F32))
        junk = [np.full(64, i, np.int64) for i in range(32)]
        del junk
        for call in (program, program.copy()):
            grad, plain = np.array([1, -2, 0.1], F32), np.array([1, -2, 0.1], F32)
            assert call(grad) == function(plain)
            np.testing.assert_array_equal(grad, plain)


def test_statistics_and_parameters_made_inside_are_refused():
    def function(x):
        mean, var = np.zeros(4, F32), np.ones(4, F32)
        return fastdl.batch_norm(x, mean, var, training=True)

    with pytest.raises(RecordError, match="running_mean of normalize"):
        fastdl.record(function, X)


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_leaves_everything_as_it_was(interrupt):
    net = mlp()
    optimizer = optim.Adam(net.parameters(), lr=0.1)
    step = training_step(net, optimizer)
    before = net.state_dict()

    def interrupted(x, target):
        step(x, target)
        raise interrupt

    with pytest.raises(interrupt):
        fastdl.record(interrupted, *batch())
    assert all(np.array_equal(v, net.state_dict()[k]) for k, v in before.items())
    assert net.grads == {}


def test_arrays_of_the_user_are_written_all_the_same():
    kept = np.zeros((3, 4), F32)

    def function(x):
        fastdl.linear(x, SQUARE, out=kept)
        return fastdl.relu(kept)

    program = fastdl.record(function, X)
    assert not kept.any()
    program(X)
    np.testing.assert_array_equal(kept, fastdl.linear(X, SQUARE))

    def argument(x, out):
        fastdl.linear(x, SQUARE, out=out)
        return fastdl.relu(out)

    out = np.zeros((3, 4), F32)
    fastdl.record(argument, X, out)(X, out)
    np.testing.assert_array_equal(out, fastdl.linear(X, SQUARE))


def test_an_activation_of_a_part_is_not_one_of_the_whole():
    def function(x):
        y = fastdl.linear(x, SQUARE)
        fastdl.relu(y[:1], out=y[:1])
        return y

    program = fastdl.record(function, abs(X))
    np.testing.assert_array_equal(program(-abs(X)), function(-abs(X)))


@pytest.mark.parametrize("change", ["states", "group"])
def test_options_that_need_other_states(change):
    net = mlp()
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    program = fastdl.record(training_step(net, optimizer), *batch())
    if change == "states":
        optimizer.param_groups[0]["momentum"] = 0.9
    else:
        optimizer.add_param_group({"params": [np.ones(2, F32)]})
    for call in (program, program.copy()):
        with pytest.raises(RuntimeError, match="replaced since it was recorded"):
            call(*batch())
    assert program.stale


def test_two_groups_are_clipped_together():
    def make():
        net = mlp()
        layers = [{"params": net[0].parameters()}, {"params": {f"2.{k}": v for k, v in net[2].parameters().items()}}]
        layers[0]["params"] = {f"0.{k}": v for k, v in layers[0]["params"].items()}
        return net, training_step(net, optim.SGD(layers, lr=0.1), max_norm=0.1)

    (one, recorded), (two, plain) = make(), make()
    program = fastdl.record(recorded, *batch())
    for i in range(3):
        np.testing.assert_array_equal(program(*batch(seed=i)), plain(*batch(seed=i)))
    np.testing.assert_array_equal(one[2].weight, two[2].weight)


def test_empty_arrays():
    for shape in ((0, 4), (3, 0)):
        x = np.zeros(shape, F32)
        np.testing.assert_array_equal(fastdl.record(fastdl.relu, x)(x), x)
    net = nn.Sequential(nn.Linear(4, 3, rng=0), nn.ReLU())
    assert net.bind(np.zeros((0, 4), F32))(np.zeros((0, 4), F32)).shape == (0, 3)


def test_parts_of_arguments_and_of_intermediates():
    def joined(x):
        return fastdl.cat([x[2:], x[:2]])

    def in_parts(x):
        whole = np.empty((6, 4), F32)
        fastdl.relu(x, out=whole[:3])
        fastdl.tanh(x, out=whole[3:])
        return fastdl.linear(whole, SQUARE)

    for function in (joined, in_parts):
        np.testing.assert_array_equal(fastdl.record(function, X)(X), function(X))


def test_arguments_that_no_kernel_takes():
    def function(x, unused):
        return fastdl.relu(x), unused, unused[1:], unused.T

    program = fastdl.record(function, X, X)
    other = X + 1
    for a, b in zip(program(X, other), function(X, other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_recorded_records_again_what_is_stale():
    layer = nn.Linear(4, 2, rng=0)
    infer = fastdl.recorded(layer)
    infer(X)
    layer.weight = 2 * layer.weight
    np.testing.assert_array_equal(infer(X), layer(X))
    layer.bias = None
    np.testing.assert_array_equal(infer(X), layer(X))
    nested = fastdl.recorded(lambda x, more: fastdl.relu(x) if more == [] else fastdl.tanh(x))
    np.testing.assert_array_equal(nested(X, []), fastdl.relu(X))
    np.testing.assert_array_equal(nested(X, {}), fastdl.tanh(X))


def test_modes_are_put_back():
    net = nn.Sequential(nn.Linear(4, 2, rng=0), nn.Dropout(0.5))
    program = fastdl.record(lambda x: net.eval()(x), X)
    assert [net.training, net[1].training] == [True, True]
    np.testing.assert_array_equal(program(X), net[0](X))


def test_others_may_print_meanwhile(capsys):
    def function(x):
        thread = threading.Thread(target=print, args=("from another thread",))
        thread.start()
        thread.join()
        return fastdl.relu(x)

    fastdl.record(function, X)
    assert "from another thread" in capsys.readouterr().out


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is of POSIX systems only")
def test_a_child_of_a_fork_in_the_middle():
    program = fastdl.record(fastdl.relu, X)
    program._code[0] = 1  # as if another thread were in it
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(program(-abs(X)), np.zeros_like(X)) else 1)
    assert os.waitpid(child, 0)[1] == 0
    program._code[0] = 0
