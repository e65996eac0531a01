"""Objects in the bucket, through Amazon's own client."""

import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

boto3 = pytest.importorskip("boto3")
pytest.importorskip("moto.server")

BUCKET, KEY = "spacewarps", "a-key"
NAMES = ["1/a/artifacts/params.yaml", "1/a/artifacts/../odd name+%2F é.txt", "1/a/artifacts"]


@pytest.fixture
def connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Give what starts a server over one folder anew, and returns a client of it."""
    from spacewarps.team.bucket import S3Server

    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    servers: list[S3Server] = []

    def connect(key: str = KEY) -> Any:
        for server in servers:
            server.__exit__()
        servers[:] = [S3Server(tmp_path / "bucket", KEY)]
        return boto3.client(
            "s3",
            endpoint_url=servers[0].address,
            aws_access_key_id=key,
            aws_secret_access_key="a word",
            region_name="us-east-1",
        )

    yield connect
    for server in servers:
        server.__exit__()


def objects(client: Any) -> dict[str, bytes]:
    found = client.list_objects_v2(Bucket=BUCKET).get("Contents", [])
    return {each["Key"]: client.get_object(Bucket=BUCKET, Key=each["Key"])["Body"].read() for each in found}


def test_objects_are_there_again_after_a_start_over_the_same_folder(connect: Callable[..., Any]) -> None:
    client = connect()
    for name in NAMES:
        client.put_object(Bucket=BUCKET, Key=name, Body=b"first")
        client.put_object(Bucket=BUCKET, Key=name, Body=f"{name}\nsecond".encode())
    expected = {name: f"{name}\nsecond".encode() for name in NAMES}
    assert objects(client) == expected
    assert objects(connect()) == expected


def test_what_was_deleted_does_not_come_back(connect: Callable[..., Any]) -> None:
    client = connect()
    for name in ("a", "b", "c", "d"):
        client.put_object(Bucket=BUCKET, Key=name, Body=b"")
    client.delete_object(Bucket=BUCKET, Key="a")
    client.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "b"}, {"Key": "c"}]})
    assert objects(connect()) == {"d": b""}


def test_a_large_file_that_comes_in_parts_is_kept_whole(connect: Callable[..., Any], tmp_path: Path) -> None:
    content = bytes(range(256)) * 4 * 10_240
    (tmp_path / "large").write_bytes(content)
    # Above eight million bytes, the client sends a file in parts.
    connect().upload_file(str(tmp_path / "large"), BUCKET, "large")
    assert objects(connect()) == {"large": content}


def test_who_has_another_key_gets_and_changes_nothing(connect: Callable[..., Any]) -> None:
    connect().put_object(Bucket=BUCKET, Key="a", Body=b"mine")
    stranger = connect("another-key")
    for ask in (stranger.get_object, stranger.delete_object, stranger.put_object):
        with pytest.raises(stranger.exceptions.ClientError, match="AccessDenied"):
            ask(Bucket=BUCKET, Key="a")
    assert objects(connect()) == {"a": b"mine"}


def test_an_address_that_was_signed_leads_to_the_object(connect: Callable[..., Any]) -> None:
    client = connect()
    client.put_object(Bucket=BUCKET, Key="a b", Body=b"mine")
    address = client.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "a b"})
    with urllib.request.urlopen(address) as answer:
        assert answer.read() == b"mine"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(address.partition("?")[0])
