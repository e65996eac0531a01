"""The final network as MLflow serves it; MLflow stores this file beside the safetensors and imports it to predict."""

from typing import Any

import mlflow
import numpy as np
import torch
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from spacewarps.model.storage import load_model


class StampClassifier(PythonModel):
    """Class probabilities from raw stamps and raw features."""

    def load_context(self, context: PythonModelContext) -> None:
        self.model = load_model(context.artifacts["model"])

    def predict(self, context: PythonModelContext, model_input: Any, params: Any = None) -> Any:  # noqa: ARG002
        """Return ``[B, classes]`` for ``stamps`` ``[B, C, H, W]`` and ``features`` ``[B, F]``."""
        stamps = torch.from_numpy(np.asarray(model_input["stamps"], dtype=np.float32))
        features = None
        if self.model.inputs.features:
            features = torch.from_numpy(np.asarray(model_input["features"], dtype=np.float32))
        with torch.inference_mode():
            return self.model(stamps, features).softmax(dim=1).numpy()


mlflow.models.set_model(StampClassifier())
