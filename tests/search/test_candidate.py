import copy
import hashlib
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from spacewarps.errors import ParamsError
from spacewarps.model.progressive import ProgressiveModel, Widths
from spacewarps.model.storage import load_model, save_model
from spacewarps.search.candidate import WarmStart, evaluate_candidate, grow
from spacewarps.search.history import Candidate, CandidateResult
from spacewarps.search.observer import SearchObserver
from spacewarps.seeds import torch_generator
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.training.compute import Compute, named_random_state
from spacewarps.training.fit import Optimiser

CANDIDATE = Candidate(step=2, k=5, seed=1234)
NO_CHANGE = WarmStart("previous", scale=1.0, jitter=0.0)


@pytest.fixture(scope="module")
def winner(train_data: Space_Galaxi, validation_data: Space_Galaxi, compute: Compute) -> ProgressiveModel:
    with named_random_state(0, "initialisation"):
        empty = ProgressiveModel(
            train_data.stamp_shape, train_data.feature_names, train_data.classes, Widths(8, 2, 0.1)
        )
    empty.fit_normalisers(train_data.stamps, train_data.features)
    _, model = evaluate(empty, Candidate(1, 3, 77), train_data, validation_data, compute)
    return model


def evaluate(
    winner: ProgressiveModel,
    candidate: Candidate,
    train: Space_Galaxi,
    validation: Space_Galaxi,
    compute: Compute,
    warm_start: WarmStart | None = None,
) -> tuple[CandidateResult, ProgressiveModel]:
    return evaluate_candidate(
        winner,
        candidate,
        train,
        validation,
        epochs=2,
        warm_start=warm_start or WarmStart(),
        optimiser=Optimiser(batch_size=16),
        compute=compute,
        observer=SearchObserver(),
    )


def digest(model: nn.Module) -> str:
    weights = [tensor.contiguous().numpy().tobytes() for tensor in model.state_dict().values()]
    return hashlib.sha256(b"".join(weights)).hexdigest()


def trunk_and_projector(model: ProgressiveModel, blocks: int) -> dict[str, torch.Tensor]:
    old = tuple(f"trunk.{number}." for number in range(blocks))
    state = model.state_dict()
    return {name: t for name, t in state.items() if name.startswith((*old, "projector", "head.classify"))}


def test_copying_without_change_copies_to_the_bit(winner: ProgressiveModel) -> None:
    model = grow(winner, CANDIDATE, NO_CHANGE)
    before = trunk_and_projector(winner, 1)
    assert len(before) == 6 + 4 + 2
    assert all(torch.equal(tensor, before[name]) for name, tensor in trunk_and_projector(model, 1).items())
    assert model.ks == [3, 5]


def test_the_warm_start_scales_and_jitters_the_copies_and_not_the_new_block(winner: ProgressiveModel) -> None:
    model = grow(winner, CANDIDATE, WarmStart("previous", scale=0.5, jitter=0.2))
    plain = grow(winner, CANDIDATE, NO_CHANGE)
    old, new = winner.trunk[0].conv.weight, model.trunk[0].conv.weight
    noise = new - 0.5 * old
    assert 0.5 < noise.std() / (0.2 * old.std(correction=0)) < 2
    assert torch.equal(model.trunk[1].conv.weight, plain.trunk[1].conv.weight)
    assert torch.equal(model.head.project.weight, plain.head.project.weight)
    statistics = ("running_mean", "running_var")
    assert all(torch.equal(getattr(model.trunk[0].norm, s), getattr(winner.trunk[0].norm, s)) for s in statistics)


def test_without_a_warm_start_every_weight_is_drawn_anew(winner: ProgressiveModel) -> None:
    model = grow(winner, CANDIDATE, WarmStart("none"))
    old = dict(winner.named_parameters())
    drawn = [name for name, w in model.named_parameters() if w.ndim > 1 and name in old and w.shape == old[name].shape]
    assert "trunk.0.conv.weight" in drawn
    assert not any(torch.equal(dict(model.named_parameters())[name], old[name]) for name in drawn)
    assert torch.equal(model.trunk[0].norm.running_mean, torch.zeros(3))
    assert torch.equal(model.stamp_normaliser.sky, winner.stamp_normaliser.sky)
    assert torch.equal(model.feature_normaliser.scales, winner.feature_normaliser.scales)


@pytest.mark.parametrize("mode", ["none", "previous"])
def test_the_seed_of_the_candidate_decides_its_first_weights(winner: ProgressiveModel, mode: Any) -> None:
    first = digest(grow(winner, CANDIDATE, WarmStart(mode)))
    torch.rand(7)
    assert digest(grow(winner, CANDIDATE, WarmStart(mode))) == first
    assert digest(grow(winner, Candidate(2, 5, 1235), WarmStart(mode))) != first


@pytest.mark.parametrize("mode", ["none", "previous"])
def test_evaluating_leaves_the_winner_and_the_random_state_alone(
    winner: ProgressiveModel, train_data: Space_Galaxi, validation_data: Space_Galaxi, compute: Compute, mode: Any
) -> None:
    before, state = copy.deepcopy(winner), torch.get_rng_state()
    _, model = evaluate(winner, CANDIDATE, train_data, validation_data, compute, WarmStart(mode))
    assert digest(winner) == digest(before)
    assert winner.ks == [3]
    assert winner.training == before.training
    assert torch.equal(torch.get_rng_state(), state)
    kept = {weights.data_ptr() for weights in winner.parameters()}
    assert not kept & {weights.data_ptr() for weights in model.parameters()}


def test_the_result_says_what_was_grown(
    winner: ProgressiveModel, train_data: Space_Galaxi, validation_data: Space_Galaxi, compute: Compute
) -> None:
    result, model = evaluate(winner, CANDIDATE, train_data, validation_data, compute)
    assert result.candidate == CANDIDATE
    assert result.channels == 3
    assert result.trainable_params == model.trainable_params
    assert len(result.epochs) == 2
    assert model.ks == [3, 5]


SCRIPT = """
import sys
from pathlib import Path
import torch
from spacewarps.model.storage import load_model, save_model
from spacewarps.search.candidate import WarmStart, evaluate_candidate
from spacewarps.search.history import Candidate
from spacewarps.search.observer import SearchObserver
from spacewarps.survey.augmentation import Augmentation
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.training.compute import set_up_compute
from spacewarps.training.fit import Optimiser
prepared, winner, target = map(Path, sys.argv[1:])
torch.rand(3)
result, model = evaluate_candidate(
    load_model(winner),
    Candidate(step=2, k=5, seed=1234),
    Space_Galaxi(prepared, split="train", augmentation=Augmentation()),
    Space_Galaxi(prepared, split="validation"),
    epochs=2,
    warm_start=WarmStart(),
    optimiser=Optimiser(batch_size=16),
    compute=set_up_compute("cpu", "fp32", 1),
    observer=SearchObserver(),
)
save_model(model, target)
print(result)
"""


def test_another_process_gives_the_same_bits_from_the_saved_winner(
    winner: ProgressiveModel,
    train_data: Space_Galaxi,
    validation_data: Space_Galaxi,
    compute: Compute,
    prepared_folder: Path,
    tmp_path: Path,
) -> None:
    save_model(winner, tmp_path / "winner")
    result, model = evaluate(winner, CANDIDATE, train_data, validation_data, compute)
    places = [prepared_folder, tmp_path / "winner", tmp_path / "result"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, *places], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(result)
    assert digest(load_model(tmp_path / "result")) == digest(model)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "nonw"}, "mode must be 'none' or 'previous', but got mode='nonw'"),
        ({"scale": 0.0}, "but got scale=0.0"),
        ({"scale": math.nan}, "but got scale=nan"),
        ({"jitter": -0.1}, "jitter=-0.1"),
        ({"jitter": math.inf}, "jitter=inf"),
    ],
)
def test_a_warm_start_out_of_range_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError) as caught:
        WarmStart(**settings)
    assert message in str(caught.value)


def test_jitter_has_a_generator_of_its_own(winner: ProgressiveModel) -> None:
    model = grow(winner, CANDIDATE, WarmStart(jitter=0.1))
    first = next(iter(winner.parameters()))
    noise = torch.randn(first.shape, generator=torch_generator(CANDIDATE.seed, "jitter"))
    expected = first + 0.1 * noise * first.contiguous().std(correction=0)
    assert torch.allclose(next(iter(model.parameters())), expected, atol=1e-6)
