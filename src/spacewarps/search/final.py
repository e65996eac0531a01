"""The training of the final network; in folds, where and as candidates are trained."""

from collections.abc import Sequence
from functools import partial

from spacewarps.errors import ModelError
from spacewarps.model.ensemble import check_orientations
from spacewarps.model.network import ProgressiveModel
from spacewarps.model.storage import pack_model, unpack_model
from spacewarps.search.candidate import Evaluation
from spacewarps.search.evaluator import Evaluator
from spacewarps.search.executors.base import Executor
from spacewarps.search.executors.inline import InlineExecutor
from spacewarps.search.folds import Fold
from spacewarps.search.history import Candidate
from spacewarps.search.journal import Journal
from spacewarps.search.observer import SearchObserver
from spacewarps.search.settings import CandidateSettings
from spacewarps.seeds import derive_seed
from spacewarps.training.compute import Compute, check_surroundings, kind_of_machine
from spacewarps.training.final import Final, Member, Part, answer_as_one, learn
from spacewarps.training.score import Epoch, Score
from spacewarps.training.settings import FinalSettings, Optimiser
from spacewarps.training.untrained import new_start


class FinalObserver:
    """Told what happens in the training of the final network. Does nothing by itself."""

    def epoch_finished(self, network: int, epoch: int, train_loss: float, score: Score | None) -> None:
        """A network, by number from 0, ended an epoch, from 1; ``score`` is that on what is held out from it."""

    def batch_trained(self, samples: int) -> None:
        """Another ``samples`` samples were learned from, or need not be."""

    def others_awaited(self, networks: int) -> None:
        """Nothing is left to do but to wait for another process, which has had ``networks`` in hand for a while."""


def train_final(
    found: ProgressiveModel,
    parts: Sequence[Part],
    settings: FinalSettings,
    *,
    optimiser: Optimiser,
    compute: Compute,
    seed: int,
    executor: Executor | None = None,
    journal: Journal | None = None,
    observer: FinalObserver | None = None,
) -> Final:
    """Train the architecture of ``found`` on each of ``parts``, and let the networks answer as one.

    Args:
        found: what the search found; a warm start trains it in place.
        parts: one for each network; what is held out from each.
        settings: how. Where ``data`` is ``folds``, the networks are trained side by side.
        optimiser: how weights change.
        compute: where, and in which precision.
        seed: decides every draw.
        executor: where the networks of folds are trained, made for the same parts; in this process without it. The
            result is the same everywhere.
        journal: knows networks of folds that were trained before, and is told of each new one.
        observer: told what happens.

    Raises:
        ModelError: a training diverged, the network was made for other data, or its stamps are not square.
        SpaceWarpsError: there is not enough memory for a network of a fold.
        ExecutorError: the executor lost its workers.
    """
    check_surroundings()
    check_orientations(settings.orientations, found.inputs.stamp_shape)
    observer = observer or FinalObserver()
    if settings.data == "folds":
        folds = [Fold(part.train, part.held_out) for part in parts if part.held_out is not None]
        evaluator = Evaluator(
            executor or InlineExecutor(folds),
            journal or Journal(),
            fingerprints=[fold.fingerprint() for fold in folds],
            machine=kind_of_machine(compute.device),
            observer=_Heard(observer),
        )
        every_epoch = journal is not None and journal.every_epoch
        members = _learn_in_folds(found, folds, settings, optimiser, compute, seed, evaluator, every_epoch)
    else:
        [part], own_seed = parts, derive_seed(seed, "train")
        member = learn(
            new_start(found, part.train, own_seed) if settings.start == "fresh" else found,
            part,
            epochs=settings.epochs,
            average=settings.average,
            optimiser=optimiser,
            compute=compute,
            seed=own_seed,
            on_epoch=partial(observer.epoch_finished, 0),
            on_batch=observer.batch_trained,
        )
        members = [member]
    return answer_as_one(members, parts, settings, compute)


def _learn_in_folds(
    found: ProgressiveModel,
    folds: Sequence[Fold],
    settings: FinalSettings,
    optimiser: Optimiser,
    compute: Compute,
    seed: int,
    evaluator: Evaluator,
    every_epoch: bool,
) -> list[Member]:
    if not found.specs:
        raise ModelError("the network has no block, and so no architecture to train; search again")
    evaluations = []
    for number, fold in enumerate(folds):
        own_seed = derive_seed(seed, "train", number)
        evaluations.append(
            Evaluation(
                Candidate(len(found.specs), found.specs[-1], own_seed),
                number,
                pack_model(new_start(found, fold.train, own_seed)),
                grows="not",
                batches=own_seed,
                settings=CandidateSettings(settings.epochs, optimiser=optimiser, average=settings.average),
                compute=compute,
                until=settings.epochs,
                checkpoints=every_epoch,
            )
        )
    members: dict[int, Member] = {}
    for number, checkpoint in evaluator.evaluate(evaluations, together=False):
        if checkpoint.epochs[-1].validation.diverged:
            raise ModelError("the training diverged; lower `learning_rate`")
        losses = [epoch.train_loss for epoch in checkpoint.epochs]
        members[number] = Member(unpack_model(checkpoint.network), losses, list(checkpoint.epochs))
    return [members[number] for number in range(len(folds))]


class _Heard(SearchObserver):
    """Passes on what happens to the networks of folds."""

    def __init__(self, observer: FinalObserver) -> None:
        self._observer = observer

    def batch_trained(self, samples: int) -> None:
        self._observer.batch_trained(samples)

    def epoch_finished(self, candidate: Candidate, fold: int, epoch: Epoch) -> None:  # noqa: ARG002
        self._observer.epoch_finished(fold, epoch.epoch, epoch.train_loss, epoch.validation)

    def others_awaited(self, candidates: int) -> None:
        self._observer.others_awaited(candidates)
