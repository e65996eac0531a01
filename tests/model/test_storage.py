import json
import pickle
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from spacewarps.errors import ModelError
from spacewarps.model.progressive import ProgressiveModel, Widths
from spacewarps.model.storage import load_model, save_model

pytestmark = pytest.mark.usefixtures("compute")


def new_model(
    *,
    shape: tuple[int, int, int] = (2, 16, 16),
    features: tuple[str, ...] = ("z", "z_err"),
    ks: tuple[int, ...] = (3, 1),
) -> ProgressiveModel:
    torch.manual_seed(0)
    model = ProgressiveModel(shape, features, ("a", "é", "c"), Widths(4, 3, 0.25))
    for k in ks:
        model.add_block(k)
    stamps = np.random.default_rng(0).normal(20, 3, size=(8, *shape))
    model.fit_normalisers(stamps, torch.rand(8, len(features)))
    # Statistics of BatchNorm other than those of a new network.
    model.train()(torch.from_numpy(stamps), torch.rand(8, len(features)))
    return model.eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(new_model(), tmp_path / "model")
    return tmp_path / "model"


def complaint(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    assert len(message) < len(str(folder)) * 2 + 300
    return message


def describe(folder: Path, **changes: Any) -> None:
    path = folder / "model.json"
    description = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(description), encoding="utf-8")


@pytest.mark.parametrize("features", [("z", "z_err"), ("z",), ()])
@pytest.mark.parametrize("ks", [(), (3, 1), (1, 2, 3, 4)])
def test_a_network_comes_back_to_the_bit(tmp_path: Path, features: tuple[str, ...], ks: tuple[int, ...]) -> None:
    model = new_model(features=features, ks=ks)
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert not loaded.training
    assert (loaded.ks, loaded.inputs, loaded.widths) == (model.ks, model.inputs, model.widths)
    assert loaded.trainable_params == model.trainable_params
    stamps, values = torch.randn(5, 2, 16, 16) * 9, torch.randn(5, len(features))
    assert torch.equal(loaded(stamps, values), model(stamps, values))


def test_a_loaded_network_grows_and_learns(folder: Path) -> None:
    model = load_model(str(folder))
    model.add_block(2)
    model.train()(torch.randn(2, 2, 16, 16), torch.randn(2, 2)).sum().backward()
    assert all(weights.grad is not None for weights in model.parameters())


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    model = new_model()
    save_model(model, tmp_path / "a")
    save_model(load_model(tmp_path / "a").to(memory_format=torch.channels_last), tmp_path / "b")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["model.json", "model.safetensors"]
    for name in ("model.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_network_takes_the_place_of_another(folder: Path) -> None:
    (folder / "stray").touch()
    save_model(new_model(ks=(2,)), folder)
    assert load_model(folder).ks == [2]
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert complaint(folder) == f"{folder / name}: no such file; {folder} holds no model"


def test_a_folder_that_is_missing_or_a_file_is_named(tmp_path: Path) -> None:
    assert "no such file" in complaint(tmp_path / "nothing")
    (tmp_path / "file").touch()
    assert "not a model that can be loaded" in complaint(tmp_path / "file")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_truncated_weights_are_refused(folder: Path, share: float) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "not a model that can be loaded" in complaint(folder)


@pytest.mark.parametrize("size", [2**40, 2**63 - 1])
def test_a_header_that_claims_an_absurd_size_is_refused(folder: Path, size: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", size) + path.read_bytes()[8:])
    assert "not a model that can be loaded" in complaint(folder)


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("write", [pickle.dump, torch.save])
def test_no_code_in_place_of_the_weights_is_run(folder: Path, write: Callable[..., None]) -> None:
    exploded = folder.parent / "exploded"
    with (folder / "model.safetensors").open("wb") as file:
        write({"head.project.weight": _Bomb(exploded)}, file)
    assert "not a model that can be loaded" in complaint(folder)
    assert not exploded.exists()


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    save_model(new_model(ks=(3, 2)), folder.parent / "other")
    (folder.parent / "other" / "model.safetensors").replace(folder / "model.safetensors")
    assert complaint(folder) == (f"{folder}: model.safetensors does not fit model.json (first at head.project.weight)")


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w | {"head.project.weight": w["head.project.weight"][:, :-1].contiguous()},
        lambda w: w | {"head.project.weight": w["head.project.weight"].half()},
        lambda w: w | {"more": torch.zeros(1)},
        lambda w: {name: tensor for name, tensor in w.items() if name != "head.project.weight"},
        lambda w: w | {"trunk.0.norm.num_batches_tracked": torch.zeros(1)},
    ],
)
def test_weights_that_do_not_fit_are_refused(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    path = folder / "model.safetensors"
    changed = change({name: tensor.clone() for name, tensor in load_file(path).items()})
    save_file(changed, path)
    assert "model.safetensors does not fit model.json (first at " in complaint(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "null", "1" * 5000, "[" * 100_000, '{"a":' * 100_000, "\ud800", '"model"']
)
def test_a_description_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / "model.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    complaint(folder)


BIG = 1 << 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"more": 1}, "'more': Extra inputs are not permitted"),
        ({"a\nb": 1}, r"'a\nb': Extra inputs are not permitted"),
        ({"format": "spacewarps-model-9"}, "'format': Input should be 'spacewarps-model-1'"),
        ({"stamp_shape": [2, float("nan"), 16]}, "'stamp_shape.1': Input should be a valid integer"),
        ({"stamp_shape": [2, 16]}, "'stamp_shape': List should have at least 3 items"),
        ({"stamp_shape": [2, -16, 16]}, "'stamp_shape.1': Input should be greater than or equal to 1"),
        ({"dropout": float("nan")}, "'dropout': "),
        ({"dropout": float("inf")}, "'dropout': "),
        ({"embedding": "4"}, "'embedding': Input should be a valid integer"),
        ({"embedding": 10**30}, "'embedding': Input should be less than or equal to 1048576"),
        ({"classes": ["a"]}, "'classes': List should have at least 2 items"),
        ({"blocks": [{"kind": "exec", "k": 3}]}, "'blocks.0.kind': Input should be 'conv'"),
        ({"blocks": [{"kind": "conv", "k": 0}]}, "'blocks.0.k': Input should be greater than or equal to 1"),
        ({"blocks": [{"kind": "conv", "k": 2}] * 65}, "'blocks': List should have at most 64 items"),
        ({"blocks": [{"kind": "conv", "k": 2}] * 5}, "a stamp of 16 x 16 pixels can be halved 4 times at most"),
        ({"blocks": [{"kind": "conv", "k": BIG}] * 2}, "does not fit model.json"),
        ({"stamp_shape": [BIG] * 3, "embedding": BIG, "head_grid": BIG, "blocks": []}, "not a model that can be"),
        ({"features": ["z_err"] * 100_000}, "does not fit model.json"),
        ({"classes": ["a"] * 100_000}, "does not fit model.json"),
    ],
)
def test_a_hostile_description_is_refused_without_taking_memory(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    describe(folder, **changes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert message in complaint(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
