"""What names an evaluation: a hash of all that decides its bits."""

import hashlib
import json
from dataclasses import asdict

import numpy as np
import torch

from spacewarps.model.blocks import BLOCKS
from spacewarps.provenance import fingerprint_from_outside, fingerprint_of_code
from spacewarps.search.candidate import Evaluation

FORMAT = "spacewarps-journal-4"
# A change of the code, as it was when it was imported, makes older entries unknown.
_CODE = fingerprint_of_code("search.candidate")


def key_of(evaluation: Evaluation, data: str, machine: str) -> str:
    """Return the name of all that decides the bits of ``evaluation``, wherever it is suspended.

    Args:
        evaluation: the candidate, its source, its settings, its precision and threads.
        data: the fingerprint of its fold (:meth:`spacewarps.search.folds.Fold.fingerprint`).
        machine: :func:`spacewarps.training.compute.kind_of_machine` of where it is computed.
    """
    compute = evaluation.compute
    settings = asdict(evaluation.settings)
    if evaluation.settings.warm_start.mode == "siblings" and evaluation.grows == "deeper":
        # It starts from the last winner, so it is the same candidate in that mode.
        settings["warm_start"]["mode"] = "previous"
    parts = {
        "format": FORMAT,
        "data": data,
        "source": hashlib.sha256(evaluation.source).hexdigest(),
        "grows": evaluation.grows,
        "block": asdict(evaluation.candidate.block),
        "seeds": [evaluation.candidate.seed, evaluation.batches],
        "settings": settings,
        "compute": [compute.device.type, str(compute.precision), compute.threads],
        "machine": machine,
        "code": _CODE,
        "blocks": {kind: own for kind, block in BLOCKS.items() if (own := fingerprint_from_outside(block))},
        "versions": [torch.__version__, np.__version__],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
