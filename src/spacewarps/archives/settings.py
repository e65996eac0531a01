"""Which stamps are fetched from an archive, and how it is asked."""

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field

from spacewarps.archives.services import SERVICES, Service, placeholders_in
from spacewarps.settings import OneOf, Several, Share, settings
from spacewarps.survey.settings import MAX_CHANNELS, MAX_SIDE

# No file's name may depend on where it ends.
_Band = Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,20}$")]


@settings
class PositionColumns:
    """The catalogue's names for the id and the position in degrees (ICRS).

    Raises:
        SettingsError: two of the names are the same.
    """

    id: str = "id"
    ra: str = "ra"
    dec: str = "dec"

    def __post_init__(self) -> None:
        if len({self.id, self.ra, self.dec}) < 3:
            raise ValueError(f"id, ra and dec must be different columns, but got {self.id!r:.40} for two of them")


@settings
class FetchSettings:
    """Which stamps are fetched from an archive, and how it is asked.

    Args:
        service: one that is known by name, ``template``, or ``none``.
        template: a URL with names in braces: ``{id}``, ``{ra}``, ``{dec}``, ``{size}``, ``{band}``.
        release: of SDSS a data release, of the Legacy Surveys a layer; without it the service's default.
        bands: of a picture in colour those that become red, green and blue.
        format: of the files.
        size: pixels a side.
        arcsec_per_pixel: the scale; without it the survey's own.
        per_second: the most requests a second.
        connections: how many answers are waited for at once.
        tries: how often one thing is asked for, until it is given up.
        timeout_seconds: how long an answer may take.
        max_hours: how long all of it may take.
        max_failed_fraction: the largest share of targets that may be given up; those that the archive has no image of
            do not count.

    Raises:
        SettingsError: an argument is out of range, or two do not go together.
    """

    service: Annotated[str, OneOf(("none", *SERVICES, "template"))] = "none"
    template: Annotated[str, Field(max_length=2000)] | None = None
    release: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,60}$")] | None = None
    bands: Annotated[tuple[_Band, ...], Several, Field(max_length=MAX_CHANNELS)] = ()
    format: Literal["fits", "jpg", "png"] = "fits"
    size: Annotated[int, Field(ge=1, le=MAX_SIDE)] = 64
    arcsec_per_pixel: Annotated[float, Field(gt=0, le=60)] | None = None
    per_second: Annotated[float, Field(gt=0, le=20)] = 2.0
    connections: Annotated[int, Field(ge=1, le=8)] = 2
    tries: Annotated[int, Field(ge=1, le=20)] = 5
    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0
    max_hours: Annotated[float, Field(gt=0, le=1000)] = 24.0
    max_failed_fraction: Share = 0.05

    def __post_init__(self) -> None:
        if len(set(self.bands)) != len(self.bands):
            raise ValueError(f"bands must differ from each other, but got {list(self.bands)}")
        if self.service == "template":
            _check_template(self.template, self.bands)
            others = {"release": self.release, "arcsec_per_pixel": self.arcsec_per_pixel}
            if named := next((name for name, value in others.items() if value is not None), None):
                raise ValueError(f"{named} must be null where service is template; write it into the template")
        elif self.template is not None:
            raise ValueError(f"template must be null where service is {self.service}, which has an address of its own")
        if self.service in SERVICES:
            _check_service(self, SERVICES[self.service])

    @property
    def scale(self) -> float:
        """Arcseconds a pixel, of a service that is known by name."""
        return self.arcsec_per_pixel or SERVICES[self.service].arcsec_per_pixel

    @property
    def release_or_default(self) -> str:
        """The release that is asked, of a service that has several."""
        return self.release or SERVICES[self.service].release or ""


def _check_service(how: FetchSettings, service: Service) -> None:
    name = how.service
    if how.format not in service.formats:
        raise ValueError(f"format must be {' or '.join(service.formats)} where service is {name}, but got {how.format}")
    strange = [band for band in how.bands if band not in tuple(service.bands)]
    if strange and service.bands:
        raise ValueError(
            f"bands must be some of {', '.join(service.bands)} where service is {name}, but got {strange[0]}"
        )
    if how.format == "fits" and not how.bands:
        raise ValueError(f"bands must name some of {', '.join(service.bands)} where service is {name}, but got none")
    if how.format != "fits" and len(how.bands) not in service.in_colour:
        allowed = " or ".join(str(count) for count in service.in_colour)
        raise ValueError(f"bands must hold {allowed} names for a picture of {name}, but got {len(how.bands)}")
    least, most = service.sides
    if not least <= how.size <= most:
        raise ValueError(f"size must be from {least} to {most} where service is {name}, but got {how.size}")
    if how.release is not None and service.release is None:
        raise ValueError(f"release must be null where service is {name}, which has only one")
    if how.arcsec_per_pixel is not None and not service.is_resampled:
        raise ValueError(
            f"arcsec_per_pixel must be null where service is {name}, which has pixels of {service.arcsec_per_pixel:g}"
        )


def _check_template(template: str | None, bands: tuple[str, ...]) -> None:
    if template is None:
        raise ValueError("template must be a URL where service is template, but got null")
    # Nothing that a catalogue holds may decide which machine is asked.
    if not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?/[!-\"$-~]*", template):
        raise ValueError(
            "template must be a URL that begins with http:// or https:// and the name of a machine, without a user, a "
            "password, spaces, # and names in braces there"
        )
    urlsplit(template).port  # noqa: B018 - raises a ValueError
    names = placeholders_in(template)
    if "id" not in names and not {"ra", "dec"} <= set(names):
        raise ValueError("template must have {id}, or {ra} and {dec}")
    if ("band" in names) != bool(bands):
        raise ValueError("template must have {band} if bands names some, and only then")
