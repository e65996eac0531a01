"""The model card of the final network, after Mitchell et al. 2019 (arXiv:1810.03993), from the facts of the page."""

from collections.abc import Sequence
from pathlib import Path

from spacewarps.evaluation.blind_spots import blind_spots
from spacewarps.evaluation.markdown import markdown_text
from spacewarps.evaluation.report import final_training_in_words, unusual_in_words
from spacewarps.report.facts import Facts, in_points, label_of
from spacewarps.report.intervals import Share
from spacewarps.writing import in_percent, write_text

_LOWEST_NAMED = 10


def write_card(path: Path, facts: Facts) -> None:
    """Write the card to ``path``: the same bytes for the same facts."""
    sections = {
        "Model details": _details(facts),
        "Intended use": _use(facts),
        "Factors": _factors(facts),
        "Metrics": _metrics(facts),
        "Evaluation data": _evaluation_data(facts),
        "Training data": _training_data(facts),
        "Quantitative analyses": _analyses(facts),
        "Ethical considerations": [
            "The network sees stamps and catalogue values of sources in the sky, and nothing of people.",
        ],
        "Caveats and recommendations": _caveats(facts),
    }
    lines = ["# Model card", "", markdown_text(facts.answer()), ""]
    for title, told in sections.items():
        lines += [f"## {title}", "", *told, ""]
    write_text(path, "\n".join(lines))


def _details(facts: Facts) -> list[str]:
    _, height, width = facts.test.stamp_shape
    channels = f"{facts.test.image_channels} channel{'s' * (facts.test.image_channels != 1)}"
    mask = " and a mask" * facts.test.mask_channel
    blocks = ", ".join(markdown_text(label_of(block)) for block in facts.search["architecture"])
    told = final_training_in_words(facts.training)
    versions = ", ".join(f"{name} {version}" for name, version in facts.origins.versions.items())
    return [
        f"- A convolutional network with {facts.search['num_layers']} of Space Warps' blocks ({blocks}) and "
        f"{facts.search['total_trainable_params']:,} parameters, found by its progressive search.",
        f"- Training: {told}",
        f"- Input: stamps of {channels}{mask}, {height} x {width} pixels, in the survey's "
        "units" + (f", and the features {_listed(facts.test.feature_names)}." if facts.test.feature_names else "."),
        f"- Output: the probability of each of {len(facts.classes)} classes.",
        *(f"- {name}: {value}" for name, value in facts.origins.hashes.items()),
        f"- Computed with {versions}.",
        f"- Repeated by `{facts.origins.command}`. The commit stands in run.json beside this file, and in MLflow.",
    ]


def _use(facts: Facts) -> list[str]:
    return [
        "- Intended: to classify sources of the survey that it learned from, or of one with the same instrument, "
        "bands, stamp size and features.",
        f"- Out of scope: sources of other classes than the {len(facts.classes)} it knows, which it takes for one of "
        "them all the same; stamps and features unlike those of training, which `spacewarps predict` names as unusual.",
    ]


def _factors(facts: Facts) -> list[str]:
    measured = _listed(list(facts.quantities()))
    return [f"What the accuracy may depend on, and was measured by: the class, {measured}. The figures stand below."]


def _metrics(facts: Facts) -> list[str]:
    return [
        "Accuracy and balanced accuracy, for the whole and for each class; log loss and calibration error for the "
        f"probabilities; the coverage of prediction sets. Intervals hold {in_percent(facts.confidence)}: by "
        "resampling of sources for accuracies, Wilson's for as many sources as there are for parts of the test split.",
    ]


def _evaluation_data(facts: Facts) -> list[str]:
    test = facts.metrics
    return [
        f"The test split, {test['samples']} samples of {test['sources']} sources; no source stands in another split, "
        "and neither the search nor the training has seen it.",
    ]


def _training_data(facts: Facts) -> list[str]:
    if facts.audit is None:
        return ["A survey that another program prepared."]
    found = facts.audit
    splits = [
        f"| {markdown_text(name)} | {split['samples']:,} | {split['sources']:,} |"
        for name, split in found["splits"].items()
    ]
    reasons = [f"{markdown_text(reason)} ({each['count']})" for reason, each in found["left_out"].items()]
    return [
        f"{found['rows_kept']:,} of {found['rows_in']:,} rows of the catalogue are samples. "
        + (f"Left out: {', '.join(reasons)}." if reasons else "None was left out."),
        "",
        "| split | samples | sources |",
        "| --- | --- | --- |",
        *splits,
        "",
        f"{len(found['label_conflicts']['sources'])} sources have rows of different classes.",
    ]


def _analyses(facts: Facts) -> list[str]:
    test, sets = facts.metrics, facts.metrics.get("sets")
    recalls = sorted(facts.recalls(), key=lambda share: share.value)
    which = (
        f"The {_LOWEST_NAMED} lowest of {len(recalls)} classes by recall" if len(recalls) > _LOWEST_NAMED else "Recall"
    )
    gains = [
        f"- Gain over {markdown_text(found['classifier'])}: {in_points(gain['accuracy'])} points, "
        f"{in_points(gain['accuracy_low'])} to {in_points(gain['accuracy_high'])}."
        for found in facts.learned.values()
        for gain in [found["gain"]]
    ]
    parts = [
        Share(f"{name}: {share.label}", share.value, share.low, share.high, share.samples, share.sources)
        for name, shares in facts.quantities().items()
        for share in shares
    ]
    told = [
        *_table(("classifier", "accuracy"), facts.classifiers()),
        "",
        *gains,
        f"- Balanced accuracy of the network: {test['balanced_accuracy']:.1%}, {test['balanced_accuracy_low']:.1%} to "
        f"{test['balanced_accuracy_high']:.1%}.",
        f"- Log loss {test['log_loss']:.4f}, expected calibration error {test['ece']:.4f}.",
    ]
    if sets is not None:
        told.append(
            f"- Prediction sets hold the right class in {sets['coverage']:.1%} ({in_percent(sets['promised'])} "
            f"promised), with {sets['size']:.2f} classes on average."
        )
    told.append(f"- {unusual_in_words(test)}")
    return [
        *told,
        "",
        f"{which}:",
        "",
        *_table(("class", "recall"), recalls[:_LOWEST_NAMED]),
        "",
        "Accuracy in parts of the test split:",
        "",
        *_table(("part", "accuracy"), parts),
    ]


def _table(heading: tuple[str, str], shares: Sequence[Share]) -> list[str]:
    return [
        f"| {' | '.join(heading)} | interval | samples | sources |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {markdown_text(share.label)} | {share.value:.1%} | {share.low:.1%} to {share.high:.1%} | "
            f"{share.samples} | {share.sources} |"
            for share in shares
        ),
    ]


def _caveats(facts: Facts) -> list[str]:
    return [
        *(
            f"- {sentence[0].upper()}{sentence[1:]}."
            for sentence in blind_spots(facts.evaluation.metrics, markdown_text)
        ),
        "- The figures are those of one split and one seed. `spacewarps crossvalidate` repeats search and training in "
        "outer folds, and gives the figure to quote.",
        "- Prediction sets and probabilities are to be trusted as far as sources are like those of training.",
    ]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(markdown_text, names))
