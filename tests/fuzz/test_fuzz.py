import resource
import time
from pathlib import Path

import pytest

from tests.fuzz.files import damage, generator_of
from tests.fuzz.readers import LONGEST_SECONDS, MOST_BYTES, SOUND, feed

KEPT = sorted(Path(__file__).with_name("kept").glob("*"))


@pytest.mark.parametrize("kind", SOUND)
def test_a_sound_file_is_read_and_damaged_ones_are_read_or_refused(kind: str, tmp_path: Path) -> None:
    content, reader = SOUND[kind]
    path = tmp_path / f"1{kind.split(' ')[0]}"
    path.write_bytes(content)
    assert reader(path)
    tally = feed(kind, 0, range(60))
    assert tally.faults == []
    assert tally.inputs == 60
    assert tally.read < 60


@pytest.mark.parametrize("path", KEPT, ids=[path.name for path in KEPT])
def test_a_file_that_is_made_to_do_harm_is_refused_with_little_time_and_memory(path: Path, tmp_path: Path) -> None:
    kind = next(kind for kind in sorted(SOUND, key=len, reverse=True) if path.name.endswith(kind.replace(" ", "-")))
    copy = tmp_path / f"1{kind.split(' ')[0]}"
    copy.write_bytes(path.read_bytes())
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    assert not SOUND[kind][1](copy)
    assert time.monotonic() - start < LONGEST_SECONDS
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < MOST_BYTES / 4


def test_the_same_number_is_damaged_in_the_same_way() -> None:
    content, _ = SOUND[".fits"]
    first, again, other = (damage(content, generator_of(1, ".fits", number)) for number in (3, 3, 4))
    assert first == again != other
