from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from astropy.io import fits
from numpy.typing import NDArray
from PIL import Image

from spacewarps.cli import main
from spacewarps.model.ensemble import Network
from spacewarps.prediction import parts
from spacewarps.prediction import survey as prediction
from spacewarps.prediction.classifier import Classifier
from spacewarps.survey.samples import Samples
from spacewarps.survey.settings import StampSettings
from spacewarps.training.compute import Compute, set_up_compute
from spacewarps.training.prediction import predict_probabilities
from spacewarps.training.settings import ComputeSettings
from tests.prediction.conftest import CLASSES, save_classifier
from tests.survey.array_files import in_hdf5
from tests.survey.delivery import HEADER, Delivery
from tests.survey.sky import image, position_of, world
from tests.survey.stamp_files import in_fits

Predict = Callable[..., int]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "_SAMPLES_IN_A_PART", 7)


@pytest.fixture
def predict(classifier: Classifier, delivery: Delivery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Predict:
    """Run the command in a folder without params."""
    monkeypatch.chdir(tmp_path)

    def predict(out: str = "out.csv", *options: str, model: Path = classifier.folder, workers: int = 1) -> int:
        given = {"--catalog": delivery.catalog, "--images": delivery.images, "--out": out, "--model": model}
        words = [str(word) for pair in given.items() for word in pair]
        return main(["predict", *words, "--workers", str(workers), *options])

    return predict


def table(name: str) -> pd.DataFrame:
    return pd.read_csv(name, dtype={"id": str}, keep_default_na=False)


def test_stamps_are_read_as_those_that_the_network_learned_from(
    predict: Predict, delivery: Delivery, tmp_path: Path
) -> None:
    delivery.write()
    assert predict("plain.csv") == 0
    how = StampSettings(stamp_size=8, stamp_extension="SCI", stamp_bands=("g",))
    model = save_classifier(tmp_path / "of FITS", stamps=how).folder
    for file in [*delivery.images.iterdir()]:
        wide = np.pad(np.asarray(Image.open(file)), ((3, 3), (0, 0)), constant_values=7)
        content = in_fits(fits.ImageHDU(wide, name="SCI"), fits.ImageHDU(wide + 1, name="VAR"))
        (delivery.images / f"{file.stem}-g.fits").write_bytes(content)
        file.unlink()
    assert predict("fits.csv", model=model) == 0
    pd.testing.assert_frame_equal(table("fits.csv"), table("plain.csv"))


def test_stamps_may_be_rows_of_one_file_in_several_processes(
    predict: Predict, delivery: Delivery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery.write()
    assert predict("plain.csv") == 0
    ids = [row["id"] for row in reversed(delivery.rows)]
    pixels = np.stack([np.asarray(Image.open(delivery.images / f"{key}.png")) for key in ids])
    array = tmp_path / "all.hdf5"
    array.write_bytes(in_hdf5(pixels, ids, chunks=(4, 8, 8), compression="gzip"))
    # What names the rows of the array that was learned from says nothing of a folder.
    model = save_classifier(tmp_path / "of an array", stamps=StampSettings(stamp_index="row")).folder
    assert predict("folder.csv", model=model) == 0
    monkeypatch.setattr(Delivery, "images", array)
    assert predict("array.csv", workers=2) == 0
    for name in ("folder.csv", "array.csv"):
        pd.testing.assert_frame_equal(table(name), table("plain.csv"))
    header = [*HEADER, "row"]
    rows = [[*row.values(), str(29 - number)] for number, row in enumerate(delivery.rows)]
    delivery.write_csv("catalog.csv", header, rows)
    assert predict("indexed.csv", model=model) == 0
    pd.testing.assert_frame_equal(table("indexed.csv"), table("plain.csv"))


def test_stamps_are_cut_from_images_at_the_positions_of_the_catalogue(
    predict: Predict, delivery: Delivery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header, sky = world(200), np.zeros((200, 200), np.float32)
    for number, row in enumerate(delivery.rows):
        place = (20 + 30 * (number // 6), 20 + 30 * (number % 6))
        own = np.asarray(Image.open(delivery.images / f"{row['id']}.png"))
        sky[place[0] - 4 : place[0] + 4, place[1] - 4 : place[1] + 4] = own
        ra, dec = position_of(header, *place)
        row |= {"ra": repr(ra), "dec": repr(dec)}
    delivery.write()
    assert predict("plain.csv") == 0
    how = StampSettings(cutouts=True, stamp_size=8)
    model = save_classifier(tmp_path / "of images", stamps=how, pixels="float32", positions=("ra", "dec")).folder
    (tmp_path / "sky").mkdir()
    (tmp_path / "sky" / "field.fits").write_bytes(image(sky, header))
    monkeypatch.setattr(Delivery, "images", tmp_path / "sky")
    assert predict("cut.csv", model=model, workers=2) == 0
    pd.testing.assert_frame_equal(table("cut.csv"), table("plain.csv"))


def test_the_table_holds_what_the_network_answers(
    predict: Predict, classifier: Classifier, delivery: Delivery, capsys: pytest.CaptureFixture[str]
) -> None:
    delivery.rows[3]["z"] = "-9999"
    delivery.rows[4]["z"] = "2.5"
    delivery.write()
    assert predict() == 0
    found = table("out.csv")
    assert list(found) == [
        *("id", "class"),
        *(f"{prefix}{name}" for prefix in ("p_", "may_be_") for name in CLASSES),
        "unusual",
    ]
    assert found["id"].tolist() == [row["id"] for row in delivery.rows]
    stamps = np.stack([np.asarray(Image.open(delivery.images / f"{key}.png")) for key in found["id"]])[:, None]
    features = torch.tensor([[float(row["z"]), np.nan] for row in delivery.rows], dtype=torch.float32)
    features[3, 0] = np.nan
    with torch.inference_mode(), set_up_compute(ComputeSettings()).autocast():
        expected = classifier.network(torch.from_numpy(stamps), features).double().softmax(dim=1).numpy()
    np.testing.assert_allclose(found.filter(like="p_"), expected, atol=1e-7)
    assert found["class"].tolist() == [CLASSES[number] for number in expected.argmax(axis=1)]
    # The thresholds of the classifier: the first only where it is the most probable, the last always.
    assert (found["may_be_GALAXY"] == (found["class"] == "GALAXY")).all()
    assert (found["may_be_STAR"] == 1).all()
    assert found["unusual"][3].startswith("z missing; z_err missing")
    assert found["unusual"][4].startswith("z above; z_err missing")
    assert Path("out.left_out.csv").read_text() == "row,reason\n"
    assert sorted(path.name for path in Path().glob("out*")) == ["out.csv", "out.left_out.csv"]
    told = capsys.readouterr().out
    assert "out.csv: 30 samples (GALAXY " in told
    assert "at least 90% of cases have " in told


def test_each_row_that_cannot_be_predicted_is_listed_with_its_reason(
    predict: Predict, delivery: Delivery, capsys: pytest.CaptureFixture[str]
) -> None:
    (delivery.images / "s02.png").unlink()
    content = (delivery.images / "s05.png").read_bytes()
    (delivery.images / "s05.png").write_bytes(content[:-30])
    delivery.draw("s07", 1, shape=(9, 8))
    Image.fromarray(np.zeros((8, 8), np.float32)).save(delivery.images / "s08.tiff")
    (delivery.images / "s08.png").unlink()
    delivery.rows[9]["id"] = ""
    delivery.write()
    assert predict() == 0
    assert len(table("out.csv")) == 25
    left = pd.read_csv("out.left_out.csv").set_index("row")["reason"].to_dict()
    assert left == {
        "s02": "no stamp",
        "s05": "damaged stamp",
        "s07": "stamp of another size (8 x 9, where the network takes 8 x 8 pixels in width and height)",
        "s08": "stamp of another pixel type (float32, where the network takes uint8)",
        "catalog.csv:11": "no id",
    }
    assert "5 rows are not in it, see out.left_out.csv: damaged stamp (1), no id (1)" in capsys.readouterr().out


def test_a_table_is_the_same_as_parquet_and_from_several_processes(predict: Predict) -> None:
    assert predict("one.csv") == predict("one.parquet") == predict("two.csv", workers=2) == 0
    assert Path("one.csv").read_bytes() == Path("two.csv").read_bytes()
    in_parquet = pd.read_parquet("one.parquet")
    assert in_parquet["may_be_STAR"].dtype == bool
    numbered = in_parquet.astype({f"may_be_{name}": np.int64 for name in CLASSES})
    pd.testing.assert_frame_equal(numbered, table("one.csv"), check_dtype=False, check_exact=True)


class Stopped(BaseException):
    pass


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Count the samples of each part that the network is asked for, and stop before another than so many parts."""

    def ask(most: int) -> list[int]:
        asked: list[int] = []

        def counted(model: Network, samples: Samples, compute: Compute) -> NDArray[np.float64]:
            if len(asked) == most:
                raise Stopped
            asked.append(len(samples))
            return predict_probabilities(model, samples, compute)

        monkeypatch.setattr(parts, "predict_probabilities", counted)
        return asked

    return ask


def test_what_was_interrupted_goes_on_and_comes_to_the_same(predict: Predict, ask: Callable[[int], list[int]]) -> None:
    assert predict("whole.csv") == 0
    asked = ask(3)
    with pytest.raises(Stopped):
        predict()
    assert asked == [7, 7, 7]
    assert not Path("out.csv").exists()
    kept = sorted(Path("out.csv.partial").glob("part-*.npz"))
    assert len(kept) == 3
    # One of them is damaged meanwhile; it is done again, and the others are not.
    kept[1].write_bytes(kept[1].read_bytes()[:-5])
    asked = ask(100)
    assert predict() == 0
    assert sorted(asked) == [2, 7, 7]
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()
    assert not Path("out.csv.partial").exists()


def test_parts_of_other_work_are_not_taken(
    predict: Predict, ask: Callable[[int], list[int]], tmp_path: Path, delivery: Delivery
) -> None:
    other = save_classifier(tmp_path / "other", seed=5)
    for change in ("model", "stamp", "feature"):
        ask(3)
        with pytest.raises(Stopped):
            predict()
        if change == "stamp":
            delivery.draw("s00", 99)
        if change == "feature":
            delivery.rows[0]["z"] = "0.7"
            delivery.write()
        asked = ask(100)
        assert predict(model=other.folder) == 0
        assert asked == [7, 7, 7, 7, 2], change


def test_a_folder_that_holds_what_was_not_written_here_stays(
    predict: Predict, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out.csv.partial").mkdir()
    Path("out.csv.partial/mine.txt").touch()
    assert predict() == 2
    assert "out.csv.partial: holds 'mine.txt', which was not written here" in capsys.readouterr().err
    assert Path("out.csv.partial/mine.txt").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["out.txt"], "out.txt: a table of predictions is written as .csv or .parquet; name it so"),
        (["out.csv", "--id", "objid"], "there is no id column 'objid'"),
        (["out.csv", "--catalog", "nowhere"], "nowhere: no such file or folder; point --catalog at one catalogue"),
        (["out.csv", "--images", "nowhere"], "nowhere: no such folder; point --images at the folder of stamps"),
        (["out.csv", "--model", "nowhere"], "nowhere holds no model"),
    ],
)
def test_a_mistake_is_told_in_one_line_and_leaves_nothing(
    predict: Predict, options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(Path().rglob("*"))
    assert predict(*options) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("spacewarps predict: ")
    assert told in line
    assert sorted(Path().rglob("*")) == before


def test_a_survey_of_other_stamps_or_without_a_feature_is_refused(
    predict: Predict, delivery: Delivery, capsys: pytest.CaptureFixture[str]
) -> None:
    for row in delivery.rows:
        delivery.draw(row["id"], 1, shape=(9, 9))
    assert predict() == 2
    assert "where the network takes 8 x 8 pixels" in capsys.readouterr().err
    delivery.write_csv("catalog.csv", ("id", "redshift"), [("s00", "1")])
    assert predict() == 2
    assert "there is no column 'z' for the network's features" in capsys.readouterr().err
    assert not list(Path().glob("out*"))


def test_without_thresholds_there_are_no_sets(predict: Predict, tmp_path: Path) -> None:
    assert predict(model=save_classifier(tmp_path / "plain", thresholds=None).folder) == 0
    assert list(table("out.csv")) == ["id", "class", *(f"p_{name}" for name in CLASSES), "unusual"]
