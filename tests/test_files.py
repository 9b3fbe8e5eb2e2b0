"""Files of arrays: .npz and .safetensors, there and back; those that are cut, changed or made to harm."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl import _files, nn
from tests.support import HOME

ENDINGS = [
    "npz",
    pytest.param(
        "safetensors",
        marks=pytest.mark.skipif(
            not __import__("importlib").util.find_spec("safetensors"), reason="safetensors is not installed"
        ),
    ),
]


def _arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    found = {
        "a/b.weight": rng.standard_normal((3, 5), np.float32),
        "ünïcode": rng.standard_normal(7),
        "half": np.array([0.1, np.inf, -0.0], np.float16),
        "counts": np.arange(6, dtype=np.int64).reshape(2, 3),
        "small": np.array([-128, 127], np.int8),
        "flags": np.array([True, False, True]),
        "number": np.array(2.5),
        "empty": np.empty((0, 4), np.float32),
        "nan": np.array([np.nan], np.float32),
    }
    return found


def _same(found: Any, expected: Any) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        assert found[name].tobytes() == np.ascontiguousarray(array).tobytes(), name


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("mmap", [False, True])
def test_there_and_back(tmp_path: Path, ending: str, mmap: bool) -> None:
    path = tmp_path / f"arrays.{ending}"
    fastdl.save_file(_arrays(), path)
    found = fastdl.load_file(path, mmap)
    _same(found, _arrays())
    assert found["ünïcode"].flags.writeable is not mmap
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("ending", ENDINGS)
def test_arrays_of_any_layout(tmp_path: Path, ending: str) -> None:
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    given = {"strided": x[:, ::2, ::-1], "fortran": np.asfortranarray(x), "big": x.astype(">f4")}
    path = tmp_path / f"x.{ending}"
    fastdl.save_file(given, path)
    for name, array in fastdl.load_file(path).items():
        np.testing.assert_array_equal(array, given[name])


def test_numpy_reads_and_writes_the_same_files(tmp_path: Path) -> None:
    path, expected = tmp_path / "x.npz", _arrays()
    fastdl.save_file(expected, path)
    with np.load(path) as file:
        _same({name: file[name] for name in file.files}, expected)
    for save in (np.savez, np.savez_compressed):
        save(path, **expected)
        _same(fastdl.load_file(path), expected)
        _same(fastdl.load_file(path, mmap=True), expected)


def test_mapped_arrays_are_aligned_and_the_files_own(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    fastdl.save_file({f"{i * 'n'}ame": np.full(5, i, np.float32) for i in range(70)}, path)
    found = fastdl.load_file(path, mmap=True)
    for i, array in enumerate(found.values()):
        assert array.ctypes.data % 64 == 0
        assert (array == i).all()
    fastdl.save_file({"ame": np.zeros(3)}, path)  # which takes the file's place, and leaves what is mapped
    assert (found["nname"] == 2).all()


def test_the_package_reads_and_writes_the_same_files(tmp_path: Path) -> None:
    numpy_ = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    path, expected = tmp_path / "x.safetensors", _arrays()
    fastdl.save_file(expected, path)
    _same(numpy_.load_file(path), expected)
    numpy_.save_file(expected, path, {"format": "np"})
    _same(fastdl.load_file(path), expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("ending", ["", *ENDINGS])
def test_weights_of_torch(tmp_path: Path, dtype: str, ending: str) -> None:
    """As torch has them, and by a file that torch wrote: half precision becomes float32, to the last bit."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    peer = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3)).to(getattr(torch, dtype))
    peer[0].weight.requires_grad_(True)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    if ending == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(peer.state_dict(), tmp_path / "x")
        net.load(tmp_path / "x")
    elif ending:
        fastdl.save_file(peer.state_dict(), tmp_path / f"x.{ending}")
        net.load(tmp_path / f"x.{ending}")
    else:
        net.load_state_dict(dict(peer.named_parameters()), strict=False)
        net.load_state_dict(peer.state_dict())
    for name, array in net.state_dict().items():
        expected = peer.state_dict()[name]
        np.testing.assert_array_equal(array, (expected if name.endswith("tracked") else expected.float()).numpy())


def test_torch_is_not_imported_for_that(tmp_path: Path) -> None:
    class Tensor:
        dtype = "torch.float32"

        def detach(self) -> Any:
            return self

        cpu = detach

        def numpy(self) -> Any:
            return np.ones(3, np.float32)

    fastdl.save_file({"x": Tensor()}, tmp_path / "x.npz")
    assert fastdl.load_file(tmp_path / "x.npz")["x"].shape == (3,)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_that_is_cut_anywhere(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "x"
    fastdl.save_file(_arrays(), tmp_path / f"whole.{ending}")
    whole = (tmp_path / f"whole.{ending}").read_bytes()
    for end in [*range(0, len(whole), 37), len(whole) - 1]:
        path.write_bytes(whole[:end])
        for mmap in (False, True):
            with pytest.raises(ValueError, match="path: found "):
                fastdl.load_file(path, mmap)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_with_any_byte_changed(tmp_path: Path, ending: str) -> None:
    """Either it is refused, or it has arrays; those of .npz, which has checksums, are the right ones."""
    path, expected = tmp_path / "x", {"weight": np.arange(3.0), "b": np.ones((2, 2), np.float32)}
    fastdl.save_file(expected, tmp_path / f"whole.{ending}")
    whole = bytearray((tmp_path / f"whole.{ending}").read_bytes())
    rng, refused = np.random.default_rng(0), 0
    for at in range(len(whole)):
        changed = whole.copy()
        changed[at] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        for mmap in (False, True):
            try:
                found = fastdl.load_file(path, mmap)
            except ValueError as error:
                assert str(error).startswith("path: found ")  # noqa: PT017
                refused += 1
                continue
            assert all(isinstance(array, np.ndarray) and array.nbytes <= len(whole) for array in found.values())
            if ending == "npz" and not mmap and found.keys() == expected.keys():
                _same(found, expected)
    assert refused > len(whole) // 2


def _npz(name: str, data: bytes, **options: Any) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        archive.writestr(name, data)
    return file.getvalue()


def _npy(header: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + data


def _tensors(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _object_array() -> bytes:
    file = BytesIO()
    np.save(file, np.array([{}, 1], object), allow_pickle=True)
    return file.getvalue()


HOSTILE = {
    "empty": b"",
    "text": b"some text that is long enough",
    "pickle": pickle.dumps({"weight": [1.0]}),
    "one array": _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", b"1234"),
    "torch's": _npz("archive/data.pkl", pickle.dumps({"weight": 1})),
    "objects": _npz("x.npy", _object_array()),
    "records": _npz("x.npy", _npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", b"1234")),
    "terabytes": _npz("x.npy", _npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({1 << 40},)}}", b"1234")),
    "negative": _npz("x.npy", _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -1)}", b"1234")),
    "code": _npz("x.npy", _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (__import__('os').getpid(),)}")),
    "nested": _npz("x.npy", _npy("(" * 9000)),
    "long header": _npz("x.npy", _npy(" " * 60000)),
    "no header": _npz("x.npy", b"\x93NUMPY\1\0\xff\xff"),
    "bzip2": _npz("x.npy", b"1234", compression=zipfile.ZIP_BZIP2),
    "huge header": struct.pack("<Q", 1 << 62) + b"{" + b" " * 100,
    "header past the end": struct.pack("<Q", 1000) + b"{}",
    "no json": _tensors(b"{nothing"),
    "a list": _tensors(b"[1]"),
    "past the end": _tensors({"x": {"dtype": "F32", "shape": [1 << 20], "data_offsets": [0, 1 << 22]}}, b"1234"),
    "wrong shape": _tensors({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"1234"),
    "overflow": _tensors({"x": {"dtype": "F32", "shape": [1 << 62, 16], "data_offsets": [0, 4]}}, b"1234"),
    "overlap": _tensors({n: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in ("a", "b")}, b"1234"),
    "other dtype": _tensors({"x": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}, b"1234"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_files_that_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_bytes(HOSTILE[name])
    for mmap in (False, True):
        with pytest.raises(ValueError, match=r"path: found .*expected a file of several arrays"):
            fastdl.load_file(tmp_path / "x", mmap)


def test_members_over_each_other(tmp_path: Path) -> None:
    """As in zip bombs: many members that are the same bytes."""
    path = tmp_path / "x.npz"
    fastdl.save_file({"a": np.zeros(4000)}, path)
    with zipfile.ZipFile(path, "a") as archive:
        for i in range(3):
            info = zipfile.ZipInfo(f"{i}.npy")
            for slot in ("header_offset", "CRC", "compress_size", "file_size", "external_attr", "create_version"):
                setattr(info, slot, getattr(archive.filelist[0], slot))
            archive.filelist.append(info)
        archive._didModify = True  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="path: found"):
        fastdl.load_file(path)


def test_memory_is_bounded_by_the_file(tmp_path: Path) -> None:
    """A deflated member may say that it is as long as it likes."""
    path = tmp_path / "x.npz"
    shape = 1 << 42
    header = _npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape},)}}")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header + bytes(1000))
        archive.filelist[0].file_size = shape + len(header)
    with pytest.raises(ValueError, match="path: found"):
        fastdl.load_file(path)


def _packed() -> tuple[dict[str, Any], dict[str, Any]]:
    rng = np.random.default_rng(0)
    conv = rng.standard_normal((20, 6, 3, 3), np.float32)
    packed = {
        "linear": fastdl.pack_linear_weight(rng.standard_normal((37, 20), np.float32)),
        "vector": fastdl.pack_linear_weight(rng.standard_normal(20)),
        "direct": fastdl.pack_conv2d_weight(conv, algorithm="direct"),
        "winograd": fastdl.pack_conv2d_weight(conv, padding=1, algorithm="winograd"),
        "2x2": fastdl.pack_conv2d_weight(conv, padding=1, algorithm="winograd_2x2"),
        "groups": fastdl.pack_conv2d_weight(conv, groups=5, data_format="NHWC"),
        "depthwise": fastdl.pack_conv2d_weight(conv[:, :1], groups=20),
    }
    return packed, {"plain": conv, **packed}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("mmap", [False, True])
def test_packed_weights(tmp_path: Path, ending: str, mmap: bool) -> None:
    packed, given = _packed()
    fastdl.save_file(given, tmp_path / f"x.{ending}")
    found = fastdl.load_file(tmp_path / f"x.{ending}", mmap)
    assert list(found) == list(given) or ending != "npz"
    for name, weight in packed.items():
        assert type(found[name]) is type(weight)
        assert found[name][1:] == weight[1:]
        np.testing.assert_array_equal(found[name].data, weight.data)
        assert found[name].data.flags.writeable is not mmap
        assert not mmap or ending != "npz" or found[name].data.ctypes.data % 64 == 0
    x = np.ones((2, 6, 8, 8), np.float32)
    for name in ("direct", "winograd", "2x2"):
        expected = fastdl.conv2d(x, packed[name], padding=1)
        np.testing.assert_array_equal(fastdl.conv2d(x, found[name], padding=1), expected)
    np.testing.assert_array_equal(fastdl.linear(x[0, 0, :, :1].repeat(20, 1), found["linear"]), fastdl.linear(
        x[0, 0, :, :1].repeat(20, 1), packed["linear"]
    ))  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.update(fastdl="0.0.1"),
        lambda about: about.update(layout=1),
        lambda about: about["packed"]["linear"].update(shape=[37, 400]),
        lambda about: about["packed"]["linear"].update(shape=[17, 20]),
        lambda about: about["packed"]["linear"].update(shape=["a"]),
        lambda about: about["packed"]["linear"].update(shape=[-37, -20]),
        lambda about: about["packed"]["direct"].update(tile=4),
        lambda about: about["packed"]["direct"].update(tile=3),
        lambda about: about["packed"]["direct"].update(groups=7),
        lambda about: about["packed"]["direct"].update(groups=0),
        lambda about: about["packed"]["winograd"].update(shape=[20, 6, 1, 1]),
        lambda about: about["packed"]["depthwise"].update(channels_last=1),
        lambda about: about["packed"].update(nothing={"shape": [1]}),
        lambda about: about["packed"].update(plain={"shape": [20, 54], "data": "PackedLinearWeight"}),
        lambda about: about["packed"].update(linear=5),
    ],
)
def test_packed_weights_that_do_not_fit(tmp_path: Path, change: Any) -> None:
    """Other versions' are refused, and sizes that are not what kernels will read."""
    fastdl.save_file(_packed()[1], tmp_path / "x.npz")
    arrays, about = _files.read(tmp_path / "x.npz")
    change(about)
    _files.write(tmp_path / "x.npz", arrays, about)
    with pytest.raises(ValueError, match=r"path: found (weights packed by|a packed weight)"):
        fastdl.load_file(tmp_path / "x.npz")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"x.{ending}"
    fastdl.save_file({"x": np.ones(3)}, path)

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        fastdl.save_file({"x": np.zeros(3)}, path)
    assert os.listdir(tmp_path) == [path.name]
    np.testing.assert_array_equal(fastdl.load_file(path)["x"], np.ones(3))


@pytest.mark.skipif(os.name != "posix", reason="limits of files are POSIX's")
@pytest.mark.parametrize("ending", ENDINGS)
def test_without_room_the_old_file_stays(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"arrays.{ending}"
    fastdl.save_file(_arrays(), path)
    code = """if True:
        import resource, signal, sys
        import numpy as np, fastdl
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            fastdl.save_file({"a": np.ones(10_000)}, sys.argv[1])
        except OSError:
            print("refused")
    """
    found = subprocess.run([sys.executable, "-c", code, path], cwd=HOME, capture_output=True, text=True, check=True)
    assert found.stdout == "refused\n"
    assert os.listdir(tmp_path) == [path.name]
    _same(fastdl.load_file(path), _arrays())


@pytest.mark.skipif(os.name != "posix", reason="the modes of files are POSIX's")
def test_a_file_that_others_could_not_read_stays_one(tmp_path: Path) -> None:
    path = tmp_path / "arrays.npz"
    fastdl.save_file({"a": np.ones(1)}, path)
    path.chmod(0o600)
    fastdl.save_file({"a": np.zeros(1)}, path)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("ending", ENDINGS)
def test_names_as_long_as_the_system_has_and_names_of_bytes(tmp_path: Path, ending: str) -> None:
    path = os.fsencode(tmp_path / f"{'n' * (254 - len(ending))}.{ending}")
    fastdl.save_file(_arrays(), path)
    _same(fastdl.load_file(path), _arrays())
    assert os.listdir(tmp_path) == [os.path.basename(os.fsdecode(path))]


def test_a_file_whose_directory_was_emptied(tmp_path: Path) -> None:
    path = tmp_path / "arrays.npz"
    fastdl.save_file({"a": np.ones(3)}, path)
    data = path.read_bytes()
    at = data.rindex(b"PK\5\6")
    path.write_bytes(data[: at + 12] + bytes(4) + data[at + 16 :])  # how long the directory is
    with pytest.raises(ValueError, match="none of the arrays in it"):
        fastdl.load_file(path)


def test_a_link_stays_one_and_a_device_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "link.npz").symlink_to(tmp_path / "x.npz")
    fastdl.save_file({"x": np.ones(3)}, tmp_path / "link.npz")
    assert (tmp_path / "link.npz").is_symlink()
    assert fastdl.load_file(tmp_path / "x.npz").keys() == {"x"}
    with pytest.raises(ValueError, match=r"path: found .*, expected the name of a file"):
        fastdl.save_file({"x": np.ones(3)}, tmp_path)
    with pytest.raises(FileNotFoundError):
        fastdl.save_file({"x": np.ones(3)}, tmp_path / "nowhere" / "x.npz")
    with pytest.raises(FileNotFoundError):
        fastdl.load_file(tmp_path / "nothing.npz")


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ([1], TypeError, "arrays: found list, expected a mapping"),
        ({1: np.ones(3)}, TypeError, "arrays: found the name 1"),
        ({"": np.ones(3)}, ValueError, "arrays: found the name ''"),
        ({"__metadata__": np.ones(3)}, ValueError, "arrays: found the name '__metadata__'"),
        ({"a\0b": np.ones(3)}, ValueError, "arrays: found the name"),
        ({"x": [1.0]}, TypeError, "x: found list, expected an array"),
        ({"x": np.array([{}])}, TypeError, "x: found dtype object, expected numbers"),
        ({"x": np.array(["a"])}, TypeError, "x: found dtype <U1, expected numbers"),
    ],
)
def test_mistakes(tmp_path: Path, arrays: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fastdl.save_file(arrays, tmp_path / "x.npz")
    assert os.listdir(tmp_path) == []


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    (tmp_path / "x").write_bytes(_tensors({}))
    for call in (
        lambda: fastdl.load_file(tmp_path / "x"),
        lambda: fastdl.save_file({"x": np.ones(3)}, tmp_path / "x.safetensors"),
    ):
        with pytest.raises(ImportError, match=r'pip install "fastdl\[safetensors\]"'):
            call()
