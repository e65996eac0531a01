"""Surveys as somebody might deliver them, for tests to spoil and to prepare."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from spacewarps.survey.audit import Audit
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
        names = [each.name for each in fields(SurveySettings) if each.name in arguments]
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
