from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from spacewarps.archives.services import SERVICES, Target, cutouts_of
from spacewarps.archives.settings import FetchSettings, PositionColumns
from spacewarps.settings import SettingsError
from spacewarps.survey.readers import READERS
from spacewarps.survey.settings import MAX_SIDE
from tests.complaints import complaint


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"service": "hst"}, "service is 'hst', but input should be 'none', 'panstarrs', 'sdss', 'legacysurvey' or"),
        ({"service": "panstarrs"}, "bands must name some of g, r, i, z, y where service is panstarrs, but got none"),
        ({"service": "panstarrs", "bands": ["u"]}, "bands must be some of g, r, i, z, y"),
        ({"service": "panstarrs", "bands": ["g", "r"], "format": "jpg"}, "must hold 1 or 3 names for a picture"),
        ({"service": "panstarrs", "bands": ["g", "g"]}, "bands must differ from each other"),
        ({"service": "panstarrs", "bands": ["g"], "arcsec_per_pixel": 0.5}, "which has pixels of 0.25"),
        ({"service": "panstarrs", "bands": ["g"], "release": "dr2"}, "release must be null"),
        ({"service": "sdss"}, "format must be jpg where service is sdss, but got fits"),
        ({"service": "sdss", "format": "jpg", "bands": ["g"]}, "bands must hold 0 names for a picture of sdss"),
        ({"service": "sdss", "format": "jpg", "size": 63}, "size must be from 64 to 2048"),
        ({"service": "sdss", "format": "jpg", "release": "../x"}, "release is '../x'"),
        ({"service": "legacysurvey", "bands": ["g", "W1"]}, "bands must be some of g, r, i, z"),
        ({"service": "sdss", "format": "jpg", "template": "https://a.b/{id}"}, "template must be null"),
        ({"service": "template"}, "template must be a URL where service is template, but got null"),
        ({"service": "template", "template": "ftp://a.b/{id}"}, "begins with http:// or https://"),
        ({"service": "template", "template": "file:///etc/{id}"}, "begins with http:// or https://"),
        ({"service": "template", "template": "https://{id}.a.b/"}, "begins with http:// or https://"),
        ({"service": "template", "template": "https://a.b:{id}/"}, "begins with http:// or https://"),
        ({"service": "template", "template": "https://me:word@a.b/{id}"}, "without a user, a password"),
        ({"service": "template", "template": "https://a.b/{id} "}, "spaces"),
        ({"service": "template", "template": "https://a.b:99999/{id}"}, "Port out of range"),
        (
            {"service": "template", "template": "https://a.b/{id.__class__}"},
            "no other names in braces than id, ra, dec",
        ),
        ({"service": "template", "template": "https://a.b/{id!r}"}, "no other names in braces"),
        ({"service": "template", "template": "https://a.b/{id:>9999}"}, "no other names in braces"),
        ({"service": "template", "template": "https://a.b/{}"}, "no other names in braces"),
        ({"service": "template", "template": "https://a.b/{id"}, "expected '}'"),
        ({"service": "template", "template": "https://a.b/{ra}"}, "template must have {id}, or {ra} and {dec}"),
        ({"service": "template", "template": "https://a.b/{id}{band}"}, "must have {band} if bands names some"),
        ({"service": "template", "template": "https://a.b/{id}", "bands": ["g"]}, "must have {band} if bands"),
        ({"service": "template", "template": "https://a.b/{id}{band}", "bands": ["a/b"]}, "bands.0 is 'a/b'"),
        ({"service": "template", "template": "https://a.b/{id}", "release": "x"}, "write it into the template"),
        ({"per_second": 0}, "per_second is 0, but input should be greater than 0"),
        ({"per_second": 1000}, "per_second is 1000, but input should be less than or equal to 20"),
        ({"connections": 100}, "connections is 100, but input should be less than or equal to 8"),
        ({"tries": 0}, "tries is 0"),
        ({"timeout_seconds": 0}, "timeout_seconds is 0"),
        ({"size": MAX_SIDE + 1}, f"size is {MAX_SIDE + 1}"),
    ],
)
def test_what_an_archive_cannot_be_asked_is_refused(values: dict[str, Any], told: str) -> None:
    assert told in complaint(SettingsError, FetchSettings, **values)


def test_an_id_and_a_position_are_columns_of_their_own() -> None:
    assert "must be different columns" in complaint(SettingsError, PositionColumns, "x", "ra", "x")


def test_what_a_service_gives_the_survey_can_read() -> None:
    for name, service in SERVICES.items():
        assert {f".{form}" for form in service.formats} <= READERS.keys(), name
        assert service.sides[1] <= MAX_SIDE


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"service": "panstarrs", "bands": ["g", "r"], "size": 48},
            [("ps1images.stsci.edu", "/cgi-bin/fitscut.cgi", band, {"size": "48", "format": "fits"}) for band in "gr"],
        ),
        (
            {"service": "panstarrs", "bands": ["i", "r", "g"], "format": "png"},
            [("ps1images.stsci.edu", "/cgi-bin/fitscut.cgi", "", {"size": "64", "format": "png"})],
        ),
        (
            {"service": "sdss", "format": "jpg", "release": "dr17", "arcsec_per_pixel": 0.2},
            [
                (
                    "skyserver.sdss.org",
                    "/dr17/SkyServerWS/ImgCutout/getjpeg",
                    "",
                    {"scale": "0.2", "width": "64", "height": "64"},
                )
            ],
        ),
        (
            {"service": "legacysurvey", "bands": ["g", "r", "z"], "release": "ls-dr9"},
            [
                (
                    "www.legacysurvey.org",
                    "/viewer/fits-cutout",
                    "",
                    {"layer": "ls-dr9", "pixscale": "0.262", "size": "64", "bands": "grz"},
                )
            ],
        ),
        (
            {"service": "legacysurvey", "bands": ["g", "r", "z"], "format": "jpg"},
            [
                (
                    "www.legacysurvey.org",
                    "/viewer/jpeg-cutout",
                    "",
                    {"layer": "ls-dr10", "pixscale": "0.262", "size": "64", "bands": "grz"},
                )
            ],
        ),
        (
            {"service": "template", "template": "http://a.b:8080/{band}?r={ra}&d={dec}&s={size}", "bands": ["J"]},
            [("a.b:8080", "/J", "J", {"r": "359.5000000", "d": "-0.0000010", "s": "64"})],
        ),
    ],
)
def test_each_service_is_asked_as_it_is_documented(
    values: dict[str, Any], expected: list[tuple[str, str, str, dict[str, str]]]
) -> None:
    found = []
    for cutout in cutouts_of(Target("a", -0.5, -1e-6), FetchSettings(**values)):
        url = urlsplit(cutout.url)
        asked = {name: value for name, (value,) in parse_qs(url.query).items()}
        if values["service"] != "template":
            assert url.scheme == "https"
            assert (asked.pop("ra"), asked.pop("dec")) == ("359.5000000", "-0.0000010")
        found.append((url.netloc, url.path, cutout.band, asked))
    assert found == expected
