"""How a survey is read, cleaned and split, and how its stamps are augmented."""

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field

from spacewarps.settings import Several, Share, settings
from spacewarps.survey.columns import Columns


@settings
class Shares:
    """Shares of the sources in each split; together they are 1.

    Args:
        train: what networks learn from.
        validation: what decides between them.
        test: what the final one is measured on; with 0 there is no such split.

    Raises:
        SettingsError: one is out of range, or they do not add up.
    """

    train: Annotated[float, Field(gt=0, lt=1)] = 0.6
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.2
    test: Annotated[float, Field(ge=0, lt=1)] = 0.2

    def __post_init__(self) -> None:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train, validation and test must add up to 1, but they add up to {total:g}")

    def by_split(self) -> dict[str, float]:
        """Return the share of each split that there is, in the order in which they are filled."""
        shares = {"train": self.train, "validation": self.validation, "test": self.test}
        return {split: share for split, share in shares.items() if share}


# Larger than any stamp of one source; a file that claims more is damaged or hostile.
MAX_SIDE = 2048
# More than any set of filters has; a cube with more is a spectrum at each pixel.
MAX_CHANNELS = 64

_StampSide = Annotated[int, Field(ge=1, le=MAX_SIDE)]
_Extension = Annotated[int, Field(ge=0, le=99)]
_Band = Annotated[str, Field(pattern=r"^[^/\\\x00-\x20]{1,40}$")]


@settings
class StampSettings:
    """How the files of stamps become stamps of one shape.

    Args:
        stamp_size: pixels a side; stamps of other sizes are cropped or padded around their centre. Without it, those of
            another size than most are left out.
        stamp_centre: what is a stamp's centre when it is cropped or padded: its ``middle``, or the ``position`` of the
            source, by the world coordinates (WCS) of its file.
        cutouts: whether the images are large ones, of which each stamp is cut at the position of its source.
        stamp_index: where one file holds all stamps, the catalogue's column that says which row of the array is whose;
            without it, an HDF5 or Zarr file says it by an array of ids.
        stamp_channels: where an array of all stamps has its channels, ``first`` or ``last`` in each stamp; without it,
            first, if these are fewer than the last axis has.
        stamp_extension: of a FITS file with several images, the number or the name of the one that is read; of a TIFF
            with several pages, the number; of a NumPy archive, HDF5 or Zarr, the name of the array.
        masks: what becomes of pixels that nobody measured: all take the sky of their stamp (``fill``), and with
            ``channel`` a stamp has one more channel, the last, which says which they are: for each pixel the share of
            the delivered channels in which nobody measured it, 1 beyond the edge.
        stamp_bands: where each channel is a file of its own, the names of the bands in the order of the channels: with
            ``g`` and ``r`` the files of an id are ``ID-g.fits`` and ``ID-r.fits``.

    Raises:
        SettingsError: an argument is out of range.
    """

    stamp_size: _StampSide | None = None
    stamp_centre: Literal["middle", "position"] = "middle"
    cutouts: bool = False
    stamp_index: Annotated[str, Field(min_length=1)] | None = None
    stamp_channels: Literal["first", "last"] | None = None
    stamp_extension: _Extension | Annotated[str, Field(min_length=1, max_length=68)] | None = None
    masks: Literal["fill", "channel"] = "fill"
    stamp_bands: Annotated[tuple[_Band, ...], Several, Field(max_length=MAX_CHANNELS)] = ()

    def __post_init__(self) -> None:
        if len(set(self.stamp_bands)) != len(self.stamp_bands):
            raise ValueError(f"stamp_bands must differ from each other, but got {list(self.stamp_bands)}")
        if self.needs_positions and self.stamp_size is None:
            what = "cutouts is true" if self.cutouts else "stamp_centre is position"
            raise ValueError(f"stamp_size must be a number of pixels where {what}, but got None")
        if self.cutouts and self.stamp_index is not None:
            raise ValueError(
                f"stamp_index is {self.stamp_index!r:.80}, but cutouts is true: stamps are rows of an array, or cut "
                "from images; set one of them"
            )

    @property
    def mask_channel(self) -> bool:
        """Whether stamps have their mask behind the channels that were delivered."""
        return self.masks == "channel"

    @property
    def needs_positions(self) -> bool:
        """Whether the place of a source in the sky decides what its stamp is."""
        return self.cutouts or self.stamp_centre == "position"


@settings
class SurveySettings(StampSettings):
    """How a survey is read, cleaned and split; with what :class:`StampSettings` says of its stamps.

    Args:
        columns: the catalogue's names for id, label and position.
        features: the columns that the network sees beside the stamp.
        missing_codes: for each feature that has some, the values that mean that there is none.
        group_radius_arcsec: rows closer than this are one source.
        label_conflicts: ``keep`` or ``drop`` the sources whose rows disagree about the class.
        fraction: the share of each class's sources that is used.
        split: the share of the sources in each split.
        max_bad_fraction: the largest share of rows that may be left out because of faults, and of a feature's values
            that may be no numbers.

    Raises:
        SettingsError: an argument is out of range, or two do not go together.
    """

    columns: Columns = field(default_factory=Columns)
    features: Annotated[tuple[str, ...], Several] = ("z", "z_err")
    missing_codes: Mapping[str, Annotated[tuple[float, ...], Several, Field(min_length=1)]] = field(
        default_factory=dict
    )
    group_radius_arcsec: Annotated[float, Field(ge=0, le=3600)] = 2.0
    label_conflicts: Literal["keep", "drop"] = "keep"
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    split: Shares = field(default_factory=Shares)
    max_bad_fraction: Share = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.features)) != len(self.features):
            raise ValueError(f"features must differ from each other, but got {list(self.features)}")
        if self.needs_positions and self.columns.ra is None:
            what = "cutouts is true" if self.cutouts else "stamp_centre is position"
            raise ValueError(f"columns.ra and columns.dec must be names of columns where {what}, but they are null")
        if self.columns.id in self.features or self.columns.label in self.features:
            raise ValueError(f"features must not hold the id or the label, but got {list(self.features)}")
        stray = next((name for name in self.missing_codes if name not in self.features), None)
        if stray is not None:
            raise ValueError(f"missing_codes must name features, but {stray!r:.80} is none of {list(self.features)}")


@settings
class AugmentationSettings:
    """The strength of each kind of augmentation; 0 switches it off.

    Args:
        rotation_degrees: the largest angle of rotation, either way.
        shift: the largest shift, as a share of the stamp's side.
        scale: the largest change of size, as a share of it.
        shear_degrees: the largest angle of shear, either way.
        flip: the probability of a mirror image, for each axis.
        brightness: the largest offset, in standard deviations of the stamp's own pixels.
        contrast: the largest change of the pixels' spread, as a share of it.
        colour: the same for each channel by itself; without effect on stamps of one channel.
        noise: the largest standard deviation of the added Gaussian noise, in those of the stamp's own pixels.

    Raises:
        SettingsError: an argument is out of range.
    """

    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 180.0
    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.04
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.1
    shear_degrees: Annotated[float, Field(ge=0, le=45)] = 5.0
    flip: Share = 0.5
    brightness: Annotated[float, Field(ge=0, le=10)] = 0.1
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.2
    colour: Annotated[float, Field(ge=0, lt=1)] = 0.1
    noise: Annotated[float, Field(ge=0, le=10)] = 0.1
