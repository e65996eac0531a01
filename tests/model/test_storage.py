import copy
import json
import os
import pickle
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from spacewarps.errors import ModelError, SpaceWarpsError
from spacewarps.model.ensemble import Ensemble
from spacewarps.model.network import ProgressiveModel
from spacewarps.model.settings import BlockSpec, Configuration
from spacewarps.model.storage import load_model, load_progressive_model, pack_model, save_model, unpack_model
from tests.complaints import complaint

pytestmark = pytest.mark.usefixtures("compute")


def new_model(
    *,
    shape: tuple[int, int, int] = (2, 16, 16),
    features: tuple[str, ...] = ("z", "z_err"),
    specs: tuple[BlockSpec, ...] = (BlockSpec(3), BlockSpec(1)),
) -> ProgressiveModel:
    torch.manual_seed(0)
    model = ProgressiveModel(shape, features, ("a", "é", "c"), Configuration(4, 3, 0.25))
    for spec in specs:
        model.add_block(spec.k, spec.kind, spec.kernel_size)
    stamps = np.random.default_rng(0).normal(20, 3, size=(8, *shape))
    model.fit_normalisers(stamps, torch.rand(8, len(features)))
    # Statistics of BatchNorm other than those of a new network.
    model.train()(torch.from_numpy(stamps), torch.rand(8, len(features)))
    return model.eval()


def test_a_network_made_with_numbers_of_numpy_is_saved_like_any_other(tmp_path: Path) -> None:
    shape = tuple(np.array([2, 16, 16]))
    numpy = new_model(shape=shape)
    numpy.add_block(np.int64(4), kernel_size=np.uint8(3))  # type: ignore[arg-type]
    save_model(Ensemble([numpy], np.int64(8), np.float32(0.5)), tmp_path / "numpy")  # type: ignore[arg-type]
    plain = new_model()
    plain.add_block(4)
    save_model(Ensemble([plain], 8, 0.5), tmp_path / "plain")
    one, other = ((tmp_path / name / "model.json").read_bytes() for name in ("numpy", "plain"))
    assert one == other


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(new_model(), tmp_path / "model")
    return tmp_path / "model"


def told_of(folder: Path) -> str:
    message = complaint(ModelError, load_model, folder)
    assert str(folder) in message
    assert len(message) < len(str(folder)) * 2 + 300
    return message


def describe(folder: Path, **changes: Any) -> None:
    path = folder / "model.json"
    description = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(description), encoding="utf-8")


def in_a_folder(model: ProgressiveModel, folder: Path) -> ProgressiveModel:
    save_model(model, folder)
    return load_progressive_model(folder)


def in_bytes(model: ProgressiveModel, _folder: Path) -> ProgressiveModel:
    return unpack_model(pack_model(model))


ALL_KINDS = (BlockSpec(4, "inception"), BlockSpec(3, "residual", 5), BlockSpec(2), BlockSpec(5, "separable", 1))


@pytest.mark.parametrize("store", [in_a_folder, in_bytes])
@pytest.mark.parametrize("features", [("z", "z_err"), ("z",), ()])
@pytest.mark.parametrize("specs", [(), (BlockSpec(3), BlockSpec(1)), ALL_KINDS])
def test_a_network_comes_back_to_the_bit(
    tmp_path: Path,
    store: Callable[[ProgressiveModel, Path], ProgressiveModel],
    features: tuple[str, ...],
    specs: tuple[BlockSpec, ...],
) -> None:
    model = new_model(features=features, specs=specs)
    loaded = store(model.train(), tmp_path / "model")
    assert not any(module.training for module in loaded.modules())
    assert (loaded.specs, loaded.inputs, loaded.configuration) == (model.specs, model.inputs, model.configuration)
    assert all(weights.requires_grad and weights.device.type == "cpu" for weights in loaded.parameters())
    assert loaded.trainable_params == model.trainable_params
    stamps, values = torch.randn(5, 2, 16, 16) * 9, torch.randn(5, len(features))
    assert torch.equal(loaded(stamps, values), model.eval()(stamps, values))


@pytest.mark.parametrize("several", [False, True])
def test_a_network_that_takes_masks_says_so_and_others_say_nothing(tmp_path: Path, several: bool) -> None:
    for mask_channel in (False, True):
        model = ProgressiveModel((2, 8, 8), (), ("a", "b"), Configuration(4, 2, 0.0), mask_channel=mask_channel)
        model.add_block(3)
        model = model.with_new_weights()
        folder = tmp_path / f"{mask_channel}"
        save_model(Ensemble([model], 8, 0.5) if several else model, folder)
        inputs = load_model(folder).inputs
        assert (inputs, inputs.image_channels) == (model.inputs, 2 - mask_channel)
        assert ("mask" in (folder / "model.json").read_text()) == mask_channel
    with pytest.raises(
        ModelError, match=r"with a mask a stamp has two channels or more, but stamp_shape is \(1, 8, 8\)"
    ):
        ProgressiveModel((1, 8, 8), (), ("a", "b"), mask_channel=True)


def test_a_loaded_network_grows_and_learns(folder: Path) -> None:
    model = load_progressive_model(str(folder))
    model.add_block(2)
    model.train()(torch.randn(2, 2, 16, 16), torch.randn(2, 2)).sum().backward()
    assert all(weights.grad is not None for weights in model.parameters())


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    model = new_model()
    save_model(model, tmp_path / "a")
    save_model(load_model(tmp_path / "a").to(memory_format=torch.channels_last), tmp_path / "b")
    files = [".spacewarps.json", "model.json", "model.safetensors"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == files
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_same_network_packs_to_the_same_bytes() -> None:
    model = new_model(specs=ALL_KINDS)
    packed = pack_model(model)
    assert pack_model(copy.deepcopy(model).to(memory_format=torch.channels_last)) == packed
    assert pack_model(unpack_model(packed)) == packed
    model.head.classify.bias.data[0] += 1e-3
    assert pack_model(model) != packed


def test_a_description_without_kernels_means_3_pixels(folder: Path) -> None:
    model = load_progressive_model(folder)
    describe(folder, blocks=[{"kind": "conv", "k": 3}, {"kind": "conv", "k": 1}])
    older = load_progressive_model(folder)
    assert older.specs == [BlockSpec(3, "conv", 3), BlockSpec(1, "conv", 3)]
    assert pack_model(older) == pack_model(model)


def test_a_disk_that_is_full_is_said_in_one_line_and_leaves_what_stood_there(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(ModelError) as caught:
            save_model(new_model(specs=ALL_KINDS), folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    message = str(caught.value)
    assert message.startswith(f"{folder}: the model cannot be written (")
    assert "File too large" in message
    assert "\n" not in message
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_network_takes_the_place_of_another(folder: Path) -> None:
    save_model(new_model(specs=(BlockSpec(2),)), folder)
    assert load_progressive_model(folder).ks == [2]
    assert sorted(path.name for path in folder.iterdir()) == [".spacewarps.json", "model.json", "model.safetensors"]
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_network_takes_the_place_of_nothing_else(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    before = load_progressive_model(folder).ks
    with pytest.raises(SpaceWarpsError, match=r"it holds 'notes\.txt', which was not written"):
        save_model(new_model(specs=(BlockSpec(2),)), folder)
    assert load_progressive_model(folder).ks == before
    assert (folder / "notes.txt").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert told_of(folder) == f"{folder / name}: no such file; {folder} holds no model"


def test_a_folder_that_is_missing_or_a_file_is_named(tmp_path: Path) -> None:
    assert "no such file" in told_of(tmp_path / "nothing")
    (tmp_path / "file").touch()
    assert "no such file" in told_of(tmp_path / "file")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_truncated_weights_are_refused(folder: Path, share: float) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "not a model that can be loaded" in told_of(folder)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_pipe_is_refused_without_waiting_for_it(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert "a pipe or a device, not a file" in told_of(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["head.classify.bias", "trunk.0.norm.running_var"])
def test_weights_that_are_not_finite_are_named(folder: Path, name: str, value: float) -> None:
    weights = load_file(folder / "model.safetensors")
    weights[name].view(-1)[-1] = value
    save_file(weights, folder / "model.safetensors")
    assert told_of(folder) == (
        f"{folder}: not a model that can be loaded ({name} in model.safetensors holds what is not a finite number; "
        "make the model again)"
    )


@pytest.mark.parametrize(
    "header", [b"[" * 100_000, b'{"a":' * 100_000, b'{"a":' + b"9" * 100_000, b"{" + b" " * 100_000]
)
def test_a_header_that_no_parser_should_follow_is_refused(folder: Path, header: bytes) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert "not a model that can be loaded" in told_of(folder)


@pytest.mark.parametrize("size", [2**40, 2**63 - 1])
def test_a_header_that_claims_an_absurd_size_is_refused(folder: Path, size: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", size) + path.read_bytes()[8:])
    assert "not a model that can be loaded" in told_of(folder)


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
    assert "not a model that can be loaded" in told_of(folder)
    assert not exploded.exists()


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    save_model(new_model(specs=(BlockSpec(3), BlockSpec(2))), folder.parent / "other")
    (folder.parent / "other" / "model.safetensors").replace(folder / "model.safetensors")
    assert told_of(folder) == (
        f"{folder}: not a model that can be loaded (the weights do not fit the description, "
        "first at 'head.project.weight')"
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w | {"head.project.weight": w["head.project.weight"][:, :-1].contiguous()},
        lambda w: w | {"head.project.weight": w["head.project.weight"].half()},
        lambda w: w | {"more": torch.zeros(1)},
        lambda w: w | {"a\n" + "b" * 5000: torch.zeros(1)},
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
    assert "the weights do not fit the description, first at '" in told_of(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "null", "1" * 5000, "[" * 100_000, '{"a":' * 100_000, "\ud800", '"model"']
)
def test_a_description_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / "model.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    told_of(folder)


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
        ({"dropout": float("nan")}, "dropout is nan, but"),
        ({"dropout": float("inf")}, "dropout is inf, but"),
        ({"embedding": "4"}, "'embedding': Input should be a valid integer"),
        ({"embedding": 10**30}, "embedding is 10000000000000000"),
        ({"classes": ["a"]}, "'classes': List should have at least 2 items"),
        (
            {"blocks": [{"kind": "exec", "k": 3}]},
            "must be one of conv, residual, separable, inception, but got kind='exec'",
        ),
        ({"blocks": [{"kind": "inception", "k": 3}]}, "a k of at least 4, but got k=3"),
        ({"blocks": [{"kind": "conv", "k": 3, "kernel_size": 4}]}, "kernel_size must be odd"),
        ({"blocks": [{"kind": "conv", "k": 3, "kernel_size": 10**30}]}, "kernel_size must be odd"),
        ({"blocks": [{"kind": "conv", "k": 3, "kernel_size": 3.0}]}, "'blocks.0.kernel_size': Input should be a valid"),
        ({"blocks": [{"kind": "x" * 10**6, "k": 3}]}, "must be one of"),
        ({"blocks": [{"kind": "residual", "k": BIG, "kernel_size": 15}]}, "the weights do not fit the description"),
        ({"blocks": [{"kind": "inception", "k": BIG, "kernel_size": 15}] * 2}, "the weights do not fit"),
        ({"blocks": [{"kind": "separable", "k": BIG}] * 2}, "the weights do not fit the description"),
        ({"blocks": [{"kind": "conv", "k": 0}]}, "'blocks.0.k': Input should be greater than or equal to 1"),
        ({"blocks": [{"kind": "conv", "k": 2}] * 65}, "'blocks': List should have at most 64 items"),
        ({"blocks": [{"kind": "conv", "k": 2}] * 5}, "a stamp of 16 x 16 pixels can be halved 4 times at most"),
        ({"blocks": [{"kind": "conv", "k": BIG}] * 2}, "the weights do not fit the description"),
        ({"stamp_shape": [BIG] * 3, "embedding": BIG, "head_grid": BIG, "blocks": []}, "not a model that can be"),
        ({"features": ["z_err"] * 100_000}, "the weights do not fit the description"),
        ({"classes": ["a"] * 100_000}, "the weights do not fit the description"),
    ],
)
def test_a_hostile_description_is_refused_without_taking_memory(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    describe(folder, **changes)
    header, data = parts_of(pack_model(new_model()))
    header["__metadata__"]["description"] = (folder / "model.json").read_text(encoding="utf-8")
    packed = packed_of(header, data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert message in told_of(folder)
    assert message in complaint_about_bytes(packed)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def complaint_about_bytes(packed: bytes) -> str:
    with pytest.raises(ModelError) as caught:
        unpack_model(packed)
    message = str(caught.value)
    assert message.startswith("packed model")
    assert "\n" not in message
    assert len(message) < 300
    return message


def parts_of(packed: bytes) -> tuple[dict[str, Any], bytes]:
    end = 8 + struct.unpack("<Q", packed[:8])[0]
    return json.loads(packed[8:end]), packed[end:]


def packed_of(header: dict[str, Any], data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_bytes_cut_off_anywhere_are_refused() -> None:
    packed = pack_model(new_model())
    for end in [*range(0, 3000), *range(3000, len(packed), 7), len(packed) - 1]:
        complaint_about_bytes(packed[:end])
    complaint_about_bytes(packed + b"x")


@given(where=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_a_byte_of_the_header_that_is_another_gives_a_network_or_one_line(where: float, byte: int) -> None:
    packed = bytearray(pack_model(new_model()))
    packed[int(where * (8 + struct.unpack("<Q", packed[:8])[0]))] = byte
    message = ""
    try:
        unpack_model(bytes(packed))
    except ModelError as error:
        message = str(error)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "'__metadata__': Input should be an object"),
        ({}, "'__metadata__.description': Field required"),
        ({"description": ""}, "Expecting value"),
        ({"description": "null"}, "Input should be a valid dictionary"),
        ({"description": "[" * 100_000}, "maximum recursion depth"),
        ({"description": "{}", "more": "x"}, "'__metadata__.more': Extra inputs are not permitted"),
        ({"description": 5}, "not a model that can be loaded"),
    ],
)
def test_bytes_without_a_description_are_refused(metadata: object, message: str) -> None:
    header, data = parts_of(pack_model(new_model()))
    assert message in complaint_about_bytes(packed_of(header | {"__metadata__": metadata}, data))
    del header["__metadata__"]
    assert "'__metadata__': Field required" in complaint_about_bytes(packed_of(header, data))


@pytest.mark.parametrize("dtype", ["F4", "F6_E2M3", "F8_E8M0", "I64", "C64", "BOOL", "F64", "BF16", "X1"])
@pytest.mark.parametrize("shape", [[0, 3], [0, 2**63], [2**64 - 1, 0], [0] * 1000])
def test_a_tensor_that_is_not_of_the_network_is_refused(folder: Path, dtype: str, shape: list[int]) -> None:
    header, data = parts_of(pack_model(new_model()))
    more = {"more": {"dtype": dtype, "shape": shape, "data_offsets": [len(data)] * 2}}
    complaint_about_bytes(packed_of(header | more, data))
    (folder / "model.safetensors").write_bytes(packed_of(header | more, data))
    told_of(folder)


def test_weights_of_another_network_in_bytes_are_refused() -> None:
    header, _ = parts_of(pack_model(new_model()))
    other, data = parts_of(pack_model(new_model(specs=(BlockSpec(3), BlockSpec(2)))))
    packed = packed_of(other | {"__metadata__": header["__metadata__"]}, data)
    assert complaint_about_bytes(packed) == (
        "packed model: not a model that can be loaded (the weights do not fit the description, "
        "first at 'head.project.weight')"
    )


@pytest.mark.parametrize("dump", [pickle.dumps, lambda weights: pickle.dumps(weights) * 1000])
def test_no_code_in_place_of_the_bytes_is_run(tmp_path: Path, dump: Callable[[object], bytes]) -> None:
    complaint_about_bytes(dump({"head.project.weight": _Bomb(tmp_path / "exploded")}))
    assert not (tmp_path / "exploded").exists()


def new_ensemble(orientations: int = 8, temperature: float = 1.0 / 3.0) -> Ensemble:
    return Ensemble([new_model(specs=ALL_KINDS), new_model(), new_model(specs=())], orientations, temperature)


@pytest.fixture
def ensemble_folder(tmp_path: Path) -> Path:
    save_model(new_ensemble(), tmp_path / "ensemble")
    return tmp_path / "ensemble"


@pytest.mark.parametrize("features", [("z", "z_err"), ()])
def test_an_ensemble_comes_back_to_the_bit(tmp_path: Path, features: tuple[str, ...]) -> None:
    members = [new_model(features=features, specs=specs) for specs in (ALL_KINDS, (), ALL_KINDS)]
    for ensemble in (Ensemble(members, 8, 1.0 / 3.0), Ensemble(members), Ensemble(members[:1], 8)):
        save_model(ensemble.train(), tmp_path / "a")
        loaded = load_model(tmp_path / "a")
        assert isinstance(loaded, Ensemble)
        assert not any(module.training for module in loaded.modules())
        assert (loaded.inputs, loaded.orientations) == (ensemble.inputs, ensemble.orientations)
        assert loaded.temperature == ensemble.temperature
        assert [one.specs for one in loaded.networks] == [one.specs for one in ensemble.networks]
        stamps, values = torch.randn(5, 2, 16, 16) * 9, torch.randn(5, len(features))
        assert torch.equal(loaded(stamps, values), ensemble.eval()(stamps, values))
        save_model(loaded.to(memory_format=torch.channels_last), tmp_path / "b")
        for name in ("model.json", "model.safetensors"):
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_ensemble_that_answers_as_its_one_member_does_is_written_as_that(tmp_path: Path) -> None:
    save_model(new_model(), tmp_path / "a")
    save_model(Ensemble([new_model()]), tmp_path / "b")
    for name in (".spacewarps.json", "model.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert isinstance(load_model(tmp_path / "b"), ProgressiveModel)


def test_where_one_network_is_needed_an_ensemble_is_refused(ensemble_folder: Path) -> None:
    assert complaint(ModelError, load_progressive_model, ensemble_folder) == (
        f"{ensemble_folder}: holds an ensemble, where a single network is needed; search again"
    )


ONE = {"embedding": 4, "head_grid": 3, "dropout": 0.25, "blocks": [{"kind": "conv", "k": 3}]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "spacewarps-model-1"}, "Field required"),
        ({"format": "spacewarps-model-3"}, "Field required"),
        ({"format": ["spacewarps-model-2"]}, "Field required"),
        ({"members": []}, "'members': List should have at least 1 item"),
        ({"members": [ONE] * 65}, "'members': List should have at most 64 items"),
        ({"members": [ONE] * 64}, "the weights do not fit the description"),
        ({"members": [ONE]}, "the weights do not fit the description"),
        ({"members": [{}]}, "'members.0.embedding': Field required"),
        ({"members": [{**ONE, "classes": ["a", "b"]}]}, "'members.0.classes': Extra inputs are not permitted"),
        ({"members": [{**ONE, "embedding": 65536}] * 64}, "the weights do not fit the description"),
        ({"members": [{**ONE, "embedding": 10**30}]}, "embedding"),
        ({"members": [{**ONE, "blocks": [{"kind": "conv", "k": BIG}] * 2}] * 64}, "the weights do not fit"),
        ({"members": [{**ONE, "blocks": [{"kind": "conv", "k": 2}] * 5}]}, "can be halved 4 times at most"),
        ({"orientations": 2}, "'orientations': Input should be 1 or 8"),
        ({"orientations": "8"}, "'orientations': Input should be 1 or 8"),
        ({"stamp_shape": [2, 16, 17]}, "`orientations` is 8, which needs square stamps, but these are 16 x 17"),
        ({"temperature": 0}, "'temperature': Input should be greater than or equal to 0.1"),
        ({"temperature": 1e9}, "'temperature': Input should be less than or equal to 10"),
        ({"temperature": float("nan")}, "'temperature': Input should be"),
        ({"temperature": "1"}, "'temperature': Input should be a valid number"),
        ({"temperature": None}, "'temperature': Input should be a valid number"),
        ({"more": 1}, "'more': Extra inputs are not permitted"),
        ({"classes": ["a"]}, "'classes': List should have at least 2 items"),
    ],
)
def test_a_hostile_description_of_an_ensemble_is_refused_without_taking_memory(
    ensemble_folder: Path, changes: dict[str, Any], message: str
) -> None:
    describe(ensemble_folder, **changes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert message in told_of(ensemble_folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_weights_of_an_ensemble_that_are_missing_strange_or_not_finite_are_named(ensemble_folder: Path) -> None:
    whole = load_file(ensemble_folder / "model.safetensors")
    bias = "members.1.head.classify.bias"
    for weights, message in (
        ({name: tensor for name, tensor in whole.items() if name != bias}, f"first at '{bias}'"),
        ({**whole, "members.3.head.classify.bias": whole[bias] * 2}, "first at 'members.3.head.classify.bias'"),
        ({**whole, bias: whole[bias].double()}, f"first at '{bias}'"),
        ({**whole, bias: whole[bias] * float("nan")}, f"{bias} in model.safetensors holds what is not a finite number"),
    ):
        save_file(weights, ensemble_folder / "model.safetensors")
        assert message in told_of(ensemble_folder)


def test_an_ensemble_in_place_of_packed_bytes_is_refused() -> None:
    header, data = parts_of(pack_model(new_model()))
    description = json.loads(header["__metadata__"]["description"]) | {"format": "spacewarps-model-2"}
    packed = packed_of(header | {"__metadata__": {"description": json.dumps(description)}}, data)
    assert "'format': Input should be 'spacewarps-model-1'" in complaint_about_bytes(packed)
