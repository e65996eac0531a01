import errno
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from spacewarps.errors import SpaceWarpsError, SurveyError
from spacewarps.survey.images import MAX_BYTES, StampError, StampShape
from spacewarps.survey.readers import READERS
from spacewarps.survey.settings import StampSettings
from spacewarps.survey.stamps import (
    Inspected,
    StampFolder,
    describe_misfits,
    inspect_stamps,
    most_common_shape,
    pack_stamps,
)
from tests.survey.pictures import encoded

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8)
SHAPE = StampShape(1, 8, 8, "uint8")
AS_THEY_ARE = StampSettings()
SAVE_AS = "; save it as FITS, NumPy, PNG, JPEG, or TIFF of float32"


def ignore(_done: int) -> None:
    pass


def png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def both(folder: Path, content: bytes) -> tuple[Any, Any, Any]:
    """Return what inspecting and packing say of one file, and the packed array."""
    file = folder / "x.jpg"
    file.write_bytes(content)
    inspected = inspect_stamps([(file,)], AS_THEY_ARE, ignore)[0]
    shape = inspected.shape if isinstance(inspected, Inspected) else SHAPE
    fault = pack_stamps([(file,)], shape, AS_THEY_ARE, folder / "stamps.npy", ignore)[0]
    return inspected, fault, np.load(folder / "stamps.npy")


PNG = encoded(Image.fromarray(GREY))
JPEG = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)), "JPEG")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty stamp file"),
        (b"not an image at all", "stamp that is a text file"),
        (b"\x01\x02\x03", "stamp that is not an image"),
        (PNG[:20], "damaged stamp"),
        (encoded(Image.fromarray(GREY), "GIF"), f"stamp in the format GIF{SAVE_AS}"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", f"stamp in the format PostScript{SAVE_AS}"),
        (png_header(60_000, 60_000), "stamp of absurd size"),
        (png_header(12_000, 12_000), "stamp of absurd size"),
        (png_header(1, 4_000), "stamp of absurd size"),
        (encoded(Image.new("LAB", (8, 8)), "TIFF"), "stamp in the colour mode LAB; save it as grey or RGB"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_what_is_no_stamp_is_a_fault_before_it_is_decoded(tmp_path: Path, content: bytes, reason: str) -> None:
    inspected, fault, packed = both(tmp_path, content)
    assert isinstance(inspected, StampError)
    assert str(inspected) == str(fault) == reason
    assert len(packed) == 0


@pytest.mark.parametrize(
    "content", [PNG[:-30], JPEG[: len(JPEG) // 2], png_header(40, 40)], ids=["cut PNG", "cut JPEG", "too few pixels"]
)
def test_a_damaged_body_is_a_fault_when_it_is_decoded(tmp_path: Path, content: bytes) -> None:
    _, fault, packed = both(tmp_path, content)
    assert str(fault) == "damaged stamp"
    assert len(packed) == 0


def test_folders_pipes_broken_links_and_giants_are_faults_and_whole_links_are_not(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "broken.png").symlink_to("nowhere")
    (tmp_path / "loop.png").symlink_to("loop.png")
    with (tmp_path / "giant.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    (tmp_path / "good.png").write_bytes(PNG)
    (tmp_path / "link.png").symlink_to("good.png")
    folder = StampFolder(tmp_path)
    names = ["folder", "pipe", "zero", "broken", "loop", "giant", "good", "link"]
    found = inspect_stamps([folder.find(name) for name in names], AS_THEY_ARE, ignore)
    assert [str(stamp) for stamp in found[:6]] == [
        *["stamp that is not a file"] * 3,
        *["stamp that cannot be read"] * 2,
        "stamp of absurd size",
    ]
    assert found[6] == found[7]


@pytest.mark.parametrize("key", ["../secret", "/etc/passwd", "..\\secret", "a/b", "x\0"])
def test_an_id_that_is_a_path_is_never_followed(tmp_path: Path, key: str) -> None:
    (tmp_path / "secret.png").write_bytes(PNG)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(PNG)
    with pytest.raises(StampError, match="id that is not a file name"):
        StampFolder(tmp_path / "images").find(key)


def test_stamps_are_found_by_name_whatever_their_suffix(tmp_path: Path) -> None:
    for name in ["a.JPG", "b.c.tiff", "d.png", "d.jpeg", "e.txt", "noted"]:
        (tmp_path / name).write_bytes(PNG)
    folder = StampFolder(tmp_path)
    assert folder.find("a")[0].name == "a.JPG"
    assert folder.find("b.c")[0].name == "b.c.tiff"
    for key, reason in [("d", "several stamps"), ("e", "no stamp"), ("noted", "no stamp"), ("", "no stamp")]:
        with pytest.raises(StampError, match=f"^{reason}$"):
            folder.find(key)


def test_a_folder_that_is_missing_or_holds_no_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SurveyError, match="nowhere: no such folder"):
        StampFolder(tmp_path / "nowhere")
    with pytest.raises(SurveyError, match=r"holds no image \(.jpg, .* .npz\); save stamps as"):
        StampFolder(tmp_path)
    for name in ("a.hdf5", "b.hdf5", "c.HDF5", "d.gif", "e.gif", "README"):
        (tmp_path / name).touch()
    with pytest.raises(SurveyError, match=r"\), but 3 x .hdf5, 2 x .gif, 1 x file without a suffix; save"):
        StampFolder(tmp_path)


def test_packing_keeps_the_order_and_closes_the_gaps_of_faulty_stamps(tmp_path: Path) -> None:
    files = []
    for number in range(600):
        files.append(tmp_path / f"{number}.png")
        files[-1].write_bytes(b"broken" if number % 5 == 1 else encoded(Image.new("L", (3, 2), number % 251)))
    done: list[int] = []
    faults = pack_stamps(
        [(file,) for file in files], StampShape(1, 2, 3, "uint8"), AS_THEY_ARE, tmp_path / "stamps.npy", done.append
    )
    good = [number for number in range(600) if number % 5 != 1]
    assert [number for number, fault in enumerate(faults) if fault == 0] == good
    packed = np.load(tmp_path / "stamps.npy")
    assert packed.shape == (480, 1, 2, 3)
    assert packed[:, 0, 0, 0].tolist() == [number % 251 for number in good]
    assert sum(done) == 600
    assert [path.name for path in tmp_path.glob("*.npy")] == ["stamps.npy"]


def test_the_shape_of_most_stamps_counts_and_order_does_not() -> None:
    small, large = Inspected(StampShape(1, 4, 4, "uint8"), "x"), Inspected(SHAPE, "y")
    assert most_common_shape([small, large, large, StampError("no stamp")]) == SHAPE
    assert most_common_shape([small, large]) == most_common_shape([large, small])
    with pytest.raises(SurveyError, match=r"none of 2 samples .*most often: no stamp\); check that `images` holds"):
        most_common_shape([StampError("no stamp"), StampError("no stamp")])
    with pytest.raises(SurveyError, match=r"most often: damaged stamp\); mend the files in `images`$"):
        most_common_shape([StampError("damaged stamp"), StampError("damaged stamp")])


def test_the_size_of_most_counts_first_and_then_the_channels_of_most_in_that_size() -> None:
    def stamps(channels: int, side: int, count: int) -> list[Inspected]:
        return [Inspected(StampShape(channels, side, side, "uint8"), "x")] * count

    mixed = [*stamps(1, 8, 3), *stamps(3, 8, 2), *stamps(3, 9, 4)]
    assert most_common_shape(mixed) == StampShape(1, 8, 8, "uint8")
    assert most_common_shape([*mixed, *stamps(3, 8, 2)]) == StampShape(3, 8, 8, "uint8")


def test_stamps_that_differ_from_most_are_told_in_what() -> None:
    most = StampShape(1, 8, 8, "float32")
    colour, deep = replace(most, channels=3), replace(most, dtype="uint8")
    wide, high = replace(most, width=9), replace(most, height=10, channels=3)
    assert describe_misfits([most, colour, deep, wide, high], most, "most have") == {
        deep: "stamp of another pixel type (uint8, where most have float32)",
        wide: "stamp of another size (9 x 8, where most have 8 x 8 pixels in width and height)",
        high: "stamp of another size (8 x 10, where most have 8 x 8 pixels in width and height)",
    }
    many = [replace(most, width=width) for width in range(9, 13)]
    assert set(describe_misfits(many, most, "most have").values()) == {
        "stamp of another size (4 sizes, where most have 8 x 8 pixels in width and height)"
    }


def test_filters_for_warnings_are_as_before(tmp_path: Path) -> None:
    before = list(warnings.filters)
    files = []
    for number in range(40):
        files.append(tmp_path / f"{number}.png")
        files[-1].write_bytes(png_header(10_000, 10_000))
    inspect_stamps([(file,) for file in files], AS_THEY_ARE, ignore)
    assert list(warnings.filters) == before


def flipped(content: bytes) -> st.SearchStrategy[bytes]:
    places = st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), min_size=1, max_size=8)

    def spoil(changes: list[tuple[int, int]]) -> bytes:
        damaged = bytearray(content)
        for place, value in changes:
            damaged[place] = value
        return bytes(damaged)

    return places.map(spoil)


TIFF = encoded(Image.fromarray(GREY), "TIFF")
BMP = encoded(Image.fromarray(GREY), "BMP")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(max_size=60), *[flipped(image) for image in (PNG, JPEG, TIFF, BMP)]))
def test_any_bytes_are_a_stamp_or_a_fault(tmp_path: Path, content: bytes) -> None:
    inspected, fault, packed = both(tmp_path, content)
    assert isinstance(inspected, Inspected | StampError)
    assert fault == 0 or isinstance(fault, StampError)
    assert len(packed) == (fault == 0)


@pytest.mark.parametrize("make", [lambda file: file.write_bytes(PNG), lambda file: file.mkdir()])
def test_files_whose_names_are_not_text_do_no_harm(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    make(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.png")))
    (tmp_path / "a.png").write_bytes(PNG)
    assert StampFolder(tmp_path).find("a")[0].name == "a.png"


def test_what_the_machine_is_short_of_is_no_fault_of_a_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    file = StampFolder(tmp_path).find("a")

    def run_short(*_arguments: object, **_options: object) -> None:
        raise MemoryError

    with monkeypatch.context() as short:
        short.setattr("spacewarps.survey.images.Image.open", run_short)
        with pytest.raises(SpaceWarpsError, match=r"a\.png: not enough memory to decode it"):
            inspect_stamps([file], AS_THEY_ARE, ignore)

    def fail(_file: Path) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(OSError, match="Too many open files"):
        inspect_stamps([file], AS_THEY_ARE, ignore)


def reader(shape: Any, stamp: Any) -> SimpleNamespace:
    """Return a reader that gives what it is made with, or raises it."""

    def give(value: Any) -> Any:
        if isinstance(value, Exception):
            raise value
        return value

    return SimpleNamespace(shape_of=lambda _content: give(shape), decode=lambda _content, _channels: give(stamp))


ONES = np.ones((1, 8, 8), dtype=np.float32)
FLOATS = StampShape(1, 8, 8, "float32")
ABSURD, CHANGED, DAMAGED = (
    "stamp of absurd size",
    "stamp that changed while the survey was prepared",
    "damaged stamp",
)


@pytest.mark.parametrize(
    ("shape", "stamp", "inspected", "packed"),
    [
        (FLOATS, ONES, FLOATS, "0"),
        (StampShape(np.int64(1), np.int64(8), np.int64(8), "<f4"), ONES, FLOATS, "0"),  # type: ignore[arg-type]
        (ZeroDivisionError("odd"), RecursionError("deep"), DAMAGED, DAMAGED),
        (OSError("a library's own words"), zlib.error("odd"), DAMAGED, DAMAGED),
        (None, None, DAMAGED, CHANGED),
        (replace(FLOATS, height=0), ONES[:, :0], ABSURD, CHANGED),
        (replace(FLOATS, width=2049), ONES, ABSURD, "0"),
        (replace(FLOATS, channels=0), ONES[:0], ABSURD, CHANGED),
        (
            replace(FLOATS, dtype="float64"),
            ONES.astype(np.float64),
            "stamp that is read as float64, where a pixel must be uint8 or float32",
            CHANGED,
        ),
        (
            FLOATS,
            ONES * np.float32(np.inf),
            FLOATS,
            "stamp of which more than 50% is masked",
        ),
    ],
    ids=range(10),
)
def test_what_a_reader_gives_is_checked_and_what_it_raises_is_the_stamps_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: Any, stamp: Any, inspected: Any, packed: str
) -> None:
    monkeypatch.setitem(READERS, ".own", reader(shape, stamp))
    (tmp_path / "a.own").write_bytes(b"any")
    (found,) = inspect_stamps([(tmp_path / "a.own",)], AS_THEY_ARE, ignore)
    assert (found.shape if isinstance(found, Inspected) else str(found)) == inspected
    (fault,) = pack_stamps([(tmp_path / "a.own",)], FLOATS, AS_THEY_ARE, tmp_path / "stamps.npy", ignore)
    assert str(fault) == packed


def test_what_the_machine_is_short_of_is_no_fault_of_a_stamp_for_any_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setitem(READERS, ".own", reader(full, MemoryError()))
    (tmp_path / "a.own").write_bytes(b"any")
    with pytest.raises(OSError, match="No space left"):
        inspect_stamps([(tmp_path / "a.own",)], AS_THEY_ARE, ignore)
    with pytest.raises(SpaceWarpsError, match="not enough memory"):
        pack_stamps([(tmp_path / "a.own",)], FLOATS, AS_THEY_ARE, tmp_path / "stamps.npy", ignore)
