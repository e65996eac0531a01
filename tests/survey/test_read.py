from contextlib import nullcontext

import pandas as pd
import pytest

from spacewarps.errors import SurveyError
from spacewarps.survey.audit import Audit
from spacewarps.survey.columns import Columns
from spacewarps.survey.read import Survey, read_survey
from spacewarps.survey.settings import SurveySettings
from tests.survey.delivery import Delivery


def read(delivery: Delivery, columns: Columns) -> tuple[Survey, Audit]:
    audit = Audit()
    settings = SurveySettings(columns=columns, max_bad_fraction=0.2)
    survey = read_survey(
        delivery.catalog, delivery.images, settings, audit, lambda _what, _total: nullcontext(lambda _done: None)
    )
    return survey, audit


def test_a_survey_without_labels_is_read_as_one_with_labels_is(delivery: Delivery) -> None:
    delivery.write()
    known, _ = read(delivery, Columns())
    unknown, audit = read(delivery, Columns(label=None))
    pd.testing.assert_frame_equal(unknown.rows, known.rows.drop(columns="label"))
    assert (unknown.places, unknown.digests, unknown.shape) == (known.places, known.digests, known.shape)
    assert (unknown.labels, audit.left_out) == (frozenset(), {})


def test_a_survey_to_learn_from_needs_labels(delivery: Delivery) -> None:
    with pytest.raises(SurveyError, match=r"needs labels; set `columns\.label`"):
        delivery.prepare(columns=Columns(label=None))
