"""A set of 45 made-up clips under a real one's name, and trials on it that take a second."""

import json

import pytest

from skelnb.data.synthetic import synthesize
from skelnb.evaluate import experiment

TINY = dict(epochs=2, width=2, feature_dim=16, projection=8, queue=8, batch_size=4)


@pytest.fixture(scope="module")
def clips():
    "5 people, 3 cameras, 3 actions: of view1 24 clips train, 6 are held out, 15 test."
    return synthesize(n_subjects=5, n_cameras=3, n_repeats=1, n_setups=1, classes=["kick", "drink", "sit down"], frames=25, name="nw-ucla")


@pytest.fixture(scope="module")
def home(clips, tmp_path_factory):
    "A folder of data whose nw-ucla are these clips."
    folder = tmp_path_factory.mktemp("home")
    clips.save(folder / "cache" / "nw-ucla-25")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SKELNB_HOME", str(folder)); patch.setenv("SKELNB_RESULTS", str(folder / "results"))
        experiment._PARTS.clear()
        yield folder
    experiment._PARTS.clear()


def tiny(method="skeletonclr", **changes):
    return experiment.Trial(method, "nw-ucla", **TINY | changes)


def numbers(folder):
    "{file: what does not depend on the clock} of a folder of results."
    return {file.name: {k: v for k, v in json.loads(file.read_text()).items() if k in ("trial", "scores", "truth", "clips", "loss")} for file in sorted((folder / "trials").iterdir())}
