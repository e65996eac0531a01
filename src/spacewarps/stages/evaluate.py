"""The stage ``evaluate``: the final network on the test split, once."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from spacewarps.errors import SpaceWarpsError
from spacewarps.evaluation.report import confusion_table, evaluate_predictions, roc_table, write_report
from spacewarps.files import check_replaceable, outputs, write_json
from spacewarps.model.storage import load_model
from spacewarps.stages import result
from spacewarps.stages.context import Stage, write_csv
from spacewarps.tracking.artifacts import log_survey
from spacewarps.tracking.pipeline_run import flatten
from spacewarps.training.fit import predict


def run(stage: Stage) -> None:
    """Write ``reports/metrics.json``, the tables of the plots, and the report with its pictures."""
    params, reports = stage.params.evaluate, stage.reports
    check_replaceable(reports / "report")
    compute = stage.compute(stage.params.compute.threads)
    model = load_model(Path(stage.params.paths.final))
    test = stage.split("test")
    search = _read_json(reports / "search.json", "candidates")
    training = _read_json(reports / "training.json", "best_epoch")
    curves_file = reports / "plots" / "learning_curves.csv"
    try:
        curves = pd.read_csv(curves_file, dtype="float64")
    except ValueError:
        raise SpaceWarpsError(f"{curves_file}: damaged; run `dvc repro --force train`") from None
    with stage.tracked() as tracked:
        log_survey(tracked, stage.prepared, stage.params.paths.prepared, "evaluation")
        evaluation = evaluate_predictions(
            predict(model, test, compute),
            stage.split("train"),
            test,
            resamples=params.bootstrap_resamples,
            confidence=params.confidence,
            seed=stage.params.seed,
        )
        with outputs() as out:
            folder = out.folder(reports / "report")
            write_report(
                folder,
                evaluation,
                test,
                search=search,
                training=training,
                curves=curves,
            )
            write_csv(folder / "predictions.csv", evaluation.predictions)
            write_csv(out.file(reports / "plots" / "confusion.csv"), confusion_table(evaluation))
            write_csv(out.file(reports / "plots" / "roc.csv"), roc_table(evaluation))
            write_json(out.file(reports / "metrics.json"), evaluation.metrics)
        numbers = {name: value for name, value in flatten(evaluation.metrics).items() if isinstance(value, int | float)}
        tracked.log_metrics(numbers, final=True)
        tracked.log_artifacts(reports / "report")
    result.run(stage)


def _read_json(path: Path, wanted: str) -> dict[str, Any]:
    """Return what another stage wrote to ``path``, which holds ``wanted`` unless it is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        value = None
    if not isinstance(value, dict) or wanted not in value:
        raise SpaceWarpsError(f"{path}: damaged; run `dvc repro --force` to write it again")
    return value
