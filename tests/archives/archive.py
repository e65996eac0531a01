"""An archive on this machine that misbehaves as it is told."""

import contextlib
import datetime
import io
import ipaddress
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from PIL import Image

from tests.survey.stamp_files import in_fits

SIDE = 16


class Request(BaseHTTPRequestHandler):
    """What the archive was asked, and how it answers."""

    protocol_version = "HTTP/1.1"

    def answer(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(content)

    @property
    def asked(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}

    def log_message(self, *_: object) -> None:
        pass


Behaviour = Callable[[Request], None]


class Archive:
    """A server; ``behave`` answers each request.

    Attributes:
        requests: the path of each, with its query.
        times: when each came.
        agents: who asked.
        most_at_once: how many were answered at one time.
    """

    def __init__(self) -> None:
        self.behave: Behaviour = lambda request: request.answer(stamp())
        self.requests: list[str] = []
        self.times: list[float] = []
        self.agents: set[str] = set()
        self.most_at_once = 0
        at_work, lock, archive = 0, threading.Lock(), self

        class Handler(Request):
            def do_GET(self) -> None:
                nonlocal at_work
                with lock:
                    archive.times.append(time.monotonic())
                    archive.requests.append(self.path)
                    archive.agents.add(str(self.headers["User-Agent"]))
                    at_work += 1
                    archive.most_at_once = max(archive.most_at_once, at_work)
                try:
                    archive.behave(self)
                finally:
                    with lock:
                        at_work -= 1

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"

    def encrypt(self, certificate: Path) -> None:
        """Speak TLS from now on, with a certificate that is made at the path."""
        key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
        now = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), True)
            .sign(key, hashes.SHA256())
        )
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(*form))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.address = self.address.replace("http:", "https:")

    def ids(self) -> list[str]:
        """Return what ``id`` was in each request."""
        return [parse_qs(urlsplit(path).query)["id"][0] for path in self.requests]


@contextlib.contextmanager
def running() -> Iterator[Archive]:
    archive = Archive()
    # One that is still talking is not waited for.
    archive.server.block_on_close = False
    thread = threading.Thread(target=archive.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield archive
    finally:
        archive.server.shutdown()
        archive.server.server_close()


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """Answer the first request by the first, and so on; the last goes on."""
    left = list(behaviours)

    def behave(request: Request) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(request)

    return behave


def by_id(others: Behaviour | None = None, **behaviours: Behaviour) -> Behaviour:
    """Answer by the id that is asked for."""

    def behave(request: Request) -> None:
        behaviours.get(request.asked["id"], others or (lambda r: r.answer(stamp())))(request)

    return behave


def pixels(channels: int = 1, side: int = SIDE, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    drawn = np.random.default_rng(seed).normal(100, 10, (channels, side, side)).astype(np.float32)
    return drawn[0] if channels == 1 else drawn


def stamp(channels: int = 1, side: int = SIDE, seed: int = 0) -> bytes:
    """Return a stamp in FITS."""
    return in_fits(pixels(channels, side, seed))


def picture(colours: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    """Return a picture as JPEG."""
    file = io.BytesIO()
    Image.fromarray(colours).save(file, "JPEG", quality=95)
    return file.getvalue()
