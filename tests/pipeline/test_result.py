from pathlib import Path

import pytest

from tests.pipeline.conftest import SpacewarpsHere
from tests.pipeline.project import Project
from tests.pipeline.results import draw_answers, make_project, write_result


@pytest.mark.parametrize(
    ("has_metrics", "advice"),
    [(True, "`dvc pull` brings it, or `dvc repro` makes it"), (False, "run `dvc repro` first")],
)
def test_a_clone_is_told_to_pull_the_report(
    tmp_path: Path, spacewarps_here: SpacewarpsHere, has_metrics: bool, advice: str
) -> None:
    project = Project(tmp_path)
    make_project(project)
    write_result(project, draw_answers(1))
    (tmp_path / "reports/report/report.md").unlink(missing_ok=True)
    if not has_metrics:
        (tmp_path / "reports/metrics.json").unlink()
    status, said, errors = spacewarps_here(project, "result")
    assert (status, said) == (2, "")
    assert errors == f"spacewarps result: reports/report/report.md: no such file; {advice}\n"
