"""The search as nested MLflow runs: one for each step, and below it one for each candidate."""

from spacewarps.search.history import Candidate, CandidateResult, History, Step
from spacewarps.search.observer import SearchObserver
from spacewarps.tracking.pipeline_run import StageRun


class SearchRuns(SearchObserver):
    """Logs the search below the run of its stage, each candidate in one batch when it has its score."""

    def __init__(self, stage: StageRun) -> None:
        self.stage = stage
        self.tracker = stage.tracker
        self.step_id: str | None = None
        self.candidate_id: str | None = None
        self.accuracies: list[float] = []

    def step_started(self, step: int, candidates: list[Candidate]) -> None:
        self.step_id = self.tracker.start_run(
            f"step {step}", self.stage.run_id, {"spacewarps.level": "step", "spacewarps.step": str(step)}
        )
        self.tracker.log(self.step_id, params={"step": step, "k_candidates": [c.k for c in candidates]})

    def candidate_started(self, candidate: Candidate) -> None:
        self.candidate_id = self.tracker.start_run(
            f"{candidate.kind} k={candidate.k}",
            self.step_id,
            {"spacewarps.level": "candidate", "spacewarps.step": str(candidate.step)},
        )

    def candidate_finished(self, result: CandidateResult) -> None:
        candidate = result.candidate
        self.tracker.log(
            self.candidate_id,
            params={
                "step": candidate.step,
                "kind": candidate.kind,
                "k": candidate.k,
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
        self.tracker.end_run(self.candidate_id)

    def step_finished(self, step: Step) -> None:
        chosen = step.chosen
        best = min(step.candidates, key=CandidateResult.rank)
        tags = {"spacewarps.chosen": f"{chosen.candidate.kind} k={chosen.candidate.k}" if chosen else "none: no gain"}
        if chosen:
            self.accuracies.append(chosen.score.accuracy)
        self.tracker.log(
            self.step_id,
            metrics={"score": best.score.accuracy},
            tags=tags,
        )
        self.tracker.end_run(self.step_id)

    def search_finished(self, history: History) -> None:
        last = history.blocks[-1]
        self.tracker.log(
            self.stage.run_id,
            metrics={
                "score": last.score.accuracy,
                "final_val_accuracy": last.score.accuracy,
                "num_layers": len(history.blocks),
                "total_trainable_params": last.trainable_params,
            },
            curves={"val_accuracy_by_layer": self.accuracies},
            tags={"spacewarps.architecture": " ".join(str(block.candidate.k) for block in history.blocks)},
        )
