"""Runs as a store has them, page by page."""

from collections.abc import Iterator

from mlflow.entities import Run, ViewType
from mlflow.tracking import MlflowClient

_A_PAGE = 1000


def find_runs(
    client: MlflowClient, experiment_id: str, what: str, view_type: int = ViewType.ACTIVE_ONLY
) -> Iterator[Run]:
    """Yield the runs of the experiment that MLflow finds by the filter ``what``, the latest first.

    Raises:
        Exception: whatever MLflow raises where it fails.
    """
    page: str | None = None
    while page is None or page:
        some = client.search_runs([experiment_id], what, view_type, max_results=_A_PAGE, page_token=page)
        yield from some
        page = some.token or ""
