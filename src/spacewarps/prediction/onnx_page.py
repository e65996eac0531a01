"""An ONNX graph as one page for a browser: graph and runtime are in it, and it asks no other machine for anything."""

import base64
import gzip
import json
from pathlib import Path

from spacewarps.errors import ParamsError
from spacewarps.prediction.classifier import Classifier
from spacewarps.prediction.onnx_graph import description

_TEMPLATE = Path(__file__).with_name("page.html")
# Of the package `onnxruntime-web`, whose own licence stands at the head of the script.
_CHANNELS = (1, 3)
_RUNTIME, _WASM = "dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm"


def check_page(classifier: Classifier, runtime: Path) -> None:
    """Check that a page can be made for ``classifier``.

    Args:
        classifier: whose stamps a browser has to read.
        runtime: the folder of the package ``onnxruntime-web``.

    Raises:
        ParamsError: the runtime is not there, or no browser reads such stamps.
    """
    for name in (_RUNTIME, _WASM):
        if not (runtime / name).is_file():
            raise ParamsError(
                f"{runtime}: holds no {name}; `npm install onnxruntime-web` brings it, in node_modules/onnxruntime-web"
            )
    pixels = classifier.reference.pixels
    if pixels != "uint8":
        raise ParamsError(f"the network takes stamps of {pixels}, which no browser reads; leave out --page")
    if classifier.network.inputs.mask_channel:
        raise ParamsError("the network takes stamps with a mask, which the page does not make; leave out --page")
    channels = classifier.network.inputs.stamp_shape[0]
    if channels not in _CHANNELS:
        raise ParamsError(
            f"the network takes stamps of {channels} channels, and a browser reads pictures of 1 or 3; leave out --page"
        )


def page_of(classifier: Classifier, content: bytes, runtime: Path) -> str:
    """Return the page on which one drops a stamp, types the features, and reads what the graph answers.

    Args:
        classifier: what the graph was made of.
        content: the file of the graph.
        runtime: the folder of the package ``onnxruntime-web``.
    """
    # In a script, only what begins with `<` could end it.
    told = json.dumps(description(classifier), allow_nan=False).replace("<", "\\u003c")
    page = _TEMPLATE.read_text(encoding="utf-8")
    for place, text in (
        ("@RUNTIME@", _packed((runtime / _RUNTIME).read_bytes())),
        ("@WASM@", _packed((runtime / _WASM).read_bytes())),
        ("@GRAPH@", _packed(content)),
        # Last, as its names come from outside, and could be those of places.
        ("@DESCRIPTION@", told),
    ):
        before, after = page.split(place)
        page = f"{before}{text}{after}"
    return page


def _packed(content: bytes) -> str:
    # Without a time, so that the same content gives the same page.
    return base64.b64encode(gzip.compress(content, mtime=0)).decode("ascii")
