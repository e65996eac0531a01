"""MLflow's model registry: the versions of the final network, and which of them is the champion."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.artifacts import download_artifacts, list_artifacts
from mlflow.entities import LoggedModel, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient

from spacewarps.model.storage import WEIGHTS_FILE
from spacewarps.tracking.artifacts import MODEL_TAG
from spacewarps.tracking.failures import TrackingError, reason, without_password

#: The alias of the version that is in use.
CHAMPION = "champion"

_ALREADY_THERE = frozenset({"RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"})
_NOT_THERE = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"})
# Where a run keeps the answers that a version was compared by.
_ANSWERS_FOLDER = "promotion"
_LONGEST_TAG = 5000


class GoneError(TrackingError):
    """MLflow answers, and does not have what a version held, or has something else there."""


@dataclass(frozen=True)
class Registry:
    """The versions of one registered model.

    Every method raises :class:`TrackingError` where MLflow fails.

    Args:
        client: asks the store.
        experiment_id: the experiment that runs are in.
        name: the registered model's.
    """

    client: MlflowClient
    experiment_id: str
    name: str

    def champion(self) -> ModelVersion | None:
        """Return the version that is in use, or nothing if none is."""
        return self.with_alias(CHAMPION)

    def with_alias(self, alias: str) -> ModelVersion | None:
        """Return the version that has the alias, or nothing if none has."""
        with self._asked():
            try:
                number = self.client.get_registered_model(self.name).aliases.get(alias)
            except MlflowException as error:
                if error.error_code in _NOT_THERE:
                    return None
                raise
        return None if number is None else self.version(number)

    def version(self, number: str) -> ModelVersion | None:
        """Return the version of this number, or nothing if it has been deleted."""
        with self._asked():
            try:
                return self.client.get_model_version(self.name, str(number))
            except MlflowException as error:
                if error.error_code in _NOT_THERE:
                    return None
                raise

    def version_with(self, tags: Mapping[str, str]) -> ModelVersion | None:
        """Return the latest version that has all of these tags, or nothing if none has."""
        conditions = [f"name = '{self.name}'", *(f"tags.`{key}` = '{value}'" for key, value in tags.items())]
        with self._asked():
            found = self.client.search_model_versions(" and ".join(conditions), max_results=1000)
        return max(found, key=lambda version: int(version.version), default=None)

    def logged_model(self, digest: str) -> LoggedModel | None:
        """Return the latest model of this DVC hash that a run of the experiment has logged whole, or nothing."""
        with self._asked():
            found = self.client.search_logged_models(
                [self.experiment_id], f"tags.`{MODEL_TAG}` = '{digest}'", max_results=1000
            )
        whole = [model for model in found if model.status == LoggedModelStatus.READY]
        return max(whole, key=lambda model: model.creation_timestamp, default=None)

    def open(self) -> None:
        """Make the registered model, if it is not there yet."""
        with self._asked():
            try:
                self.client.create_registered_model(self.name)
            except MlflowException as error:
                if error.error_code not in _ALREADY_THERE:
                    raise

    def tags(self) -> dict[str, str]:
        """Return the tags of the registered model."""
        with self._asked():
            return dict(self.client.get_registered_model(self.name).tags)

    def set_tag(self, key: str, value: str) -> None:
        """Put a tag on the registered model."""
        with self._asked():
            self.client.set_registered_model_tag(self.name, key, value)

    def delete_tag(self, key: str) -> None:
        """Take a tag of the registered model away, if it is there."""
        with self._asked():
            self.client.delete_registered_model_tag(self.name, key)

    def register(self, model: LoggedModel, tags: Mapping[str, str]) -> ModelVersion:
        """Make a version of a logged model."""
        with self._asked():
            # The store looks the model up in MLflow's own idea of the current store.
            mlflow.set_tracking_uri(self.client.tracking_uri)
            return self.client.create_model_version(
                self.name,
                f"models:/{model.model_id}",
                run_id=model.source_run_id,
                model_id=model.model_id,
                tags={key: value[:_LONGEST_TAG] for key, value in tags.items()},
            )

    def run_tags(self, model: LoggedModel) -> dict[str, str]:
        """Return the tags of the run that logged ``model``."""
        with self._asked():
            return dict(self.client.get_run(model.source_run_id or "").data.tags)

    def note(self, version: ModelVersion, sentence: str, tags: Mapping[str, str] | None = None) -> None:
        """Write down on ``version`` what was decided of it: as its description, and in tags."""
        with self._asked():
            self.client.update_model_version(self.name, version.version, description=sentence)
            for key, value in (tags or {}).items():
                self.client.set_model_version_tag(self.name, version.version, key, value[:_LONGEST_TAG])

    def crown(self, version: ModelVersion) -> None:
        """Give the alias to ``version``."""
        with self._asked():
            self.client.set_registered_model_alias(self.name, CHAMPION, version.version)

    def has_files(self, what: LoggedModel | ModelVersion) -> bool:
        """Say whether the files of a network are there, by their names: what describes it to MLflow, and the weights.

        The database goes on naming a model whose files somebody has deleted.
        """
        with self._asked():
            if isinstance(what, LoggedModel):
                place = what.artifact_location
            else:
                place = self.client.get_model_version_download_uri(self.name, what.version)
            store = get_artifact_repository(place, tracking_uri=self.client.tracking_uri)

            def files(folder: str | None) -> dict[str, bool]:
                # Of a folder there is no size.
                return {file.path: file.file_size != 0 for file in store.list_artifacts(folder)}

            weights = (f"{folder}/{WEIGHTS_FILE}" for folder in files("artifacts"))
            return files(None).get("MLmodel", False) and any(
                files(str(Path(path).parent)).get(path, False) for path in weights
            )

    def fetch_model(self, version: ModelVersion, folder: Path) -> Path:
        """Copy what ``version`` holds below ``folder``, and return the folder of its network.

        Nothing of it is run: beside the network there is code, which serving imports.

        Raises:
            GoneError: it holds no network of this project.
        """
        none = GoneError(f"version {version.version} of {self.name} in MLflow holds no network of this project")
        with self._asked():
            try:
                place = self.client.get_model_version_download_uri(self.name, version.version)
            except MlflowException as error:
                if error.error_code in _NOT_THERE:
                    raise none from None
                raise
            if not list_artifacts(artifact_uri=place, tracking_uri=self.client.tracking_uri):
                raise none
            copy = download_artifacts(artifact_uri=place, dst_path=str(folder), tracking_uri=self.client.tracking_uri)
        found = list(Path(copy).glob("artifacts/*/model.json"))
        if len(found) != 1:
            raise none
        return found[0].parent

    def keep_answers(self, version: ModelVersion, table: Path) -> None:
        """Keep the answers of ``version`` with the run that it comes from."""
        with self._asked():
            self.client.log_artifact(version.run_id, str(table), f"{_ANSWERS_FOLDER}/{version.version}")

    def fetch_answers(self, version: ModelVersion, name: str, folder: Path) -> Path:
        """Copy the answers that were kept of ``version`` below ``folder``, and return the file.

        Raises:
            GoneError: none are there.
        """
        none = GoneError(f"version {version.version} of {self.name} has left no answers in MLflow")
        place = f"{_ANSWERS_FOLDER}/{version.version}"
        with self._asked():
            try:
                there = self.client.list_artifacts(version.run_id or "", place)
            except MlflowException as error:
                if error.error_code in _NOT_THERE:
                    raise none from None
                raise
            if f"{place}/{name}" not in {file.path for file in there}:
                raise none
            return Path(self.client.download_artifacts(version.run_id or "", f"{place}/{name}", str(folder)))

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except GoneError:
            raise
        except Exception as error:
            # Stores of models, of runs and of artifacts fail with errors of many kinds.
            raise TrackingError(
                f"MLflow at {without_password(self.client.tracking_uri)} failed ({reason(error)})"
            ) from None
