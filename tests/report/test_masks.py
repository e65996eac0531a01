"""What is shown of stamps, and measured on them, whose last channel is the mask."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spacewarps.evaluation.report import write_report
from spacewarps.prediction.reference import Range, describe_training
from spacewarps.report.card import write_card
from spacewarps.report.intervals import light
from spacewarps.report.stamp_section import stamps
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.prepared import PreparedSurvey
from spacewarps.survey.settings import StampSettings
from tests.report.results import CURVES, SEARCH, TRAINING, facts_of

PICTURE = re.compile(r'<img src="([^"]+)" alt="Stamp of')


@pytest.fixture
def plain(draw_survey: Callable[..., PreparedSurvey]) -> PreparedSurvey:
    return draw_survey(channels=2, dtype="float32")


@pytest.fixture
def masked(plain: PreparedSurvey) -> PreparedSurvey:
    """The same survey with a mask behind the channels of each stamp."""
    mask = np.random.default_rng(0).random((len(plain.stamps), 1, *plain.stamps.shape[2:])) < 0.3
    packed = np.concatenate([plain.stamps, mask.astype(plain.stamps.dtype)], axis=1)
    return replace(plain, stamps=packed, mask_channel=True)


def test_the_mask_is_not_drawn(plain: PreparedSurvey, masked: PreparedSurvey, tmp_path: Path) -> None:
    pages, pictures = [], []
    for name, survey in (("plain", plain), ("masked", masked)):
        facts = facts_of(survey)
        pages.append(str(stamps(facts)))
        (tmp_path / name).mkdir()
        write_report(tmp_path / name, facts.evaluation, facts.test, search=SEARCH, training=TRAINING, curves=CURVES)
        pictures.append((tmp_path / name / "mistakes.png").read_bytes())
    assert len(PICTURE.findall(pages[0])) > 12
    assert PICTURE.findall(pages[0]) == PICTURE.findall(pages[1])
    assert pictures[0] == pictures[1]
    told = "The mask, the last channel, is not drawn, and counts in the saliency."
    assert [told in page for page in pages] == [False, True]
    write_card(tmp_path / "card.md", facts_of(masked))
    assert "Input: stamps of 2 channels and a mask, 16 x 16 pixels" in (tmp_path / "card.md").read_text()


def test_the_mask_has_no_light(plain: PreparedSurvey, masked: PreparedSurvey) -> None:
    alone, both = (Space_Galaxi(each, split="test") for each in (plain, masked))
    for name, values in light(alone).items():
        assert (light(both)[name] == values).all()

    def ranges(data: Space_Galaxi) -> tuple[Range, Range]:
        found = describe_training([data], missing_codes={}, stamps=StampSettings(), coverage=0.9, thresholds=None)
        return found.brightness, found.spread

    assert ranges(both) == ranges(alone)
