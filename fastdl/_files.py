"""Arrays by name in files, .npz or .safetensors: written whole or not at all, and read without trust in what they hold.

Beside the arrays a file has words about them, JSON, under the name that .safetensors reserves for such.
"""

from __future__ import annotations

import errno
import json
import math
import mmap as memory_map
import os
import stat
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any, NoReturn, TypeAlias

import numpy as np

from fastdl.functional.verbs import PackedConv2dWeight, PackedLinearWeight, fail, view

Array: TypeAlias = "np.ndarray[Any, Any]"
Path: TypeAlias = "str | os.PathLike[str]"

ABOUT = "__metadata__"
_ALIGNED = 64
"""Bytes: where the elements of an array begin in an .npz file is a multiple of that, so that they can be mapped."""
_PADDING = 0x4446
"""The kind of a zip file's extra field that is there to be as long as it is."""
_WORDS = "fastdl"
"""What a .safetensors file has them under."""
_TYPES = {f"{kind}{8 * size}": np.dtype(f"<{kind.lower()}{size}") for kind in "IU" for size in (1, 2, 4, 8)}
_TYPES |= {f"F{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)}
_TYPES |= {"BOOL": np.dtype("?"), "C64": np.dtype("<c8"), "BF16": np.dtype("<u2")}
"""The dtypes of .safetensors; of BF16, the bits."""


@contextmanager
def replacing(path: Path) -> Iterator[str]:
    """A name in the same folder, for a file that takes the place of `path` when it has been written, in one step."""
    target = os.path.realpath(os.fsdecode(path))
    if os.path.exists(target) and not os.path.isfile(target):
        raise ValueError(f"path: found {target}, expected the name of a file")
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, f".{name[:32]}.{os.urandom(8).hex()}")
    try:
        yield temporary
        with suppress(OSError):  # a file that others could not read stays one
            os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
        _to_disk(temporary)
        os.replace(temporary, target)
        with suppress(OSError):  # not every file system can
            _to_disk(folder)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _to_disk(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write(
    path: Path, arrays: Mapping[str, Any], about: Any = None, default: Callable[[Any], Any] | None = None
) -> None:
    """Write arrays, and what is said about them: whatever JSON can say, or can when `default` has seen it."""
    found = {name: _storable(name, array) for name, array in arrays.items()}
    words = None if about is None else json.dumps(about, default=default)
    tensors = os.fsdecode(path).endswith(".safetensors")
    with replacing(path) as temporary:
        (_write_tensors if tensors else _write_npz)(temporary, found, words)


def _storable(name: Any, value: Any) -> Array:
    if not isinstance(name, str):
        raise TypeError(f"arrays: found the name {name!r}, expected a str")
    if not name or name == ABOUT or "\0" in name:
        raise ValueError(f"arrays: found the name {name!r}, expected one that is not empty, reserved or cut")
    array = unwrapped(value, name)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{name}: found dtype {array.dtype}, expected numbers")
    return array


def unwrapped(value: Any, name: str) -> Array:
    """What holds numbers, a tensor of torch's too, as an array; of the format bfloat16, which NumPy does not have, as
    float32, which has all of its numbers."""
    if hasattr(value, "detach") and hasattr(value, "numpy"):
        value = value.detach().cpu()
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    array = view(value, name)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _write_npz(path: str, arrays: Mapping[str, Array], words: str | None) -> None:
    from zipfile import ZipFile, ZipInfo

    if words is not None:
        arrays = {ABOUT: np.frombuffer(words.encode(), np.uint8), **arrays}
    with open(path, "wb") as file, ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            info = ZipInfo(name + ".npy")
            begin = (
                file.tell() + 30 + len(info.filename.encode()) + 20 + 4
            )  # headers: fixed, zip64's, that of the padding
            missing = -begin % _ALIGNED
            info.extra = struct.pack("<HH", _PADDING, missing) + bytes(missing)
            with archive.open(info, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)  # whose header ends at a multiple, too


def _write_tensors(path: str, arrays: Mapping[str, Array], words: str | None) -> None:
    for name, array in arrays.items():
        if array.dtype.newbyteorder("<") not in _TYPES.values():
            raise TypeError(f"{name}: found dtype {array.dtype}, expected one of .safetensors: {', '.join(_TYPES)}")
    given = {name: array.astype(array.dtype.newbyteorder("<"), "C", copy=False) for name, array in arrays.items()}
    package = _safetensors("numpy")
    try:
        package.save_file(given, path, None if words is None else {_WORDS: words})
    except _safetensors().SafetensorError as error:  # of the system
        raise OSError(str(error)) from error


def _safetensors(module: str = "") -> Any:
    from importlib import import_module

    try:
        return import_module(f"safetensors.{module}" if module else "safetensors")
    except ImportError:
        raise ImportError('safetensors is not installed: pip install "fastdl[safetensors]"') from None


def read(path: Path, mmap: bool = False) -> tuple[dict[str, Array], Any]:
    """The arrays of a file that `write`, np.savez or the package safetensors wrote, and what is said about them (None).

    mmap: they are the file's own memory, read-only, as far as they lie in it as they are.
    """
    path = os.fsdecode(path)
    with open(path, "rb") as file:
        begin = file.read(9)
        way: Callable[[IO[bytes], str, bool], tuple[dict[str, Array], Any]]
        if begin[:4] in (b"PK\3\4", b"PK\5\6"):
            way = _read_npz
        elif begin[:6] == b"\x93NUMPY":
            _refuse(path, "one array")
        elif begin[8:] == b"{":
            way = _read_tensors
            _safetensors()
        else:
            _refuse(path, "something else" if begin else "an empty file")
        try:
            return way(file, path, mmap)
        except MemoryError:
            raise
        except Exception as error:  # whatever NumPy, zipfile, zlib, json and safetensors say
            if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that is a place that cannot be
                raise
            _refuse(path, " ".join(str(error).split()) or type(error).__name__, error)


def _refuse(path: str, found: str, error: Exception | None = None) -> NoReturn:
    expected = "a file of several arrays, as save_file writes it (.npz or .safetensors)"
    raise ValueError(f"path: found {found} ({path}), expected {expected}") from error


def _read_npz(file: IO[bytes], path: str, mmap: bool) -> tuple[dict[str, Array], Any]:
    from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

    size = os.fstat(file.fileno()).st_size
    mapped = _mapped(file) if mmap else None
    arrays: dict[str, Array] = {}
    with ZipFile(file) as archive:
        members = archive.infolist()
        if not members and archive.start_dir:
            raise ValueError("none of the arrays in it")
        if sum(info.compress_size for info in members) > size:
            raise ValueError("members that lie over each other")
        for info in members:
            name = info.filename.removesuffix(".npy")
            if name == info.filename:
                raise ValueError(f"{name!r} in it, which is no array (pickles are never read)")
            if name in arrays:
                raise ValueError(f"{name!r} twice")
            stored = info.compress_type == ZIP_STORED
            # What is deflated is at most 1032 times as long as before, so no file asks for more memory than that.
            most = info.compress_size if stored else 1032 * info.compress_size
            if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED) or info.flag_bits & 1 or info.file_size > most:
                raise ValueError(f"{name!r} stored in a way that NumPy does not")
            with archive.open(info) as member:
                version = np.lib.format.read_magic(member)
                if version not in ((1, 0), (2, 0)):
                    raise ValueError(f"{name!r} of version {version}")
                ways = np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0
                shape, fortran, dtype = ways[version[0] - 1](member)
                if dtype.hasobject or dtype.kind not in "biufcSU":
                    raise ValueError(f"{name!r} of dtype {dtype}, not numbers (pickles are never read)")
                count = math.prod(shape)
                header = member.tell()
                if min(shape, default=0) < 0 or count * dtype.itemsize != info.file_size - header:
                    raise ValueError(f"{name!r} of shape {shape} in {info.file_size - header} bytes")
                order: Any = "F" if fortran else "C"
                at = _begin(file, info.header_offset) + header
                if mapped is not None and stored and count and at % dtype.alignment == 0:
                    arrays[name] = np.ndarray(shape, dtype, mapped, at, order=order)
                else:
                    arrays[name] = np.ndarray(shape, dtype, order=order)
                    _fill(arrays[name].reshape(-1, order=order), member)
    words = arrays.pop(ABOUT, None)
    return arrays, None if words is None else json.loads(words.tobytes())


def _begin(file: IO[bytes], member: int) -> int:
    """Where the bytes of a member of a zip file begin, by its header."""
    before = file.tell()
    file.seek(member + 26)
    name, extra = struct.unpack("<HH", file.read(4))
    file.seek(before)
    return member + 30 + int(name) + int(extra)


def _fill(array: Array, member: IO[bytes]) -> None:
    """Read the elements of an array, a piece at a time; after the last, zipfile compares the checksum."""
    whole: Any = array.view(np.uint8) if array.size else b""
    rest = memoryview(whole)
    while len(rest):
        piece = member.read(min(len(rest), 1 << 20))
        if not piece:
            raise ValueError("less than it says")
        rest[: len(piece)] = piece
        rest = rest[len(piece) :]
    member.read(1)


def _read_tensors(file: IO[bytes], path: str, mmap: bool) -> tuple[dict[str, Array], Any]:
    with _safetensors().safe_open(path, framework="numpy"):
        pass  # which refuses what is not as the format says
    mapped = _mapped(file)
    start = 8 + int.from_bytes(mapped[:8], "little")
    about: Any = None
    arrays = {}
    for name, tensor in json.loads(mapped[8:start]).items():
        if name == ABOUT:
            about = tensor.get(_WORDS)
            continue
        if tensor["dtype"] not in _TYPES:
            raise ValueError(f"{name!r} of dtype {tensor['dtype']}, expected one of {', '.join(_TYPES)}")
        dtype, shape = _TYPES[tensor["dtype"]], tuple(tensor["shape"])
        begin, end = (start + offset for offset in tensor["data_offsets"])
        if not start <= begin <= end <= len(mapped) or math.prod(shape) * dtype.itemsize != end - begin:
            raise ValueError(f"{name!r} of shape {shape} in {end - begin} bytes")
        array: Array = np.ndarray(shape, dtype, mapped, begin) if end > begin else np.empty(shape, dtype)
        if tensor["dtype"] == "BF16":
            array = (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
        arrays[name] = array if mmap and array.flags.aligned else array.copy()
    return arrays, None if about is None else json.loads(about)


def _mapped(file: IO[bytes]) -> memory_map.mmap:
    return memory_map.mmap(file.fileno(), 0, access=memory_map.ACCESS_READ)


def names(keys: Iterable[Any], most: int = 8) -> str:
    """Some names, for an error."""
    listed = [repr(key) for key in keys]
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def save_file(arrays: Mapping[str, Any], path: Path) -> None:
    """Write arrays by name to a file: `.safetensors` if it is named so, else NumPy's `.npz`.

    The file is written beside its place, brought to disk, and put in place in one step: whatever happens meanwhile,
    there is the old file or the new one, whole. The mode of a file that was there stays. Nothing is pickled.

    Parameters
    ----------
    arrays : mapping of str to array
        Such as a state_dict(), one of torch's too, whose bfloat16 tensors are written as float32, to the last bit; or
        weights as pack_linear_weight and pack_conv2d_weight return them, which `load_file(path, mmap=True)` has again
        without packing or reading them (an .npz file, at addresses as vectors like them). They are tied to this version
        of fastdl, and to its way to lay them out: another one refuses them.
    path : str or path
        Of the file, under exactly this name.

    Raises
    ------
    TypeError
        For what is no array of numbers.
    OSError
        If it cannot be written.
    ImportError
        For `.safetensors`, if the package of that name is not installed: ``pip install "fastdl[safetensors]"``.

    See Also
    --------
    load_file, save_checkpoint, nn.Module.save

    Examples
    --------
    >>> import os, tempfile
    >>> import fastdl
    >>> from fastdl import nn
    >>> path = os.path.join(tempfile.mkdtemp(), "layer.npz")
    >>> fastdl.save_file(nn.Linear(3, 2).state_dict(), path)
    >>> {name: array.shape for name, array in fastdl.load_file(path).items()}
    {'weight': (2, 3), 'bias': (2,)}
    """
    if not isinstance(arrays, Mapping):
        raise TypeError(f"arrays: found {type(arrays).__name__}, expected a mapping of names to arrays")
    packed = {name: value for name, value in arrays.items() if isinstance(value, _PACKED)}
    plain = {name: value.data if name in packed else value for name, value in arrays.items()}
    forms = {name: {**value._asdict(), "data": type(value).__name__} for name, value in packed.items()}
    write(path, plain, {"packed": forms, **_layout()} if packed else None)


def load_file(path: Path, mmap: bool = False) -> dict[str, Array]:
    """The arrays in a file that save_file, np.savez, torch by safetensors, or another program wrote.

    What the file is follows from how it begins, not from its name. Nothing in it is trusted: sizes are compared with
    what there is before memory is taken, and nothing is unpickled.

    Parameters
    ----------
    path : str or path
        Of the file.
    mmap : bool
        Whether arrays are the file's memory itself, read-only, of which the system loads what is used, once for all
        processes. The file may be replaced meanwhile, as save_file does it, but not be written to. What does not lie in
        it as it is (compressed, bfloat16) is read. Checksums (.npz) are not compared.

    Returns
    -------
    dict of str to array
        bfloat16 as float32, which has all its numbers. Packed weights as what they were.

    Raises
    ------
    ValueError
        For a file that is not of that kind, was cut or changed, or holds something else than arrays of numbers.
    OSError
        If it cannot be read.
    ImportError
        For `.safetensors`, as save_file.

    See Also
    --------
    save_file, load_checkpoint, nn.Module.load, nn.Module.load_state_dict
    """
    arrays, about = read(path, mmap)
    if isinstance(about, dict) and isinstance(about.get("packed"), dict):
        found, expected = {key: about.get(key) for key in _layout()}, _layout()
        if found != expected:
            fail("path", f"weights packed by {found}", f"by {expected}: the plain ones, packed anew")
        arrays |= {name: _packed(name, arrays, form) for name, form in about["packed"].items()}
    return arrays


_PACKED = PackedConv2dWeight, PackedLinearWeight


def _layout() -> dict[str, Any]:
    """What packed weights are tied to: the version, and how this build lays out weights, told by an example."""
    from zlib import crc32

    import fastdl
    from fastdl._kernels import TILE_COLUMNS
    from fastdl.functional.conv.packing import pack_conv2d_weight_as

    weight, layout = np.arange(35.0 * 21 * 9).reshape(35, 21, 3, 3), 0
    for tile in (0, TILE_COLUMNS):
        layout = crc32(pack_conv2d_weight_as(tile, weight).data.tobytes(), layout)
    layout = crc32(fastdl.pack_linear_weight(weight[:, :, 0, 0]).data.tobytes(), layout)
    return {"fastdl": fastdl.__version__, "layout": layout}


def _packed(name: str, arrays: Mapping[str, Array], form: Any) -> Any:
    """The packed weight of that name, whose size has to be right: kernels read as much as the shape says."""
    from fastdl._kernels import TILE_COLUMNS
    from fastdl.functional.conv.packing import packed_conv2d_size
    from fastdl.functional.linear import packed_linear_size

    try:
        data, shape = arrays[name], tuple(form["shape"])
        if data.ndim != 1 or data.dtype not in (np.float32, np.float64) or not 0 < math.prod(shape) <= data.size:
            raise ValueError(f"shape {shape} in {data.size} of {data.dtype}")
        if form["data"] == "PackedLinearWeight":
            found: Any = PackedLinearWeight(data, shape)
            size = packed_linear_size(shape, data.dtype)
        else:
            options = form["groups"], form["channels_last"], form["tile"]
            tiles = (0, TILE_COLUMNS, 2, 4) if shape[2:] == (3, 3) else (0, TILE_COLUMNS)
            if options[2] not in tiles or options[1] not in (0, 1):
                raise ValueError(f"form {form}")
            found = PackedConv2dWeight(data, shape, *options)
            size = packed_conv2d_size(shape, data.dtype, *options)
        if data.size != size:
            raise ValueError(f"{data.size} elements instead of {size}")
    except (ValueError, TypeError, LookupError) as error:
        fail("path", f"a packed weight {name!r} that is not right ({error})", "one as save_file writes it")
    return found
