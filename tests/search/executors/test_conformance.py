"""The suite of :mod:`spacewarps.testing`, for every executor that there is."""

from collections.abc import Sequence

import pytest

from spacewarps.search.executors.inline import InlineExecutor
from spacewarps.search.executors.processes import ProcessesExecutor
from spacewarps.search.folds import Fold
from spacewarps.testing.data import small_compute
from spacewarps.testing.executors import ExecutorConformance


class TestInline(ExecutorConformance):
    def make(self, folds: Sequence[Fold]) -> InlineExecutor:
        return InlineExecutor(folds)


class TestProcesses(ExecutorConformance):
    def make(self, folds: Sequence[Fold]) -> ProcessesExecutor:
        return ProcessesExecutor(folds, small_compute(), workers=2, accelerators=0)


@pytest.mark.long
class TestRay(ExecutorConformance):
    def make(self, folds: Sequence[Fold]):  # type: ignore[no-untyped-def]
        ray_cluster = pytest.importorskip("spacewarps.search.executors.ray_cluster")
        return ray_cluster.RayExecutor(folds, small_compute(), workers=2, address="local", gpu_share=0.0)
