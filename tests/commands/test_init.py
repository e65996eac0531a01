import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from PIL import Image

from spacewarps.cli import main
from spacewarps.params import Params, load_params
from spacewarps.survey.audit import Audit
from spacewarps.survey.prepare import prepare_survey
from tests.survey.delivery import Delivery

ROOT = Path(__file__).parents[2]
CLASSES = ("GALAXY", "QSO", "STAR")


@pytest.fixture(autouse=True)
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("GIT_", "DVC_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def survey(tmp_path: Path) -> Delivery:
    """Sixty stamps of 32 pixels, of three classes, whose redshifts say little of the class; to be written."""
    delivery = Delivery(tmp_path / "survey")
    values = np.random.default_rng(1).uniform(0.1, 2, 60)
    for number in range(60):
        delivery.add(f"J{number:03d}", CLASSES[number % 3], 10 + number / 10)
        delivery.draw(f"J{number:03d}", number, (32, 32))
        delivery.rows[-1] |= {"z": f"{values[number]:.4f}", "z_err": f"{values[number] / 100:.5f}"}
    return delivery


def write(survey: Delivery, rows: Sequence[dict[str, str]] | None = None, name: str = "catalog.csv") -> None:
    rows = survey.rows if rows is None else rows
    survey.write_csv(name, rows[0], [row.values() for row in rows])


def init(survey: Delivery, *options: str, folder: str = "new") -> int:
    return main(["init", folder, "--catalog", str(survey.catalog), "--images", str(survey.images), *options])


def refusal(capsys: pytest.CaptureFixture[str], survey: Delivery, *options: str) -> str:
    """Return the one line that refuses, after which nothing is written."""
    capsys.readouterr()
    assert init(survey, *options) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.isprintable()
    assert not Path("new").exists()
    return line.removeprefix("spacewarps init: ")


def written(capsys: pytest.CaptureFixture[str], survey: Delivery, *options: str) -> tuple[Params, str, Audit]:
    """Return the params of a new project, what was said, and what preparing the survey with them leaves out."""
    capsys.readouterr()
    assert init(survey, *options) == 0
    said = capsys.readouterr().out
    assert all(len(line) <= 100 or " " not in line.strip() for line in said.splitlines())
    assert all(line.isprintable() for line in said.splitlines())
    params = load_params(Path("new/params.yaml"))
    target = survey.folder / "prepared"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    audit = prepare_survey(
        target,
        catalog=Path("new", params.data.catalog),
        images=Path("new", params.data.images),
        settings=params.data,
        seed=params.seed,
        progress_bar=lambda _what, _total: nullcontext(lambda _done: None),
    )
    return params, " ".join(said.split()), audit


def test_the_params_fit_the_survey_and_keep_their_comments(
    survey: Delivery, capsys: pytest.CaptureFixture[str]
) -> None:
    write(survey, [{"name": row["id"], "Type": row["class"], **_positions(row), "z": row["z"]} for row in survey.rows])
    params, said, audit = written(capsys, survey)
    assert params.data.columns == params.data.columns.__class__(id="name", label="Type", ra="RAJ2000", dec="DEJ2000")
    assert params.data.features == ("z",)
    assert (params.data.catalog, params.data.images) == (str(survey.catalog), str(survey.images))
    assert audit.rows_kept == 60
    assert "'name' names the stamps of 60 of 60 rows" in said
    assert "'Type' has 3 classes: GALAXY (20), QSO (20), STAR (20)." in said
    lines = Path("new/params.yaml").read_text(encoding="utf-8").splitlines()
    before = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()
    assert [line.rpartition("# ")[2] for line in lines if "#" in line] == [
        line.rpartition("# ")[2] for line in before if "#" in line
    ]
    ours = slice(before.index("data:"), before.index("augment:"))
    gone = [line.partition(":")[0].strip() for line in before[ours] if line not in lines]
    assert gone == ["catalog", "images", "columns", "- z_err"]


def _positions(row: dict[str, str]) -> dict[str, str]:
    return {"RAJ2000": row["ra"], "DEJ2000": row["dec"]}


@pytest.mark.long
def test_dvc_prepares_the_survey_with_what_was_written(survey: Delivery) -> None:
    write(survey)
    assert init(survey) == 0
    for command in (["git", "add", "."], [sys.executable, "-m", "dvc", "repro", "prepare"]):
        subprocess.run(command, cwd="new", check=True, env=os.environ | {"PYTHONPATH": str(ROOT / "src")})
    assert Path("new/data/prepared/stamps.npy").exists()


def test_tables_of_several_formats_are_looked_at_together(survey: Delivery, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [str(9_000_000_000_000_000_000 + number) for number in range(60)]
    for key, row in zip(ids, survey.rows, strict=True):
        (survey.images / f"{row['id']}.png").rename(survey.images / f"{key}.png")
    labels = [{"objid": key, "class": row["class"]} for key, row in zip(ids, survey.rows, strict=True)]
    write(survey, labels, "labels.csv")
    magnitudes = np.random.default_rng(2).normal(20, 1, 60)
    magnitudes[::6] = -9999
    table = Table(
        {
            "objid": np.array(ids, dtype=np.uint64),
            "ra": [float(row["ra"]) for row in survey.rows],
            "dec": np.zeros(60),
            "gmag": magnitudes,
            "e_gmag": np.full(60, 0.1) * magnitudes,
            "cube": np.zeros((60, 3)),
            "mjd": np.arange(60) + 0.5,
        }
    )
    table.write(survey.catalog / "photometry.fits")
    params, said, audit = written(capsys, survey)
    assert (params.data.columns.id, params.data.features) == ("objid", ("gmag",))
    assert dict(params.data.missing_codes) == {"gmag": (-9999,)}
    assert audit.rows_kept == 60
    assert "cube arrays" in said
    assert "mjd numbers 0 0.0" in said
    assert "nothing: of the observation, not of the source" in said
    assert "'gmag' has -9999 for no value (data.missing_codes)." in said
    assert "To have errors such as 'e_gmag' beside what they are of, give them its name with _err." in said


@pytest.mark.parametrize(
    ("name", "encoding", "change"),
    [
        ("catalog.dat", "utf-8", ("# ", " ")),
        ("catalog.txt", "utf-16", ("#", "\t")),
        ("catalog.csv", "cp1252", ("", ",")),
    ],
)
def test_text_of_any_encoding_and_separation_is_looked_at(
    survey: Delivery, capsys: pytest.CaptureFixture[str], name: str, encoding: str, change: tuple[str, str]
) -> None:
    names = {"GALAXY": "g\u00e9ante", "QSO": "QSO", "STAR": "\u00e9toile"}
    write(survey, [row | {"class": names[row["class"]]} for row in survey.rows])
    plain = survey.catalog / "catalog.csv"
    text = change[0] + plain.read_text(encoding="utf-8").replace(",", change[1])
    plain.unlink()
    (survey.catalog / name).write_bytes(text.encode(encoding))
    (survey.catalog / "README.txt").write_text("Made by hand\n\nLook at the pictures before use.\n")
    params, said, audit = written(capsys, survey)
    assert (params.data.columns.id, params.data.columns.label, params.data.features) == ("id", "class", ("z", "z_err"))
    assert "has 3 classes: " in said
    assert all(f"{label} (20)" in said for label in names.values())
    assert audit.rows_kept == 60
    assert "text without a table, so not read: 'README.txt'" in audit.notes


def test_what_gives_the_class_away_is_said_and_left_out_unless_it_is_named(
    survey: Delivery, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        row | {"z": f"{0.1 + CLASSES.index(row['class']) + float(row['z']) / 3:.3f}", "flux": row["z"]}
        for row in survey.rows
    ]
    write(survey, rows)
    params, said, _ = written(capsys, survey)
    assert params.data.features == ("flux",)
    assert "Left out, as the class can be told from it alone: 'z' (1.000), and 'z_err' with it" in said
    text = Path("new/params.yaml").read_text(encoding="utf-8")
    assert (
        "  # not among the features, as the class can be told from it alone: z (1.000), z_err (the error of z)\n"
        in text
    )
    shutil.rmtree("new")
    params, _, _ = written(capsys, survey, "--features", "z", "flux")
    assert params.data.features == ("z", "flux")


def test_no_features_can_be_asked_for(survey: Delivery, capsys: pytest.CaptureFixture[str]) -> None:
    write(survey)
    params, said, _ = written(capsys, survey, "--features")
    assert params.data.features == ()
    assert "features: none; the network sees stamps alone." in said


def test_repeats_of_a_source_and_their_classes_are_counted(
    survey: Delivery, capsys: pytest.CaptureFixture[str]
) -> None:
    for row, other in zip(survey.rows[30:34], survey.rows[:4], strict=True):
        row |= {"ra": other["ra"], "class": other["class"]}
    survey.rows[30]["class"] = "STAR"
    write(survey)
    _, said, audit = written(capsys, survey)
    assert "56 sources, 4 of which have several rows and 1 rows of different classes (data.label_conflicts)." in said
    assert len(audit.details["label_conflicts"]["sources"]) == 1


def test_rows_and_stamps_without_each_other_are_named(survey: Delivery, capsys: pytest.CaptureFixture[str]) -> None:
    (survey.images / "J007.png").unlink()
    survey.draw("stray", 99, (32, 32))
    survey.rows[3]["class"] = ""
    write(survey)
    _, said, audit = written(capsys, survey)
    assert "'id' names the stamps of 58 of 59 rows that can be used. Without a stamp: 1 ('J007')." in said
    assert "Without a usable row: 2 ('J003.png', 'stray.png')." in said
    assert "2 of 60 rows cannot be used: no label (1), no stamp (1)." in said
    assert audit.rows_kept == 58


def test_more_faults_than_are_allowed_are_said_and_the_limit_stays(
    survey: Delivery, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(6):
        (survey.images / f"J{number:03d}.png").unlink()
    write(survey)
    assert init(survey) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "more than data.max_bad_fraction (0.05) allows, so `dvc repro` will stop" in said
    assert "set it to 0.11" in said
    assert load_params(Path("new/params.yaml")).data.max_bad_fraction == 0.05


def test_a_rare_class_is_named(survey: Delivery, capsys: pytest.CaptureFixture[str]) -> None:
    for number, row in enumerate(survey.rows):
        row["class"] = "LENS" if number in (5, 25, 45) else CLASSES[number % 2]
    write(survey)
    _, said, _ = written(capsys, survey)
    assert "Rare: 1 ('LENS'); optimiser.class_weights=balanced" in said
    assert "Of few sources: 1 ('LENS')" in said


def test_files_of_bands_become_channels_in_the_order_of_their_waves(
    survey: Delivery, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in list(survey.images.iterdir()):
        pixels = np.asarray(Image.open(file), dtype=np.float32)
        file.unlink()
        for band in ("z", "g", "r", *(["u"] if file.stem == "J000" else [])):
            fits.PrimaryHDU(pixels).writeto(file.with_name(f"{file.stem}_{band}.fits"))
    write(survey)
    params, said, audit = written(capsys, survey)
    assert params.data.stamp_bands == ("g", "r", "z")
    assert audit.rows_kept == 60
    assert "32 x 32 pixels of float32, 3 channels" in said
    assert "Not of all stamps, so left out: 1 ('u')." in said


def test_stamps_of_several_sizes_get_that_of_most(survey: Delivery, capsys: pytest.CaptureFixture[str]) -> None:
    survey.draw("J001", 1, (40, 40))
    survey.draw("J002", 2, (20, 30))
    write(survey)
    params, said, audit = written(capsys, survey)
    assert params.data.stamp_size == 32
    assert "1 stamp would be cropped and 1 stamp padded to 32 pixels a side (data.stamp_size)" in said
    assert audit.rows_kept == 60


def _several_images(survey: Delivery, names: Sequence[str]) -> None:
    for file in list(survey.images.iterdir()):
        pixels = np.asarray(Image.open(file), dtype=np.float32)
        file.unlink()
        images = [fits.ImageHDU(pixels, name=name) for name in names]
        fits.HDUList([fits.PrimaryHDU(), *images]).writeto(file.with_suffix(".fits"))


def test_the_image_called_sci_is_the_stamp(survey: Delivery, capsys: pytest.CaptureFixture[str]) -> None:
    _several_images(survey, ["SCI", "ERR"])
    write(survey)
    params, said, audit = written(capsys, survey)
    assert params.data.stamp_extension == "SCI"
    assert audit.rows_kept == 60
    assert "Of several images in a file, 'SCI' is read" in said


@pytest.mark.parametrize(("masked", "is_told"), [(5, False), (6, True)])
def test_where_many_stamps_have_masked_pixels_the_user_hears_of_the_channel(
    survey: Delivery, capsys: pytest.CaptureFixture[str], masked: int, is_told: bool
) -> None:
    for number, file in enumerate(sorted(survey.images.iterdir())):
        pixels = np.asarray(Image.open(file), dtype=np.float32).copy()
        file.unlink()
        if number < masked:
            pixels[0, 0] = np.nan
        fits.PrimaryHDU(pixels).writeto(file.with_suffix(".fits"))
    write(survey)
    params, said, _ = written(capsys, survey)
    assert f"Masked or not finite: pixels of {masked} stamps" in said
    assert ("With data.masks set to channel, the network sees which" in " ".join(said.split())) == is_told
    assert params.data.masks == "fill"


def test_of_images_without_telling_names_the_user_names_one(
    survey: Delivery, capsys: pytest.CaptureFixture[str]
) -> None:
    _several_images(survey, ["ONE", "TWO"])
    write(survey)
    assert "holds several images, 'ONE', 'TWO'; say which one is the stamp: --extension NAME" in refusal(capsys, survey)
    params, _, _ = written(capsys, survey, "--extension", "TWO")
    assert params.data.stamp_extension == "TWO"
    shutil.rmtree("new")
    params, _, _ = written(capsys, survey, "--extension", "1")
    assert params.data.stamp_extension == 1


def test_where_two_columns_could_be_it_the_user_says_which(
    survey: Delivery, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row | {"spec_class": "ABC"[n % 3], "objid": row["id"]} for n, row in enumerate(survey.rows)]
    write(survey, rows)
    assert "'id', 'objid' name the stamps equally well; say which one is the id: --id NAME" in refusal(capsys, survey)
    line = refusal(capsys, survey, "--id", "objid")
    assert (
        "several columns could be the class: 'class', with GALAXY (20), QSO (20), STAR (20); 'spec_class', with" in line
    )
    assert line.endswith("say which one: --label NAME")
    params, said, _ = written(capsys, survey, "--id", "objid", "--label", "spec_class")
    assert (params.data.columns.id, params.data.columns.label) == ("objid", "spec_class")
    assert "Another --label could be 'class', with GALAXY (20)" in said


def _without(*names: str) -> Callable[[dict[str, str]], dict[str, str]]:
    return lambda row: {name: value for name, value in row.items() if name not in names}


@pytest.mark.parametrize(
    ("spoil", "options", "line"),
    [
        (_without("id"), [], "no column names the stamps; 'class' holds 'GALAXY', and a stamp is called 'J000'"),
        (_without("class"), [], "no column looks like a class"),
        (lambda row: row | {"class": "STAR"}, [], "a classifier needs two classes, but 'class' holds 'STAR' alone"),
        (lambda row: row | {"id": "12.0"}, [], "id '12.0' was written as a number"),
        (lambda row: row | {"ra": "10:11:12.3"}, [], "position in hours, minutes or seconds instead of degrees"),
        (lambda row: row, ["--id", "Id"], "--id 'Id': there is no such column; did you mean 'id'?"),
        (
            lambda row: row,
            ["--label", "morphology"],
            "--label 'morphology': there is no such column; there are 'id', 'class'",
        ),
        (lambda row: row, ["--features", "zz"], "there is no column 'zz' for --features; did you mean 'z'?"),
        (lambda row: row, ["--features", "class"], "features must not hold the id or the label"),
        (lambda row: row, ["--extension", "SCI"], None),
    ],
)
def test_what_cannot_be_used_is_one_line(
    survey: Delivery,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[dict[str, str]], dict[str, str]],
    options: list[str],
    line: str | None,
) -> None:
    write(survey, [spoil(row) for row in survey.rows])
    if line is None:
        written(capsys, survey, *options)
    else:
        assert line in refusal(capsys, survey, *options)


def test_one_row_is_no_survey(survey: Delivery, capsys: pytest.CaptureFixture[str]) -> None:
    write(survey, survey.rows[:1])
    assert "--label NAME" in refusal(capsys, survey)


def test_a_column_of_nothing_but_text_gives_no_feature(survey: Delivery, capsys: pytest.CaptureFixture[str]) -> None:
    write(survey, [row | {"z": row["z"].replace(".", ","), "z_err": "faint"} for row in survey.rows])
    params, said, _ = written(capsys, survey)
    assert params.data.features == ()
    assert "Text, and so no features, but nearly numbers: 'z' ('" in said


def test_names_that_move_the_cursor_or_break_the_line_stay_on_theirs(
    survey: Delivery, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "ST\x1b[31mAR\nrm -rf"
    rows = [row | {"class": evil if row["class"] == "STAR" else row["class"], "a\x1b[2J": "1.5"} for row in survey.rows]
    write(survey, rows)
    assert init(survey) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "20 of 60 rows cannot be used: label with a control character (20)" in " ".join(said.split())
    assert load_params(Path("new/params.yaml")).data.features == ("z", "z_err")


def test_names_with_the_signs_of_yaml_are_read_back(survey: Delivery, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["g-r", "W1 (AB)", "z: [spec]", "# of arms", "Off", "1:30", "010", "null", "é%", "{a}", "'q'", "*x", "&y"]
    values = np.random.default_rng(3).normal(size=(60, len(names)))
    rows = [row | dict(zip(names, map(repr, map(float, values[n])), strict=True)) for n, row in enumerate(survey.rows)]
    write(survey, rows)
    params, _, _ = written(capsys, survey)
    assert params.data.features == ("z", "z_err", *names)


def test_five_hundred_columns_are_looked_at_and_some_are_listed(
    survey: Delivery, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.random.default_rng(3).normal(size=(60, 500)).round(4)
    rows = [
        row | {f"c{number:03d}": str(value) for number, value in enumerate(values[n])}
        for n, row in enumerate(survey.rows)
    ]
    write(survey, rows)
    params, said, _ = written(capsys, survey)
    assert len(params.data.features) == 502
    assert "and 446 more columns" in said


@pytest.mark.parametrize("content", [None, "notes.txt", "folder"])
def test_a_folder_without_images_is_refused(
    survey: Delivery, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    write(survey)
    shutil.rmtree(survey.images)
    survey.images.mkdir()
    if content == "folder":
        (survey.images / content).mkdir()
    elif content:
        (survey.images / content).touch()
    assert "holds no image" in refusal(capsys, survey)


def test_stamps_that_are_no_images_are_refused(survey: Delivery, capsys: pytest.CaptureFixture[str]) -> None:
    write(survey)
    for file in survey.images.iterdir():
        file.write_text("no picture", encoding="utf-8")
    assert "no stamp of 60 can be read; stamp that is a text file" in refusal(capsys, survey)


def test_an_empty_catalogue_folder_and_a_missing_one_are_refused(
    survey: Delivery, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no such file or folder; point --catalog at one" in refusal(capsys, survey)
    survey.catalog.mkdir()
    assert "the folder holds no catalogue" in refusal(capsys, survey)


def test_a_project_that_is_there_stays_and_the_difference_is_shown(
    survey: Delivery, capsys: pytest.CaptureFixture[str]
) -> None:
    write(survey)
    assert main(["init", "new"]) == 0
    file = Path("new/params.yaml")
    mine = file.read_text(encoding="utf-8").replace("fraction: 1.0 ", "fraction: 0.5 # mine ")
    file.write_text(mine, encoding="utf-8")
    capsys.readouterr()
    assert init(survey) == 2
    said = capsys.readouterr()
    assert file.read_text(encoding="utf-8") == mine
    assert f"  +  catalog: {survey.catalog}" in said.out
    assert "mine" not in said.out
    (line,) = said.err.splitlines()
    assert line == (
        "spacewarps init: new/params.yaml is there already, so nothing was written; change the lines above, or name a "
        "new folder"
    )


def test_a_project_that_fits_already_is_left_alone(survey: Delivery, capsys: pytest.CaptureFixture[str]) -> None:
    write(survey)
    assert init(survey) == 0
    before = Path("new/params.yaml").read_bytes()
    assert init(survey) == 0
    assert "new/params.yaml says all of this already." in capsys.readouterr().out
    assert Path("new/params.yaml").read_bytes() == before


def test_a_survey_inside_of_the_project_is_named_from_there(
    survey: Delivery, capsys: pytest.CaptureFixture[str]
) -> None:
    write(survey)
    assert init(survey, folder=".") == 0
    assert load_params(Path("params.yaml")).data.catalog == "survey/catalog"
    assert "cd " not in capsys.readouterr().out


def test_a_project_does_not_go_into_its_survey(survey: Delivery, capsys: pytest.CaptureFixture[str]) -> None:
    write(survey)
    assert init(survey, folder=str(survey.images / "new")) == 2
    assert "lies in --images" in capsys.readouterr().err
    assert not (survey.images / "new").exists()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--catalog", "c"], "--images must be given too"),
        (["--images", "d"], "--catalog must be given too"),
        (["--label", "class"], "--catalog and --images must be given too"),
        (["--update", "--catalog", "c", "--images", "d"], "--update only records the installed code"),
    ],
)
def test_a_survey_is_named_as_a_whole(capsys: pytest.CaptureFixture[str], options: list[str], line: str) -> None:
    assert main(["init", "new", *options]) == 2
    assert line in capsys.readouterr().err
    assert not Path("new").exists()


def test_the_same_survey_gives_the_same_words(survey: Delivery, capsys: pytest.CaptureFixture[str]) -> None:
    write(survey)
    said: list[Any] = []
    for _ in range(2):
        assert init(survey) == 0
        said.append(capsys.readouterr().out)
        shutil.rmtree("new")
    assert said[0] == said[1]
