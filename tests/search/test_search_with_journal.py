import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spacewarps.model.storage import pack_model
from spacewarps.search import evaluator
from spacewarps.search.candidate import Checkpoint, Evaluation
from spacewarps.search.entries import list_entries
from spacewarps.search.executors.base import Job
from spacewarps.search.executors.inline import InlineExecutor
from spacewarps.search.folds import Fold
from spacewarps.search.history import Candidate, CandidateResult, History
from spacewarps.search.journal import FolderJournal, Journal
from spacewarps.search.observer import SearchObserver
from spacewarps.search.progressive import SearchResult
from spacewarps.search.settings import WarmStart
from spacewarps.search.strategies.beam import Beam
from spacewarps.search.strategies.pnas import Pnas
from spacewarps.survey.augmentation import Augmentation
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.prepared import PreparedSurvey
from spacewarps.training.compute import Compute
from spacewarps.training.score import Epoch
from spacewarps.training.settings import Optimiser

Search = Callable[..., SearchResult]


class Listener(SearchObserver):
    """Counts the samples that were promised and those that were done, and remembers the events."""

    def __init__(self) -> None:
        self.promised: list[int] = []
        self.done: list[int] = []
        self.in_batches = 0
        self.events: list[tuple[Any, ...]] = []

    def by_candidate(self) -> dict[Any, list[Any]]:
        """Return what was told of each candidate, in order; candidates may take turns."""
        found: dict[Any, list[Any]] = {}
        for what, about, *rest in self.events:
            candidate = about.candidate if what == "finished" else about
            found.setdefault(candidate, []).append((what, about, rest))
        return found

    def step_started(self, step: int, candidates: list[Candidate], samples: int) -> None:
        self.events.append(("step", step, tuple(candidates)))
        self.promised.append(samples)
        self.done.append(0)

    def batch_trained(self, samples: int) -> None:
        self.done[-1] += samples
        self.in_batches += samples * (samples <= 16)

    def candidate_started(self, candidate: Candidate) -> None:
        self.events.append(("started", candidate))

    def epoch_finished(self, candidate: Candidate, fold: int, epoch: Epoch) -> None:  # noqa: ARG002
        self.events.append(("epoch", candidate, epoch))

    def candidate_finished(self, result: CandidateResult) -> None:
        self.events.append(("finished", result))

    def search_finished(self, history: History) -> None:
        self.events.append(("end", history))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def journal(folder: Path) -> Iterator[FolderJournal]:
    found = FolderJournal(folder)
    yield found
    found.close()


def bits(found: SearchResult) -> tuple[bytes, History]:
    return pack_model(found.model), found.history


def results(found: SearchResult) -> set[CandidateResult]:
    return {result for step in found.history.steps for result in step.candidates}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.candidate")}


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "checkpoints": {"checkpoints": True},
    "siblings": {"warm_start": WarmStart("siblings"), "k_candidates": [2, 3, 4]},
    "block": {"trains": "block", "epochs_per_eval": 3},
    "siblings and block": {"warm_start": WarmStart("siblings"), "trains": "block"},
    "none": {"warm_start": WarmStart("none")},
    "halving": {"halving": 1, "k_candidates": [2, 3, 4], "epochs_per_eval": 3},
    "halving twice, block": {"halving": 2, "k_candidates": [2, 3, 4], "epochs_per_eval": 4, "trains": "block"},
    "beam": {"strategy": Beam(2), "epochs_per_eval": 1},
    "pnas": {"strategy": Pnas(2, 2), "epochs_per_eval": 1},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_second_search_evaluates_nothing_and_tells_and_gives_the_same(
    search: Search, journal: FolderJournal, variant: str
) -> None:
    plain, first, second = Listener(), Listener(), Listener()
    without = search(observer=plain, **VARIANTS[variant])
    one = search(journal=journal, observer=first, **VARIANTS[variant])
    two = search(journal=journal, observer=second, **VARIANTS[variant])
    assert bits(one) == bits(two) == bits(without)
    candidates = len(results(without))
    assert (without.evaluated, without.found) == (one.evaluated, one.found) == (candidates, 0)
    assert (two.evaluated, two.found) == (0, candidates)
    assert plain.by_candidate() == first.by_candidate() == second.by_candidate()
    for listener in (plain, first, second):
        assert listener.done == listener.promised
    assert second.in_batches == 0
    assert len(contents(journal.folder)) == candidates


def test_another_journal_on_the_same_folder_knows_the_same(search: Search, folder: Path) -> None:
    first = FolderJournal(folder)
    one = search(journal=first)
    first.close()
    second = FolderJournal(folder)
    two = search(journal=second)
    second.close()
    assert (two.evaluated, bits(two)) == (0, bits(one))


def test_the_entries_are_the_same_bytes_in_any_journal(search: Search, tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        journal = FolderJournal(tmp_path / name)
        search(journal=journal, checkpoints=name == "one")
        journal.close()
        found.append(contents(tmp_path / name))
    assert found[0] == found[1]


def test_a_layer_more_costs_that_layer(search: Search, journal: FolderJournal) -> None:
    two = search(journal=journal, max_layers=2)
    assert len(two.history.blocks) == 2
    three = search(journal=journal, max_layers=3)
    assert (three.evaluated, three.found) == (2, 4)
    assert three.history.steps[:2] == two.history.steps
    assert bits(three) == bits(search(max_layers=3))


def test_a_k_more_costs_one_candidate_a_step_until_its_winner_is_another(
    search: Search, journal: FolderJournal
) -> None:
    costs = set()
    for seed in range(4):
        options = {"max_layers": 3, "epochs_per_eval": 1, "seed": seed}
        less = search(journal=journal, **options)
        more = search(journal=journal, k_candidates=[2, 3, 4], **options)
        expected = len(results(more) - results(less))
        assert (more.evaluated, more.found) == (expected, len(results(more)) - expected)
        for step, other in zip(more.history.steps, less.history.steps, strict=False):
            assert (set(other.candidates) <= set(step.candidates)) == (len(set(step.candidates) - results(less)) == 1)
            if step.kept != other.kept:
                break
        costs.add(expected)
        assert bits(more) == bits(search(k_candidates=[2, 3, 4], **options))
    # The new one has won here and lost there.
    assert len(costs) > 1


def test_another_strategy_finds_what_it_has_in_common(search: Search, journal: FolderJournal) -> None:
    options = {"epochs_per_eval": 1}
    search(journal=journal, **options)
    beam = search(journal=journal, strategy=Beam(2), **options)
    assert (beam.evaluated, beam.found) == (2, 4)


def test_without_halving_those_that_were_stopped_go_on_from_where_they_stopped(
    search: Search, journal: FolderJournal
) -> None:
    options = {"k_candidates": [2, 3, 4], "epochs_per_eval": 4, "max_layers": 1}
    search(journal=journal, halving=1, **options)
    listener = Listener()
    whole = search(journal=journal, observer=listener, **options)
    assert (whole.evaluated, whole.found) == (1, 2)
    assert listener.in_batches == 2 * 60
    assert listener.done == listener.promised
    assert bits(whole) == bits(search(**options))
    listener = Listener()
    halved = search(journal=journal, halving=1, observer=listener, **options)
    assert (halved.evaluated, halved.found) == (0, 3)
    assert listener.done == listener.promised
    assert bits(halved) == bits(search(halving=1, **options))


def test_the_first_of_each_family_of_siblings_is_known_from_mode_previous(
    search: Search, journal: FolderJournal
) -> None:
    options = {"k_candidates": [2, 3, 4], "epochs_per_eval": 1, "max_layers": 1, "block_kinds": ["conv", "separable"]}
    search(journal=journal, **options)
    siblings = search(journal=journal, warm_start=WarmStart("siblings"), **options)
    assert (siblings.evaluated, siblings.found) == (4, 2)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 4},
        {"epochs_per_eval": 3},
        {"optimiser": Optimiser(15, learning_rate=0.01)},
        {"optimiser": Optimiser(16, learning_rate=0.011)},
        {"warm_start": WarmStart(jitter=0.06)},
        {"trains": "block"},
    ],
)
def test_what_decides_a_bit_is_looked_for_anew(search: Search, journal: FolderJournal, change: dict[str, Any]) -> None:
    search(journal=journal, max_layers=1)
    other = search(journal=journal, max_layers=1, **change)
    assert (other.evaluated, other.found) == (2, 0)
    assert bits(other) == bits(search(max_layers=1, **change))


def test_other_data_are_looked_for_anew(
    search: Search, journal: FolderJournal, draw_survey: Callable[..., PreparedSurvey], prepared: PreparedSurvey
) -> None:
    search(journal=journal, max_layers=1)
    for survey, noise in ((draw_survey(seed=1), 0.1), (prepared, 0.2)):
        train = Space_Galaxi(survey, split="train", augmentation=Augmentation(noise=noise))
        validation = Space_Galaxi(survey, split="validation")
        other = search(train=train, validation=validation, journal=journal, max_layers=1)
        assert (other.evaluated, other.found) == (2, 0)
    in_memory = draw_survey()
    train = Space_Galaxi(in_memory, split="train", augmentation=Augmentation())
    same = search(train=train, validation=Space_Galaxi(in_memory, split="validation"), journal=journal, max_layers=1)
    assert (same.evaluated, same.found) == (0, 2)


def test_other_threads_are_looked_for_anew(search: Search, journal: FolderJournal, compute: Compute) -> None:
    search(journal=journal, max_layers=1)
    other = search(journal=journal, max_layers=1, compute=Compute(compute.device, compute.precision, threads=2))
    assert (other.evaluated, other.found) == (2, 0)


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "deleted":
        path.unlink()
    elif how == "torn":
        path.write_bytes(data[: len(data) // 2])
    elif how == "altered":
        path.write_bytes(data[:-100] + bytes([data[-100] ^ 1]) + data[-99:])
    elif how == "emptied":
        path.write_bytes(b"")
    else:
        other = next(entry for entry in sorted(path.parent.glob("*.candidate")) if entry != path)
        shutil.copy(other, path)


@pytest.mark.parametrize("how", ["deleted", "torn", "altered", "emptied", "taken from another"])
def test_entries_that_are_gone_or_damaged_are_made_again_and_change_nothing(
    search: Search, journal: FolderJournal, how: str
) -> None:
    first = search(journal=journal)
    before = contents(journal.folder)
    for path in sorted(journal.folder.glob("*.candidate"))[::2]:
        damage(path, how)
    assert contents(journal.folder) != before
    again = search(journal=journal)
    assert (again.evaluated, again.found) == (2, 2)
    assert bits(again) == bits(first)
    assert contents(journal.folder) == before


def test_a_folder_in_the_place_of_an_entry_changes_nothing(search: Search, journal: FolderJournal) -> None:
    first = search(journal=journal)
    path = sorted(journal.folder.glob("*.candidate"))[0]
    path.unlink()
    path.mkdir()
    again = search(journal=journal)
    assert (again.evaluated, again.found) == (1, 3)
    assert bits(again) == bits(first)


class Spoiler(SearchObserver):
    """Takes the journal's folder away in the middle of a search."""

    def __init__(self, folder: Path, *, in_the_way: bool) -> None:
        self.folder, self.in_the_way = folder, in_the_way

    def candidate_finished(self, result: CandidateResult) -> None:  # noqa: ARG002
        if self.folder.is_dir():
            shutil.rmtree(self.folder)
            if self.in_the_way:
                self.folder.write_text("in the way")


@pytest.mark.parametrize(("in_the_way", "reason"), [(False, "No such file or directory"), (True, "Not a directory")])
def test_a_journal_that_goes_away_in_the_middle_costs_notes_and_not_the_search(
    search: Search, journal: FolderJournal, in_the_way: bool, reason: str
) -> None:
    found = search(journal=journal, observer=Spoiler(journal.folder, in_the_way=in_the_way))
    assert bits(found) == bits(search())
    assert found.evaluated == 4
    assert journal.failure == reason


class Interrupter(SearchObserver):
    """Interrupts a search after some epochs."""

    def __init__(self, epochs: int) -> None:
        self.left = epochs

    def epoch_finished(self, candidate: Candidate, fold: int, epoch: Epoch) -> None:  # noqa: ARG002
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("variant", ["plain", "block", "siblings", "halving", "halving twice, block"])
def test_a_search_that_is_interrupted_after_any_epoch_goes_on_to_the_same_bits(
    search: Search, folder: Path, variant: str
) -> None:
    options = {**VARIANTS[variant], "max_layers": 1, "checkpoints": True}
    without = search(**options)
    epochs = sum(len(result.epochs) for result in results(without))
    for stop in range(0, epochs, 3):
        journal = FolderJournal(folder / str(stop))
        with pytest.raises(KeyboardInterrupt):
            search(journal=journal, observer=Interrupter(stop), **options)
        known = sum(entry.epochs for entry in list_entries(journal.folder))
        assert known >= stop
        listener = Listener()
        again = search(journal=journal, observer=listener, **options)
        assert bits(again) == bits(without)
        assert listener.done == listener.promised
        journal.close()


class Memory(Journal):
    """Remembers every checkpoint; knows of each candidate the one after as many epochs as it is told."""

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self._written: dict[str, dict[int, Checkpoint]] = {}

    def find(self, key: str) -> Checkpoint | None:
        of_key = list(self._written).index(key) if key in self._written else len(self.epochs)
        return self._written[key][self.epochs[of_key]] if of_key < len(self.epochs) else None

    def write(self, key: str, evaluation: Evaluation, checkpoint: Checkpoint) -> None:  # noqa: ARG002
        self._written.setdefault(key, {})[len(checkpoint.epochs)] = checkpoint


class Starts(InlineExecutor):
    """Notes after how many epochs the evaluations of each job start."""

    def submit(self, ticket: int, job: Job) -> None:
        self.seen = [*getattr(self, "seen", []), [len(each.start.epochs) if each.start else 0 for each in job]]
        super().submit(ticket, job)


def test_those_that_share_a_trunk_go_on_each_from_its_own_last_epoch(
    search: Search, train_data: Space_Galaxi, validation_data: Space_Galaxi
) -> None:
    options = {"trains": "block", "k_candidates": [2, 3, 4], "max_layers": 1, "epochs_per_eval": 4}
    journal, executor = Memory(), Starts([Fold(train_data, validation_data)])
    first = search(journal=journal, checkpoints=True, **options)
    journal.epochs = [3, 1, 3]
    second = search(journal=journal, executor=executor, **options)
    assert sorted(executor.seen) == [[1], [3, 3]]
    assert (pack_model(second.model), second.history) == (pack_model(first.model), first.history)


class Claimed(Journal):
    """Another search has every candidate in hand, and gives it up after it was asked for often enough."""

    def __init__(self, times: int) -> None:
        self.left = times

    def claim(self, key: str) -> bool:  # noqa: ARG002
        self.left -= 1
        return self.left < 0


class Awaiting(SearchObserver):
    def __init__(self) -> None:
        self.heard: list[int] = []

    def others_awaited(self, candidates: int) -> None:
        self.heard.append(candidates)


@pytest.mark.parametrize(("looks", "heard"), [(3, []), (30, [2])])
def test_a_search_that_waits_for_another_says_so_once(
    search: Search, monkeypatch: pytest.MonkeyPatch, looks: int, heard: list[int]
) -> None:
    monkeypatch.setattr(evaluator, "_SECONDS_BETWEEN_LOOKS", 2**-6)
    monkeypatch.setattr(evaluator, "_SECONDS_UNTIL_SAID", 2**-3)
    observer = Awaiting()
    search(journal=Claimed(2 * looks), observer=observer, max_layers=1)
    assert observer.heard == heard
