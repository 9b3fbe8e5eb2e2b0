"""What the wheel and the sdist are called, weigh and hold."""

import sys
import tarfile
import zipfile
from pathlib import Path

MEGABYTE = 2**20
WHEEL_LIMIT = 3 * MEGABYTE


def check_wheel(wheel: Path) -> None:
    tag = "-".join(wheel.stem.split("-")[2:4])
    assert tag == "cp310-abi3", f"{wheel.name}: found tag {tag}, expected cp310-abi3"
    size = wheel.stat().st_size
    assert size <= WHEEL_LIMIT, f"{wheel.name}: {size / MEGABYTE:.2f} MB, expected at most {WHEEL_LIMIT / MEGABYTE}"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    metadata = next(name for name in names if name.endswith(".dist-info/METADATA")).split("/")[0]
    strays = [n for n in names if not n.startswith(("fastdl/", f"{metadata}/")) or n.endswith((".c", ".h", ".pyc"))]
    assert not strays, f"{wheel.name} holds {strays}"
    for needed in (
        "fastdl/_native.abi3.so",
        "fastdl/_kernels.py",
        "fastdl/_kernels.pyi",
        "fastdl/py.typed",
        f"{metadata}/entry_points.txt",
        f"{metadata}/licenses/LICENSE",
    ):
        assert needed in names, f"{wheel.name} lacks {needed}"
    print(f"{wheel.name}: {size / MEGABYTE:.2f} MB, {len(names)} files")


def check_sdist(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    for needed in (
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "CMakeLists.txt",
        "csrc/fastdl.h",
        "csrc/binding/generate.py",
        "fastdl/__init__.py",
    ):
        assert needed in names, f"{sdist.name} lacks {needed}"
    strays = {
        n for n in names if n.endswith((".so", ".pyc", ".o")) or n in ("fastdl/_kernels.py", "fastdl/_kernels.pyi")
    }
    assert not strays, f"{sdist.name} holds built files: {strays}"
    folders = {name.split("/")[0] for name in names if "/" in name}
    unexpected = folders - {"csrc", "fastdl", "tests", "bench", "docs"}
    assert not unexpected, f"{sdist.name} holds {unexpected}"
    print(f"{sdist.name}: {len(names)} files")


if __name__ == "__main__":
    check_wheel(Path(sys.argv[1]))
    check_sdist(Path(sys.argv[2]))
