"""The final network as a file that other programs run: an ONNX graph, checked against torch."""

import argparse
from pathlib import Path

from spacewarps.errors import ParamsError
from spacewarps.files import outputs
from spacewarps.prediction.classifier import Classifier
from spacewarps.prediction.onnx_check import Comparison, compare_with_torch, draw_samples
from spacewarps.prediction.onnx_graph import check_installed, description, export_onnx
from spacewarps.prediction.onnx_page import check_page, page_of
from spacewarps.progress import progress_bar, say
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.samples import Samples
from spacewarps.training.compute import set_up_compute
from spacewarps.training.settings import ComputeSettings
from spacewarps.writing import write_text


def run(options: argparse.Namespace, settings: ComputeSettings, prepared: Path | None) -> None:
    """Write the graph, and the page, that ``options`` name, once the graph answers as torch does.

    Args:
        options: of the command line.
        settings: what torch computes with, beside float32 on the CPU.
        prepared: the survey whose test split both are asked for; without it, or where it is not there, it is noise.

    Raises:
        SpaceWarpsError: the model or the survey cannot be used, the extra is not installed, or the graph answers
            otherwise.
    """
    out: Path = options.out
    if out.suffix.lower() != ".onnx":
        raise ParamsError(f"{out}: a graph is written as .onnx; name it so")
    if (options.page is None) != (options.runtime is None):
        raise ParamsError("--page and --runtime belong together; name both, or neither")
    check_installed()
    compute = set_up_compute(ComputeSettings("cpu", "fp32", settings.threads, settings.kernels))
    classifier = Classifier.load(options.model)
    if options.page is not None:
        check_page(classifier, options.runtime)
    samples, asked = _samples(classifier, prepared)
    content = export_onnx(classifier)
    with outputs() as placed:
        with progress_bar("check", len(samples)) as advance:
            comparison = compare_with_torch(content, classifier, samples, compute, advance)
        placed.file(out).write_bytes(content)
        if options.page is not None:
            write_text(placed.file(options.page), page_of(classifier, content, options.runtime))
    for line in _lines(out, content, classifier, comparison, asked):
        say(line)
    if options.page is not None:
        say(f"{options.page}: open it in a browser; it needs no server and no network")


def _samples(classifier: Classifier, prepared: Path | None) -> tuple[Samples, str]:
    if prepared is not None and prepared.exists():
        return Space_Galaxi(prepared, split="test"), "of the test split"
    return draw_samples(classifier), "of noise, as there is no prepared survey here,"


def _lines(out: Path, content: bytes, classifier: Classifier, comparison: Comparison, asked: str) -> list[str]:
    about = description(classifier)
    networks, orientations = (
        f"{about[name]} {name.removesuffix('s')}{'s' * (about[name] > 1)}" for name in ("networks", "orientations")
    )
    onnx, torch = (1000 * seconds / comparison.samples for seconds in (comparison.seconds, comparison.seconds_of_torch))
    return [
        f"{out}: {networks} in {orientations}, {len(content) / 1e6:.1f} MB",
        f"  {comparison.samples} samples {asked} get the probabilities that torch gives them, to "
        f"{comparison.difference:.1g}",
        f"  onnxruntime takes {onnx:.3g} ms for each, torch {torch:.3g} ms",
    ]
