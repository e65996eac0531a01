"""Networks on disk: weights as safetensors, the description as JSON. Loading runs no code from either."""

import json
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from spacewarps.errors import ModelError
from spacewarps.files import replaced_directory, write_json
from spacewarps.model.progressive import ProgressiveModel, Widths

WEIGHTS_FILE = "model.safetensors"
DESCRIPTION_FILE = "model.json"

_Size = Annotated[int, Field(ge=1, le=1 << 20)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Block(_Part):
    kind: Literal["conv"]
    k: _Size


class _Description(_Part):
    format: Literal["spacewarps-model-1"]
    stamp_shape: Annotated[list[_Size], Field(min_length=3, max_length=3)]
    features: list[str]
    classes: Annotated[list[str], Field(min_length=2)]
    embedding: _Size
    head_grid: _Size
    dropout: Annotated[float, Field(ge=0, lt=1)]
    blocks: Annotated[list[_Block], Field(max_length=64)]


def describe_model(model: ProgressiveModel) -> dict[str, object]:
    """Return all that is needed to build ``model`` again, apart from its weights."""
    return {
        "format": "spacewarps-model-1",
        "stamp_shape": list(model.inputs.stamp_shape),
        "features": list(model.inputs.features),
        "classes": list(model.inputs.classes),
        "embedding": model.widths.embedding,
        "head_grid": model.widths.head_grid,
        "dropout": model.widths.dropout,
        "blocks": [{"kind": "conv", "k": k} for k in model.ks],
    }


def save_model(model: ProgressiveModel, folder: Path) -> None:
    """Write ``model`` to ``folder``, in place of what stood there."""
    with replaced_directory(folder) as target:
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        save_file(weights, target / WEIGHTS_FILE)
        write_json(target / DESCRIPTION_FILE, describe_model(model))


def load_model(folder: Path | str) -> ProgressiveModel:
    """Return the network in ``folder``, on the CPU and in eval mode; it takes raw stamps and raw features.

    >>> model = load_model("models/final")  # doctest: +SKIP
    >>> model(stamps, features).softmax(dim=1)  # doctest: +SKIP

    Raises:
        ModelError: a file is missing, damaged, or does not fit the other.
    """
    folder = Path(folder)
    try:
        text = (folder / DESCRIPTION_FILE).read_text(encoding="utf-8")
        description = _Description.model_validate(json.loads(text))
        weights = load_file(folder / WEIGHTS_FILE)
        # Sizes that a hostile description claims cost nothing on this device; only weights that are really in the file
        # take memory.
        with torch.device("meta"):
            model = _build(description)
    except FileNotFoundError as error:
        raise ModelError(f"{error.filename or folder / WEIGHTS_FILE}: no such file; {folder} holds no model") from None
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in fault["loc"])
        where = f"{folder / DESCRIPTION_FILE}, {place!r:.80}" if place else f"{folder / DESCRIPTION_FILE}"
        raise ModelError(f"{where}: {fault['msg']}; save the model again") from None
    except (OSError, ValueError, RuntimeError, ModelError, SafetensorError) as error:
        raise ModelError(f"{folder}: not a model that can be loaded ({' '.join(str(error).split())[:200]})") from None
    expected = {name: (tensor.shape, tensor.dtype) for name, tensor in model.state_dict().items()}
    found = {name: (tensor.shape, tensor.dtype) for name, tensor in weights.items()}
    if expected != found:
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise ModelError(f"{folder}: {WEIGHTS_FILE} does not fit {DESCRIPTION_FILE} (first at {wrong[0]})")
    model.load_state_dict(weights, assign=True)
    return model.requires_grad_(True).eval()


def _build(description: _Description) -> ProgressiveModel:
    channels, height, width = description.stamp_shape
    model = ProgressiveModel(
        (channels, height, width),
        description.features,
        description.classes,
        Widths(description.embedding, description.head_grid, description.dropout),
    )
    for block in description.blocks:
        model.add_block(block.k)
    return model
