import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from spacewarps.errors import SurveyError
from spacewarps.survey.prepared import load_prepared_survey
from tests.complaints import complaint


@pytest.fixture
def copied(small_survey: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_survey, tmp_path / "prepared"))


@pytest.fixture
def unsigned(copied: Path) -> Path:
    """A prepared survey as another program might write it, without hashes."""
    describe(copied, sha256={})
    return copied


def describe(folder: Path, **changes: Any) -> None:
    path = folder / "survey.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def told_of(folder: Path) -> str:
    message = complaint(SurveyError, load_prepared_survey, folder)
    assert message.startswith(str(folder))
    assert len(message) < len(str(folder)) + 300
    return message.removeprefix(str(folder))


def table_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "samples.csv", dtype=str, keep_default_na=False)


def test_what_was_prepared_is_opened_and_so_is_what_another_program_wrote(copied: Path) -> None:
    whole = load_prepared_survey(copied)
    describe(copied, sha256={}, more="for people")
    again = load_prepared_survey(copied, in_memory=True)
    assert (again.stamps == whole.stamps).all()
    pd.testing.assert_frame_equal(again.samples, whole.samples)
    assert (again.classes, again.features) == (["GALAXY", "QSO", "STAR"], ["z", "z_err"])


def test_a_bit_of_the_stamps_that_is_another_is_noticed(copied: Path) -> None:
    content = bytearray((copied / "stamps.npy").read_bytes())
    content[-1] ^= 1
    (copied / "stamps.npy").write_bytes(content)
    assert told_of(copied) == "/stamps.npy: altered since it was prepared; prepare it again"


def test_a_sample_in_another_split_is_noticed(copied: Path) -> None:
    table = table_of(copied)
    table.loc[table["split"] == "test", "split"] = "train"
    table.to_csv(copied / "samples.csv", index=False)
    assert told_of(copied) == "/samples.csv: altered since it was prepared; prepare it again"


@pytest.mark.parametrize("name", ["survey.json", "samples.csv", "stamps.npy"])
def test_a_pipe_is_refused_without_waiting_for_it(copied: Path, name: str) -> None:
    (copied / name).unlink()
    os.mkfifo(copied / name)
    assert "a pipe or a device, not a file" in told_of(copied)


@pytest.mark.parametrize("name", ["survey.json", "samples.csv", "stamps.npy"])
@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"\xff\xfe\0",
        b"[]",
        b"null",
        b'{"classes": 1}',
        b"[" * 100_000,
        b'id,"x\n1,2,3\n',
        b"PK\x03\x04",
        b"a,b\n1,2,3,4\n1,2,3,4,5,6\n",
        b"\x93NUMPY\x01\0\x10\0{",
        b"\x93NUMPY\x01\0\x40\0" + b"(" * 63 + b"\n",
        b"\x93NUMPY\x01\0\x10\0'\\xfg" + b" " * 10 + b"\n",
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_a_damaged_file_is_refused(unsigned: Path, name: str, content: bytes | None) -> None:
    (unsigned / name).unlink()
    if content is not None:
        (unsigned / name).write_bytes(content)
    told_of(unsigned)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"classes": [["A"]]}, "'classes.0': Input should be a valid string"),
        ({"classes": ["GALAXY", "QSO", "QSO"]}, "classes must differ from each other"),
        ({"classes": ["GALAXY", "QSO", ""]}, "'classes.2': String should have at least 1 character"),
        ({"classes": ["GALAXY"]}, "'classes': List should have at least 2 items"),
        ({"classes": ["GALAXY", "QSO", "STAR", "NOVA"]}, "class 'NOVA' has no sample in the train split"),
        ({"features": ["z"]}, "samples.csv should have the columns id,source,split,label,ra,dec,z, but has"),
        ({"features": {"z": 1}}, "'features': Input should be a valid array"),
        ({"sha256": {"stamps.npy": 1}}, "'sha256.stamps.npy': Input should be a valid string"),
        ({"sha256": {"stamps.npy": "0" * 64}}, "samples.csv: altered since it was prepared"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(unsigned: Path, changes: dict[str, Any], told: str) -> None:
    describe(unsigned, **changes)
    assert told in told_of(unsigned)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda table: table.iloc[1:], "stamps.npy has 60 stamps, but samples.csv 59 rows"),
        (lambda table: table.iloc[:0], "class 'GALAXY' has no sample in the train split"),
        (lambda table: table.drop(columns="split"), "samples.csv should have the columns id,source,split,label"),
        (lambda table: table.drop(columns="z_err"), "samples.csv should have the columns id,source,split,label"),
        (lambda table: table.assign(label="NOVA"), "label 'NOVA' is none of GALAXY, QSO, STAR"),
        (lambda table: table.assign(z="high"), "could not convert string to float: 'high'"),
        (lambda table: table.assign(source="s000"), "source 's000' stands in two splits"),
        (lambda table: table.assign(split=table["split"].replace("test", "tset")), "split 'tset' is none of train, "),
        (lambda table: table.assign(split="train"), "class 'GALAXY' has no sample in the validation split"),
        (lambda table: table.assign(id="s000"), "the id 's000' appears twice"),
    ],
)
def test_a_sample_table_that_does_not_fit_is_refused(unsigned: Path, spoil: Callable[[Any], Any], told: str) -> None:
    spoil(table_of(unsigned)).to_csv(unsigned / "samples.csv", index=False)
    assert told in told_of(unsigned)


def one_nan(stamps: Any) -> Any:
    stamps = stamps.astype("float32")
    stamps[37, 0, 3, 4] = np.nan
    return stamps


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            lambda stamps: stamps[:, 0],
            "stamps.npy should be [samples, channels, height, width] of uint8, float32, ",
        ),
        (lambda stamps: stamps[:, :, :0], "but is [60, 1, 0, 12] of |u1"),
        (lambda stamps: stamps.astype(str), "but is [60, 1, 12, 12] of <U3"),
        (lambda stamps: stamps.astype("V8"), "but is [60, 1, 12, 12] of |V8"),
        (lambda stamps: stamps.astype("datetime64[s]"), "but is [60, 1, 12, 12] of <M8[s]"),
        (lambda stamps: stamps.astype("complex64"), "but is [60, 1, 12, 12] of <c8"),
        (lambda stamps: stamps.astype(">f4"), "but is [60, 1, 12, 12] of >f4"),
        (lambda stamps: stamps.astype("uint16"), "but is [60, 1, 12, 12] of <u2"),
        (lambda stamps: stamps.astype("float64"), "but is [60, 1, 12, 12] of <f8"),
        # Objects are pickles, which could run code.
        (lambda stamps: stamps.astype(object), "stamps.npy: Array can't be memory-mapped: Python objects in dtype."),
        (one_nan, "stamps.npy: stamp 37 has pixels that are not finite"),
    ],
)
def test_stamps_that_do_not_fit_are_refused(unsigned: Path, spoil: Callable[[Any], Any], told: str) -> None:
    np.save(unsigned / "stamps.npy", spoil(np.load(unsigned / "stamps.npy")))
    assert told in told_of(unsigned)


def test_a_header_that_is_too_long_for_a_table_is_refused(unsigned: Path) -> None:
    samples = unsigned / "samples.csv"
    samples.write_text("x" * 200_000 + samples.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(SurveyError, match="not a prepared survey"):
        load_prepared_survey(unsigned)
