"""Figure 4 of ACL from made-up weights: all six rows, or the ones that are there."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import normalized_mutual_info_score

from benchmarks import figure4
from skelnb.encoders.core import create_encoder
from skelnb.evaluate.experiment import digest
from skelnb.evaluate.tables import TABLES, trial_of
from skelnb.skeleton import NTU25
from skelnb.train.checkpoint import save_weights, write_json

ROWS = TABLES["acl-fig4"].rows


def weights(folder, rows):
    "Runs that nobody trained, under the names of the rows' trials."
    for row in rows:
        trial = trial_of(row, "synthetic-small", 0)
        run = folder / f"trial-{digest(trial.pretext)}"
        run.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(len(row.label))
        save_weights(run / "last.safetensors", {s: create_encoder("stgcn", skeleton=NTU25, width=2, feature_dim=4).eval() for s in ("joint", "motion", "bone")})
        write_json(run / "done.json", {})


@pytest.fixture
def few(monkeypatch):
    "Of the test clips every eleventh: 180 are enough here."
    whole = figure4.parts_of
    monkeypatch.setattr(figure4, "parts_of", lambda pretext: (*whole(pretext)[:2], whole(pretext)[2].subset(np.arange(0, 1980, 11))))
    monkeypatch.setattr(figure4, "CLIPS", 60)
    monkeypatch.setattr(figure4, "choose", lambda y: CHOOSE(y, clips=60))


CHOOSE = figure4.choose


def test_choose():
    y = np.repeat(np.arange(10), 200)
    chosen, rows = CHOOSE(y)
    assert len(chosen) == 6 and len(rows) == 600 and (np.bincount(y[rows], minlength=10)[chosen] == 100).all()
    assert (CHOOSE(y)[1] == rows).all() and (CHOOSE(y, seed=1)[1] != rows).any()
    chosen, rows = CHOOSE(np.array([0, 0, 1, 2]))                     # fewer classes and clips than asked for
    assert chosen.tolist() == [0, 1, 2] and rows.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("missing", [[], ["3s-CrosSCLR", "ACL"]])
def test_from_made_up_weights(tmp_path, few, capsys, missing):
    weights(tmp_path / "runs", [r for r in ROWS if r.label not in missing])
    figure4.main(["--runs", str(tmp_path / "runs"), "--out", str(tmp_path)])
    about, found = json.loads((tmp_path / "figure4-synthetic-small.json").read_text()), load_file(tmp_path / "figure4-synthetic-small.safetensors")
    kept = [r.label for r in ROWS if r.label not in missing]
    assert about["missing"] == missing and list(about["methods"]) == kept and set(found) == set(kept)
    assert capsys.readouterr().out.count("missing:") == len(missing)
    n = len(about["labels"])
    for row in ROWS:
        if row.label in missing:
            continue
        made, x = about["methods"][row.label], found[row.label]
        assert x.dtype == torch.float16 and x.shape == (n, 4 * len(row.read.split("+"))) and len(made["xy"]) == n and set(made["nmi"]) == {"all classes", "six classes", "shown"}
        torch.testing.assert_close(x.float().norm(dim=1), torch.ones(n), atol=2e-3, rtol=0)
    joint = found["3s-CMAL"][:, :4].float()                           # the joint stream's unit rows, a third of the squared length
    torch.testing.assert_close(joint * 3 ** .5, found["CMAL"].float(), atol=2e-3, rtol=0)


def test_nothing_there(tmp_path, capsys):
    figure4.main(["--runs", str(tmp_path), "--out", str(tmp_path)])
    assert capsys.readouterr().out.count("missing:") == 6 and not list(tmp_path.iterdir())


def test_measure_is_sklearns():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(8), 20)
    x = np.eye(8)[y] + .05 * rng.normal(size=(160, 8))                # groups that k-means cannot miss
    chosen, rows = CHOOSE(y, clips=60)
    nmi, xy, half = figure4.measure(figure4.Features(torch.tensor(x, dtype=torch.float32), torch.tensor(y)), chosen, rows, y)
    assert nmi == {"all classes": 1., "six classes": 1., "shown": 1.} and xy.shape == (60, 2) and half.shape == (60, 8)
    assert normalized_mutual_info_score(y[rows], y[rows]) == 1
