"""The command line: one command for each stage, and those that check, show, deliver and make a project."""

import argparse
import contextlib
import importlib
import io
import os
import signal
import sys
import warnings
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Never

from spacewarps.errors import DependenciesChangedError, ParamsError, SpaceWarpsError
from spacewarps.importing import import_quickly
from spacewarps.own_code import run_own_code
from spacewarps.portability import pin_kernels, pin_numpy
from spacewarps.resources import check_address_space, shortage

if TYPE_CHECKING:
    from spacewarps.params import Params
    from spacewarps.training.settings import ComputeSettings

_STAGES = {
    "simulate": "write the demo survey",
    "prepare": "join, clean, group, split and pack a survey",
    "search": "grow a network block by block",
    "train": "train the network that the search chose",
    "evaluate": "measure the trained network on the test split",
    "crossvalidate": "search, train and test on outer folds of the survey",
    "fetch": "fetch stamps for the positions of a catalogue from an archive",
}
# What a stage that did not come to its end has put into the journal.
_KEPT = {
    "search": "candidates",
    "train": "networks",
    "crossvalidate": "folds and candidates",
    "evaluate": "networks",
    "fetch": "stamps",
}
# Commands that are no stages, but ask a network as these do.
_COMPUTING = ("plan", "promote")
_WITH_OPTIONS = ("journal", "compare", "promote")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status: 0, 1 where `promote` refuses, 2 for what the user can put
    right, 130 when interrupted.

    Args:
        arguments: the command's words. Without them, those that this process was started with; then a project that
            holds the code runs its own.
    """
    # A new project runs what is installed, so that is the code to record, whatever this folder holds.
    if arguments is None and sys.argv[1:2] != ["init"]:
        try:
            run_own_code()
        except SpaceWarpsError as error:
            print(f"spacewarps: {error}", file=sys.stderr)
            return 2
    options = _parser().parse_args(arguments)
    pin_numpy()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A class may have a name that the terminal's encoding has no letters for.
        sys.stdout.reconfigure(errors="backslashreplace")
    _tidy_up_when_told_to_end()
    # Where there is no shared memory, joblib warns that it would start no processes; it is asked for none.
    warnings.filterwarnings("ignore", ".*joblib will operate in serial mode", UserWarning)
    params: Params | None = None
    try:
        # Imported when needed: another package's may be the ones that this command runs.
        from spacewarps.params import load_params
        from spacewarps.project import init_project, update_project
        from spacewarps.recorded_code import check_installed_code
        from spacewarps.settings import as_values
        from spacewarps.stages.dependencies import Dependencies
        from spacewarps.yaml_params import write_yaml

        if options.command == "init":
            if _names_survey(options):
                return int(importlib.import_module("spacewarps.commands.init").run(options))
            print((update_project if options.update else init_project)(options.folder), end="", flush=True)
            return 0
        if options.command == "checkout":
            from spacewarps.commands import checkout

            checkout.run(options.run, options.folder)
            return 0
        is_stage = _is_stage(options)
        if is_stage:
            # Before the params: another version may have others.
            check_installed_code(options.command)
        if options.command == "sync":
            importlib.import_module("spacewarps.commands.sync").run()
            return 0
        if options.command == "predict" and not is_stage:
            # Outside of a project, too: the folder of the network is all that is needed.
            params = load_params(Path("params.yaml")) if Path("params.yaml").exists() else None
            _predict(options, params)
            return 0
        if options.command == "export":
            params = load_params(Path("params.yaml")) if Path("params.yaml").exists() else None
            _export(options, params)
            return 0
        params = load_params(Path("params.yaml"))
        if options.command == "params":
            valid = "params.yaml is valid\n"
            print(valid if options.check else write_yaml(as_values(params)), end="", flush=True)
            return 0
        # Before the code that it names is imported.
        began_with = Dependencies.of(options.command, params)
        if is_stage or options.command in _COMPUTING:
            _pin_kernels(params.compute)
        module = f"spacewarps.{'stages' if is_stage else 'commands'}.{options.command}"
        _make_ready_to_import(module)
        # Imported when needed, so that checking params does not wait for torch and MLflow.
        command = import_quickly(module)
        from spacewarps.stages.context import Stage
        from spacewarps.stages.one_run import one_run_at_a_time

        stage = Stage(options.command, params, began_with)
        with one_run_at_a_time() if is_stage else contextlib.nullcontext():
            status = command.run(stage, *([options] if options.command in _WITH_OPTIONS else []))
        if options.command == "evaluate":
            # DVC records its params when it has ended, so they are not compared yet.
            importlib.import_module("spacewarps.commands.result").tell(stage)
        if is_stage:
            # Last of all: it may have taken a minute to store the result, and DVC records what it finds after that.
            began_with.check_unchanged(is_written=True)
    except SpaceWarpsError as error:
        from spacewarps.params import InvalidParamsError
        from spacewarps.stages.arguments import in_params

        lines = [str(error)]
        if options.command == "params" and isinstance(error, InvalidParamsError):
            lines = error.lines
        if isinstance(error, DependenciesChangedError):
            lines = [f"{error}{_goes_on(options.command, params)}"]
        for told in lines:
            # A name that a file brought along may hold what moves the cursor or breaks the line.
            line = "".join(c if c.isprintable() else " " for c in in_params(told, options.command))
            print(f"spacewarps {options.command}: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        goes_on = _goes_on(options.command, params)
        print(f"spacewarps {options.command}: interrupted; nothing half-written is left{goes_on}", file=sys.stderr)
        return 130
    except Exception as error:
        short = shortage(error, options.command)
        if short is None and not isinstance(error, OSError):
            raise
        where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        what = short or getattr(error, "strerror", None) or error
        print(f"spacewarps {options.command}: {where}{what}", file=sys.stderr)
        return 2
    return status or 0


def _is_stage(options: argparse.Namespace) -> bool:
    """Say whether a stage is asked for; ``predict`` is one where no survey is named, which params.yaml then names.

    Raises:
        ParamsError: a survey is named in part.
    """
    if options.command != "predict":
        return options.command in _STAGES
    named = {f"--{name}": getattr(options, name) is not None for name in ("catalog", "images", "out")}
    names = ", ".join(named)
    if any(named.values()) and not all(named.values()):
        absent = " and ".join(name for name, given in named.items() if not given)
        raise ParamsError(f"{absent} must be given too; without {names}, params.yaml names the survey")
    if not any(named.values()) and (options.model or options.id or options.workers or options.ray):
        raise ParamsError(f"--model, --id, --workers and --ray need {names}; without these, params.yaml says all of it")
    return not any(named.values())


def _names_survey(options: argparse.Namespace) -> bool:
    """Say whether ``init`` is to look at a survey.

    Raises:
        ParamsError: a survey is named in part, or for a project that is only updated.
    """
    told = [name for name in ("id", "label", "features", "extension") if getattr(options, name) is not None]
    named = [name for name in ("catalog", "images") if getattr(options, name) is not None]
    if options.update and (named or told):
        raise ParamsError(f"--update only records the installed code, so it goes without --{(named + told)[0]}")
    if (named or told) and len(named) < 2:
        absent = "--images" if named == ["catalog"] else "--catalog" if named else "--catalog and --images"
        raise ParamsError(f"{absent} must be given too, to say which survey is looked at")
    return bool(named)


def _pin_kernels(compute: "ComputeSettings") -> None:
    # Only native kernels compute in bfloat16.
    in_bf16 = (compute.kernels, compute.precision) == ("auto", "bf16")
    pin_kernels("native" if in_bf16 else compute.kernels)


def _make_ready_to_import(module: str) -> None:
    # A thread that waits for another sleeps instead of spinning: on a busy machine spinning takes the core from the
    # very thread that is waited for. Read when torch is first imported; changes no result.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    check_address_space(module)


def _predict(options: argparse.Namespace, params: "Params | None") -> None:
    from spacewarps.survey.columns import Columns
    from spacewarps.training.settings import ComputeSettings

    compute = ComputeSettings() if params is None else params.compute
    options.id = options.id or (Columns() if params is None else params.data.columns).id
    options.model = options.model or Path("models/final" if params is None else params.paths.final)
    _pin_kernels(compute)
    module = "spacewarps.commands.predict"
    _make_ready_to_import(module)
    import_quickly(module).run(options, compute)


def _export(options: argparse.Namespace, params: "Params | None") -> None:
    from spacewarps.training.settings import ComputeSettings

    # The survey of the params says something of their own network only.
    prepared = None if params is None or options.model else Path(params.paths.prepared)
    compute = ComputeSettings() if params is None else params.compute
    options.model = options.model or Path("models/final" if params is None else params.paths.final)
    _pin_kernels(compute)
    module = "spacewarps.commands.export"
    _make_ready_to_import(module)
    import_quickly(module).run(options, compute, prepared)


def _goes_on(command: str, params: "Params | None") -> str:
    # A single network is not in the journal.
    kept = None if command == "train" and params and params.train.data != "folds" else _KEPT.get(command)
    return f", and the same command goes on from the finished {kept} that are in the journal" if kept else ""


def _tidy_up_when_told_to_end() -> None:
    """Let a polite kill and a terminal that closes end as Ctrl-C does.

    Workers are told, temporary folders go, MLflow hears of it. What ``nohup`` has made deaf to the terminal stays so.
    """
    polite = [signal.SIGTERM, signal.SIGHUP]

    def interrupt(_number: int, _frame: FrameType | None) -> Never:
        # A shell says it once more to what its terminal has told already; tidying up must not end half done.
        for number in polite:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in polite:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spacewarps",
        description="Grow convolutional networks for astronomical stamps. Each stage reads params.yaml in this folder; "
        "`dvc repro` runs all of them in order.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    init = commands.add_parser(
        "init",
        help="write a project that runs the installed code",
        description="Write params.yaml and dvc.yaml into FOLDER, with all that git and DVC need there. What stands "
        "there already is never written over. With --catalog and --images, look at that survey first, say what it "
        "holds, and write the params for it; if FOLDER has params.yaml already, only say what would change in it.",
    )
    init.add_argument("folder", type=_folder, metavar="FOLDER")
    init.add_argument("--update", action="store_true", help="only record the code that is installed now")
    init.add_argument("--catalog", type=_folder, metavar="C", help="one catalogue, or a folder of them")
    init.add_argument("--images", type=_folder, metavar="D", help="the folder of stamps")
    init.add_argument("--id", metavar="NAME", help="the column that names the stamps, if several could")
    init.add_argument("--label", metavar="NAME", help="the column of the classes, if several could be")
    init.add_argument("--features", nargs="*", metavar="NAME", help="the columns that the network sees beside stamps")
    init.add_argument("--extension", metavar="NAME", help="the image that is the stamp, where files hold several")
    checkout = commands.add_parser(
        "checkout",
        help="make a working tree as it was for a run that MLflow has",
        description="Make a git worktree in FOLDER, at the commit of a run that MLflow has and with its params, and "
        "bring its data where the cache or the remote has it. If FOLDER is such a worktree already, say whether its "
        "dvc.lock has the hashes of the run.",
    )
    checkout.add_argument("run", metavar="RUN_ID", help="as MLflow shows it; one of a stage or a candidate will do")
    checkout.add_argument("folder", type=_folder, metavar="FOLDER")
    for name, what in _STAGES.items():
        commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}, as params.yaml says.")
    commands.add_parser(
        "plan",
        help="say what the search and the final training will cost here",
        description="Say how many candidates there are at most, how many the journal knows, and the time and memory "
        "that they take on this machine, from a measurement of a few batches. Nothing is written.",
    )
    commands.add_parser(
        "result",
        help="print the test accuracy and where the report is",
        description="Print what reports/metrics.json says, and where the report, the plots and the runs are.",
    )
    compare = commands.add_parser(
        "compare",
        help="say what differs between two results, and whether it is more than noise",
        description="Print what differs between two results in params, data and code, what both came to, and whether "
        "the difference is more than noise: paired by test sample, with standard errors clustered by source. A and B "
        "are DVC experiments, branches, tags, commits, or models in MLflow (models:/space-warps@champion), or "
        "`workspace` for the files as they are.",
    )
    compare.add_argument("a", metavar="A", help="the result that is compared with")
    compare.add_argument("b", metavar="B", nargs="?", default="workspace", help="the other one (default: workspace)")
    promote = commands.add_parser(
        "promote",
        help="register the final network in MLflow, as champion if it beats the one that is",
        description="Register the final network in MLflow's model registry. It gets the alias `champion` if there is "
        "none, or if its log loss on the test split is lower than the champion's by more than noise "
        "(evaluate.confidence). Exit status 1 if it does not.",
    )
    promote.add_argument("--back", action="store_true", help="give the alias back to the champion before")
    predict = commands.add_parser(
        "predict",
        help="classify the stamps of another survey with the final network",
        description="Write a table with the class, the probabilities, the prediction set and what is odd about each "
        "sample of a survey; labels and positions are not needed. Without options, this is the stage of "
        "prediction/dvc.yaml, whose survey params.yaml names. Beside it stands a table of the rows that could not "
        "be predicted, with the reason. If it is interrupted, the same command goes on. Columns and kernels are those "
        "of params.yaml, where this folder has one.",
    )
    predict.add_argument("--catalog", type=_folder, metavar="C", help="one catalogue, or a folder of them")
    predict.add_argument("--images", type=_folder, metavar="D", help="the folder of stamps")
    predict.add_argument("--out", type=_folder, metavar="FILE", help="the table: .csv or .parquet")
    predict.add_argument("--model", type=_folder, metavar="M", help="the folder of the network (default: models/final)")
    predict.add_argument("--id", metavar="COLUMN", help="the catalogue's name for the id (default: id)")
    where = predict.add_mutually_exclusive_group()
    where.add_argument("--workers", type=_count, metavar="N", help="processes (default: as many as the cores allow)")
    where.add_argument("--ray", metavar="ADDRESS", help="a Ray cluster whose nodes see D: local, auto or HOST:PORT")
    export = commands.add_parser(
        "export",
        help="write the final network as ONNX, for programs without Space Warps",
        description="Write the final network as an ONNX graph, with all that goes on before and after it: it takes "
        "stamps and features as a survey has them, and gives calibrated probabilities. It is written once it answers "
        "as torch does, on the test split where params.yaml names one, and otherwise on noise. A page for a browser "
        "holds the graph and all that runs it.",
    )
    export.add_argument("--out", type=_folder, required=True, metavar="FILE", help="the graph: .onnx")
    export.add_argument("--page", type=_folder, metavar="P", help="write a page for a browser, too: .html")
    export.add_argument("--runtime", type=_folder, metavar="R", help="for the page: the folder of onnxruntime-web")
    export.add_argument("--model", type=_folder, metavar="M", help="the folder of the network (default: models/final)")
    journal = commands.add_parser(
        "journal",
        help="list the journal, prune it, and share it",
        description="List the candidates that the journal knows, the last used first. Deleting some, or the whole "
        "folder, costs time and changes no result.",
    )
    journal.set_defaults(action=None)
    actions = journal.add_subparsers(dest="action", metavar="ACTION")
    for action, what in {
        "push": "copy what the journal knows to PLACE, for others to pull",
        "pull": "copy what PLACE knows into the journal",
    }.items():
        copying = actions.add_parser(
            action, help=what, description=f"{what[0].upper()}{what[1:]}. Each entry is checked."
        )
        copying.add_argument(
            "place",
            type=_place,
            metavar="PLACE",
            help="a folder; remote://NAME, the remote NAME of DVC, or remote://NAME/PATH; or an address such as "
            "s3://BUCKET/PATH",
        )
    journal.add_argument("--older-than", type=_positive, metavar="DAYS", help="delete what was not used for as long")
    journal.add_argument("--larger-than", type=_positive, metavar="MB", help="delete the oldest beyond this size")
    commands.add_parser(
        "sync",
        help="tell MLflow what it has not heard of yet",
        description="Deliver to MLflow the notes that stages kept in .spacewarps/spool as MLflow did not answer.",
    )
    check = commands.add_parser("params", help="print params.yaml as it is understood, or check it")
    check.add_argument("--check", action="store_true", help="only say whether it is valid")
    return parser


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("name a folder; `.` is this one")
    return Path(text)


def _place(text: str) -> str:
    return text if "://" in text else str(_folder(text))


def _count(text: str) -> int:
    with contextlib.suppress(ValueError):
        if 1 <= int(text) <= 1024:
            return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 1024")


def _positive(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < 1e12:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to below 1e12")


if __name__ == "__main__":
    sys.exit(main())
