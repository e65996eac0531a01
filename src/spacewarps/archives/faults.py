"""Why an archive's answer is no stamp, and whether it is of any use to ask again."""


class FetchError(Exception):
    """There is no stamp; the message is the reason, as it is counted and listed."""


class NoImageError(FetchError):
    """The archive has none there, and says so."""


class RefusedError(FetchError):
    """Something that will be the same when it is asked for again."""


class LeaveAloneError(RefusedError):
    """The archive is not to be asked for anything for longer than is waited for."""


class PassingError(FetchError):
    """Something that may be better later.

    Args:
        reason: what it is.
        retry_after: how many seconds the archive wants to be left alone, if it says so.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(reason)


class StoppedError(Exception):
    """The work is to end."""
