"""The stage ``evaluate``: the final network on the test split, once."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spacewarps.evaluation.blind_spots import blind_spots
from spacewarps.evaluation.coverage import PredictionSets
from spacewarps.evaluation.markdown import markdown_text
from spacewarps.evaluation.report import confusion_table, evaluate_predictions, roc_table, write_report
from spacewarps.files import check_replaceable
from spacewarps.model.ensemble import Ensemble
from spacewarps.prediction.classifier import Classifier
from spacewarps.prediction.reference import levels_of
from spacewarps.prediction.unusual import unusual_in
from spacewarps.report.card import write_card
from spacewarps.report.facts import Facts
from spacewarps.report.page import write_page
from spacewarps.settings import flatten
from spacewarps.stages.baselines import Baselines
from spacewarps.stages.context import Stage
from spacewarps.stages.learning import open_splits, set_up
from spacewarps.stages.origins import origins_of
from spacewarps.stages.reports import (
    DOUBTED,
    SearchReport,
    TrainingReport,
    read_audit,
    read_doubted_labels,
    read_learning_curves,
    read_report,
)
from spacewarps.stages.run_facts import facts_of_run
from spacewarps.survey.audit import AUDIT_FILE
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.tracking.artifacts import log_survey
from spacewarps.tracking.description import PICTURE, pipeline_tags
from spacewarps.tracking.groups import in_groups
from spacewarps.training.conformal import prediction_sets
from spacewarps.training.prediction import predict_probabilities
from spacewarps.writing import write_csv, write_json

PAGE, CARD = "report.html", "card.md"
#: What DVC knows nothing of, as no two runs have the same.
RUN = "run.json"


def run(stage: Stage) -> None:
    """Write ``reports/metrics.json``, ``result.json``, the tables of the plots, the report, the page and the card."""
    reports, began = stage.reports, datetime.now(UTC)
    with stage.tracked() as tracked:
        check_replaceable(reports / "report")
        compute = set_up(stage, stage.params.compute.threads)
        classifier = Classifier.load(Path(stage.params.paths.final))
        network, reference = classifier.network, classifier.reference
        train, validation, test = open_splits(stage, "train", "validation", "test")
        search = read_report(reports / "search.json", SearchReport, "search")
        training = read_report(reports / "training.json", TrainingReport, "train")
        curves = read_learning_curves(reports / "plots" / "learning_curves.csv")
        audit = read_audit(stage.prepared / AUDIT_FILE)
        doubted = read_doubted_labels(reports / DOUBTED)
        origins = origins_of(stage)
        log_survey(tracked, stage.prepared, stage.params.paths.prepared, "evaluation")
        probabilities = predict_probabilities(network, test, compute)
        sets = None
        if reference.thresholds is not None:
            sets = PredictionSets(prediction_sets(probabilities, reference.thresholds), reference.coverage)
        found = network.networks[0] if isinstance(network, Ensemble) else network
        baselines = Baselines(stage, found, test, compute)
        evaluation = evaluate_predictions(
            probabilities,
            train,
            test,
            settings=stage.params.evaluate,
            seed=stage.params.seed,
            sets=sets,
            unusual=unusual_in(test.features.numpy(), levels_of(test), reference),
            baselines=list(baselines.trained()),
            row_split=baselines.row_split(stage.params.data.split) if stage.params.evaluate.row_split else None,
        )
        facts = Facts(
            evaluation=evaluation,
            test=test,
            network=classifier.network,
            search=search,
            training=training,
            curves=curves,
            scored_on=_counted(validation),
            # What one network of several did not learn from, the others did.
            held_out=_counted(train, validation) if training.get("networks", 1) > 1 else _counted(validation),
            sets=sets,
            audit=audit,
            doubted=doubted,
            origins=origins,
        )
        with stage.outputs() as out:
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
            page, card = (out.file(reports / name) for name in (PAGE, CARD))
            write_page(page, facts)
            write_card(card, facts)
            write_csv(out.file(reports / "plots" / "confusion.csv"), confusion_table(evaluation))
            write_csv(out.file(reports / "plots" / "roc.csv"), roc_table(evaluation))
            write_json(out.file(reports / "metrics.json"), evaluation.metrics)
            write_json(out.file(reports / "result.json"), _for_tables(evaluation.metrics["test"], search))
            about = facts_of_run(began, compute, tracked.tags, baselines.seconds, {PAGE: page, CARD: card})
            write_json(out.file(reports / RUN), about)
        times = {f"baseline.{name}.seconds": seconds for name, seconds in baselines.seconds.items()}
        tracked.log_metrics(in_groups(flatten(evaluation.metrics) | times), final=True)
        warnings = [*tracked.warnings, *blind_spots(evaluation.metrics, markdown_text)]
        tracked.tracker.log_artifacts(tracked.pipeline_id, reports / "report" / PICTURE)
        tracked.tracker.log(tracked.pipeline_id, tags=pipeline_tags(search, evaluation.metrics, warnings))
        for written in ("report", PAGE, CARD, RUN):
            tracked.log_artifacts(reports / written)


def _counted(*parts: Space_Galaxi) -> tuple[int, int]:
    """Return how many samples there are in some splits, and of how many sources."""
    return sum(map(len, parts)), sum(part.samples["source"].nunique() for part in parts)


def _for_tables(test: dict[str, Any], search: dict[str, Any]) -> dict[str, Any]:
    """Return the few figures that DVC's tables have room for, each in a column of its own."""
    return {**{name: test[name] for name in ("accuracy", "log_loss", "ece")}, "blocks": search["num_layers"]}
