"""The pipeline that the benchmark compares with computes what the field's code computes, and the benchmark runs."""

import json
import random

import numpy as np
import pytest

from benchmarks import augment as benchmark


@pytest.mark.outside
def test_the_pipeline_replays_the_authors_draws(fixture, monkeypatch):
    ref = fixture("aug_chain_strong")
    for case, trace in enumerate(ref["trace_json"]):
        draws = iter([value for _, value in json.loads(trace)])
        number, whole = lambda *a, **k: next(draws), lambda *a, **k: int(next(draws))
        for name in ("uniform", "random"): monkeypatch.setattr(random, name, number)
        monkeypatch.setattr(random, "randint", whole)
        monkeypatch.setattr(np.random, "randint", whole)
        monkeypatch.setattr(np.random, "random_sample", number)
        monkeypatch.setattr(np.random, "normal", lambda *a, **k: next(draws) == "array" and ref["noise"][case])
        y = benchmark.normal(benchmark.basic(ref["x"]))
        assert next(draws, None) is None
        np.testing.assert_allclose(y, ref["y"][case], rtol=1e-6, atol=1e-6)


def test_the_benchmark_runs(tmp_path):
    result = benchmark.main(["--batch", "4", "--rounds", "1", "--one-process", "--out", str(tmp_path / "a.json")])
    assert json.loads((tmp_path / "a.json").read_text()) == result
    assert result["one_thread_one_process"]["batched"]["best_ms"] > 0 and 0 < result["random_share"] < 1
