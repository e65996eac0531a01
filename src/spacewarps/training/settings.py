"""How weights are learned, and what networks compute with."""

from typing import Annotated, Literal

from pydantic import Field

from spacewarps.model.settings import ORIENTATIONS
from spacewarps.portability import Kernels
from spacewarps.settings import PositiveInt, Threads, settings

Trains = Literal["all", "block"]
#: Each fold is a training, of the search's candidates or of the final network.
MAX_FOLDS = 32


@settings
class Optimiser:
    """AdamW under a one-cycle schedule.

    Args:
        batch_size: samples in a batch; BatchNorm needs two.
        learning_rate: the highest of the schedule, which rises for a quarter of the training and falls to almost 0
            (Smith & Topin 2018, arXiv:1708.07120).
        weight_decay: decoupled from the gradient (Loshchilov & Hutter 2019, arXiv:1711.05101); on weight matrices and
            filters, not on biases and BatchNorm.
        label_smoothing: the share of the target that is spread over all classes.
        class_weights: ``none``; or ``balanced``, where a sample weighs ``N / (classes * samples of its class)``: a rare
            class counts as much as a frequent one. The loss of a batch is the weighted mean.

    Raises:
        SettingsError: an argument is out of range.
    """

    batch_size: Annotated[int, Field(ge=2, le=65536)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 0.003
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.05
    class_weights: Literal["none", "balanced"] = "none"


@settings
class FinalSettings:
    """How the found architecture is trained to the end, and how it answers.

    Args:
        start: ``warm`` from the search's weights, or ``fresh``.
        data: ``train`` keeps the epoch that is best on validation; ``train_and_validation`` learns from both, and its
            schedule ends where it ends; ``folds`` is the mean of ``folds`` networks, each without the samples that its
            fold leaves out.
        folds: how many networks; 1 is the survey's own split. It counts only where ``data`` is ``folds``.
        epochs: passes over what is learned from.
        average: the decay of a moving average of the weights, which is kept in their place; 0 for none.
        orientations: 1, or 8 for the mean over the turned and mirrored images of a stamp.
        calibration: ``temperature`` fits one to samples that were held out.
        coverage: the share of each class's samples whose prediction set has the class, as samples that were held out
            promise it (:mod:`spacewarps.training.conformal`).

    Raises:
        SettingsError: an argument is out of range, or two do not go together.
    """

    start: Literal["warm", "fresh"] = "fresh"
    data: Literal["train", "train_and_validation", "folds"] = "folds"
    folds: Annotated[int, Field(ge=1, le=MAX_FOLDS)] = 5
    epochs: PositiveInt = 30
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    orientations: int = 8
    calibration: Literal["none", "temperature"] = "temperature"
    coverage: Annotated[float, Field(ge=0.5, le=0.999)] = 0.9

    def __post_init__(self) -> None:
        if self.orientations not in ORIENTATIONS:
            raise ValueError(f"orientations must be 1 or 8, but got {self.orientations}")
        if self.data == "folds" and self.start == "warm":
            raise ValueError(
                "data is folds, but start is warm, and the search's weights have seen the samples that a fold holds "
                "out; set start to fresh"
            )
        if self.data == "train_and_validation" and self.calibration == "temperature":
            raise ValueError(
                "calibration is temperature, but data is train_and_validation, which holds out no sample to fit it on; "
                "set calibration to none, or data to train or folds"
            )


@settings
class ComputeSettings:
    """What networks compute with.

    Args:
        device: ``auto`` takes CUDA where there is some.
        precision: ``auto`` takes bf16 where the processor computes in it, as emulation is slower than float32, and
            kernels are native.
        threads: threads of one process; part of the result, as it changes the order of sums.
        kernels: ``portable`` ones give the same bits on any x86-64 processor with AVX2, in float32; ``native`` are the
            fastest of this processor; ``auto`` takes portable ones where they are to be had. They are chosen when a
            process starts (:mod:`spacewarps.portability`), and do not concern an accelerator.

    Raises:
        SettingsError: an argument is out of range.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    threads: Threads = 1
    kernels: Kernels = "auto"
