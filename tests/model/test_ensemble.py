import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spacewarps.errors import ModelError
from spacewarps.model.ensemble import Ensemble, mean_log_probabilities, oriented
from spacewarps.model.network import ProgressiveModel
from spacewarps.model.settings import BlockSpec, Configuration
from tests.complaints import complaint

pytestmark = pytest.mark.usefixtures("compute")
KINDS = (BlockSpec(4, "inception"), BlockSpec(3, "residual", 5))


def new_member(
    seed: int = 0, *, shape: tuple[int, int, int] = (2, 16, 16), features: tuple[str, ...] = ("z", "z_err")
) -> ProgressiveModel:
    torch.manual_seed(seed)
    model = ProgressiveModel(shape, features, ("a", "b", "c"), Configuration(4, 3, 0.25))
    for spec in KINDS:
        model.add_block(spec.k, spec.kind, spec.kernel_size)
    model.train()(torch.randn(8, *shape) * 5, torch.rand(8, len(features)))
    return model.eval()


def samples(shape: tuple[int, int, int] = (2, 16, 16)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(5, *shape, generator=generator) * 9, torch.rand(5, 2, generator=generator)


def test_it_answers_with_the_log_of_the_mean_probability() -> None:
    members, (stamps, features) = [new_member(seed) for seed in range(3)], samples()
    expected = sum((member(stamps, features).double() / 1.7).softmax(dim=1) for member in members) / 3
    found = Ensemble(members, temperature=1.7)(stamps, features)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double().exp(), expected, atol=1e-7)
    # Whoever takes them for logits gets the same probabilities.
    assert torch.allclose(found.softmax(dim=1), found.exp(), atol=1e-6)


def test_the_eight_orientations_are_all_symmetries_of_a_square() -> None:
    stamp = torch.arange(9.0).reshape(1, 1, 3, 3)
    seen = {tuple(turned.flatten().tolist()) for turned in oriented(stamp, 8)}
    assert len(seen) == 8
    for turned in list(oriented(stamp, 8)):
        assert {tuple(again.flatten().tolist()) for again in oriented(turned, 8)} == seen
    assert torch.equal(next(oriented(stamp, 8)), stamp)
    (alone,) = oriented(stamp, 1)
    assert alone is stamp


def test_a_turned_or_mirrored_stamp_has_the_same_answer_in_eight_orientations() -> None:
    stamps, features = samples()
    one, eight = Ensemble([new_member()], 1), Ensemble([new_member()], 8)
    answers = [eight(turned, features).exp() for turned in oriented(stamps, 8)]
    assert all(torch.allclose(answer, answers[0], rtol=0, atol=1e-6) for answer in answers)
    alone = [one(turned, features).exp() for turned in oriented(stamps, 8)]
    assert not any(torch.allclose(answer, alone[0], rtol=0, atol=1e-3) for answer in alone[1:])
    assert torch.allclose(answers[0], sum(alone) / 8, atol=1e-6)


@given(
    logits=st.lists(st.lists(st.floats(-50, 50), min_size=3, max_size=3), min_size=1, max_size=6),
    temperature=st.floats(0.1, 10),
)
def test_probabilities_add_up_to_one_and_a_temperature_moves_no_answer(
    logits: list[list[float]], temperature: float
) -> None:
    found = mean_log_probabilities(torch.tensor([logits]), temperature)
    assert torch.allclose(found.exp().sum(dim=1), torch.ones(len(logits), dtype=torch.float64))
    values = torch.tensor(logits)
    surest = found.gather(1, values.argmax(dim=1, keepdim=True))[:, 0]
    assert torch.equal(surest, found.max(dim=1).values)


def test_an_ensemble_that_answers_as_its_member_does_says_so() -> None:
    member = new_member()
    assert Ensemble([member]).alone is member
    for several in (Ensemble([member, new_member(1)]), Ensemble([member], 8), Ensemble([member], temperature=1.1)):
        assert several.alone is None


@pytest.mark.parametrize("parts", list(itertools.product([1, 3], [1, 8], [1.0, 2.5])))
def test_members_learn_through_it(parts: tuple[int, int, float]) -> None:
    members, orientations, temperature = parts
    ensemble = Ensemble([new_member(seed) for seed in range(members)], orientations, temperature)
    ensemble(*samples())[:, 0].sum().backward()
    assert all(weights.grad is not None for weights in ensemble.parameters())


def test_what_does_not_go_together_is_named() -> None:
    member, oblong = new_member(), new_member(shape=(2, 16, 17))
    assert "at least one member" in complaint(ModelError, Ensemble, [])
    assert "the same stamps, features and classes" in complaint(ModelError, Ensemble, [member, oblong])
    assert complaint(ModelError, Ensemble, [oblong], 8) == (
        "`orientations` is 8, which needs square stamps, but these are 16 x 17"
    )
    assert "must be 1 or 8, but got 4" in complaint(ModelError, Ensemble, [member], 4)
    for temperature in (0.0, -1.0, 11.0, float("nan"), float("inf")):
        assert "temperature must lie between 0.1 and 10.0" in complaint(ModelError, Ensemble, [member], 1, temperature)


def test_stamps_and_features_of_another_shape_are_refused_as_by_a_member() -> None:
    ensemble, (stamps, features) = Ensemble([new_member()], 8), samples()
    with pytest.raises(ModelError, match="the network takes stamps"):
        ensemble(stamps[:, :1], features)
    with pytest.raises(ModelError, match="the network takes 2 features"):
        ensemble(stamps)
