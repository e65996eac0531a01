import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image

from spacewarps.survey.audit import Audit
from spacewarps.survey.images import StampError, decode, shape_of
from spacewarps.survey.prepare import prepare_survey
from spacewarps.survey.settings import SurveySettings

HEADER = ("id", "class", "ra", "dec", "z", "z_err")


@dataclass
class Delivery:
    """A survey as somebody might deliver it: a catalogue and a folder of stamps that a test can spoil."""

    folder: Path
    rows: list[dict[str, str]] = field(default_factory=list)

    @property
    def catalog(self) -> Path:
        return self.folder / "catalog"

    @property
    def images(self) -> Path:
        return self.folder / "images"

    def add(self, key: str, label: str, ra: float, dec: float = 0.0, *, stamp: int | None = None) -> None:
        """Add a sample; ``stamp`` seeds its picture, which is its own without it."""
        self.rows.append({"id": key, "class": label, "ra": repr(ra), "dec": repr(dec), "z": "0.5", "z_err": "0.001"})
        self.draw(key, len(self.rows) if stamp is None else stamp)

    def draw(self, key: str, seed: int, shape: tuple[int, ...] = (8, 8)) -> Path:
        self.images.mkdir(parents=True, exist_ok=True)
        file = self.images / f"{key}.png"
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(file)
        return file

    def write(self, name: str = "catalog.csv", *, rows: Sequence[Mapping[str, str]] | None = None) -> Path:
        return self.write_csv(name, HEADER, [[row[c] for c in HEADER] for row in (self.rows if rows is None else rows)])

    def write_csv(self, name: str, header: Iterable[str], rows: Iterable[Iterable[str]]) -> Path:
        self.catalog.mkdir(parents=True, exist_ok=True)
        path = self.catalog / name
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows(rows)
        return path

    def prepare(self, target: Path | None = None, **changes: Any) -> "Prepared":
        target = self.folder / "prepared" if target is None else target
        target.mkdir(parents=True, exist_ok=True)
        arguments: dict[str, Any] = {
            "catalog": self.catalog,
            "images": self.images,
            "max_bad_fraction": 0.2,
            "seed": 1,
            "progress_bar": lambda _what, _total: nullcontext(lambda _done: None),
        }
        arguments |= changes
        names = [field.name for field in fields(SurveySettings) if field.name in arguments]
        settings = SurveySettings(**{name: arguments.pop(name) for name in names})
        return Prepared(target, prepare_survey(target, settings=settings, **arguments))


@dataclass
class Prepared:
    folder: Path
    audit: Audit

    @property
    def samples(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "samples.csv", dtype={"id": str, "source": str}, keep_default_na=False)

    @property
    def stamps(self) -> npt.NDArray[Any]:
        stamps: npt.NDArray[Any] = np.load(self.folder / "stamps.npy")
        return stamps

    @property
    def left_out(self) -> dict[str, int]:
        return {reason: len(rows) for reason, rows in self.audit.left_out.items()}

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}


@pytest.fixture
def make_delivery(tmp_path: Path) -> Callable[..., Delivery]:
    def make(sources: int = 10, classes: Sequence[str] = ("GALAXY", "QSO", "STAR")) -> Delivery:
        delivery = Delivery(tmp_path)
        for number in range(sources * len(classes)):
            label = classes[number % len(classes)]
            delivery.add(f"7004987300150005914600060{number:03d}", label, 10.0 + number / 10, 5.0)
        return delivery

    return make


@pytest.fixture
def delivery(make_delivery: Callable[..., Delivery]) -> Delivery:
    """Thirty good samples of three classes, each a source of its own; the catalogue is yet to be written."""
    return make_delivery()


@pytest.fixture(scope="session")
def prepared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared survey that tests only read: 60 samples of three classes, stamps of ``[1, 12, 12]``."""
    delivery = Delivery(tmp_path_factory.mktemp("survey"))
    for number in range(60):
        key = f"s{number:03d}"
        delivery.add(key, ("GALAXY", "QSO", "STAR")[number % 3], number / 10)
        delivery.draw(key, number, (12, 12))
        delivery.rows[-1] |= {"z": str(number), "z_err": "" if number % 7 == 0 else "0.5"}
    delivery.write()
    return delivery.prepare().folder


@pytest.fixture(scope="session")
def survey_in() -> Callable[[Path], Delivery]:
    """Return an empty delivery in a folder."""
    return Delivery


@pytest.fixture(scope="session")
def why_refused() -> Callable[[bytes], str]:
    """Return why an image is refused before it is decoded, and when it is."""

    def why(content: bytes) -> str:
        with pytest.raises(StampError) as caught:
            shape_of(content)
        with pytest.raises(StampError) as again:
            decode(content, 1)
        assert str(again.value) == str(caught.value)
        return str(caught.value)

    return why
