"""Folders in other tools' layouts, from files to a trained encoder, by commands alone."""

import json

import pytest
from typer.testing import CliRunner

from skelnb.data.layouts import draw_layout, studio_layout, write_custom

FOLDERS = {     # what is written, what the answer must say of it
    "15 joints": (dict(layout="15", style="csv"), ["m ", "nite15"]),
    "22 joints, centimetres, a row a joint": (dict(layout="22", style="long", unit="cm"), ["cm ", "form      long"]),
    "31 joints, millimetres, z up, holes": (dict(layout="31", style="json", unit="mm", up="z", missing=.1), ["mm ", "up        z", "10."]),
    "39 markers, one table": (dict(layout="39", style="table", unit="mm", up="z"), ["mm ", "up        z"]),
    "22 joints, two persons, holes": (dict(layout="22", style="npy", persons=2, missing=.1), ["2 person(s)"]),
    "15 joints in pictures": (dict(layout="15", style="tsv", dims=2), ["pixels", "2 coordinates", "up        -y"])}


def run(*words):
    from skelnb.cli import app
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.output[-2000:]
    return done.stdout


@pytest.mark.parametrize("what", FOLDERS)
def test_from_a_folder_to_an_encoder_that_beats_an_untrained_one(what, tmp_path, monkeypatch):
    ask, answer = FOLDERS[what]
    monkeypatch.setenv("SKELNB_HOME", str(tmp_path / "home"))
    got = write_custom(tmp_path / "recordings", views=3, difficulty=.8, **ask)
    said = run("prepare", "custom", "--src", tmp_path / "recordings", "--layout", got["layout"], "--name", "mine", "--frames", 25, "--quiet")
    assert "PROBLEM" not in said and all(a in said for a in answer) and f"{got['n']} clips in" in said and "views     3" in said, said
    common = ["--frames", 25, "--method", "skeletonclr", "--encoder", "tcn", "--batch-size", 32, "--weights", "own", "--val", 0]
    run("pretrain", "mine", *common, "--epochs", 40, "--lr", .02, "--out", tmp_path / "run"); run("pretrain", "mine", *common, "--epochs", 1, "--lr", 1e-12, "--out", tmp_path / "untrained")
    knn = {}
    for name in ("run", "untrained"):
        run("evaluate", tmp_path / name / "last.safetensors", "mine", "--with", "knn", "--out", tmp_path / f"{name}.json")
        knn[name] = json.loads((tmp_path / f"{name}.json").read_text())["knn"]
    print(what, knn)
    assert knn["run"] > knn["untrained"], knn
    assert "joints are mapped" in run("evaluate", "skeletonclr-synthetic-small", "mine", "--with", "knn")          # the kit's weights on these joints
    if ask["style"] != "table":                                                 # a file holds one clip: one more of its kind is read by the set's own plan
        clip = sorted(got["clips"].iterdir())[0]
        said = run("predict", clip, "--weights", tmp_path / "run/last.safetensors", "--data", "mine", "--out", tmp_path / "page.html")
        assert f"{clip.stem} is in the bank" in said and (tmp_path / "page.html").stat().st_size > 10_000, said


def test_a_layout_is_drawn_up_from_the_files_themselves(tmp_path):
    for style in ("csv", "long", "json", "table"):
        got = write_custom(tmp_path / style, "22", style=style, classes=["jump"], n_subjects=1, n_repeats=1, persons=1)
        w = draw_layout(got["clips"])
        assert w.names == list(studio_layout("22").names) and len(w.suggested) == 22
    one = draw_layout(next(iter(sorted((tmp_path / "csv/clips").iterdir()))))
    assert one.names == w.names
