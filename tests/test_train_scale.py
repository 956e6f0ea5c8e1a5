"""Several processes: two of them are one that normalises per half batch, a killed run of two goes on to the same numbers, every clip is evaluated once."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch
from torch import nn

from skelnb.data.synthetic import synthesize
from skelnb.encoders.core import create_encoder
from skelnb.methods.cmal import CMAL
from skelnb.methods.skeletonclr import SkeletonCLR
from skelnb.skeleton import NTU25
from skelnb.train import checkpoint as ck
from skelnb.train import scale
from skelnb.train.pretrain import describe, differences

pytestmark = pytest.mark.xdist_group("two processes")        # one worker: the two are started once

TINY = textwrap.dedent("""
    import os, signal, sys
    import numpy as np, torch
    from skelnb.skeleton import NTU25
    from skelnb.methods.momentum import create_method
    import skelnb.train.pretrain
    pt = sys.modules["skelnb.train.pretrain"]

    class Clips:
        "The part of SkeletonData that the loop uses."
        name, skeleton, classes = "tiny", NTU25, ["wave", "nod"]
        def __init__(self, n=53, seed=0):
            rng = np.random.default_rng(seed)
            self.y = np.arange(n) % 2
            t = np.linspace(0, 6, 12, dtype="float32")[None, None, :, None, None]
            self.x = rng.normal(0, .3, (n, 3, 12, 25, 1)).astype("float32") + np.sin(t * (1 + self.y[:, None, None, None, None])).astype("float32")
        def __len__(self): return len(self.y)
        def batch(self, index, device="cpu"): return torch.from_numpy(self.x[np.asarray(index)]).to(device, DTYPE)

    DTYPE = torch.float64      # rounding grows from step to step: in double precision what is left is a mistake
    ALL = ["joint", "motion", "bone"]
    SETTINGS = dict(skeletonclr=dict(queue=40), cmal=dict(), acl=dict(streams=ALL, stage1=1), skeletonbyol=dict(), aimclr=dict(queue=32, mine_from=1, dropout=.25),
                    hiclr=dict(queue=32, mine_from=1, dropout=.25), crossclr=dict(queue=32, cross_from=1, streams=ALL))
    PLAN = dict(epochs=2, lr=.05, device="cpu", progress=False, seed=3)

    def method(name, seed=0):
        torch.manual_seed(seed)
        return create_method(name, encoder="stgcn", **{**dict(width=2, feature_dim=8, frames=12, persons=1, dropout=0.), **SETTINGS[name]}).to(DTYPE)
""")
exec(TINY)


# ---- two processes

def started(code, folder, *args):
    "Two processes that run `code` after TINY and know each other; a file in `folder` is where they meet, loopback is how they talk."
    meet = folder / f"meet{time.monotonic_ns()}"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "1", "GLOO_SOCKET_IFNAME": "lo",
           "MASTER_ADDR": "127.0.0.1"}
    begin = f"""
import datetime
rank = int(os.environ["RANK"])
torch.distributed.init_process_group("gloo", init_method="file://{meet}", rank=rank, world_size=2, timeout=datetime.timedelta(seconds=120))
"""
    command = [sys.executable, "-c", TINY + begin + textwrap.dedent(code), *map(str, args)]
    return [subprocess.Popen(command, env={**env, "RANK": str(r), "LOCAL_RANK": str(r)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for r in range(2)]


def finished(two):
    "Wait for both; when one dies the other is ended, as a launcher does. The exit codes, and what they said."
    while all(p.poll() is None for p in two):
        time.sleep(.05)
    if any(p.poll() for p in two):
        for p in two:
            p.kill()
    said = [p.communicate()[1] for p in two]
    return [p.returncode for p in two], "\n".join(said)


EVERYTHING = """
    from skelnb.train import scale
    out, data = sys.argv[1], Clips()
    for name in SETTINGS:
        m = method(name, seed=rank)                      # other first weights: those of rank 0 must count
        history = pt.pretrain(m, data, batch_size=8, **PLAN)
        torch.save([m.state_dict(), history], f"{out}/{name}-{rank}.pt")
    SETTINGS["skeletonclr"]["dropout"] = .25
    pt.pretrain(method("skeletonclr"), data, batch_size=8, out=f"{out}/whole", **PLAN)
    found = {}
    for n in (0, 1, 2, 7, 8):
        own = scale.each_once(n)
        found[n] = scale.gather_features(torch.stack([own, own ** 2], 1).float() if len(own) else torch.zeros(0, 0))
    try: scale.gather_features(torch.zeros(2, 2 + rank))
    except scale.ScaleError as e: found["told"] = str(e)
    try: scale.check_started()
    except scale.ScaleError as e: found["alone"] = str(e)
    torch.save(found, f"{out}/gathered-{rank}.pt")
    import time; torch.distributed.barrier(); time.sleep(.2); os._exit(0)      # gloo's threads may outlive a clean end, and abort it
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    "What two processes left behind."
    out = tmp_path_factory.mktemp("two")
    codes, said = finished(started(EVERYTHING, out, out))
    assert codes == [0, 0], said
    return out


class Halves(nn.Module):
    """One process that does what two do: each half batch has its own views, random numbers and batch norms, the losses are averaged,
    the keys of the first half come first, and the running statistics are those of the first half."""

    def __init__(self, method, seed):
        super().__init__()
        self.inner, self.seeds = method, [seed, seed + 1]
        self.chance = [torch.Generator().manual_seed(seed + 1_000_003 * (1 + rank)) for rank in range(2)]
        self.states = [torch.Generator().manual_seed(s).get_state() for s in self.seeds]
        self.config, self.augment, self.encoders = method.config, method.augment, method.encoders
        self.after_step, self.start_epoch = method.after_step, method.start_epoch

    def start_step(self, index):
        self.index = torch.as_tensor(index).chunk(2)

    def views(self, x, generator=None):
        return [self.inner.views(half, chance) for half, chance in zip(x.chunk(2), self.chance)]

    def forward(self, views):
        found, norms = [], [m for m in self.inner.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        for half in range(2):
            if half == 1:                                     # its statistics go into copies
                kept = [dict(m._buffers) for m in norms]
                for m in norms:
                    m._buffers.update({k: v.clone() for k, v in m._buffers.items()})
            torch.set_rng_state(self.states[half])
            self.inner.start_step(self.index[half])
            found.append(self.inner(views[half]))
            self.states[half] = torch.get_rng_state()
        for m, buffers in zip(norms, kept):
            m._buffers.update(buffers)
        return {**found[0], "first": found[0]["loss"], "loss": (found[0]["loss"] + found[1]["loss"]) / 2}


@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_are_one_that_normalises_per_half_batch(two, name):
    one = method(name)
    history = pt.pretrain(Halves(one, PLAN["seed"]), Clips(), batch_size=16, **PLAN)
    (first, told), (second, _) = (torch.load(two / f"{name}-{rank}.pt") for rank in range(2))
    parameters = dict(one.named_parameters())
    before = method(name).state_dict()
    assert max((before[k] - v).abs().max() for k, v in parameters.items()) > 1e-3             # something was learned
    for k, v in one.state_dict().items():
        torch.testing.assert_close(first[k], v, atol=1e-8, rtol=1e-8, msg=lambda m: f"{k}: {m}")
        if k in parameters or k.startswith("queues"):                                         # running statistics are each process's own
            assert torch.equal(first[k], second[k]), k
    for a, b in zip(told, history):
        assert a["loss"] == pytest.approx(b["first"], abs=1e-8)                               # the first process reports its own loss


def test_the_queue_holds_the_keys_of_both_in_the_order_of_their_ranks(two):
    state, _ = torch.load(two / "skeletonclr-0.pt")
    orders, expected = [torch.Generator().manual_seed(PLAN["seed"]) for _ in range(2)], []
    for _ in range(PLAN["epochs"]):
        parts = [pt.epoch_batches(53, 8, order, rank=rank, world=2) for rank, order in enumerate(orders)]
        expected += [clip for pair in zip(*parts) for half in pair for clip in half.tolist()]
    rows = state["queues.joint.index"]
    at = int(state["queues.joint.pointer"])
    assert torch.cat([rows[at:], rows[:at]]).tolist() == expected[-40:] and len(expected) == 2 * 48


# ---- a killed run of two

KILLED = """
    out, epoch = sys.argv[1], int(sys.argv[2])
    SETTINGS["skeletonclr"]["dropout"] = .25
    m = method("skeletonclr", seed=int(sys.argv[3]))
    after, steps = m.after_step, 0
    def step():
        global steps
        steps += 1
        if rank == 1 and m.epoch == epoch and steps == 5: os.kill(os.getpid(), signal.SIGKILL)
        after()
    m.after_step = step
    pt.pretrain(m, Clips(), batch_size=8, out=out, **PLAN)
"""


def without_seconds(history):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def test_a_killed_run_of_two_goes_on_to_the_same_numbers(two, tmp_path):
    codes, said = finished(started(KILLED, tmp_path, tmp_path / "run", 2, 0))
    assert codes[1] == -signal.SIGKILL, said
    assert [p.name for p in ck.checkpoints(tmp_path / "run")] == ["checkpoint-000001.safetensors"]
    codes, said = finished(started(KILLED, tmp_path, tmp_path / "run", 0, 7))         # other first weights: all must come from the checkpoint
    assert codes == [0, 0], said
    a, b = (json.loads((folder / "history.json").read_text()) for folder in (two / "whole", tmp_path / "run"))
    assert len(a) == 2 and without_seconds(a) == without_seconds(b)
    a, b = (ck.load_checkpoint(folder) for folder in (two / "whole", tmp_path / "run"))
    for part in ("method", "optimizer", "random"):
        tensors, others = {}, {}
        text, other = json.dumps(ck.take_apart(a[part], tensors)), json.dumps(ck.take_apart(b[part], others))
        assert ck.fingerprint(text, tensors) == ck.fingerprint(other, others), part


def test_a_run_of_two_is_not_gone_on_with_by_one(two):
    SETTINGS["skeletonclr"]["dropout"] = .25
    try:
        with pytest.raises(pt.ResumeError, match="processes: was 2, now 1"):
            pt.pretrain(method("skeletonclr"), Clips(), batch_size=8, out=two / "whole", **PLAN)
    finally:
        del SETTINGS["skeletonclr"]["dropout"]


# ---- every clip once

def test_every_clip_once_and_none_twice():
    for world in (1, 2, 3, 5, 8, 13):
        for n in (*range(30), 16487):
            shares = [scale.each_once(n, rank, world) for rank in range(world)]
            assert torch.equal(torch.cat(shares), torch.arange(n)), (n, world)
            sizes = [len(s) for s in shares]
            assert max(sizes) - min(sizes) <= 1
    assert torch.equal(scale.each_once(5), torch.arange(5))
    for wrong in (dict(n=-1), dict(n=3, rank=2, world=2), dict(n=3, rank=-1, world=2)):
        with pytest.raises(scale.ScaleError, match="expected clips"):
            scale.each_once(**wrong)


def test_rows_of_uneven_shares_come_together(two):
    found = [torch.load(two / f"gathered-{rank}.pt") for rank in range(2)]
    for n in (1, 2, 7, 8):
        rows = torch.arange(n, dtype=torch.float32)
        for one in found:
            assert torch.equal(one[n], torch.stack([rows, rows ** 2], 1)), n
    assert all(len(one[0]) == 0 and "one shape" in one["told"] and "alone" not in one for one in found)
    x = torch.ones(3, 2)
    assert scale.gather_features(x) is x


# ---- batch norm

@pytest.mark.parametrize("name", ["skeletonclr", "cmal"])
def test_synchronised_batch_norm_by_name(name, monkeypatch):
    m = method(name)
    before, config = m.state_dict(), dict(m.config)
    parameters = {k: id(p) for k, p in m.named_parameters()}
    assert scale.synchronise(m) is m and scale.synchronise(m, "local") is m
    with pytest.raises(scale.ScaleError, match="batch_norm is one of local, synchronised, got 'sync'"):
        scale.synchronise(m, "sync")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(scale.ScaleError, match="needs a GPU.*batch_norm='local'"):
        scale.synchronise(m, "synchronised")
    assert not any(isinstance(n, nn.SyncBatchNorm) for n in m.modules())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert scale.synchronise(m, "synchronised") is m
    data = synthesize(n_subjects=1, n_cameras=1, n_repeats=1, n_setups=1, classes=["wave"], frames=8)
    assert differences(describe(method(name), data), describe(m, data)) == ["batch norm: was None, now 'synchronised'"]          # a run says which it had
    norms = [n for n in m.modules() if isinstance(n, nn.modules.batchnorm._BatchNorm)]
    assert norms and all(isinstance(n, nn.SyncBatchNorm) for n in norms)
    assert {k: id(p) for k, p in m.named_parameters()} == parameters and m.config == config
    assert all(torch.equal(v, before[k]) for k, v in m.state_dict().items())
    with pytest.raises(scale.ScaleError, match="build a new one"):
        scale.synchronise(m, "local")
    with pytest.raises(scale.ScaleError, match="no batch norm"):
        scale.synchronise(nn.Linear(2, 2), "synchronised")
    monkeypatch.undo()
    alone = method(name)                                          # one process alone: the ordinary batch norm, the same numbers
    x = Clips().batch(range(8))
    told = []
    for one in (m, alone):
        torch.manual_seed(0)
        one.start_epoch(1)
        told.append(one(one.views(x, torch.Generator().manual_seed(0)))["loss"])
    assert told[0].item() == told[1].item()


@pytest.mark.parametrize("name", ["stgcn", "gru", "dsta", "ctrgcn", "unik", "tcn"])
def test_every_batch_norm_is_called_as_a_module(name, monkeypatch):
    "A function that took its numbers and went around it would not be synchronised."
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    encoder = scale.synchronise(create_encoder(name, NTU25, feature_dim=16, frames=12, persons=1).to(DTYPE), "synchronised").train()
    called, norms = set(), [n for n in encoder.modules() if isinstance(n, nn.SyncBatchNorm)]
    for n in norms:
        n.register_forward_hook(lambda m, *_: called.add(m))
    monkeypatch.undo()
    encoder(Clips().batch(range(4)))
    assert norms and called == set(norms)


# ---- plans

def test_the_queue_takes_the_keys_of_all_processes():
    m = method("skeletonclr")                                     # 40 rows
    assert scale.check_queue(m, 20, 2) == [] and "not a multiple" in scale.check_queue(m, 8, 2)[0]
    assert scale.check_queue(method("cmal"), 999, 99) == []
    with pytest.raises(scale.ScaleError, match="joint: one step brings 48 keys .batch 16 x 3 processes.*40 rows.*queue=48 or more, or batch_size=13 or less"):
        scale.check_queue(m, 16, 3)


def test_a_plan_says_what_the_loop_does():
    for world in (1, 2, 3, 8):
        for keep in ("process", "total"):
            if keep == "total" and 24 % world: continue
            plan = scale.plan_run(1003, 24, .1, 10, world, keep)
            parts = [pt.epoch_batches(1003, plan["batch_of_each"], torch.Generator().manual_seed(0), rank=r, world=world) for r in range(world)]
            assert all(p.shape == (plan["steps_an_epoch"], plan["batch_of_each"]) for p in parts)
            assert 1003 - len(torch.cat(parts).unique()) == plan["left_out"] and plan["steps"] == 10 * plan["steps_an_epoch"]
            assert plan["lr"] == pytest.approx(.1 * plan["batch_of_all"] / 24)
    for wrong, told in [(dict(clips=100, batch_size=64, world=2), "100 clips do not fill one step of 128.*batch_size=50 or less"),
                        (dict(clips=100, batch_size=8, world=3, keep="total"), "can not be kept"), (dict(clips=9, keep="half"), "keep is"),
                        (dict(clips=100, batch_size=1), "at least 2 clips")]:
        with pytest.raises(scale.ScaleError, match=told):
            scale.plan_run(**wrong)


def test_expected_times():
    assert scale.ring_seconds(4e6, 1, 1e9) == 0 and scale.ring_seconds(4e6, 2, 1e9) == pytest.approx(.004) and scale.ring_seconds(4e6, 4, 1e9) == pytest.approx(.006)
    assert scale.ring_seconds(4e6, 4, 1e9, latency=1e-3) == pytest.approx(.012)
    one, two, many = scale.scaling(.01, 4e6, 128, (1, 2, 1000), 1e9)
    assert one["clips_a_second"] == pytest.approx(12800) and one["efficiency"] == 1
    assert two["efficiency"] == pytest.approx(10 / 14) and two["clips_a_second"] == pytest.approx(2 * 12800 * 10 / 14)
    assert many["step_ms"] < 18                                    # the ring's bytes are bounded by twice the gradient
    assert scale.scaling(.01, 4e6, 128, (2,), 1e9, overlap=.006)[0]["efficiency"] == 1
    assert scale.scaling(.01, 4e6, 128, (2,), 1e9, overlap=.006, extra=1e6)[0]["efficiency"] == pytest.approx(10 / 11)
    with pytest.raises(scale.ScaleError, match="overlap"):
        scale.scaling(.01, 4e6, 128, overlap=.02)
    with pytest.raises(scale.ScaleError, match="bandwidth"):
        scale.ring_seconds(1, 2, 0)


def test_measuring_leaves_the_method_as_it_was():
    m = method("skeletonclr")
    before = {k: v.clone() for k, v in m.state_dict().items()}
    found = scale.measure_step(m, Clips(), 8, repeats=1)
    assert 0 < found["forward"] < found["step"] and 0 < found["backward"] < found["step"]
    assert all(torch.equal(v, before[k]) for k, v in m.state_dict().items()) and not m.waiting
    sent = scale.traffic(m, 8, 2)
    assert sent["gradient"] == 8 * sum(p.numel() for p in m.parameters() if p.requires_grad) and sent["keys"] == 8 * (128 * 8 + 8)      # of float64
    assert sent["buffers"] > 40 * 128 * 8 and scale.traffic(m, 8, 1) == {**sent, "buffers": 0, "keys": 0}


# ---- before it starts

def test_what_the_doctor_says(monkeypatch):
    for k in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "ACCELERATE_USE_CPU"):
        monkeypatch.delenv(k, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    told = lambda: {sign: "; ".join(s for n, s in scale.distributed_ready() if n == sign) for sign in ("ok", "note", "todo")}
    assert "not started by a launcher" in told()["note"] and not told()["todo"] and "gloo" in told()["ok"]
    scale.check_started()
    for rank, world in (("2", "2"), ("x", "2"), ("", "2")):
        monkeypatch.setenv("RANK", rank); monkeypatch.setenv("WORLD_SIZE", world)
        assert "do not go together" in told()["todo"]
    monkeypatch.setenv("RANK", "1"); monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert "each train alone" in told()["todo"] and "process 1 of 2" in told()["ok"]
    with pytest.raises(scale.ScaleError, match="process 1 of 2, but it is not connected.*ACCELERATE_USE_CPU=1"):
        scale.check_started()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    assert not told()["todo"]
    monkeypatch.setenv("MASTER_ADDR", "no host of this name.invalid")
    assert "can find" in told()["todo"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True); monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("ACCELERATE_USE_CPU"); monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert "8 processes on this machine share 4 GPUs" in told()["todo"]
