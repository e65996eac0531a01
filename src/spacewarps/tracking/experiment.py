"""The MLflow experiment that runs belong to, in the store that can be used."""

import contextlib
import os
from pathlib import Path

from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from spacewarps.processes import alone_in
from spacewarps.tracking.database import check_database, is_locked, make_database
from spacewarps.tracking.failures import (
    TrackingError,
    UnansweredError,
    barred,
    cause,
    is_unanswered,
    reason,
    without_password,
)
from spacewarps.tracking.places import PLACE_TAG
from spacewarps.tracking.spool import Destination
from spacewarps.tracking.store import URI_VARIABLE, Store
from spacewarps.tracking.views import experiment_tags, tags_of_any_experiment

EXPERIMENT = "space-warps"
# As long as for a database that is locked.
_LOCK_SECONDS = 20.0
NAME_VARIABLE, ID_VARIABLE = "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"


def destination(store: Store, root: Path) -> Destination:
    """Return where the notes of this process go: ``store``, and the experiment that MLflow's variables name.

    ``MLFLOW_EXPERIMENT_NAME`` or ``MLFLOW_EXPERIMENT_ID`` names the runs' experiment, else it is ``space-warps``.
    """
    return Destination(store.public_name(root), os.environ.get(NAME_VARIABLE), os.environ.get(ID_VARIABLE))


def open_experiment(root: Path, store: Store, named: Destination) -> tuple[MlflowClient, str]:
    """Connect as :func:`connect_alone` does, and let a new store of this machine lie in ``root``.

    Raises:
        UnansweredError: the store does not answer, or another process keeps it for itself.
        TrackingError: the store cannot be used, or has no such experiment.
    """
    # A new store makes an experiment of its own, with a place for artifacts in the folder that it is made from.
    with contextlib.chdir(root) if store.is_local else contextlib.nullcontext():
        return connect_alone(root, store, named)


def connect_alone(root: Path, store: Store, named: Destination) -> tuple[MlflowClient, str]:
    """Connect as :func:`connect` does, one process of this project at a time where MLflow opens a database itself.

    Raises:
        UnansweredError: the store does not answer, or another process keeps it for itself.
        TrackingError: the store cannot be used, or has no such experiment.
    """
    if not store.is_local and store.artifacts is None:
        # A server sees to its tables.
        return connect(store, named)
    # One process at a time makes the tables of a new database, which MLflow has no lock for.
    try:
        with alone_in(root if store.database is None else store.database.parent, _LOCK_SECONDS):
            return connect(store, named)
    except BlockingIOError:
        raise UnansweredError("another process opens it, and does not come to an end") from None


def check_kind(store: Store) -> None:
    """See to it that MLflow knows stores of this kind, without asking the network.

    Raises:
        TrackingError: it knows none.
    """
    try:
        if not store.is_local and store.artifacts is None:
            MlflowClient(store.uri)
    except Exception as error:
        raise _unusable(store, error) from None


def connect(store: Store, named: Destination) -> tuple[MlflowClient, str]:
    """Return what asks ``store``, and the id of the experiment there, which is made if it is not there.

    Raises:
        UnansweredError: the store is a server that does not answer, or another process has locked its database.
        TrackingError: the store cannot be used, or has no such experiment.
    """
    try:
        check_database(store)
        if store.database is not None:
            make_database(store.database)
        client = MlflowClient(store.uri)
        return client, str(_find_or_create_experiment(client, named, store).experiment_id)
    except TrackingError:
        raise
    except Exception as error:
        # Each kind of store fails with errors of its own.
        if is_locked(error) or (not store.is_local and is_unanswered(error)):
            raise UnansweredError(cause(error)) from None
        if why := barred(error):
            raise TrackingError(f"MLflow at {without_password(store.uri)}: {why}") from None
        raise _unusable(store, error) from None


def _unusable(store: Store, error: Exception) -> TrackingError:
    return TrackingError(
        f"MLflow at {without_password(store.uri)} cannot be used ({reason(error)}); check {URI_VARIABLE}"
    )


def find_experiment(client: MlflowClient) -> str | None:
    """Return the number of the experiment that the stages write to, if there is one by now."""
    if number := os.environ.get(ID_VARIABLE):
        return number
    found = client.get_experiment_by_name(os.environ.get(NAME_VARIABLE) or EXPERIMENT)
    return str(found.experiment_id) if found else None


def _find_or_create_experiment(client: MlflowClient, named: Destination, store: Store) -> Experiment:
    number, name = named.number, named.experiment
    if number:
        experiment = _experiment_of_number(client, number)
        if name and experiment.name != name:
            raise TrackingError(
                f"{ID_VARIABLE}={number} is the experiment {experiment.name}, but {NAME_VARIABLE} is {name}; unset one"
            )
    else:
        experiment = _experiment_of_name(client, name or EXPERIMENT, store.artifacts)
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    _add_tags_that_are_missing(client, experiment, store)
    return experiment


def _add_tags_that_are_missing(client: MlflowClient, experiment: Experiment, store: Store) -> None:
    # An experiment of another name may be shared with others, who describe it themselves.
    tags = experiment_tags() if experiment.name == EXPERIMENT else tags_of_any_experiment()
    if store.moves_along and store.artifacts == experiment.artifact_location:
        tags = tags | {PLACE_TAG: store.artifacts}
    # A server may let nobody but its owner change an experiment; what its pages show first is not worth a run.
    with contextlib.suppress(MlflowException):
        for name, value in tags.items():
            if name not in experiment.tags:
                client.set_experiment_tag(experiment.experiment_id, name, value)


def _experiment_of_number(client: MlflowClient, number: str) -> Experiment:
    try:
        return client.get_experiment(number)
    except MlflowException as error:
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
        raise TrackingError(
            f"{ID_VARIABLE}={number}: there is no such experiment; unset it, or set {NAME_VARIABLE}"
        ) from None


def _experiment_of_name(client: MlflowClient, name: str, artifacts: str | None) -> Experiment:
    if found := client.get_experiment_by_name(name):
        return found
    try:
        number = client.create_experiment(name, artifact_location=artifacts, tags=experiment_tags())
        return client.get_experiment(number)
    except MlflowException as error:
        # Another pipeline run may have been first.
        if found := client.get_experiment_by_name(name):
            return found
        if error.error_code == "INVALID_PARAMETER_VALUE":
            raise TrackingError(
                f"{NAME_VARIABLE}={name!r:.60}: MLflow will have none of that name ({reason(error)}); set another"
            ) from None
        raise
