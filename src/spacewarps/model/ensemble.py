"""Several networks that answer as one: the mean over members and orientations, at one temperature."""

import math
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from spacewarps.errors import ModelError
from spacewarps.model.arrays import AskedWithArrays
from spacewarps.model.network import Inputs, ProgressiveModel
from spacewarps.model.settings import ORIENTATIONS

#: The range of temperatures. To a network that is always right, the lowest would fit best, however low.
LEAST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.1, 10.0


class Ensemble(AskedWithArrays, nn.Module):
    """The mean of the probabilities of networks, of the eight orientations of a stamp, or of both.

    For logits ``z`` of ``M`` members in ``O`` orientations the answer is ``log(sum(softmax(z / T)) / (M * O))``. There
    is no up in the sky, so all eight symmetries of the square (the dihedral group) show the same source. The
    temperature ``T`` makes the probabilities more or less sure (Guo et al. 2017, arXiv:1706.04599).

    Args:
        members: networks for the same stamps, features and classes.
        orientations: 1 looks at stamps as they are, 8 at their turned and mirrored images too.
        temperature: 1 leaves the logits as they are.

    Raises:
        ModelError: there is no member, the members are for different data, stamps of 8 orientations are not square, or
            the temperature is out of range.
    """

    def __init__(self, members: Sequence[ProgressiveModel], orientations: int = 1, temperature: float = 1.0) -> None:
        super().__init__()
        if not members:
            raise ModelError("an ensemble needs at least one member, but got none")
        if any(member.inputs != members[0].inputs for member in members):
            raise ModelError("the members of an ensemble must be made for the same stamps, features and classes")
        check_orientations(orientations, members[0].inputs.stamp_shape)
        if not LEAST_TEMPERATURE <= temperature <= HIGHEST_TEMPERATURE:
            raise ModelError(
                f"the temperature must lie between {LEAST_TEMPERATURE} and {HIGHEST_TEMPERATURE}, "
                f"but got temperature={temperature}"
            )
        self.members = nn.ModuleList(members)
        # NumPy's numbers cannot be written as JSON.
        self.orientations = int(orientations)
        self.temperature = float(temperature)

    @property
    def networks(self) -> list[ProgressiveModel]:
        """The members."""
        return [cast(ProgressiveModel, member) for member in self.members]

    @property
    def inputs(self) -> Inputs:
        """What every member sees and tells apart."""
        return self.networks[0].inputs

    @property
    def alone(self) -> ProgressiveModel | None:
        """The one member, if the ensemble answers as it does; nothing otherwise."""
        is_alone = len(self.members) == 1 and self.orientations == 1 and self.temperature == 1
        return self.networks[0] if is_alone else None

    def forward(self, stamps: Tensor, features: Tensor | None = None) -> Tensor:
        """Return log probabilities, float32 ``[B, classes]``; arguments and errors are those of a member."""
        return self.combine(torch.stack(list(self.answers(stamps, features)))).float()

    def answers(self, stamps: Tensor, features: Tensor | None) -> Iterator[Tensor]:
        """Yield the logits of every member in every orientation, ``[B, classes]``."""
        for turned in oriented(stamps, self.orientations):
            for member in self.members:
                yield member(turned, features)

    def combine(self, logits: Tensor) -> Tensor:
        """Return log probabilities, float64 ``[N, classes]``, from the answers, ``[M * O, N, classes]``."""
        return mean_log_probabilities(logits, self.temperature)


#: A network, or several as one; :func:`spacewarps.model.storage.load_model` returns either.
Network = ProgressiveModel | Ensemble


def check_orientations(orientations: int, stamp_shape: tuple[int, int, int]) -> None:
    """Check that stamps can be looked at in as many orientations.

    Raises:
        ModelError: they cannot.
    """
    _, height, width = stamp_shape
    if orientations not in ORIENTATIONS:
        raise ModelError(f"`orientations` must be 1 or 8, but got {orientations}")
    if orientations > 1 and height != width:
        raise ModelError(
            f"`orientations` is {orientations}, which needs square stamps, but these are {height} x {width}"
        )


def oriented(stamps: Tensor, orientations: int) -> Iterator[Tensor]:
    """Yield ``stamps``, ``[B, C, H, W]``, in each orientation, beginning with the one that they have."""
    if orientations == 1:
        yield stamps
        return
    for mirrored in (stamps, stamps.flip(3)):
        for quarters in range(4):
            yield mirrored.rot90(quarters, (2, 3))


def mean_log_probabilities(logits: Tensor, temperature: float) -> Tensor:
    """Return the log of the mean over the first axis of ``softmax(logits / temperature)``, in float64.

    Args:
        logits: ``[A, N, classes]``.
        temperature: divides the logits.
    """
    log_probabilities = (logits.double() / temperature).log_softmax(dim=-1)
    highest = log_probabilities.amax(dim=0).clamp_min(torch.finfo(torch.float64).min)
    # The logarithm of MKL, in float64, approximates as the processor does; that of `log1p` does not.
    total = (log_probabilities - highest).exp().sum(dim=0)
    return highest + (total - 1).log1p() - math.log(len(logits))
