"""The search as nested MLflow runs: one for each step, and below it one for each candidate and its control."""

import time

from spacewarps.search.history import Candidate, CandidateResult, History, Step, block_as_json
from spacewarps.search.observer import SearchObserver
from spacewarps.tracking.description import pipeline_tags
from spacewarps.tracking.notes import ARCHITECTURE_TAG
from spacewarps.tracking.pipeline_run import StageRun
from spacewarps.tracking.views import PIPELINE_NAME_TAG

_JOINED_TAG = "spacewarps.joined"
# What MLflow shows as the name of a run.
_NAME_TAG = "mlflow.runName"


class SearchRuns(SearchObserver):
    """Logs the search below the run of its stage, each candidate in one batch when it has its score.

    Whether a candidate has joined is a tag from the end of its step on, and a param once the search is over: a step
    without gain may come in with a later one, and a param is written once.
    """

    def __init__(self, stage: StageRun) -> None:
        self.stage = stage
        self.tracker = stage.tracker
        self.step_id = ""
        # Candidates run side by side.
        self.candidate_ids: dict[Candidate, str] = {}
        self._since: dict[Candidate, float] = {}
        self._ended: dict[Candidate, str] = {}
        self._joined: dict[Candidate, bool] = {}
        self._network: set[Candidate] = set()

    def step_started(self, step: int, candidates: list[Candidate], samples: int) -> None:  # noqa: ARG002
        self.step_id = self.tracker.start_run(
            f"step {step}", self.stage.run_id, {"spacewarps.level": "step", "spacewarps.step": str(step)}
        )
        on_trial = ", ".join(candidate.label for candidate in candidates)
        self.tracker.log(self.step_id, params={"step": step, "candidates": on_trial})

    def candidate_started(self, candidate: Candidate) -> None:
        self.candidate_ids[candidate] = self.tracker.start_run(
            candidate.label,
            self.step_id,
            {
                # A control is not listed among the candidates.
                "spacewarps.level": "control" if candidate.control else "candidate",
                # Where candidates stand side by side, those of two experiments have the same names.
                PIPELINE_NAME_TAG: self.stage.pipeline_name,
                "spacewarps.step": str(candidate.step),
                # As a param, its many digits would take the room of an axis.
                "spacewarps.seed": str(candidate.seed),
            },
        )
        self._since[candidate] = time.perf_counter()

    def candidate_finished(self, result: CandidateResult) -> None:
        candidate, run_id = result.candidate, self.candidate_ids.pop(result.candidate)
        self.tracker.log(
            run_id,
            params={
                "step": candidate.step,
                **({} if candidate.control else {"trunk": candidate.trunk + 1, **block_as_json(candidate.block)}),
                "epochs": len(result.epochs),
            },
            curves={
                "train_loss": [epoch.train_loss for epoch in result.epochs],
                "val_loss": [epoch.validation.loss for epoch in result.epochs],
                "val_accuracy": [epoch.validation.accuracy for epoch in result.epochs],
            },
            metrics={
                "score": result.score.accuracy,
                "trainable_params": result.trainable_params,
                "seconds": time.perf_counter() - self._since.pop(candidate),
            },
        )
        self.tracker.end_run(run_id)
        if not candidate.control:
            self._ended[candidate] = run_id

    def step_finished(self, step: Step) -> None:
        joined = [result.candidate.label for result in step.kept] if step.decision.joins else []
        chosen = " + ".join(joined) or "none: no gain"
        correlation, evidence = step.rank_correlation, step.decision.evidence
        gain = evidence.gain if evidence else None
        self.tracker.log(
            self.step_id,
            metrics={
                "score": step.best.score.accuracy,
                **({} if correlation is None else {"predictor_rank_correlation": correlation}),
                **({} if gain is None else {"gain": gain.mean, "gain_error": gain.error}),
            },
            tags={"spacewarps.chosen": chosen, "mlflow.note.content": step.decision.sentence},
        )
        self.tracker.end_run(self.step_id)
        if step.decision.joins:
            self._network = {result.candidate for result in step.best.path}
        for candidate, candidate_id in self._ended.items():
            has_joined = candidate in self._network
            if self._joined.get(candidate) != has_joined:
                self._joined[candidate] = has_joined
                self.tracker.log(candidate_id, tags={_JOINED_TAG: _yes_or_no(has_joined)})

    def search_finished(self, history: History) -> None:
        blocks = history.blocks
        for candidate, run_id in self._ended.items():
            self.tracker.log(run_id, params={"joined": _yes_or_no(candidate in self._network)})
            if candidate in self._network:
                self.tracker.log(run_id, tags={_NAME_TAG: f"{candidate.label}, joined"})
        self.tracker.log(self.stage.pipeline_id, tags=pipeline_tags(history.as_json()))
        self.tracker.log(
            self.stage.run_id,
            metrics={
                "score": blocks[-1].score.accuracy,
                "final_val_accuracy": blocks[-1].score.accuracy,
                "num_layers": len(blocks),
                "total_trainable_params": blocks[-1].trainable_params,
            },
            curves={"val_accuracy_by_layer": [block.score.accuracy for block in blocks]},
            tags={ARCHITECTURE_TAG: ", ".join(block.candidate.label for block in blocks)},
        )


def _yes_or_no(joined: bool) -> str:
    return "yes" if joined else "no"
