"""What every source promises, and rows against loops over the arrays' own elements."""

import math
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mono_quant import Batch
from mono_quant.calibration.sources import DataLoaderSource
from mono_quant.errors import CalibrationError, ConfigurationError
from mono_quant.testing import SourceSuite

from mono_quant_numpy import NumpySource

ROWS = [[float(row), row + 0.5, -float(row)] for row in range(5)]
TIMES = [10, 11, 12, 13, 14]


def tensor(rows: list, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(rows, dtype=dtype)


def first(data: object, **options: object) -> torch.Tensor:
    """The only tensor of the first batch."""
    (found,) = next(NumpySource(**options).batches(data)).args
    return found


class TestNumpy(SourceSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path):
        self.folder = tmp_path

    def make(self):
        return NumpySource(batch_size=2)

    def accepted(self):
        rows, times = np.array(ROWS), np.array(TIMES)
        np.save(self.folder / "rows.npy", rows)
        np.savez(self.folder / "one.npz", rows=rows)
        np.savez_compressed(self.folder / "two.npz", rows=rows, t=times)
        cut = [slice(0, 2), slice(2, 4), slice(4, 5)]
        single = [Batch((tensor(ROWS[part]),)) for part in cut]
        both = [Batch(kwargs={"rows": tensor(ROWS[part]), "t": tensor(TIMES[part], torch.int64)}) for part in cut]
        return [
            (rows, single),
            ({"rows": rows, "t": times}, both),
            ({"rows": rows}, [Batch(kwargs={"rows": tensor(ROWS[part])}) for part in cut]),
            (self.folder / "rows.npy", single),
            (str(self.folder / "rows.npy"), single),
            (np.load(self.folder / "rows.npy", mmap_mode="r"), single),
            (self.folder / "one.npz", single),
            (str(self.folder / "two.npz"), both),
        ]

    def broken(self):
        (self.folder / "damaged.npy").write_bytes(b"no array")
        return [
            (np.array([{}, []], dtype=object), "the array [2] has dtype object"),
            ({"x": np.ones((4, 2)), "t": np.ones(3)}, "'x' has 4, 't' has 3 rows"),
            (self.folder / "missing.npy", "missing.npy"),
            (str(self.folder / "damaged.npy"), "damaged.npy"),
        ]

    def test_no_other_source_reads_what_it_accepts(self):
        for data, _ in self.accepted():
            assert not DataLoaderSource().accepts(data)


OTHERS = [[np.zeros(3)], (np.zeros(3),), torch.zeros(3), [torch.zeros(3)], {"x": torch.zeros(3)}, {}, Path("data.pt"),
          Path(), np.float32(3), iter([]), "data.npy.gz"]  # fmt: skip


@pytest.mark.parametrize("data", OTHERS, ids=lambda data: type(data).__name__)
def test_what_is_not_its_own_is_left_to_other_sources(data: object):
    assert NumpySource().accepts(data) is False


@pytest.mark.parametrize("name", ["missing.npy", "missing.NPZ"])
def test_accepting_a_path_does_not_look_for_the_file(name: str):
    assert NumpySource().accepts(name) is NumpySource().accepts(Path(name)) is True


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 3))
def test_every_row_comes_once_in_its_order(rows: int, batch_size: int, width: int):
    data = np.arange(rows * 2**width, dtype=np.int64).reshape([rows, *[2] * width])
    batches = [batch.args[0] for batch in NumpySource(batch_size=batch_size).batches(data)]
    assert [value for batch in batches for value in batch.flatten().tolist()] == list(range(rows * 2**width))
    assert len(batches) == math.ceil(rows / batch_size) == NumpySource(batch_size=batch_size).length(data)
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)


@pytest.mark.parametrize("given_as", ["float16", "float32", "float64", ">f4", ">f8", "<f8"])
@pytest.mark.parametrize("wanted", ["float16", "bfloat16", "float32", "float64"])
def test_floats_become_the_type_that_was_asked_for(given_as: str, wanted: str):
    found = first(np.array([[1.5, -2.0]], dtype=given_as), float_dtype=wanted)
    assert (found.dtype, found.tolist()) == (getattr(torch, wanted), [[1.5, -2.0]])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_keep_their_type_when_none_is_asked_for(dtype: str):
    assert first(np.ones((2, 2), dtype), float_dtype=None).dtype == getattr(torch, dtype)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int16", "int32", "int64", ">i4"])
@pytest.mark.parametrize("wanted", ["float16", None])
def test_integers_and_booleans_keep_their_type(dtype: str, wanted: str | None):
    found = first(np.array([0, 1, 1], dtype), float_dtype=wanted)
    assert (found.dtype, found.tolist()) == (getattr(torch, dtype.replace(">i4", "int32")), [0, 1, 1])


@pytest.mark.parametrize("view", [lambda x: x[::-1], lambda x: x[:, ::2], lambda x: x.T, np.asfortranarray])
def test_arrays_of_any_layout_are_read(view: Callable[[np.ndarray], np.ndarray]):
    data = view(np.arange(24.0).reshape(4, 6))
    assert first(data).tolist() == [list(row) for row in data]


@pytest.mark.parametrize("is_mapped", [False, True])
def test_writing_into_a_batch_leaves_the_array_and_the_file_as_they_were(tmp_path: Path, is_mapped: bool):  # noqa: FBT001
    data = np.ones((4, 3), dtype=np.float32)
    path = tmp_path / "x.npy"
    np.save(path, data)
    before = path.read_bytes()
    first(path if is_mapped else data).zero_()
    assert data.sum() == 12
    assert path.read_bytes() == before


def test_an_open_file_can_be_deleted_and_written_anew_afterwards(tmp_path: Path):
    path = tmp_path / "x.npz"
    np.savez(path, x=np.ones((2, 2)))
    list(NumpySource().batches(path))
    path.unlink()
    np.savez(path, x=np.zeros((2, 2)))
    assert first(path).tolist() == [[0, 0], [0, 0]]


def test_how_many_batches_an_archive_has_is_not_known_before_it_is_read(tmp_path: Path):
    assert NumpySource().length(tmp_path / "missing.npz") is None


BAD_ARRAYS = {
    "objects": (np.array([{}, []], dtype=object), r"\[2\] has dtype object: Python objects .* np\.stack"),
    "0-d": (np.array(3.0), r"has no axes \(dtype float64\): rows are samples"),
    "no samples": (np.zeros((0, 3)), r"is empty: its shape is \[0, 3\]; give at least one sample"),
    "no features": (np.zeros((3, 0)), r"is empty: its shape is \[3, 0\]"),
    "uint16": (np.zeros(3, np.uint16), r'\[3\] has dtype uint16: .*convert it with \.astype\("int64"\)'),
    "uint32": (np.zeros(3, np.uint32), "has dtype uint32"),
    "uint64": (np.zeros(3, ">u8"), "has dtype >u8"),
    "complex": (np.zeros(3, complex), "has dtype complex128: calibration data has floats"),
    "text": (np.array(["a"]), "has dtype <U1"),
    "dates": (np.zeros(3, "datetime64[s]"), "has dtype datetime64"),
    "records": (np.zeros(3, [("a", "f4")]), "has dtype"),
    "masked": (np.ma.masked_array([1.0, 2.0], [True, False]), r"is masked.*\.filled\(value\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_an_array_that_cannot_be_samples_is_refused_with_the_reason(name: str):
    data, why = BAD_ARRAYS[name]
    assert NumpySource().accepts(data)
    with pytest.raises(CalibrationError, match="the array " + ("" if why.startswith("\\[") else ".*") + why):
        list(NumpySource().batches(data))
    with pytest.raises(CalibrationError, match="array 'bad' of the mapping .*" + why.lstrip()):
        list(NumpySource().batches({"good": np.ones(2), "bad": data}))


@pytest.mark.skipif(np.dtype("longdouble").itemsize == 8, reason="long double is float64 here")
def test_a_float_type_that_torch_has_not_is_refused():
    with pytest.raises(CalibrationError, match=r'torch has no such type; convert it with \.astype\("float64"\)'):
        first(np.ones(3, "longdouble"))


def test_arrays_of_different_length_are_named_with_their_lengths(tmp_path: Path):
    data = {"x": np.ones((4, 2)), "t": np.ones(3)}
    np.savez(tmp_path / "d.npz", **data)
    for given_as, what in ((data, "the mapping"), (tmp_path / "d.npz", r".*d\.npz")):
        with pytest.raises(CalibrationError, match=f"arrays of {what} differ in length: 'x' has 4, 't' has 3 rows"):
            list(NumpySource().batches(given_as))


def test_a_mapping_with_something_else_in_it_is_refused_by_its_name():
    with pytest.raises(CalibrationError, match="array 't' of the mapping is a list, not a NumPy array"):
        list(NumpySource().batches({"x": np.ones(2), "t": [1, 2]}))
    with pytest.raises(CalibrationError, match="key 3: keys must be names"):
        list(NumpySource().batches({3: np.ones(2)}))


class Bomb:
    """Says when it is unpickled."""

    def __reduce__(self) -> tuple:
        return (pytest.fail, ("it was unpickled",))


def npy_bytes(folder: Path) -> bytes:
    np.save(folder / "good.npy", np.random.default_rng(0).normal(size=(20, 3)))
    return (folder / "good.npy").read_bytes()


def write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb()))


def write_objects(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([Bomb()], dtype=object), allow_pickle=True)


def write_member(path: Path, name: str, content: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content)


def write_objects_member(path: Path) -> None:
    write_objects(path.with_suffix(".tmp"))
    write_member(path, "x.npy", path.with_suffix(".tmp").read_bytes())


def write_huge_claim(path: Path) -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%d, 9), }\n" % 10**15
    write_member(path, "x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


DAMAGED = {
    "nothing.npy": lambda path: path.write_bytes(b""),
    "text.npy": lambda path: path.write_bytes(b"hello"),
    "short.npy": lambda path: path.write_bytes(npy_bytes(path.parent)[:-8]),
    "half-a-header.npy": lambda path: path.write_bytes(npy_bytes(path.parent)[:30]),
    "header.npy": lambda path: path.write_bytes(npy_bytes(path.parent).replace(b"(20, 3)", b"(((((((")),
    "pickle.npy": write_pickle,
    "objects.npy": write_objects,
    "nothing.npz": lambda path: path.write_bytes(b""),
    "text.npz": lambda path: path.write_bytes(b"PK\x03\x04 and so on"),
    "pickle.npz": write_pickle,
    "objects.npz": write_objects_member,
    "member.npz": lambda path: write_member(path, "x.npy", npy_bytes(path.parent)[:-8]),
    "huge.npz": write_huge_claim,
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_that_is_not_what_it_claims_is_named_and_never_unpickled(tmp_path: Path, name: str):
    DAMAGED[name](tmp_path / name)
    with pytest.raises(CalibrationError, match=rf"{name} is damaged, no file of NumPy, or holds pickled objects"):
        list(NumpySource().batches(tmp_path / name))


@settings(deadline=None, max_examples=200)
@given(st.sampled_from([".npy", ".npz"]), st.integers(0, 300), st.integers(1, 255))
def test_a_file_with_any_byte_changed_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, place: int, change: int
):
    folder = tmp_path_factory.mktemp("bytes")
    path = folder / f"x{suffix}"
    (np.save if suffix == ".npy" else np.savez_compressed)(path, np.ones((6, 3)))
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= change
    path.write_bytes(content)
    try:
        batches = list(NumpySource().batches(path))
    except CalibrationError as error:
        assert str(path) in str(error)  # noqa: PT017 - either outcome is right
    else:
        assert batches


def test_a_missing_file_a_folder_and_an_empty_archive_are_named(tmp_path: Path):
    (tmp_path / "folder.npy").mkdir()
    np.savez(tmp_path / "none.npz")
    messages = {"missing.npy": "there is no file .*missing", "folder.npy": "cannot be read", "none.npz": "no arrays"}
    for name, message in messages.items():
        with pytest.raises(CalibrationError, match=message):
            list(NumpySource().batches(tmp_path / name))


def test_what_is_wrong_inside_a_file_is_named_with_the_file(tmp_path: Path):
    np.savez(tmp_path / "a.npz", x=np.ones((2, 2)), when=np.zeros(2, "datetime64[s]"))
    np.save(tmp_path / "b.npy", np.zeros((0, 7)))
    with pytest.raises(CalibrationError, match=r"array 'when' of .*a\.npz \[2\] has dtype datetime64"):
        list(NumpySource().batches(tmp_path / "a.npz"))
    with pytest.raises(CalibrationError, match=r"b\.npy is empty: its shape is \[0, 7\]"):
        NumpySource().length(tmp_path / "b.npy")


@pytest.mark.parametrize("data", [[np.zeros(3)], None, 3])
def test_data_that_was_given_by_force_is_refused(data: object):
    with pytest.raises(CalibrationError, match=f"reads an array, a mapping .*got {type(data).__name__}"):
        list(NumpySource().batches(data))


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "32", None])
def test_a_batch_size_is_a_number_of_rows(size: object):
    with pytest.raises(ConfigurationError, match="batch_size must be a whole number of at least 1"):
        NumpySource(batch_size=size)


@pytest.mark.parametrize("name", ["int8", "float", "Float32", 3, ["float32"]])
def test_a_float_dtype_is_one_of_four(name: object):
    with pytest.raises(ConfigurationError, match="float_dtype must be one of 'float16', 'bfloat16', 'float32', 'floa"):
        NumpySource(float_dtype=name)
