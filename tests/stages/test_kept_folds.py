import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from spacewarps.evaluation.crossvalidation import OuterFold
from spacewarps.search.sealed import read_sealed, write_sealed
from spacewarps.stages.kept_folds import keep_fold, read_kept_fold
from spacewarps.survey.dataset import Space_Galaxi

KEY, OTHER_KEY = "a" * 64, "b" * 64


@pytest.fixture
def fold(test_data: Space_Galaxi) -> OuterFold:
    probabilities = np.random.default_rng(1).dirichlet([1, 1, 1], len(test_data))
    predictions = test_data.samples[["id", "source", "label"]].assign(
        **{f"p_{name}": probabilities[:, column] for column, name in enumerate(test_data.classes)}
    )
    return OuterFold(1, 2, ["conv k=8"], 1 / 3, predictions)


@pytest.fixture
def kept(fold: OuterFold, tmp_path: Path) -> Path:
    path = tmp_path / "crossvalidation" / f"{KEY}.fold"
    keep_fold(path, KEY, fold)
    return path


def test_a_kept_fold_is_the_same_to_the_bit(kept: Path, fold: OuterFold, test_data: Space_Galaxi) -> None:
    found = read_kept_fold(kept, KEY, test_data)
    pd.testing.assert_frame_equal(found.predictions, fold.predictions, check_exact=True)
    assert found.predictions.to_csv() == fold.predictions.to_csv()
    assert (found.seed, found.fold, found.architecture, found.seconds) == (1, 2, ["conv k=8"], 1 / 3)


def test_a_fold_of_another_name_or_of_other_samples_is_none_of_these(
    kept: Path, test_data: Space_Galaxi, validation_data: Space_Galaxi
) -> None:
    with pytest.raises(ValueError, match="another fold"):
        read_kept_fold(kept, OTHER_KEY, test_data)
    for other in (validation_data, test_data.subset(np.arange(len(test_data)) > 0)):
        with pytest.raises(ValueError, match="another fold"):
            read_kept_fold(kept, KEY, other)


def test_a_fold_with_any_byte_altered_or_gone_counts_as_not_there(kept: Path, test_data: Space_Galaxi) -> None:
    whole = kept.read_bytes()
    for position in range(0, len(whole), 97):
        kept.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(ValueError, match="torn or altered"):
            read_kept_fold(kept, KEY, test_data)
        kept.write_bytes(whole[:position])
        with pytest.raises(ValueError, match="torn or altered"):
            read_kept_fold(kept, KEY, test_data)


def shorter_column(content: dict[str, Any]) -> None:
    content["probabilities"]["p_QSO"].pop()


def missing_class(content: dict[str, Any]) -> None:
    del content["probabilities"]["p_QSO"]


def class_too_many(content: dict[str, Any]) -> None:
    content["probabilities"]["p_NOVA"] = [0.0] * len(content["samples"]["id"])


def unknown_label(content: dict[str, Any]) -> None:
    content["samples"]["label"][0] = "NOVA"


def other_source(content: dict[str, Any]) -> None:
    content["samples"]["source"][0] = "nowhere"


def no_rows(content: dict[str, Any]) -> None:
    for columns in (content["samples"], content["probabilities"]):
        for column in columns.values():
            column.clear()


def probability(value: object) -> Callable[[dict[str, Any]], None]:
    def alter(content: dict[str, Any]) -> None:
        content["probabilities"]["p_QSO"][0] = value

    return alter


def seconds(value: object) -> Callable[[dict[str, Any]], None]:
    def alter(content: dict[str, Any]) -> None:
        content["seconds"] = value

    return alter


@pytest.mark.parametrize(
    ("alter", "why"),
    [
        (shorter_column, "same length"),
        (missing_class, "other classes"),
        (class_too_many, "other classes"),
        (unknown_label, "another fold"),
        (other_source, "another fold"),
        (no_rows, "another fold"),
        (probability("0.5"), "valid number"),
        (probability(None), "valid number"),
        (probability(7.0), "less than or equal to 1"),
        (probability(-0.1), "greater than or equal to 0"),
        (probability(math.nan), "finite number"),
        (probability(1.0), "do not add up to 1"),
        (seconds("1"), "valid number"),
        (seconds(-1.0), "greater than or equal to 0"),
        (seconds(math.nan), "finite number"),
        (seconds(math.inf), "finite number"),
    ],
)
def test_a_sealed_fold_that_cannot_be_is_not_taken(
    kept: Path, test_data: Space_Galaxi, alter: Callable[[dict[str, Any]], None], why: str
) -> None:
    content = json.loads(read_sealed(kept))
    alter(content)
    write_sealed(kept, json.dumps(content).encode())
    with pytest.raises(ValueError, match=why):
        read_kept_fold(kept, KEY, test_data)


def test_what_is_no_file_counts_as_not_there_and_cannot_be_written(
    kept: Path, fold: OuterFold, test_data: Space_Galaxi
) -> None:
    kept.unlink()
    with pytest.raises(FileNotFoundError):
        read_kept_fold(kept, KEY, test_data)
    os.mkfifo(kept)
    with pytest.raises(ValueError, match="not a file"):
        read_kept_fold(kept, KEY, test_data)
    kept.unlink()
    kept.mkdir()
    with pytest.raises(ValueError, match="not a file"):
        read_kept_fold(kept, KEY, test_data)
    with pytest.raises(IsADirectoryError):
        keep_fold(kept, KEY, fold)
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


def test_what_a_killed_run_left_half_written_goes_with_the_next_fold(kept: Path, fold: OuterFold) -> None:
    left = kept.with_name(".left.tmp")
    left.write_bytes(b"half")
    os.utime(left, (time.time() - 3700,) * 2)
    keep_fold(kept, KEY, fold)
    assert not left.exists()
