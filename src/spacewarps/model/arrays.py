"""Networks asked with NumPy arrays, by the names that scikit-learn's classifiers have."""

from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from spacewarps.errors import ModelError

if TYPE_CHECKING:
    from spacewarps.model.ensemble import Network

# As many as the pipeline's predictions take at once.
_BATCH = 256


class AskedWithArrays:
    """What a network does with arrays; of :class:`~spacewarps.model.network.ProgressiveModel` and of ensembles."""

    @property
    def classes_(self) -> NDArray[np.str_]:
        """The names of the classes, in the order of their probabilities."""
        return np.array(cast("Network", self).inputs.classes)

    def predict_proba(self, stamps: ArrayLike, features: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the probability of each class for each stamp, ``[N, classes]``.

        Args:
            stamps: ``[N, C, H, W]``, in the survey's units.
            features: ``[N, F]`` in catalogue units, NaN where there is no value; not needed if the network has none.

        Raises:
            ModelError: an array is not of the shape that the network was made for, or holds no numbers.
        """
        network = cast("Network", self)
        images, values = _numbers("stamps", stamps), None if features is None else _numbers("features", features)
        parts, was_training = [np.empty((0, len(network.inputs.classes)))], network.training
        network.eval()
        device = next(network.parameters()).device
        try:
            for start in range(0, len(images), _BATCH):
                part = slice(start, start + _BATCH)
                of_part = None if values is None else torch.from_numpy(values[part]).to(device)
                with torch.inference_mode():
                    logits = network(torch.from_numpy(images[part]).to(device), of_part)
                parts.append(logits.double().softmax(dim=1).cpu().numpy())
        finally:
            network.train(was_training)
        return np.concatenate(parts)

    def predict(self, stamps: ArrayLike, features: ArrayLike | None = None) -> NDArray[np.str_]:
        """Return the name of the most probable class for each stamp, ``[N]``; arguments and errors as above."""
        found: NDArray[np.str_] = self.classes_[self.predict_proba(stamps, features).argmax(axis=1)]
        return found


def _numbers(what: str, given: ArrayLike) -> NDArray[np.float32]:
    try:
        # One too large for float32 becomes infinite, which a network takes as missing.
        with np.errstate(over="ignore"):
            return np.asarray(given).astype(np.float32)
    except (TypeError, ValueError):
        raise ModelError(f"{what} must be an array of numbers") from None
