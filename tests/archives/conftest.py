from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spacewarps.archives.fetch import Fetched, fetch_stamps
from spacewarps.archives.services import Target
from spacewarps.archives.settings import FetchSettings
from spacewarps.archives.stamps import Store
from spacewarps.survey.settings import StampSettings
from tests.archives.archive import SIDE, Archive, running

Fetch = Callable[..., Fetched]


@pytest.fixture
def archive() -> Iterator[Archive]:
    with running() as archive:
        yield archive


@pytest.fixture
def fetch(archive: Archive, tmp_path: Path) -> Fetch:
    """Fetch stamps of made-up targets; the time between tries is short."""

    def fetch(*ids: str, earlier: Any = None, **how: Any) -> Fetched:
        quick: dict[str, Any] = {"per_second": 20.0, "tries": 3, "timeout_seconds": 2.0, "size": SIDE}
        if "service" not in how:
            quick |= {"service": "template", "template": f"{archive.address}/cut?id={{id}}&ra={{ra}}&dec={{dec}}"}
        settings = FetchSettings(**quick | how)
        store = Store(tmp_path / "store", settings, StampSettings())
        targets = [Target(key, 10.0 + number, -5.0) for number, key in enumerate(ids or ("a",))]
        return fetch_stamps(targets, settings, store, earlier or {}, lambda _: None, first_pause=0.02)

    return fetch
