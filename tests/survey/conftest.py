from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.survey.delivery import Delivery


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
def small_survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared survey that tests only read: 60 samples of three classes, stamps of ``[1, 12, 12]``."""
    delivery = Delivery(tmp_path_factory.mktemp("survey"))
    for number in range(60):
        key = f"s{number:03d}"
        delivery.add(key, ("GALAXY", "QSO", "STAR")[number % 3], number / 10)
        delivery.draw(key, number, (12, 12))
        delivery.rows[-1] |= {"z": str(number), "z_err": "" if number % 7 == 0 else "0.5"}
    delivery.write()
    return delivery.prepare().folder
