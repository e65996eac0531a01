import io
import zipfile

import numpy as np
import pytest

from spacewarps.survey.images import StampError, StampShape
from spacewarps.survey.numpy_images import NumpyReader
from tests.complaints import complaint
from tests.survey.stamp_files import in_fits, in_npy, in_npz

CUBE = np.random.default_rng(1).normal(0, 1e-4, (5, 16, 18)).astype(np.float32)
READER = NumpyReader()


@pytest.mark.parametrize(
    "content",
    [
        in_npy(CUBE),
        in_npy(CUBE.astype(">f4")),
        in_npy(np.asfortranarray(CUBE)),
        in_npy(CUBE.transpose(1, 2, 0)),
        in_npy(CUBE.astype(np.float64)),
        in_npz(any_name=CUBE),
    ],
    ids=["npy", "big-endian", "Fortran's order", "channels last", "float64", "npz"],
)
def test_float32_is_kept_to_the_bit_however_it_is_stored(content: bytes) -> None:
    assert READER.shape_of(content) == StampShape(5, 16, 18, "float32")
    stamp = READER.decode(content, 5)
    assert stamp.flags.c_contiguous
    assert (stamp == CUBE).all()


def test_counts_of_8_bits_stay_and_the_mask_of_an_archive_hides_pixels() -> None:
    counts = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert READER.decode(in_npy(counts), 1).tolist() == [counts.tolist()]
    content = in_npz(stamp=counts, mask=counts == 7)
    assert READER.shape_of(content).dtype == "float32"
    assert np.argwhere(np.isnan(READER.decode(content, 1))).tolist() == [[0, 1, 3]]
    wrong = in_npz(stamp=counts, mask=counts[:1])
    assert complaint(StampError, READER.shape_of, wrong) == "mask of another shape than its stamp"


def test_the_array_of_an_archive_is_named_if_there_are_several() -> None:
    content = in_npz(image=CUBE, variance=CUBE[:1])
    assert complaint(StampError, READER.shape_of, content) == (
        "NumPy archive of 2 arrays, of which one would be read; name it by `stamp_extension`"
    )
    assert NumpyReader("image").shape_of(content).channels == 5
    assert complaint(StampError, NumpyReader("sky").shape_of, content) == "NumPy archive without the array 'sky'"


def archive_of(size: int) -> bytes:
    """Return an archive of zeros that is a thousandth of their size."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("stamp.npy", bytes(size))
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (in_npy(np.array([{}, 1])), "NumPy array of |O, where a pixel must be a real number"),
        (in_npy(np.zeros((2, 2), "c8")), "NumPy array of <c8, where a pixel must be a real number"),
        (in_npy(np.array([["text"]])), "NumPy array of <U4, where a pixel must be a real number"),
        (in_npy(np.zeros((4, 4)))[:-8], "damaged stamp"),
        (in_npy(np.zeros((4, 4))).replace(b"(4, 4)", b"(4,99)"), "damaged stamp"),
        (in_npy(np.zeros(4)), "array of 1 axes, where a stamp has two, or three with channels first"),
        (in_npy(np.zeros((4, 4, 4))), "array of three axes, of which the first is as long as the last; which are the "),
        (in_npy(np.zeros((0, 4))), "stamp of absurd size"),
        (in_npy(np.zeros((3, 2100), np.uint8)), "stamp of absurd size"),
        (archive_of(2**27), "stamp of absurd size"),
        (in_fits(CUBE), "stamp in the format FITS; name it .fits"),
    ],
    ids=range(11),
)
def test_an_array_that_is_no_stamp_is_refused(content: bytes, reason: str) -> None:
    assert complaint(StampError, READER.shape_of, content).startswith(reason)
