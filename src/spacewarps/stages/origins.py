"""What a result can be had from again, as far as another run of the same would have it too."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import PIL
import scipy
import sklearn
import torch

from spacewarps.provenance import fingerprint_of_code
from spacewarps.report.facts import Origins
from spacewarps.settings import flatten
from spacewarps.stages.context import Stage
from spacewarps.stages.param_values import NO_VALUE, value_of
from spacewarps.tracking.hashes import dvc_hash

_PARAMS = Path("params.yaml")
# What computes; Python's own version changes no bit.
_COMPUTE: dict[str, ModuleType] = {
    "numpy": np,
    "pandas": pd,
    "pillow": PIL,
    "scikit-learn": sklearn,
    "scipy": scipy,
    "torch": torch,
}


def origins_of(stage: Stage) -> Origins:
    """Return the params that ``dvc.yaml`` lists for ``stage``, the hashes of what it reads, and versions."""
    paths = stage.params.paths
    return Origins(
        params=dict(_params(stage)),
        hashes={
            "prepared survey, as DVC knows it": dvc_hash(stage.prepared),
            "final network, as DVC knows it": dvc_hash(Path(paths.final)),
            f"code of the stage {stage.name} (SHA-256)": fingerprint_of_code(f"stages.{stage.name}"),
        },
        # Behind the plus stands for which accelerator a package was built.
        versions={name: str(module.__version__).partition("+")[0] for name, module in _COMPUTE.items()},
        command="dvc repro --force",
    )


def _params(stage: Stage) -> Iterator[tuple[str, str]]:
    # Without a list, what decides nothing and what this machine calls its folders would be among them.
    for name in stage.began_with.names.get(_PARAMS) or []:
        value: Any = value_of(stage.began_with.values[_PARAMS], name)
        if value is not NO_VALUE:
            # A section that holds nothing is shown as such.
            for key, each in (flatten({name: value}) or {name: value}).items():
                yield key, json.dumps(each, ensure_ascii=False)
