"""Asking an archive politely: at a limited rate, with longer and longer pauses after failures, and within bounds."""

import http.cookiejar
import random
import re
import ssl
import threading
import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from urllib3.util import Retry

from spacewarps.archives.connections import BoundedAdapter
from spacewarps.archives.faults import (
    FetchError,
    LeaveAloneError,
    NoImageError,
    PassingError,
    RefusedError,
    StoppedError,
)

_NOTHING_THERE = {204, 404, 410}
_MAY_PASS = {408, 425, 429, 500, 502, 503, 504}
_REDIRECTS = {301, 302, 303, 307, 308}
_MOST_REDIRECTS = 5
_CONNECT_SECONDS = 10.0
# Doubled after each failure.
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
# An archive that asks for more is one to come back to another day.
_LONGEST_RETRY_AFTER_SECONDS = 900.0
_PART = 1 << 16

Result = TypeVar("Result")


class Pace:
    """Lets all connections together send so many requests a second, and pauses them all when the archive asks for it.

    Args:
        per_second: the most requests a second.
        stop: ends every wait.
    """

    def __init__(self, per_second: float, stop: threading.Event) -> None:
        self._interval, self._stop = 1 / per_second, stop
        self._next = time.monotonic()
        self._lock = threading.Lock()

    def wait_for_turn(self) -> None:
        """Return when a request may be sent.

        Raises:
            StoppedError: the work is to end.
        """
        while True:
            with self._lock:
                now = time.monotonic()
                if now >= self._next:
                    self._next = now + self._interval
                    break
                left = self._next - now
            self.sleep(left)
        self.sleep(0)

    def hold(self, seconds: float) -> None:
        """Let no request be sent for so long."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)

    def sleep(self, seconds: float) -> None:
        """Wait, unless the work is to end.

        Raises:
            StoppedError: it is.
        """
        if self._stop.wait(seconds):
            raise StoppedError


class Client:
    """One connection to an archive.

    The retries are counted here and not by urllib3, which would see neither a body that breaks off nor a page in place
    of an image, and would send what it repeats at any rate.

    Args:
        pace: what it shares with the other connections.
        tries: how often one thing is asked for.
        timeout_seconds: how long an answer may take.
        first_pause: how long the first pause after a failure is.
    """

    def __init__(
        self, pace: Pace, *, tries: int, timeout_seconds: float, first_pause: float = _FIRST_PAUSE_SECONDS
    ) -> None:
        self._pace, self._tries, self._timeout, self._first_pause = pace, tries, timeout_seconds, first_pause
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, BoundedAdapter())
        self._session.headers["User-Agent"] = f"spacewarps {requests.utils.default_user_agent()}"
        # What is packed all the same stays packed: the readers of stamps unpack within bounds.
        self._session.headers["Accept-Encoding"] = "identity"
        # No password of ~/.netrc is sent, and no cookie is kept.
        self._session.auth = lambda request: request
        self._session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))

    def get(self, url: str, at_most: int, read: Callable[[bytes], Result]) -> Result:
        """Return what ``read`` makes of the answer to ``url``, which is asked for again if that may help.

        Args:
            url: of http or https.
            at_most: the most bytes that an answer may have.
            read: raises a :class:`PassingError` if the answer is not what was asked for.

        Raises:
            NoImageError: there is nothing.
            RefusedError: it was refused, or given up.
            LeaveAloneError: the archive wants to be asked for nothing for a long time.
            StoppedError: the work is to end.
        """
        for number in range(1, self._tries + 1):
            try:
                return read(self._answer(url, at_most))
            except PassingError as fault:
                if fault.retry_after is not None and fault.retry_after > _LONGEST_RETRY_AFTER_SECONDS:
                    raise LeaveAloneError(f"{fault}, and not to be asked for {fault.retry_after:,.0f} s") from None
                if number == self._tries:
                    raise RefusedError(f"{fault} (asked {number} times)" if number > 1 else str(fault)) from None
                if fault.retry_after is not None:
                    self._pace.hold(fault.retry_after)
                else:
                    longest = min(self._first_pause * 2 ** (number - 1), _LONGEST_PAUSE_SECONDS)
                    # What failed together is not to come back together.
                    self._pace.sleep(random.uniform(longest / 2, longest))
        raise AssertionError("unreachable")

    def _answer(self, url: str, at_most: int) -> bytes:
        address = url
        for _ in range(_MOST_REDIRECTS + 1):
            self._pace.wait_for_turn()
            try:
                with self._session.get(
                    address,
                    stream=True,
                    allow_redirects=False,
                    timeout=(min(_CONNECT_SECONDS, self._timeout), self._timeout),
                ) as answer:
                    if answer.status_code not in _REDIRECTS:
                        _check_status(answer)
                        return self._body(answer, at_most)
                    address = _redirected(address, answer.headers.get("Location", ""))
            except FetchError:
                raise
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                raise PassingError(self._in_words(error)) from None
        raise RefusedError(f"more than {_MOST_REDIRECTS} redirections")

    def _body(self, answer: requests.Response, at_most: int) -> bytes:
        end = time.monotonic() + self._timeout
        too_large = RefusedError(f"answer of more than {at_most:,} bytes")
        length = answer.headers.get("Content-Length", "")
        if re.fullmatch("[0-9]{1,30}", length) and int(length) > at_most:
            raise too_large
        content = bytearray()
        # What has come, however little: to wait for more would let it trickle in for ever.
        while part := answer.raw.read1(_PART, decode_content=False):
            content += part
            if len(content) > at_most:
                raise too_large
            if time.monotonic() > end:
                raise PassingError(self._late)
        return bytes(content)

    @property
    def _late(self) -> str:
        return f"no whole answer within {self._timeout:g} s"

    def _in_words(self, error: Exception) -> str:
        """Return why there is no answer, without the address, which may be long."""
        if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError | TimeoutError):
            return self._late
        if isinstance(error, requests.exceptions.SSLError | urllib3.exceptions.SSLError | ssl.SSLError):
            return "no connection that can be trusted (TLS)"
        if isinstance(error, urllib3.exceptions.ProtocolError | requests.exceptions.ChunkedEncodingError):
            return "answer that broke off"
        if isinstance(error, requests.ConnectionError | OSError):
            return "no connection, or one that broke off"
        return "answer that is not as HTTP has it"


def _check_status(answer: requests.Response) -> None:
    status = answer.status_code
    if status in _NOTHING_THERE:
        raise NoImageError(f"no image there (status {status})")
    if status in _MAY_PASS:
        raise PassingError(f"status {status}", _retry_after(answer.headers.get("Retry-After")))
    if status != 200:
        raise RefusedError(f"status {status}")


def _retry_after(said: str | None) -> float | None:
    """Return how many seconds the archive wants to be left alone."""
    if said is None:
        return None
    try:
        return Retry().parse_retry_after(said[:100])
    except (urllib3.exceptions.HTTPError, ValueError, OverflowError):
        return None


def _redirected(address: str, location: str) -> str:
    """Return where an answer leads: to the same machine, and not from https to http.

    Raises:
        RefusedError: it leads elsewhere, as to a file, or to a machine that only this one can reach.
    """
    try:
        target = urljoin(address, location)
        old, new = urlsplit(address), urlsplit(target)
        is_allowed = (
            new.scheme in ("https", old.scheme)
            and new.hostname == old.hostname
            and new.username is None
            and (new.port == old.port or new.scheme != old.scheme)
        )
    except ValueError:
        is_allowed = False
    if not location or not is_allowed:
        raise RefusedError("redirection to another machine, or to what is not http or https")
    return target
