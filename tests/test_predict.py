"""One recording in, classes and nearest clips out."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F
from typer.testing import CliRunner

from skelnb.cli import app
from skelnb.data import load
from skelnb.data.dataset import SkeletonData
from skelnb.data.formats import Recording
from skelnb.encoders import create_encoder
from skelnb.evaluate import features, knn
from skelnb.explore.predict import PredictError, bank_rows, fit_clip, predict, read_clip
from skelnb.skeleton import NTU25, UCLA20
from skelnb.train.checkpoint import save_weights


@pytest.fixture(scope="module")
def setting():
    torch.manual_seed(0)
    data = load("synthetic-small", frames=16)
    train, test = data.split("xsub")
    return create_encoder("tcn", data.skeleton, feature_dim=16, frames=16, persons=1).eval(), train, test.subset(range(0, len(test), 97))


def test_the_vote_is_that_of_knn(setting):
    encoder, train, test = setting
    expected = knn(encoder, train, test, k=7, temperature=.2).scores
    for i in range(0, len(test), 5):
        torch.testing.assert_close(predict(encoder, test.batch([i])[0], train, k=7, temperature=.2).scores, expected[i])


def test_streams_count_the_same(setting):
    encoder, train, test = setting
    torch.manual_seed(1)
    both = {"joint": encoder, "motion": create_encoder("tcn", train.skeleton, feature_dim=8, frames=16, persons=1).eval()}
    found = predict(both, test.batch([0])[0], train, k=3)
    cosine = sum(F.cosine_similarity(features(e, test.subset([0]), stream=s).x, features(e, train, stream=s).x) for s, e in both.items()) / 2
    torch.testing.assert_close(found.similarity, cosine.topk(3).values)
    assert found.index.tolist() == cosine.topk(3).indices.tolist()


def test_a_clip_is_not_its_own_neighbour(setting):
    encoder, train, _ = setting
    inside = Recording(train.x[3], 30., train.meta["name"][3], {}, train.skeleton)
    found = predict(encoder, inside, train, k=len(train))
    assert 3 not in found.index.tolist() and len(found.index) == len(train) - 1 and "left out" in found.notes[-1]


def test_the_farther_share_by_hand():
    "Four bank clips with features at angles 0, 1, 2 and 40 degrees; asked for one at 90: the nearest others are 1, 1, 1 and 38 degrees away, the clip's 50."
    angle = torch.deg2rad(torch.tensor([0., 1., 2., 40.]))
    bank = SkeletonData(np.ones((4, 3, 2, 25, 1), np.float32), [0, 0, 1, 1], None, None, NTU25, ["a", "b"])
    turn = lambda x: torch.tensor([[0., 1.]]).expand(len(x), 2)                            # every clip that is asked for points to 90 degrees
    found = predict(turn, torch.ones(3, 2, 25, 1), bank, k=1, rows=torch.stack([angle.cos(), angle.sin()], 1))
    assert found.farther == 1. and found.index.tolist() == [3] and found.label == "b" and "means little" in found.usual()
    near = lambda x: torch.tensor([[angle[1].cos(), angle[1].sin()]]).expand(len(x), 2)
    assert predict(near, torch.ones(3, 2, 25, 1), bank, k=1, rows=torch.stack([angle.cos(), angle.sin()], 1)).farther == 0.


def test_persons_and_layouts_are_fitted(setting):
    _, train, _ = setting
    x = np.random.default_rng(0).normal(size=(3, 30, 25, 2)).astype("f4")
    clip, notes = fit_clip(Recording(x, 30., "two", {}, NTU25), train)
    assert clip.shape == train.shape[1:] and "2 persons were recorded; the bank has 1" in notes[0]
    pair = SkeletonData(np.zeros((1, 3, 16, 25, 2), np.float32), [0], None, None, NTU25)
    clip, notes = fit_clip(Recording(x[..., :1], 30., "one", {}, NTU25), pair)
    assert clip.shape == (3, 16, 25, 2) and (clip[..., 1] == 0).all() and not notes
    clip, notes = fit_clip(Recording(x[:, :, :20, :1], 30., "kinect 1", {}, UCLA20), train)
    assert clip.shape == train.shape[1:] and "ucla20 -> ntu25" in notes[0]


def test_files(tmp_path):
    np.save(tmp_path / "one.npy", np.ones((3, 9, 17)))
    assert read_clip(tmp_path / "one.npy").skeleton.name == "coco17" and read_clip(tmp_path / "one.npy").x.shape == (3, 9, 17, 1)
    (tmp_path / "empty.npy").write_bytes(b"")
    with pytest.raises(PredictError, match="not an array of numbers"): read_clip(tmp_path / "empty.npy")
    with open(tmp_path / "several.npy", "wb") as f: np.savez(f, a=np.ones(3))
    with pytest.raises(PredictError, match="holds several arrays"): read_clip(tmp_path / "several.npy")
    with pytest.raises(PredictError, match="unknown layout 'kinect'"): read_clip(tmp_path / "one.npy", "kinect")
    with pytest.raises(PredictError, match="has 17 joints, the layout ntu25 has 25"): read_clip(tmp_path / "one.npy", "ntu25")
    for name, value, words in (("flat.npy", np.ones(9), r"expected numbers of shape \(3, frames"), ("many.npy", np.ones((3, 9, 99, 1)), "no layout of 99 joints"),
                               ("object.npy", np.array([{}], dtype=object), "not an array of numbers")):
        np.save(tmp_path / name, value)
        with pytest.raises(PredictError, match=words): read_clip(tmp_path / name)
    (tmp_path / "a.csv").write_text("1,2,3")
    with pytest.raises(PredictError, match="expected a file ending in .skeleton"): read_clip(tmp_path / "a.csv")


def test_features_of_the_bank_are_kept_and_a_damaged_file_is_made_anew(setting, tmp_path):
    encoder, train, _ = setting
    weights = save_weights(tmp_path / "w.safetensors", encoder)
    first = bank_rows(encoder, train, weights, folder=tmp_path / "kept")
    file, = (tmp_path / "kept").iterdir()
    file.write_bytes(b"damaged")
    assert torch.equal(bank_rows(encoder, train, weights, folder=tmp_path / "kept"), first)
    assert not torch.equal(bank_rows(encoder, train, weights, stream="motion", folder=tmp_path / "kept"), first)
    assert len(list((tmp_path / "kept").iterdir())) == 2


def test_from_the_command_line(setting, tmp_path, monkeypatch):
    encoder, train, test = setting
    monkeypatch.chdir(tmp_path)
    save_weights("w.safetensors", encoder)
    train.subset(range(40)).save("bank")
    np.save("mine.npy", test.x[0])
    done = CliRunner().invoke(app, "predict mine.npy --weights w.safetensors --data bank --k 5 --nearest 2".split())
    assert done.exit_code == 0, done.output + repr(done.exception)
    page = (tmp_path / "prediction.html").read_text()
    assert "mine (asked)" in page and "share of the vote of the 5 nearest clips" in page and page.count("<script>") == 1
    assert "cosine" in done.output and "open prediction.html" in done.output
    wrong = CliRunner().invoke(app, "predict mine.npy --weights w.safetensors --data nowhere".split())
    assert isinstance(wrong.exception, OSError) and "neither a folder nor a data set" in str(wrong.exception)


def test_the_stream_comes_with_the_weights(setting, tmp_path, monkeypatch):
    encoder, train, test = setting
    monkeypatch.chdir(tmp_path)
    save_weights("w.safetensors", encoder, {"streams": ["motion"]})
    train.subset(range(40)).save("bank")
    np.save("mine.npy", test.x[0])
    words = "predict mine.npy --weights w.safetensors --data bank --k 5"
    done = CliRunner().invoke(app, words.split())
    bank = load(tmp_path / "bank")
    expected = predict(encoder, read_clip(tmp_path / "mine.npy"), bank, k=5, stream="motion")
    assert done.exit_code == 0 and expected.nearest().name[0] in done.output and f"{expected.similarity[0]:.4f}" in done.output
    wrong = CliRunner().invoke(app, f"{words} --stream joint".split())
    assert isinstance(wrong.exception, ValueError) and "trained on the motion stream, not on joint" in str(wrong.exception)


def test_every_clip_of_the_bank_counts_for_what_is_kept(setting, tmp_path):
    encoder, train, _ = setting
    weights = save_weights(tmp_path / "w.safetensors", encoder)
    x = np.array(train.x[:30])
    banks = [SkeletonData(x.copy(), np.asarray(train.y[:30]), None, train.meta[:30], train.skeleton, train.classes) for _ in range(2)]
    banks[1].x[15] += .1
    first, second = (bank_rows(encoder, b, weights, folder=tmp_path / "kept") for b in banks)
    assert not torch.equal(first[15], second[15]) and torch.equal(first[:15], second[:15])


def test_recordings_of_ones_own_may_have_any_name(own_recordings, setting, tmp_path):
    _, train, _ = setting
    for file in own_recordings(tmp_path):
        clip = read_clip(file)
        assert clip.x.shape[0] == 3 and fit_clip(clip, train)[0].shape == train.shape[1:]


@pytest.fixture
def own_recordings():
    "Writes a .skeleton and a .json whose names say nothing."
    def write(folder):
        from skelnb.data.synthetic import synthesize
        studio = synthesize(n_subjects=1, n_cameras=1, n_repeats=1, n_setups=1, classes=["wave"])
        studio.write_ntu(folder / "tree")
        named = next((folder / "tree").rglob("*.skeleton"))
        named.rename(folder / "kick.skeleton")
        poses = np.random.default_rng(0).normal(size=(12, 20, 3)).round(4).tolist()
        (folder / "mine.json").write_text(json.dumps({"skeletons": poses}))
        return folder / "kick.skeleton", folder / "mine.json"
    return write


def test_a_bank_of_one_says_that_it_cannot_say(setting):
    encoder, train, test = setting
    one = train.subset([0])
    assert "too few clips" in predict(encoder, test.batch([0])[0], one).usual()


def test_names_cannot_break_the_page(setting):
    encoder, train, test = setting
    evil = "</script><script>alert(1)</script>"
    bank = SkeletonData(train.x[:30], np.asarray(train.y[:30]) * 0, None, pd.DataFrame({"name": [f"c{i}" for i in range(30)]}), train.skeleton, [evil])
    page = predict(encoder, Recording(test.x[0], 30., evil, {}, train.skeleton), bank).to_html()
    assert "<script>alert" not in page
    json.dumps(page)
