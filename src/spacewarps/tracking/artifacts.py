"""What MLflow keeps of the data and of the final network."""

import contextlib
import functools
import hashlib
import io
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import numpy as np
from mlflow.entities import Dataset as LoggedDataset
from mlflow.entities import DatasetInput, InputTag
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec

from spacewarps.tracking.pipeline_run import StageRun

if TYPE_CHECKING:
    # A stage that has no network does without torch, which takes seconds to import.
    from spacewarps.survey.dataset import Space_Galaxi


def dvc_hash(path: Path) -> str:
    """Return the hash under which DVC keeps the folder ``path``, as ``dvc.lock`` shows it.

    It is the MD5 of a list of all files, each with its own MD5, as JSON.
    """
    files = sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file())
    entries = [{"md5": _md5(file), "relpath": name} for name, file in files]
    return f"{hashlib.md5(json.dumps(entries).encode(), usedforsecurity=False).hexdigest()}.dir"


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def log_survey(stage: StageRun, prepared: Path, name: str, context: str) -> None:
    """Log the prepared survey as a data set of the stage's run and the pipeline's, its DVC hash as digest."""
    digest = dvc_hash(prepared)
    profile = (prepared / "survey.json").read_text(encoding="utf-8")
    dataset = LoggedDataset(
        name=name,
        digest=digest,
        source_type="dvc",
        source=json.dumps({"path": name, "md5": digest}),
        profile=json.dumps(json.loads(profile)),
    )
    entry = DatasetInput(dataset, [InputTag("mlflow.data.context", context)])
    log_inputs = functools.partial(stage.tracker.client.log_inputs, datasets=[entry])
    for run_id in (stage.run_id, stage.pipeline_id):
        if run_id is not None:
            stage.tracker.attempt(functools.partial(log_inputs, run_id))
            stage.tracker.log(run_id, tags={"data.hash": digest})


def log_model(stage: StageRun, folder: Path, example: "Space_Galaxi") -> None:
    """Log the network in ``folder`` with a signature, and the first samples of ``example`` as input example."""
    if stage.run_id is None:
        return
    channels, height, width = example.stamp_shape
    inputs: list[ColSpec | TensorSpec] = [TensorSpec(np.dtype("float32"), (-1, channels, height, width), "stamps")]
    count = min(2, len(example))
    samples = {"stamps": np.stack([example[i].images.numpy() for i in range(count)])}
    if example.feature_names:
        inputs.append(TensorSpec(np.dtype("float32"), (-1, len(example.feature_names)), "features"))
        samples["features"] = example.features[:count].numpy()
    outputs = Schema([TensorSpec(np.dtype("float32"), (-1, len(example.classes)))])

    def write() -> None:
        # The model is stored through MLflow's own idea of the current store, experiment and run.
        mlflow.set_tracking_uri(stage.tracker.client.tracking_uri)
        mlflow.set_experiment(experiment_id=stage.tracker.experiment_id)
        # MLflow advises type hints that it then refuses for tensors, past every filter of warnings.
        with contextlib.redirect_stderr(io.StringIO()), mlflow.start_run(run_id=stage.run_id):
            mlflow.pyfunc.log_model(
                name="model",
                python_model=str(Path(__file__).with_name("served_model.py")),
                artifacts={"model": folder.resolve().as_uri()},
                signature=ModelSignature(inputs=Schema(inputs), outputs=outputs),
                input_example=samples,
                pip_requirements=[f"spacewarps=={version('spacewarps')}"],
            )

    stage.tracker.attempt(write)
