"""The cutout services that are known by name: how each is asked, and where that is documented.

All take a position in degrees (ICRS) and give a square image around it, north up.
"""

import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from spacewarps.archives.faults import FetchError, NoImageError, PassingError, RefusedError

if TYPE_CHECKING:
    from spacewarps.archives.settings import FetchSettings

#: Returns what a function makes of the text at an address; it is asked for again if the function raises a PassingError.
Ask = Callable[[str, Callable[[str], Mapping[str, str]]], Mapping[str, str]]

_PLACEHOLDERS = ("id", "ra", "dec", "size", "band")
_PANSTARRS = "https://ps1images.stsci.edu/cgi-bin"
_SDSS = "https://skyserver.sdss.org/{release}/SkyServerWS/ImgCutout/getjpeg"
_LEGACY = "https://www.legacysurvey.org/viewer"
# Nothing that the archive lists may turn the address into another one.
_IMAGE = re.compile(r"/[\w./+-]+\.fits")
_COLOURS = ("red", "green", "blue")


@dataclass(frozen=True)
class Target:
    """What a cutout is centred on: an id, and right ascension and declination in degrees."""

    id: str
    ra: float
    dec: float


@dataclass(frozen=True)
class Cutout:
    """One file of a target.

    Args:
        url: where it is; of Pan-STARRS without the images that it is cut from.
        band: of the one channel that it holds; empty where it holds all.
        side: how many pixels a side it must have; None where that is not known.
        channels: how many channels it must have; None where that is not known.
    """

    url: str
    band: str = ""
    side: int | None = None
    channels: int | None = None


@dataclass(frozen=True)
class Service:
    """What an archive's cutout service gives, and how it is asked.

    Args:
        formats: of the files.
        bands: the names that it has; none if it has one set of them for all.
        in_colour: how many bands a picture may be made of.
        sides: the fewest and the most pixels a side.
        arcsec_per_pixel: the survey's own scale.
        is_resampled: whether it gives other scales, too.
        release: the one that is asked if none is named; None if it has only one.
        cutouts: the files of a target.
        find: asks where the files of a target are, if the service has to be asked first; a fault stands in the place
            of a file that it has not.
        is_black_outside: whether it gives a picture, black but for some words, where the survey has not been.
    """

    formats: tuple[str, ...]
    bands: str
    in_colour: tuple[int, ...]
    sides: tuple[int, int]
    arcsec_per_pixel: float
    is_resampled: bool
    release: str | None
    cutouts: "Callable[[Target, FetchSettings], list[Cutout]]"
    find: "Callable[[Target, Sequence[Cutout], FetchSettings, Ask], list[str | FetchError]] | None" = None
    is_black_outside: bool = False


def cutouts_of(target: Target, how: "FetchSettings") -> list[Cutout]:
    """Return the files that the service has to give for ``target``."""
    return SERVICES[how.service].cutouts(target, how) if how.service in SERVICES else _of_template(target, how)


def placeholders_in(template: str) -> list[str]:
    """Return the names in braces that a template of a URL has.

    Raises:
        ValueError: it has others than those that are filled in, or braces that do not match.
    """
    names = []
    for _, name, form, conversion in string.Formatter().parse(template):
        if name is None:
            continue
        if name not in _PLACEHOLDERS or form or conversion:
            raise ValueError(f"template must have no other names in braces than {', '.join(_PLACEHOLDERS)}")
        names.append(name)
    return names


def _of_template(target: Target, how: "FetchSettings") -> list[Cutout]:
    assert how.template is not None
    fixed = {"id": target.id, **_position(target), "size": str(how.size)}
    return [
        Cutout(
            how.template.format_map(
                {name: quote(value, safe="", errors="replace") for name, value in (fixed | {"band": band}).items()}
            ),
            band,
        )
        for band in how.bands or ("",)
    ]


def _position(target: Target) -> dict[str, str]:
    # A tenth of a milliarcsecond.
    return {"ra": f"{target.ra % 360:.7f}", "dec": f"{target.dec:.7f}"}


def _panstarrs_cutouts(target: Target, how: "FetchSettings") -> list[Cutout]:
    url = f"{_PANSTARRS}/fitscut.cgi?{urlencode({**_position(target), 'size': how.size, 'format': how.format})}"
    if how.format == "fits":
        return [Cutout(url, band, how.size, 1) for band in how.bands]
    return [Cutout(url, side=how.size)]


def _panstarrs_images(
    target: Target, cutouts: Sequence[Cutout], how: "FetchSettings", ask: Ask
) -> list[str | FetchError]:
    asked = {**_position(target), "filters": "".join(how.bands), "type": "stack"}
    images = ask(f"{_PANSTARRS}/ps1filenames.py?{urlencode(asked)}", _images_by_band)
    found: list[str | FetchError] = []
    for cutout in cutouts:
        bands = [cutout.band] if cutout.band else how.bands
        absent = [band for band in bands if band not in images]
        if absent:
            found.append(NoImageError(f"no image there in the band {absent[0]}"))
        else:
            # A picture of one band is grey: it has no more than red.
            cut = urlencode({colour: images[band] for colour, band in zip(_COLOURS, bands, strict=False)}, safe="/")
            found.append(f"{cutout.url}&{cut}")
    return found


def _images_by_band(listed: str) -> Mapping[str, str]:
    """Return the first image of each band that ``ps1filenames.py`` lists, one a line, below a line of names."""
    header, *lines = [line.split() for line in listed.splitlines() if line.strip()] or [[]]
    if not {"filter", "type", "filename"} <= set(header):
        raise PassingError("list of images that is none")
    images: dict[str, str] = {}
    for line in lines:
        row = dict(zip(header, line, strict=False))
        if row.get("type") == "stack" and {"filter", "filename"} <= row.keys():
            images.setdefault(row["filter"], row["filename"])
    for image in images.values():
        if not _IMAGE.fullmatch(image) or ".." in image:
            raise RefusedError("list of images with a name that is no image's")
    return images


def _sdss_cutouts(target: Target, how: "FetchSettings") -> list[Cutout]:
    asked = {**_position(target), "scale": f"{how.scale:.6g}", "width": how.size, "height": how.size}
    return [Cutout(f"{_SDSS.format(release=how.release_or_default)}?{urlencode(asked)}", side=how.size)]


def _legacy_cutouts(target: Target, how: "FetchSettings") -> list[Cutout]:
    asked = {
        **_position(target),
        "layer": how.release_or_default,
        "pixscale": f"{how.scale:.6g}",
        "size": how.size,
        "bands": "".join(how.bands),
    }
    kind, channels = ("fits", len(how.bands)) if how.format == "fits" else ("jpeg", None)
    return [Cutout(f"{_LEGACY}/{kind}-cutout?{urlencode(asked)}", side=how.size, channels=channels)]


#: By the name that params have for it.
SERVICES = {
    # https://outerspace.stsci.edu/display/PANSTARRS/PS1+Image+Cutout+Service: ps1filenames.py lists the stacked images
    # at a position, fitscut.cgi cuts a square of so many pixels out of them. A picture in colour takes three, as red,
    # green and blue. Where nothing was measured, FITS has NaN.
    "panstarrs": Service(
        formats=("fits", "jpg", "png"),
        bands="grizy",
        in_colour=(1, 3),
        sides=(1, 2048),
        arcsec_per_pixel=0.25,
        is_resampled=False,
        release=None,
        cutouts=_panstarrs_cutouts,
        find=_panstarrs_images,
    ),
    # https://skyserver.sdss.org/dr16/en/help/docs/api.aspx, and tools/chart/chartinfo.aspx there: scale is in
    # arcseconds a pixel, width and height are 64 to 2048 pixels, and what is beyond becomes the nearest. A picture of
    # the bands i, r and g as red, green and blue.
    "sdss": Service(
        formats=("jpg",),
        bands="",
        in_colour=(0,),
        sides=(64, 2048),
        arcsec_per_pixel=0.396127,
        is_resampled=True,
        release="dr18",
        cutouts=_sdss_cutouts,
        is_black_outside=True,
    ),
    # https://www.legacysurvey.org/dr10/description/#obtaining-images-and-raw-data, and the service's own code
    # (map/views.py of legacysurvey/imagine): pixscale is in arcseconds a pixel; what is larger than 3000 pixels becomes
    # that. FITS has a plane for each band; if one of them is not in the layer, it has all those of the layer instead.
    "legacysurvey": Service(
        formats=("fits", "jpg"),
        bands="griz",
        in_colour=(3, 4),
        sides=(1, 2048),
        arcsec_per_pixel=0.262,
        is_resampled=True,
        release="ls-dr10",
        cutouts=_legacy_cutouts,
    ),
}
