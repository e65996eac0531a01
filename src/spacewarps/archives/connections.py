"""Connections on which an answer's first line and header cannot trickle in for ever.

A socket has a limit for each time that something is waited for, which a byte now and then keeps from running out.
"""

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse

if TYPE_CHECKING:
    _Base = HTTPConnection
else:
    _Base = object


class _Bounded(_Base):
    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        """Return the answer without its body, within the time that one read may take."""
        late = threading.Timer(float(self.timeout or 0), _shut_down, [self.sock])
        late.daemon = True
        late.start()
        try:
            return super().getresponse()
        finally:
            late.cancel()


def _shut_down(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # Not the one of TLS, which would forget its state under the hands of the thread that reads.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _Plain(_Bounded, HTTPConnection):
    pass


class _Encrypted(_Bounded, HTTPSConnection):
    pass


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _EncryptedPool(HTTPSConnectionPool):
    ConnectionCls = _Encrypted


class BoundedAdapter(HTTPAdapter):
    """Gives a session of requests such connections; a proxy's are as ever."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pool of connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _EncryptedPool}
