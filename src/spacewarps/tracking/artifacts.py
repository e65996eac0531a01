"""What MLflow keeps of the data and of the final network."""

import contextlib
import io
import json
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import AnyType

from spacewarps.tracking.hashes import dvc_hash
from spacewarps.tracking.notes import DATA_TAG
from spacewarps.tracking.pipeline_run import StageRun

if TYPE_CHECKING:
    # A stage that has no network does without torch, which takes seconds to import.
    from spacewarps.survey.dataset import Space_Galaxi

#: The DVC hash of a logged network, and of a version of it in the registry.
MODEL_TAG = "model.hash"
#: What the code that is stored with a network imports, beside MLflow.
SERVED_WITH = ("torch", "numpy", "pandas", "safetensors", "pillow", "astropy", "joblib", "pydantic")


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
        stage.tracker.log(run_id, tags={DATA_TAG: digest})


def _public(version: str) -> str:
    """Return ``version`` without its local part, such as ``+cpu``, which not every index has."""
    return version.partition("+")[0]


def log_model(stage: StageRun, folder: Path, example: "Space_Galaxi") -> None:
    """Log the network in ``folder`` with a signature, and the first sample of ``example`` as input example.

    The registry finds it by its DVC hash. The package's code goes with it, so that it is served where Space Warps is
    not installed.
    """
    from spacewarps.prediction.answers import SET_PREFIX
    from spacewarps.prediction.classifier import Classifier

    classifier = Classifier.load(folder)
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.binary, "stamp", required=False),
        # Lists of lists of lists of numbers. As such, MLflow would refuse whole numbers.
        ColSpec(AnyType(), "pixels", required=False),  # type: ignore[no-untyped-call]
        *(ColSpec(DataType.double, name) for name in example.feature_names),
    ]
    has_sets = classifier.reference.thresholds is not None
    of_classes = [("p_", DataType.double), *[(SET_PREFIX, DataType.boolean)] * has_sets]
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "class"),
        *(ColSpec(kind, f"{prefix}{name}") for prefix, kind in of_classes for name in example.classes),
        ColSpec(DataType.string, "unusual"),
    ]
    first = example[0]
    # As they are delivered: the served network makes the mask itself.
    table = pd.DataFrame({"pixels": [first.images[: example.image_channels].double().tolist()]})
    for name, value in zip(example.feature_names, first.features.tolist(), strict=True):
        table[name] = [value]

    def save(path: Path) -> None:
        with tempfile.TemporaryDirectory() as temporary:
            package = Path(__file__).parents[1]
            code = Path(temporary, package.name)
            shutil.copytree(package, code, ignore=shutil.ignore_patterns("__pycache__"))
            # MLflow advises type hints, past every filter of warnings.
            with contextlib.redirect_stderr(io.StringIO()):
                mlflow.pyfunc.save_model(
                    path=path,
                    python_model=str(Path(__file__).with_name("served_model.py")),
                    artifacts={"model": folder.resolve().as_uri()},
                    signature=ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs)),
                    input_example=table,
                    code_paths=[str(code)],
                    pip_requirements=[f"{name}=={_public(version(name))}" for name in ("mlflow", *SERVED_WITH)],
                )
        # To check the input example, MLflow has imported what it saved.
        for compiled in list(path.rglob("__pycache__")):
            shutil.rmtree(compiled)

    stage.tracker.log_model(stage.run_id, save, tags={MODEL_TAG: dvc_hash(folder)})
