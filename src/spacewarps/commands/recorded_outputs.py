"""The outputs that a ``dvc.lock`` records, with their hashes."""

from collections.abc import Mapping

from pydantic import BaseModel, ValidationError

from spacewarps.yaml_params import NotYamlError, read_yaml


class _Output(BaseModel):
    path: str
    md5: str


class _Stage(BaseModel):
    outs: list[_Output] = []


class _Lock(BaseModel):
    stages: dict[str, _Stage]


def read_outputs(lock: str) -> dict[str, str]:
    """Return the hash of each output by its path; nothing where ``lock`` is no ``dvc.lock``."""
    try:
        stages = _Lock.model_validate(read_yaml(lock)).stages
    except (NotYamlError, ValidationError):
        return {}
    return {output.path: output.md5 for stage in stages.values() for output in stage.outs}


def differing_outputs(lock: str, outputs: Mapping[str, str]) -> list[str]:
    """Return which of ``outputs`` have another hash in ``lock``, or none."""
    found = read_outputs(lock)
    return [path for path, digest in outputs.items() if found.get(path) != digest]
