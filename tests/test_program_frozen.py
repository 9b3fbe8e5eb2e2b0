"""Frozen programs: parameters become part of them, and what changes parameters later is seen or refused."""

import gc
import pickle
import threading

import numpy as np
import pytest

import fastdl
from fastdl import nn, optim
from fastdl.program import RecordError

F32, F64 = np.float32, np.float64


def settled(net, shape, dtype=F32):
    """With running statistics of its own, in eval mode."""
    net.to(dtype)
    rng = np.random.default_rng(0)
    for _ in range(3):
        net(rng.standard_normal(shape).astype(dtype) + 0.5)
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) and module.affine:
            module.weight[:], module.bias[:] = rng.uniform(0.5, 2, (2, module.num_features))
    return net.eval()


def convolutional(**options):
    return nn.Sequential(
        nn.Conv2d(3, 40, 3, padding=1, rng=0),
        nn.BatchNorm2d(40),
        nn.ReLU(),
        nn.Conv2d(40, 64, 3, bias=False, rng=1, **options),
        nn.BatchNorm2d(64, affine=False),
        nn.Flatten(),
        nn.Linear(64 * 36, 30, rng=2),
        nn.BatchNorm1d(30),
        nn.Tanh(),
        nn.Linear(30, 10, rng=3),
    )


def kernels(program):
    return [row.kernel for row in program.explain().rows]


def near(found, wanted, roundings=1000):
    scale = roundings * np.finfo(wanted.dtype).eps * np.abs(wanted).max()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=scale)


@pytest.mark.parametrize("dtype", [F32, F64])
def test_batch_norms_become_part_of_products(dtype, level):
    shape = (4, 3, 8, 8)
    net = settled(convolutional(), shape, dtype)
    x = np.random.default_rng(1).standard_normal(shape).astype(dtype)
    program = net.bind(x)
    assert kernels(program) == ["conv", "conv", "linear", "linear"]
    near(program(x), net(x))
    assert program.frozen
    assert not net.bind(x, freeze=False).frozen


@pytest.mark.parametrize("kind", ["1d", "3d", "last", "groups", "depthwise", "one"])
def test_every_convolution(kind):
    rng = np.random.default_rng(0)
    options = {
        "1d": (nn.Conv1d(8, 32, 3, rng=0), (2, 8, 20)),
        "3d": (nn.Conv3d(4, 16, 3, rng=0), (2, 4, 6, 7, 8)),
        "last": (nn.Conv2d(8, 32, 3, data_format="NHWC", rng=0), (2, 9, 9, 8)),
        "groups": (nn.Conv2d(8, 32, 3, groups=2, rng=0), (2, 8, 9, 9)),
        "depthwise": (nn.Conv2d(8, 8, 3, groups=8, rng=0), (2, 8, 9, 9)),
        "one": (nn.Conv2d(64, 32, 1, rng=0), (2, 64, 7, 7)),
    }
    net, shape = options[kind]
    x = rng.standard_normal(shape).astype(F32)
    near(net.bind(x)(x), net.eval()(x))


def test_what_is_not_a_norm_of_a_product_stays():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 6)).astype(F32)
    linear, norm = nn.Linear(6, 32, rng=0), nn.BatchNorm1d(32)
    settled(nn.Sequential(linear, norm), (9, 6))

    def twice(x):
        y = linear(x)
        return norm(y), y  # also what the norm is taken of

    def by_input(x, mean):
        return fastdl.batch_norm(linear(x), mean, norm.running_var)

    def of_batch(x):
        return fastdl.batch_norm(linear(x), training=True)

    for function, arguments in ((twice, (x,)), (by_input, (x, norm.running_mean.copy())), (of_batch, (x,))):
        program = fastdl.record(function, *arguments, freeze=True)
        assert kernels(program) == ["linear", "normalize"]
        found, wanted = program(*arguments), function(*arguments)
        for a, b in zip(found, wanted, strict=True) if isinstance(wanted, tuple) else ((found, wanted),):
            near(a, b)


def test_residual_after_a_norm():
    conv, norm = nn.Conv2d(16, 16, 3, padding=1, rng=0), nn.BatchNorm2d(16)
    settled(nn.Sequential(conv, norm), (2, 16, 8, 8))
    x = np.random.default_rng(0).standard_normal((2, 16, 8, 8)).astype(F32)

    def block(x):
        return fastdl.relu(fastdl.add(norm(conv(x)), x))

    program = fastdl.record(block, x, freeze=True)
    assert kernels(program) == ["conv"]
    near(program(x), block(x))


@pytest.mark.parametrize("passes", [(), ("norms",), ("weights",), ("activations",)])
def test_each_pass_alone(passes):
    shape = (4, 3, 8, 8)
    net = settled(convolutional(), shape)
    x = np.random.default_rng(1).standard_normal(shape).astype(F32)
    program = fastdl.record(net, x, freeze=True, passes=passes)
    assert program.frozen == bool({"norms", "weights"} & {*passes})
    near(program(x), net(x))


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
@pytest.mark.parametrize("batch", [1, 3])
def test_cells_with_packed_weights(kind, batch, level):
    cell, rng = kind(5, 20, rng=0), np.random.default_rng(0)
    x, *state = (rng.standard_normal((batch, n)).astype(F32) for n in (5, 20, 20))
    state = tuple(state) if kind is nn.LSTMCell else state[0]

    def step(x, state):
        return cell(x, state)

    program = fastdl.record(step, x, state, freeze=True)
    assert kernels(program) == ["recurrent_step"]
    for found, wanted in zip(np.atleast_2d(program(x, state)), np.atleast_2d(step(x, state)), strict=True):
        near(found, wanted)


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
@pytest.mark.parametrize(("inputs", "hidden"), [(5, 20), (1, 1), (17, 33), (3, 64)])
def test_another_level_packs_again(kind, inputs, hidden):
    """Whatever level it was recorded on, for levels pad to vectors of their own."""
    cell, x, before = kind(inputs, hidden, rng=0), np.ones((1, inputs), F32), fastdl.active_isa()
    try:
        for recorded in fastdl.supported_isas():
            fastdl.use_isa(recorded)
            program = cell.bind()
            for name in fastdl.supported_isas():
                fastdl.use_isa(name)
                program.reset()
                wanted = cell(x)
                near(program(x), wanted[0] if kind is nn.LSTMCell else wanted)
    finally:
        fastdl.use_isa(before)


@pytest.mark.parametrize("dtype", [F32, F64])
def test_another_level_packs_a_network_again(dtype):
    shape = (3, 3, 8, 8)
    net = settled(convolutional(), shape, dtype)
    x, before = np.random.default_rng(0).standard_normal(shape).astype(dtype), fastdl.active_isa()
    wanted = net(x)
    try:
        for recorded in fastdl.supported_isas():
            fastdl.use_isa(recorded)
            program = net.bind(x)
            for name in fastdl.supported_isas():
                fastdl.use_isa(name)
                near(program(x), wanted)
    finally:
        fastdl.use_isa(before)


def test_what_is_computed_from_parameters_is_computed_once():
    net, norm, x = nn.Linear(4, 40, rng=0), nn.BatchNorm1d(40), np.ones((3, 4), F32)
    settled(nn.Sequential(net, norm), (9, 4))

    def by_hand(x):
        weight, bias = fastdl.fuse_conv_bn_weights(net.weight, net.bias, norm.running_mean, norm.running_var)
        return fastdl.linear(x, fastdl.tanh(weight), fastdl.dropout(bias, 0.5, seed=3))

    def random(x):
        return fastdl.linear(x, nn_dropout(net.weight))

    program = fastdl.record(by_hand, x, freeze=True)
    assert kernels(program) == ["linear"]
    near(program(x), by_hand(x))
    nn_dropout = nn.Dropout(0.5, seed=0)
    program = fastdl.record(random, x, freeze=True)
    assert kernels(program) == ["dropout", "linear"]
    assert not np.array_equal(program(x), program(x))


def test_what_trains_them_is_seen():
    shape = (4, 3, 8, 8)
    net = settled(convolutional(), shape)
    rng = np.random.default_rng(1)
    x, target = rng.standard_normal(shape).astype(F32), np.arange(4)
    loss, program = nn.CrossEntropyLoss(), net.bind(x)
    optimizer = optim.Adam(net.parameters(), lr=0.01)

    def step(x, target):
        value = loss(net(x), target)
        net.backward(loss.backward(), input_grad=False)
        optimizer.step(net.grads)
        return value

    def check():
        net.eval()
        near(program(x), net(x))
        net.train()

    check()
    step(x, target)
    check()
    trainer = nn.compile_step(net, loss, optimizer, x, target)
    check()
    for _ in range(3):
        before = program(x)
        trainer(x, target)
        assert not np.array_equal(before, program(x))
        check()
    trainer.run_epochs(np.concatenate([x, x]), np.concatenate([target, target]), rng=0)
    check()
    bound = optimizer.bind(net.grads)
    bound()
    check()
    net(x)  # running statistics alone
    check()
    state = {name: np.asarray(0.9 * value, value.dtype) for name, value in net.state_dict().items()}
    net.load_state_dict(state)
    check()
    trainer.explain(time=True)  # which changes parameters, and puts them back
    check()


def test_a_program_that_was_there_before_is_seen():
    net, x, target = nn.Linear(4, 40, rng=0), np.ones((3, 4), F32), np.arange(3)
    trainer = nn.compile_step(net, nn.CrossEntropyLoss(), optim.SGD(net.parameters(), lr=1.0), x, target)
    program = net.bind(x)
    for _ in range(3):
        trainer(x, target)
        near(program(x), net(x))


def test_inside_njit():
    numba = pytest.importorskip("numba")
    net, x, target = nn.Linear(4, 40, rng=0), np.ones((3, 4), F32), np.arange(3)
    program = net.bind(x)
    trainer = nn.compile_step(net, nn.CrossEntropyLoss(), optim.SGD(net.parameters(), lr=1.0), x, target)

    @numba.njit
    def run(program, trainer, x, target):
        for _ in range(5):
            trainer(x, target)
        return program(x)

    near(run(program, trainer, x, target), net(x))


def test_parameters_are_read_only_meanwhile():
    net = nn.Sequential(nn.Linear(4, 40, rng=0), nn.BatchNorm1d(40))
    x = np.ones((3, 4), F32)
    program, other = net.bind(x), net.bind(x)
    kept = program.copy()
    arrays = net[0].weight, net[1].running_mean
    del program, other
    gc.collect()
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(ValueError, match=r"param: found .* not C-contiguous and writable"):
        fastdl.sgd_step(net[0].weight, np.zeros_like(net[0].weight), lr=0.1)
    assert net(x).shape == (3, 40)
    assert not net[1].running_mean.flags.writeable
    del kept
    gc.collect()
    for array in arrays:
        array[0] = 1


def test_views_of_one_array():
    flat = np.random.default_rng(0).standard_normal(4 * 40 + 40).astype(F32)
    weight, bias, x = flat[:160].reshape(40, 4), flat[160:], np.ones((3, 4), F32)
    program = fastdl.record(lambda x: fastdl.linear(x, weight, bias), x, freeze=True)
    with pytest.raises(ValueError, match="read-only"):
        weight[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        flat[0] = 1
    optimizer = optim.SGD([flat], lr=1.0)
    optimizer.step([np.ones_like(flat)])
    near(program(x), fastdl.linear(x, weight, bias))
    other = optim.SGD([weight, bias], lr=1.0)
    other.step([np.ones_like(weight), np.ones_like(bias)])
    near(program(x), fastdl.linear(x, weight, bias))


def test_a_replaced_parameter_is_an_error():
    net, x = nn.Linear(4, 40, rng=0), np.ones((3, 4), F32)
    program = net.bind(x)
    net.weight = np.zeros((40, 4), F32)
    with pytest.raises(RuntimeError, match="record"):
        program(x)


def test_weights_that_the_program_itself_changes():
    net, x = nn.Linear(4, 40, rng=0), np.ones((3, 4), F32)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    grads = {"weight": np.ones((40, 4), F32), "bias": np.ones(40, F32)}

    def step(x):
        y = net(x)
        optimizer.step(grads)
        return y

    program = fastdl.record(step, x, freeze=True)
    assert not program.frozen
    before = net(x)
    np.testing.assert_array_equal(program(x), before)
    assert not np.array_equal(program(x), before)


def test_copies_in_threads():
    net = nn.Sequential(nn.Linear(64, 64, rng=0), nn.ReLU(), nn.Linear(64, 64, rng=1)).eval()
    x = np.random.default_rng(0).standard_normal((8, 64)).astype(F32)
    program, wanted, wrong = net.bind(x), net(x), []

    def work(own):
        for _ in range(200):
            if not np.allclose(own(x), wanted, atol=1e-5):
                wrong.append(1)

    threads = [threading.Thread(target=work, args=(program.copy(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_difference_is_found():
    """The comparison of a frozen program with its function can fail."""
    net, x, history = nn.Linear(4, 40, rng=0), np.ones((3, 4), F32), []

    def grows(x):
        history.append(1)
        state = np.full(3, 1.0 + len(history) // 6, F32)
        return net(x), state

    with pytest.raises(RecordError):
        fastdl.record(grows, x, freeze=True)
    with pytest.raises(TypeError, match="freeze: found 1"):
        fastdl.record(net, x, freeze=1)


def test_empty():
    net = nn.Linear(4, 40, rng=0)
    assert net.bind(np.zeros((0, 4), F32))(np.zeros((0, 4), F32)).shape == (0, 40)


# ---- found by trying to break it ----


def test_what_a_failed_program_wrote_is_seen():
    net, loss = nn.Linear(4, 40, rng=0), nn.CrossEntropyLoss()
    optimizer, x = optim.SGD(net.parameters(), lr=1.0), np.ones((3, 4), F32)
    grads = {"weight": np.ones((40, 4), F32), "bias": np.ones(40, F32)}

    def step(x, target):
        optimizer.step(grads)
        return loss(net(x), target)

    trainer, program = fastdl.record(step, x, np.arange(3)), net.bind(x)
    program(x)
    with pytest.raises(ValueError, match="target"):
        trainer(x, np.array([0, 1, 99]))
    near(program(x), net(x))


def test_a_recorded_step_of_views_alone():
    flat, x = np.ones(200, F32), np.ones((3, 4), F32)
    weight = flat[40:].reshape(40, 4)
    program = fastdl.record(lambda x: fastdl.linear(x, weight), x, freeze=True)
    optimizer = optim.SGD([weight], lr=1.0)
    trainer = fastdl.record(lambda grad: optimizer.step([grad]), np.ones_like(weight))
    program(x)
    trainer(np.ones_like(weight))
    near(program(x), fastdl.linear(x, weight))


def test_memory_that_others_know_is_not_frozen():
    memory, x = bytearray(800), np.ones((3, 4), F32)
    flat, weight = np.frombuffer(memory, F32), np.frombuffer(memory, F32, 160, 160).reshape(40, 4)
    program = fastdl.record(lambda x: fastdl.linear(x, weight), x, freeze=True)
    assert not program.frozen
    flat[:] = 5
    np.testing.assert_array_equal(program(x), fastdl.linear(x, weight))
    net = nn.Linear(4, 40, rng=0)
    net.weight = np.from_dlpack(net.weight.copy())
    program = net.bind(x)
    optim.SGD(net.parameters(), lr=1.0).step([np.ones((40, 4), F32), np.ones(40, F32)])
    near(program(x), net(x))


def test_a_parameter_that_is_replaced_is_known_by_its_address():
    layer, x = nn.Linear(4, 40, rng=0), np.ones((3, 4), F32)
    program = fastdl.record(lambda x: fastdl.linear(x, layer.weight), x, freeze=True)
    layer.weight = np.zeros((40, 4), F32)
    assert program.stale


@pytest.mark.parametrize("passes", [("weights", "norms"), ("norms", "norms", "weights"), ("norms", "weights", "norms")])
def test_passes_in_any_order(passes):
    net = settled(nn.Sequential(nn.Linear(4, 40, rng=0), nn.BatchNorm1d(40), nn.BatchNorm1d(40)), (9, 4))
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(F32)
    near(fastdl.record(net, x, freeze=True, passes=passes)(x), net(x))


def test_locks_of_views_and_owners_go_with_their_programs():
    flat, x = np.ones(320, F32), np.ones((3, 4), F32)
    one, other = flat[:160].reshape(40, 4), flat[160:].reshape(40, 4)
    programs = [fastdl.record(lambda x, w=w: fastdl.linear(x, w), x, freeze=True) for w in (one, other)]
    del programs[0]
    gc.collect()
    assert not other.flags.writeable
    programs.clear()
    gc.collect()
    assert flat.flags.writeable
    assert one.flags.writeable
    assert other.flags.writeable
    net = nn.Linear(4, 40, rng=0)
    program = net.bind(x)
    net.weight = net.weight.reshape(40, 4)  # made while its owner is read-only
    optim.SGD(net.parameters(), lr=0.1).step([np.ones((40, 4), F32), np.ones(40, F32)])
    second = net.bind(x)
    del program, second
    gc.collect()
    net.weight[:] = 0


def test_programs_come_and_go_while_another_thread_trains():
    net = nn.Linear(64, 64, rng=0)
    program, errors, stop = net.bind(np.ones((3, 64), F32)), [], []
    grads = {name: np.ones_like(value) for name, value in net.parameters().items()}
    optimizer = optim.SGD(net.parameters(), lr=1e-4)

    def train():
        while not stop:
            try:
                optimizer.step(grads)
            except ValueError as error:
                errors.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    for _ in range(1000):
        program.copy()
    del program
    gc.collect()
    stop.append(1)
    thread.join()
    gc.collect()
    assert not errors
    assert net.weight.flags.writeable


def test_inside_another_recorded_function():
    net = settled(nn.Sequential(nn.Linear(4, 40, rng=0), nn.BatchNorm1d(40)), (9, 4))
    x = np.ones((3, 4), F32)
    infer = net.bind(x)
    program = fastdl.record(lambda x: fastdl.relu(infer(x)), x)
    near(program(x), fastdl.relu(net(x)))
    lazy = fastdl.recorded(net, freeze=True)
    lazy(x)
    near(fastdl.record(lambda x: fastdl.relu(lazy(x)), x)(x), fastdl.relu(net(x)))


def test_a_result_and_a_view_of_it():
    def both(x):
        y = fastdl.relu(x)
        return y, y.reshape(-1)

    x = np.linspace(-1, 1, 12, dtype=F32).reshape(3, 4)
    y, flat = fastdl.record(both, x)(x)
    np.testing.assert_array_equal(y, fastdl.relu(x))
    np.testing.assert_array_equal(flat, y.ravel())


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_are_not_read_only(protocol):
    net, x = nn.Linear(4, 40, rng=0), np.ones((3, 4), F32)
    program = net.bind(x)
    again = pickle.loads(pickle.dumps(net, protocol))
    again.weight[:] = 0
    assert program.frozen


def test_results_that_are_zero():
    net = settled(nn.Sequential(nn.Linear(4, 40, rng=0), nn.BatchNorm1d(40)), (9, 4))
    x = np.ones((3, 4), F32)
    wanted = net(x)
    assert fastdl.record(lambda x: fastdl.mse_loss(net(x), wanted), x, freeze=True)(x) < 1e-9


def test_running_statistics_of_instances():
    net = nn.Sequential(nn.Conv2d(3, 20, 3, rng=0), nn.InstanceNorm2d(20, track_running_stats=True))
    x = np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(F32)
    net(x)
    program = net.bind(x)
    assert kernels(program) == ["conv"]
    near(program(x), net.eval()(x))


def test_a_weight_that_is_used_often_is_packed_once():
    net, x = nn.Linear(64, 64, rng=0), np.ones((3, 64), F32)

    def often(x):
        for _ in range(5):
            x = net(x)
        return x

    program = fastdl.record(often, x, freeze=True)
    assert program.memory["prepared"] < 2 * net.weight.nbytes
    near(program(x), often(x))


def test_no_convolution_gets_slower_by_another_algorithm():
    """Kernels as large as the image are one product, which packed weights are not for."""
    conv = nn.Conv2d(96, 8, 3, rng=0)
    x = np.ones((2, 96, 3, 3), F32)
    program = conv.bind(x)
    assert not program.frozen
    near(program(x), conv(x))
