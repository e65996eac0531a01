import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from spacewarps.errors import SpaceWarpsError, SurveyError
from spacewarps.survey.columns import Columns
from tests.complaints import complaint
from tests.survey.delivery import Delivery, Prepared

ARCSEC = 1 / 3600


def refused(delivery: Delivery, **changes: Any) -> str:
    return complaint(SurveyError, delivery.prepare, **changes)


def check_invariants(prepared: Prepared) -> None:
    samples, audit = prepared.samples, prepared.audit
    assert audit.rows_in == audit.rows_kept + sum(prepared.left_out.values())
    assert audit.rows_kept == len(samples) == len(prepared.stamps)
    assert samples["id"].is_unique
    assert samples["id"].tolist() == sorted(samples["id"])
    assert (samples.groupby("source")["split"].nunique() == 1).all()
    assert set(samples["split"]) == {"train", "validation", "test"}


def test_a_good_survey_is_kept_whole_and_described(delivery: Delivery) -> None:
    delivery.write()
    prepared = delivery.prepare()
    check_invariants(prepared)
    assert prepared.left_out == {}
    assert prepared.samples.columns.tolist() == ["id", "source", "split", "label", "ra", "dec", "z", "z_err"]
    counts = prepared.samples.groupby(["label", "split"]).size().unstack()
    assert counts[["train", "validation", "test"]].to_numpy().tolist() == [[6, 2, 2]] * 3
    files = prepared.files()
    assert sorted(files) == ["audit.json", "samples.csv", "stamps.npy", "survey.json"]
    assert json.loads(files["survey.json"]) == {
        "classes": ["GALAXY", "QSO", "STAR"],
        "features": ["z", "z_err"],
        "stamp": {"channels": 1, "height": 8, "width": 8, "dtype": "uint8"},
        "samples": 30,
        "sources": 30,
        "sha256": {name: hashlib.sha256(files[name]).hexdigest() for name in ("samples.csv", "stamps.npy")},
    }
    audit = json.loads(files["audit.json"])
    assert audit["rows_in"] == audit["rows_kept"] == 30
    assert audit["images"] == {"files": 30, "without_row": {"count": 0, "names": []}}
    assert audit["splits"]["test"] == {"samples": 6, "sources": 6, "classes": {"GALAXY": 2, "QSO": 2, "STAR": 2}}


def test_stamps_stand_in_the_order_of_the_sample_table(delivery: Delivery) -> None:
    for number, row in enumerate(delivery.rows):
        delivery.draw(row["id"], 100 + number)
    delivery.write(rows=delivery.rows[::-1])
    prepared = delivery.prepare()
    seeds = {row["id"]: 100 + number for number, row in enumerate(delivery.rows)}
    for key, stamp in zip(prepared.samples["id"], prepared.stamps, strict=True):
        assert (stamp[0] == np.random.default_rng(seeds[key]).integers(0, 256, (8, 8), dtype=np.uint8)).all()


def test_the_same_survey_and_seed_give_the_same_bytes_and_another_seed_does_not(
    delivery: Delivery, tmp_path: Path
) -> None:
    delivery.write()
    first, again = delivery.prepare(tmp_path / "1").files(), delivery.prepare(tmp_path / "2").files()
    assert first == again
    assert delivery.prepare(tmp_path / "3", seed=2).files()["samples.csv"] != first["samples.csv"]


def test_order_of_rows_columns_and_chunks_has_no_influence_on_samples_and_stamps(
    delivery: Delivery, tmp_path: Path
) -> None:
    delivery.add("twin", "QSO", 10.0 + 1.5 * ARCSEC, 5.0)
    whole = delivery.write("whole.csv")
    first = delivery.prepare(tmp_path / "1").files()
    whole.unlink()
    rows = [delivery.rows[i] for i in np.random.default_rng(3).permutation(31)]
    header = ["z_err", "dec", "id", "z", "class", "ra"]
    delivery.write("a.csv", rows=rows[:11])
    delivery.write_csv("b.csv", header, [[row[name] for name in header] for row in rows[11:]])
    second = delivery.prepare(tmp_path / "2").files()
    for name in ["samples.csv", "stamps.npy", "survey.json"]:
        assert first[name] == second[name]


def test_rows_of_one_source_and_copies_of_one_picture_never_straddle_splits(
    make_delivery: Callable[..., Delivery],
) -> None:
    delivery = make_delivery(sources=12)
    for number, row in enumerate(delivery.rows[:]):
        delivery.add(f"near{number:03d}", row["class"], float(row["ra"]) + 1.5 * ARCSEC, 5.0)
    for number in range(12):
        delivery.add(f"copy{number:03d}", delivery.rows[number]["class"], 200.0 + number, stamp=number + 1)
    delivery.write()
    prepared = delivery.prepare()
    check_invariants(prepared)
    assert prepared.samples["source"].nunique() == 36
    split_of = prepared.samples.set_index("id")["split"]
    for number, row in enumerate(delivery.rows[:36]):
        assert split_of[row["id"]] == split_of[f"near{number:03d}"]
        assert number >= 12 or split_of[row["id"]] == split_of[f"copy{number:03d}"]


def test_every_reason_is_counted_and_listed_and_the_rest_is_kept(make_delivery: Callable[..., Delivery]) -> None:
    delivery = make_delivery(sources=40)
    (delivery.images / "orphan.jpg").write_bytes(b"x")
    (delivery.images / os.fsdecode(b"\xff.jpg")).write_bytes(b"x")
    keys = [row["id"] for row in delivery.rows]
    (delivery.images / f"{keys[0]}.png").unlink()
    (delivery.images / f"{keys[1]}.png").write_bytes(b"")
    (delivery.images / f"{keys[2]}.png").write_bytes(b"no image")
    delivery.draw(keys[3], 1, (9, 9))
    whole = (delivery.images / f"{keys[4]}.png").read_bytes()
    (delivery.images / f"{keys[4]}.png").write_bytes(whole[:-40])
    (delivery.images / f"{keys[5]}.JPG").write_bytes(whole)
    delivery.rows[6]["class"] = ""
    delivery.rows[7]["dec"] = "91"
    delivery.rows.append(delivery.rows[10])
    delivery.rows.append(delivery.rows[11] | {"id": "../images/x"})
    delivery.write()
    prepared = delivery.prepare()
    check_invariants(prepared)
    audit = json.loads((prepared.folder / "audit.json").read_text())
    assert audit["rows_in"] == 122
    assert audit["rows_kept"] == 112
    place = {6: f"catalog.csv:8 ({keys[6]})", 7: f"catalog.csv:9 ({keys[7]})", 10: f"catalog.csv:122 ({keys[10]})"}
    assert audit["left_out"] == {
        reason: {"count": 1, "rows": [row]}
        for reason, row in {
            "damaged stamp": keys[4],
            "empty stamp file": keys[1],
            "id that is not a file name": "../images/x",
            "no label": place[6],
            "no stamp": keys[0],
            "no usable position": place[7],
            "repeated row": place[10],
            "several stamps": keys[5],
            "stamp of another size (9 x 9, where most have 8 x 8 pixels in width and height)": keys[3],
            "stamp that is a text file": keys[2],
        }.items()
    }
    # The stamps of rows that the catalogue lost have no row either.
    assert audit["images"]["without_row"] == {
        "count": 4,
        "names": sorted([f"{keys[6]}.png", f"{keys[7]}.png", "\\xff.jpg", "orphan.jpg"]),
    }


def test_grey_and_colour_stamps_meet_where_nothing_is_lost(make_delivery: Callable[..., Delivery]) -> None:
    delivery = make_delivery()
    files = [delivery.images / f"{row['id']}.png" for row in delivery.rows]
    grey = [np.asarray(Image.open(file)) for file in files]
    Image.fromarray(np.dstack([grey[0]] * 3)).save(files[0])
    Image.fromarray(grey[1]).convert("P").save(files[1])
    delivery.draw(files[2].stem, 2, (8, 8, 3))
    delivery.write()
    prepared = delivery.prepare()
    assert prepared.left_out == {"colour stamp among grey ones": 1}
    assert (prepared.stamps[:, 0] == np.delete(grey, 2, axis=0)).all()


def test_conflicting_labels_are_reported_and_kept_or_dropped(delivery: Delivery, tmp_path: Path) -> None:
    delivery.add("x1", "STAR", 50.0)
    delivery.add("x2", "QSO", 50.0)
    delivery.add("x3", "QSO", 50.0)
    delivery.write()
    kept = delivery.prepare(tmp_path / "keep")
    assert kept.audit.details["label_conflicts"] == {
        "treatment": "keep",
        "sources": {"x1": {"x1": "STAR", "x2": "QSO", "x3": "QSO"}},
    }
    assert kept.samples.set_index("id").loc[["x1", "x2", "x3"], "label"].tolist() == ["STAR", "QSO", "QSO"]
    check_invariants(kept)
    dropped = delivery.prepare(tmp_path / "drop", label_conflicts="drop", max_bad_fraction=0.0)
    assert dropped.left_out == {"label conflict": 3}
    assert len(dropped.audit.details["label_conflicts"]["sources"]) == 1
    assert not dropped.samples["id"].str.startswith("x").any()
    check_invariants(dropped)


def test_a_smaller_fraction_is_part_of_a_larger_one(make_delivery: Callable[..., Delivery], tmp_path: Path) -> None:
    delivery = make_delivery(sources=20)
    delivery.write()
    ids = []
    for fraction in (0.25, 0.5, 1.0):
        prepared = delivery.prepare(tmp_path / str(fraction), fraction=fraction, max_bad_fraction=0.0)
        check_invariants(prepared)
        assert prepared.audit.rows_kept == 60 * fraction
        assert prepared.left_out.get("outside the fraction", 0) == 60 - 60 * fraction
        ids.append(set(prepared.samples["id"]))
    assert ids[0] < ids[1] < ids[2]


def test_faults_up_to_the_limit_are_left_out_and_one_more_is_refused(delivery: Delivery) -> None:
    for row in delivery.rows[:3]:
        (delivery.images / f"{row['id']}.png").unlink()
    delivery.write()
    assert delivery.prepare(max_bad_fraction=0.1).audit.rows_kept == 27
    (delivery.images / f"{delivery.rows[3]['id']}.png").unlink()
    message = refused(delivery, max_bad_fraction=0.1)
    for word in ["catalog", "4 of 30 rows", "`max_bad_fraction`=0.1", "no stamp (4 rows", delivery.rows[0]["id"]]:
        assert word in message


def test_damaged_stamps_count_as_a_share_of_the_fraction_that_was_decoded(
    make_delivery: Callable[..., Delivery],
) -> None:
    delivery = make_delivery(sources=40)
    for file in list(delivery.images.iterdir())[::2]:
        file.write_bytes(file.read_bytes()[:-40])
    delivery.write()
    assert "damaged stamp" in refused(delivery, fraction=0.1, max_bad_fraction=0.2)


def test_a_survey_without_one_usable_row_is_refused_even_if_every_fault_is_allowed(delivery: Delivery) -> None:
    delivery.write(rows=[row | {"class": ""} for row in delivery.rows])
    message = refused(delivery, max_bad_fraction=1.0)
    assert "30 of 30 rows" in message
    assert "no label" in message


@pytest.mark.parametrize("spoil", ["unlink", "damage", "empty"])
def test_a_survey_without_one_usable_stamp_is_refused(delivery: Delivery, spoil: str) -> None:
    delivery.write()
    for file in list(delivery.images.iterdir()):
        if spoil == "unlink":
            file.rename(file.with_name(f"other{file.name}"))
        else:
            file.write_bytes(file.read_bytes()[:-40] if spoil == "damage" else b"")
    message = refused(delivery, max_bad_fraction=1.0)
    assert {"unlink": "no stamp", "damage": "damaged stamp", "empty": "empty stamp file"}[spoil] in message


def test_a_class_with_too_few_sources_and_a_single_class_are_refused(make_delivery: Callable[..., Delivery]) -> None:
    delivery = make_delivery()
    delivery.add("lonely", "NOVA", 80.0)
    delivery.write()
    assert "class 'NOVA' has 1 source(s), too few" in refused(delivery)
    delivery.write(rows=[row for row in delivery.rows if row["class"] == "STAR"])
    assert "two classes, but the 10 usable rows hold 'STAR' alone" in refused(delivery)


def test_dropping_every_conflict_may_leave_nothing_and_says_so(make_delivery: Callable[..., Delivery]) -> None:
    delivery = make_delivery(sources=4, classes=("QSO", "STAR"))
    for row in delivery.rows:
        row["ra"] = "10"
    delivery.write()
    assert "0 usable rows" in refused(delivery, label_conflicts="drop")


def test_labels_and_ids_of_any_language_and_punctuation_survive(make_delivery: Callable[..., Delivery]) -> None:
    delivery = make_delivery(classes=('BL "Lac"', "Звезда, 星"))
    for number in range(5):
        delivery.add(f"id, '{number}' é", 'BL "Lac"', 60.0 + number)
    delivery.write()
    prepared = delivery.prepare()
    assert set(prepared.samples["label"]) == {'BL "Lac"', "Звезда, 星"}
    assert "id, '3' é" in set(prepared.samples["id"])


def test_ids_that_name_no_file_are_shown_beside_one(delivery: Delivery) -> None:
    for file in list(delivery.images.iterdir()):
        file.rename(file.with_name(f"00{file.name}"))
    delivery.write()
    first = delivery.rows[0]["id"]
    shown = f"no stamp: id '{first}', file '00{first}.png'; an id is a file's name without its suffix"
    assert f"none of 30 ids names a stamp ({shown})" in refused(delivery, max_bad_fraction=1.0)
    (delivery.images / f"00{first}.png").rename(delivery.images / f"{first}.png")
    message = refused(delivery)
    assert "no stamp (29 rows" in message
    assert f"id '{delivery.rows[1]['id']}', file '00{delivery.rows[1]['id']}.png'" in message


def test_ids_that_are_paths_or_hold_the_suffix_are_shown_beside_a_file(delivery: Delivery) -> None:
    first = delivery.rows[0]["id"]
    for before, after in (("", ".png"), ("images/", ".png")):
        delivery.write(rows=[row | {"id": f"{before}{row['id']}{after}"} for row in delivery.rows])
        assert f"id '{before}{first}.png'"[:40] in refused(delivery)
        assert f"file '{first}.png'" in refused(delivery)


def test_the_first_row_of_a_fault_is_the_first_line_of_the_file(delivery: Delivery) -> None:
    delivery.write(
        rows=[row | {"class": "None"} if number in (5, 12) else row for number, row in enumerate(delivery.rows)]
    )
    message = refused(delivery, max_bad_fraction=0.0)
    assert 'no label (the word "None") (2 rows, first catalog.csv:7 ' in message


def test_a_class_whose_stamps_are_all_missing_is_noted(delivery: Delivery) -> None:
    for number in range(3):
        delivery.add(f"x{number}", "RARE", 60.0 + number)
        (delivery.images / f"x{number}.png").unlink()
    delivery.write()
    assert delivery.prepare().audit.notes == ["classes of which every row was left out: 'RARE'"]


def test_an_id_of_any_length_is_no_more_than_an_id_without_a_stamp(delivery: Delivery) -> None:
    delivery.write(
        rows=[row | {"id": f"{number % 10}" * (50_000 + number)} for number, row in enumerate(delivery.rows)]
    )
    assert len(refused(delivery)) < 500
    delivery.rows[0] |= {"id": "7" * 100_000}
    delivery.write()
    assert "no stamp (1 rows, first 777" in refused(delivery, max_bad_fraction=0.0)


def test_several_files_of_one_id_are_not_shown_as_an_id_astray(delivery: Delivery) -> None:
    for row in delivery.rows:
        delivery.draw(row["id"], 1).rename(delivery.images / f"{row['id']}.PNG")
        delivery.draw(row["id"], 1)
    delivery.write()
    message = refused(delivery, max_bad_fraction=1.0)
    assert "several stamps" in message
    assert "without its suffix" not in message


def test_ids_and_files_meet_in_any_form_of_unicode(delivery: Delivery) -> None:
    for number, row in enumerate(delivery.rows):
        composed, apart = f"\u00fc{number:02d}", f"u\u0308{number:02d}"
        old, row["id"] = row["id"], (composed, apart)[number % 2]
        (delivery.images / f"{old}.png").rename(delivery.images / f"{(apart, composed)[number % 2]}.png")
    delivery.write()
    prepared = delivery.prepare()
    check_invariants(prepared)
    assert prepared.left_out == {}
    assert prepared.samples["id"].tolist() == [f"\u00fc{number:02d}" for number in range(30)]
    assert prepared.audit.details["images"]["without_row"]["count"] == 0


def test_a_class_without_a_row_in_some_split_is_refused(delivery: Delivery) -> None:
    for number in range(12):
        row = delivery.rows[number]
        delivery.add(f"x{number}", row["class"], float(row["ra"]), 5.0)
    # Rows of a fourth class, each at a place that more rows of another class share, and only three of its own.
    for number in range(3):
        delivery.add(f"nova{number}", "NOVA", float(delivery.rows[number]["ra"]), 5.0)
    delivery.write()
    message = refused(delivery)
    assert "class 'NOVA' has no row in the " in message
    assert "`label_conflicts`" in message


def test_classes_that_are_numbers_stand_in_the_order_of_numbers(make_delivery: Callable[..., Delivery]) -> None:
    delivery = make_delivery(sources=5, classes=[str(number) for number in range(11)])
    delivery.write()
    prepared = delivery.prepare()
    classes = [str(number) for number in range(11)]
    assert json.loads(prepared.files()["survey.json"])["classes"] == classes
    assert list(prepared.audit.details["splits"]["test"]["classes"]) == classes


def test_a_survey_without_positions_says_what_that_costs(delivery: Delivery) -> None:
    header = ("id", "class", "z", "z_err")
    delivery.write_csv("catalog.csv", header, [[row[name] for name in header] for row in delivery.rows])
    prepared = delivery.prepare(columns=Columns(ra=None, dec=None))
    check_invariants(prepared)
    assert (prepared.samples[["ra", "dec"]] == "").all(axis=None)
    (note,) = json.loads(prepared.files()["audit.json"])["notes"]
    assert "no positions" in note
    assert "same bytes" in note


def test_codes_of_a_feature_are_missing_in_the_sample_table(delivery: Delivery) -> None:
    for row in delivery.rows[::2]:
        row["z"] = "-9999"
    delivery.write()
    assert any("-9999 stands in 15 of 30 rows" in note for note in delivery.prepare().audit.notes)
    prepared = delivery.prepare(missing_codes={"z": [-9999]})
    assert (prepared.samples["z"] == "").sum() == 15
    assert prepared.audit.notes == []


def test_progress_is_reported_for_each_file(delivery: Delivery) -> None:
    delivery.write()
    seen: dict[str, list[int]] = {}

    class Bar:
        def __init__(self, what: str, total: int) -> None:
            self.done = seen.setdefault(what, [total])

        def __enter__(self) -> Callable[[int], None]:
            return self.done.append

        def __exit__(self, *_: object) -> None:
            pass

    delivery.prepare(progress_bar=Bar)
    assert {what: (done[0], sum(done[1:])) for what, done in seen.items()} == {
        "inspect stamps": (30, 30),
        "decode stamps": (30, 30),
    }


SPOILED_CELL = st.tuples(
    st.integers(0, 29),
    st.sampled_from(["id", "class", "ra", "dec", "z"]),
    st.one_of(
        st.sampled_from(["", "nan", "inf", "-inf", "91", "361", "10.0", "STAR", "../x", "\0", "a\nb", "7e+27", "1_0"]),
        st.text(max_size=4).filter(lambda text: text.isprintable()),
    ),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spoiled=st.lists(SPOILED_CELL, max_size=12), fraction=st.sampled_from([0.4, 1.0]), drop=st.booleans())
def test_whatever_is_spoiled_the_counts_add_up_and_no_source_straddles_splits(
    delivery: Delivery, spoiled: Sequence[tuple[int, str, str]], fraction: float, drop: bool
) -> None:
    rows = [dict(row) for row in delivery.rows]
    for number, column, text in spoiled:
        rows[number][column] = text
    delivery.write(rows=rows)
    conflicts = "drop" if drop else "keep"
    message = ""
    try:
        prepared = delivery.prepare(fraction=fraction, label_conflicts=conflicts, max_bad_fraction=1.0)
    except SpaceWarpsError as error:
        message = str(error)
    if message:
        assert len(message.splitlines()) == 1
        return
    check_invariants(prepared)
    assert (prepared.samples.groupby("source")["label"].nunique() == 1).all() or not drop
