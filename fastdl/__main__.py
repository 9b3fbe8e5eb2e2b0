"""The command line: fastdl info, fastdl train."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import fastdl
from fastdl.examples import MissingExtra, examples


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

    parsed = parser.parse_args(arguments)
    try:
        parsed.run(parsed)
    except (MissingExtra, ValueError, OSError) as error:
        sys.exit(f"fastdl: {error}")


def _info(_: argparse.Namespace) -> None:
    config = fastdl.show_config()
    width = max(map(len, config))
    for name, value in config.items():
        print(f"{name:{width}}  {', '.join(value) if isinstance(value, list) else value}")


def _list_examples(_: argparse.Namespace) -> None:
    for name, module in examples().items():
        print(f"fastdl train {name:12} {(module.__doc__ or '').splitlines()[0]}")


if __name__ == "__main__":
    main()
