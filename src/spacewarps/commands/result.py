"""The last word of a run: the test accuracy, what it hides, and where to look further."""

from spacewarps.commands.recorded_params import note_on_params
from spacewarps.errors import SpaceWarpsError
from spacewarps.evaluation.blind_spots import blind_spots
from spacewarps.evaluation.comparison import learned_baselines
from spacewarps.progress import say
from spacewarps.stages.context import Stage
from spacewarps.stages.reports import MetricsReport, read_report
from spacewarps.tracking.root import project_root
from spacewarps.tracking.ui import where_to_look
from spacewarps.writing import in_percent


def run(stage: Stage) -> None:
    """Print the result, and whether ``params.yaml`` has changed since.

    Raises:
        SpaceWarpsError: the pipeline has not been run.
    """
    tell(stage)
    if note := note_on_params(stage.params, "evaluate"):
        say(f"  note: {note}")


def tell(stage: Stage) -> None:
    """Print what ``reports/metrics.json`` says, and where the report, the plots and the runs are.

    Raises:
        SpaceWarpsError: the pipeline has not been run.
    """
    path, report = stage.reports / "metrics.json", stage.reports / "report" / "report.md"
    try:
        report.stat()
    except FileNotFoundError as error:
        # The metrics are under git, so a fresh clone has them; the report comes with DVC's data.
        advice = "`dvc pull` brings it, or `dvc repro` makes it" if path.exists() else "run `dvc repro` first"
        raise SpaceWarpsError(f"{error.filename}: no such file; {advice}") from None
    metrics = read_report(path, MetricsReport, "evaluate")
    test = metrics["test"]
    lines = [
        f"test accuracy {test['accuracy']:.4f}, {in_percent(test['confidence'])} interval "
        f"{test['accuracy_low']:.4f} to {test['accuracy_high']:.4f}, balanced accuracy {test['balanced_accuracy']:.4f} "
        f"({test['samples']} samples of {test['sources']} sources)",
        *blind_spots(metrics),
    ]
    lines += [
        f"  {found['classifier']}: {found['accuracy']:.4f}, balanced accuracy {found['balanced_accuracy']:.4f}"
        for found in learned_baselines(metrics).values()
    ]
    lines += [
        f"  report and pictures: {report}",
        f"  all of it as one page: {stage.reports / 'report.html'}",
        f"  plots: {stage.reports / 'plots'} (`dvc plots show` draws them)",
    ]
    for line in lines:
        say(line)
    # Last, as a server may be slow to answer, or not answer at all.
    say(f"  every candidate: {where_to_look(project_root())}")
