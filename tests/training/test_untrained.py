import torch

from spacewarps.model.settings import BlockSpec, Configuration
from spacewarps.model.storage import pack_model
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.training.untrained import new_network, new_start


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(train_data: Space_Galaxi) -> None:
    one, again, other = (new_network(train_data, [BlockSpec(4)], Configuration(), seed) for seed in (1, 1, 2))
    assert pack_model(one) == pack_model(again)
    assert not torch.equal(one.head.classify.weight, other.head.classify.weight)


def test_a_new_start_has_new_weights_and_knows_the_samples_that_it_will_learn_from(
    train_data: Space_Galaxi, validation_data: Space_Galaxi
) -> None:
    model = new_network(train_data, [BlockSpec(4)], Configuration(8, 2, 0.2), seed=0)
    before = pack_model(model)
    fresh = new_start(model, train_data, 1)
    assert pack_model(model) == before
    assert fresh.specs == model.specs
    assert not torch.equal(fresh.trunk[0].conv.weight, model.trunk[0].conv.weight)  # type: ignore[arg-type, union-attr]
    for part in ("stamp_normaliser", "feature_normaliser"):
        pairs = zip(getattr(fresh, part).buffers(), getattr(model, part).buffers(), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)
    other = new_start(model, validation_data, 1)
    assert not torch.equal(other.stamp_normaliser.sky, model.stamp_normaliser.sky)
    assert torch.equal(other.head.project.weight, fresh.head.project.weight)
    assert not torch.equal(new_start(model, train_data, 2).head.project.weight, fresh.head.project.weight)
