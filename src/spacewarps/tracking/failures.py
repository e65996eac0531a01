"""What is said when MLflow cannot be used, or fails."""

import re

import requests
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from spacewarps.errors import SpaceWarpsError

_LONGEST_REASON = 300
#: Who asks, in an address: to the last @, as a password may hold others, and a slash.
USER = re.compile(r"(?<=://)\S*@")
#: Options of an address that may hold what nobody else should read.
SECRET_OPTION = re.compile(r"[^?&;\s=]*(?:pass|pwd|secret|token|key|user|uid)[^?&;\s=]*", re.IGNORECASE)
_SECRET_VALUE = re.compile(rf"({SECRET_OPTION.pattern})=[^&;\s'\")]+", re.IGNORECASE)
# These patterns take a time that grows with the square of a word's length. A page that somebody took for a server's
# answer may hold a picture in one word; no address is as long.
_WORD, _LONGEST_WORD = re.compile(r"\S+"), 500


# What comes of a server that is down, slow or overloaded, as opposed to one that has nothing under an address.
_NO_ANSWER = (
    ConnectionError,
    TimeoutError,
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.RetryError,
    OperationalError,
)


_BARRED = {
    401: "this user is not known there, or has another password; set MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD",
    403: "this user may not write there; whoever administers it gives the permission to edit the experiment",
}


class TrackingError(SpaceWarpsError):
    """MLflow cannot be used."""


class UnansweredError(TrackingError):
    """The store does not answer, for now."""


def barred(error: BaseException) -> str | None:
    """Return in words why a server does not let this user in, or not as far; nothing if an error comes of other things.

    Artifacts are refused with an error of HTTP, all else with one of MLflow.
    """
    status = 0
    if isinstance(error, MlflowException):
        status = error.get_http_status_code()  # type: ignore[no-untyped-call]
    elif isinstance(error, requests.HTTPError) and error.response is not None:
        status = error.response.status_code
    return _BARRED.get(status)


def is_unanswered(error: BaseException | None) -> bool:
    """Say whether an error comes of a store that does not answer, as MLflow wraps it."""
    while error is not None:
        if isinstance(error, _NO_ANSWER):
            return True
        error = error.__cause__ or error.__context__
    return False


def reason(error: BaseException) -> str:
    """Return why MLflow failed, on one line of bearable length, without passwords."""
    # SQLAlchemy adds the statement and its values.
    text = " ".join(without_password(str(error)).partition("\n[SQL:")[0].split())
    if len(text) <= _LONGEST_REASON:
        return text
    # A failed connection gives its reason last.
    return f"{text[: _LONGEST_REASON // 2]} ... {text[-_LONGEST_REASON // 2 :]}"


def cause(error: BaseException) -> str:
    """Return what an error comes of in the end, in a few words: of a connection, why there is none."""
    while found := error.__cause__ or error.__context__ or _last_of(error.args):
        error = found
    return reason(error)


def _last_of(arguments: tuple[object, ...]) -> BaseException | None:
    """Return the error that another one was made of, as those of connections are."""
    return arguments[-1] if arguments and isinstance(arguments[-1], BaseException) else None


def without_password(text: str) -> str:
    """Return ``text`` with all hidden that its addresses hold of passwords: who asks, and the options that may.

    What is too long a word for an address is left out.
    """
    return _WORD.sub(lambda word: _hidden(word[0]) if len(word[0]) <= _LONGEST_WORD else "...", text)


def _hidden(word: str) -> str:
    return _SECRET_VALUE.sub(r"\1=***", USER.sub("***@", word)) if "=" in word or "://" in word else word
