"""The command ``compare``: what differs between two results, and whether it is more than noise."""

import argparse
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from spacewarps.commands.answers import Answers
from spacewarps.commands.one_piece import doubt_of
from spacewarps.commands.paired import gains, same_samples
from spacewarps.commands.recorded_params import note_on_params
from spacewarps.commands.results import STAGE, Result, read_result
from spacewarps.commands.revisions import WORKSPACE, Revision, find_revision
from spacewarps.errors import SpaceWarpsError
from spacewarps.model.settings import block_label
from spacewarps.progress import say
from spacewarps.settings import shown
from spacewarps.stages.context import Stage
from spacewarps.stages.param_values import NO_VALUE
from spacewarps.tracking.lock_file import LockedStage, params_of
from spacewarps.writing import in_percent

_WIDTH = 80
_LONGEST_NAME = 30
_DIGITS = 7
_NAMED = 3

#: A name and the values that A and B have there.
_Row = tuple[str, str, str]


def run(stage: Stage, options: argparse.Namespace) -> None:
    """Print the comparison.

    Raises:
        SpaceWarpsError: one of both cannot be found, or holds no result, or one that is of several runs.
    """
    revisions = [find_revision(name) for name in (options.a, options.b)]
    a, b = (read_result(revision) for revision in revisions)
    for revision, result in zip(revisions, (a, b), strict=True):
        if doubt := doubt_of(revision, result.lock):
            raise SpaceWarpsError(f"{revision.name}: {doubt}; run `dvc repro` there first")
    for letter, revision in zip("AB", revisions, strict=True):
        _say(f"{letter}: {revision.name}{f' ({revision.commit[:_DIGITS]})' if revision.commit else ''}")
        if revision.name == WORKSPACE and (note := note_on_params(stage.params, STAGE)):
            _say(f"   note: {note}")
    _say_differences("params", _params(a, b))
    _say_differences("data", _data(a, b))
    _say_code(a, b)
    say("")
    say("result")
    for line in _table([("", "A", "B"), *_results(a, b)]):
        say(line)
    say("")
    for line in _noise(a, b, revisions, stage.params.evaluate.confidence):
        _say(line)


def _say(text: str) -> None:
    indent = "  " if text.startswith("  ") else ""
    for line in textwrap.wrap(text, _WIDTH, subsequent_indent=indent and f"{indent}  ", drop_whitespace=True):
        say(line)


def _say_differences(what: str, rows: Sequence[_Row]) -> None:
    say("")
    if not rows:
        say(f"{what}: the same")
        return
    say(what)
    for line in _table([("", "A", "B"), *rows]):
        say(line)


def _table(rows: Sequence[_Row]) -> Iterator[str]:
    """Yield the lines of a table whose cells are broken where they are too long."""
    first = min(_LONGEST_NAME, max(len(name) for name, _, _ in rows))
    other = (_WIDTH - 2 - first - 4) // 2
    for row in rows:
        cells = [textwrap.wrap(text, width) or [""] for text, width in zip(row, (first, other, other), strict=True)]
        for number in range(max(map(len, cells))):
            name, a, b = (cell[number] if number < len(cell) else "" for cell in cells)
            yield f"  {name:{first}}  {a:{other}}  {b}".rstrip()


def _params(a: Result, b: Result) -> list[_Row]:
    one, other = params_of(a.lock), params_of(b.lock)
    both = [(name, one.get(name, NO_VALUE), other.get(name, NO_VALUE)) for name in {**one, **other}]
    return [(name, _value(then), _value(now)) for name, then, now in both if then != now]


def _value(value: Any) -> str:
    return "not there" if value is NO_VALUE else shown(value)


def _data(a: Result, b: Result) -> list[_Row]:
    one, other = _hashes(a.lock), _hashes(b.lock)
    return [
        (what, one.get(what, "not there"), other.get(what, "not there"))
        for what in {**one, **other}
        if one.get(what) != other.get(what)
    ]


def _hashes(stages: Mapping[str, LockedStage]) -> dict[str, str]:
    """Return the survey as it was delivered and as it was prepared, each with its place and the start of its hash."""
    params = params_of(stages)
    named = {"catalogue": params.get("data.catalog"), "stamps": params.get("data.images")}
    places = {PurePosixPath(str(place)): what for what, place in named.items()}
    read = [(places[dep.path], dep) for each in stages.values() for dep in each.deps if dep.path in places]
    wrote = [("prepared survey", out) for name, each in stages.items() if name == "prepare" for out in each.outs]
    return {what: f"{place.md5[:_DIGITS]} {place.path}" for what, place in (*read, *wrote)}


def _say_code(a: Result, b: Result) -> None:
    one, other = _code(a.lock), _code(b.lock)
    changed = sorted(name for name in {**one, **other} if one.get(name) != other.get(name))
    say("")
    if not changed:
        say("code: the same")
        return
    more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
    _say(f"code: {', '.join(changed[:_NAMED])}{more} differ{'s' * (len(changed) == 1)}")


def _code(stages: Mapping[str, LockedStage]) -> dict[str, str]:
    """Return the hashes of the code that DVC recorded: of files, or, where a project holds none, of stages."""
    files = {
        str(dep.path): dep.md5
        for each in stages.values()
        for dep in each.deps
        if dep.path.is_relative_to(PurePosixPath("src"))
    }
    recorded = {
        f"stage {name}": str(value)
        for each in stages.values()
        for name, value in each.params.get("code.json", {}).items()
    }
    return files | recorded


def _results(a: Result, b: Result) -> list[_Row]:
    one, other = _figures(a), _figures(b)
    return [(name, one.get(name, ""), other.get(name, "")) for name in {**one, **other}]


def _figures(result: Result) -> dict[str, str]:
    test, search, training = result.metrics, result.search, result.training
    figures = {
        "blocks": ", ".join(
            block_label(block["kind"], block["k"], block["kernel_size"]) for block in search["architecture"]
        ),
        "parameters": f"{search['total_trainable_params']:,}",
        "search accuracy": f"{search['final_val_accuracy']:.4f}",
    }
    if training.get("val_accuracy") is not None:
        figures["held-out accuracy"] = f"{training['val_accuracy']:.4f}"
    figures |= {
        "test accuracy": f"{test['accuracy']:.4f}",
        f"  {in_percent(test['confidence'])} interval": f"{test['accuracy_low']:.4f} to {test['accuracy_high']:.4f}",
        "balanced accuracy": f"{test['balanced_accuracy']:.4f}",
        "macro F1": f"{test['macro_f1']:.4f}",
        "log loss": f"{test['log_loss']:.4f}",
    }
    if test.get("ece") is not None:
        figures["calibration error"] = f"{test['ece']:.4f}"
    return figures


def _noise(a: Result, b: Result, revisions: Sequence[Revision], confidence: float) -> Iterable[str]:
    """Yield whether the difference is more than noise, or why that cannot be said."""
    told = [
        f"the answers of {revision.name} cannot be had ({result.answers})"
        for revision, result in zip(revisions, (a, b), strict=True)
        if isinstance(result.answers, str)
    ]
    if isinstance(a.answers, Answers) and isinstance(b.answers, Answers):
        if same_samples(a.answers, b.answers):
            yield (
                f"Both answered the same {len(a.answers)} test samples of {len(set(a.answers.sources))} sources. B "
                f"beside A, paired by sample (standard errors clustered by source, {in_percent(confidence)} "
                "confidence):"
            )
            for gain in gains(b.answers, a.answers):
                yield f"  {gain.measure} {gain.told}: {gain.verdict(confidence)}"
            return
        told = [_unlike(a.answers, b.answers)]
    yield (
        f"Not paired, so whether the difference is more than noise cannot be said: {'; '.join(told)}. "
        f"B less A: log loss {b.metrics['log_loss'] - a.metrics['log_loss']:+.4f}, "
        f"accuracy {b.metrics['accuracy'] - a.metrics['accuracy']:+.4f}"
    )


def _unlike(a: Answers, b: Answers) -> str:
    one, other = set(a.samples["id"]), set(b.samples["id"])
    if one == other:
        return "the test samples have other sources or classes in A than in B"
    return (
        f"the test splits differ ({len(one & other)} samples in both, {len(one - other)} only in A, "
        f"{len(other - one)} only in B), and so does what the samples have to do with the difference"
    )
