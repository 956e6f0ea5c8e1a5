"""A few hundred damaged files of every format; `python tests/fuzz_readers.py --runs 100000` makes many."""

import pathlib
import random
import tempfile

import pytest
from hypothesis import given, settings, strategies as st

import fuzz_readers
from skelnb.data import ReadError

FILES = fuzz_readers.corpus()
OTHERS = [d for group in FILES.values() for f in group for d in f.values()]


@pytest.mark.parametrize("kind", fuzz_readers.KINDS)
def test_the_files_are_good_before_they_are_damaged(kind, tmp_path):
    for i, files in enumerate(FILES[kind]):
        paths = [tmp_path / str(i) / name for name in files]
        for path, data in zip(paths, files.values()):
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_bytes(data)
        assert fuzz_readers.use(kind, paths, random.Random(0))


@pytest.mark.parametrize("kind", fuzz_readers.KINDS)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), which=st.integers(0, 10**6))
def test_damaged_files(kind, seed, which):
    "Recordings or a ReadError that names the file, in bounded time; anything else is raised by `one`."
    with tempfile.TemporaryDirectory() as folder:
        outcome, seconds = fuzz_readers.one(kind, FILES[kind][which % len(FILES[kind])], random.Random(seed), pathlib.Path(folder), OTHERS, timer=False)
    assert outcome in ("read", "ReadError") and seconds < 3 * fuzz_readers.SECONDS


TEXTS = {"ntu": "S001C001P001R001A001.skeleton", "missing": "list.txt", "ucla": "a08_s03_e01_v02.json", "pickle": "x.pkl", "pyskl": "x.pkl", "ctrgcn": "x.npz"}


@pytest.mark.parametrize("kind", TEXTS)
@settings(max_examples=30, deadline=None)
@given(data=st.one_of(st.binary(max_size=200), st.text("0123456789.-+eE \n\t\r,[]{}:\"'naif", max_size=200).map(str.encode), st.lists(st.integers(-2, 30), max_size=60).map(lambda v: "\n".join(map(str, v)).encode())))
def test_whatever_is_in_a_file(kind, data):
    "Bytes that were never a file of the format."
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / TEXTS[kind]
        path.write_bytes(data)
        try:
            fuzz_readers.use(kind, [path], random.Random(0))
        except ReadError as e:
            assert str(path) in str(e) and e.remedy


def test_a_run_can_be_repeated():
    assert fuzz_readers.fuzz(64, seed=5)[0] == fuzz_readers.fuzz(64, seed=5)[0]
