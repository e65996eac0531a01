"""The command ``promote``: the final network into MLflow's registry, and the alias of the champion if it earns it."""

import argparse
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.repo import Repo
from mlflow.entities.model_registry import ModelVersion

from spacewarps.commands.answers import MAX_TABLE_BYTES, Answers, read_answers
from spacewarps.commands.paired import gains, same_samples
from spacewarps.commands.recorded_params import note_on_params
from spacewarps.commands.registered_models import open_registry
from spacewarps.commands.results import ANSWERS, METRICS, STAGE, Result, read_result
from spacewarps.commands.revisions import WORKSPACE, find_revision
from spacewarps.errors import ModelError, SpaceWarpsError
from spacewarps.git import run_git
from spacewarps.model.storage import load_model
from spacewarps.progress import say
from spacewarps.reading import read_bytes
from spacewarps.stages.context import Stage
from spacewarps.stages.learning import open_splits, set_up
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.tracking.artifacts import MODEL_TAG, log_model
from spacewarps.tracking.failures import TrackingError
from spacewarps.tracking.hashes import dvc_hash
from spacewarps.tracking.lock_file import LOCK
from spacewarps.tracking.notes import DATA_TAG
from spacewarps.tracking.registry import CHAMPION, GoneError, Registry
from spacewarps.tracking.revision import COMMIT_TAG, EXPERIMENT_TAG, git_and_dvc_tags
from spacewarps.tracking.turns import turn
from spacewarps.training.prediction import predict_probabilities
from spacewarps.writing import in_percent

_REFUSED = 1
_TEST_TAG = "test.hash"
_BEFORE_TAG, _DECISION_TAG = "spacewarps.champion_before", "spacewarps.decision"
# MLflow and DVC both accept such a name, and neither takes a part of it for something else.
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?")


class _CannotAnswerError(Exception):
    """The champion cannot be asked, and what it answered once is of no use; the message says why."""


@dataclass(frozen=True)
class _Challenger:
    """The final network as it stands in the workspace.

    Args:
        result: what ``evaluate`` said of it.
        answers: its answers on the test split.
        tags: its lineage, as far as the workspace tells it.
    """

    result: Result
    answers: Answers
    tags: dict[str, str]


def run(stage: Stage, options: argparse.Namespace) -> int:
    """Register the final network and decide on it, or give the alias back; return the exit status.

    Raises:
        SpaceWarpsError: there is no result, its files are not those of ``dvc.lock``, or MLflow cannot be used.
    """
    registry = open_registry(_name_of_the_model(stage), may_make=True)
    if options.back:
        say(_give_back(registry))
        return 0
    challenger = _challenger(stage)
    if note := note_on_params(stage.params, STAGE):
        say(f"note: {note}")
    registry.open()
    with turn(registry):
        return _decide(stage, registry, challenger)


def _decide(stage: Stage, registry: Registry, challenger: _Challenger) -> int:
    version = _registered(stage, registry, challenger)
    champion = registry.champion()
    if champion is not None and champion.version == version.version:
        say(f"version {version.version} of {registry.name} is this network, and the {CHAMPION} already")
        return 0
    wins, sentence = _decision(stage, registry, challenger, version, champion)
    before = _champion_before(champion, version) if wins and champion is not None else {}
    registry.note(version, sentence, {_DECISION_TAG: sentence, **before})
    if wins:
        # Last of all: what is cut short before this can be run again.
        registry.crown(version)
    say(sentence)
    return 0 if wins else _REFUSED


def _is_same(one: ModelVersion, other: ModelVersion) -> bool:
    """Say whether two versions are of one network on the same data."""
    return all(one.tags.get(name) == other.tags[name] for name in (MODEL_TAG, DATA_TAG))


def _champion_before(champion: ModelVersion, version: ModelVersion) -> dict[str, str]:
    """Return the tag of ``version`` that says where its alias goes back to."""
    if not _is_same(champion, version):
        return {_BEFORE_TAG: str(champion.version)}
    # It takes the place of one that has lost its files, to which nobody goes back.
    return {_BEFORE_TAG: before} if (before := champion.tags.get(_BEFORE_TAG)) else {}


def _name_of_the_model(stage: Stage) -> str:
    """Return the name under which ``dvc.yaml`` lists the final network among its artifacts."""
    final, advice = stage.params.paths.final, "`spacewarps init` writes one into an empty folder"
    try:
        with Repo() as repo:
            here = Path.cwd().resolve().relative_to(Path(repo.root_dir).resolve())
            artifacts = repo.artifacts.read().get(str(here / "dvc.yaml"), {})
    except DvcException as error:
        raise SpaceWarpsError(f"dvc.yaml: {' '.join(str(error).split()):.200}") from None
    names = [name for name, artifact in artifacts.items() if Path(artifact.path) == Path(final)]
    if len(names) != 1:
        found = "names no artifact" if not names else f"names {len(names)} artifacts"
        raise SpaceWarpsError(f"dvc.yaml {found} with path {final}, whose name the model has in MLflow; {advice}")
    if not _NAME.fullmatch(names[0]):
        raise SpaceWarpsError(f"dvc.yaml: the artifact {names[0]!r:.80} should have a name of letters, digits, _ and -")
    return str(names[0])


def _challenger(stage: Stage) -> _Challenger:
    result = read_result(find_revision(WORKSPACE))
    if isinstance(result.answers, str):
        raise SpaceWarpsError(f"{result.answers}; run `dvc repro` first")
    final, prepared = stage.params.paths.final, stage.params.paths.prepared
    tags = {
        MODEL_TAG: _checked(result, final, dvc_hash(Path(final))),
        DATA_TAG: _checked(result, prepared, dvc_hash(stage.prepared)),
        _TEST_TAG: result.answers.fingerprint(),
        **{f"test.{name}": f"{result.metrics[name]:.6f}" for name in ("accuracy", "balanced_accuracy", "log_loss")},
        **_commit(),
    }
    metrics = Path(result.reports / METRICS)
    _checked(result, str(metrics), dvc_hash(metrics))
    return _Challenger(result, result.answers, tags)


def _checked(result: Result, path: str, found: str) -> str:
    """Return the hash that was found, if the last evaluation is of it."""
    evaluated = result.lock[STAGE]
    recorded = {Path(place.path): place.md5 for place in (*evaluated.deps, *evaluated.outs)}
    if recorded.get(Path(path)) != found:
        raise SpaceWarpsError(
            f"{path} is not what {LOCK} says of the last evaluation; run `dvc repro`, or `dvc checkout`"
        )
    return found


def _commit() -> dict[str, str]:
    """Return the commit, and which of the files that tell of the result are not as they are there."""
    commit = git_and_dvc_tags(()).get(COMMIT_TAG)
    if commit is None:
        return {}
    said = run_git(Path.cwd(), "status", "--porcelain", "--", "params.yaml", "dvc.yaml", str(LOCK)).stdout
    changed = ", ".join(line[3:] for line in said.splitlines())
    return {"git.commit": commit, **({"git.uncommitted": changed} if changed else {})}


def _registered(stage: Stage, registry: Registry, challenger: _Challenger) -> ModelVersion:
    """Return the version of this very network on these data; make it if there is none."""
    digest = challenger.tags[MODEL_TAG]
    same = {name: challenger.tags[name] for name in (MODEL_TAG, DATA_TAG)}
    if found := registry.version_with(same):
        if registry.has_files(found):
            # An earlier attempt may have been cut short before it.
            registry.keep_answers(found, Path(challenger.result.reports / ANSWERS))
            return found
        say(f"version {found.version} of {registry.name} is this network, but its files are gone from MLflow")
    logged = registry.logged_model(digest)
    if logged is None or not registry.has_files(logged):
        # It was trained elsewhere, or DVC has taken it from its cache, or its files were deleted: nothing here has it.
        with stage.tracked() as tracked:
            log_model(tracked, Path(stage.params.paths.final), *open_splits(stage, "test"))
        logged = registry.logged_model(digest)
    if logged is None or not registry.has_files(logged):
        raise TrackingError("MLflow does not have the whole model yet; run `spacewarps sync`, then this again")
    experiment = registry.run_tags(logged).get(EXPERIMENT_TAG)
    tags = challenger.tags | ({EXPERIMENT_TAG: experiment} if experiment else {})
    version = registry.register(logged, tags)
    registry.keep_answers(version, Path(challenger.result.reports / ANSWERS))
    return version


def _decision(
    stage: Stage, registry: Registry, challenger: _Challenger, version: ModelVersion, champion: ModelVersion | None
) -> tuple[bool, str]:
    """Return whether ``version`` becomes the champion, and why, in one sentence."""
    new, answers = f"version {version.version} of {registry.name}", challenger.answers
    on = f"{len(answers)} test samples of {len(set(answers.sources))} sources"
    if champion is None:
        test = challenger.result.metrics
        return True, (
            f"{new} is the {CHAMPION}, as there is no other: log loss {test['log_loss']:.4f}, "
            f"accuracy {test['accuracy']:.4f} ({on})"
        )
    old = f"version {champion.version}"
    if _is_same(champion, version):
        return True, f"{new} is the {CHAMPION} in place of {old}, which is the same network and has lost its files"
    try:
        its_answers = _answers_of_champion(stage, registry, champion, answers)
    except _CannotAnswerError as error:
        return False, (
            f"{new} does not replace the {CHAMPION}, {old}, as the two cannot be compared: {error}; to begin anew, "
            f"take the alias {CHAMPION} from {old} in MLflow"
        )
    confidence = stage.params.evaluate.confidence
    loss, accuracy = gains(answers, its_answers)
    wins = loss.beats(confidence)
    head = f"{new} is the {CHAMPION} in place of {old}" if wins else f"{new} does not replace the {CHAMPION}, {old}"
    better = loss.estimate.mean > 0
    noise = (
        f", which is {'more than' if wins else 'within'} noise at {in_percent(confidence)} confidence" if better else ""
    )
    figures = (
        f"log loss {loss.value:.4f}, {loss.told}{noise}; accuracy {accuracy.value:.4f}, {accuracy.told} "
        f"({on}, paired by sample)"
    )
    seen = (
        f"; {old} was tested on other samples and may have learned from some of these, which favours it"
        if champion.tags.get(_TEST_TAG) != challenger.tags[_TEST_TAG]
        else ""
    )
    return wins, f"{head}: {figures}{seen}"


def _answers_of_champion(stage: Stage, registry: Registry, champion: ModelVersion, of: Answers) -> Answers:
    """Return what the champion answers for the same samples as ``of``.

    It is asked anew, as the survey may have changed; where it cannot be, what it answered once will do if that was for
    the same samples. A store that fails says nothing of the champion, and ends the promotion.
    """
    with tempfile.TemporaryDirectory() as folder:
        (test,) = open_splits(stage, "test")
        why = ""
        try:
            found = _asked(stage, registry, champion, test, Path(folder))
        except (ModelError, GoneError) as error:
            why = f"{str(error).partition(';')[0]}, and "
            try:
                path = registry.fetch_answers(champion, ANSWERS.name, Path(folder))
                found = read_answers(read_bytes(path, at_most=MAX_TABLE_BYTES))
            except (GoneError, OSError, ValueError):
                raise _CannotAnswerError(f"{why}it has left no answers") from None
    if not same_samples(found, of):
        raise _CannotAnswerError(f"{why}its answers are for other test samples")
    return found


def _asked(stage: Stage, registry: Registry, champion: ModelVersion, test: Space_Galaxi, folder: Path) -> Answers:
    network = registry.fetch_model(champion, folder)
    recorded = champion.tags.get(MODEL_TAG)
    if recorded is not None and dvc_hash(network) != recorded:
        raise ModelError(f"the network of version {champion.version} in MLflow is not the one that was registered")
    compute = set_up(stage, stage.params.compute.threads)
    probabilities = predict_probabilities(load_model(network), test, compute)
    return Answers.of(test.samples, test.classes, probabilities)


def _give_back(registry: Registry) -> str:
    """Give the alias to the champion before, and say so."""
    none = SpaceWarpsError(f"{registry.name} has no {CHAMPION} in MLflow; `spacewarps promote` makes one")
    if registry.champion() is None:
        raise none
    with turn(registry):
        champion = registry.champion()
        if champion is None:
            raise none
        return _give_back_from(registry, champion)


def _give_back_from(registry: Registry, champion: ModelVersion) -> str:
    number = champion.tags.get(_BEFORE_TAG)
    if number is None:
        raise SpaceWarpsError(
            f"version {champion.version} of {registry.name} is the first {CHAMPION}: there is none before"
        )
    before = registry.version(number)
    if before is None:
        raise SpaceWarpsError(f"version {number} of {registry.name}, the {CHAMPION} before, is no longer in MLflow")
    if not registry.has_files(before):
        raise SpaceWarpsError(
            f"version {number} of {registry.name}, the {CHAMPION} before, has lost its files in MLflow; put its "
            f"artifacts back from a copy (version {champion.version} stays the {CHAMPION})"
        )
    sentence = f"version {number} of {registry.name} is the {CHAMPION} again, in place of version {champion.version}"
    registry.note(champion, sentence)
    registry.crown(before)
    return sentence
