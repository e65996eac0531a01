"""The data of a search: for each fold, what candidates learn from and what they are scored on."""

import json
from dataclasses import asdict
from typing import NamedTuple

from spacewarps.survey.dataset import Space_Galaxi


class Fold(NamedTuple):
    """What a candidate learns from, with its augmentation, and what it is then scored on."""

    train: Space_Galaxi
    validation: Space_Galaxi

    def fingerprint(self) -> str:
        """Return a hash of all that candidates learn from and are scored on, augmentation included."""
        strengths = None if self.train.augmentation is None else asdict(self.train.augmentation)
        return f"{self.train.fingerprint()} {self.validation.fingerprint()} {json.dumps(strengths)}"
