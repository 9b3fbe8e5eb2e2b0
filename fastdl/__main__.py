"""The command line: fastdl info, fastdl train, fastdl onnx."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

import fastdl
from fastdl.examples import examples


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="fastdl", description=fastdl.__doc__)
    parser.add_argument("--version", action="version", version=f"fastdl {fastdl.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    info = commands.add_parser("info", help="what was built, what this machine supports and what is in use")
    info.set_defaults(run=_info)

    train = commands.add_parser("train", help="train a network on real data; without a name, list the examples")
    train.set_defaults(run=_list_examples)
    names = train.add_subparsers(title="examples", metavar="EXAMPLE")
    for name, module in examples().items():
        summary = (module.__doc__ or "").splitlines()[0]
        example = names.add_parser(name, help=summary, description=module.__doc__)
        module.add_arguments(example)
        example.set_defaults(run=module.run)

    model = commands.add_parser("onnx", help="what an ONNX model is, and how long it takes here")
    model.add_argument("model", help="the file")
    model.add_argument(
        "--size", action="append", default=[], metavar="NAME=N", help="of a dimension that is free: 1 else"
    )
    model.add_argument("--kernels", action="store_true", help="list every kernel, with its time")
    model.set_defaults(run=_onnx)

    parsed = parser.parse_args(arguments)
    try:
        parsed.run(parsed)
    except (ImportError, NotImplementedError, ValueError, TypeError, IndexError, MemoryError, OSError) as error:
        sys.exit(f"fastdl: {error}")
    except KeyboardInterrupt:
        sys.exit(130)  # as shells say it


def _info(_: argparse.Namespace) -> None:
    config = fastdl.show_config()
    width = max(map(len, config))
    for name, value in config.items():
        print(f"{name:{width}}  {', '.join(value) if isinstance(value, list) else value}")


def _onnx(arguments: argparse.Namespace) -> None:
    from time import perf_counter

    from fastdl import onnx

    sizes = {}
    for text in arguments.size:
        name, _, number = text.partition("=")
        if not number.isdecimal():
            raise ValueError(f"--size: found {text!r}, expected NAME=N, such as batch=4")
        sizes[name] = int(number)
    begin = perf_counter()
    model = onnx.load(arguments.model, progress=sys.stderr.isatty() and _has_rich())
    loaded = perf_counter()
    print(model)
    inputs = model.example(sizes)
    model.run(inputs)
    first = perf_counter()
    best = min(_seconds(lambda: model.run(inputs)) for _ in range(5))
    flops = model.flops
    print(f"flops     {flops:,} a run, for {', '.join(' x '.join(map(str, x.shape)) or 'a number' for x in inputs)}")
    print(
        f"time      {1e3 * best:.3g} ms a run, {flops / best / 1e9:.3g} GFLOP/s with {fastdl.get_num_threads()} threads"
    )
    print(f"before    {loaded - begin:.2f} s to load, {first - loaded:.2f} s for the first run of a shape")
    if arguments.kernels:
        print()
        print(model.explain(time=True).partition("\n\n")[2])


def _has_rich() -> bool:
    from importlib.util import find_spec

    return find_spec("rich") is not None


def _seconds(call: Callable[[], object]) -> float:
    from time import perf_counter

    begin = perf_counter()
    call()
    return perf_counter() - begin


def _list_examples(_: argparse.Namespace) -> None:
    for name, module in examples().items():
        print(f"fastdl train {name:12} {(module.__doc__ or '').splitlines()[0]}")


if __name__ == "__main__":
    main()
