"""Every method, stopped in the middle of an epoch of each of its stages, goes on to the same numbers as if it had never stopped."""

import json
import sys

import numpy as np
import pytest
import torch

import skelnb.train.pretrain  # noqa: F401
from skelnb.methods import METHODS, create_method
from skelnb.skeleton import NTU25
from skelnb.train import checkpoint as ck

pt = sys.modules["skelnb.train.pretrain"]          # the package answers with the function of that name
RUN = dict(epochs=4, batch_size=8, lr=.05, device="cpu", progress=False)      # 3 steps an epoch; the second stage begins with epoch 3
PAIR = dict(encoder="stgcn", width=2, feature_dim=8, frames=12, persons=1, tau=.9, weights="own")      # ST-GCN has dropout: it draws from torch's generator
QUEUE = dict(PAIR, queue=16, projection=6)
TCN = dict(encoder="tcn", width=8)                                                                     # quicker
CASES = {
    "skeletonbyol": dict(PAIR, **TCN),
    "cmal": PAIR,
    "acl": dict(PAIR, **TCN, stage1=2),
    "acl-ema-byol": dict(PAIR, stage1=2, ema_stage2=True, base="byol", form="bce", streams=["bone"]),
    "skeletonclr": dict(QUEUE, augment="BA+NA+Mask+DAE", mine_from=2),
    "aimclr": dict(QUEUE, mine_from=2),
    "hiclr": dict(QUEUE, **TCN, mine_from=2, streams=["joint", "motion"]),
    "hiclr-dae": dict(QUEUE, mine_from=None, sets="[BA, NA, DAE]", sim="cosine"),
    "crossclr": dict(QUEUE, **TCN, cross_from=2),
    "crossclr-separate": dict(QUEUE, **TCN, cross_from=2, heads="separate", followers="all", streams=["joint", "bone"]),
}


class Clips:
    "The part of SkeletonData that the loop uses: two kinds of movement, with noise."
    name, skeleton, classes = "tiny", NTU25, ["wave", "nod"]

    def __init__(self, n=26, seed=0):
        rng = np.random.default_rng(seed)
        self.y = np.arange(n) % 2
        t = np.linspace(0, 6, 12, dtype="float32")[None, None, :, None, None]
        self.x = rng.normal(0, .3, (n, 3, 12, 25, 1)).astype("float32") + np.sin(t * (1 + self.y[:, None, None, None, None])).astype("float32")

    def __len__(self): return len(self.y)
    def batch(self, index, device="cpu"): return torch.from_numpy(self.x[np.asarray(index)]).to(device)


class Stopped(Exception): pass


def method(case, seed=0):
    torch.manual_seed(seed)
    m = create_method(case.split("-")[0], **CASES[case])
    if hasattr(m, "watch"): m.watch(Clips().y)
    return m


def run(m, out, stop=None):
    "Train; with `stop` an exception where the step of that number has moved the weights, but not yet the moving averages and queues."
    steps, true = iter(range(1, 100)), type(m).after_step

    def after_step():
        if next(steps) == stop: raise Stopped
        return true(m)
    m.after_step = after_step
    try: return pt.pretrain(m, Clips(), out=out, **RUN)
    except Stopped: return None
    finally: del m.after_step


def flat(state):
    tensors = {}
    return json.dumps(ck.take_apart(state, tensors)), tensors


def same_run(folder, whole):
    "History without the seconds, weights with queues and buffers, optimiser, all generators: bit by bit."
    a, b = (ck.load_checkpoint(f) for f in (folder, whole))
    plain = lambda rows: [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    assert plain(a["history"]) == plain(b["history"]) and len(a["history"]) == 4
    assert a["method"].keys() == b["method"].keys()
    for name, value in a["method"].items(): assert torch.equal(value, b["method"][name]) and value.isfinite().all(), name
    for part in ("method", "optimizer", "random"): assert ck.fingerprint(*flat(a[part])) == ck.fingerprint(*flat(b[part])), part
    one, two = (ck.read_safetensors(f / "last.safetensors", ck.WEIGHTS, "")[0] for f in (folder, whole))
    assert one.keys() == two.keys() and all(torch.equal(v, two[k]) for k, v in one.items())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    "whole(case): folder and method of a run that was never stopped, trained once."
    done = {}

    def get(case):
        if case not in done:
            folder, m = tmp_path_factory.mktemp(case), method(case)
            history = run(m, folder)
            done[case] = folder, m, history
        return done[case]
    return get


def test_every_method_is_here():
    assert {case.split("-")[0] for case in CASES} == set(METHODS)


@pytest.mark.parametrize("case", CASES)
def test_stopped_in_each_stage(case, whole, tmp_path):
    "Stopped in the middle of epoch 2 (stage one) and of epoch 4 (stage two), each time another method object goes on."
    folder, m, _ = whole(case)
    assert run(method(case), tmp_path, stop=5) is None and ck.load_checkpoint(tmp_path)["epoch"] == 1
    assert run(method(case, seed=1), tmp_path, stop=8) is None and ck.load_checkpoint(tmp_path)["epoch"] == 3      # 8 steps after epoch 1
    torch.rand(5)                                                             # the generators of this process stand elsewhere
    last = method(case, seed=2)
    assert run(last, tmp_path)
    same_run(tmp_path, folder)
    for name, value in m.state_dict().items(): assert torch.equal(value, last.state_dict()[name]), name


@pytest.mark.parametrize("case", ["cmal", "acl", "hiclr", "crossclr"])
def test_the_same_object_goes_on(case, whole, tmp_path):
    "As in a notebook after an interrupt: the object has half a step in it; the checkpoint undoes it."
    m = method(case)
    assert run(m, tmp_path, stop=8) is None
    assert run(m, tmp_path)
    same_run(tmp_path, whole(case)[0])


@pytest.mark.parametrize("case", CASES)
def test_the_stages_differ(case, whole):
    "So that the runs above cross a boundary: the second stage reports what the first does not, or freezes what the first moves."
    _, m, history = whole(case)
    news = set(history[2]) - set(history[1])
    if case.startswith("acl"): assert {"cscl", "positives"} <= news
    elif CASES[case].get("mine_from"): assert {f"{s}/mined_{kind}" for s in m.streams for kind in ("self", "same", "other")} <= news
    elif case.startswith("crossclr"): assert m.crossing and m.cross_from == 2
    for s, q in getattr(m, "queues", {}).items():
        assert q.pointer == 4 * 24 % 16 and (q.index >= 0).all() and len(q) == 16, s           # 4 epochs of 24 clips went through
    for token in getattr(m, "tokens", {}).values(): assert token != 0


# ---- CrosSCLR's shared layers

def shared(m):
    "Storage of each parameter -> its names, where there is more than one."
    names = {}
    for name, p in m.named_parameters(remove_duplicate=False): names.setdefault(p.data_ptr(), []).append(name)
    return sorted(tuple(n) for n in names.values() if len(n) > 1)


def test_entangled_heads_stay_entangled(whole, tmp_path):
    folder, m, _ = whole("crossclr")
    groups = shared(m)
    assert len(groups) == 8 and all(len(g) == 3 for g in groups)                # 2 layers, weight and bias, on both sides, by three streams
    other = method("crossclr", seed=3)
    assert shared(other) == groups
    state = ck.load_checkpoint(folder)["method"]
    assert {n for g in groups for n in g} <= set(state)                        # written under every name ...
    for group in groups: assert all(torch.equal(state[group[0]], state[n]) for n in group)
    other.load_state_dict(state)
    assert shared(other) == groups                                           # ... and read back into one
    for name, value in m.state_dict().items(): assert torch.equal(value, other.state_dict()[name]), name
    optimiser = torch.optim.SGD([p for p in other.parameters() if p.requires_grad], lr=.1)
    before = {n: p.detach().clone() for n, p in other.named_parameters(remove_duplicate=False)}
    other(other.views(Clips().batch(range(8))))["loss"].backward()
    optimiser.step()
    for group in groups:
        values = [dict(other.named_parameters(remove_duplicate=False))[n] for n in group]
        assert all(torch.equal(values[0], v) for v in values) and torch.equal(values[0], before[group[0]]) == (".target." in group[0])
    assert not shared(method("crossclr-separate"))


def test_other_stages_are_another_run(tmp_path):
    "A run may not go on with its stages moved."
    for case, change in [("acl", dict(stage1=3)), ("hiclr", dict(mine_from=3)), ("crossclr", dict(cross_from=3)), ("skeletonclr", dict(queue=24))]:
        out = tmp_path / case
        pt.pretrain(method(case), Clips(), out=out, **{**RUN, "epochs": 1})
        other = create_method(case, **{**CASES[case], **change})
        with pytest.raises(pt.ResumeError, match=next(iter(change))): pt.pretrain(other, Clips(), out=out, **RUN)
