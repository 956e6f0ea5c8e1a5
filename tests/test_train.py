"""The training loop and its files: a killed run goes on to the same numbers, nothing half-written is ever read."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch

from skelnb.skeleton import NTU25, UCLA20
from skelnb.encoders.core import create_encoder
from skelnb.train import checkpoint as ck

TINY = textwrap.dedent("""
    import os, signal, sys, warnings
    import numpy as np, torch
    from skelnb.skeleton import NTU25
    from skelnb.methods.cmal import CMAL
    from skelnb.methods.skeletonbyol import SkeletonBYOL
    import skelnb.train.pretrain
    pt = sys.modules["skelnb.train.pretrain"]         # the package answers with the function of that name

    class Clips:
        "The part of SkeletonData that the loop uses: two kinds of movement, with noise."
        name, skeleton, classes = "tiny", NTU25, ["wave", "nod"]
        def __init__(self, n=48, seed=0):
            rng = np.random.default_rng(seed)
            self.y = np.arange(n) % 2
            t = np.linspace(0, 6, 12, dtype="float32")[None, None, :, None, None]
            self.x = rng.normal(0, .3, (n, 3, 12, 25, 1)).astype("float32") + np.sin(t * (1 + self.y[:, None, None, None, None])).astype("float32")
        def __len__(self): return len(self.y)
        def batch(self, index, device="cpu"): return torch.from_numpy(self.x[np.asarray(index)]).to(device)

    def method(kind=CMAL, seed=0, **settings):
        torch.manual_seed(seed)
        return kind("stgcn", width=2, feature_dim=8, frames=12, persons=1, **settings)
""")
exec(TINY)
QUICK = dict(epochs=3, batch_size=16, lr=.05, monitor_every=1, device="cpu", progress=False)


def same(a, b):
    "Two histories without the seconds."
    return [{k: v for k, v in row.items() if k != "seconds"} for row in a] == [{k: v for k, v in row.items() if k != "seconds"} for row in b]


def child(code, *args):
    "Run `code` after TINY in a process of its own."
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", TINY + textwrap.dedent(code), *map(str, args)], env=env, capture_output=True, text=True)


# ---- a killed run

KILLED = """
    out, where, when = sys.argv[1], sys.argv[2], int(sys.argv[3])
    calls = 0
    def die(*args, **kwargs):
        global calls
        calls += 1
        if calls == when: os.kill(os.getpid(), signal.SIGKILL)
        return true(*args, **kwargs)
    if where == "step": true, CMAL.after_step = CMAL.after_step, lambda self: die(self)
    if where == "replace": true, os.replace = os.replace, die      # everything written, not yet named
    data = Clips()
    pt.pretrain(method(seed=int(sys.argv[4])), data, out=out, monitor=dict(train=data, val=Clips(20, 1)), epochs=4, batch_size=16, lr=.05,
                monitor_every=1, device="cpu", progress=False)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    "An uninterrupted run, in a process like the killed ones."
    out = tmp_path_factory.mktemp("whole")
    done = child(KILLED, out, "nowhere", 0, 0)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("where, when", [("step", 8), ("replace", 5)])
def test_a_killed_run_goes_on_to_the_same_numbers(whole, tmp_path, where, when):
    dead = child(KILLED, tmp_path, where, when, 0)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    assert not (tmp_path / "last.safetensors").exists()
    again = child(KILLED, tmp_path, "nowhere", 0, 7)               # other first weights: all must come from the checkpoint
    assert again.returncode == 0, again.stderr
    a, b = (json.loads((folder / "history.json").read_text()) for folder in (whole, tmp_path))
    assert len(a) == 4 and same(a, b)
    a, b = (ck.load_checkpoint(folder) for folder in (whole, tmp_path))
    for part in ("method", "optimizer", "random"):
        assert ck.fingerprint(*flat(a[part])) == ck.fingerprint(*flat(b[part])), part
    for name in ("last", "best"):
        a, b = (ck.load_weights(folder / f"{name}.safetensors").state_dict() for folder in (whole, tmp_path))
        assert all(torch.equal(a[k], b[k]) for k in a) and a.keys() == b.keys()


def flat(state):
    tensors = {}
    return json.dumps(ck.take_apart(state, tensors)), tensors


def test_a_finished_run_is_not_trained_again_and_can_be_made_longer(tmp_path):
    data = Clips()
    first = pt.pretrain(method(), data, out=tmp_path, **QUICK)
    again = pt.pretrain(method(seed=5), data, out=tmp_path, **QUICK)
    assert first == again
    longer = pt.pretrain(method(seed=5), data, out=tmp_path, **{**QUICK, "epochs": 5})
    straight = pt.pretrain(method(), data, **{**QUICK, "epochs": 5})
    assert same(longer, straight)
    with pytest.raises(pt.ResumeError, match="5 epochs, more than the 3"):
        pt.pretrain(method(), data, out=tmp_path, **QUICK)


# ---- resuming what is not the same run

@pytest.mark.parametrize("change, told", [
    (dict(lr=.01), r"lr: was 0\.05, now 0\.01"), (dict(batch_size=8), "batch_size: was 16, now 8"), (dict(seed=3), "seed: was 0, now 3"),
    (dict(lr_steps=(2,)), "lr_steps"), (dict(mixed_precision="bf16"), "mixed_precision: was 'no', now 'bf16'")])
def test_other_settings_are_named_and_refused(tmp_path, change, told):
    data = Clips()
    pt.pretrain(method(), data, out=tmp_path, **{**QUICK, "epochs": 1})
    with pytest.raises(pt.ResumeError, match=told):
        pt.pretrain(method(), data, out=tmp_path, **{**QUICK, **change})


def test_another_method_or_other_data_are_refused(tmp_path):
    data = Clips()
    pt.pretrain(method(), data, out=tmp_path, **{**QUICK, "epochs": 1})
    for other, clips, told in [(method(SkeletonBYOL), data, "method: was 'CMAL', now 'SkeletonBYOL'"), (method(tau=.9), data, "tau: was 0.996, now 0.9"),
                               (method(augment=lambda x, g: x), data, "augment"), (method(), Clips(40), "clips: was 48, now 40"),
                               (method(), Clips(seed=9), "content")]:
        with pytest.raises(pt.ResumeError, match=told):
            pt.pretrain(other, clips, out=tmp_path, **QUICK)
    with pytest.raises(pt.ResumeError, match="holds a run already"):
        pt.pretrain(method(), data, out=tmp_path, resume=False, **QUICK)
    with pytest.raises(pt.ResumeError, match="no checkpoint"):
        pt.pretrain(method(), data, out=tmp_path / "new", resume=True, **QUICK)


# ---- damage

def test_a_damaged_checkpoint_is_told_and_the_one_before_is_used(tmp_path):
    for epoch in (1, 2):
        ck.save_checkpoint(tmp_path, {"epoch": epoch, "w": torch.arange(100.)}, epoch)
    newest, older = ck.checkpoints(tmp_path)
    whole = newest.read_bytes()
    flipped = bytearray(whole)
    flipped[-30] ^= 1
    for damage in (whole[: len(whole) // 2], whole[:4], b"", bytes(flipped), b"\x80\x04not ours" * 40):
        newest.write_bytes(damage)
        with pytest.warns(UserWarning, match="checkpoint-000002.*Using checkpoint-000001"):
            assert ck.load_checkpoint(tmp_path)["epoch"] == 1
    older.write_bytes(b"")
    with pytest.raises(ck.CheckpointError, match="no whole checkpoint"):
        ck.load_checkpoint(tmp_path)


def test_a_run_with_a_damaged_checkpoint_ends_with_the_same_numbers(tmp_path):
    data = Clips()
    pt.pretrain(method(), data, out=tmp_path, **QUICK)
    newest = ck.checkpoints(tmp_path)[0]
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="damaged"):
        again = pt.pretrain(method(), data, out=tmp_path, **{**QUICK, "epochs": 4})
    assert same(again, pt.pretrain(method(), data, **{**QUICK, "epochs": 4}))


def test_a_state_comes_back_as_it_was(tmp_path):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), .1, momentum=.9)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = {"optimizer": optimizer.state_dict(), "loss": [.1, float("inf"), 1e-300], "none": None, "deep": [{"a": torch.tensor(3)}, {}], 7: "seven",
             "half": torch.ones(2, dtype=torch.bfloat16), "empty": torch.zeros(0, 3)}
    ck.save_checkpoint(tmp_path, state, 1)
    back = ck.load_checkpoint(tmp_path)
    assert back["loss"] == state["loss"] and back[7] == "seven" and back["none"] is None
    for a, b in [(back["half"], state["half"]), (back["empty"], state["empty"]), (back["deep"][0]["a"], torch.tensor(3)),
                 (back["optimizer"]["state"][0]["momentum_buffer"], optimizer.state_dict()["state"][0]["momentum_buffer"])]:
        assert a.dtype == b.dtype and torch.equal(a, b)
    with pytest.raises(TypeError, match="state.bad is a set"):
        ck.save_checkpoint(tmp_path, {"bad": {1}}, 2)
    assert len(list(tmp_path.iterdir())) == 1


def test_no_pickle_is_written(tmp_path):
    pt.pretrain(method(), Clips(), out=tmp_path, monitor=lambda m, e: {"knn": e}, **QUICK)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.safetensors", "checkpoint-000002.safetensors", "checkpoint-000003.safetensors",
                                                         "history.json", "last.safetensors"]
    import safetensors
    for path in tmp_path.glob("*.safetensors"):
        safetensors.safe_open(path, "pt")


# ---- weights

@pytest.mark.parametrize("skeleton", [NTU25, UCLA20])
def test_weights_bring_the_encoder_with_them(tmp_path, skeleton):
    encoder = create_encoder("stgcn", skeleton, width=2, feature_dim=8, dropout=.25).eval()
    path = ck.save_weights(tmp_path / "w.safetensors", encoder, {"score": .5})
    back = ck.load_weights(path)
    x = torch.randn(2, 3, 20, len(skeleton), 2)
    assert torch.equal(back(x), encoder(x)) and back.config == encoder.config and back.skeleton == skeleton
    assert back.meta == {"score": .5} and not back.training
    both = ck.load_weights(ck.save_weights(tmp_path / "two.safetensors", {"joint": encoder, "bone": encoder}))
    assert set(both) == {"joint", "bone"} and torch.equal(both["bone"](x), encoder(x))


def test_foreign_and_broken_weights_are_refused_by_name(tmp_path):
    import safetensors.torch
    foreign, broken, text = tmp_path / "foreign.safetensors", tmp_path / "broken.safetensors", tmp_path / "text.safetensors"
    safetensors.torch.save_file({"a": torch.ones(1)}, foreign)
    broken.write_bytes(ck.save_weights(tmp_path / "w.safetensors", create_encoder("stgcn", NTU25, width=2, feature_dim=8)).read_bytes()[:-8])
    text.write_text("hello")
    for path, told in [(foreign, "no such mark"), (broken, "damaged"), (text, "damaged"), (tmp_path / "gone.safetensors", "no such file")]:
        with pytest.raises(ck.CheckpointError, match=told) as error:
            ck.load_weights(path)
        assert path.name in str(error.value)
    tensors, note = ck.read_safetensors(tmp_path / "w.safetensors", ck.WEIGHTS, "")
    tensors.popitem()
    safetensors.torch.save_file(tensors, foreign, note)
    with pytest.raises(ck.CheckpointError, match="does not fit"):
        ck.load_weights(foreign)


# ---- the loop

def test_last_and_best_are_told_apart(tmp_path):
    scores, weights = iter([.2, .7, .7, .3]), []

    def monitor(m, epoch):
        weights.append({k: v.clone() for k, v in m.encoders["joint"].state_dict().items()})
        return {"knn": next(scores)}
    history = pt.pretrain(method(), Clips(), out=tmp_path, monitor=monitor, **{**QUICK, "epochs": 4})
    best, last = (ck.load_weights(tmp_path / f"{name}.safetensors") for name in ("best", "last"))
    assert best.meta["row"]["epoch"] == 2 and last.meta["row"]["epoch"] == 4 and [r["knn"] for r in history] == [.2, .7, .7, .3]
    for encoder, kept in [(best, weights[1]), (last, weights[3])]:
        assert all(torch.equal(encoder.state_dict()[k], v) for k, v in kept.items())


def test_the_monitor_measures_what_the_protocol_measures():
    from skelnb.evaluate.knn import knn
    train, val, m = Clips(), Clips(30, 4), method()
    got = pt.knn_monitor(train, val, k=7)(m, 1)["knn"]
    assert got == pytest.approx(knn(m.encoders, train, val, k=7).accuracy, abs=1e-6)
    assert 0 <= pt.knn_monitor(train, val)(method(streams=("joint", "motion", "bone")), 1)["knn"] <= 1


def test_the_monitor_changes_nothing():
    data, m = Clips(), dict(train=Clips(), val=Clips(20, 1))
    with_it = pt.pretrain(method(), data, monitor=m, **QUICK)
    assert same([{k: v for k, v in r.items() if k != "knn"} for r in with_it], pt.pretrain(method(), data, **QUICK))


def test_schedule_and_batches():
    assert [pt.learning_rate(e, 1., (2, 4)) for e in range(1, 6)] == pytest.approx([1, 1, .1, .1, .01])
    parts = [pt.epoch_batches(103, 5, torch.Generator().manual_seed(0), 2, rank, 3) for rank in range(3)]
    together = torch.cat(parts).flatten()
    assert parts[0].shape == (6, 5) and len(together.unique()) == 90          # whole steps only, no clip twice
    g = torch.Generator().manual_seed(0)
    assert not torch.equal(pt.epoch_batches(20, 5, g), pt.epoch_batches(20, 5, g))


def test_accumulated_batches_are_one_step():
    class Linear(torch.nn.Module):
        config, streams, encoders, steps = {}, ("joint",), {}, 0

        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(3))

        def views(self, x, generator=None): return [x]
        def forward(self, views): return {"loss": ((views[0].mean((2, 3, 4)) - self.w) ** 2).mean()}
        def after_step(self): self.steps += 1
        def start_epoch(self, epoch): pass
    one, two = Linear(), Linear()
    pt.pretrain(one, Clips(), **{**QUICK, "batch_size": 16})
    pt.pretrain(two, Clips(), **{**QUICK, "batch_size": 8, "accumulate": 2})
    assert one.steps == two.steps == 9
    torch.testing.assert_close(one.w, two.w)


def test_bf16_then_float32_in_one_process():
    history = pt.pretrain(method(), Clips(), **{**QUICK, "mixed_precision": "bf16"})
    assert history[-1]["loss"] == history[-1]["loss"]
    m = method()
    assert same(pt.pretrain(m, Clips(), **QUICK), pt.pretrain(method(), Clips(), **QUICK))
    assert next(iter(m.encoders.values()))(Clips().batch([0, 1])).dtype == torch.float32


def test_a_loss_that_is_not_a_number_is_told_and_the_checkpoint_kept(tmp_path):
    data = Clips()
    pt.pretrain(method(), data, out=tmp_path, **QUICK)
    before = {k: v.clone() for k, v in ck.load_checkpoint(tmp_path)["method"].items()}
    m = method()
    true, m.forward = m.forward, lambda views: {"loss": true(views)["loss"] * float("nan")}
    with pytest.raises(pt.NonFiniteLoss, match="epoch 4.*loss nan.*lower lr.*epoch 3 in .* untouched"):
        pt.pretrain(m, data, out=tmp_path, **{**QUICK, "epochs": 5})
    after = ck.load_checkpoint(tmp_path)
    assert after["epoch"] == 3 and all(torch.equal(before[k], v) for k, v in after["method"].items())


def test_too_little_data_and_senseless_settings():
    for change, told in [(dict(batch_size=64), "48 clips do not fill one step of 64.*batch_size=48 or less"), (dict(epochs=0), "at least 1"),
                         (dict(batch_size=1), "at least 2"), (dict(mixed_precision="fp8"), "'no' or 'bf16'")]:
        with pytest.raises(pt.PretrainError, match=told):
            pt.pretrain(method(), Clips(), **{**QUICK, **change})


def test_an_unwritable_folder_is_told_before_any_work(tmp_path):
    (tmp_path / "file").write_text("in the way")
    m = method()
    m.views = None                                                             # would fail if it were used
    with pytest.raises(ck.OutputFolderError, match="cannot write results into .*file.*out="):
        pt.pretrain(m, Clips(), out=tmp_path / "file" / "run", **QUICK)
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if os.geteuid():                                                           # root may write everywhere
        with pytest.raises(ck.OutputFolderError, match="locked"):
            pt.pretrain(m, Clips(), out=locked, **QUICK)


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = ck.write_atomic(tmp_path / "a.json", b"old")

    def full(fd):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ck.OutputFolderError, match="No space left"):
        ck.write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_the_terminal_sees_every_epoch(capfd):
    pt.pretrain(method(), Clips(), **{**QUICK, "progress": True})
    shown = capfd.readouterr()
    assert all(f"epoch {n}  loss" in shown.out for n in (1, 2, 3)), shown


def test_the_picture_of_a_run_is_safe_and_complete():
    history = [{"epoch": e, "loss": 1 / e, "<b>": 2., "lr": .1, "seconds": 1.} | ({"knn": e / 10} if e % 2 == 0 else {}) for e in (1, 2, 3)]
    picture = pt.curves(history, 10)
    assert "<b>" not in picture and "epoch 3 of 10" in picture and "loss 0.3333" in picture and "knn 0.2" in picture
    assert pt.curves(history[:1], 10)


def test_freed_memory_is_kept_for_the_next_step():
    "On Linux with glibc; elsewhere nothing is told, and nothing breaks."
    import resource
    from skelnb.train.pretrain import keep_memory
    if not keep_memory(): pytest.skip("no glibc here")
    def faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(8): torch.ones(2 ** 23)                                         # 32 MB, 8,192 pages
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    faults()
    assert faults() < 8192
