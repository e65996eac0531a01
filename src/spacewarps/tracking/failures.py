"""What is said when MLflow cannot be used, or fails."""

import re

from spacewarps.errors import SpaceWarpsError

_LONGEST_REASON = 300
# To the last @, as a password may hold others, and a slash.
_PASSWORD = re.compile(r"(?<=://)([^/@\s:]*):\S*@")


class TrackingError(SpaceWarpsError):
    """MLflow cannot be used."""


def reason(error: Exception) -> str:
    """Return why MLflow failed, on one line of bearable length, without passwords."""
    # SQLAlchemy adds the statement and its values.
    text = " ".join(without_password(str(error)).partition("\n[SQL:")[0].split())
    if len(text) <= _LONGEST_REASON:
        return text
    # A failed connection gives its reason last.
    return f"{text[: _LONGEST_REASON // 2]} ... {text[-_LONGEST_REASON // 2 :]}"


def without_password(text: str) -> str:
    """Return ``text`` with the passwords in its addresses hidden."""
    return _PASSWORD.sub(r"\1:***@", text)
