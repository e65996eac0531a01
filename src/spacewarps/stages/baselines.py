"""The training of what the final network is compared with."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from spacewarps.baselines.networks import vgg_blocks
from spacewarps.baselines.shapes import measure
from spacewarps.baselines.trees import boost, features_of
from spacewarps.baselines.views import without_features, without_sources, without_stamps
from spacewarps.errors import ModelError, SurveyError
from spacewarps.evaluation.comparison import Baseline, RowSplit
from spacewarps.model.ensemble import Network
from spacewarps.model.network import ProgressiveModel
from spacewarps.model.settings import BlockSpec
from spacewarps.progress import progress_bar, say
from spacewarps.search.folds import deal_folds, hold_out
from spacewarps.seeds import derive_seed
from spacewarps.stages.context import Stage
from spacewarps.stages.learning import augmentation_of, open_splits, open_train_and_validation, parts_to_learn
from spacewarps.stages.training import TrainingProgress, run_training
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.prepared import load_prepared_survey
from spacewarps.survey.settings import Shares
from spacewarps.training.compute import Compute, named_random_state
from spacewarps.training.final import Part, answer_as_one, learn
from spacewarps.training.prediction import predict_probabilities
from spacewarps.training.untrained import fit_normalisers, inputs_of, new_network

_Answers = NDArray[np.float64]


class Baselines:
    """Trains each classifier that the params ask for, on what the final network learned from.

    Args:
        stage: has the params.
        found: a network of the architecture that was found.
        test: what is asked for.
        compute: where, and in which precision.
    """

    def __init__(self, stage: Stage, found: ProgressiveModel, test: Space_Galaxi, compute: Compute) -> None:
        self._stage, self._found, self._test, self._compute = stage, found, test, compute
        #: How long each took.
        self.seconds: dict[str, float] = {}

    def trained(self) -> Iterator[Baseline]:
        """Train one after the other, and give what each answers."""
        asked, has_features = self._stage.params.evaluate.baselines, bool(self._test.feature_names)
        depth = len(self._found.specs)
        ways: list[tuple[str, bool, str, Callable[[str], _Answers]]] = [
            ("features_alone", has_features, "gradient boosting on the features alone", self._features_alone),
            (
                "features_and_shapes",
                True,
                f"gradient boosting on {'the features and on ' if has_features else ''}measured shapes",
                self._features_and_shapes,
            ),
            ("features_network", has_features, "a network on the features alone", self._features_network),
            (
                "found_without_features",
                has_features,
                "the found architecture, on stamps alone",
                lambda name: self._of_blocks(name, self._found.specs, without_features),
            ),
            (
                "found_anew",
                True,
                "the found architecture, from other random numbers",
                lambda name: self._of_blocks(name, self._found.specs),
            ),
            (
                "vgg",
                True,
                f"a VGG-like network of {depth} block{'s' * (depth != 1)}",
                lambda name: self._of_blocks(name, vgg_blocks(depth)),
            ),
            ("resnet", True, "ResNet-18", self._resnet),
        ]
        for name, applies, title, way in ways:
            if applies and getattr(asked, name):
                start = time.monotonic()
                try:
                    probabilities = way(name)
                except ModelError as error:
                    # Settings that suit the network need not suit what it is compared with.
                    say(f"  {title}: not compared, as {error}")
                    continue
                self.seconds[name] = time.monotonic() - start
                right = (probabilities.argmax(axis=1) == self._test.labels.numpy()).mean()
                say(f"  {title}: accuracy {right:.4f}, in {self.seconds[name]:.1f} s")
                yield Baseline(name, title, probabilities)

    def row_split(self, shares: Shares) -> RowSplit | None:
        """Train what was found on a split of the rows, which ignores that some of them show the same source.

        Args:
            shares: of the splits.

        Returns:
            What it answers; nothing if the rows cannot be dealt so, or the training diverged.
        """
        try:
            return self._row_split(shares)
        except (ModelError, SurveyError) as error:
            say(f"  a split that ignores sources: not tried, as {error}")
            return None

    def _row_split(self, shares: Shares) -> RowSplit:
        settings, seed = self._stage.params.train, self._seed("row_split")
        start, augmentation = time.monotonic(), augmentation_of(self._stage)
        survey = Space_Galaxi(load_prepared_survey(self._stage.prepared))
        learned, test = hold_out(without_sources(survey), shares.test, augmentation, seed)
        if settings.data == "train_and_validation":
            parts = [Part(learned, None)]
        elif settings.data == "folds" and settings.folds > 1:
            parts = [Part(*fold) for fold in deal_folds(learned, settings.folds, augmentation, seed)]
        else:
            share = shares.validation / (1 - shares.test)
            parts = [Part(*hold_out(learned, share, augmentation, seed))]
        network = self._trained_blocks("row_split", self._found.specs, parts)
        right = predict_probabilities(network, test, self._compute).argmax(axis=1) == test.labels.numpy()
        sources = survey.samples.set_index("id")["source"]
        known, asked = sources[learned.samples["id"]], sources[test.samples["id"]]
        self.seconds["row_split"] = time.monotonic() - start
        say(f"  a split that ignores sources: accuracy {right.mean():.4f}, in {self.seconds['row_split']:.1f} s")
        return RowSplit(right, asked.isin(known).to_numpy())

    def _seed(self, name: str) -> int:
        return derive_seed(self._stage.params.seed, "baseline", name)

    def _features_alone(self, name: str) -> _Answers:
        return self._boosted(name, features_of(self._known), features_of(self._test))

    def _features_and_shapes(self, name: str) -> _Answers:
        with progress_bar(name, len(self._known) + len(self._test)) as advance:
            columns = [np.hstack([features_of(data), measure(data, advance)]) for data in (self._known, self._test)]
        return self._boosted(name, *columns)

    @cached_property
    def _known(self) -> Space_Galaxi:
        """Return what the final network learned from."""
        if self._stage.params.train.data == "train":
            [train] = open_splits(self._stage, "train")
            return train
        return open_train_and_validation(self._stage)

    def _boosted(self, name: str, table: _Answers, asked: _Answers) -> _Answers:
        return boost(table, self._known.labels.numpy(), asked, len(self._known.classes), self._seed(name))

    def _features_network(self, name: str) -> _Answers:
        return self._learned_here(
            name,
            lambda seed, data: new_network(data, [], self._found.configuration, seed),
            view=without_stamps,
        )

    def _resnet(self, name: str) -> _Answers:
        # Takes seconds to import, for what is seldom asked for.
        from spacewarps.baselines.resnet import FixedResNet

        def new_resnet(seed: int, data: Space_Galaxi) -> ProgressiveModel:
            with named_random_state(seed, "initialisation"):
                model = FixedResNet(inputs_of(data), self._found.configuration)
            fit_normalisers(model, data)
            return model

        return self._learned_here(name, new_resnet)

    def _of_blocks(
        self,
        name: str,
        blocks: Sequence[BlockSpec],
        view: Callable[[Space_Galaxi], Space_Galaxi] = lambda data: data,
    ) -> _Answers:
        """Train a network of ``blocks`` as the final one is, with its executor and its journal."""
        return self._answers(self._trained_blocks(name, blocks, self._parts(view)), view)

    def _trained_blocks(self, name: str, blocks: Sequence[BlockSpec], parts: Sequence[Part]) -> Network:
        params = self._stage.params
        stage = replace(self._stage, params=replace(params, train=replace(params.train, start="fresh")))
        model = new_network(parts[0].train, blocks, self._found.configuration, self._seed(name))
        with progress_bar(name, self._stamps(parts)) as advance:
            trained = run_training(
                stage,
                model,
                parts,
                compute=self._compute,
                seed=self._seed(name),
                observer=TrainingProgress(advance),
            )
        return trained.network

    def _learned_here(
        self,
        name: str,
        new: Callable[[int, Space_Galaxi], ProgressiveModel],
        view: Callable[[Space_Galaxi], Space_Galaxi] = lambda data: data,
    ) -> _Answers:
        """Train networks that the journal cannot hold, as the final one is, in this process."""
        settings, parts, members = self._stage.params.train, self._parts(view), []
        with progress_bar(name, self._stamps(parts)) as advance:
            for number, part in enumerate(parts):
                seed = derive_seed(self._seed(name), "train", number)
                member = learn(
                    new(seed, part.train),
                    # Only there does what is held out choose the epoch.
                    part if settings.data == "train" else Part(part.train, None),
                    epochs=settings.epochs,
                    average=settings.average,
                    optimiser=self._stage.params.optimiser,
                    compute=self._compute,
                    seed=seed,
                    on_epoch=lambda *_: None,
                    on_batch=advance,
                )
                members.append(member)
        return self._answers(answer_as_one(members, parts, settings, self._compute).network, view)

    def _parts(self, view: Callable[[Space_Galaxi], Space_Galaxi]) -> list[Part]:
        return [
            Part(view(part.train), None if part.held_out is None else view(part.held_out))
            for part in self._parts_to_learn
        ]

    @cached_property
    def _parts_to_learn(self) -> list[Part]:
        return parts_to_learn(self._stage)

    def _stamps(self, parts: Sequence[Part]) -> int:
        return sum(len(part.train) for part in parts) * self._stage.params.train.epochs

    def _answers(self, network: Network, view: Callable[[Space_Galaxi], Space_Galaxi]) -> _Answers:
        return predict_probabilities(network, view(self._test), self._compute)
