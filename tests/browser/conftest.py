from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.visitor import Visitor, open_browser, visit

# The pipeline that tests/pipeline looks at as well: it runs once for both.
from tests.pipeline.conftest import finished, make_once

__all__ = ["finished", "make_once"]


# One for each file: while it is there, Python takes an event loop for running, which other tests start themselves.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as found:
        yield found


@pytest.fixture
def visitor(browser: Any) -> Iterator[Visitor]:
    with visit(browser) as found:
        yield found
