"""The outputs that a ``dvc.lock`` records, against those of a run."""

from collections.abc import Mapping

from pydantic import ValidationError

from spacewarps.commands.lock import Lock
from spacewarps.yaml_params import NotYamlError, read_yaml


def read_outputs(lock: str) -> dict[str, str]:
    """Return the hash of each output by its path; nothing where ``lock`` is no ``dvc.lock``."""
    try:
        stages = Lock.model_validate(read_yaml(lock)).stages
    except (NotYamlError, ValidationError):
        return {}
    return {str(output.path): output.md5 for stage in stages.values() for output in stage.outs}


def differing_outputs(lock: str, outputs: Mapping[str, str]) -> list[str]:
    """Return which of ``outputs`` have another hash in ``lock``, or none."""
    found = read_outputs(lock)
    return [path for path, digest in outputs.items() if found.get(path) != digest]
