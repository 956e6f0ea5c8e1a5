"""Where the outside numbers are, and what to do where they are not."""

import os
import pathlib

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from browser import browser, offline_page, open_page, page, screenshot  # noqa: F401  (fixtures of the browser tests)

ROOT = pathlib.Path(__file__).resolve().parent.parent


def _folder(variable, what):
    folder = os.environ.get(variable)
    if not folder:
        pytest.skip(f"{variable} is not set: {what}")
    folder = pathlib.Path(folder)
    assert folder.is_dir(), f"{variable}={folder} is not a folder"
    return folder


@pytest.fixture(scope="session")
def fixtures_dir():
    "Folder of numbers made by the authors' code."
    return _folder("SKELNB_FIXTURES", "comparison with the authors' numbers left out")


@pytest.fixture(scope="session")
def data_dir():
    "Folder of archives of real recordings."
    return _folder("SKELNB_DATA", "tests on real recordings left out")


@pytest.fixture(scope="session")
def fixture(fixtures_dir):
    "fixture('acl_ema') -> the arrays of that file."
    import numpy as np
    return lambda name: np.load(fixtures_dir / f"{name}.npz", allow_pickle=False)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    "Under SKELNB_NO_SKIPS (the gate sets it) a test that needs outside numbers or a browser may not be skipped."
    report = (yield).get_result()
    needed = {"outside": bool(os.environ.get("SKELNB_FIXTURES")), "browser": True}
    if report.skipped and os.environ.get("SKELNB_NO_SKIPS") and not hasattr(report, "wasxfail"):
        for marker, ready in needed.items():
            if ready and item.get_closest_marker(marker):
                report.outcome = "failed"
                report.longrepr = f"skipped, but the gate requires {marker} tests to run: {report.longrepr}"
