"""What a run of the pipeline came to, as the description that MLflow shows on its page."""

from collections.abc import Mapping, Sequence
from typing import Any

from spacewarps.model.settings import block_label
from spacewarps.tracking.notes import ARCHITECTURE_TAG, OWN_ID
from spacewarps.tracking.views import NOTE_TAG
from spacewarps.writing import in_percent

#: The picture in the description: an artifact of the pipeline's run, which this page of MLflow shows by its address.
PICTURE = "depth.png"
_PICTURE = [f"![how the network grew](get-artifact?path={PICTURE}&run_uuid={OWN_ID})", ""]


def pipeline_tags(
    search: Mapping[str, Any], metrics: Mapping[str, Any] | None = None, warnings: Sequence[str] = ()
) -> dict[str, str]:
    """Return the tags of the pipeline's run: its description, and its architecture in one line.

    Once the test split was met, the description shows :data:`PICTURE`, which the run has to have as an artifact.

    Args:
        search: what ``reports/search.json`` holds.
        metrics: what ``reports/metrics.json`` holds, once the test split was met.
        warnings: what accuracy hides, as Markdown.
    """
    parts = [
        _result(metrics, warnings) if metrics else ["The test split was not met yet.", ""],
        _architecture(search),
        _PICTURE if metrics else [],
        _what_next(search, tested=metrics is not None),
        # Last, as MLflow's limit on a tag may cut off its end.
        _decisions(search),
    ]
    return {
        NOTE_TAG: "\n".join(line for part in parts for line in part),
        ARCHITECTURE_TAG: ", ".join(map(_label, search["architecture"])),
    }


def _label(block: Mapping[str, Any]) -> str:
    return block_label(block["kind"], block["k"], block["kernel_size"])


def _result(metrics: Mapping[str, Any], warnings: Sequence[str]) -> list[str]:
    test = metrics["test"]
    told = (
        f"**Test accuracy {test['accuracy']:.4f}**, {in_percent(test['confidence'])} interval "
        f"{test['accuracy_low']:.4f} to {test['accuracy_high']:.4f} ({test['samples']} samples of {test['sources']} "
        f"sources); log loss {test['log_loss']:.4f}, calibration error {test['ece']:.4f}."
    )
    beside = [f"{found['classifier']} {found['accuracy']:.4f}" for found in metrics["baseline"].values()]
    told += f" Beside it: {', '.join(beside)}."
    return [told, "", *(f"- **{warning}**" for warning in warnings), *([""] if warnings else [])]


def _architecture(search: Mapping[str, Any]) -> list[str]:
    layers = [
        f"| {block['layer']} | {_label(block)} | {block['channels'][0]} to {block['channels'][1]} | "
        f"{block['val_accuracy']:.4f} |"
        for block in search["architecture"]
    ]
    blocks = search["num_layers"]
    return [
        f"### {blocks} block{'s' * (blocks != 1)}, {search['total_trainable_params']:,} parameters",
        "",
        "| step | block | channels | validation accuracy |",
        "| --- | --- | --- | --- |",
        *layers,
        "",
    ]


def _what_next(search: Mapping[str, Any], *, tested: bool) -> list[str]:
    steps = max(candidate["layer"] for candidate in search["candidates"])
    grow = (
        f"- Growth ended at `search.max_layers`, not for lack of gain. Let it go on: "
        f"`dvc exp run --set-param search.max_layers={steps + 2}`; what was evaluated is in the journal."
    )
    look = (
        "- Look at the report, an artifact of the run `evaluate`: which classes are taken for which, and the surest "
        "mistakes. The network is the model of the run `train`."
    )
    return [
        "### What can be done next",
        "",
        *([grow] if search["stopped"] == "max_layers" else []),
        *([look] if tested else []),
        "- Try other params: `dvc exp run --set-param NAME=VALUE`. The view Results has a row for each, and so has "
        "`dvc exp show --only-changed --drop 'Created|ece|blocks|.*/'`.",
        "- Quote a figure of the whole survey, not of one split: `dvc repro crossvalidation/dvc.yaml`.",
        "",
    ]


def _decisions(search: Mapping[str, Any]) -> list[str]:
    if "decisions" in search:
        told = [f"- {decision['sentence']}" for decision in search["decisions"]]
    else:
        told = [
            f"- step {block['layer']}: {_label(block)} joined, validation accuracy {block['val_accuracy']:.4f}"
            for block in search["architecture"]
        ]
    return ["### What each step decided", "", *told, ""]
