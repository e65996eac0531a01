import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Read when OpenMP starts, so before anything imports torch: idle threads sleep instead of spinning on shared cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from spacewarps.survey.dataset import Space_Galaxi
    from spacewarps.survey.prepared import PreparedSurvey
    from spacewarps.training.compute import Compute

# The same examples every time, however slow the machine: a check that fails by chance is believed by nobody.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

SIDE = 16


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Gives a worker a file of tests, but for those that take minutes each: of these, one at a time."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        # Each cluster takes the memory of many workers, so a file has one at a time.
        if "[ray]" in nodeid or "::TestRay::" in nodeid or file.endswith("test_ray_cluster.py"):
            return f"ray {file}"
        return nodeid if file.endswith(("test_validation.py", "test_portability.py", "test_run_trees.py")) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # An emulated processor takes minutes, and at the end it would take them alone.
    items.sort(key=lambda item: "emulated" not in item.nodeid)


def draw_samples(
    *,
    sizes: dict[str, int],
    classes: list[str],
    features: list[str],
    channels: int,
    seed: int,
    rows_of_a_source: int,
    dtype: str,
) -> tuple[np.ndarray[Any, Any], pd.DataFrame]:
    rng = np.random.default_rng(seed)
    splits = [split for split, size in sizes.items() for _ in range(size)]
    numbers = np.arange(len(splits))
    of_class = (numbers // rows_of_a_source) % len(classes)
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2 + 0.5
    # Each class has a width of its own, so that one block is enough to tell them apart.
    width = 1.2 + 1.5 * of_class[:, None, None]
    profile = np.exp(-(x**2 + y**2) / (2 * width**2))
    brightness = rng.uniform(60, 160, size=(len(splits), channels, 1, 1))
    sky = rng.normal(40, 6, size=(len(splits), channels, SIDE, SIDE))
    stamps = np.clip(profile[:, None] * brightness + sky, 0, 255).astype(dtype)
    samples = pd.DataFrame(
        {
            "id": [f"id{number:04d}" for number in numbers],
            "source": [f"id{number - number % rows_of_a_source:04d}" for number in numbers],
            "split": splits,
            "label": [classes[number] for number in of_class],
            "ra": 10.0,
            "dec": 10.0,
        }
    )
    for name in features:
        samples[name] = 0.1 + 0.4 * of_class + rng.normal(0, 0.25, size=len(splits))
        if name.endswith("_err"):
            samples[name] = np.where(rng.random(len(splits)) < 0.1, -1.0, rng.uniform(0.01, 0.1, size=len(splits)))
    return stamps, samples


@pytest.fixture(scope="session")
def draw_survey() -> "Callable[..., PreparedSurvey]":
    """Draw a prepared survey in memory; every class has stamps and features of its own."""
    from spacewarps.survey.prepared import PreparedSurvey

    def draw(
        *,
        sizes: dict[str, int] | None = None,
        classes: tuple[str, ...] = ("GALAXY", "QSO", "STAR"),
        features: tuple[str, ...] = ("z", "z_err"),
        channels: int = 1,
        seed: int = 0,
        rows_of_a_source: int = 2,
        dtype: str = "uint8",
    ) -> PreparedSurvey:
        stamps, samples = draw_samples(
            sizes=sizes or {"train": 60, "validation": 30, "test": 30},
            classes=list(classes),
            features=list(features),
            channels=channels,
            seed=seed,
            rows_of_a_source=rows_of_a_source,
            dtype=dtype,
        )
        return PreparedSurvey(stamps, samples, list(classes), list(features))

    return draw


@pytest.fixture(scope="session")
def prepared_folder(draw_survey: "Callable[..., PreparedSurvey]", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a prepared survey: 120 grey stamps of 16 pixels, three classes, z and z_err."""
    folder = tmp_path_factory.mktemp("prepared")
    save_prepared(draw_survey(), folder)
    return folder


def save_prepared(survey: "PreparedSurvey", folder: Path) -> None:
    np.save(folder / "stamps.npy", survey.stamps)
    survey.samples.to_csv(folder / "samples.csv", index=False)
    description = {"classes": survey.classes, "features": survey.features}
    (folder / "survey.json").write_text(json.dumps(description), encoding="utf-8")


@pytest.fixture(scope="session")
def prepared(prepared_folder: Path) -> "PreparedSurvey":
    from spacewarps.survey.prepared import load_prepared_survey

    return load_prepared_survey(prepared_folder)


@pytest.fixture(scope="session")
def train_data(prepared: "PreparedSurvey") -> "Space_Galaxi":
    from spacewarps.survey.augmentation import Augmentation
    from spacewarps.survey.dataset import Space_Galaxi

    return Space_Galaxi(prepared, split="train", augmentation=Augmentation())


@pytest.fixture(scope="session")
def validation_data(prepared: "PreparedSurvey") -> "Space_Galaxi":
    from spacewarps.survey.dataset import Space_Galaxi

    return Space_Galaxi(prepared, split="validation")


@pytest.fixture(scope="session")
def test_data(prepared: "PreparedSurvey") -> "Space_Galaxi":
    from spacewarps.survey.dataset import Space_Galaxi

    return Space_Galaxi(prepared, split="test")


@pytest.fixture(scope="session")
def compute() -> "Compute":
    """One thread of the processor, float32."""
    from spacewarps.training.compute import set_up_compute
    from spacewarps.training.settings import ComputeSettings

    return set_up_compute(ComputeSettings("cpu", "fp32", 1))
