import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spacewarps.model.blocks import BLOCKS, ConvBlock
from spacewarps.model.settings import BlockSpec
from spacewarps.provenance import fingerprint_of_code
from spacewarps.search import keys as keys_module
from spacewarps.search.candidate import Checkpoint, Evaluation
from spacewarps.search.entries import Copied, FolderEntries, copy_entries, list_entries, prune
from spacewarps.search.folds import Fold
from spacewarps.search.history import Candidate
from spacewarps.search.journal import FolderJournal, Journal, JournalError, ReadOnlyJournal
from spacewarps.search.keys import key_of
from spacewarps.search.settings import CandidateSettings, WarmStart
from spacewarps.survey.augmentation import Augmentation
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.prepared import PreparedSurvey
from spacewarps.training.compute import Compute, kind_of_machine
from spacewarps.training.score import Epoch, Outcomes, Score
from spacewarps.training.settings import Optimiser
from tests.search.checkpoints import HALF, NETWORK, WHOLE, evaluation_on, network

KEY, OTHER_KEY = (hashlib.sha256(name).hexdigest() for name in (b"one", b"other"))


@pytest.fixture
def evaluation(compute: Compute) -> Evaluation:
    return evaluation_on(compute)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[FolderJournal]:
    found = FolderJournal(tmp_path / "journal")
    yield found
    found.close()


def copied(source: Path, target: Path) -> Copied:
    return copy_entries(FolderEntries(source), FolderEntries(target), lambda _: None)


def entry(journal: FolderJournal, key: str = KEY) -> Path:
    return journal.folder / f"{key}.candidate"


def with_hash(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def with_header(data: bytes, **changes: Any) -> bytes:
    """Return an entry whose header is another, and whose hash is right."""
    _, header, body = data.split(b"\n", 2)
    values = {name: value for name, value in (json.loads(header) | changes).items() if value is not ...}
    return with_hash(json.dumps(values).encode() + b"\n" + body)


@pytest.mark.parametrize("checkpoint", [HALF, WHOLE, replace(HALF, optimiser_state=b"")])
def test_what_is_written_is_found(journal: FolderJournal, evaluation: Evaluation, checkpoint: Checkpoint) -> None:
    assert journal.find(KEY) is None
    journal.write(KEY, evaluation, checkpoint)
    assert journal.find(KEY) == checkpoint
    assert journal.find(OTHER_KEY) is None
    assert [path.name for path in journal.folder.iterdir() if path != entry(journal)] == ["claims"]


def test_an_entry_is_for_all_whom_the_system_lets_read(journal: FolderJournal, evaluation: Evaluation) -> None:
    before = os.umask(0o027)
    try:
        journal.write(KEY, evaluation, WHOLE)
    finally:
        os.umask(before)
    assert entry(journal).stat().st_mode & 0o777 == 0o640


def test_entries_are_copied_where_the_other_journal_does_not_know_them_or_not_as_far(
    journal: FolderJournal, evaluation: Evaluation, tmp_path: Path
) -> None:
    third = hashlib.sha256(b"third").hexdigest()
    with closing(FolderJournal(tmp_path / "other")) as other:
        for key, mine, theirs in ((KEY, WHOLE, None), (OTHER_KEY, WHOLE, HALF), (third, HALF, WHOLE)):
            journal.write(key, evaluation, mine)
            if theirs is not None:
                other.write(key, evaluation, theirs)
        assert copied(journal.folder, other.folder) == Copied(new=2, known=1, damaged=0)
        assert [other.find(key) for key in (KEY, OTHER_KEY, third)] == [WHOLE] * 3
        assert entry(other).read_bytes() == entry(journal).read_bytes()
        assert copied(journal.folder, other.folder) == Copied(new=0, known=3, damaged=0)


@pytest.mark.parametrize("fault", ["torn", "altered", "of another name", "a folder"])
def test_a_damaged_entry_is_not_copied_and_one_in_the_other_journal_is_replaced(
    journal: FolderJournal, evaluation: Evaluation, tmp_path: Path, fault: str
) -> None:
    journal.write(KEY, evaluation, WHOLE)
    good = entry(journal).read_bytes()
    with closing(FolderJournal(tmp_path / "other")) as other:
        damaged = entry(other)
        match fault:
            case "torn":
                damaged.write_bytes(good[:-1])
            case "altered":
                damaged.write_bytes(with_header(good, format="spacewarps-journal-0"))
            case "of another name":
                other.write(OTHER_KEY, evaluation, WHOLE)
                entry(other, OTHER_KEY).rename(damaged)
            case _:
                damaged.mkdir()
        expected = Copied(new=0, known=0, damaged=0 if fault == "a folder" else 1)
        assert copied(other.folder, tmp_path) == expected
        assert not list(tmp_path.glob("*.candidate"))
        if fault != "a folder":
            assert copied(journal.folder, other.folder) == Copied(new=1, known=0, damaged=0)
            assert damaged.read_bytes() == good


def test_a_later_epoch_takes_the_place_of_an_earlier_one(journal: FolderJournal, evaluation: Evaluation) -> None:
    journal.write(KEY, evaluation, HALF)
    journal.write(KEY, evaluation, WHOLE)
    assert journal.find(KEY) == WHOLE
    assert len(list(journal.folder.iterdir())) == 2


losses = st.floats(min_value=0)


@given(
    epochs=st.lists(st.tuples(losses, st.floats(0, 1), losses), min_size=1, max_size=5),
    parameters=st.integers(0, 2**62),
    k=st.integers(1, 3),
    optimiser_state=st.none() | st.binary(max_size=50),
)
def test_any_checkpoint_comes_back_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory,
    compute: Compute,
    epochs: list[tuple[float, float, float]],
    parameters: int,
    k: int,
    optimiser_state: bytes | None,
) -> None:
    settings = CandidateSettings(9, WarmStart(), Optimiser(), "all")
    evaluation = Evaluation(Candidate(1, BlockSpec(4), 1), 0, NETWORK, "deeper", 1, settings, compute, 9)
    told = tuple(Epoch(number, loss, Score(a, b)) for number, (loss, a, b) in enumerate(epochs, start=1))
    outcomes = tuple(Outcomes(bytes([number % 256] * 5 * k)) for number in range(len(told)))
    checkpoint = Checkpoint(told, outcomes, parameters, network(k), optimiser_state)
    journal = FolderJournal(tmp_path_factory.getbasetemp() / "any")
    journal.write(KEY, evaluation, checkpoint)
    found = journal.find(KEY)
    journal.close()
    assert found == checkpoint
    # An equal sign does not tell 0.0 from -0.0.
    assert repr(found) == repr(checkpoint)


@pytest.mark.parametrize("checkpoint", [HALF, WHOLE])
def test_an_entry_torn_at_any_length_counts_as_not_there(
    journal: FolderJournal, evaluation: Evaluation, checkpoint: Checkpoint
) -> None:
    journal.write(KEY, evaluation, checkpoint)
    data = entry(journal).read_bytes()
    for length in range(len(data)):
        entry(journal).write_bytes(data[:length])
        assert journal.find(KEY) is None
    entry(journal).write_bytes(data + b"\0")
    assert journal.find(KEY) is None
    journal.write(KEY, evaluation, checkpoint)
    assert entry(journal).read_bytes() == data


@pytest.mark.parametrize("checkpoint", [HALF, WHOLE])
def test_an_entry_with_any_byte_altered_counts_as_not_there(
    journal: FolderJournal, evaluation: Evaluation, checkpoint: Checkpoint
) -> None:
    journal.write(KEY, evaluation, checkpoint)
    data = entry(journal).read_bytes()
    for position in range(len(data)):
        altered = bytearray(data)
        altered[position] ^= 1 << position % 8
        entry(journal).write_bytes(altered)
        assert journal.find(KEY) is None
    journal.write(KEY, evaluation, checkpoint)
    assert entry(journal).read_bytes() == data


def test_an_entry_under_the_name_of_another_candidate_counts_as_not_there(
    journal: FolderJournal, evaluation: Evaluation
) -> None:
    journal.write(KEY, evaluation, WHOLE)
    entry(journal).rename(entry(journal, OTHER_KEY))
    assert journal.find(OTHER_KEY) is None
    assert journal.find(KEY) is None


@pytest.mark.parametrize(
    "header",
    [
        {"format": "spacewarps-journal-0"},
        {"format": ...},
        {"more": 1},
        {"key": OTHER_KEY},
        {"network": len(NETWORK) - 1},
        {"network": len(NETWORK) + 1},
        {"network": -1},
        {"optimiser_state": 4},
        {"parameters": "many"},
        {"epochs": []},
        {"epochs": [[1.0, 0.5]]},
        {"epochs": ...},
        {"epochs": [[1.0, 7.0, 0.5]] * len(WHOLE.epochs)},
        {"epochs": [[1.0, float("nan"), 0.5]] * len(WHOLE.epochs)},
    ],
)
def test_an_entry_of_another_format_counts_as_not_there(
    journal: FolderJournal, evaluation: Evaluation, header: dict[str, Any]
) -> None:
    journal.write(KEY, evaluation, WHOLE)
    data = entry(journal).read_bytes()
    assert with_header(data) == data
    entry(journal).write_bytes(with_header(data, **header))
    assert journal.find(KEY) is None


@pytest.mark.parametrize("body", [b"\0" * len(NETWORK), NETWORK[:8] + b"{" * (len(NETWORK) - 8)])
def test_an_entry_that_holds_no_network_counts_as_not_there(
    journal: FolderJournal, evaluation: Evaluation, body: bytes
) -> None:
    journal.write(KEY, evaluation, WHOLE)
    _, header, _ = entry(journal).read_bytes().split(b"\n", 2)
    entry(journal).write_bytes(with_hash(header + b"\n" + body))
    assert journal.find(KEY) is None


GARBAGE = [b"", b"\n", b"\n\n\n", b"garbage", b"\xff" * 1000, with_hash(b""), with_hash(b"{}\n"), with_hash(b"[1]\n\n")]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_counts_as_not_there(journal: FolderJournal, evaluation: Evaluation, garbage: bytes) -> None:
    entry(journal).write_bytes(garbage)
    assert journal.find(KEY) is None
    journal.write(KEY, evaluation, WHOLE)
    assert journal.find(KEY) == WHOLE


def test_what_cannot_be_read_counts_as_not_there(journal: FolderJournal, evaluation: Evaluation) -> None:
    entry(journal).symlink_to(entry(journal))
    with pytest.raises(OSError, match="Too many levels"):
        entry(journal).read_bytes()
    assert journal.find(KEY) is None
    journal.write(KEY, evaluation, WHOLE)
    assert journal.find(KEY) == WHOLE


@pytest.mark.skipif(os.geteuid() == 0, reason="may read everything")
def test_what_may_not_be_read_counts_as_not_there(journal: FolderJournal, evaluation: Evaluation) -> None:
    journal.write(KEY, evaluation, WHOLE)
    entry(journal).chmod(0)
    assert journal.find(KEY) is None


def test_a_folder_in_the_place_of_an_entry_counts_as_not_there(journal: FolderJournal) -> None:
    entry(journal).mkdir()
    assert journal.find(KEY) is None


def test_a_pipe_in_the_place_of_an_entry_counts_as_not_there_and_is_not_waited_for(
    journal: FolderJournal, evaluation: Evaluation
) -> None:
    os.mkfifo(entry(journal))
    assert journal.find(KEY) is None
    journal.write(KEY, evaluation, WHOLE)
    assert journal.find(KEY) == WHOLE


def test_a_journal_without_a_folder_remembers_nothing(evaluation: Evaluation) -> None:
    nothing = Journal()
    nothing.write(KEY, evaluation, WHOLE)
    assert nothing.find(KEY) is None
    assert nothing.claim(KEY)
    nothing.release(KEY)


def test_a_journal_that_cannot_be_made_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "journal"):
        with pytest.raises(JournalError) as caught:
            FolderJournal(folder)
        assert str(caught.value).startswith(f"{folder}: the journal cannot be written (")
        assert str(caught.value).endswith("); choose another folder (`journal`)")
    (tmp_path / "link").symlink_to("away")
    with pytest.raises(JournalError, match=r"the link leads to away, which is not there"):
        FolderJournal(tmp_path / "link")


@pytest.mark.parametrize(("in_the_way", "reason"), [(False, "No such file or directory"), (True, "Not a directory")])
def test_a_folder_that_goes_away_costs_notes_and_says_why(
    journal: FolderJournal, evaluation: Evaluation, in_the_way: bool, reason: str
) -> None:
    shutil.rmtree(journal.folder)
    if in_the_way:
        journal.folder.write_text("")
    assert journal.failure is None
    journal.write(KEY, evaluation, WHOLE)
    assert journal.failure == reason
    assert journal.find(KEY) is None
    assert journal.claim(KEY)
    if in_the_way:
        journal.folder.unlink()
    journal.folder.mkdir()
    journal.write(KEY, evaluation, WHOLE)
    assert list(journal.folder.iterdir()) == []


@pytest.fixture
def survey(draw_survey: Callable[..., PreparedSurvey]) -> PreparedSurvey:
    return draw_survey(sizes={"train": 12, "validation": 6})


def fingerprint(survey: PreparedSurvey, strength: float | None = 0.1, order: str = "train") -> str:
    augmentation = None if strength is None else Augmentation(noise=strength)
    train = Space_Galaxi(survey, split="train", augmentation=augmentation)
    validation = Space_Galaxi(survey, split="validation")
    return Fold(*((train, validation) if order == "train" else (validation, train))).fingerprint()


def altered_stamps(survey: PreparedSurvey, row: int) -> PreparedSurvey:
    stamps = survey.stamps.copy()
    stamps[row, 0, -1, -1] += 1
    return replace(survey, stamps=stamps)


def altered_samples(survey: PreparedSurvey, column: str, row: int, value: Any) -> PreparedSurvey:
    samples = survey.samples.copy()
    assert samples.loc[row, column] != value
    samples.loc[row, column] = value
    return replace(survey, samples=samples)


def turned(survey: PreparedSurvey) -> PreparedSurvey:
    order = np.arange(len(survey.samples))
    order[:2] = [1, 0]
    return replace(survey, stamps=survey.stamps[order], samples=survey.samples.iloc[order].reset_index(drop=True))


def test_the_fingerprint_changes_with_all_that_a_network_sees(survey: PreparedSurvey) -> None:
    found = [
        fingerprint(survey),
        fingerprint(survey, strength=0.2),
        fingerprint(survey, strength=None),
        fingerprint(survey, order="validation"),
        fingerprint(altered_stamps(survey, 0)),
        fingerprint(altered_stamps(survey, 11)),
        fingerprint(altered_stamps(survey, 12)),
        fingerprint(altered_samples(survey, "label", 0, "STAR")),
        fingerprint(altered_samples(survey, "label", 17, "GALAXY")),
        fingerprint(altered_samples(survey, "z", 3, 0.123)),
        fingerprint(altered_samples(survey, "z_err", 13, float("nan"))),
        fingerprint(turned(survey)),
        fingerprint(replace(survey, classes=["QSO", "GALAXY", "STAR"])),
        fingerprint(replace(survey, features=["z_err", "z"])),
        fingerprint(replace(survey, features=["z"])),
        fingerprint(replace(survey, stamps=survey.stamps.astype(np.int16))),
    ]
    assert len(set(found)) == len(found)


def test_the_fingerprint_does_not_change_with_what_no_network_sees(survey: PreparedSurvey, tmp_path: Path) -> None:
    np.save(tmp_path / "stamps.npy", survey.stamps)
    mapped = np.lib.format.open_memmap(tmp_path / "stamps.npy", mode="r")
    same = [
        replace(survey, stamps=mapped),
        altered_samples(survey, "id", 0, "another name"),
        altered_samples(survey, "ra", 0, 11.0),
        replace(survey, stamps=np.asfortranarray(survey.stamps)),
    ]
    assert {fingerprint(one) for one in same} == {fingerprint(survey)}


def changed(evaluation: Evaluation, **changes: Any) -> Evaluation:
    """Return ``evaluation`` with other fields, named ``section__field``."""
    for name, value in changes.items():
        *sections, last = name.split("__")
        whole: Any = evaluation
        parts = [whole := getattr(whole, section) for section in sections]
        for part, section in zip([*parts[::-1], evaluation], [last, *sections[::-1]], strict=True):
            value = replace(part, **{section: value})
        evaluation = value
    return evaluation


def test_the_key_changes_with_all_that_decides_the_bits(evaluation: Evaluation) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"candidate__block__k": 5},
        {"candidate__block__kind": "separable"},
        {"candidate__block__kernel_size": 5},
        {"candidate__seed": 13},
        {"source": network(2)},
        {"source": NETWORK[:-1] + bytes([NETWORK[-1] ^ 1])},
        {"grows": "wider"},
        {"grows": "not"},
        {"settings__average": 0.9},
        {"batches": 13},
        {"settings__epochs": 5},
        {"settings__trains": "block"},
        {"settings__warm_start__mode": "none"},
        {"settings__warm_start__scale": 0.9},
        {"settings__warm_start__jitter": 0.0},
        {"settings__optimiser__batch_size": 31},
        {"settings__optimiser__learning_rate": 0.0031},
        {"settings__optimiser__weight_decay": 0.02},
        {"settings__optimiser__label_smoothing": 0.0},
        {"compute__precision": torch.bfloat16},
        {"compute__threads": 2},
        {"compute__device": torch.device("cuda")},
    ]
    found = [key_of(changed(evaluation, **change), "data", "machine") for change in changes]
    found += [key_of(evaluation, "other data", "machine"), key_of(evaluation, "data", "other machine")]
    assert len(set(found)) == len(found)
    assert all(len(key) == 64 and int(key, 16) >= 0 for key in found)


def test_the_key_does_not_change_with_what_decides_no_bit(evaluation: Evaluation) -> None:
    changes: list[dict[str, Any]] = [
        {"candidate__step": 3},
        {"candidate__trunk": 1},
        {"until": 1},
        {"start": HALF},
        {"checkpoints": True},
    ]
    found = {key_of(changed(evaluation, **change), "data", "machine") for change in changes}
    assert found == {key_of(evaluation, "data", "machine")}


def test_a_candidate_widened_from_none_has_the_key_that_it_has_in_mode_previous(
    evaluation: Evaluation,
) -> None:
    previous = changed(evaluation, settings__warm_start__mode="previous")
    assert key_of(evaluation, "data", "machine") == key_of(previous, "data", "machine")
    widened = [replace(one, grows="wider") for one in (evaluation, previous)]
    assert len({key_of(one, "data", "machine") for one in (evaluation, *widened)}) == 3


@pytest.mark.parametrize(("module", "name"), [(torch, "torch"), (np, "numpy")])
def test_the_key_changes_with_the_versions_that_compute(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    before = key_of(evaluation, "data", "machine")
    monkeypatch.setattr(module, "__version__", f"0.0 of {name}")
    assert key_of(evaluation, "data", "machine") != before


def test_the_kind_of_machine_names_the_processor_and_what_chooses_kernels(
    compute: Compute, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ATEN_CPU_CAPABILITY", "MKL_CBWR", "ONEDNN_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    plain = kind_of_machine(compute.device)
    assert platform.machine() in plain
    assert torch.backends.cpu.get_cpu_capability() in plain
    assert platform.node() not in plain.split(", ")
    found = {plain}
    for name in ("ATEN_CPU_CAPABILITY", "MKL_CBWR", "ONEDNN_MAX_CPU_ISA"):
        monkeypatch.setenv(name, "other")
        found.add(kind_of_machine(compute.device))
    assert len(found) == 4


def test_the_key_changes_with_the_code_that_computes(evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of(evaluation, "data", "machine")
    assert fingerprint_of_code("search.candidate") == keys_module._CODE
    monkeypatch.setattr(keys_module, "_CODE", "other code")
    assert key_of(evaluation, "data", "machine") != before


class _Own(ConvBlock):
    kind = "own"


class _Other(ConvBlock):
    kind = "own"


def test_the_key_changes_with_blocks_that_others_have_registered(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {key_of(evaluation, "data", "machine")}
    for block in (_Own, _Other, type("Typed", (ConvBlock,), {"kind": "own", "__module__": "__console__"})):
        monkeypatch.setitem(BLOCKS, "own", block)
        assert key_of(evaluation, "data", "machine") == key_of(evaluation, "data", "machine")
        found.add(key_of(evaluation, "data", "machine"))
    monkeypatch.delitem(BLOCKS, "own")
    monkeypatch.setitem(BLOCKS, "conv", _Own)
    assert len({*found, key_of(evaluation, "data", "machine")}) == 5


class _Turned(Augmentation):
    pass


def test_the_fingerprint_changes_with_an_augmentation_of_ones_own(survey: PreparedSurvey) -> None:
    train, validation = (Space_Galaxi(survey, split=split) for split in ("train", "validation"))
    folds = [Fold(train.augmented(kind(noise=0.1)), validation) for kind in (Augmentation, _Turned)]
    assert folds[0].fingerprint() != folds[1].fingerprint()


OTHER_PROCESS = """
import sys
from pathlib import Path
from spacewarps.search.journal import FolderJournal
journal = FolderJournal(Path(sys.argv[1]))
print("ready", flush=True)
for line in sys.stdin:
    what, key = line.split()
    print(getattr(journal, what)(key), flush=True)
"""


class OtherProcess:
    """A journal on the same folder in another process."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OTHER_PROCESS, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self._answer() == "ready"

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, what: str, key: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what} {key}\n")
        return self._answer()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


def test_a_claim_is_one_processs_until_it_is_released_or_the_process_is_gone(
    journal: FolderJournal,
) -> None:
    other = OtherProcess(journal.folder)
    try:
        assert journal.claim(KEY)
        assert other.ask("claim", KEY) == "False"
        assert other.ask("claim", OTHER_KEY) == "True"
        assert not journal.claim(OTHER_KEY)
        assert journal.claim(KEY)
        # Looking an entry up, writing one and listing all touch no claim.
        list(list_entries(journal.folder))
        prune(journal.folder, older_than=None, larger_than=0)
        assert journal.find(KEY) is None
        assert other.ask("claim", KEY) == "False"
        journal.release(KEY)
        assert other.ask("claim", KEY) == "True"
        assert not journal.claim(KEY)
        assert other.ask("release", KEY) == "None"
        assert journal.claim(KEY)
        assert not journal.claim(OTHER_KEY)
    finally:
        other.kill()
    assert journal.claim(OTHER_KEY)


def used(journal: FolderJournal, key: str, evaluation: Evaluation, seconds_ago: float, weight: int = 0) -> int:
    """Write an entry that was used so long ago, larger by ``weight`` bytes; return its size."""
    journal.write(key, evaluation, replace(HALF, optimiser_state=bytes(weight)))
    moment = time.time() - seconds_ago
    os.utime(entry(journal, key), (moment, moment))
    return entry(journal, key).stat().st_size


@pytest.fixture
def keys() -> list[str]:
    return [hashlib.sha256(bytes([number])).hexdigest() for number in range(4)]


def left(journal: FolderJournal, keys: list[str]) -> list[int]:
    return [number for number, key in enumerate(keys) if entry(journal, key).exists()]


@pytest.mark.parametrize(("older_than", "expected"), [(0, []), (150, [0, 1]), (250, [0, 1, 2]), (1000, [0, 1, 2, 3])])
def test_pruning_by_age_deletes_what_was_not_used_for_as_long(
    journal: FolderJournal, evaluation: Evaluation, keys: list[str], older_than: float, expected: list[int]
) -> None:
    sizes = [used(journal, key, evaluation, 100 * number + 1) for number, key in enumerate(keys)]
    count, size = prune(journal.folder, older_than=older_than, larger_than=None)
    assert left(journal, keys) == expected
    assert (count, size) == (4 - len(expected), sum(sizes) - sum(sizes[number] for number in expected))
    assert (journal.folder / "claims").exists()


@pytest.mark.parametrize("room_for", range(5))
def test_pruning_by_size_keeps_what_was_used_last(
    journal: FolderJournal, evaluation: Evaluation, keys: list[str], room_for: int
) -> None:
    sizes = [used(journal, key, evaluation, 100 * number) for number, key in enumerate(keys)]
    room = sum(sizes[:room_for])
    assert prune(journal.folder, older_than=None, larger_than=room) == (4 - room_for, sum(sizes[room_for:]))
    assert left(journal, keys) == list(range(room_for))


def test_pruning_by_size_deletes_nothing_that_was_used_after_something_that_stays(
    journal: FolderJournal, evaluation: Evaluation, keys: list[str]
) -> None:
    weights = [0, 5000, 0, 0]
    sizes = [used(journal, key, evaluation, 100 * n, weights[n]) for n, key in enumerate(keys)]
    prune(journal.folder, older_than=None, larger_than=sizes[0] + sizes[2] + sizes[3])
    assert left(journal, keys) == [0]


def test_pruning_by_age_and_size_does_both(journal: FolderJournal, evaluation: Evaluation, keys: list[str]) -> None:
    sizes = [used(journal, key, evaluation, 100 * number + 1) for number, key in enumerate(keys)]
    prune(journal.folder, older_than=250, larger_than=sizes[0] + sizes[1])
    assert left(journal, keys) == [0, 1]


def test_an_entry_that_is_found_counts_as_used_now(
    journal: FolderJournal, evaluation: Evaluation, keys: list[str]
) -> None:
    for number, key in enumerate(keys):
        used(journal, key, evaluation, 1000 + number)
    assert journal.find(keys[2]) is not None
    prune(journal.folder, older_than=500, larger_than=None)
    assert left(journal, keys) == [2]


def test_who_only_looks_finds_what_is_there_and_leaves_no_trace(
    journal: FolderJournal, evaluation: Evaluation, tmp_path: Path
) -> None:
    journal.write(KEY, evaluation, HALF)
    os.utime(entry(journal), (1000, 1000))
    (journal.folder / "claims").unlink()
    looking = ReadOnlyJournal(journal.folder)
    assert (looking.find(KEY), looking.find(OTHER_KEY), looking.claim(KEY)) == (HALF, None, True)
    looking.write(OTHER_KEY, evaluation, HALF)
    assert [(path, path.stat().st_mtime) for path in journal.folder.iterdir()] == [(entry(journal), 1000)]
    assert ReadOnlyJournal(tmp_path / "none").find(KEY) is None
    assert not (tmp_path / "none").exists()


def test_a_journal_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert list(list_entries(tmp_path / "none")) == []
    assert prune(tmp_path / "none", older_than=0, larger_than=0) == (0, 0)


def test_the_list_names_what_can_be_read_the_last_used_first(
    journal: FolderJournal, evaluation: Evaluation, keys: list[str]
) -> None:
    journal.write(keys[0], evaluation, WHOLE)
    inception = changed(evaluation, candidate__block=BlockSpec(8, "inception", 5), candidate__trunk=1)
    size = used(journal, keys[1], inception, seconds_ago=100)
    first, second = list_entries(journal.folder)
    assert (first.path, first.what) == (entry(journal, keys[0]), "step 2, conv k=4, fold 1")
    assert (first.epochs, first.of_epochs, first.accuracy) == (2, 4, 2 / 3)
    assert (second.path, second.what) == (entry(journal, keys[1]), "step 2, inception 5x5 k=8 on trunk 2, fold 1")
    assert (second.epochs, second.of_epochs, second.accuracy, second.size) == (1, 4, 0.1, size)
    assert second.modified == pytest.approx(time.time() - 100, abs=20)


def test_garbage_is_left_out_of_the_list_and_pruned_like_the_rest(
    journal: FolderJournal, evaluation: Evaluation, keys: list[str]
) -> None:
    journal.write(keys[0], evaluation, WHOLE)
    for number, garbage in enumerate(GARBAGE):
        (journal.folder / f"{number}.candidate").write_bytes(garbage)
    (journal.folder / "gone.candidate").symlink_to(journal.folder / "nowhere")
    (journal.folder / "folder.candidate").mkdir()
    (journal.folder / "notes.txt").write_text("mine")
    assert [found.path for found in list_entries(journal.folder)] == [entry(journal, keys[0])]
    count, _ = prune(journal.folder, older_than=0, larger_than=None)
    assert count == len(GARBAGE) + 1
    assert {path.name for path in journal.folder.iterdir()} >= {"claims", "notes.txt", "folder.candidate"}
    assert not entry(journal, keys[0]).exists()


@pytest.mark.parametrize("sweep", [FolderJournal, lambda folder: prune(folder, older_than=None, larger_than=None)])
def test_what_killed_searches_left_half_written_is_swept_away_after_an_hour(
    journal: FolderJournal, sweep: Callable[[Path], Any]
) -> None:
    for name, seconds_ago in ((".old.tmp", 3700), (".new.tmp", 3500), ("old.tmp", 3700)):
        (journal.folder / name).write_bytes(b"half")
        moment = time.time() - seconds_ago
        os.utime(journal.folder / name, (moment, moment))
    sweep(journal.folder)
    assert sorted(path.name for path in journal.folder.iterdir()) == [".new.tmp", "claims", "old.tmp"]
