"""The suites of :mod:`spacewarps.testing`, for every journal and strategy that there is."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from spacewarps.search.journal import FolderJournal
from spacewarps.search.strategies.base import Strategy
from spacewarps.search.strategies.beam import Beam
from spacewarps.search.strategies.greedy import Greedy
from spacewarps.search.strategies.pnas import Pnas
from spacewarps.testing.journals import JournalConformance
from spacewarps.testing.strategies import StrategyConformance


class TestFolderJournal(JournalConformance):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> Iterator[None]:
        self.journal = FolderJournal(tmp_path / "journal")
        yield
        self.journal.close()

    def make(self) -> FolderJournal:
        return self.journal


class TestGreedy(StrategyConformance):
    def make(self) -> Strategy:
        return Greedy()


class TestBeam(StrategyConformance):
    def make(self) -> Strategy:
        return Beam(2)


class TestPnas(StrategyConformance):
    def make(self) -> Strategy:
        return Pnas(2, 1)
