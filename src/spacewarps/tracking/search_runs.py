"""The search as nested MLflow runs: one for each step, and below it one for each candidate."""

from spacewarps.search.history import Candidate, CandidateResult, History, Step, block_as_json
from spacewarps.search.observer import SearchObserver
from spacewarps.tracking.pipeline_run import StageRun


class SearchRuns(SearchObserver):
    """Logs the search below the run of its stage, each candidate in one batch when it has its score."""

    def __init__(self, stage: StageRun) -> None:
        self.stage = stage
        self.tracker = stage.tracker
        self.step_id = ""
        # Candidates run side by side.
        self.candidate_ids: dict[Candidate, str] = {}

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
            {"spacewarps.level": "candidate", "spacewarps.step": str(candidate.step)},
        )

    def candidate_finished(self, result: CandidateResult) -> None:
        candidate, run_id = result.candidate, self.candidate_ids.pop(result.candidate)
        self.tracker.log(
            run_id,
            params={
                "step": candidate.step,
                "trunk": candidate.trunk + 1,
                **block_as_json(candidate.block),
                "seed": candidate.seed,
                "epochs": len(result.epochs),
            },
            curves={
                "train_loss": [epoch.train_loss for epoch in result.epochs],
                "val_loss": [epoch.validation.loss for epoch in result.epochs],
                "val_accuracy": [epoch.validation.accuracy for epoch in result.epochs],
            },
            metrics={"score": result.score.accuracy, "trainable_params": result.trainable_params},
        )
        self.tracker.end_run(run_id)

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

    def search_finished(self, history: History) -> None:
        blocks = history.blocks
        self.tracker.log(
            self.stage.run_id,
            metrics={
                "score": blocks[-1].score.accuracy,
                "final_val_accuracy": blocks[-1].score.accuracy,
                "num_layers": len(blocks),
                "total_trainable_params": blocks[-1].trainable_params,
            },
            curves={"val_accuracy_by_layer": [block.score.accuracy for block in blocks]},
            tags={"spacewarps.architecture": ", ".join(block.candidate.label for block in blocks)},
        )
