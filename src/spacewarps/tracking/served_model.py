"""The final network as MLflow serves it; MLflow stores this file beside the safetensors and imports it to predict."""

import mlflow
import numpy as np
import torch
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from spacewarps.model.storage import load_model


class StampClassifier(PythonModel):
    """Class probabilities from raw stamps and raw features."""

    def load_context(self, context: PythonModelContext) -> None:
        self.model = load_model(context.artifacts["model"])

    # MLflow reads a type hint on model_input as a schema, and knows none for a dictionary of tensors.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ARG002
        """Return ``[B, classes]`` for ``stamps`` ``[B, C, H, W]`` and ``features`` ``[B, F]``."""
        stamps = torch.from_numpy(np.asarray(model_input["stamps"], dtype=np.float32))
        features = None
        if self.model.inputs.features:
            features = torch.from_numpy(np.asarray(model_input["features"], dtype=np.float32))
        with torch.inference_mode():
            return self.model(stamps, features).softmax(dim=1).numpy()


mlflow.models.set_model(StampClassifier())
