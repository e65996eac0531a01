import json
import tracemalloc
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from numcodecs import Blosc

from spacewarps.errors import SurveyError
from spacewarps.survey.images import StampError
from spacewarps.survey.settings import StampSettings
from spacewarps.survey.stamp_arrays import StampArray
from tests.complaints import complaint
from tests.survey.array_files import stamps_of
from tests.survey.delivery import Delivery

STAMPS = stamps_of(40)
BY_INDEX = StampSettings(stamp_index="row")
CODECS = {
    "zstd": zarr.codecs.ZstdCodec(),
    "gzip": zarr.codecs.GzipCodec(),
    "blosc": zarr.codecs.BloscCodec(),
    "none": None,
}


def written(folder: Path, stamps: Any = STAMPS, **options: Any) -> Path:
    """Write an array by itself."""
    zarr.create_array(folder, data=stamps, chunks=(7, 3, 5), **options)
    return folder


def all_of(folder: Path, how: StampSettings = BY_INDEX) -> np.ndarray[Any, Any]:
    array = StampArray(folder, how, "id")
    return np.stack([array.numbers(row) for row in range(array.rows)])


@pytest.mark.parametrize("dtype", ["float32", ">f8", "uint8", "int16"])
@pytest.mark.parametrize("codec", CODECS)
def test_version_3_is_read_as_zarr_reads_it(tmp_path: Path, codec: str, dtype: str) -> None:
    stamps = STAMPS.astype(dtype)
    folder = written(tmp_path / "all.zarr", stamps, compressors=CODECS[codec])
    assert (all_of(folder) == stamps).all()


@pytest.mark.parametrize(
    "compressor",
    [None, Blosc("lz4"), Blosc("zstd", shuffle=2), numcodecs.Zstd(), numcodecs.GZip(), numcodecs.Zlib()],
    ids=str,
)
def test_version_2_is_read_as_zarr_reads_it(tmp_path: Path, compressor: Any) -> None:
    stamps = STAMPS.astype(">f4")
    assert (all_of(written(tmp_path / "all.zarr", stamps, zarr_format=2, compressors=compressor)) == stamps).all()


@pytest.mark.filterwarnings("ignore:The data type")
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("kind", [str, np.int64])
def test_stamps_come_from_the_rows_of_their_ids(delivery: Delivery, tmp_path: Path, version: Any, kind: Any) -> None:
    for number, row in enumerate(delivery.rows):
        row["id"] = str(1000 + number)
    delivery.write()
    ids = [str(1000 + number) for number in reversed(range(40))]
    group = zarr.open_group(tmp_path / "all.zarr", mode="w", zarr_format=version)
    group.create_array("sky/stamps", data=STAMPS, chunks=(7, 8, 8))
    group.create_array("sky/id", data=np.array([kind(key) for key in ids]))
    prepared = delivery.prepare(images=tmp_path / "all.zarr")
    assert (prepared.stamps[:, 0] == STAMPS[::-1][:30]).all()
    assert prepared.audit.details["images"] == {"rows": 40, "without_row": {"count": 10}}
    group.create_array("sky/others", data=STAMPS)
    told = complaint(SurveyError, delivery.prepare, images=tmp_path / "all.zarr")
    assert told == (
        f"{tmp_path}/all.zarr: Zarr of 2 arrays of three or four axes ('sky/others', 'sky/stamps'), of which one would "
        "be read; name it by `stamp_extension`"
    )
    again = delivery.prepare(tmp_path / "again", images=tmp_path / "all.zarr", stamp_extension="sky/stamps")
    assert again.files() == prepared.files()


def test_a_chunk_that_is_damaged_or_absent_costs_its_rows(tmp_path: Path) -> None:
    for codec, spoil in (("zstd", 9), ("blosc", 20), ("gzip", 12)):
        folder = written(tmp_path / f"{codec}.zarr", compressors=CODECS[codec])
        chunk = folder / "c" / "2" / "1" / "1"
        content = bytearray(chunk.read_bytes())
        del content[spoil:]
        chunk.write_bytes(content)
        (folder / "c" / "4" / "0" / "0").unlink()
        (folder / "c" / "0" / "0" / "0").write_bytes(bytes(2**20))
        array = StampArray(folder, BY_INDEX, "id")
        told = [complaint(StampError, array.numbers, row) for row in (14, 20, 28, 0)]
        assert told == ["damaged stamp", "damaged stamp", "row of the array that was never written", "damaged stamp"]
        assert (array.numbers(21) == STAMPS[21]).all()


def bomb_of_zstd(expected: int) -> bytes:
    return bytes(numcodecs.Zstd().encode(bytes(expected * 200_000)))


def bomb_of_blosc(expected: int) -> bytes:
    return bytes(Blosc("zstd").encode(bytes(expected * 200_000)))


@pytest.mark.parametrize(("codec", "bomb"), [("zstd", bomb_of_zstd), ("blosc", bomb_of_blosc)])
def test_what_says_that_it_unpacks_to_more_is_not_unpacked(
    tmp_path: Path, codec: str, bomb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(tmp_path / "all.zarr", compressors=CODECS[codec])
    content = bomb(7 * 3 * 5 * 4)
    (folder / "c" / "0" / "0" / "0").write_bytes(content)
    array = StampArray(folder, BY_INDEX, "id")
    monkeypatch.setattr("spacewarps.survey.zarr_arrays.read_bytes", lambda *_, **__: content)
    tracemalloc.start()
    assert complaint(StampError, array.numbers, 0) == "damaged stamp"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5e6


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"shape": [2**40, 8, 8], "chunk_grid": None}, "damaged Zarr (its description lacks something)"),
        ({"shape": [40, 8192, 8192]}, "whose stamps are of absurd size"),
        ({"shape": [40, -8, 8]}, "damaged Zarr (its description is none)"),
        ({"shape": "many"}, "damaged Zarr (its description is none)"),
        ({"data_type": "object"}, "array of |O, where a pixel must be a real number"),
        ({"data_type": "r99999"}, "damaged Zarr (its description lacks something)"),
        ({"codecs": [{"name": "sharding_indexed"}]}, "Zarr packed by 'sharding_indexed'; write it with"),
        ({"codecs": [{"name": "bytes"}, {"name": "crc32c"}]}, "Zarr packed by 'crc32c'; write it with"),
        (
            {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2**30, 8, 8]}}},
            "array in chunks of the shape [1073741824, 8, 8], of which one stamp takes 1 with 274,878 MB",
        ),
        (
            {"chunk_key_encoding": {"name": "default", "configuration": {"separator": "/../../"}}},
            "damaged Zarr (its chunks are none)",
        ),
    ],
    ids=range(10),
)
def test_a_description_that_lies_is_refused_in_a_line(tmp_path: Path, change: Any, told: str) -> None:
    folder = written(tmp_path / "all.zarr")
    path = folder / "zarr.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    line = complaint(SurveyError, StampArray, folder, BY_INDEX, "id")
    assert line.startswith(f"{folder}: ")
    assert told in line


@pytest.mark.parametrize("name", ["../other", "/etc", "a//b", "nothing"])
def test_no_name_leads_out_of_the_store(tmp_path: Path, name: str) -> None:
    written(tmp_path / "other")
    folder = written(tmp_path / "all.zarr")
    how = StampSettings(stamp_index="row", stamp_extension=name)
    assert complaint(SurveyError, StampArray, folder, how, "id") == f"{folder}: Zarr without the array {name!r}"
    (folder / "zarr.json").write_text("[" * 100_000)
    assert "damaged Zarr" in complaint(SurveyError, StampArray, folder, BY_INDEX, "id")
