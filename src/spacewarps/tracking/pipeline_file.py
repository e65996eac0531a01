"""What ``dvc.yaml`` lists for its stages: inputs, outputs and params, with the params that name places put in."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from spacewarps.yaml_params import NotYamlError, read_yaml_file

PIPELINES = tuple(map(Path, ("dvc.yaml", "crossvalidation/dvc.yaml", "prediction/dvc.yaml", "fetching/dvc.yaml")))

#: The file of params; a pipeline's run has it as an artifact, with its types and comments, which MLflow's params lack.
PARAMS_FILE = "params.yaml"
_VARIABLE = re.compile(r"\$\{\s*([\w.-]+)\s*\}")


class _Entry(BaseModel):
    wdir: str = "."
    deps: list[str] = []
    params: list[str | dict[str, list[str] | None]] = []
    outs: list[str | dict[str, Any]] = []
    metrics: list[str | dict[str, Any]] = []


class _Pipeline(BaseModel):
    stages: dict[str, _Entry]


@dataclass(frozen=True)
class ListedStage:
    """A stage, with all paths relative to the project.

    Attributes:
        inputs: files and folders that it reads, code among them.
        outputs: those that it writes.
        params: for each file of params, the names that count; None where all do.
    """

    inputs: list[Path]
    outputs: list[Path]
    params: Mapping[Path, list[str] | None]


def listed_stages(params: Mapping[str, object]) -> dict[str, ListedStage]:
    """Return the stages of the pipelines in this folder by their names; none of a pipeline that cannot be read.

    Args:
        params: all params, flat.
    """
    found = {}
    for file in PIPELINES:
        try:
            pipeline = _Pipeline.model_validate(read_yaml_file(file))
        except (OSError, UnicodeDecodeError, NotYamlError, ValidationError):
            continue
        for name, entry in pipeline.stages.items():
            folder = file.parent / entry.wdir
            # An output with options is a section of one name.
            outputs = [out if isinstance(out, str) else next(iter(out), "") for out in (*entry.outs, *entry.metrics)]
            found[name] = ListedStage(
                [_place(folder, dep, params) for dep in entry.deps],
                [_place(folder, out, params) for out in outputs],
                _names_by_file(folder, entry.params),
            )
    return found


def _names_by_file(folder: Path, params: list[str | dict[str, list[str] | None]]) -> dict[Path, list[str] | None]:
    names: dict[Path, list[str] | None] = {}
    for listed in params:
        for file, of_file in ({PARAMS_FILE: [listed]} if isinstance(listed, str) else listed).items():
            place = Path(os.path.normpath(folder / file))
            known = names.setdefault(place, [])
            names[place] = None if known is None or of_file is None else [*known, *of_file]
    return names


def _place(folder: Path, name: str, params: Mapping[str, object]) -> Path:
    return Path(os.path.normpath(folder / _VARIABLE.sub(lambda found: str(params.get(found[1], found[0])), name)))
