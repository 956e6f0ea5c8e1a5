"""A trial is what it declares: its name, the numbers it keeps, and the same ones however often it was stopped."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from trial_cases import TINY, clips, home, numbers, tiny  # noqa: F401  (fixtures)

from skelnb.data import FolderError, load
from skelnb.data.streams import to_stream
from skelnb.evaluate import clusters, experiment, features, finetune, fuse, joint_linear, knn, linear, semi
from skelnb.evaluate.experiment import ExperimentError, Trial, control_clips, digest, pack, pack_labels, run, stored, subsets, trial_file, unpack, unpack_labels
from skelnb.evaluate.features import Features, calibrate
from skelnb.train.checkpoint import load_weights
from skelnb.train.recipes import Recipe, RecipeError, recipe


pytestmark = pytest.mark.xdist_group("experiment")                             # they share what was run once


@pytest.fixture(scope="module")
def done(home, tmp_path_factory):
    "(trials, folder of results, folder of runs): what most tests look at, run once."
    results, runs = tmp_path_factory.mktemp("results"), tmp_path_factory.mktemp("runs")
    both, short = dict(streams=["joint", "motion"]), dict(schedule="laptop", epochs=1)
    trials = {"frozen": tiny(**both), **{how: tiny(protocol="fusion", knobs=dict(how=how), **both) for how in ("sum", "mean", "aimclr")}, "finetune": tiny(protocol="finetune", knobs=short, **both), "semi": tiny(protocol="semi", knobs=short | dict(fraction=.5), **both),
              **{c: tiny(control=c) for c in experiment.CONTROLS}}
    assert run(trials.values(), results=results, runs=runs, progress=False) == []
    return trials, results, runs


def parts():
    return load("nw-ucla", frames=25).split("view1", val=.2, seed=0)


# ---- what a trial is

VARIANTS = [dict(), dict(seed=1), dict(protocol="finetune"), dict(protocol="semi"), dict(knobs=dict(k=5)), dict(knobs=dict(k=6)), dict(split="standard"), dict(frames=20), dict(val=0.), dict(epochs=3), dict(lr=.5),
            dict(batch_size=8), dict(weight_decay=0.), dict(lr_steps=[2]), dict(width=3), dict(feature_dim=8), dict(queue=12), dict(tau=.5), dict(streams=["bone"]), dict(streams=["joint", "bone"]), dict(streams=["bone", "joint"]),
            dict(encoder="gru"), dict(control="shuffled"), dict(control="pose"), dict(control="untrained"), dict(control="raw"), dict(augment="BA+NA"), dict(dropout=.3), dict(init="random")]


def test_the_same_declaration_is_the_same_trial_and_any_change_another():
    made = [tiny(**v) for v in VARIANTS]
    assert len({t.hash for t in made}) == len(VARIANTS)
    for v, t in zip(VARIANTS, made):
        again = tiny(**v)
        assert again == t and hash(again) == hash(t) and again.hash == t.hash and t == t and len(t.hash) == 12
        assert json.loads(json.dumps(t.identity)) == t.identity and digest(json.loads(json.dumps(t.identity))) == t.hash
    assert Trial("hiclr", "nw-ucla") != Trial("aimclr", "nw-ucla") and Trial("hiclr", "nw-ucla") != Trial("hiclr", "pku1-pairs") and tiny() != "a trial"


def test_what_is_left_out_is_what_is_usual():
    "Saying the default changes nothing; neither does the order in which settings are named."
    assert Trial("cmal", "nw-ucla") == Trial("cmal", "nw-ucla", seed=0, protocol="frozen", knobs={}, split="view1", frames=25, val=.2, epochs=50, encoder="stgcn")
    assert Trial("acl", "ntu60") == Trial("acl", "ntu60", epochs=100, val=0., frames=50, split="xsub") and Trial("hiclr", "pku2").pretext["recipe"]["plan"]["epochs"] == 1500
    a, b = tiny(knobs=dict(k=3, drop=50), lr=.1, tau=.9), tiny(tau=.9, lr=.1, knobs=dict(drop=50, k=3))
    assert a.hash == b.hash and digest(a.pretext) == digest(b.pretext)
    made = [Trial(m, "synthetic-small").pretext["recipe"]["plan"]["epochs"] * passes for m, passes in experiment.PASSES.items()]
    assert set(made) == {experiment.SETS["synthetic-small"]["passes"]}


def test_the_name_is_the_same_in_every_process():
    code = "from skelnb.evaluate.experiment import Trial; print(Trial('acl', 'ntu60', 2, 'semi', dict(fraction=.1)).hash)"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONHASHSEED": "1"})
    assert other.stdout == Trial("acl", "ntu60", 2, "semi", dict(fraction=.1)).hash + "\n", other.stderr


def test_protocols_share_the_pretext_and_not_the_file():
    a, b = tiny(), tiny(protocol="finetune", knobs=dict(epochs=1))
    assert digest(a.pretext) == digest(b.pretext) and trial_file(a) != trial_file(b)
    assert digest(tiny(seed=1).pretext) != digest(a.pretext) and trial_file(a, "there").parent.as_posix() == "there/trials"
    assert trial_file(tiny(control="pose", seed=4)).name.startswith("pose-skeletonclr-nw-ucla-frozen-4-")


@pytest.mark.parametrize("plan", [dict(epochs=9), dict(lr=.5), dict(tau=.1), dict(batch_size=8), dict(queue=16), dict(temperature=1.)])
def test_nothing_of_the_training_is_in_a_control_that_does_not_train(plan):
    for control in ("raw", "untrained"): assert tiny(control=control, **plan).hash == tiny(control=control).hash
    for control in ("shuffled", "pose"): assert tiny(control=control, **plan).hash != tiny(control=control).hash


def test_of_the_coordinates_nothing_is_drawn_and_of_weights_their_shape_counts():
    assert tiny(control="raw").hash == tiny("hiclr", control="raw", seed=3, width=9, encoder="gru").hash
    assert tiny(control="raw").seed == 0 and tiny(control="raw", streams=["bone"]) != tiny(control="raw") and tiny(control="raw", split="standard") != tiny(control="raw")
    for change in (dict(seed=1), dict(width=3), dict(feature_dim=8), dict(streams=["bone"]), dict(init="random"), dict(encoder="gru")):
        assert tiny(control="untrained", **change) != tiny(control="untrained"), change


@pytest.mark.parametrize("ask, error, said", [
    (dict(data="ntu61"), ExperimentError, "ntu60"), (dict(control="noise"), ExperimentError, "raw, untrained, shuffled, pose"), (dict(protocol="knn"), ExperimentError, "frozen, fusion, finetune, semi"),
    (dict(method="cmall"), RecipeError, "did you mean 'cmal'"), (dict(lambda_h=1), RecipeError, "lambda_h"), (dict(encoder="stgnc", width=3, rate=1), RecipeError, "rate")])
def test_what_cannot_be_declared_is_told(ask, error, said):
    with pytest.raises(error, match=said): Trial(**dict(method="cmal", data="nw-ucla") | ask)


# ---- what is kept

def test_flags_and_labels_come_back():
    rng = np.random.default_rng(0)
    for n in [*range(35), 1000, 1001]:
        flags = rng.random(n) < .3
        back = unpack(pack(flags), n)
        assert back.dtype == bool and np.array_equal(back, flags) and np.array_equal(unpack(pack(torch.as_tensor(flags)), n), flags)
        for top in (2, 255, 256, 65535):
            y = rng.integers(0, top + 1, n)
            if n: y[0] = top
            assert np.array_equal(unpack_labels(pack_labels(y)), y) and unpack_labels(pack_labels(torch.as_tensor(y))).dtype == np.int64
    assert len(pack(np.zeros(1980))) < 340
    for n in (0, 8, 17, 100):
        with pytest.raises(ExperimentError, match=f"expected {n} flags"): unpack(pack(np.ones(16)), n)


def test_a_file_that_holds_another_trial_is_noticed(tmp_path):
    a, b = tiny(), tiny(seed=1)
    assert stored(a, tmp_path) is None
    file = trial_file(a, tmp_path); file.parent.mkdir()
    file.write_text(json.dumps({"trial": a.identity, "scores": {"joint": 1}}))
    assert stored(a, tmp_path)["scores"] == {"joint": 1} and stored(b, tmp_path) is None
    for content in ({"trial": b.identity, "scores": {}}, {"scores": {}}, {"trial": a.identity | {"val": .3}}):
        file.write_text(json.dumps(content))
        with pytest.raises(ExperimentError, match="another trial"): stored(a, tmp_path)
        with pytest.raises(ExperimentError, match="another trial"): run([a], results=tmp_path, runs=tmp_path, progress=False)


def test_every_choice_of_streams_single_ones_first():
    assert ["+".join(s) for s in subsets(["joint", "motion", "bone"])] == ["joint", "motion", "bone", "joint+motion", "joint+bone", "motion+bone", "joint+motion+bone"]


def test_a_file_says_under_what_conditions_it_was_made(done):
    trials, results, _ = done
    found = stored(trials["frozen"], results)
    assert found["clips"] == {"train": 24, "val": 6, "test": 15} and len(found["loss"]) == TINY["epochs"] and found["threads"] >= 1 and set(found["versions"]) == {"skelnb", "torch", "numpy", "python"}
    assert np.array_equal(unpack_labels(found["truth"]), parts()[2].y.numpy()) and stored(trials["raw"], results)["loss"] == []
    for name, trial in trials.items():
        for some, scores in stored(trial, results)["scores"].items():
            for what in scores.values():
                assert all(0 <= what[k] <= 1 for k in ("accuracy", "nmi") if k in what) and what.get("ari", 0) <= 1, (name, some)
                if "correct" in what: assert unpack(what["correct"], 15).mean() == pytest.approx(what["accuracy"])
    assert trial_file(trials["frozen"], results).stat().st_size < 20_000


# ---- the frozen protocol, by hand

@pytest.fixture(scope="module")
def tables(done):
    "{stream: (train, val, test) features} of the encoders that the run has left."
    trials, _, runs = done
    encoders = load_weights(runs / f"trial-{digest(trials['frozen'].pretext)}" / "last.safetensors")
    return {s: tuple(features(e, part, stream=s) for part in parts()) for s, e in encoders.items()}


def together(tables, at):
    "The streams' features beside each other, each row of length 1 within its stream."
    return Features(torch.cat([torch.nn.functional.normalize(t[at].x, dim=1) for t in tables.values()], 1), next(iter(tables.values()))[at].y)


def test_frozen_is_what_the_protocols_say_one_by_one(done, tables):
    scores = stored(done[0]["frozen"], done[1])["scores"]
    assert list(scores) == ["joint", "motion", "joint+motion"]
    heads = {}
    for s, (train, val, test) in tables.items():
        near, heads[s], groups = knn(None, train, test, k=20), linear(None, train, test, seed=0), clusters(test, seed=0)
        assert scores[s]["knn"]["accuracy"] == near.accuracy and scores[s]["knn"]["val"] == knn(None, train, val, k=20).accuracy
        assert np.array_equal(unpack(scores[s]["knn"]["correct"], 15), (near.predictions == near.y).numpy())
        assert scores[s]["knn 1"]["accuracy"] == knn(None, train, test, k=1).accuracy and scores[s]["knn 200"]["accuracy"] == knn(None, train, test, k=24).accuracy
        assert {k: scores[s]["linear"][k] for k in ("accuracy", "last", "best", "best_on")} == {k: getattr(heads[s], k) for k in ("accuracy", "last", "best", "best_on")}
        assert np.array_equal(unpack(scores[s]["linear"]["correct"], 15), (heads[s].predictions == heads[s].y).numpy())
        assert (scores[s]["clusters"]["nmi"], scores[s]["clusters"]["ari"]) == (groups["nmi"], groups["ari"]) and np.array_equal(unpack_labels(scores[s]["clusters"]["groups"]), groups.labels.numpy())
    both = scores["joint+motion"]
    assert both["linear"]["accuracy"] == fuse(heads).accuracy and "last" not in both["linear"]
    assert both["knn"]["accuracy"] == knn(None, together(tables, 0), together(tables, 2), k=20).accuracy
    assert both["clusters"]["nmi"] == pytest.approx(clusters(together(tables, 2), seed=0)["nmi"])


def test_fusion_is_the_heads_trained_together_or_apart(done, tables):
    train, _, test = ({s: t[i] for s, t in tables.items()} for i in range(3))
    heads = {s: linear(None, train[s], test[s], seed=0) for s in tables}
    for how, found in (("sum", joint_linear(None, train, test, seed=0)), ("mean", joint_linear(None, train, test, reduce="mean", seed=0)), ("aimclr", fuse(heads, dict(joint=.6, motion=.4)))):
        scores = stored(done[0][how], done[1])["scores"]
        assert list(scores) == ["joint+motion"] and list(scores["joint+motion"]) == ["linear"] and scores["joint+motion"]["linear"]["accuracy"] == found.accuracy
        assert np.array_equal(unpack(scores["joint+motion"]["linear"]["correct"], 15), (found.predictions == found.y).numpy())
    assert len({digest(done[0][n].pretext) for n in ("frozen", "sum", "mean", "aimclr")}) == 1                 # one training
    with pytest.raises(ExperimentError, match="'sum', 'mean' or one of equal, aimclr, got 'max'"): experiment.PROTOCOLS["fusion"]({}, (None, None, None), 0, how="max")


def test_everything_runs_on_the_device_that_is_asked_for(done, monkeypatch, tmp_path):
    "On `meta`, a device that holds no numbers: weights that were found and weights that are drawn go there before a protocol sees them."
    seen = []
    def look(encoders, parts, seed): seen.append({next(e.parameters()).device.type for e in encoders.values()}); return {}
    monkeypatch.setitem(experiment.PROTOCOLS, "look", look)
    monkeypatch.setattr(experiment, "calibrate", lambda e, *args, **how: e)
    for trial in (tiny(protocol="look", streams=["joint", "motion"]), tiny(protocol="look", control="untrained")):
        for device in ("meta", "cpu", None):
            assert experiment.run([trial], results=tmp_path, runs=done[2], device=device, progress=False) == []
            assert stored(trial, tmp_path)["device"] == (device or "cpu"); trial_file(trial, tmp_path).unlink()
    assert seen == 2 * [{"meta"}, {"cpu"}, {"cuda" if torch.cuda.is_available() else "cpu"}]


def test_frozen_is_what_scikit_learn_says():
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from sklearn.neighbors import KNeighborsClassifier
    g = torch.Generator().manual_seed(0)
    centres, y = torch.randn(5, 12, generator=g), torch.randint(0, 5, (360,), generator=g)
    made = {s: Features(centres[y] + spread * torch.randn(360, 12, generator=g), y) for s, spread in (("joint", 1.), ("bone", 1.5))}
    train, val, test = (torch.arange(a, b) for a, b in ((0, 220), (220, 260), (260, 360)))
    tables = {s: tuple(f.subset(rows) for rows in (train, val, test)) for s, f in made.items()}
    for s, found in experiment.frozen(tables, 0).items():
        bank, held, asked = (together({k: tables[k] for k in s.split("+")}, at) for at in range(3))
        score = lambda k, part: KNeighborsClassifier(k, metric="cosine", weights=lambda d: np.exp((1 - d) / .1)).fit(bank.x.double(), bank.y).score(part.x.double(), part.y)
        assert [found[n]["accuracy"] for n in ("knn", "knn 1", "knn 200")] == pytest.approx([score(k, asked) for k in (20, 1, 200)]) and found["knn"]["val"] == pytest.approx(score(20, held)), s
        assert .3 < found["knn 1"]["accuracy"] < found["knn"]["accuracy"] < 1
        groups = unpack_labels(found["clusters"]["groups"])
        assert found["clusters"]["nmi"] == pytest.approx(normalized_mutual_info_score(asked.y, groups)) and found["clusters"]["ari"] == pytest.approx(adjusted_rand_score(asked.y, groups))


def test_a_head_of_the_linear_protocol_is_a_linear_layer(tables):
    "With many classes of features that are far apart every protocol is right; with labels drawn by lot none is better than chance."
    g = torch.Generator().manual_seed(0)
    centre, y = 5 * torch.randn(4, 8, generator=g), torch.arange(240) % 4
    clear = Features(centre[y] + .1 * torch.randn(240, 8, generator=g), y)
    lot = Features(clear.x, y[torch.randperm(240, generator=g)])
    easy = experiment.frozen({"joint": (clear, None, clear)}, 0)["joint"]
    assert easy["knn"]["accuracy"] == easy["linear"]["accuracy"] == easy["clusters"]["nmi"] == 1 and "val" not in easy["knn"]
    drawn = experiment.frozen({"joint": (lot, None, Features(clear.x[:200], y[torch.randperm(240, generator=g)][:200]))}, 0)["joint"]
    assert drawn["knn"]["accuracy"] < .45 and drawn["linear"]["accuracy"] < .45 and drawn["clusters"]["nmi"] < .1


def test_a_bank_smaller_than_k_takes_all_there_is(tables):
    few = {s: (t[0].subset(torch.arange(12)), t[1], t[2]) for s, t in tables.items()}
    found = experiment.frozen(few, 0)["joint"]
    assert found["knn"]["accuracy"] == found["knn 200"]["accuracy"] == knn(None, few["joint"][0], few["joint"][2], k=12).accuracy and found["knn"]["val"] == knn(None, few["joint"][0], few["joint"][1], k=12).accuracy


# ---- the controls

def test_controls_change_only_what_they_name(clips):
    before = np.array(clips.x)
    mixed, pose = control_clips(clips, "shuffled"), control_clips(clips, "pose")
    assert np.array_equal(clips.x, before) and mixed.x.shape == pose.x.shape == before.shape
    frames = lambda x: np.sort(x.transpose(0, 2, 1, 3, 4).reshape(len(x), x.shape[2], -1).astype("f8") @ np.random.default_rng(1).normal(size=before[0, :, 0].size), 1)
    np.testing.assert_allclose(frames(mixed.x), frames(before), rtol=1e-12, atol=1e-9)                     # the same frames in another order ...
    order = [[int(np.abs(before[i] - mixed.x[i][:, [t]]).sum((0, 2, 3)).argmin()) for t in range(25)] for i in range(6)]
    assert all(sorted(o) != o for o in order) and len(set(map(tuple, order))) == 6                           # ... of its own in every clip
    assert np.array_equal(mixed.x, control_clips(clips, "shuffled").x) and not np.array_equal(mixed.x, control_clips(clips, "shuffled", 1).x)
    assert np.array_equal(pose.x, np.broadcast_to(before[:, :, [12]], before.shape))
    for made in (mixed, pose): assert torch.equal(made.y, clips.y) and torch.equal(made.present, clips.present) and made.meta.equals(clips.meta) and made.name == clips.name and made.classes == clips.classes


def test_coordinates_are_measured_as_they_are(done):
    train, _, test = parts()
    flat = [Features(part.batch().flatten(1), part.y) for part in (train, test)]
    found = stored(done[0]["raw"], done[1])["scores"]["joint"]
    assert found["knn"]["accuracy"] == knn(None, *flat, k=20).accuracy and found["linear"]["accuracy"] == linear(None, *flat, seed=0, standardise=True).accuracy


def test_raw_streams_are_the_streams(home, tmp_path):
    trial = tiny(control="raw", streams=["motion", "bone"])
    assert run([trial], results=tmp_path, runs=tmp_path, progress=False) == [] and not (tmp_path / f"trial-{digest(trial.pretext)}").exists()
    train, _, test = parts()
    for s in ("motion", "bone"):
        flat = [Features(to_stream(part.batch(), s, part.skeleton).flatten(1), part.y) for part in (train, test)]
        assert stored(trial, tmp_path)["scores"][s]["knn"]["accuracy"] == knn(None, *flat, k=20).accuracy


def test_untrained_is_the_drawn_encoder_that_has_seen_the_clips_statistics(done):
    trials, results, _ = done
    train, _, test = parts()
    made = recipe("skeletonclr", "nw-ucla", **TINY).build(train, 0).encoders["joint"]
    made = calibrate(made, train, batch_size=64)
    near = knn(made, train, test, k=20)
    found = stored(trials["untrained"], results)["scores"]["joint"]["knn"]
    assert found["accuracy"] == near.accuracy and np.array_equal(unpack(found["correct"], 15), (near.predictions == near.y).numpy())


@pytest.mark.parametrize("control", ["shuffled", "pose"])
def test_a_control_trains_and_tests_on_its_own_clips(done, control):
    trials, results, runs = done
    encoder = load_weights(runs / f"trial-{digest(trials[control].pretext)}" / "last.safetensors")
    encoder = encoder if not isinstance(encoder, dict) else encoder["joint"]
    train, _, test = control_clips(load("nw-ucla", frames=25), control).split("view1", val=.2, seed=0)
    assert stored(trials[control], results)["scores"]["joint"]["knn"]["accuracy"] == knn(encoder, train, test, k=20).accuracy
    history = json.loads((runs / f"trial-{digest(trials[control].pretext)}" / "done.json").read_text())["history"]
    assert history != json.loads((runs / f"trial-{digest(trials['frozen'].pretext)}" / "done.json").read_text())["history"]


# ---- protocols that train

@pytest.mark.parametrize("name, protocol", [("finetune", finetune), ("semi", semi)])
def test_a_protocol_of_one_network_is_one_of_every_choice_of_streams(done, name, protocol):
    trials, results, runs = done
    knobs = {k: v for k, v in trials[name].identity["protocol"].items() if k != "name"}
    encoders = load_weights(runs / f"trial-{digest(trials[name].pretext)}" / "last.safetensors")
    train, _, test = parts()
    each = {s: protocol(e, train, test, stream=s, seed=0, **knobs) for s, e in encoders.items()}
    scores = stored(trials[name], results)["scores"]
    assert list(scores) == ["joint", "motion", "joint+motion"]
    for s, r in {**each, "joint+motion": fuse(each)}.items():
        assert scores[s]["accuracy"]["accuracy"] == r.accuracy and np.array_equal(unpack(scores[s]["accuracy"]["correct"], 15), (r.predictions == r.y).numpy()), s


def test_a_protocol_of_ones_own(home, done, tmp_path, monkeypatch):
    monkeypatch.setitem(experiment.PROTOCOLS, "count", lambda encoders, parts, seed, times=1: {s: {"accuracy": {"accuracy": times * len(parts[2])}} for s in encoders})
    trial = tiny(protocol="count", knobs=dict(times=2), streams=["joint", "motion"])
    assert run([trial], results=tmp_path, runs=done[2], progress=False) == [] and stored(trial, tmp_path)["scores"]["motion"]["accuracy"]["accuracy"] == 30


# ---- stopped, and on again

def test_what_is_there_is_left_alone_and_weights_are_used_again(done, monkeypatch):
    trials, results, runs = done
    before, times = numbers(results), {f: f.stat().st_mtime_ns for f in (results / "trials").iterdir()}
    monkeypatch.setattr(Recipe, "run", lambda *a, **k: pytest.fail("trained again"))
    assert run([*trials.values(), *trials.values()], results=results, runs=runs, progress=False) == [] and {f: f.stat().st_mtime_ns for f in (results / "trials").iterdir()} == times
    for name in ("frozen", "finetune", "pose"): trial_file(trials[name], results).unlink()
    assert run(trials.values(), results=results, runs=runs, progress=False) == [] and numbers(results) == before
    for name in ("frozen", "finetune", "pose"): assert not list((runs / f"trial-{digest(trials[name].pretext)}").glob("checkpoint-*"))


KILLED = """
import os, signal, sys
from skelnb.evaluate.experiment import run
pretrain = sys.modules["skelnb.train.pretrain"]
sys.path.insert(0, sys.argv[3])
from trial_cases import tiny
save, seen = pretrain.Run.save, []
def save_and_die(self, *args):
    save(self, *args); seen.append(1)
    if len(seen) == 2: os.kill(os.getpid(), signal.SIGKILL)
pretrain.Run.save = save_and_die
run([tiny("aimclr", epochs=4, mine_from=3)], results=sys.argv[1], runs=sys.argv[2], progress=False)
"""


def test_kill_9_in_the_middle_of_a_training_and_on_again(home, tmp_path):
    "Two of four epochs are there when the process dies; the next run makes the other two, and all numbers are those of one that nobody stopped."
    trial, whole = tiny("aimclr", epochs=4, mine_from=3), tmp_path / "whole"
    assert run([trial], results=whole, runs=tmp_path / "whole runs", progress=False) == []
    dead = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "broken"), str(tmp_path / "runs"), os.path.dirname(__file__)], capture_output=True, text=True)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    out = tmp_path / "runs" / f"trial-{digest(trial.pretext)}"
    assert len(list(out.glob("checkpoint-*"))) == 2 and not (out / "done.json").exists() and stored(trial, tmp_path / "broken") is None
    assert run([trial], results=tmp_path / "broken", runs=tmp_path / "runs", progress=False) == []
    assert numbers(tmp_path / "broken") == numbers(whole) and len(stored(trial, whole)["loss"]) == 4
    a, b = (load_weights(folder / f"trial-{digest(trial.pretext)}" / "last.safetensors").state_dict() for folder in (tmp_path / "whole runs", tmp_path / "runs"))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a) and not list(out.glob("checkpoint-*"))


@pytest.mark.parametrize("when", ["trained", "measured"])
def test_stopped_between_two_files(home, done, tmp_path, monkeypatch, when):
    "The disk is full when a training or a measurement is over: told, and the next run goes on from there."
    trial, true = tiny(streams=["joint", "motion"]), experiment.write_json
    def full(path, content):
        if ("history" in content) == (when == "trained"): raise OSError("no space left on device")
        return true(path, content)
    with monkeypatch.context() as m:
        m.setattr(experiment, "write_json", full)
        failed = run([trial], results=tmp_path, runs=tmp_path, progress=False)
    assert len(failed) == 1 and "no space left" in failed[0] and stored(trial, tmp_path) is None
    monkeypatch.setattr(sys.modules["skelnb.train.pretrain"], "train_epoch", lambda *a: pytest.fail("trained again"))
    assert run([trial], results=tmp_path, runs=tmp_path, progress=False) == []
    assert stored(trial, tmp_path)["scores"] == stored(done[0]["frozen"], done[1])["scores"]


def test_a_trial_that_fails_is_told_and_stops_no_other(home, done, tmp_path):
    both = dict(streams=["joint", "motion"])
    bad = [tiny(protocol="finetune", knobs=dict(schedule="acll"), **both), tiny(protocol="semi", knobs=dict(fraction=2.), **both), tiny(lr=1e30), tiny(split="view=9")]
    good = [done[0]["frozen"], tiny(control="raw"), done[0]["semi"]]
    failed = run([bad[0], bad[1], good[0], bad[2], good[1], bad[3], good[2]], results=tmp_path, runs=tmp_path, progress=False)
    assert all(stored(t, tmp_path) for t in good) and not any(stored(t, tmp_path) for t in bad)
    said = "\n".join(failed)
    for t, word in zip(bad, ("acll", "fraction", "NonFiniteLoss", "view=9")): assert t.hash in said and word in said, said
    assert stored(good[0], tmp_path)["scores"] == stored(good[0], done[1])["scores"]
    assert run(good, results=tmp_path, runs=tmp_path, progress=False) == []


@pytest.mark.parametrize("asked, said", [(dict(split="xveiw"), "nw-ucla has no split 'xveiw'; it has: .*view1"), (dict(epochs=0), "whole number from 1, got 0"), (dict(epochs=-1), "got -1"), (dict(epochs=2.5), "got 2.5"), (dict(epochs=True), "got True"),
                                         (dict(protocol="semi", knobs={"fracton": .1}), "'semi' has no knob 'fracton'; it has: .*fraction"), (dict(knobs={"neighbours": 3}), "'frozen' has no knob 'neighbours'"), (dict(protocol="fusion", knobs={"hwo": "sum"}), "no knob 'hwo'"),
                                         (dict(protocol="transfer", knobs={"to": "pku1-pairs", "split": "view1"}), "pku1-pairs has no split 'view1'"), (dict(protocol="transfer", knobs={"to": "pku1-pairs", "schedul": "acl"}), "no knob 'schedul'")])
def test_what_cannot_be_meant_is_told_when_it_is_declared(asked, said):
    with pytest.raises(ExperimentError, match=said): Trial("skeletonclr", "nw-ucla", **asked)


def test_splits_and_knobs_of_ones_own_are_taken(monkeypatch):
    assert Trial("cmal", "nw-ucla", split="fold=1/5").pretext["split"] == "fold=1/5" and Trial("cmal", "synthetic-small", epochs=3).pretext["recipe"]["plan"]["epochs"] == 3
    monkeypatch.setitem(experiment.PROTOCOLS, "mine", lambda encoders, parts, seed, anything: {})
    assert Trial("cmal", "nw-ucla", protocol="mine", knobs={"anything": 1}).protocol == "mine"


def test_a_set_that_is_not_prepared_is_told_before_anything_is_trained(home, tmp_path):
    moved = tiny(streams=["joint"], protocol="transfer", knobs={"to": "pku1-pairs"})
    assert experiment.sets_of([tiny(), tiny(seed=1), moved]) == [("nw-ucla", 25), ("pku1-pairs", 25)]
    assert experiment.sets_of([Trial("acl", "synthetic-small+pku1-pairs", protocol="transfer", knobs={"to": "pku1-pairs"})]) == [("pku1-pairs", 25), ("synthetic-small", 25)]
    for trial in (tiny(frames=21), moved):
        with pytest.raises(FolderError, match="skelnb prepare .* --frames (21|25)"): run([tiny(control="raw"), trial], results=tmp_path, runs=tmp_path, progress=False)
        assert not any(tmp_path.iterdir())


def test_two_processes_write_the_files_of_one(home, done, tmp_path):
    from joblib.externals.loky import get_reusable_executor
    trials, results, _ = done
    get_reusable_executor().shutdown(wait=True)                                # workers that know another folder of data
    some = [trials[n] for n in ("frozen", "semi", "raw")] + [tiny(split="view=9")]
    try: failed = run(some, jobs=2, results=tmp_path, runs=tmp_path / "runs", progress=False)
    finally: get_reusable_executor().shutdown(wait=True)
    assert len(failed) == 1 and "view=9" in failed[0]
    one, two = numbers(results), numbers(tmp_path)
    assert len(two) == 3 and {name: one[name] for name in two} == two


def test_a_set_without_held_out_clips(home, tmp_path):
    trial = tiny(control="raw", val=0.)
    assert run([trial], results=tmp_path, runs=tmp_path, progress=False) == []
    found = stored(trial, tmp_path)
    assert found["clips"] == {"train": 30, "val": 0, "test": 15} and "val" not in found["scores"]["joint"]["knn"]
