"""The final network as MLflow serves it; MLflow stores this file beside the safetensors and imports it to predict."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from numpy.typing import NDArray

from spacewarps.prediction.answers import answers_of
from spacewarps.prediction.classifier import Classifier
from spacewarps.prediction.stamps import stamps_of
from spacewarps.survey.images import StampError
from spacewarps.survey.pixels import as_pixels
from spacewarps.survey.stamps import decode_content, fitted

PICTURE, PIXELS = "stamp", "pixels"


class StampClassifier(PythonModel):
    """A row of answers for each row that holds a stamp, as an image file or as pixels, and its features."""

    def load_context(self, context: PythonModelContext) -> None:
        self.classifier = Classifier.load(Path(context.artifacts["model"]))

    # MLflow reads a type hint on model_input as a schema; the signature says more.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ARG002
        """Return ``class``, the probabilities ``p_...``, the prediction set ``may_be_...``, and ``unusual``."""
        if model_input.empty:
            raise MlflowException.invalid_parameter_value("there is no row to predict")
        stamps = np.stack(list(self._stamps_in(model_input)))
        features = list(self.classifier.network.inputs.features)
        return answers_of(self.classifier, stamps, model_input[features] if features else None)

    def _stamps_in(self, rows: pd.DataFrame) -> Iterable[NDArray[np.generic]]:
        nothing: list[None] = [None] * len(rows)
        pictures, pixels = (rows.get(name, nothing) for name in (PICTURE, PIXELS))
        for number, (picture, values) in enumerate(zip(pictures, pixels, strict=True)):
            try:
                yield self._stamp(picture, values)
            except StampError as error:
                raise MlflowException.invalid_parameter_value(f"row {number}: {error}") from None

    def _stamp(self, picture: Any, values: Any) -> NDArray[np.generic]:
        shape = stamps_of(self.classifier)
        if isinstance(picture, bytes) == (values is not None):
            raise StampError(f"a row holds either {PICTURE!r}, an image file, or {PIXELS!r}")
        if isinstance(picture, bytes):
            return decode_content(picture, shape, self.classifier.reference.stamps)
        wanted = (shape.channels, shape.height, shape.width)
        try:
            numbers = np.array(_plain(values))
        except (ValueError, TypeError):
            numbers = np.empty(0)
        # NumPy would take words and truth values for numbers, too.
        if numbers.dtype.kind not in "iuf":
            numbers = np.empty(0)
        if numbers.shape != wanted:
            raise StampError(f"{PIXELS!r} must be {list(wanted)} numbers, a list of rows for each channel")
        if shape.dtype == "uint8" and not np.isin(numbers, np.arange(256)).all():
            raise StampError(f"{PIXELS!r} must be whole numbers from 0 to 255, as the network learned from such")
        floats = replace(shape, dtype="float32")
        return fitted(as_pixels(numbers, floats), floats, self.classifier.reference.stamps).pixels


def _plain(values: Any) -> Any:
    """Return lists of arrays of objects, as MLflow makes them, as lists of lists; what is null there is NaN."""
    if isinstance(values, list | np.ndarray):
        return [_plain(each) for each in values]
    return np.nan if values is None else values


mlflow.models.set_model(StampClassifier())
