"""What is found of a class that is rare, over the outer folds of a survey from which most of its sources are taken.

    python benchmarks/rare_class.py PREPARED KEPT [--label QSO] [--share 0.03] [--seeds 1 2]

PREPARED is a prepared survey (`spacewarps prepare`, or `benchmarks/sdss.py`). Answers are kept in the folder KEPT.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from comparison import search
from outer_folds import Method, command_line, pooled, run_all, table
from prepared_surveys import write_prepared
from spacewarps.evaluation.metrics import classification_metrics
from spacewarps.search.settings import SearchSettings
from spacewarps.survey.prepared import load_prepared_survey
from spacewarps.survey.split import take_fraction
from spacewarps.training.settings import Optimiser

METHODS: dict[str, Method] = {
    "default": ("the defaults", search),
    "weights": (
        "class_weights balanced",
        partial(search, optimiser=Optimiser(class_weights="balanced")),
    ),
    "balanced": (
        "class_weights balanced, decides balanced_accuracy",
        partial(
            search,
            settings=SearchSettings(decides="balanced_accuracy"),
            optimiser=Optimiser(class_weights="balanced"),
        ),
    ),
}


def cut(survey: Path, folder: Path, label: str, share: float) -> None:
    """Write the survey with so few sources of ``label`` that its samples are ``share`` of all."""
    whole = load_prepared_survey(survey)
    rare = (whole.samples["label"] == label).to_numpy()
    wanted = share / (1 - share) * np.count_nonzero(~rare)
    sources = dict.fromkeys(whole.samples["source"][rare], label)
    taken = take_fraction(sources, wanted / np.count_nonzero(rare), seed=1)
    kept = ~rare | whole.samples["source"].isin(taken).to_numpy()
    write_prepared(folder, whole.stamps[kept], whole.samples[kept], whole.features)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add which class is to be rare, and how rare."""
    parser.add_argument("--label", default="QSO", help="the class that is to be rare (default: %(default)s)")
    parser.add_argument("--share", type=float, default=0.03, help="its share of all samples (default: %(default)s)")


def main() -> None:
    """Cut the survey, run all methods in all outer folds, and print what is found of the class."""
    options = command_line(__doc__ or "", METHODS, "default", add_options)
    folder = options.kept / f"{options.label}-{options.share}"
    cut(options.survey, folder, options.label, options.share)
    options.survey = folder
    records = run_all(options, "default")
    print("\n".join(table(records, METHODS, options.methods, "default")))
    for name in options.methods:
        own = [record for (method, _, _), record in records.items() if method == name]
        answers = pooled(own)
        found = classification_metrics(answers["labels"], answers["probabilities"], own[0]["classes"])
        print(
            f"{METHODS[name][0]}: {options.label}, {found['support'][options.label]} of {len(answers['labels'])} "
            f"answers: recall {found['recall'][options.label]:.3f}, precision {found['precision'][options.label]:.3f}, "
            f"average precision {found['average_precision'][options.label]:.3f}"
        )


if __name__ == "__main__":
    main()
