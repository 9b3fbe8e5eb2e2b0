"""The command line, as a user runs it."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl import nn
from fastdl.examples import MissingExtra, gan, requires, sequence


def _run(*arguments: str, cwd: Path, module: str = "fastdl") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def _png_size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG whose every chunk has the right checksum."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    position, kinds = 8, []
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        chunk = data[position + 4 : position + 8 + length]
        assert zlib.crc32(chunk) == struct.unpack(">I", data[position + 8 + length : position + 12 + length])[0]
        kinds.append(chunk[:4])
        position += 12 + length
    assert (kinds[0], kinds[-1]) == (b"IHDR", b"IEND")
    return struct.unpack(">II", data[16:24])


def _check_speeds_and_figure(report: str, figure: Path) -> None:
    """The end of what every example tells, on one thread, and shows."""
    speeds = re.search(r"\(threads: 1\): fastdl ([\d,]+) \| NumPy ([\d,]+), fastdl is ([\d.]+)x", report).groups()
    own, numpy, ratio = (float(value.replace(",", "")) for value in speeds)
    assert ratio == pytest.approx(own / numpy, abs=0.06)
    plain, gain = re.search(r"not recorded ([\d,]+): a program is ([\d.]+)x", report).groups()
    assert float(gain) == pytest.approx(own / float(plain.replace(",", "")), abs=0.02)
    width, height = _png_size(figure)
    assert width > 1000
    assert height > 500


@pytest.mark.parametrize("module", ["fastdl", "fastdl.examples.digits"])
def test_train_digits(module: str, tmp_path: Path) -> None:
    pytest.importorskip("sklearn"), pytest.importorskip("matplotlib"), pytest.importorskip("rich")
    arguments = ["--epochs", "6", "--threads", "1", "--seed", "3", "--output", "figure.png"]
    command = ["train", "digits", *arguments] if module == "fastdl" else arguments
    done = _run(*command, cwd=tmp_path, module=module)
    assert done.returncode == 0, done.stderr
    accuracy, correct, count = re.search(r"test accuracy ([\d.]+)% \((\d+) of (\d+)", done.stdout).groups()
    assert int(count) == 360
    assert float(accuracy) == pytest.approx(100 * int(correct) / int(count), abs=0.005)
    assert float(accuracy) >= 96
    _check_speeds_and_figure(done.stdout, tmp_path / "figure.png")


def test_train_digits_goes_on_with_the_same_options_only(tmp_path: Path) -> None:
    pytest.importorskip("sklearn"), pytest.importorskip("matplotlib"), pytest.importorskip("rich")
    command = ["train", "digits", "--batch-size", "500", "--checkpoint", "run", "--epochs"]
    assert _run(*command, "1", cwd=tmp_path).returncode == 0
    done = _run(*command, "2", cwd=tmp_path)  # whose learning rate would have been 0
    assert "--checkpoint: found a training of 3 steps, expected 6" in done.stderr
    assert _run(*command, "1", cwd=tmp_path).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_train_digits_reaches_its_accuracy(seed: int, tmp_path: Path) -> None:
    pytest.importorskip("sklearn"), pytest.importorskip("matplotlib"), pytest.importorskip("rich")
    done = _run("train", "digits", "--seed", str(seed), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert float(re.search(r"test accuracy ([\d.]+)% \(", done.stdout)[1]) >= 98.5


def _check_gan(report: str, epochs: int, folder: Path) -> tuple[float, list[float]]:
    """How many times the distance fell, and the shares of classes; the files are there."""
    numbers = re.search(
        r"digits: ([\d.]+) after the first epoch, ([\d.]+) after the last, ([\d.]+) times", report
    ).groups()
    first, last, ratio = map(float, numbers)
    assert abs(ratio - first / last) <= 0.05 + 0.1 / last * ratio  # all three are rounded to a decimal
    shares = [float(share) for share in re.findall(r"\d ([\d.]+)%", report.split("classes drawn: ")[1].split("\n")[0])]
    assert len(shares) == 10
    assert sum(shares) == pytest.approx(100, abs=0.6)
    sizes = {_png_size(folder / f"epoch-{epoch:03}.png") for epoch in range(1, epochs + 1)}
    assert len(sizes) == 1
    width, height, frames = _gif_size(folder / "gan.gif")
    assert frames == epochs
    assert width > 400
    assert height > 200
    assert _png_size(folder / "interpolation.png") == (12 * 60, 8 * 60)
    assert _png_size(folder / "curves.png")[0] > 1000
    names = {path.name for path in folder.iterdir()} - {"gan.gif", "interpolation.png", "curves.png"}
    assert names == {f"epoch-{epoch:03}.png" for epoch in range(1, epochs + 1)}
    return ratio, shares


def test_train_gan(tmp_path: Path) -> None:
    pytest.importorskip("sklearn"), pytest.importorskip("matplotlib"), pytest.importorskip("rich")
    done = _run("train", "gan", "--epochs", "5", "--threads", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ratio, _ = _check_gan(done.stdout, 5, tmp_path / "gan")
    assert ratio > 2.5


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_train_gan_draws_every_digit(seed: int, tmp_path: Path) -> None:
    pytest.importorskip("sklearn"), pytest.importorskip("matplotlib"), pytest.importorskip("rich")
    done = _run("train", "gan", "--seed", str(seed), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ratio, shares = _check_gan(done.stdout, 40, tmp_path / "gan")
    assert ratio > 5
    assert min(shares) > 3


def test_frechet_distance_is_that_of_its_definition() -> None:
    linalg = pytest.importorskip("scipy.linalg")
    rng = np.random.default_rng(0)
    one, other = rng.standard_normal((300, 6)), rng.standard_normal((300, 6)) @ rng.standard_normal((6, 6)) + 1
    moments = [(a.mean(0), np.cov(a, rowvar=False)) for a in (one, other)]
    (m1, c1), (m2, c2) = moments
    expected = ((m1 - m2) ** 2).sum() + np.trace(c1 + c2 - 2 * linalg.sqrtm(c1 @ c2).real)
    assert gan.frechet(m1, c1, m2, c2) == pytest.approx(expected, rel=1e-9)
    assert gan.frechet(m1, c1, m1, c1) == pytest.approx(0, abs=1e-9)
    flat = c1 * np.outer([1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0])  # of rank 3, where a root of a product may be complex
    assert gan.frechet(m1, flat, m1, flat) == pytest.approx(0, abs=1e-9)


def test_train_sequence(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib"), pytest.importorskip("rich"), pytest.importorskip("threadpoolctl")
    arguments = ["--epochs", "4", "--characters", "60000", "--hidden", "64", "--seed", "3"]
    arguments += ["--threads", "1", "--output", "figure.png"]
    done = _run(*arguments, cwd=tmp_path, module="fastdl.examples.sequence")
    assert done.returncode == 0, done.stderr
    counted = dict(re.findall(r"^  (\w+) +([\d.]+)   counted", done.stdout, re.MULTILINE))
    assert float(counted["unigrams"]) > float(counted["bigrams"])
    learned = re.findall(r"^  (\w+) +([\d.]+)   ([\d.]+) after the first epoch", done.stdout, re.MULTILINE)
    assert [name for name, *_ in learned] == ["LSTM", "GRU", "RNN"]
    for _, last, first in learned:
        assert float(last) < float(first)
        assert float(last) < float(counted["bigrams"])
    text = sequence.load(60_000)
    assert f"text: {len(text.train):,} characters to train on, {len(text.test):,} held out" in done.stdout
    written = re.search(r"\nLSTM writes:\n(.*)\n\nGRU writes:\n(.*)\n\nperplexities", done.stdout, re.DOTALL).groups()
    for sample in written:
        assert sample.startswith(sequence.PROMPT)
        assert len(sample) == len(sequence.PROMPT) + 400
        assert set(sample) <= set(text.alphabet)
    _check_speeds_and_figure(done.stdout, tmp_path / "figure.png")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_train_sequence_reaches_its_perplexity(seed: int, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib"), pytest.importorskip("rich"), pytest.importorskip("threadpoolctl")
    done = _run("train", "sequence", "--seed", str(seed), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    learned = re.findall(r"^  (\w+) +([\d.]+)   [\d.]+ after the first epoch", done.stdout, re.MULTILINE)
    perplexity = {name: float(value) for name, value in learned}
    assert max(perplexity["LSTM"], perplexity["GRU"]) < 4.9 < perplexity["RNN"] < 6
    left = dict(re.findall(r"(LSTM|GRU|RNN) ([\d.]+e[-+]\d+)", done.stdout))
    assert 10 * float(left["RNN"]) < min(float(left["LSTM"]), float(left["GRU"]))


def test_nothing_held_out_was_trained_on() -> None:
    text = sequence.load()
    train, test = ("".join(text.alphabet[i] for i in part) for part in (text.train, text.test))
    held_out = test.split("\n\n")[1:]  # the first may be the end of the last one to train on
    assert len(held_out) > 100
    assert not set(held_out) & set(train.split("\n\n"))
    assert len(text.test) == pytest.approx((len(text.train) + len(text.test)) / 10, abs=1)
    assert (train + test).startswith(sequence.PROMPT)
    assert "|" not in text.alphabet
    assert " " * 8 not in train + test


def test_a_part_of_the_text_is_its_beginning() -> None:
    whole, part = sequence.load(), sequence.load(5_000)
    decoded = ["".join(text.alphabet[i] for i in np.concatenate(text[1:])) for text in (whole, part)]
    assert decoded[1] == decoded[0][:5_000]


def test_ngrams_against_counting_one_by_one() -> None:
    train, test = "abracadabra abracadabra", "abbacada"
    alphabet = "".join(sorted(set(train)))
    text = sequence.Text(alphabet, *(np.array([alphabet.index(c) for c in part]) for part in (train, test)))
    single = {c: (train.count(c) + 1) / (len(train) + len(alphabet)) for c in alphabet}
    pairs = list(pairwise(train))
    unigrams = bigrams = 1.0
    for before, now in pairwise(test):
        unigrams *= single[now]
        follow = sum(first == before for first, _ in pairs)
        bigrams *= (pairs.count((before, now)) + 5 * single[now]) / (follow + 5)
    power = -1 / (len(test) - 1)
    assert sequence.ngrams(text) == pytest.approx({"unigrams": unigrams**power, "bigrams": bigrams**power})


def test_vanishing_is_the_gradient_in_each_state() -> None:
    text, batch = sequence.load(20_000), 3
    model = sequence.Model("RNN", len(text.alphabet), 8, 0)
    norms = sequence.vanishing(model, text, batch)
    assert norms.shape == (sequence.LOOK_BACK,)
    assert norms[0] < 1e-3 * norms[-1]
    # By the chain rule, from the last step: dh_(t - 1) = (dh_t (1 - h_t^2)) R.
    columns = text.test[: (len(text.test) - 1) // batch * batch].reshape(batch, -1)
    x = np.eye(len(text.alphabet), dtype=np.float32)[columns[:, : sequence.LOOK_BACK].T]
    h, _ = model.recurrent(x)
    loss = nn.CrossEntropyLoss()
    loss(model.head(h[-1]), columns[:, sequence.LOOK_BACK])
    grad, expected = model.head.backward(loss.backward()).astype(np.float64), []  # it vanishes
    for state in h[::-1]:
        expected.append(np.linalg.norm(grad))
        grad = grad * (1 - state**2) @ model.recurrent.weight_hh_l0
    np.testing.assert_allclose(norms, expected[::-1], rtol=1e-3)


def _gif_size(path: Path) -> tuple[int, int, int]:
    """Width, height and number of pictures."""
    image = pytest.importorskip("PIL.Image", reason="Pillow reads the animation").open(path)
    return *image.size, image.n_frames


def _train_by_trial(name: str, *arguments: str, cwd: Path) -> str:
    """What an example of reinforcement learning tells, on one thread, of pictures that are there."""
    for module in ("numba", "gymnasium", "matplotlib", "rich", "PIL"):
        pytest.importorskip(module)
    done = _run("train", name, *arguments, "--threads", "1", "--png", "curves.png", "--gif", "episode.gif", cwd=cwd)
    assert done.returncode == 0, done.stderr
    width, height = _png_size(cwd / "curves.png")
    assert width > 1000
    assert height > 500
    return done.stdout


@pytest.mark.parametrize(("name", "steps", "worst", "best"), [("cartpole", 8000, 9, 500), ("pendulum", 4096, -1700, 0)])
def test_train_control(name: str, steps: int, worst: float, best: float, tmp_path: Path) -> None:
    report = _train_by_trial(name, "--steps", str(steps), "--seeds", "2", "--seed", "3", cwd=tmp_path)
    assert re.search(r"trained 2 agents: [\d.]+ s each in the median, [\d.]+ s at most, [\d,]+ steps/s", report)
    total = float(re.search(r"curves.png \| an episode of (-?\d+): episode.gif", report)[1])
    assert worst <= total <= best
    width, height, frames = _gif_size(tmp_path / "episode.gif")
    assert max(width, height) == 320
    assert frames > 8
    found, reached, count, goal = re.search(r"each agent: (.*): (\d) of (\d) reach (-?\d+)", report).groups()
    means = [float(mean) for mean in found.split(", ")]
    assert len(means) == int(count) == 2
    assert sum(mean >= float(goal) for mean in means) == int(reached)
    assert all(worst <= mean <= best for mean in means)
    if name == "cartpole":  # 9.5 at random
        assert max(means) > 100


def _optimum(name: str) -> float:
    """What Gymnasium's environment is worth at the start, discounted by 0.99, by as many backups as it takes."""
    import gymnasium

    newest = max(id for id in gymnasium.registry if id.startswith(name))
    environment: Any = gymnasium.make(newest).unwrapped
    rows = [outcomes for row in environment.P.values() for outcomes in row.values()]
    p, successor, reward, over = (np.array([outcome[k] for row in rows for outcome in row]) for k in range(4))
    begins = np.cumsum([0, *map(len, rows)])[:-1]
    value = np.zeros(len(environment.P))
    for _ in range(1500):
        backups = p * (reward + np.where(over, 0.0, 0.99 * value[successor.astype(int)]))
        value = np.add.reduceat(backups, begins).reshape(value.size, -1).max(axis=1)
    return float(environment.initial_state_distrib @ value)


def test_train_qlearning(tmp_path: Path) -> None:
    report = _train_by_trial("qlearning", "--steps", "200000", "--seeds", "2", "--seed", "3", cwd=tmp_path)
    assert re.findall(r"^(\S+): 2 agents, 200,000 steps each", report, re.M) == ["FrozenLake8x8-v1", "Taxi-v4"]
    worths = re.findall(
        r"worth ([-\d.]+) to ([-\d.]+) at the start, ([\d.]+) less than the optimum at most: ([\d.]+)", report
    )
    for line, name, slack in zip(worths, ("FrozenLake8x8-v1", "Taxi-v"), (0.2, 2.0), strict=True):
        low, high, lacking, best = map(float, line)
        assert best == pytest.approx(_optimum(name), abs=1e-4)
        assert low <= high <= best + 1e-4
        assert lacking == pytest.approx(best - low, abs=2e-4)
        assert lacking < slack
    rate = float(re.search(r"success rate ([\d.]+)% in 1,000 episodes of Gymnasium's FrozenLake-v1", report)[1])
    assert 50 < rate <= 100
    assert 5 < float(re.search(r"mean return ([\d.]+) in 100 episodes of Gymnasium's Taxi-v", report)[1]) < 10
    total = int(re.search(r"a taxi's episode of (-?\d+): episode.gif", report)[1])
    assert _gif_size(tmp_path / "episode.gif")[2] == 20 - total + 2  # each step costs 1, but the last, which pays 20


@pytest.mark.slow
def test_train_qlearning_reaches_the_optimum(tmp_path: Path) -> None:
    report = _train_by_trial("qlearning", cwd=tmp_path)
    lacking = re.findall(r"([\d.]+) less than the optimum at most", report)
    assert all(float(number) < 0.001 for number in lacking)
    assert len(lacking) == 2


def test_train_without_a_name_lists_the_examples(tmp_path: Path) -> None:
    done = _run("train", cwd=tmp_path)
    assert done.returncode == 0
    assert re.search(r"^fastdl train digits +A small convolutional network", done.stdout, re.MULTILINE)
    assert re.search(r"^fastdl train sequence +Recurrent networks that write", done.stdout, re.MULTILINE)
    names = re.findall(r"^fastdl train (\w+) ", done.stdout, re.MULTILINE)
    assert names == ["cartpole", "digits", "gan", "pendulum", "qlearning", "sequence"]


def test_info_prints_the_configuration(tmp_path: Path) -> None:
    done = _run("info", cwd=tmp_path)
    assert done.returncode == 0
    lines = dict(re.split(" {2,}", line, maxsplit=1) for line in done.stdout.splitlines())
    assert lines.keys() == fastdl.show_config().keys()
    assert lines["fastdl"] == fastdl.__version__
    assert lines["isa supported"] == ", ".join(fastdl.supported_isas())


def test_version(tmp_path: Path) -> None:
    assert _run("--version", cwd=tmp_path).stdout.split() == ["fastdl", fastdl.__version__]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "digits", "--epochs", "0"], "found 0, expected at least 1"),
        (["train", "digits", "--lr", "-1"], "lr: found -1.0, expected a finite number"),
        (["train", "digits", "--output", "absent/figure.png"], "expected a file in a folder that exists"),
        (["train", "gan", "--seed", "-1"], "argument --seed: found -1, expected at least 0"),
        (["train", "gan", "--epochs", "x"], "argument --epochs: found 'x', expected an integer"),
        (["train", "gan", "--lr", "-1"], "lr: found -1.0, expected a finite number"),
        (["train", "gan", "--output", "absent/gan"], "expected a folder in one that exists"),
        (["train", "gan", "--batch-size", "2000"], "--batch-size: found 2000, expected at most 1797"),
        (["train", "sequence", "--hidden", "0"], "found 0, expected at least 1"),
        (
            ["train", "sequence", "--lr", "-1", "--characters", "20000"],
            "lr: found -1.0, expected a finite number of at least 0",
        ),
        (["train", "sequence", "--output", "absent/figure.png"], "expected a file in a folder that exists"),
        (["train", "sequence", "--characters", "1000"], "--characters: found a text of 1000, too short"),
        (["train", "qlearning", "--steps", "0"], "found 0, expected at least 1"),
        (["train", "qlearning", "--gif", "absent/taxi.gif"], "expected a file in a folder that exists"),
        (["train", "cartpole", "--png", "absent/curves.png"], "expected a file in a folder that exists"),
        (["train", "digit"], "invalid choice: 'digit'"),
        ([], "required: COMMAND"),
    ],
)
def test_mistakes_end_with_a_message(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = _run(*arguments, cwd=tmp_path)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_extra_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(MissingExtra, match=r'pip install "fastdl\[examples\]"'), requires("examples"):
        import a_package_that_is_not_there  # noqa: F401
    for module, example, extra in (
        ("rich", "digits", "examples"),
        ("numba", "cartpole", "rl"),
        ("numba", "qlearning", "rl"),
    ):
        hidden = f"import sys; sys.modules['{module}'] = None; "
        hidden += f"from fastdl.__main__ import main; main(['train', '{example}'])"
        done = subprocess.run([sys.executable, "-c", hidden], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert f'pip install "fastdl[{extra}]"' in done.stderr
        assert "Traceback" not in done.stderr
