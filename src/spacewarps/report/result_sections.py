"""The parts of the page on how good the network is."""

import numpy as np

from spacewarps.evaluation.comparison import verdict
from spacewarps.evaluation.metrics import confusion_matrix
from spacewarps.evaluation.report import row_split_in_words, unusual_in_words
from spacewarps.report.charts import plot_confusion, plot_reliability, plot_shares
from spacewarps.report.facts import Facts, in_points
from spacewarps.report.intervals import Share
from spacewarps.report.markup import Markup, element, joined
from spacewarps.report.tables import aside, figure, row_of_share, table
from spacewarps.writing import in_percent

# More classes than these have a picture in place of a table.
_MATRIX_AS_TABLE = 12
_CONFUSIONS_NAMED = 15
_CLASSES_NAMED = 10
_SHARES = ["share that is right", "interval", "samples", "sources"]


def comparison(facts: Facts) -> Markup:
    """Return the network beside what it has to beat."""
    test, shares = facts.metrics, facts.classifiers()
    rows = [
        [
            share.label,
            f"{share.value:.1%}",
            f"{share.low:.1%} to {share.high:.1%}",
            *_balanced(found),
            f"{found['log_loss']:.4f}",
        ]
        for share, (_, found) in zip(shares, facts.compared(), strict=True)
    ]
    figures = {
        "macro F1": test["macro_f1"],
        "log loss": test["log_loss"],
        "mean ROC area": test["roc_auc"],
    }
    others = ", ".join(f"{name} {value:.4f}" for name, value in figures.items() if value is not None)
    return joined(
        figure(
            plot_shares("classifiers", "Accuracy of each classifier", shares, "accuracy on the test split"),
            f"Bars: {in_percent(facts.confidence)} intervals, by resampling of sources.",
        ),
        table(
            "All were asked for the same test samples.",
            ["classifier", "accuracy", "interval", "balanced accuracy", "interval", "log loss"],
            rows,
            numbers=5,
        ),
        *_gains(facts),
        element("p", f"Of the network, beside these: {others}."),
    )


def _gains(facts: Facts) -> list[Markup]:
    """Return by how much the network is better than each baseline, and what a split by rows would have claimed."""
    rows = [
        [
            name,
            in_points(gain["accuracy"]),
            f"{in_points(gain['accuracy_low'])} to {in_points(gain['accuracy_high'])}",
            f"{gain['log_loss']:+.4f}",
            f"{gain['log_loss_low']:+.4f} to {gain['log_loss_high']:+.4f}",
            f"{gain['mcnemar_p']:.2g}",
            verdict(gain),
        ]
        for name, found in facts.compared()[1:]
        for gain in [found["gain"]]
    ]
    told = (
        "What the network gains over each of them, paired sample by sample: percentage points of accuracy, and log "
        "loss. McNemar's p takes the rows of a source as independent, which the intervals do not."
    )
    heading = ["the network beside", "gain", "interval", "loss saved", "interval", "McNemar's p", "better?"]
    parts = [table(told, heading, rows, numbers=5)]
    if claimed := facts.metrics_of_all.get("row_split"):
        parts.append(element("p", row_split_in_words(claimed)))
    return parts


def _balanced(found: dict[str, float]) -> tuple[str, str]:
    interval = f"{found['balanced_accuracy_low']:.1%} to {found['balanced_accuracy_high']:.1%}"
    return f"{found['balanced_accuracy']:.1%}", interval


def calibration(facts: Facts) -> Markup:
    """Return whether probabilities and prediction sets keep what they say."""
    bins = facts.reliability()
    rows = [[*row_of_share(each)[:1], f"{each.expected:.1%}", *row_of_share(each)[1:]] for each in bins]
    return joined(
        element("h3", "Probabilities"),
        element(
            "p",
            f"The expected calibration error is {facts.metrics['ece']:.4f} (15 bins): by how much the probability of "
            "an answer differs from the share of right answers, on average. In small bins chance alone differs.",
        ),
        figure(
            plot_reliability(bins),
            f"Bars: {in_percent(facts.confidence)} intervals (Wilson) for as many sources as a bin holds.",
        ),
        element(
            "details",
            element("summary", "The same in numbers"),
            table("Answers by their probability.", ["probability", "its mean", *_SHARES], rows, numbers=5),
        ),
        _coverage(facts),
    )


def _coverage(facts: Facts) -> Markup:
    sets = facts.metrics.get("sets")
    heading = element("h3", "Prediction sets")
    if sets is None:
        return joined(heading, element("p", "The final training held nothing out, so there are no prediction sets."))
    support, held = facts.metrics["support"], sets["of_class"]
    shares = [
        Share(name, value, sets["of_class_low"][name], sets["of_class_high"][name], support[name], 0)
        for name, value in held.items()
        if value is not None
    ]
    broken = f"Not kept for {_some(sets['broken'])}." if sets["broken"] else None
    return joined(
        heading,
        element(
            "p",
            f"A prediction set has all classes that a sample may have, and is to hold its own in at least "
            f"{in_percent(sets['promised'])} of cases, class by class. Here it has {sets['size']:.2f} classes on "
            f"average, and holds the right one in {sets['coverage']:.1%}.",
        ),
        element("p", broken, class_="warn") if broken else None,
        figure(
            plot_shares(
                "coverage",
                "How often the prediction set holds the class",
                shares,
                "share of the class's samples",
                (sets["promised"], f"promised {in_percent(sets['promised'])}"),
            ),
            f"Bars: {in_percent(facts.confidence)} intervals (Clopper and Pearson), which take samples as independent.",
        ),
    )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _CLASSES_NAMED} more" if len(names) > _CLASSES_NAMED else ""
    return ", ".join(names[:_CLASSES_NAMED]) + more


def confusion(facts: Facts) -> Markup:
    """Return which classes are taken for which."""
    classes = facts.classes
    matrix = confusion_matrix(facts.evaluation.labels, facts.predicted, classes)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    if len(classes) <= _MATRIX_AS_TABLE:
        drawn = _matrix(matrix.tolist(), shares.tolist(), classes)
    else:
        drawn = figure(
            plot_confusion(matrix, classes),
            "Classes by their numbers, which the table below has. The darker, the larger the share of the actual "
            "class.",
        )
    mistakes = [
        (int(matrix[row, column]), float(shares[row, column]), classes[row], classes[column])
        for row, column in zip(*np.nonzero(matrix), strict=True)
        if row != column
    ]
    mistakes.sort(key=lambda each: -each[0])
    named = [
        [actual, taken, str(count), f"{share:.1%}"] for count, share, actual, taken in mistakes[:_CONFUSIONS_NAMED]
    ]
    return joined(
        drawn,
        table("The most frequent mistakes.", ["class", "taken for", "samples", "of the class"], named, numbers=2)
        if named
        else element("p", "No sample was taken for another class."),
        _classes(facts),
    )


def _matrix(counts: list[list[int]], shares: list[list[float]], classes: list[str]) -> Markup:
    caption = "Samples by actual class (rows) and predicted class (columns), with the share of the actual class."
    rows = [
        element(
            "tr",
            element("th", name, scope="row"),
            *(
                element("td", str(count), element("span", f"{share:.1%}"), class_=f"heat{min(9, int(share * 10))}")
                for count, share in zip(counts[row], shares[row], strict=True)
            ),
        )
        for row, name in enumerate(classes)
    ]
    heading = element(
        "tr", element("th", "actual", scope="col"), *(element("th", name, scope="col") for name in classes)
    )
    return aside(
        "Confusion matrix",
        element(
            "table",
            element("caption", element("span", caption)),
            element("thead", heading),
            element("tbody", *rows),
            class_="matrix",
        ),
    )


def _classes(facts: Facts) -> Markup:
    test, recalls = facts.metrics, {share.label: share for share in facts.recalls()}
    answers = np.bincount(facts.predicted, minlength=len(facts.classes)).tolist()
    rows = []
    for number, name in enumerate(facts.classes):
        share = recalls.get(name)
        rows.append(
            [
                f"{number + 1}",
                name,
                f"{share.value:.1%}" if share else "",
                f"{share.low:.1%} to {share.high:.1%}" if share else "",
                # Of nothing there is no share.
                f"{test['precision'][name]:.1%}" if answers[number] else "",
                f"{test['average_precision'][name]:.4f}" if share else "",
                str(test["support"][name]),
                str(answers[number]),
            ]
        )
    return table(
        f"Each class, with the {in_percent(facts.confidence)} interval of its recall (Wilson) for as many sources "
        "as it has.",
        ["number", "class", "recall", "interval", "precision", "average precision", "test samples", "predicted"],
        rows,
        numbers=6,
    )


def dependences(facts: Facts) -> Markup:
    """Return how the accuracy depends on the features and on the stamps."""
    drawn, rows = [], []
    overall = (facts.metrics["accuracy"], f"all: {facts.metrics['accuracy']:.1%}")
    for number, (name, shares) in enumerate(facts.quantities().items()):
        drawn.append(
            figure(
                plot_shares(f"along-{number}", f"Accuracy by {name}", shares, "accuracy", overall),
                f"By {name}.",
            )
        )
        rows += [[f"{name}: {share.label}", *row_of_share(share)[1:]] for share in shares]
    return joined(
        element(
            "p",
            "Test samples in parts of about equal size. The background of a stamp is the median of the pixels at its "
            "rim, its brightness by how much the mean of all pixels is above that, both in the survey's units. Bars: "
            f"{in_percent(facts.confidence)} intervals (Wilson) for as many sources as a part holds.",
        ),
        element("p", unusual_in_words(facts.metrics)),
        element("div", *drawn, class_="plots"),
        element(
            "details",
            element("summary", "The same in numbers"),
            table("Accuracy in each part.", ["part", *_SHARES], rows, numbers=4),
        ),
    )
