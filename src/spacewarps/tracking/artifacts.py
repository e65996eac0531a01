"""What MLflow keeps of the data and of the final network."""

import contextlib
import io
import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec

from spacewarps.tracking.hashes import dvc_hash
from spacewarps.tracking.pipeline_run import StageRun

if TYPE_CHECKING:
    # A stage that has no network does without torch, which takes seconds to import.
    from spacewarps.survey.dataset import Space_Galaxi

#: The DVC hash of a logged network, and of a version of it in the registry.
MODEL_TAG = "model.hash"


def log_survey(stage: StageRun, prepared: Path, name: str, context: str) -> None:
    """Log the prepared survey as a data set of the stage's run and the pipeline's, its DVC hash as digest."""
    digest = dvc_hash(prepared)
    profile = (prepared / "survey.json").read_text(encoding="utf-8")
    dataset = {
        "name": name,
        "digest": digest,
        "source_type": "dvc",
        "source": json.dumps({"path": name, "md5": digest}),
        "profile": json.dumps(json.loads(profile)),
    }
    for run_id in (stage.run_id, stage.pipeline_id):
        stage.tracker.log_data(run_id, dataset, context)
        stage.tracker.log(run_id, tags={"data.hash": digest})


def log_model(stage: StageRun, folder: Path, example: "Space_Galaxi") -> None:
    """Log the network in ``folder`` with a signature, and the first samples of ``example`` as input example.

    The registry finds it by its DVC hash.
    """
    channels, height, width = example.stamp_shape
    inputs: list[ColSpec | TensorSpec] = [TensorSpec(np.dtype("float32"), (-1, channels, height, width), "stamps")]
    count = min(2, len(example))
    samples = {"stamps": np.stack([example[i].images.numpy() for i in range(count)])}
    if example.feature_names:
        inputs.append(TensorSpec(np.dtype("float32"), (-1, len(example.feature_names)), "features"))
        samples["features"] = example.features[:count].numpy()
    outputs = Schema([TensorSpec(np.dtype("float32"), (-1, len(example.classes)))])

    def save(path: Path) -> None:
        # MLflow advises type hints that it then refuses for tensors, past every filter of warnings.
        with contextlib.redirect_stderr(io.StringIO()):
            mlflow.pyfunc.save_model(
                path=path,
                python_model=str(Path(__file__).with_name("served_model.py")),
                artifacts={"model": folder.resolve().as_uri()},
                signature=ModelSignature(inputs=Schema(inputs), outputs=outputs),
                input_example=samples,
                pip_requirements=[f"spacewarps=={version('spacewarps')}"],
            )
        # To check the input example, MLflow has imported what it saved.
        for compiled in list(path.rglob("__pycache__")):
            shutil.rmtree(compiled)

    stage.tracker.log_model(stage.run_id, save, tags={MODEL_TAG: dvc_hash(folder)})
