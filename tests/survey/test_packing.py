import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spacewarps.errors import SurveyError
from spacewarps.survey.packing import packed_rows, sort_rows

ROW = (1, 3, 5)


def rows(count: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(count).normal(size=(count, *ROW)).astype(np.float32)


def pack(path: Path, stamps: np.ndarray[Any, Any], most: int) -> None:
    with packed_rows(path, dtype=stamps.dtype, shape=stamps.shape[1:], most=most, what="9 stamps") as append:
        for stamp in stamps:
            append(stamp)


@pytest.mark.parametrize(("count", "most"), [(0, 0), (0, 4), (3, 4), (4, 4), (9, 100_000)])
def test_the_file_is_the_one_that_numpy_writes(tmp_path: Path, count: int, most: int) -> None:
    pack(tmp_path / "packed.npy", rows(count), most)
    np.save(tmp_path / "numpy.npy", rows(count))
    assert (tmp_path / "packed.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_rows_that_came_in_another_order_are_sorted_in_place(tmp_path: Path, count: int) -> None:
    numbers = np.random.default_rng(count).permutation(2 * count)[:count]
    pack(tmp_path / "packed.npy", rows(count), count)
    sort_rows(tmp_path / "packed.npy", numbers.tolist())
    assert (np.load(tmp_path / "packed.npy") == rows(count)[np.argsort(numbers)]).all()


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of this process may have more than 100 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("claims", [True, False])
def test_no_room_is_an_error_that_says_how_much_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, claims: bool
) -> None:
    if not claims:
        monkeypatch.delattr(os, "posix_fallocate")
    (tmp_path / "prepared").mkdir()
    with pytest.raises(SurveyError) as caught:
        pack(tmp_path / "prepared" / "stamps.npy", rows(40_000), 40_000)
    assert str(caught.value).startswith(f"{tmp_path}: no room for 9 stamps, 2.4 MB (File too large; the disk has ")
    assert str(caught.value).endswith(" MB free); make room, or choose a folder on another disk")


FULL = """
from pathlib import Path
import test_packing as tests
from spacewarps.errors import SurveyError
try:
    tests.pack(Path("disk/prepared/stamps.npy"), tests.rows(40_000), 40_000)
except SurveyError as error:
    print(error)
"""


def mounts_are_allowed() -> bool:
    return subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not mounts_are_allowed(), reason="mounting a small disk takes root")
def test_a_full_disk_ends_in_a_line_and_not_in_a_signal(tmp_path: Path) -> None:
    mount = "mkdir disk && mount -t tmpfs -o size=1m none disk && mkdir disk/prepared && "
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount + '"$0" -c "$1"', sys.executable, FULL],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == (
        "disk: no room for 9 stamps, 2.4 MB (No space left on device; the disk has 1.0 MB free); "
        "make room, or choose a folder on another disk\n"
    )
