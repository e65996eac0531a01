"""A server that speaks the language of S3: moto's, which forgets everything at its end, over files that do not."""

import hashlib
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server
from werkzeug.test import Client

BUCKET = "spacewarps"
_REFUSED = b"<Error><Code>AccessDenied</Code></Error>"


class KeptBucket:
    """A WSGI application: a bucket whose objects are in files when a request to change them is answered.

    Args:
        folder: holds a file for each object, named by a hash of the object's name, which is its first line,
            as it stands in addresses.
        key: the id of the key that a request has to be signed with. The signature is not checked.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, key
        # Without a signature an object that somebody has signed for cannot be read.
        self._as_owner = {"Authorization": f"AWS4-HMAC-SHA256 Credential={key}/1/us-east-1/s3/aws4_request"}
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._client = Client(self._moto)
        self._one_at_a_time = threading.Lock()
        folder.mkdir(mode=0o700, exist_ok=True)
        # A process has one memory of moto's, and what counts is in the files.
        self._client.post("/moto-api/reset")
        self._client.put(f"/{BUCKET}", headers=self._as_owner)
        for file in folder.glob("*.object"):
            path, _, content = file.read_bytes().partition(b"\n")
            self._client.put(path.decode(), data=content, headers=self._as_owner)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        # MLflow lets who has signed in there fetch a file by an address that it has signed itself.
        if self._key not in environ.get("HTTP_AUTHORIZATION", "") + environ.get("QUERY_STRING", ""):
            start_response("403 Forbidden", [("Content-Type", "application/xml")])
            return [_REFUSED]
        answers: list[str] = []

        def start(status: str, *rest: Any) -> Any:
            answers.append(status)
            return start_response(status, *rest)

        answer: Iterable[bytes] = self._moto(environ, start)
        if environ["REQUEST_METHOD"] in {"PUT", "POST", "DELETE"} and answers[-1].startswith("2"):
            with self._one_at_a_time:
                self._keep(quote(environ["PATH_INFO"].encode("latin-1")))
        return answer

    def _keep(self, path: str) -> None:
        if path.strip("/") == BUCKET:
            # Objects were deleted, many at once.
            for file in self._folder.glob("*.object"):
                with file.open("rb") as content:
                    self._keep(content.readline().decode().removesuffix("\n"))
            return
        file = self._folder / f"{hashlib.sha256(path.encode()).hexdigest()}.object"
        found = self._client.get(path, headers=self._as_owner)
        if found.status_code == 404:
            file.unlink(missing_ok=True)
        elif found.status_code == 200:
            new = file.with_suffix(".new")
            new.write_bytes(path.encode() + b"\n" + found.data)
            new.replace(file)


class _Silent(MotoRequestHandler):  # type: ignore[misc]
    def log(self, *_arguments: object) -> None:
        """Say nothing of each request."""


class S3Server:
    """Serves a :class:`KeptBucket` on a port of its own, in a thread."""

    def __init__(self, folder: Path, key: str) -> None:
        self._http = make_server("127.0.0.1", 0, KeptBucket(folder, key), threaded=True, request_handler=_Silent)
        self.address = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._http.shutdown()
        self._http.server_close()
