"""Recipes: the papers' runs by name, changed, kept and read back; files of other origin are refused."""

import json

import numpy as np
import pytest
import torch

from skelnb.data import load
from skelnb.methods import METHODS
from skelnb.methods.momentum import create_method
from skelnb.train import Recipe, RecipeError, recipe
from skelnb.train.recipes import EPOCHS, METHOD_SETTINGS, QUEUES, SMALL


@pytest.fixture(scope="module")
def clips():
    return load("synthetic-small", frames=16).split("xsub")[0].subset(np.arange(40))


# method, data, then: epochs, drop of the rate, start of the second stage (FACTS of both papers' configurations)
PAPERS = [("skeletonclr", "ntu60", 300, [250], None), ("crossclr", "ntu60", 300, [250], 150), ("aimclr", "ntu120", 300, [250], 150),
          ("hiclr", "ntu60", 300, [250], 150), ("hiclr", "pku1", 300, [250], 150), ("hiclr", "pku2", 1500, [1250], 750),
          ("acl", "ntu60", 100, [], 60), ("acl", "ntu120", 80, [], 40), ("acl", "pku1", 150, [], 100), ("acl", "pku2", 250, [], 200),
          ("cmal", "ntu60", 60, [], None), ("skeletonbyol", "ntu120", 40, [], None)]


@pytest.mark.parametrize("method, data, epochs, steps, second", PAPERS)
def test_the_papers_schedules(method, data, epochs, steps, second):
    r = recipe(method, data)
    stage = [r.settings[k] for k in ("mine_from", "cross_from", "stage1") if k in r.settings]
    assert (r.plan["epochs"], r.plan["lr_steps"], stage) == (epochs, steps, [] if second is None else [second])
    assert (r.plan["batch_size"], r.plan["lr"], r.plan["weight_decay"]) == (128, .1, 1e-4)


def test_the_papers_networks_have_the_papers_sizes(clips):
    "0.82 million parameters with 256 features, 2.66 with 512; ACL's heads 2,103,808 each; queues of 32,768 keys of 128 numbers."
    count = lambda m: sum(p.numel() for p in m.parameters())
    queued, pair = recipe("skeletonclr", "ntu60").build(clips), recipe("cmal", "ntu60").build(clips)
    assert count(queued.encoders["joint"]) == 821_380 and queued.queues["joint"].rows.shape == (32768, 128)
    assert count(pair.encoders["joint"]) == 2_659_204 and count(pair.predictors["joint"]) == count(pair.pairs["joint"].online.projector) == 2_103_808
    assert (queued.tau, pair.tau, queued.temperature) == (.999, .996, .07)


def test_every_method_has_a_recipe_for_every_set():
    assert set(METHOD_SETTINGS) == set(METHODS) - {m for m in METHODS if ":" not in str(METHODS[m])}      # but for methods of one's own
    for method in METHOD_SETTINGS:
        for data in (*EPOCHS, *SMALL):
            r = recipe(method.upper(), data)
            assert r.method == method and r.data == data and (r.settings.get("queue", 0) is None) == (method in QUEUES and data in SMALL)


@pytest.mark.parametrize("method", list(METHOD_SETTINGS))
def test_a_recipe_survives_a_file_and_makes_the_same_method(method, clips, tmp_path):
    r = recipe(method, clips, epochs=2, width=4, feature_dim=8, batch_size=10)
    again = Recipe.load(r.save(tmp_path / "r.json"))
    assert again == r and json.loads((tmp_path / "r.json").read_text())["kind"] == "skelnb recipe 1"
    one, other = r.build(clips, seed=1), again.build(clips, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    assert create_method(method, **json.loads(json.dumps(one.config))).config == one.config
    head = lambda m: m.pairs["joint"].online.projector[0].weight
    assert torch.equal(head(one), head(other)) and not torch.equal(head(one), head(r.build(clips, seed=2)))


def test_run_trains_reports_what_is_mined_and_goes_on(clips, tmp_path):
    r = recipe("hiclr", clips, epochs=2, encoder="tcn", feature_dim=8, batch_size=10, mine_from=1)
    method, history = r.run(clips, out=tmp_path / "a", progress=False)
    assert len(method.queues["joint"]) == 20                                               # half of 40, two batches
    assert "joint/mined_self" not in history[0]
    assert sum(history[1][f"joint/mined_{k}"] for k in ("self", "same", "other")) == pytest.approx(1, abs=1e-6)
    r.run(clips, out=tmp_path / "b", epochs=1, progress=False)
    _, again = r.run(clips, out=tmp_path / "b", progress=False)
    assert [h["loss"] for h in again] == [h["loss"] for h in history]


def test_an_encoder_of_ones_own(clips):
    class Own(torch.nn.Module):
        feature_dim = 6
        def __init__(self): super().__init__(); self.layer = torch.nn.Linear(3, 6)
        def forward(self, x): return self.layer(x.mean((2, 3, 4)))
    method, history = recipe("cmal", clips, epochs=1, batch_size=10).run(clips, encoder=Own, progress=False)
    assert isinstance(method.encoders["joint"], Own) and len(history) == 1
    assert recipe("cmal", clips, encoder="tcn").build(clips).encoders["joint"].config["name"] == "tcn"


def test_a_change_makes_a_new_recipe_and_its_text_shows_it():
    r = recipe("hiclr", "ntu60")
    other = r.change(lr=.05, sim="ce")
    assert r.plan["lr"] == .1 and other.plan["lr"] == .05 and other.settings["sim"] == "ce" and other != r
    assert "sim           ce" in repr(other) and "<td" in other._repr_html_()
    assert "<script>" not in Recipe("cmal", "<script>", {}, dict(epochs=1), "<script>")._repr_html_()


@pytest.mark.parametrize("call, said", [
    (lambda: recipe("hicrl", "ntu60"), "did you mean 'hiclr'"),
    (lambda: recipe("hiclr", "ntu61"), "ntu60, ntu120"),
    (lambda: recipe("hiclr", "ntu60", lambda_=1), "lambda_h"),
    (lambda: recipe("cmal", "ntu60", temperature=1.), "has no setting 'temperature'"),
    (lambda: Recipe("cmal", "x", dict(lr=1), {}), "has no setting 'lr'"),
    (lambda: Recipe("cmal", "x", {}, dict(tau=1)), "has no setting 'tau'"),
])
def test_a_wrong_word_is_answered(call, said):
    with pytest.raises(RecipeError, match=said):
        call()


@pytest.mark.parametrize("text, said", [("{", "not JSON"), ("[]", "Recipe.save"), ('{"kind": "skelnb recipe 1"}', "missing"),
                                        ('{"kind": "skelnb recipe 1", "method": "cmal", "data": "x", "settings": [], "plan": {}}', "ill-shaped"),
                                        ('{"kind": "skelnb recipe 1", "method": "os.system", "data": "x", "settings": {}, "plan": {}}', "unknown method")])
def test_a_file_that_is_no_recipe_is_refused(text, said, tmp_path):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(RecipeError, match=said):
        Recipe.load(tmp_path / "r.json")
    with pytest.raises(RecipeError, match="no such file"):
        Recipe.load(tmp_path / "none.json")
