"""The command line: one command for each stage, and one that checks the params."""

import argparse
import contextlib
import importlib
import io
import os
import signal
import sys
from pathlib import Path

import yaml

from spacewarps.errors import SpaceWarpsError
from spacewarps.params import load_params
from spacewarps.resources import check_address_space, shortage

_STAGES = {
    "simulate": "write the demo survey",
    "prepare": "join, clean, group, split and pack a survey",
    "search": "grow a network block by block",
    "train": "train the network that the search chose",
    "evaluate": "measure the trained network on the test split",
    "result": "print the test accuracy and where the report is",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status: 0, 2 for what the user can put right, 130 when interrupted."""
    # A class or a path in letters that the terminal does not have is shown as escapes.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    # A polite kill ends as Ctrl-C does: workers are told, temporary folders go, MLflow hears of it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        params = load_params(Path("params.yaml"))
        if options.command == "params":
            valid = "params.yaml is valid\n"
            print(valid if options.check else yaml.safe_dump(params.model_dump(), sort_keys=False), end="", flush=True)
            return 0
        # A thread that waits for another sleeps instead of spinning: on a busy machine spinning takes the core from the
        # very thread that is waited for. Read when torch is first imported; changes no result.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        check_address_space(f"spacewarps.stages.{options.command}")
        # Imported when needed, so that checking params does not wait for torch and MLflow.
        from spacewarps.stages.context import Stage

        module = importlib.import_module(f"spacewarps.stages.{options.command}")
        stage = Stage(options.command, params)
        if options.command == "journal":
            module.run(stage, options)
        else:
            module.run(stage)
    except SpaceWarpsError as error:
        # A name that a file brought along may hold what moves the cursor or breaks the line.
        line = "".join(c if c.isprintable() else " " for c in str(error))
        print(f"spacewarps {options.command}: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"spacewarps {options.command}: interrupted; nothing half-written is left", file=sys.stderr)
        return 130
    except Exception as error:
        short = shortage(error, options.command)
        if short is None and not isinstance(error, OSError):
            raise
        where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        what = short or getattr(error, "strerror", None) or error
        print(f"spacewarps {options.command}: {where}{what}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spacewarps",
        description="Grow convolutional networks for astronomical stamps. Each stage reads params.yaml in this folder; "
        "`dvc repro` runs all of them in order.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, what in _STAGES.items():
        commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}, as params.yaml says.")
    journal = commands.add_parser(
        "journal",
        help="list the journal, and prune it",
        description="List the candidates that the journal knows, the last used first. Deleting some, or the whole "
        "folder, costs time and changes no result.",
    )
    journal.add_argument("--older-than", type=_positive, metavar="DAYS", help="delete what was not used for as long")
    journal.add_argument("--larger-than", type=_positive, metavar="MB", help="delete the oldest beyond this size")
    check = commands.add_parser("params", help="print params.yaml as it is understood, or check it")
    check.add_argument("--check", action="store_true", help="only say whether it is valid")
    return parser


def _positive(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 up")


if __name__ == "__main__":
    sys.exit(main())
