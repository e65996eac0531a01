"""Networks in folders and in bytes: weights as safetensors, descriptions as JSON. Loading runs no code from either."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save, save_file
from torch import Tensor

from spacewarps.errors import ModelError, SpaceWarpsError
from spacewarps.files import replaced_directory
from spacewarps.model.ensemble import HIGHEST_TEMPERATURE, LEAST_TEMPERATURE, Ensemble, Network
from spacewarps.model.network import Inputs, ProgressiveModel, build_network
from spacewarps.model.settings import BlockSpec, Configuration
from spacewarps.reading import MAX_JSON_BYTES, check_file, first_fault, read_bytes
from spacewarps.writing import write_json

_Network = TypeVar("_Network", bound=Network)

WEIGHTS_FILE = "model.safetensors"
DESCRIPTION_FILE = "model.json"

_ONE, _SEVERAL = "spacewarps-model-1", "spacewarps-model-2"

_Size = Annotated[int, Field(ge=1, le=1 << 20)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Block(_Part):
    kind: str
    k: _Size
    # Files of before blocks had kernels of several sizes do not name it.
    kernel_size: int = 3


class _Inputs(_Part):
    stamp_shape: Annotated[list[_Size], Field(min_length=3, max_length=3)]
    features: list[str]
    classes: Annotated[list[str], Field(min_length=2)]
    # Absent where there is none.
    mask_channel: bool = False


class _Architecture(_Part):
    embedding: int
    head_grid: int
    dropout: float
    blocks: Annotated[list[_Block], Field(max_length=64)]


class _Description(_Architecture, _Inputs):
    format: Literal["spacewarps-model-1"]


class _EnsembleDescription(_Inputs):
    format: Literal["spacewarps-model-2"]
    orientations: Literal[1, 8]
    temperature: Annotated[float, Field(ge=LEAST_TEMPERATURE, le=HIGHEST_TEMPERATURE)]
    members: Annotated[list[_Architecture], Field(min_length=1, max_length=64)]


class _Metadata(_Part):
    description: str


class _Header(BaseModel):
    metadata: _Metadata = Field(alias="__metadata__")


def describe_model(model: Network) -> dict[str, object]:
    """Return all that is needed to build ``model`` again, apart from its weights."""
    if isinstance(model, Ensemble):
        return {
            "format": _SEVERAL,
            **_inputs_of(model),
            "orientations": model.orientations,
            "temperature": model.temperature,
            "members": [_architecture_of(member) for member in model.networks],
        }
    return {"format": _ONE, **_inputs_of(model), **_architecture_of(model)}


def _inputs_of(model: Network) -> dict[str, object]:
    inputs = model.inputs
    return {
        "stamp_shape": list(inputs.stamp_shape),
        "features": list(inputs.features),
        "classes": list(inputs.classes),
        **({"mask_channel": True} if inputs.mask_channel else {}),
    }


def _architecture_of(model: ProgressiveModel) -> dict[str, object]:
    return {
        "embedding": model.configuration.embedding,
        "head_grid": model.configuration.head_grid,
        "dropout": model.configuration.dropout,
        "blocks": [{"kind": spec.kind, "k": spec.k, "kernel_size": spec.kernel_size} for spec in model.specs],
    }


def save_model(model: Network, folder: Path) -> None:
    """Write ``model`` to ``folder``, in place of the network that stood there.

    An ensemble that answers as its one member does is written as that member.

    Raises:
        SpaceWarpsError: the folder holds what was not written there before.
        ModelError: the weights cannot be written, as on a full disk.
    """
    if isinstance(model, Ensemble):
        model = model.alone or model
    with replaced_directory(folder) as target:
        try:
            save_file(_weights(model), target / WEIGHTS_FILE)
        except SafetensorError as error:
            raise ModelError(
                f"{folder}: the model cannot be written ({_one_line(error)}); see that the disk has room for it"
            ) from None
        write_json(target / DESCRIPTION_FILE, describe_model(model))


def load_model(folder: Path | str) -> Network:
    """Return the network in ``folder``, on the CPU and in eval mode; it takes raw stamps and raw features.

    It is an :class:`~spacewarps.model.ensemble.Ensemble` where several networks or orientations answer as one, or where
    there is a temperature. Both take arrays as scikit-learn's classifiers do, and tensors as torch's modules do; the
    logits of the one and the log probabilities of the other give probabilities alike:

    >>> model = load_model("models/final")  # doctest: +SKIP
    >>> model.predict(stamps, features)  # doctest: +SKIP
    >>> model(stamp_tensors, feature_tensors).softmax(dim=1)  # doctest: +SKIP

    Raises:
        ModelError: a file is missing, damaged, or does not fit the other; or a weight is no finite number.
    """
    folder = Path(folder)
    for name in (DESCRIPTION_FILE, WEIGHTS_FILE):
        if not (folder / name).exists():
            raise ModelError(f"{folder / name}: no such file; {folder} holds no model")
    with _refusals(str(folder)):
        text = read_bytes(folder / DESCRIPTION_FILE, at_most=MAX_JSON_BYTES).decode("utf-8")
        check_file(folder / WEIGHTS_FILE)
        description = json.loads(text)
        several = isinstance(description, dict) and description.get("format") == _SEVERAL
        built = _build_ensemble(description) if several else _build_network(description)
        model = _with_weights(built, load_file(folder / WEIGHTS_FILE))
        for name, weights in model.state_dict().items():
            if not weights.isfinite().all():
                raise ModelError(f"{name} in {WEIGHTS_FILE} holds what is not a finite number; make the model again")
        return model


def load_progressive_model(folder: Path | str) -> ProgressiveModel:
    """Return the network in ``folder``, as :func:`load_model` does, if it is one that can grow and learn.

    Raises:
        ModelError: as :func:`load_model`; or it is an ensemble.
    """
    model = load_model(folder)
    if isinstance(model, Ensemble):
        raise ModelError(f"{folder}: holds an ensemble, where a single network is needed; search again")
    return model


def pack_model(model: ProgressiveModel) -> bytes:
    """Return ``model`` as bytes: safetensors whose metadata is the description.

    The same network gives the same bytes, whatever its device and its layout in memory.
    """
    # A single entry, since safetensors keeps its metadata in no order.
    return save(_weights(model), metadata={"description": json.dumps(describe_model(model))})


def unpack_model(data: bytes) -> ProgressiveModel:
    """Return the network that :func:`pack_model` made ``data`` of, on the CPU and in eval mode.

    Raises:
        ModelError: the bytes are damaged or none of a network, or the weights do not fit the description.
    """
    with _refusals("packed model"):
        weights = load(data)
        header_end = 8 + int.from_bytes(data[:8], "little")
        header = _Header.model_validate_json(data[8:header_end])
        return _with_weights(_build_network(json.loads(header.metadata.description)), weights)


def _weights(model: Network) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}


def _with_weights(model: _Network, weights: dict[str, Tensor]) -> _Network:
    expected = {name: (tensor.shape, tensor.dtype) for name, tensor in model.state_dict().items()}
    found = {name: (tensor.shape, tensor.dtype) for name, tensor in weights.items()}
    if expected != found:
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise ModelError(f"the weights do not fit the description, first at {wrong[0]!r:.80}")
    model.load_state_dict(weights, assign=True)
    model.eval()
    return model


def _build_network(description: object) -> ProgressiveModel:
    known = _Description.model_validate(description)
    return _build(known, known)


def _build_ensemble(description: object) -> Ensemble:
    known = _EnsembleDescription.model_validate(description)
    return Ensemble([_build(known, member) for member in known.members], known.orientations, known.temperature)


def _build(inputs: _Inputs, architecture: _Architecture) -> ProgressiveModel:
    channels, height, width = inputs.stamp_shape
    # Sizes that a hostile description claims cost nothing on this device; only weights that are really there take
    # memory.
    with torch.device("meta"):
        return build_network(
            Inputs((channels, height, width), tuple(inputs.features), tuple(inputs.classes), inputs.mask_channel),
            [BlockSpec(block.k, block.kind, block.kernel_size) for block in architecture.blocks],
            Configuration(architecture.embedding, architecture.head_grid, architecture.dropout),
        )


@contextmanager
def _refusals(source: str) -> Iterator[None]:
    """Say in one line, with ``source``, why a network is none."""
    try:
        yield
    except ValidationError as error:
        raise ModelError(f"{source}: {first_fault(error)}; save the model again") from None
    # A number type that torch has not is a LookupError, a size beyond 64 bits a TypeError.
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, SpaceWarpsError, SafetensorError) as error:
        raise ModelError(f"{source}: not a model that can be loaded ({_one_line(error)})") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
