import copy
import hashlib
import math
import pickle
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from spacewarps.errors import ModelError, ParamsError
from spacewarps.model.network import ProgressiveModel
from spacewarps.model.settings import BlockSpec, Configuration
from spacewarps.model.storage import pack_model, unpack_model
from spacewarps.search.candidate import Checkpoint, EpochEnded, Evaluation, Trained, evaluate, grow
from spacewarps.search.folds import Fold
from spacewarps.search.history import Candidate
from spacewarps.search.settings import CandidateSettings, WarmStart
from spacewarps.seeds import torch_generator
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.training.compute import Compute, named_random_state
from spacewarps.training.prediction import score
from spacewarps.training.settings import Optimiser

CANDIDATE = Candidate(step=2, block=BlockSpec(5), seed=1234)
NO_CHANGE = WarmStart("previous", scale=1.0, jitter=0.0)
KINDS = ["conv", "residual", "separable", "inception"]


def settings(warm_start: WarmStart | None = None, **changes: Any) -> CandidateSettings:
    return CandidateSettings(2, warm_start or WarmStart(), Optimiser(batch_size=16), **changes)


def evaluation(
    source: ProgressiveModel, compute: Compute, candidate: Candidate = CANDIDATE, **changes: Any
) -> Evaluation:
    options: dict[str, Any] = {"grows": "deeper", "batches": candidate.seed, "settings": settings(), "until": 2}
    return Evaluation(candidate, 0, pack_model(source), compute=compute, **(options | changes))


def ends(evaluations: Sequence[Evaluation], data: Fold) -> list[Checkpoint]:
    """Return where each of ``evaluations`` is suspended."""
    found: dict[int, Checkpoint] = {}
    for event in evaluate(evaluations, [data]):
        if isinstance(event, EpochEnded) and event.checkpoint is not None:
            found[event.position] = event.checkpoint
    return [found[position] for position in range(len(evaluations))]


@pytest.fixture(scope="module")
def data(train_data: Space_Galaxi, validation_data: Space_Galaxi) -> Fold:
    return Fold(train_data, validation_data)


@pytest.fixture(scope="module")
def winner(data: Fold, compute: Compute) -> ProgressiveModel:
    train, _ = data
    with named_random_state(0, "initialisation"):
        empty = ProgressiveModel(train.stamp_shape, train.feature_names, train.classes, Configuration(8, 2, 0.1))
    empty.fit_normalisers(train.stamps, train.features)
    (end,) = ends([evaluation(empty, compute, Candidate(1, BlockSpec(3), 77))], data)
    return unpack_model(end.network)


def digest(model: nn.Module) -> str:
    weights = [tensor.contiguous().numpy().tobytes() for tensor in model.state_dict().values()]
    return hashlib.sha256(b"".join(weights)).hexdigest()


def trunk_and_projector(model: ProgressiveModel, blocks: int) -> dict[str, torch.Tensor]:
    old = tuple(f"trunk.{number}." for number in range(blocks))
    state = model.state_dict()
    return {name: t for name, t in state.items() if name.startswith((*old, "projector", "head.classify"))}


def test_copying_without_change_copies_to_the_bit(winner: ProgressiveModel) -> None:
    model = grow(winner, CANDIDATE, settings(NO_CHANGE), widens=False)
    before = trunk_and_projector(winner, 1)
    assert len(before) == 6 + 4 + 2
    assert all(torch.equal(tensor, before[name]) for name, tensor in trunk_and_projector(model, 1).items())
    assert model.ks == [3, 5]


def test_the_warm_start_scales_and_jitters_the_copies_and_not_the_new_block(winner: ProgressiveModel) -> None:
    model = grow(winner, CANDIDATE, settings(WarmStart("previous", scale=0.5, jitter=0.2)), widens=False)
    plain = grow(winner, CANDIDATE, settings(NO_CHANGE), widens=False)
    before, after, unchanged = winner.state_dict(), model.state_dict(), plain.state_dict()
    old, new = before["trunk.0.conv.weight"], after["trunk.0.conv.weight"]
    noise = new - 0.5 * old
    assert 0.5 < noise.std() / (0.2 * old.std(correction=0)) < 2
    assert torch.equal(after["trunk.1.conv.weight"], unchanged["trunk.1.conv.weight"])
    assert torch.equal(after["head.project.weight"], unchanged["head.project.weight"])
    statistics = ("trunk.0.norm.running_mean", "trunk.0.norm.running_var")
    assert all(torch.equal(after[name], before[name]) for name in statistics)


def test_where_only_the_block_learns_only_what_learns_is_jittered(
    winner: ProgressiveModel,
) -> None:
    model = grow(winner, CANDIDATE, settings(WarmStart("previous", 0.5, 0.2), trains="block"), widens=False)
    old, new = trunk_and_projector(winner, 1), trunk_and_projector(model, 1)
    unchanged = {name for name, tensor in new.items() if torch.equal(tensor, old[name])}
    assert unchanged == {name for name in old if name.startswith("trunk.")}


def test_without_a_warm_start_every_weight_is_drawn_anew(winner: ProgressiveModel) -> None:
    model = grow(winner, CANDIDATE, settings(WarmStart("none")), widens=False)
    old = dict(winner.named_parameters())
    drawn = [name for name, w in model.named_parameters() if w.ndim > 1 and name in old and w.shape == old[name].shape]
    assert "trunk.0.conv.weight" in drawn
    assert not any(torch.equal(dict(model.named_parameters())[name], old[name]) for name in drawn)
    assert torch.equal(model.state_dict()["trunk.0.norm.running_mean"], torch.zeros(3))
    assert torch.equal(model.stamp_normaliser.sky, winner.stamp_normaliser.sky)
    assert torch.equal(model.feature_normaliser.scales, winner.feature_normaliser.scales)


@pytest.fixture(scope="module")
def siblings(winner: ProgressiveModel, data: Fold, compute: Compute) -> dict[str, ProgressiveModel]:
    """A trained candidate of each kind, with four channels."""
    found = {}
    for kind in KINDS:
        candidate = Candidate(2, BlockSpec(4, kind), seed=7)
        (end,) = ends([evaluation(winner, compute, candidate, until=1)], data)
        found[kind] = unpack_model(end.network)
    return found


@pytest.mark.parametrize("trains", ["all", "block"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_widened_candidate_without_change_starts_with_the_siblings_logits(
    siblings: dict[str, ProgressiveModel], data: Fold, kind: str, trains: Any
) -> None:
    candidate = Candidate(2, BlockSpec(7, kind), seed=9)
    warm_start = WarmStart("siblings", scale=1.0, jitter=0.0)
    model = grow(siblings[kind], candidate, settings(warm_start, trains=trains), widens=True)
    assert model.specs == [BlockSpec(3), BlockSpec(7, kind)]
    images, features = torch.from_numpy(data[1].stamps).float(), data[1].features
    with torch.no_grad():
        expected, logits = siblings[kind].eval()(images, features), model.eval()(images, features)
    assert expected.abs().max() > 0.1
    assert torch.allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_widened_candidate_is_jittered_in_its_block_too_so_that_copies_part(
    siblings: dict[str, ProgressiveModel], kind: str
) -> None:
    candidate = Candidate(2, BlockSpec(8, kind), seed=9)
    plain, jittered = (
        grow(siblings[kind], candidate, settings(WarmStart("siblings", 1.0, jitter)), widens=True)
        for jitter in (0.0, 0.1)
    )
    before, after = dict(plain.named_parameters()), dict(jittered.named_parameters())
    for name, weights in after.items():
        # Where all weights of a tensor are equal there is no spread to measure the noise in.
        assert torch.equal(weights, before[name]) == (before[name].std(correction=0) == 0)
    assert not torch.equal(after["head.project.weight"], before["head.project.weight"])


def test_a_widened_candidate_keeps_the_winners_trunk_where_only_the_block_learns(
    winner: ProgressiveModel, siblings: dict[str, ProgressiveModel]
) -> None:
    sibling = copy.deepcopy(siblings["conv"])
    sibling.trunk[0].load_state_dict(winner.trunk[0].state_dict())
    candidate = Candidate(2, BlockSpec(7), seed=9)
    model = grow(sibling, candidate, settings(WarmStart("siblings", 0.9, 0.1), trains="block"), widens=True)
    old, new = winner.trunk[0].state_dict(), model.trunk[0].state_dict()
    assert all(torch.equal(tensor, new[name]) for name, tensor in old.items())
    filters = "trunk.1.conv.weight"
    assert not torch.equal(model.state_dict()[filters][:4], sibling.state_dict()[filters])


@pytest.mark.parametrize("mode", ["none", "previous", "siblings"])
def test_the_seed_of_the_candidate_decides_its_first_weights(
    winner: ProgressiveModel, siblings: dict[str, ProgressiveModel], mode: Any
) -> None:
    source, widens = (siblings["conv"], True) if mode == "siblings" else (winner, False)
    options = settings(WarmStart(mode))
    first = digest(grow(source, CANDIDATE, options, widens))
    torch.rand(7)
    assert digest(grow(source, CANDIDATE, options, widens)) == first
    assert digest(grow(source, replace(CANDIDATE, seed=1235), options, widens)) != first
    assert digest(grow(source, replace(CANDIDATE, step=7, trunk=3), options, widens)) == first


@pytest.mark.parametrize("mode", ["none", "previous", "siblings"])
def test_growing_leaves_the_source_and_the_random_state_alone(
    winner: ProgressiveModel, siblings: dict[str, ProgressiveModel], mode: Any
) -> None:
    source, widens = (siblings["conv"], True) if mode == "siblings" else (winner, False)
    before, specs, state = digest(source), source.specs, torch.get_rng_state()
    model = grow(source, CANDIDATE, settings(WarmStart(mode)), widens)
    assert (digest(source), source.specs) == (before, specs)
    assert torch.equal(torch.get_rng_state(), state)
    kept = {weights.data_ptr() for weights in source.parameters()}
    assert not kept & {weights.data_ptr() for weights in model.parameters()}


def test_evaluating_tells_of_every_batch_and_epoch_and_gives_the_last_network(
    winner: ProgressiveModel, data: Fold, compute: Compute
) -> None:
    events = list(evaluate([evaluation(winner, compute)], [data]))
    samples = [event.samples for event in events if isinstance(event, Trained)]
    first, second = (event for event in events if isinstance(event, EpochEnded))
    assert samples == [15] * 8
    assert [event.epoch.epoch for event in (first, second)] == [1, 2]
    assert first.checkpoint is None
    assert second.checkpoint is not None
    model = unpack_model(second.checkpoint.network)
    assert model.ks == [3, 5]
    assert second.checkpoint.epochs == (first.epoch, second.epoch)
    assert second.checkpoint.parameters == model.trainable_params
    assert second.checkpoint.optimiser_state is None
    assert score(model, data[1], compute) == second.epoch.validation


def test_evaluating_leaves_the_random_state_alone(winner: ProgressiveModel, data: Fold, compute: Compute) -> None:
    state = torch.get_rng_state()
    ends([evaluation(winner, compute)], data)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("trains", ["all", "block"])
@pytest.mark.parametrize("wanted", [False, True])
def test_an_evaluation_suspended_after_an_epoch_is_resumed_to_the_same_bytes(
    winner: ProgressiveModel, data: Fold, compute: Compute, trains: Any, wanted: bool
) -> None:
    options: dict[str, Any] = {"settings": replace(settings(trains=trains), epochs=3), "checkpoints": wanted}
    (through,) = ends([evaluation(winner, compute, until=3, **options)], data)
    start = None
    for until in (1, 2, 3):
        (start,) = ends([evaluation(winner, compute, until=until, start=start, **options)], data)
        assert (start.optimiser_state is None) == (until == 3)
    assert start == through


@pytest.mark.parametrize("broken", [None, b"", b"damaged"])
def test_a_damaged_state_of_a_training_is_named_in_one_line(
    winner: ProgressiveModel, data: Fold, compute: Compute, broken: bytes | None
) -> None:
    (start,) = ends([evaluation(winner, compute, until=1)], data)
    with pytest.raises(ModelError, match="the state of an optimiser is damaged") as caught:
        ends([evaluation(winner, compute, start=replace(start, optimiser_state=broken))], data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", ["previous", "siblings"])
def test_candidates_evaluated_together_end_with_the_bytes_that_each_has_alone(
    winner: ProgressiveModel, data: Fold, compute: Compute, mode: Any
) -> None:
    blocks = [BlockSpec(2), BlockSpec(6, "separable"), BlockSpec(4, "inception", 1), BlockSpec(3, "residual")]
    candidates = [Candidate(2, block, seed) for seed, block in enumerate(blocks)]
    options: dict[str, Any] = {"settings": settings(WarmStart(mode), trains="block"), "batches": 5}
    first = [evaluation(winner, compute, candidate, until=1, **options) for candidate in candidates]
    together = ends(first, data)
    assert together == [end for each in first for end in ends([each], data)]
    second = [replace(each, start=start, until=2) for each, start in zip(first, together, strict=True)]
    assert ends(second, data) == [end for each in second for end in ends([each], data)]
    for end in ends(second, data):
        old, new = winner.trunk[0].state_dict(), unpack_model(end.network).trunk[0].state_dict()
        assert all(torch.equal(tensor, new[name]) for name, tensor in old.items())


SCRIPT = """
import pickle, sys
from pathlib import Path
import torch
from spacewarps.search.candidate import EpochEnded, evaluate
from spacewarps.search.folds import Fold
from spacewarps.survey.augmentation import Augmentation
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.training.compute import set_up_again
torch.rand(3)
prepared, job, target = map(Path, sys.argv[1:])
evaluations = pickle.loads(job.read_bytes())
set_up_again(evaluations[0].compute)
train = Space_Galaxi(prepared, split="train", augmentation=Augmentation())
events = list(evaluate(evaluations, [Fold(train, Space_Galaxi(prepared, split="validation"))]))
target.write_bytes(pickle.dumps([event.checkpoint for event in events if isinstance(event, EpochEnded)]))
"""


def test_another_process_gives_the_same_bytes(
    winner: ProgressiveModel,
    data: Fold,
    compute: Compute,
    prepared_folder: Path,
    tmp_path: Path,
) -> None:
    job = [evaluation(winner, compute)]
    (tmp_path / "job").write_bytes(pickle.dumps(job))
    places = [prepared_folder, tmp_path / "job", tmp_path / "end"]
    subprocess.run([sys.executable, "-W", "ignore", "-c", SCRIPT, *places], check=True)
    assert pickle.loads((tmp_path / "end").read_bytes()) == [None, *ends(job, data)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "nonw"}, "mode is 'nonw', but input should be 'none', 'previous' or 'siblings'"),
        ({"scale": 0.0}, "scale is 0.0, but"),
        ({"scale": math.nan}, "scale is nan, but"),
        ({"jitter": -0.1}, "jitter is -0.1, but"),
        ({"jitter": math.inf}, "jitter is inf, but"),
    ],
)
def test_a_warm_start_out_of_range_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError) as caught:
        WarmStart(**arguments)
    assert message in str(caught.value)


def test_jitter_has_a_generator_of_its_own(winner: ProgressiveModel) -> None:
    model = grow(winner, CANDIDATE, settings(WarmStart(jitter=0.1)), widens=False)
    first = next(iter(winner.parameters()))
    noise = torch.randn(first.shape, generator=torch_generator(CANDIDATE.seed, "jitter"))
    expected = first + 0.1 * noise * first.contiguous().std(correction=0)
    assert torch.allclose(next(iter(model.parameters())), expected, atol=1e-6)
