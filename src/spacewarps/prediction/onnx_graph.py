"""A final network as one ONNX graph: raw stamps and raw features in, calibrated probabilities out."""

import importlib
import json
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from spacewarps.errors import SpaceWarpsError, extra_missing
from spacewarps.model.ensemble import Ensemble, Network, oriented
from spacewarps.model.network import ProgressiveModel
from spacewarps.prediction.classifier import Classifier
from spacewarps.prediction.stamps import stamps_of

STAMPS, FEATURES, PROBABILITIES = "stamps", "features", "probabilities"
#: The key in the graph's metadata that holds its :func:`description`, as JSON.
METADATA_KEY = "spacewarps"

_FORMAT = "spacewarps-onnx-1"
# What onnxruntime-web and any runtime of the last years reads.
_OPSET = 20
_MADE_WITH = ("onnx", "onnxruntime", "onnxscript")
_BATCH_AXIS = "N"


def check_installed() -> None:
    """Check that the extra ``onnx`` is there.

    Raises:
        SpaceWarpsError: it is not.
    """
    missing = [name for name in _MADE_WITH if importlib.util.find_spec(name) is None]
    if missing:
        raise SpaceWarpsError(extra_missing("onnx", *missing))


def description(classifier: Classifier) -> dict[str, Any]:
    """Return what is to be known of the graph of ``classifier``: its inputs, the classes, and what its answers mean."""
    network, reference, stamps = _as_ensemble(classifier.network), classifier.reference, stamps_of(classifier)
    # As everywhere, without the key there is none.
    mask = {"mask_channel": True} if network.inputs.mask_channel else {}
    thresholds, classes = reference.thresholds, list(network.inputs.classes)
    return {
        "format": _FORMAT,
        "stamps": {
            "channels": network.inputs.stamp_shape[0],
            "height": stamps.height,
            "width": stamps.width,
            "pixels": stamps.dtype,
            **mask,
        },
        "features": list(network.inputs.features),
        "missing_codes": {name: list(codes) for name, codes in reference.missing_codes.items()},
        "classes": classes,
        "networks": len(network.networks),
        "orientations": network.orientations,
        "temperature": network.temperature,
        "coverage": reference.coverage,
        "thresholds": None if thresholds is None else dict(zip(classes, thresholds, strict=True)),
    }


def export_onnx(classifier: Classifier) -> bytes:
    """Return the file of ``classifier`` as an ONNX graph.

    It takes ``stamps``, ``[N, C, H, W]`` of the survey's pixel type in its units, and ``features``, float32 ``[N, F]``
    in catalogue units, NaN or a missing code where there is no value; without features there is no such input. It gives
    ``probabilities``, float32 ``[N, classes]``: the mean over all networks and orientations, at the temperature. ``N``
    is free. The same network gives the same bytes, with the same versions of torch, onnx and onnxscript.

    Raises:
        SpaceWarpsError: the extra ``onnx`` is not installed.
    """
    check_installed()
    import onnx

    inputs = classifier.network.inputs
    # Of a stamp that a gradient is asked for, a network computes with torch's own layers alone, which the exporter
    # knows, and not group by group (`spacewarps.model.kernels`).
    given = [torch.zeros(2, *inputs.stamp_shape, requires_grad=True)]
    if inputs.features:
        given.append(torch.zeros(2, len(inputs.features)))
    names = [STAMPS, FEATURES][: len(given)]
    axis = {0: torch.export.Dim(_BATCH_AXIS)}
    with warnings.catch_warnings(), torch.enable_grad():
        # That both inputs have the same number of samples, which is meant.
        warnings.filterwarnings("ignore", ".*shares the same shape constraints", UserWarning)
        program = torch.onnx.export(
            _Answers(classifier).eval(),
            tuple(given),
            dynamo=True,
            input_names=names,
            output_names=[PROBABILITIES],
            dynamic_shapes=(tuple(axis for _ in given),),
            opset_version=_OPSET,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _forget_the_exporter(model)
    if classifier.reference.pixels == "uint8":
        _take_whole_pixels(model)
    model.metadata_props.add(key=METADATA_KEY, value=json.dumps(description(classifier), allow_nan=False))
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _as_ensemble(network: Network) -> Ensemble:
    return Ensemble([network]) if isinstance(network, ProgressiveModel) else network


class _Answers(nn.Module):
    """What a classifier answers, as plain layers."""

    codes: Tensor

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        network = self.network = _as_ensemble(classifier.network)
        codes = [classifier.reference.missing_codes.get(name, ()) for name in network.inputs.features]
        self.most_codes = max(map(len, codes), default=0)
        # One that is no number equals nothing.
        padded = [[*of_feature, *[float("nan")] * (self.most_codes - len(of_feature))] for of_feature in codes]
        self.register_buffer("codes", torch.tensor(padded, dtype=torch.float32))

    def forward(self, *given: Tensor) -> Tensor:
        """Return probabilities, ``[N, classes]``, for ``stamps`` and, if the network has some, ``features``."""
        stamps, features = given[0], given[1] if len(given) > 1 else None
        # All orientations in one batch, so that the graph has each network once.
        seen = torch.cat(list(oriented(stamps, self.network.orientations)))
        if features is not None:
            if self.most_codes:
                coded = (features[:, :, None] == self.codes).any(dim=2)
                features = torch.where(coded, float("nan"), features)
            features = features.repeat(self.network.orientations, 1)
        answers = []
        for member in self.network.networks:
            # Not the member itself, which compares the numbers of stamps and features as Python's own.
            depth = len(member.trunk)
            logits = member.finish(member.maps(seen, depth), features, depth)
            probabilities = (logits / self.network.temperature).softmax(dim=1)
            apart: Tensor = probabilities.unflatten(0, (self.network.orientations, -1))  # type: ignore[no-untyped-call]
            answers.append(apart.mean(dim=0))
        return torch.stack(answers).mean(dim=0)


def _forget_the_exporter(model: Any) -> None:
    """Remove what the exporter notes of the code that it followed, such as paths of this machine."""
    graph = model.graph
    # It names the build of torch, too.
    model.ClearField("producer_version")
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _take_whole_pixels(model: Any) -> None:
    """Let the graph take stamps as uint8, and convert them itself."""
    import onnx

    converted = "pixels"
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name == STAMPS:
                node.input[position] = converted
    convert = onnx.helper.make_node("Cast", [STAMPS], [converted], name="convert", to=onnx.TensorProto.FLOAT)
    model.graph.node.insert(0, convert)
    (stamps,) = [one for one in model.graph.input if one.name == STAMPS]
    stamps.type.tensor_type.elem_type = onnx.TensorProto.UINT8
