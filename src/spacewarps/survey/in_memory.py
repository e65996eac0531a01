"""A survey as delivered, prepared for one program: nothing of it stays on disk."""

import tempfile
import warnings
from contextlib import nullcontext
from pathlib import Path

from spacewarps.errors import SurveyError
from spacewarps.survey.columns import Columns
from spacewarps.survey.prepare import prepare_survey
from spacewarps.survey.prepared import PreparedSurvey, load_prepared_survey
from spacewarps.survey.settings import Shares, SurveySettings


def prepare_in_memory(
    catalog: Path, images: Path, columns: Columns, features: list[str], *, seed: int, validation_share: float = 0.2
) -> PreparedSurvey:
    """Return a survey that was cleaned, grouped and packed in memory, split into ``train`` and ``validation`` only.

    Raises:
        SurveyError: it cannot be used.
    """
    if not 0 < validation_share < 1:
        raise SurveyError(f"validation_share must lie between 0 and 1, but got {validation_share}")
    with tempfile.TemporaryDirectory() as folder:
        audit = prepare_survey(
            Path(folder),
            catalog=catalog,
            images=images,
            settings=SurveySettings(
                columns=columns,
                features=tuple(features),
                split=Shares(train=1 - validation_share, validation=validation_share, test=0.0),
            ),
            seed=seed,
            progress_bar=lambda _what, _total: nullcontext(lambda _done: None),
        )
        for note in audit.notes:
            warnings.warn(note, stacklevel=3)
        return load_prepared_survey(Path(folder), in_memory=True)
