"""What a candidate costs: its speed beside the machine's peak, and where its time goes."""

import functools
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules import module as module_hooks
from torch.optim import optimizer as optimiser_hooks

from spacewarps import Augmentation, ProgressiveModel, Space_Galaxi, progressive_architecture_search
from spacewarps.search.settings import SearchSettings
from spacewarps.survey.prepared import PreparedSurvey, load_prepared_survey
from spacewarps.training.compute import Compute, set_up_compute
from spacewarps.training.fit import fit
from spacewarps.training.settings import ComputeSettings, Optimiser

BATCH = 32
# A candidate's epochs, as in params.yaml: its log is written once for all of them.
EPOCHS = 6
# The part of the survey that is trained and evaluated on here: both in their usual proportion and batch sizes.
FRACTION = 0.5
PARTS = ("data", "forward", "backward", "optimiser", "evaluation")

_PEAK_SIDE, _PEAK_SECONDS = 2048, 2.0
_LOGGED_CANDIDATES = 8
_PATIENCE_SECONDS = 120.0


class Clock:
    """Counts the seconds of each part. What a part calls counts as its own, whatever that is elsewhere."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._depth, self._part, self._start = 0, "", 0.0

    def enter(self, part: str) -> None:
        """Begin a part, unless another one is open."""
        if self._depth == 0:
            self._part, self._start = part, time.perf_counter()
        self._depth += 1

    def leave(self) -> None:
        """End what was entered last."""
        self._depth -= 1
        if self._depth == 0:
            self.seconds[self._part] += time.perf_counter() - self._start

    def wrap(self, owner: Any, name: str, part: str) -> None:
        """Count every call of the function ``owner.name``."""
        function: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            self.enter(part)
            try:
                return function(*arguments, **named)
            finally:
                self.leave()

        setattr(owner, name, timed)

    def watch(self) -> None:
        """Count what this process does from here on; evaluation is for the caller to enter and to leave."""
        self.wrap(Space_Galaxi, "batch", "data")
        self.wrap(torch.autograd, "backward", "backward")
        # The outermost module opens the part, so it does not matter which of the network's methods calls its blocks.
        module_hooks.register_module_forward_pre_hook(lambda _module, _inputs: self.enter("forward"))
        module_hooks.register_module_forward_hook(lambda _module, _inputs, _outputs: self.leave())
        optimiser_hooks.register_optimizer_step_pre_hook(lambda *_: self.enter("optimiser"))
        optimiser_hooks.register_optimizer_step_post_hook(lambda *_: self.leave())


class Moments:
    """Hears of every batch and epoch of a training, and tells training and evaluation apart."""

    def __init__(self, samples: int, clock: Clock) -> None:
        self.samples, self.clock = samples, clock
        self.batches: list[tuple[float, int]] = []
        self.faults: list[int] = []

    def on_batch(self, samples: int) -> None:
        """Note a batch. What comes between an epoch's last batch and its end is evaluation."""
        self.batches.append((time.perf_counter(), samples))
        self.faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
        if sum(size for _, size in self.batches) == self.samples:
            self.clock.enter("evaluation")

    def on_epoch(self, _epoch: object) -> None:
        """Note the end of the epoch."""
        self.clock.leave()

    @property
    def learned(self) -> int:
        """The samples of all batches but the first, which ends where the others begin."""
        return sum(size for _, size in self.batches[1:])

    @property
    def stamps_per_second(self) -> float:
        """The speed of training, without evaluation."""
        return self.learned / (self.batches[-1][0] - self.batches[0][0])

    @property
    def faults_per_stamp(self) -> float:
        """The pages of memory that the system had to give while one stamp was learned from."""
        return (self.faults[-1] - self.faults[0]) / self.learned


class Run:
    """A candidate of blocks ``ks`` on the survey in ``folder``, trained by the project's own ``fit``."""

    def __init__(self, folder: Path, ks: list[int], threads: int, precision: Literal["fp32", "bf16"] = "fp32") -> None:
        self.compute = set_up_compute(ComputeSettings("cpu", precision, threads))
        self.survey = load_prepared_survey(folder / "prepared")
        self.validation = Space_Galaxi(self.survey, split="validation", fraction=FRACTION)
        train = self.train(FRACTION)
        self.model = ProgressiveModel(train.stamp_shape, train.feature_names, train.classes)
        for k in ks:
            self.model.add_block(k)

    def train(self, fraction: float) -> Space_Galaxi:
        """Return that fraction of the training split."""
        return Space_Galaxi(self.survey, split="train", fraction=fraction, augmentation=Augmentation())

    def epoch(self, clock: Clock, fraction: float = FRACTION) -> Moments:
        """Train for one epoch on a fraction of the training split and score it on validation."""
        data = self.train(fraction)
        moments = Moments(len(data), clock)
        fit(
            self.model,
            data,
            self.validation,
            epochs=1,
            optimiser=Optimiser(batch_size=BATCH),
            compute=self.compute,
            seed=0,
            on_epoch=moments.on_epoch,
            on_batch=moments.on_batch,
        )
        return moments

    def warm_up(self) -> None:
        """Train until memory and caches are as they are later on."""
        self.epoch(Clock(), fraction=FRACTION / 4)


def measure_peak(threads: int, precision: Literal["fp32", "bf16"]) -> dict[str, float]:
    """Return the arithmetic of a large matrix product."""
    dtype = set_up_compute(ComputeSettings("cpu", precision, threads)).precision
    left, right = (torch.rand(_PEAK_SIDE, _PEAK_SIDE, dtype=torch.float32).to(dtype) for _ in range(2))
    seconds = []
    end = time.perf_counter() + _PEAK_SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        torch.mm(left, right)
        seconds.append(time.perf_counter() - start)
    return {"gflops": 2 * _PEAK_SIDE**3 / statistics.median(seconds) / 1e9}


def measure_candidate(
    folder: Path, ks: list[int], threads: int, precision: Literal["fp32", "bf16"]
) -> dict[str, float]:
    """Return a candidate's speed, page faults and seconds of each part, over one epoch after a warm-up."""
    run = Run(folder, ks, threads, precision)
    run.warm_up()
    clock = Clock()
    clock.watch()
    start = time.perf_counter()
    moments = run.epoch(clock)
    epoch = time.perf_counter() - start
    unseen = [part for part, seconds in clock.seconds.items() if seconds == 0]
    if unseen:
        raise RuntimeError(
            f"nothing was counted as {', '.join(unseen)}: training calls other functions than those watched"
        )
    return {
        "stamps": moments.stamps_per_second,
        "gflops": moments.stamps_per_second * training_flops(run.model) / 1e9,
        "faults": moments.faults_per_stamp,
        "epoch": epoch,
        **clock.seconds,
    }


def measure_worker(folder: Path, ks: list[int], threads: int, meeting: Path, workers: int) -> dict[str, float]:
    """Return a candidate's speed while ``workers`` processes train one each, all of them all the time."""
    run = Run(folder, ks, threads)
    run.warm_up()
    _arrive(meeting / "start")
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not _complete(meeting / "start", workers):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the other workers did not come within {_PATIENCE_SECONDS:.0f} s")
        time.sleep(0.001)
    moments = run.epoch(Clock())
    _arrive(meeting / "end")
    # Whoever is done first keeps its core busy, or the others would seem faster than they are.
    while not _complete(meeting / "end", workers) and time.monotonic() < deadline:
        run.warm_up()
    return {"stamps": moments.stamps_per_second}


def measure_logging(folder: Path, threads: int) -> dict[str, float]:
    """Return the seconds that MLflow takes for each candidate of a search, its step's and the search's included."""
    # Before MLflow is first imported: a database of this benchmark's own.
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
    from spacewarps.tracking.pipeline_run import stage_run
    from spacewarps.tracking.search_runs import SearchRuns

    compute = set_up_compute(ComputeSettings("cpu", "auto", threads))
    with stage_run("search", {}) as stage:
        # The first requests pay for the database's connection, as they do once in a pipeline.
        _search(folder, compute, SearchRuns(stage), [1])
        before = stage.tracker.seconds
        _search(folder, compute, SearchRuns(stage), list(range(1, _LOGGED_CANDIDATES + 1)))
        return {"logging": (stage.tracker.seconds - before) / _LOGGED_CANDIDATES}


def training_flops(model: ProgressiveModel) -> int:
    """Return the floating-point operations of convolutions and linear layers that one stamp takes in training.

    A layer computes its output, its weights' gradient and its input's gradient, each with as many multiplications and
    additions. The layers that see the data have no use for the last one. Products with padding count.
    """
    _, height, width = model.inputs.stamp_shape
    forward = first = 0
    for depth, block in enumerate(model.trunk):
        convolutions = sum(layer.weight.numel() for layer in block.modules() if isinstance(layer, nn.Conv2d))
        products = convolutions * (height >> depth) * (width >> depth)
        forward, first = forward + products, first or products
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear):
            forward += layer.weight.numel()
            first += layer.weight.numel() * (name == "projector.0")
    return 2 * (3 * forward - first)


def _search(folder: Path, compute: Compute, observer: Any, ks: list[int]) -> None:
    """Search among small candidates on a few samples, with as many epochs as a candidate has."""
    survey: PreparedSurvey = load_prepared_survey(folder / "prepared")
    train, validation = (Space_Galaxi(survey, split=split, fraction=0.02) for split in ("train", "validation"))
    settings = SearchSettings(k_candidates=tuple(ks), max_layers=1, epochs_per_eval=EPOCHS)
    progressive_architecture_search(train, validation, settings, compute=compute, observer=observer)


def _arrive(meeting: Path) -> None:
    meeting.mkdir(exist_ok=True)
    (meeting / str(os.getpid())).touch()


def _complete(meeting: Path, workers: int) -> bool:
    return len(list(meeting.iterdir())) >= workers
