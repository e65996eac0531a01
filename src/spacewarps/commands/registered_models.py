"""Which commit a version in MLflow's registry is of."""

import re
from pathlib import Path

from spacewarps.commands.recorded_outputs import commits_with, read_outputs
from spacewarps.errors import SpaceWarpsError
from spacewarps.tracking.artifacts import MODEL_TAG
from spacewarps.tracking.experiment import destination, open_experiment
from spacewarps.tracking.failures import TrackingError, UnansweredError, without_password
from spacewarps.tracking.lock_file import LOCK
from spacewarps.tracking.registry import Registry
from spacewarps.tracking.root import project_root
from spacewarps.tracking.store import URI_VARIABLE, find_store

_ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[\w.-]+)|/(?P<number>[0-9]+))")
_DIGEST = re.compile(r"[0-9a-f]{32}(\.dir)?")


def commit_of_model(address: str) -> str:
    """Return the last commit, of whatever branch or experiment, whose ``dvc.lock`` has the network at ``address``.

    Args:
        address: as MLflow writes it: ``models:/space-warps@champion``, ``models:/space-warps/3``.

    Raises:
        SpaceWarpsError: there is no such version, or no such commit.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise SpaceWarpsError(f"{address!r:.80} names no model; write models:/NAME@champion, or models:/NAME/NUMBER")
    registry, (alias, number) = open_registry(found["name"], may_make=False), (found["alias"], found["number"])
    version = registry.version(number) if alias is None else registry.with_alias(alias)
    if version is None:
        raise SpaceWarpsError(f"{address}: MLflow has no such version; `spacewarps promote` registers one")
    digest = version.tags.get(MODEL_TAG, "")
    if not _DIGEST.fullmatch(digest):
        raise SpaceWarpsError(f"{address}: version {version.version} does not say which network it is ({MODEL_TAG})")
    for commit, [lock] in commits_with(digest, Path.cwd(), [LOCK]):
        if digest in read_outputs(lock).values():
            return commit
    raise SpaceWarpsError(
        f"{address}: no commit here has the network of version {version.version} in its {LOCK}; commit it, or "
        "`git fetch` those of others (`dvc exp pull` for an experiment)"
    )


def open_registry(name: str, *, may_make: bool) -> Registry:
    """Return the registered model called ``name`` in the project's MLflow.

    Args:
        name: the model's; it need not be there.
        may_make: whether MLflow's database is made if there is none.

    Raises:
        TrackingError: MLflow cannot be used.
    """
    root = project_root()
    store = find_store(root)
    if not may_make and store.database is not None and not store.database.exists():
        raise TrackingError(f"{store.database}: no models are there; set {URI_VARIABLE} to the store that has them")
    try:
        return Registry(*open_experiment(root, store, destination(store, root)), name)
    except UnansweredError as error:
        raise TrackingError(f"MLflow at {without_password(store.uri)}: no answer ({error})") from None
