import gzip
import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spacewarps.archives import fetch as module
from spacewarps.archives.fetch import Fetched
from tests.archives.archive import SIDE, Archive, Behaviour, Request, by_id, in_turn, picture, pixels, stamp
from tests.archives.conftest import Fetch
from tests.survey.stamp_files import in_fits

GOOD: Behaviour = lambda request: request.answer(stamp())  # noqa: E731


def status(number: int, **headers: str) -> Behaviour:
    return lambda request: request.answer(b"<html>no</html>", number, **headers)


def says(content: bytes, **headers: str) -> Behaviour:
    return lambda request: request.answer(content, 200, **headers)


def breaks_off(request: Request) -> None:
    request.answer(stamp()[:3000], Content_Length=str(len(stamp())))
    request.close_connection = True


def without_a_length(content: bytes) -> Behaviour:
    def behave(request: Request) -> None:
        request.send_response(200)
        request.end_headers()
        request.wfile.write(content)
        request.close_connection = True

    return behave


def endless(sent: list[int]) -> Behaviour:
    def behave(request: Request) -> None:
        request.send_response(200)
        request.end_headers()
        request.close_connection = True
        try:
            while True:
                sent.append(request.wfile.write(bytes(1 << 16)))
        except OSError:
            pass

    return behave


def trickles(head: bool) -> Behaviour:
    """Send a byte now and then: of the header, or of the body."""

    def behave(request: Request) -> None:
        if not head:
            request.send_response(200)
            request.send_header("Content-Length", "100000")
            request.end_headers()
        request.close_connection = True
        try:
            for number in range(1000):
                request.wfile.write(b"HTTP/1.1 200 OK\r\nX: "[number : number + 1] or b"x" if head else b"x")
                time.sleep(0.05)
        except OSError:
            pass

    return behave


def reason(fetched: Fetched) -> str:
    (row,) = fetched.without
    assert row[0] == "a"
    return row[1]


def test_each_target_has_its_stamp_and_the_table_says_where_it_is_from(fetch: Fetch, archive: Archive) -> None:
    fetched = fetch("b", "a", "c")
    assert [row[:3] for row in fetched.rows] == [(key, "", f"{key}.fits") for key in "abc"]
    assert {row[3] for row in fetched.rows} == {hashlib.sha256(stamp()).hexdigest()}
    assert fetched.rows[0][4] == f"{archive.address}/cut?id=a&ra=11.0000000&dec=-5.0000000"
    assert (fetched.without, fetched.given_up, fetched.asked) == ([], 0, 3)
    assert len(archive.requests) == 3
    (agent,) = archive.agents
    assert agent.startswith("spacewarps python-requests/")


@pytest.mark.parametrize(
    "first",
    [
        status(500),
        status(502),
        status(429),
        status(503, Retry_After="nonsense"),
        breaks_off,
        without_a_length(stamp()[:3000]),
        says(b"<!DOCTYPE html><html>please wait</html>"),
        says(stamp(side=SIDE)[:-2880] + b"x"),
        says(b""),
    ],
)
def test_what_may_pass_is_asked_for_again(fetch: Fetch, archive: Archive, first: Behaviour) -> None:
    archive.behave = in_turn(first, GOOD)
    fetched = fetch()
    assert [row[0] for row in fetched.rows] == ["a"]
    assert (fetched.without, len(archive.requests)) == ([], 2)


@pytest.mark.parametrize(
    ("always", "told"),
    [
        (status(500), "status 500 (asked 3 times)"),
        (breaks_off, "answer that broke off (asked 3 times)"),
        (says(b"<html>sorry</html>"), "(asked 3 times)"),
        (says(gzip.compress(bytes(1 << 27), 1), Content_Encoding="gzip"), "(asked 3 times)"),
        (says(in_fits(pixels(side=9)), Content_Type="image/fits"), None),
    ],
)
def test_what_stays_wrong_is_given_up_and_listed(
    fetch: Fetch, archive: Archive, always: Behaviour, told: str | None
) -> None:
    archive.behave = always
    start = time.monotonic()
    fetched = fetch()
    assert time.monotonic() - start < 5
    if told is None:
        # A template does not say what its sizes mean.
        assert fetched.without == []
    else:
        assert told in reason(fetched)
        assert (fetched.rows, fetched.given_up, len(archive.requests)) == ([], 1, 3)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (status(404), "no image there (status 404)"),
        (status(204), "no image there (status 204)"),
        (says(in_fits(np.zeros((SIDE, SIDE), np.float32))), "no image there (a blank one)"),
        (says(in_fits(np.full((SIDE, SIDE), np.nan, np.float32))), "no image there (most of it is masked)"),
    ],
)
def test_what_the_archive_has_no_image_of_is_listed_and_asked_for_once(
    fetch: Fetch, archive: Archive, answer: Behaviour, told: str
) -> None:
    archive.behave = answer
    fetched = fetch()
    assert reason(fetched) == told
    assert (fetched.rows, fetched.given_up, len(archive.requests)) == ([], 0, 1)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (status(403), "status 403"),
        (says(b"x", Content_Length="99999999999"), "answer of more than 68,157,440 bytes"),
        (status(302, Location="file:///etc/passwd"), "redirection to another machine"),
        (status(302, Location="http://169.254.169.254/latest"), "redirection to another machine"),
        (status(302, Location="http://user:word@127.0.0.1/"), "redirection to another machine"),
        (status(301), "redirection to another machine"),
        (status(307, Location="/again"), "more than 5 redirections"),
    ],
)
def test_what_is_refused_is_not_asked_for_again(fetch: Fetch, archive: Archive, answer: Behaviour, told: str) -> None:
    archive.behave = answer
    fetched = fetch()
    assert reason(fetched).startswith(told)
    assert (fetched.rows, fetched.given_up) == ([], 1)
    assert len(archive.requests) == (6 if "more than 5" in told else 1)


def test_a_redirection_on_the_same_machine_is_followed(fetch: Fetch, archive: Archive) -> None:
    archive.behave = in_turn(status(302, Location="/elsewhere"), GOOD)
    fetched = fetch()
    assert archive.requests[1] == "/elsewhere"
    assert "/cut?id=a" in fetched.rows[0][4]


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 999999 x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nthis is no header\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 3000,
        b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:99999/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 No\r\nRetry-After: soon\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 No\r\nRetry-After: Wed, 21 Oct 1015 07:28:00 GMT\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 No\r\nRetry-After: " + b"9" * 5000 + b"\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=range(13),
)
def test_an_answer_that_is_none_of_http_is_a_reason_and_says_nothing_else(
    fetch: Fetch, archive: Archive, capfd: pytest.CaptureFixture[str], sent: bytes
) -> None:
    def behave(request: Request) -> None:
        request.close_connection = True
        request.wfile.write(sent)

    archive.behave = behave
    told = reason(fetch(tries=1))
    assert told.startswith("status 503") or b" 503 " not in sent
    assert capfd.readouterr() == ("", "")


def test_an_endless_answer_ends_at_the_most_that_a_stamp_can_have(
    fetch: Fetch, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1 << 20)
    sent: list[int] = []
    archive.behave = endless(sent)
    assert reason(fetch()) == "answer of more than 1,048,576 bytes"
    # The system's buffers hold some more.
    assert sum(sent) < 1 << 25


@pytest.mark.parametrize("head", [True, False])
def test_an_answer_that_trickles_in_is_not_waited_for(fetch: Fetch, archive: Archive, head: bool) -> None:
    archive.behave = trickles(head)
    start = time.monotonic()
    fetched = fetch(timeout_seconds=0.3, tries=2)
    assert time.monotonic() - start < 3
    assert "(asked 2 times)" in reason(fetched)


def test_over_tls_the_same_holds_for_those_that_can_be_trusted(
    fetch: Fetch, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.encrypt(tmp_path / "certificate.pem")
    assert reason(fetch(tries=1)) == "no connection that can be trusted (TLS)"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "certificate.pem"))
    archive.behave = trickles(head=True)
    start = time.monotonic()
    assert reason(fetch(tries=1, timeout_seconds=0.3))
    assert time.monotonic() - start < 3
    archive.behave = status(302, Location=archive.address.replace("https:", "http:"))
    assert reason(fetch()).startswith("redirection to another machine")
    archive.behave = GOOD
    assert len(fetch().rows) == 1


def test_the_archive_is_left_alone_for_as_long_as_it_says(fetch: Fetch, archive: Archive) -> None:
    archive.behave = in_turn(status(429, Retry_After="1"), GOOD)
    fetched = fetch("a", "b", "c", connections=1)
    assert len(fetched.rows) == 3
    assert archive.times[1] - archive.times[0] >= 0.99


def test_an_archive_that_wants_to_be_left_alone_for_long_is_not_asked_for_the_rest(
    fetch: Fetch, archive: Archive
) -> None:
    archive.behave = in_turn(GOOD, status(429, Retry_After="5000"))
    fetched = fetch("a", "b", "c", "d", connections=1)
    assert len(archive.requests) == 2
    told = "status 429, and not to be asked for 5,000 s"
    assert fetched.reasons() == {told: 1, f"not asked for, as the archive is to be left alone ({told})": 2}
    assert (len(fetched.rows), fetched.given_up) == (1, 3)


def test_no_more_requests_a_second_are_sent_than_allowed_repeated_ones_among_them(
    fetch: Fetch, archive: Archive
) -> None:
    failures = [status(500)] * 4
    archive.behave = in_turn(*failures, GOOD)
    fetched = fetch(*"abcdefgh", per_second=20.0, connections=4, tries=5)
    assert (len(fetched.rows), len(archive.times)) == (8, 12)
    # By the archive's clock, to which a request may be on its way for a moment.
    assert archive.times[-1] - archive.times[0] >= 11 / 20 - 0.03
    for first, third in zip(archive.times, archive.times[2:], strict=False):
        assert third - first >= 2 / 20 - 0.04


def test_no_more_answers_are_waited_for_at_once_than_allowed(fetch: Fetch, archive: Archive) -> None:
    def slow(request: Request) -> None:
        time.sleep(0.2)
        request.answer(stamp())

    archive.behave = slow
    fetch(*"abcdef", connections=2)
    assert archive.most_at_once == 2


def test_what_is_there_is_not_asked_for_again(fetch: Fetch, archive: Archive, tmp_path: Path) -> None:
    archive.behave = by_id(b=status(500))
    first = fetch("a", "b", "c")
    assert [row[0] for row in first.rows] == ["a", "c"]
    archive.requests.clear()
    archive.behave = GOOD
    second = fetch("a", "b", "c")
    assert archive.ids() == ["b"]
    assert (len(second.rows), second.asked) == (3, 1)
    assert second.rows[0] == first.rows[0]
    # As a table of an earlier run has it; other bytes, and what was asked for otherwise, are not what is wanted.
    archive.requests.clear()
    for path in (tmp_path / "store").glob("*.json"):
        path.unlink()
    second.stamps[first.rows[0][-1]].path.write_bytes(stamp(seed=1))
    third = fetch("a", "b", "c", earlier=second.stamps)
    assert archive.ids() == ["a"]
    assert [row[3] for row in third.rows] == [row[3] for row in second.rows]
    archive.requests.clear()
    fetch("a", "b", "c", earlier=third.stamps, template=f"{archive.address}/other?id={{id}}")
    assert sorted(archive.ids()) == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["../a", "a/b", "a\\b", ".hidden", "x" * 260])
def test_an_id_that_leads_out_of_the_folder_is_listed_and_not_asked_for(
    fetch: Fetch, archive: Archive, name: str
) -> None:
    fetched = fetch(name, "a")
    assert [row[0] for row in fetched.rows] == ["a"]
    assert fetched.without[0][1].startswith("id that is ")
    assert archive.ids() == ["a"]


def test_an_id_cannot_change_what_is_asked(fetch: Fetch, archive: Archive) -> None:
    fetched = fetch("a&ra=1#?é %")
    assert archive.ids() == ["a&ra=1#?é %"]
    assert fetched.rows[0][2] == "a&ra=1#?é %.fits"


def test_an_archive_that_is_down_is_not_asked_for_every_target(fetch: Fetch, archive: Archive) -> None:
    archive.behave = status(403)
    ids = [f"{number}" for number in range(40)]
    fetched = fetch(*ids, connections=1, per_second=20.0, tries=1)
    assert len(archive.requests) < 40
    assert len(fetched.without) == fetched.given_up == 40
    assert "not asked for, as 25 targets in a row were given up (status 403)" in fetched.reasons()


def test_what_is_not_there_is_no_sign_that_the_archive_is_down(fetch: Fetch, archive: Archive) -> None:
    archive.behave = status(404)
    fetched = fetch(*(f"{number}" for number in range(30)))
    assert (len(archive.requests), fetched.given_up) == (30, 0)


def test_the_work_ends_when_its_time_is_over(fetch: Fetch) -> None:
    fetched = fetch(*(f"{number}" for number in range(40)), max_hours=0.5 / 3600)
    assert 0 < len(fetched.rows) < 40
    assert len(fetched.rows) + fetched.given_up == 40
    assert [*fetched.reasons()] == ["not asked for, as the 0.000138889 hours allowed were over"]


def test_a_full_disk_ends_the_work(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        fetch("a", "b")


def test_no_password_of_netrc_and_no_cookie_is_sent(
    fetch: Fetch, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    seen = []

    def behave(request: Request) -> None:
        seen.append((request.headers["Authorization"], request.headers["Cookie"]))
        request.answer(stamp(), Set_Cookie="session=1")

    archive.behave = behave
    fetch("a", "b", connections=1)
    assert seen == [(None, None)] * 2


def colours(change: Callable[[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]], object]) -> bytes:
    drawn = np.random.default_rng(0).integers(1, 255, (64, 64, 3)).astype(np.uint8)
    change(drawn)
    return picture(drawn)


def blacken(drawn: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    drawn[:, 8:] = 0


def test_a_picture_of_sdss_that_is_black_but_for_words_is_no_image(
    fetch: Fetch, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spacewarps.archives.services._SDSS", f"{archive.address}/{{release}}/getjpeg")
    how = {"service": "sdss", "format": "jpg", "size": 64}
    archive.behave = says(colours(blacken))
    assert reason(fetch(**how)) == "no image there (a blank one)"
    archive.behave = says(colours(lambda _: None))
    fetched = fetch(**how)
    asked = "ra=10.0000000&dec=-5.0000000&scale=0.396127&width=64&height=64"
    assert archive.requests == [f"/dr18/getjpeg?{asked}"] * 2
    assert fetched.rows[0][2] == "a.jpg"


def test_another_size_than_asked_for_is_not_taken(
    fetch: Fetch, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spacewarps.archives.services._LEGACY", archive.address)
    how = {"service": "legacysurvey", "bands": ["g", "r", "z"], "tries": 1}
    archive.behave = says(stamp(3, SIDE + 1))
    assert reason(fetch(**how)) == "stamp of another size than asked for (17 x 17)"
    archive.behave = says(stamp(4))
    assert reason(fetch(**how)) == "stamp of 4 channels, where 3 were asked for"
    archive.behave = says(stamp(3))
    assert len(fetch(**how).rows) == 1
    asked = "ra=10.0000000&dec=-5.0000000&layer=ls-dr10&pixscale=0.262&size=16&bands=grz"
    assert archive.requests == [f"/fits-cutout?{asked}"] * 3


LIST = "projcell subcell ra dec filter mjd type filename shortname badflag\n"


def listed(*bands: str) -> bytes:
    lines = [f"1164 67 83.8 -5.39 {b} 0.0 stack /rings.v3.skycell/1164/067/a.stk.{b}.unconv.fits a 0\n" for b in bands]
    return (LIST + "".join(lines)).encode()


def panstarrs(images: bytes, seen: list[dict[str, str]]) -> Behaviour:
    def behave(request: Request) -> None:
        if request.path.startswith("/ps1filenames.py"):
            request.answer(images)
        else:
            seen.append(request.asked)
            request.answer(
                picture(np.asarray(pixels(side=SIDE)).astype(np.uint8)) if "green" in request.asked else stamp()
            )

    return behave


def test_panstarrs_is_asked_for_its_images_and_then_for_each_band(
    fetch: Fetch, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spacewarps.archives.services._PANSTARRS", archive.address)
    seen: list[dict[str, str]] = []
    archive.behave = panstarrs(listed("g", "r", "i"), seen)
    fetched = fetch(service="panstarrs", bands=["g", "i"])
    assert [row[:3] for row in fetched.rows] == [("a", "g", "a-g.fits"), ("a", "i", "a-i.fits")]
    assert archive.requests[0] == "/ps1filenames.py?ra=10.0000000&dec=-5.0000000&filters=gi&type=stack"
    assert seen[0] == {
        "ra": "10.0000000",
        "dec": "-5.0000000",
        "size": "16",
        "format": "fits",
        "red": "/rings.v3.skycell/1164/067/a.stk.g.unconv.fits",
    }
    # All that is there is not asked for again, and neither is the list.
    archive.requests.clear()
    assert fetch(service="panstarrs", bands=["g", "i"]).rows == fetched.rows
    assert archive.requests == []
    seen.clear()
    fetched = fetch(service="panstarrs", bands=["r", "g", "i"])
    assert [row[1] for row in fetched.rows] == ["r", "g", "i"]
    assert [asked["red"].rpartition(".stk.")[2][:1] for asked in seen] == ["r"]
    seen.clear()
    fetch(service="panstarrs", bands=["i", "r", "g"], format="jpg")
    fetch(service="panstarrs", bands=["r", "i", "g"], format="jpg")
    assert len(seen) == 2
    assert [seen[0][colour].rpartition(".stk.")[2][:1] for colour in ("red", "green", "blue")] == ["i", "r", "g"]


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (listed("g"), "no image there in the band r"),
        (listed(), "no image there in the band g"),
        (b"type filename filter\nstack /a.fits\n", "no image there in the band g"),
        (b"<html>", "list of images that is none (asked 3 times)"),
        (b"\xff\xfe", "list of images that is none (asked 3 times)"),
        (listed("g&ra=1"), "list of images with a name that is no image's"),
        (listed("g").replace(b"/rings", b"http://elsewhere/"), "list of images with a name that is no image's"),
        (listed("g").replace(b"/rings.v3.skycell", b"/../.."), "list of images with a name that is no image's"),
    ],
)
def test_what_panstarrs_does_not_list_is_not_asked_for(
    fetch: Fetch, archive: Archive, monkeypatch: pytest.MonkeyPatch, images: bytes, told: str
) -> None:
    monkeypatch.setattr("spacewarps.archives.services._PANSTARRS", archive.address)
    seen: list[dict[str, str]] = []
    archive.behave = panstarrs(images, seen)
    fetched = fetch(service="panstarrs", bands=["g", "r"])
    assert reason(fetched) == told
    assert len(seen) == ("band r" in told)
    assert [row[2] for row in fetched.rows] == (["a-g.fits"] if seen else [])
