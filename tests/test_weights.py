"""Weights by name: saved, found, checked, refused; and the committed ones say on their cards what they can do."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
import torch

from skelnb.data.dataset import load
from skelnb.encoders import create_encoder
from skelnb.evaluate import features, knn
from skelnb.skeleton import NTU25
from skelnb.train import WeightsError, load_or_train, load_pretrained, load_weights, pretrained, recipe, save_pretrained, save_weights, weights_folders
from skelnb.train.weights import CARD, check_name, rounded

ROOT = pathlib.Path(__file__).resolve().parent.parent
COMMITTED = ROOT / "data" / "weights"
NAMES = sorted(p.stem for p in COMMITTED.glob("*.safetensors"))


def encoder(seed=0, skeleton=NTU25):
    torch.manual_seed(seed)
    made = create_encoder("tcn", skeleton, width=8, feature_dim=16, frames=10, persons=1).train()
    made(clips(n=8))                                   # running statistics that are not those of a new network
    return made.eval()


def clips(n=4, seed=1):
    return torch.randn(n, 3, 10, 25, 1, generator=torch.Generator().manual_seed(seed))


# --- save and load

@pytest.mark.parametrize("streams", [None, ["joint"], ["joint", "bone"], ["motion"]])
def test_round_trip(tmp_path, streams):
    e = encoder()
    given = e if streams is None else {s: encoder(i) for i, s in enumerate(streams)}
    file = save_pretrained("mine-1.2", given, {"data": "made up", "scores": {"joint": {"knn": .5}}}, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["index.json", "mine-1.2.json", "mine-1.2.safetensors"] and file.name == "mine-1.2.safetensors"
    found = load_pretrained("mine-1.2", tmp_path)
    assert found.card["kind"] == CARD and found.card["data"] == "made up" and found.card["streams"] == (streams or ["joint"])
    if streams in (None, ["joint"]):
        want = e if streams is None else given["joint"]
        assert not found.training and torch.equal(found(clips()), want(clips()))
    else:
        assert list(found) == streams
        for s in streams:
            assert torch.equal(found[s](clips()), given[s](clips())) and found[s].card is found.card
    table = pretrained(tmp_path)
    assert list(table.index) == ["mine-1.2"] and table.loc["mine-1.2", "kNN"] == 50


def test_what_a_recipe_runs_can_be_given_as_it_is(tmp_path):
    class Method:
        encoders = torch.nn.ModuleDict({"joint": encoder()})
    save_pretrained("run", (Method(), [{"epoch": 1}]), folder=tmp_path)
    assert torch.equal(load_pretrained("run", tmp_path)(clips()), Method.encoders["joint"](clips()))


def test_float16_is_half_the_size_and_says_the_same(tmp_path):
    e = create_encoder("stgcn", NTU25, width=8, feature_dim=64, frames=10, persons=1).eval()
    with torch.no_grad():
        e.blocks[0].time.weight[0, 0] = 1e5             # more than float16 can hold
    before = {k: v.clone() for k, v in e.state_dict().items()}
    sizes = [save_pretrained(d, e, folder=tmp_path, dtype=d).stat().st_size for d in ("float32", "float16")]
    assert sizes[1] < .65 * sizes[0]
    small = load_pretrained("float16", tmp_path)
    assert all(v.dtype == before[k].dtype for k, v in small.state_dict().items())                     # float32 again when loaded
    assert all(torch.equal(v, before[k]) for k, v in e.state_dict().items())                          # the one given is untouched
    assert small.blocks[0].time.weight[0, 0].max() == 1e5
    assert all(torch.equal(v, before[k]) for k, v in small.named_buffers() if k in before)            # statistics and graph are not rounded
    assert all((p - before[k]).abs().max() <= before[k].abs().max() * 2 ** -11 for k, p in small.named_parameters())
    assert torch.equal(rounded(e).state_dict()["blocks.1.time.weight"].float(), small.state_dict()["blocks.1.time.weight"])


def test_saving_again_needs_a_word(tmp_path):
    save_pretrained("a", encoder(0), folder=tmp_path)
    with pytest.raises(WeightsError, match="overwrite=True"):
        save_pretrained("a", encoder(1), folder=tmp_path)
    save_pretrained("a", encoder(1), folder=tmp_path, overwrite=True)
    assert torch.equal(load_pretrained("a", tmp_path)(clips()), encoder(1)(clips()))


# --- what is refused

@pytest.mark.parametrize("name", ["../a", "a/b", "a\\b", "/etc/passwd", "", ".", "..", ".a", "a.", "a..b", "A", "a b", "a\n", "a\0", "index", "x" * 101, 3, None])
def test_names_that_lead_elsewhere(tmp_path, name):
    for call in (lambda: load_pretrained(name, tmp_path), lambda: save_pretrained(name, encoder(), folder=tmp_path), lambda: load_or_train(name, encoder, folder=tmp_path), lambda: check_name(name)):
        with pytest.raises(WeightsError, match="no name of weights"):
            call()
    assert not list(tmp_path.iterdir())


def test_an_unknown_name_tells_near_ones(tmp_path):
    save_pretrained("cmal-small", encoder(), folder=tmp_path)
    with pytest.raises(WeightsError, match="near ones: cmal-small"):
        load_pretrained("cmal-smal", tmp_path)
    with pytest.raises(WeightsError, match="come with the repository"):
        load_pretrained("cmal-small", tmp_path / "nowhere")


def test_damage_is_told(tmp_path):
    file = save_pretrained("a", encoder(), folder=tmp_path)
    card, index, whole = file.with_suffix(".json"), tmp_path / "index.json", file.read_bytes()

    def refused(told):
        with pytest.raises(WeightsError, match=told):
            load_pretrained("a", tmp_path)

    for bad in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), b"version https://git-lfs.github.com/spec/v1\n", b""):
        file.write_bytes(bad)
        refused("damaged or was exchanged")
    file.unlink()
    refused("its weights are not")
    save_weights(file, encoder(7))                                                                    # whole weights, but others
    refused("the card says")
    file.write_bytes(whole)
    good = json.loads(card.read_text())
    for change, told in [({"kind": "x"}, "expected a card"), ({"name": "b"}, "the card is of 'b'"), ({"sha256": "0"}, "no SHA-256")]:
        card.write_text(json.dumps(good | change))
        refused(told)
    card.write_text("{")
    refused("card in JSON")
    card.write_text(json.dumps(good))
    index.write_text(json.dumps({"weights": {"a": {"sha256": "0" * 64}}}))
    refused("the index says")
    index.write_text("[]")
    refused("no index")
    index.unlink()
    assert load_pretrained("a", tmp_path)                                                             # a card and its weights are enough


def test_what_cannot_be_saved(tmp_path):
    for told, call in [("create_encoder", lambda: save_pretrained("a", torch.nn.Linear(2, 2), folder=tmp_path)), ("dtype", lambda: save_pretrained("a", encoder(), folder=tmp_path, dtype="int8")),
                       ("plain JSON", lambda: save_pretrained("a", encoder(), {"x": object()}, tmp_path))]:
        with pytest.raises(WeightsError, match=told):
            call()
    assert not list(tmp_path.glob("*.json"))


# --- where they are looked for

def test_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("SKELNB_HOME", str(tmp_path))
    folders = weights_folders()
    assert folders[:2] == [tmp_path / "weights", tmp_path / "cache" / "weights"] and COMMITTED in folders
    save_pretrained("cmal-synthetic-small", encoder())                                                # no folder: SKELNB_HOME's
    assert (tmp_path / "weights" / "cmal-synthetic-small.json").is_file()
    assert torch.equal(load_pretrained("cmal-synthetic-small")(clips()), encoder()(clips()))          # the first place counts
    assert load_pretrained("hiclr-synthetic-small").card["method"] == "hiclr"                         # and the checkout is still found
    assert weights_folders(tmp_path / "x") == [tmp_path / "x"]


def test_an_installed_package_finds_weights_in_the_home_folder(tmp_path):
    "A copy of the package away from its checkout, as pip installs it."
    import shutil
    shutil.copytree(ROOT / "skelnb", tmp_path / "site" / "skelnb", ignore=shutil.ignore_patterns("__pycache__"))
    home = tmp_path / "home" / ".cache" / "skelnb" / "weights"
    home.mkdir(parents=True)
    for end in ("json", "safetensors"):
        shutil.copy(COMMITTED / f"cmal-synthetic-small.{end}", home)
    code = "from skelnb.train import load_pretrained, pretrained; import skelnb; print(skelnb.__file__, list(pretrained().index), load_pretrained('cmal-synthetic-small').card['method'])"
    env = {k: v for k, v in os.environ.items() if k != "SKELNB_HOME"} | {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "site") in done.stdout and "['cmal-synthetic-small'] cmal" in done.stdout


# --- load or train

def test_load_or_train_trains_once(tmp_path):
    calls = []

    def train():
        calls.append(1)
        return encoder(len(calls))

    a = load_or_train("a", train, folder=tmp_path, settings={"epochs": 1}, data="made up")
    b = load_or_train("a", train, folder=tmp_path, settings={"epochs": 1})
    assert calls == [1] and torch.equal(a(clips()), b(clips())) and b.card["data"] == "made up"
    c = load_or_train("a", train, folder=tmp_path, settings={"epochs": 2})                            # other settings: trained anew
    assert calls == [1, 1] and not torch.equal(a(clips()), c(clips()))
    assert load_or_train("a", train, folder=tmp_path).card["recipe"] == {"epochs": 2} and calls == [1, 1]


def test_load_or_train_takes_what_is_given_away_and_keeps_what_it_makes(tmp_path, monkeypatch):
    monkeypatch.setenv("SKELNB_HOME", str(tmp_path))
    never = lambda: pytest.fail("there was no need to train")
    e = load_or_train("skeletonclr-synthetic-small", never)
    made = recipe("skeletonclr", "synthetic-small", epochs=60)
    assert load_or_train("skeletonclr-synthetic-small", never, settings=made).card["sha256"] == e.card["sha256"]
    other = load_or_train("skeletonclr-synthetic-small", encoder, settings=made.change(lr=.5))
    assert torch.equal(other(clips()), encoder()(clips())) and (tmp_path / "cache" / "weights" / "skeletonclr-synthetic-small.json").is_file()
    assert not (tmp_path / "weights").exists()
    assert load_pretrained("skeletonclr-synthetic-small", COMMITTED).card["sha256"] == e.card["sha256"]


# --- the committed ones

def test_all_methods_are_there_small_and_whole():
    table = pretrained(COMMITTED)
    assert set(table.index) == set(NAMES) == {f"{m}-{d}" for m in ("skeletonclr", "aimclr", "hiclr", "crossclr", "skeletonbyol", "cmal", "acl") for d in ("synthetic-small", "nw-ucla")}
    assert sum(p.stat().st_size for p in COMMITTED.iterdir()) < 8e6
    index = json.loads((COMMITTED / "index.json").read_text())["weights"]
    for name in NAMES:
        card = load_pretrained(name, COMMITTED).card
        assert index[name]["sha256"] == card["sha256"]
        assert {"data", "split", "seed", "epochs", "recipe", "scores", "clips", "license", "versions", "command", "rounding"} <= set(card)
        assert (ROOT / card["result"]).is_file() and "Apache-2.0" in card["license"]
        assert card["rounding"]["test clips with another kNN answer"] < .02
        run = json.loads((ROOT / card["result"]).read_text())
        assert card["recipe"] == run["recipe"] and card["scores of the run, before rounding"] == run["scores"]["last"]
        if card["data"] == "nw-ucla":
            assert "hold no recording" in card["license"]


def test_a_card_tells_the_accuracy_that_is_measured():
    "From the file to the number on the card: kNN on all test clips of the embedded recordings."
    e = load_pretrained("skeletonbyol-synthetic-small", COMMITTED)
    train, val, test = load("synthetic-small", frames=25).split("xsub", val=.25, seed=0)
    assert [len(train), len(val), len(test)] == [e.card["clips"][k] for k in ("train", "val", "test")]
    accuracy = knn(None, features(e, train), features(e, test)).accuracy
    assert abs(accuracy - e.card["scores"]["joint"]["knn"]) <= 2.5 / len(test)                        # another machine may round a tie otherwise
    assert abs(accuracy - e.card["scores of the run, before rounding"]["joint"]["knn"]) < .01


def test_weights_are_loaded_as_any_file_of_weights():
    assert torch.equal(next(load_weights(COMMITTED / "hiclr-nw-ucla.safetensors").parameters()), next(load_pretrained("hiclr-nw-ucla", COMMITTED).parameters()))
