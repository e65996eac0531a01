"""What GitHub runs: here without GitHub, as far as that goes."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
JOBS: dict[str, dict[str, Any]] = {
    f"{file.stem} {name}": job
    for file in sorted((ROOT / ".github/workflows").glob("*.yml"))
    for name, job in yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"].items()
}


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS.keys())
def test_each_job_ends_in_time_and_its_steps_are_shell_that_names_what_is_there(job: dict[str, Any]) -> None:
    assert job["runs-on"]
    assert job["timeout-minutes"] <= 60
    for step in job["steps"]:
        assert ("run" in step) != ("uses" in step), step
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"])
            continue
        script = step["run"]
        # What comes from a pull request's own text is never part of a script.
        assert "github." not in re.sub(r"\$\{\{ matrix\.\w+ \}\}", "", script)
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
        for named in re.findall(r"(?<![\w/])\.(?:ci|github)/[\w/.-]+|tests/[\w*/.]+|constraints[\w-]*\.txt", script):
            found = list(ROOT.glob(named))
            assert found, named
            assert named.startswith(("tests", "constraints")) or all(path.stat().st_mode & 0o100 for path in found)
