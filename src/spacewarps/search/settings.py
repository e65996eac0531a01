"""How far a network grows, which blocks are on trial, and how a candidate is trained."""

from collections.abc import Sequence
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from spacewarps.model.settings import BLOCK_KINDS, LARGEST_KERNEL, BlockSpec
from spacewarps.settings import Channels, OneOf, PositiveInt, Several, settings
from spacewarps.training.settings import Optimiser, Trains

# As a union's faults are described for the shape that was meant; the names never reach a user.
_ONE_LIST, _LIST_A_STEP = "<one list>", "<one list a step>"


def _shape_of_candidates(value: Any) -> str:
    nested = isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple)
    return _LIST_A_STEP if nested else _ONE_LIST


Measure = Literal["loss", "accuracy", "balanced_accuracy"]
_MOST_HALVINGS = 16

_Candidates = Annotated[tuple[Channels, ...], Several]
_CandidatesByStep = Annotated[tuple[_Candidates, ...], Several]


@settings
class WarmStart:
    """How a candidate's first weights come from networks that were trained before.

    Args:
        mode: ``previous`` copies the last winner's and adds the new block; ``siblings`` takes the candidates of a step
            in ascending ``k``, and each after the first widens the block of the best so far of its kind at this step;
            ``none`` draws all weights anew.
        scale: multiplies the copies.
        jitter: the noise added to the copies, in standard deviations of each tensor's own weights.

    Raises:
        SettingsError: an argument is out of range.
    """

    mode: Literal["none", "previous", "siblings"] = "previous"
    scale: Annotated[float, Field(gt=0, le=10)] = 1.0
    jitter: Annotated[float, Field(ge=0, le=10)] = 0.05


def _check_trains(trains: Trains, warm_start: WarmStart) -> None:
    if trains == "block" and warm_start.mode == "none":
        raise ValueError(
            "trains is block, which leaves the trunk as it was trained, but warm_start.mode is none, which draws it "
            "anew; set warm_start.mode to previous, or trains to all"
        )


@settings
class CandidateSettings:
    """How one candidate is trained.

    Args:
        epochs: how long, and what its learning rate's schedule is made for.
        warm_start: where its first weights come from.
        optimiser: how its weights change.
        trains: ``all`` weights; or all but the trunk below the new ``block``, which then is the last winner's as it
            is, without jitter, and is computed once for all candidates that one worker evaluates together.
        average: the decay of a moving average of the weights, which is scored and kept in their place; 0 for none.

    Raises:
        SettingsError: an argument is out of range, or two do not go together.
    """

    epochs: PositiveInt = 6
    warm_start: WarmStart = field(default_factory=WarmStart)
    optimiser: Optimiser = field(default_factory=Optimiser)
    trains: Trains = "all"
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def __post_init__(self) -> None:
        _check_trains(self.trains, self.warm_start)


@settings
class SearchSettings:
    """How far a network grows, and which blocks are on trial at each step.

    Args:
        max_layers: the largest number of blocks; at most as often as a stamp can be halved.
        k_candidates: the ``k`` on trial, one list for all steps or one list a step, the last of which holds for all
            further steps too.
        block_kinds: the kinds of block on trial, each with every ``k``.
        kernel_sizes: the kernel sizes on trial, each with every kind and ``k``.
        epochs_per_eval: the training of one candidate.
        decides: what candidates are compared by: the log ``loss``, the ``accuracy``, or the ``balanced_accuracy``.
        confidence: a block joins when its gain is more than noise at this one-sided confidence, for all candidates of
            a step together; not asked for where ``accuracy`` decides on one fold (:mod:`spacewarps.search.decisions`).
        min_delta: a step must gain more than this in what decides; the first always may.
        patience: how many steps in turn may bring no gain before growth ends. The network has the blocks up to the
            last that gained.
        racing: after each fold, candidates stop that have next to no chance to win.
        halving: how often the worse half of a step's candidates stops early: once at half of the epochs, twice at a
            quarter and at half of them, and so on (successive halving: Li et al. 2018, arXiv:1603.06560).
        warm_start: how a candidate starts from networks that were trained before.
        trains: ``all`` weights, or the new ``block``, projector and head only.
        control: from the second step on, the last network that joined learns beside the candidates for as many epochs
            as they do, without a new block, and gains are measured from it; otherwise from that network as it was.

    Raises:
        SettingsError: an argument is out of range, or two do not go together.
    """

    # More halvings than any stamp has; a bound, so that a slip of the finger does not fill memory.
    max_layers: Annotated[int, Field(ge=1, le=64)] = 5
    k_candidates: Annotated[
        Annotated[_Candidates, Tag(_ONE_LIST)] | Annotated[_CandidatesByStep, Tag(_LIST_A_STEP)],
        Discriminator(_shape_of_candidates),
    ] = ((16, 32), (32, 64), (64, 96), (96, 128), (128, 192))
    block_kinds: Annotated[tuple[Annotated[str, OneOf(BLOCK_KINDS)], ...], Several] = ("conv",)
    kernel_sizes: Annotated[tuple[Annotated[int, Field(ge=1, le=LARGEST_KERNEL)], ...], Several] = (3,)
    epochs_per_eval: PositiveInt = 6
    decides: Measure = "loss"
    # Shared among the candidates of a step (Bonferroni), what is left to 1 must not be lost to rounding.
    confidence: Annotated[float, Field(ge=0.5, le=0.999999)] = 0.95
    min_delta: Annotated[float, Field(ge=0, lt=1)] = 0.0
    patience: Annotated[int, Field(ge=1, le=64)] = 2
    racing: bool = False
    halving: Annotated[int, Field(ge=0, le=_MOST_HALVINGS)] = 0
    warm_start: WarmStart = field(default_factory=WarmStart)
    trains: Trains = "all"
    control: bool = False

    def __post_init__(self) -> None:
        self._check_blocks()
        if self.halving and self.warm_start.mode == "siblings":
            raise ValueError(
                "halving stops candidates early that others would be widened from; "
                "set halving to 0, or warm_start.mode to previous"
            )
        if self.racing and (self.halving or self.warm_start.mode == "siblings"):
            raise ValueError(
                "racing stops candidates as they lose, and goes with neither halving nor warm_start.mode siblings; set "
                "racing to false, or halving to 0 and warm_start.mode to previous"
            )
        _check_trains(self.trains, self.warm_start)
        if self.control and self.warm_start.mode != "previous":
            raise ValueError(
                "control lets the last network that joined learn for as many epochs as every candidate has behind it, "
                f"but warm_start.mode is {self.warm_start.mode}, with which these differ; set warm_start.mode to "
                "previous, or control to false"
            )

    def knows_noise(self, folds: int) -> bool:
        """Say whether decisions over as many folds know their noise.

        The accuracy on a single split is compared as it is: with one verdict a sample, and most of them the same for
        both networks, there is too little to tell a gain from noise.
        """
        return self.decides != "accuracy" or folds > 1

    def check_folds(self, folds: int) -> None:
        """Check that these settings go with as many folds.

        Raises:
            ValueError: they do not.
        """
        if self.control and not self.knows_noise(folds):
            raise ValueError(
                "control goes with decisions that know their noise, but decides is accuracy on one fold; set control "
                "to false, decides to loss, or folds to 2 or more"
            )

    def candidates_by_step(self) -> tuple[tuple[int, ...], ...]:
        """Return the ``k`` on trial at each step, ``max_layers`` times."""
        lists = tuple(ks for ks in self.k_candidates if isinstance(ks, tuple))
        lists = lists or (tuple(k for k in self.k_candidates if isinstance(k, int)),)
        return (*lists, *lists[-1:] * self.max_layers)[: self.max_layers]

    def blocks_by_step(self) -> list[list[BlockSpec]]:
        """Return the blocks on trial at each step, ``max_layers`` lists."""
        return [
            [BlockSpec(k, kind, size) for kind in self.block_kinds for size in self.kernel_sizes for k in ks]
            for ks in self.candidates_by_step()
        ]

    def of_candidate(self, optimiser: Optimiser) -> CandidateSettings:
        """Return how one candidate is trained."""
        return CandidateSettings(self.epochs_per_eval, self.warm_start, optimiser, self.trains)

    def _check_blocks(self) -> None:
        steps = self.candidates_by_step()
        if not self.k_candidates or () in self.k_candidates:
            raise ValueError("k_candidates must not be empty")
        for ks in steps:
            _check_differ("k_candidates of one step", ks)
        for name in ("block_kinds", "kernel_sizes"):
            values = getattr(self, name)
            if not values:
                raise ValueError(f"{name} must not be empty")
            _check_differ(name, values)
        even = [size for size in self.kernel_sizes if size % 2 == 0]
        if even:
            raise ValueError(f"kernel_sizes must be odd, so that a map keeps its size, but got {even[0]}")
        smallest = min(k for ks in steps for k in ks)
        for kind in self.block_kinds:
            if smallest < BLOCK_KINDS[kind]:
                raise ValueError(
                    f"{kind} blocks need a k of at least {BLOCK_KINDS[kind]}, but k_candidates has {smallest}; raise "
                    f"it, or take {kind} out of block_kinds"
                )


def _check_differ(what: str, values: Sequence[object]) -> None:
    if len(set(values)) != len(values):
        raise ValueError(f"{what} must differ from each other, but got {list(values)}")
