import subprocess
import sys

import pytest

SET_UP = """
from spacewarps.training.compute import set_up_compute
from spacewarps.training.settings import ComputeSettings
set_up_compute(ComputeSettings("cpu", "fp32", 1))
"""


@pytest.mark.parametrize(
    ("script", "module"),
    [
        ("import spacewarps.stages.simulate, spacewarps.stages.prepare", "torch"),
        ("import spacewarps.stages.evaluate" + SET_UP, "torch._dynamo"),
        ("import spacewarps.commands.compare, spacewarps.commands.journal, spacewarps.commands.plan", "mlflow"),
    ],
)
def test_a_command_starts_without_what_takes_seconds_to_import(script: str, module: str) -> None:
    imported = f"{script}\nimport sys\nsys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", imported], check=False).returncode == 0
