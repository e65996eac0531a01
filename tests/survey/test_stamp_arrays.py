import json
import pickle
import resource
import sys
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from astropy.io import fits

import spacewarps.survey
from spacewarps.errors import SurveyError
from spacewarps.survey.images import StampError
from spacewarps.survey.settings import StampSettings
from spacewarps.survey.stamp_arrays import Row, StampArray
from tests.complaints import complaint
from tests.survey.array_files import in_hdf5, stamps_of
from tests.survey.delivery import HEADER, Delivery
from tests.survey.stamp_files import in_fits, in_npy

STAMPS = stamps_of(40)
BY_INDEX = StampSettings(stamp_index="row")


def array_in(folder: Path, content: bytes, how: StampSettings = BY_INDEX) -> StampArray:
    file = folder / "stamps"
    file.write_bytes(content)
    return StampArray(file, how, "id")


def all_of(array: StampArray) -> np.ndarray[Any, Any]:
    return np.stack([array.numbers(row) for row in range(array.rows)])


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("float32", {}),
        (">f8", {"chunks": (7, 8, 8)}),
        ("int16", {"chunks": (7, 3, 5), "compression": "gzip", "shuffle": True, "fletcher32": True}),
        ("uint8", {"chunks": (1, 8, 8), "compression": "gzip"}),
        ("float32", {"chunks": (50, 9, 9), "maxshape": (None, None, None), "shuffle": True}),
        ("uint8", {"chunks": (7, 3, 5), "fletcher32": True}),
    ],
    ids=["contiguous", "chunks", "all filters", "a chunk a stamp", "more than the array", "checksums"],
)
def test_hdf5_is_read_as_h5py_reads_it_however_it_is_packed(tmp_path: Path, dtype: str, options: Any) -> None:
    stamps = STAMPS.astype(dtype)
    array = array_in(tmp_path, in_hdf5(stamps, **options))
    assert array.rows == 40
    found = all_of(array)
    assert found.dtype.isnative
    assert (found == stamps).all()


@pytest.mark.parametrize("dtype", ["float32", ">f8", "uint8", ">i2", "uint16"])
def test_numpy_and_fits_are_read_row_by_row(tmp_path: Path, dtype: str) -> None:
    stamps = STAMPS.astype(dtype)
    for content in (in_npy(stamps), in_fits(stamps), in_fits(fits.ImageHDU(stamps))):
        assert (all_of(array_in(tmp_path, content)) == stamps).all()


def test_scaled_numbers_of_fits_mean_what_its_header_says(tmp_path: Path) -> None:
    hdu = fits.PrimaryHDU(np.arange(96, dtype=np.int16).reshape(6, 4, 4))
    hdu.header["BSCALE"], hdu.header["BZERO"], hdu.header["BLANK"] = 0.5, 10.0, 7
    found = all_of(array_in(tmp_path, in_fits(hdu)))
    wanted = np.arange(96).reshape(6, 4, 4) * 0.5 + 10
    wanted[0, 1, 3] = np.nan
    assert np.array_equal(found, wanted, equal_nan=True)


@pytest.mark.parametrize(
    ("axes", "channels", "shape"),
    [
        ((3, 8, 10), None, (3, 8, 10)),
        ((3, 8, 10), "first", (3, 8, 10)),
        ((8, 10, 3), "last", (3, 8, 10)),
        ((9, 8, 8), "first", (9, 8, 8)),
    ],
)
def test_channels_are_where_they_are_said_to_be(tmp_path: Path, axes: Any, channels: Any, shape: Any) -> None:
    stamps = stamps_of(5, *axes)
    array = array_in(tmp_path, in_npy(stamps), StampSettings(stamp_index="row", stamp_channels=channels))
    assert (array.shape.channels, array.shape.height, array.shape.width) == shape
    assert array.numbers(3).shape == shape
    assert (array.numbers(3) == (np.moveaxis(stamps[3], -1, 0) if channels == "last" else stamps[3])).all()


@pytest.mark.parametrize("axes", [(8, 10, 3), (8, 8, 8)])
def test_channels_that_could_be_two_axes_are_asked_for(tmp_path: Path, axes: tuple[int, ...]) -> None:
    told = complaint(SurveyError, array_in, tmp_path, in_npy(stamps_of(5, *axes)))
    assert told == (
        f"{tmp_path}/stamps: array of the shape {[5, *axes]}; which axis has the channels? say first or last by "
        "`stamp_channels`"
    )


@pytest.fixture
def with_rows(delivery: Delivery) -> Delivery:
    """A delivery whose catalogue says which row of an array each stamp is: the last id has the first one."""
    for number, row in enumerate(sorted(delivery.rows, key=lambda row: row["id"], reverse=True)):
        row["row"] = str(number + 5)
    return delivery


def write(delivery: Delivery) -> None:
    header = (*HEADER, "row")
    delivery.write_csv("catalog.csv", header, [[row[name] for name in header] for row in delivery.rows])


def test_stamps_come_from_the_rows_that_the_catalogue_names(with_rows: Delivery, tmp_path: Path) -> None:
    write(with_rows)
    file = tmp_path / "all.h5"
    file.write_bytes(in_hdf5(STAMPS, chunks=(4, 8, 8), compression="gzip"))
    prepared = with_rows.prepare(images=file, stamp_index="row")
    assert (prepared.stamps[:, 0] == STAMPS[5:35][::-1]).all()
    audit = json.loads((prepared.folder / "audit.json").read_text())
    assert audit["images"] == {"rows": 40, "without_row": {"count": 10}}
    again = with_rows.prepare(tmp_path / "again", images=tmp_path / "all.h5", stamp_index="row")
    assert again.files() == prepared.files()


def test_stamps_come_from_the_rows_of_their_ids(delivery: Delivery, tmp_path: Path) -> None:
    delivery.write()
    ids = sorted(row["id"] for row in delivery.rows)
    file = tmp_path / "all.h5"
    file.write_bytes(in_hdf5(STAMPS[:31], [*reversed(ids), "another"], name="group/stamps"))
    prepared = delivery.prepare(images=file)
    assert (prepared.stamps[:, 0] == STAMPS[:30][::-1]).all()
    # Several rows of one id, and an id without one.
    file.write_bytes(in_hdf5(STAMPS[:30], [ids[1], *ids[1:]]))
    assert delivery.prepare(images=file).left_out == {"no stamp": 1, "several stamps": 1}
    file.write_bytes(in_hdf5(STAMPS[:30]))
    told = complaint(SurveyError, delivery.prepare, images=file)
    assert told == (f"{file}: holds no ids; name the catalogue's column with the row of each stamp by `stamp_index`")


def test_rows_that_cannot_be_used_are_left_out_each_for_its_reason(with_rows: Delivery, tmp_path: Path) -> None:
    texts = ["-1", "40", "1.5", "", "seven", "12.0", "12", "5.0", "1e3"]
    for row, text in zip(with_rows.rows, texts, strict=False):
        row["row"] = text
    stamps = STAMPS.copy()
    stamps[10] = np.nan
    write(with_rows)
    file = tmp_path / "all.npy"
    file.write_bytes(in_npy(stamps))
    prepared = with_rows.prepare(images=file, stamp_index="row", max_bad_fraction=0.9)
    assert prepared.left_out == {
        "index below 0": 1,
        "index beyond the last row of the array, 39": 1,
        "index that is not a whole number": 3,
        "no index of a stamp": 1,
        "index of several ids": 5,
        "stamp of which more than 50% is masked": 1,
    }
    told = complaint(SurveyError, with_rows.prepare, images=file, stamp_index="row")
    assert "most often: index of several ids (5 rows, first" in told


def test_what_stamp_index_names_is_looked_for(with_rows: Delivery, tmp_path: Path) -> None:
    write(with_rows)
    file = tmp_path / "all.npy"
    file.write_bytes(in_npy(STAMPS))
    told = complaint(SurveyError, with_rows.prepare, images=file, stamp_index="rows")
    assert told == f"{with_rows.catalog}: there is no column 'rows' for `stamp_index`; did you mean 'row'?"
    told = complaint(SurveyError, with_rows.prepare, images=file)
    assert told == f"{file}: holds no ids; name the catalogue's column with the row of each stamp by `stamp_index`"
    told = complaint(SurveyError, with_rows.prepare, stamp_index="row")
    assert told == (
        f"{with_rows.images}: `stamp_index` names the rows of an array, but `images` is no file with one; point it at "
        "the file, or set `stamp_index` to null"
    )
    file.write_text("an error page")
    told = complaint(SurveyError, with_rows.prepare, images=file)
    assert told.startswith(f"{file}: neither a folder of stamps nor an array of them")


def make_hdf5(file: Path, make: Any) -> None:
    with h5py.File(file, "w") as root:
        make(root)


def of_objects(root: Any) -> None:
    root.create_dataset("stamps", (3, 8, 8), dtype=h5py.string_dtype())


def external(root: Any) -> None:
    root["stamps"] = h5py.ExternalLink("/etc/passwd", "stamps")


def soft(root: Any) -> None:
    root["other"] = STAMPS
    root["stamps"] = h5py.SoftLink("/other")


def through_a_link(root: Any) -> None:
    root["group"] = h5py.ExternalLink("/etc/passwd", "/")


def virtual(root: Any) -> None:
    layout = h5py.VirtualLayout((3, 8, 8), "f4")
    layout[0] = h5py.VirtualSource("/etc/passwd", "x", (8, 8))
    root.create_virtual_dataset("stamps", layout)


def elsewhere(root: Any) -> None:
    root.create_dataset("stamps", (3, 8, 8), "f4", external=[("/etc/passwd", 0, 3 * 8 * 8 * 4)])


def in_huge_chunks(root: Any) -> None:
    root.create_dataset("stamps", (2**20, 64, 64), "f4", chunks=(2**16, 64, 64))


def in_tiny_chunks(root: Any) -> None:
    root.create_dataset("stamps", (3, 512, 512), "f4", chunks=(1, 4, 4))


def of_a_plugin(root: Any) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((1, 8, 8))
    plist.set_filter(32004, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple((3, 8, 8))
    h5py.h5d.create(root.id, b"stamps", h5py.h5t.NATIVE_FLOAT, space, plist)


REFUSED = {
    of_objects: "HDF5 whose 'stamps' holds |O, where a pixel must be a real number",
    external: "HDF5 whose 'stamps' is a link to another place, which is not followed",
    soft: "HDF5 whose 'stamps' is a link to another place, which is not followed",
    virtual: "HDF5 whose 'stamps' has its numbers in other files, which are not read",
    elsewhere: "HDF5 whose 'stamps' has its numbers in other files, which are not read",
    in_huge_chunks: "array in chunks of the shape [65536, 64, 64], of which one stamp takes 1 with 1,074 MB; write it "
    "with chunks of one or a few whole stamps",
    in_tiny_chunks: "array in chunks of the shape [1, 4, 4], of which one stamp takes 16384 with 1 MB; write it with "
    "chunks of one or a few whole stamps",
    of_a_plugin: "HDF5 packed by the plugin 32004; write it with compression='gzip' or none (h5repack -f GZIP=4 IN "
    "OUT)",
}


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_hdf5_that_leads_elsewhere_or_takes_too_much_is_refused(tmp_path: Path, make: Any) -> None:
    file = tmp_path / "stamps.h5"
    make_hdf5(file, make)
    how = StampSettings(stamp_index="row", stamp_extension="stamps")
    assert complaint(SurveyError, StampArray, file, how, "id") == f"{file}: {REFUSED[make]}"


def test_the_array_of_hdf5_is_the_only_one_or_named(tmp_path: Path) -> None:
    file = tmp_path / "stamps.h5"

    def two(root: Any) -> None:
        root["sky/g"], root["sky/r"], root["numbers"] = STAMPS, STAMPS + 1, np.arange(3)

    make_hdf5(file, two)
    assert complaint(SurveyError, StampArray, file, BY_INDEX, "id") == (
        f"{file}: HDF5 of 2 arrays of three or four axes ('sky/g', 'sky/r'), of which one would be read; name it by "
        "`stamp_extension`"
    )
    how = StampSettings(stamp_index="row", stamp_extension="sky/r")
    assert (StampArray(file, how, "id").numbers(3) == STAMPS[3] + 1).all()
    for name, told in (("sky", "HDF5 whose 'sky' is a group"), ("sky/x", "HDF5 without the array 'sky/x'; it holds")):
        how = StampSettings(stamp_index="row", stamp_extension=name)
        assert told in complaint(SurveyError, StampArray, file, how, "id")
    make_hdf5(file, through_a_link)
    how = StampSettings(stamp_index="row", stamp_extension="group/stamps")
    assert "is a link to another place" in complaint(SurveyError, StampArray, file, how, "id")


def test_what_a_header_claims_is_compared_with_the_file(tmp_path: Path) -> None:
    hdf5, npy, cube = in_hdf5(STAMPS), in_npy(STAMPS), in_fits(STAMPS)
    for content in (hdf5[:-100], npy[:-4], cube[:-2880], in_fits(np.zeros((3, 8), np.float32))):
        with pytest.raises(SurveyError, match=f"^{tmp_path}/stamps: [^\n]*$"):
            array_in(tmp_path, content)
    with pytest.raises(SurveyError, match="where a pixel must be a real number"):
        array_in(tmp_path, in_npy(np.zeros((3, 8, 8), complex)))
    with pytest.raises(SurveyError, match="order of Fortran"):
        array_in(tmp_path, in_npy(np.asfortranarray(STAMPS)))


def test_a_damaged_chunk_costs_the_rows_in_it_and_no_others(with_rows: Delivery, tmp_path: Path) -> None:
    write(with_rows)
    file = tmp_path / "all.h5"
    file.write_bytes(in_hdf5(STAMPS, chunks=(4, 8, 8), compression="gzip"))
    with h5py.File(file) as root:
        chunk = root["stamps"].id.get_chunk_info(3)
    content = bytearray(file.read_bytes())
    content[chunk.byte_offset + 30] ^= 0xFF
    file.write_bytes(content)
    prepared = with_rows.prepare(images=file, stamp_index="row")
    assert prepared.left_out == {"damaged stamp": 4}
    assert (prepared.stamps[:, 0] == np.delete(STAMPS, range(12, 16), axis=0)[5:31][::-1]).all()


def test_a_chunk_that_unpacks_to_gigabytes_is_damaged(tmp_path: Path) -> None:
    file = tmp_path / "stamps.h5"
    bomb = zlib.compress(bytes(2**28), 9)

    def packed(root: Any) -> None:
        made = root.create_dataset("stamps", (2, 256, 256), "f4", chunks=(1, 256, 256), compression="gzip")
        made.id.write_direct_chunk((0, 0, 0), bomb)

    make_hdf5(file, packed)
    array = StampArray(file, BY_INDEX, "id")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert complaint(StampError, array.numbers, 0) == "damaged stamp"
    assert complaint(StampError, array.numbers, 1) == "row of the array that was never written"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**13


def test_memory_does_not_grow_with_the_array(with_rows: Delivery, tmp_path: Path) -> None:
    for row in with_rows.rows:
        row["row"] = str(int(row["row"]) * 80)
    write(with_rows)
    file = tmp_path / "all.h5"

    some = np.random.default_rng(0).normal(size=(16, 128, 128))

    def large(root: Any) -> None:
        made = root.create_dataset("stamps", (3200, 128, 128), "f4", chunks=(16, 128, 128))
        for start in range(0, 3200, 16):
            made[start : start + 16] = some + start

    make_hdf5(file, large)
    assert file.stat().st_size > 200e6
    tracemalloc.start()
    prepared = with_rows.prepare(images=file, stamp_index="row")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(prepared.stamps) == 30
    assert peak < 50e6


def test_another_process_opens_the_array_again(tmp_path: Path) -> None:
    array = array_in(tmp_path, in_hdf5(STAMPS))
    rows = pickle.loads(pickle.dumps([Row(array, 3), Row(array, 4)]))
    assert rows[0].array is rows[1].array
    shape, how = array.shape, BY_INDEX
    assert [(row.decode(shape, how).pixels == STAMPS[row.number]).all() for row in rows] == [True, True]
    assert rows[0].inspect(how) == Row(array, 3).inspect(how) != rows[1].inspect(how)


def test_without_h5py_the_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = in_hdf5(STAMPS)
    monkeypatch.setitem(sys.modules, "h5py", None)
    monkeypatch.delitem(sys.modules, "spacewarps.survey.hdf5_reporter", raising=False)
    monkeypatch.delattr(spacewarps.survey, "hdf5_reporter", raising=False)
    told = complaint(SurveyError, array_in, tmp_path, content)
    assert told == f"{tmp_path}/stamps: HDF5, which is read by h5py; install it by pip install 'spacewarps[hdf5]'"
