"""A final network with what it learned from, as the stage ``train`` wrote them."""

from dataclasses import dataclass
from pathlib import Path

from spacewarps.model.ensemble import Network
from spacewarps.model.storage import load_model
from spacewarps.prediction.reference import Reference, read_reference


@dataclass(frozen=True)
class Classifier:
    """A final network, what it learned from, and the folder of both."""

    folder: Path
    network: Network
    reference: Reference

    @classmethod
    def load(cls, folder: Path) -> "Classifier":
        """Open what the stage ``train`` wrote to ``folder``.

        Raises:
            ModelError: a file is missing or damaged, or they do not belong together.
        """
        network = load_model(folder)
        return cls(folder, network, read_reference(folder, network))
