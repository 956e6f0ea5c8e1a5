"""The papers' tables: every row is a trial or a quotation, on every set; and at the papers' scale each kind of them is walked for an epoch."""

import json
import pathlib
import re
import shlex

import numpy as np
import pytest

from skelnb.data import prepare
from skelnb.data.dataset import PROTOCOLS
from skelnb.data.synthetic import synthesize
from skelnb.evaluate import experiment
from skelnb.evaluate.experiment import CONTROLS, ExperimentError, digest, run, stored, trial_file
from skelnb.evaluate.tables import in_words, TABLES, THREE, Row, Table, accuracy, command, commands, conditions, controls_of, figure, found_of, frame, passes_of, table_html, trial_of
from skelnb.train.recipes import EPOCHS, QUEUES, STAGES, Recipe

SETS = ("synthetic-small", "nw-ucla", "pku1-pairs", "ntu60", "ntu120", "pku1", "pku2")
every = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())


def rows_of(table): return [*table.rows, *controls_of(table)]


# ---- what is written in them

@every
def test_a_table_is_whole(table):
    labels = [r.label for r in rows_of(table)]
    assert len(set(labels)) == len(labels) and TABLES[table.name] is table and table.measure in ("knn", "linear", "clusters", "accuracy") and len(set(table.columns)) == len(table.columns)
    for r in table.rows:
        assert set(r.paper) <= set(table.columns) and all(0 < v < 100 for v in r.paper.values()), r.label
        assert r.paper or r.method, f"{r.label}: neither a number nor a trial"
        assert table.row(r.label) is r and set(r.read.split("+")) <= {"joint", "motion", "bone"}
    assert all(any(c in r.paper for r in table.rows) for c in table.columns) and set(table.data) <= set(SETS)
    assert set(r.control for r in rows_of(table)) - {None} == set(CONTROLS) - ({"raw"} if table.name == "acl-5" else set())          # coordinates cannot be transferred
    if table.measure == "accuracy":                                                                                                  # each protocol of the rows has its controls
        asked = lambda rows: {(r.protocol, str(r.knobs), str(r.small_knobs)) for r in rows if r.method and r.control != "untrained"}
        assert asked(table.rows) == asked(controls_of(table)) and all("start" not in r.knobs for r in controls_of(table))
    with pytest.raises(ExperimentError, match=f"{table.name} has no row 'none'"): table.row("none")


@every
def test_controls_are_read_as_the_rows_are(table):
    "Coordinates and an untrained encoder once for each way in which rows are read, one stream, scores added or heads together; of an accuracy that was trained, once for each protocol."
    if table.measure == "accuracy": return
    way = lambda r: ("heads" if r.knobs.get("how") in ("sum", "mean") else "added", r.read)
    for control in ("raw", "untrained"):
        got = [way(r) for r in controls_of(table) if r.control == control]
        assert len(set(got)) == len(got) and set(got) == {w for w in map(way, [r for r in table.rows if r.method]) if w[1] in ("joint", "motion", "bone", THREE)}, table.name
    assert [r.control for r in controls_of(table)].count("pose") == [r.control for r in controls_of(table)].count("shuffled") == 1


@pytest.mark.parametrize("name, labels", [("acl-10", None), ("acl-12", None), ("hiclr-2", None), ("hiclr-3-left", None), ("hiclr-3-right", "HiCLR"), ("hiclr-3-right", "Baseline"), ("acl-9", None)])
@pytest.mark.parametrize("data", ["synthetic-small", "nw-ucla", "ntu60"])
def test_the_rows_of_an_ablation_differ_in_what_it_is_about(name, labels, data):
    "Same streams, same everything but the setting in question: else the order of random numbers differs, too."
    about = {"acl-10": {"tau"}, "acl-12": {"alpha", "beta"}, "hiclr-2": {"sets"}, "hiclr-3-left": {"sim"}, "hiclr-3-right": {"sets"} if labels == "HiCLR" else {"augment"}, "acl-9": {"feature_dim", "hidden", "projection"}}[name]
    trials = [trial_of(r, data) for r in TABLES[name].rows if labels is None or r.label.startswith(labels)]
    rest = [json.dumps({k: v for k, v in t.pretext["recipe"]["settings"].items() if k not in about}, sort_keys=True) + json.dumps(t.pretext["recipe"]["plan"], sort_keys=True) + json.dumps(t.identity["protocol"]) for t in trials]
    assert len(trials) > 2 and len(set(trials)) == len(trials) and len(set(rest)) == 1, set(rest)


@pytest.mark.parametrize("name", ["acl-3", "acl-4", "acl-6", "acl-8", "hiclr-6", "hiclr-7"])
def test_an_untrained_network_is_as_wide_as_the_papers_own(name):
    wide = lambda r: trial_of(r, "ntu60").pretext["recipe"]["settings"]["feature_dim"]
    assert {wide(r) for r in rows_of(TABLES[name]) if r.control == "untrained"} == {512 if name.startswith("acl") else 256}


@every
@pytest.mark.parametrize("data", SETS)
def test_every_row_is_a_trial_that_has_its_streams_and_its_measure(table, data):
    for r in rows_of(table):
        trial = trial_of(r, data, seed=1)
        if r.method is None or (r.pretext is not None and data not in r.pretext): assert trial is None; continue
        known = trial.pretext["recipe"]
        assert trial == trial_of(r, data, seed=1) and trial.protocol == r.protocol and trial.control == r.control and trial.seed == (0 if r.control == "raw" and trial.protocol != "semi" else 1)
        assert (trial.protocol in ("frozen", "fusion")) == (table.measure != "accuracy") and (data == trial.data if r.pretext is None else trial.identity["protocol"]["to"] == data)
        streams = known["settings"].get("streams", ["joint"])
        assert r.read in ["+".join(s) for s in experiment.subsets(streams)], (r.label, streams)
        if r.control not in ("raw", "untrained"):
            Recipe(known["method"], known["data"], known["settings"], known["plan"])                        # all its settings exist
            papers = trial.data in ("ntu60", "ntu120", "pku1", "pku2")
            assert known["settings"]["encoder"] == r.encoder and known["plan"]["batch_size"] in ((128,) if papers else (16, 32)) and known["plan"]["epochs"] >= (40 if papers else 20)
    trials = table.trials(data)
    assert len(set(trials)) == len(trials) == len({t.hash for t in trials}) and (data not in table.data or trials)
    assert {t.seed for t in trials} <= {0, 1, 2} and set(table.trials(data, seeds=(1,))) <= set(trials)


def test_rows_that_differ_are_trials_that_differ():
    "Within a table two rows are the same numbers only where they read other streams of one run."
    for table in TABLES.values():
        for data in ("synthetic-small", "ntu60"):
            seen = [(t.hash, r.read) for r in rows_of(table) if (t := trial_of(r, data)) is not None]
            assert len(set(seen)) == len(seen), (table.name, data)


def test_tables_share_their_runs():
    for data in ("synthetic-small", "ntu60"):
        plain = {(t.name, r.label): trial_of(r, data).hash for t in TABLES.values() for r in t.rows if r.method == "acl" and r.encoder == "stgcn" and r.protocol == "fusion" and not r.changes}
        assert len(plain) == 6 and len(set(plain.values())) == 1
        everything = [t for table in TABLES.values() for t in table.trials(data, seeds=(0,))]
        assert len(set(everything)) < .7 * len(everything) and len({digest(t.pretext) for t in everything}) < len(set(everything))
    small = {digest(t.pretext) for t in TABLES["acl-4"].trials("synthetic-small", seeds=(0,))} & {digest(t.pretext) for t in TABLES["acl-2"].trials("synthetic-small", seeds=(0,))}
    assert len(small) == 7                                          # fine-tuned from what the linear evaluation looks at: CrosSCLR, AimCLR, ACL, and the four controls


def test_streams_are_fused_as_their_authors_do():
    how = lambda table, label: TABLES[table].row(label).knobs.get("how", "plain sum")
    assert [how("acl-2", n) for n in ("ACL", "3s-CrosSCLR", "3s-AimCLR")] == ["sum", "mean", "aimclr"] == [how(t, n) for t, n in (("acl-7", "3s-CMAL"), ("hiclr-4", "3s-CrosSCLR"), ("hiclr-4", "3s-AimCLR"))]
    assert {how("acl-6", r.label) for r in TABLES["acl-6"].rows} == {"sum"} and how("acl-8", "CMAL J + M + B, ensemble") == how("hiclr-4", "3s-HiCLR") == "plain sum"
    assert trial_of(TABLES["acl-8"].row("ACL J + M + B"), "ntu60") == trial_of(TABLES["acl-6"].row("ACL"), "ntu60") != trial_of(TABLES["acl-fig4"].row("ACL"), "ntu60")


def test_the_transformer_has_a_plan_of_its_own():
    for label in ("SkeletonCLR, transformer, joint", "HiCLR, transformer, joint"):
        big, small = (trial_of(TABLES["hiclr-4"].row(label), data) for data in ("ntu60", "synthetic-small"))
        assert big.pretext["recipe"]["plan"]["weight_decay"] == 5e-4 and big.identity["protocol"] == {"name": "frozen", "drop": [30, 80]}
        assert small.pretext["recipe"]["plan"]["weight_decay"] == 1e-4 and small.identity["protocol"] == {"name": "frozen"}


def test_a_number_that_stands_in_several_tables_is_one_number():
    found = {}
    same = {"3s-HiCLR": "HiCLR", "3s-CMAL": "CMAL"}
    for name in ("acl-2", "acl-6", "acl-7", "acl-8", "acl-11", "acl-13", "hiclr-1", "hiclr-4"):
        for r in TABLES[name].rows:
            if r.method is None or r.encoder != "stgcn" or r.control or r.changes or r.read != THREE or "ensemble" in r.label: continue
            for c, v in r.paper.items(): found.setdefault((r.method, c), {}).setdefault(v, []).append(f"{name}: {r.label}")
    differ = {k: v for k, v in found.items() if len(v) > 1 and k[1].startswith("NTU")}
    assert len(found) > 20 and set(differ) == {("cmal", "NTU-60 xview")}, differ     # 83.6, and 83.5 in Table XIII


def test_settings_of_the_papers_reach_the_recipe():
    at = lambda name, label, data="ntu60": trial_of(TABLES[name].row(label), data).pretext["recipe"]
    assert at("acl-10", "0.9")["settings"]["tau"] == .9 and at("acl-10", "1")["settings"]["tau"] == 1 and at("acl-10", "0.996") == at("acl-1", "CMAL") | {"settings": at("acl-10", "0.996")["settings"]}
    wide = at("acl-9", "512, 1024, 256")["settings"]; small = at("acl-9", "512, 1024, 256", "nw-ucla")["settings"]
    assert (wide["feature_dim"], wide["hidden"], wide["projection"], wide["tau"]) == (512, 1024, 256, .99) and (small["feature_dim"], small["hidden"], small["projection"]) == (64, 128, 32)
    assert (at("acl-12", "(1, 0.1)")["settings"]["alpha"], at("acl-12", "(1, 0.1)")["settings"]["beta"]) == (1, .1) and at("acl-6", "CSCL (on BYOL)")["settings"]["base"] == "byol"
    assert (at("acl-13", "(0, 1)")["settings"]["lam"], at("acl-13", "(0, 1)")["settings"]["gamma"]) == (0, 1) and at("acl-13", "(1, 10)")["settings"]["gamma"] == 10 and at("acl-11", "5")["settings"]["k"] == 5
    assert at("hiclr-2", "[BA+NA, Mask]")["settings"]["sets"] == ["BA+NA", "Mask"] and at("hiclr-3-left", "L1")["settings"]["sim"] == "l1" and at("hiclr-3-right", "Baseline, [BA, NA, AdaIN]")["settings"]["augment"] == "BA+NA+AdaIN"
    assert at("acl-8", "ACL M + B")["settings"]["streams"] == ["motion", "bone"] and at("acl-2", "ACL, GRU")["settings"]["encoder"] == "gru"
    knobs = lambda name, label, data: {k: v for k, v in trial_of(TABLES[name].row(label), data).identity["protocol"].items() if k != "name"}
    assert knobs("acl-3", "ACL, 1%", "ntu60") == dict(fraction=.01, schedule="acl", at_least=0) and [knobs("acl-3", "ACL, 1%", d) for d in ("nw-ucla", "synthetic-small")] == [dict(fraction=f, schedule="laptop") for f in (.01, .03)]
    assert knobs("hiclr-6", "no pretext task, 10%", "ntu60") == dict(fraction=.1, schedule="hiclr", start="fresh", at_least=0) and knobs("acl-4", "3s-ST-GCN", "ntu60") == dict(schedule="acl", start="fresh")
    assert trial_of(TABLES["acl-1"].row("CMAL"), "ntu60", 2, "xview").pretext["split"] == "xview"


# ---- drawn

def put(results, trial, scores):
    file = trial_file(trial, results); file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"trial": trial.identity, "scores": scores}))


def test_a_table_of_stored_runs(tmp_path):
    table = TABLES["acl-1"]
    empty = frame(table, results=tmp_path)
    assert empty[("synthetic-small", "mean")].isna().all() and empty.loc["CMAL", ("paper", "PKU II")] == 36.6 and list(empty.index) == [r.label for r in rows_of(table)]
    for s, a in enumerate((.5, .6, .7)): put(tmp_path, trial_of(table.row("CMAL"), "synthetic-small", s), {"joint": {"knn": {"accuracy": a}}})
    put(tmp_path, trial_of(table.row("SkeletonCLR"), "synthetic-small", 1), {"joint": {"knn": {"accuracy": .25}}})
    for s in range(3): put(tmp_path, trial_of(table.row("raw coordinates"), "synthetic-small", s), {"joint": {"knn": {"accuracy": .4}}})
    made = frame(table, results=tmp_path)["synthetic-small"]
    assert made.loc["CMAL", ["mean", "sd", "seeds", "epochs"]].tolist() == pytest.approx([60, 10, 3, 30]) and made.loc["SkeletonCLR", "mean"] == 25 and np.isnan(made.loc["SkeletonCLR", "sd"])
    assert made.loc["raw coordinates", "seeds"] == 1 and found_of(table.row("CMAL"), table, "synthetic-small", (0, 2), results=tmp_path) == [.5, .7]
    assert accuracy(table.row("CMAL"), table, "nw-ucla", 0, results=tmp_path) == (None, None) and frame(table, seeds=(1,), results=tmp_path)["synthetic-small"].loc["CMAL", "mean"] == 60
    page = table_html(table, results=tmp_path)
    assert "60.0 ± 10.0" in page and "25.0" in page and page.count("<tr>") == 2 + len(rows_of(table)) and "nw-ucla" not in page
    quotes = table_html(TABLES["hiclr-4"], results=tmp_path / "none")
    assert "P&amp;C" in quotes and quotes.count("<tr>") == 2 + len(rows_of(TABLES["hiclr-4"]))
    drawn = figure(table, results=tmp_path)
    assert [t.get_text() for t in drawn.axes[0].get_yticklabels()] == [r.label for r in rows_of(table)] and len(drawn.axes) == 2


@every
def test_every_table_can_be_drawn_before_anything_has_run(table, tmp_path):
    assert len(frame(table, results=tmp_path)) == len(rows_of(table)) and "<table" in table_html(table, results=tmp_path) and figure(table, results=tmp_path) is not None
    assert shlex.split(command(table)) == ["skelnb", "reproduce", table.name, "--data", "ntu60", "--split", "xsub"]


@every
def test_its_commands_are_understood_by_the_command_line(table):
    import typer
    from skelnb.cli import app
    reproduce, lines = typer.main.get_command(app).commands["reproduce"], commands(table)
    assert len(lines) == len(table.columns)
    for line in lines:
        program, verb, *words = shlex.split(line)
        asked = reproduce.make_context(verb, words).params
        assert (program, verb, asked["names"]) == ("skelnb", "reproduce", [table.name]) and asked["data"] in EPOCHS and asked["split"] in PROTOCOLS[asked["data"]], line
        trials = table.trials(asked["data"], (0,), asked["split"])
        assert trials and all((t.identity["protocol"] if t.protocol == "transfer" else t.pretext)["split"] == asked["split"] for t in trials)


def test_commands_follow_the_columns():
    pairs = lambda *names: [tuple(shlex.split(line)[4::2]) for line in commands(*map(TABLES.get, names))]
    assert pairs("acl-1") == [("pku1", "xsub"), ("pku2", "xsub"), ("ntu60", "xsub"), ("ntu60", "xview"), ("ntu120", "xsub"), ("ntu120", "xset")] and pairs("acl-5") == [("pku1", "xsub"), ("pku2", "xsub")]
    assert pairs("hiclr-3-left", "hiclr-3-right") == [("ntu60", "xsub")] * 2 and pairs("hiclr-5")[-1] == ("pku1", "xsub") and pairs("acl-fig4") == [("ntu60", "xview")]
    with pytest.raises(ExperimentError, match="mine: no data set and split known for the column 'NTU'"): commands(Table("mine", "", "", ["NTU"], []))


def test_the_notebooks_of_tables_print_their_commands():
    seen = []
    for path in sorted((pathlib.Path(__file__).resolve().parent.parent / "nbs" / "reproduce").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if "".join(cell["source"]).startswith("print(*commands("):
                names = re.findall(r'TABLES\["([\w-]+)"\]', "".join(cell["source"])); seen += names
                assert "".join(cell["outputs"][0]["text"]).split("\n")[:-1] == commands(*map(TABLES.get, names)), path.name
    assert sorted(seen) == sorted(TABLES)


def test_below_a_table_stands_how_ours_were_made(tmp_path):
    assert passes_of(trial_of(TABLES["hiclr-2"].row("[BA+NA, Mask]"), "synthetic-small")) == 90 and passes_of(trial_of(TABLES["acl-10"].row("0"), "ntu60")) == 240
    assert conditions(TABLES["acl-1"], "nw-ucla") == "nw-ucla, view1: ST-GCN of width 8, 64 features, 25 frames, 50 epochs = 100 (SkeletonCLR), 200 (CMAL) passes of a clip through the encoders of a stream."
    assert conditions(TABLES["acl-1"], "nw-ucla", ["raw coordinates"]) == "nw-ucla, view1: 25 frames." and "32 to 64 features" in conditions(TABLES["acl-9"], "synthetic-small")
    assert "ST-GCN of width 8, BiGRU of width 32, 64 features, 25 frames, 30 to 60 epochs = 120 passes" in conditions(TABLES["acl-2"], "synthetic-small") and 'by the schedule "laptop"' in conditions(TABLES["acl-4"], "synthetic-small")
    table, said = TABLES["acl-12"], "standardised before the linear layer"
    for data in ("synthetic-small", "pku1-pairs"): put(tmp_path, trial_of(table.row("(1, 1)"), data), {"joint": {"linear": {"accuracy": .5}}})
    page = table_html(table, results=tmp_path)
    assert "ours: pku1-pairs" in page and "pku1-pairs, xsub: ST-GCN of width 8, 64 features, 25 frames, 20 epochs = 80 passes" in page and "30 epochs = 120 passes" in page and "nw-ucla" not in page and said not in page
    raw = table.row("raw coordinates"); put(tmp_path, trial_of(raw, "pku1-pairs"), {raw.read: {"linear": {"accuracy": .4}}})
    assert said in table_html(table, results=tmp_path)


def test_a_table_in_words(tmp_path):
    table = TABLES["acl-7"]; assert in_words(table, frame(table, "nw-ucla", results=tmp_path)) == ""
    one = {"knn": {"accuracy": .1}}
    right = lambda **found: {read: {"linear": {"accuracy": a}, **one} for read, a in found.items()}
    put(tmp_path, trial_of(table.row("SkeletonCLR J"), "nw-ucla"), right(joint=.5, motion=.4, bone=.3) | {THREE: {"linear": {"accuracy": .6}}})       # published 68.3, 53.3, 69.4; 75.0
    put(tmp_path, trial_of(table.row("raw coordinates, joint"), "nw-ucla"), right(joint=.45, motion=.1, bone=.5) | {THREE: {"linear": {"accuracy": .7}}})
    put(tmp_path, trial_of(table.row("ACL"), "nw-ucla"), {THREE: {"linear": {"accuracy": .2}}})                                                       # 78.6; its own coordinates, heads together, were not run
    assert in_words(table, frame(table, "nw-ucla", results=tmp_path)) == "nw-ucla: rows above the raw coordinates: 2 of 4; pairs of rows in the published order (NTU-60 xsub): 4 of 10."
    put(tmp_path, trial_of(table.row("untrained encoder, motion"), "nw-ucla", 2), right(joint=.5, motion=.41, bone=.2) | {THREE: {"linear": {"accuracy": .7}}})
    assert "above the untrained encoder: 1 of 4;" in in_words(table, frame(table, "nw-ucla", results=tmp_path)) and in_words(table, frame(table, "nw-ucla", results=tmp_path)) in table_html(table, results=tmp_path)


@pytest.mark.parametrize("control", ["raw", None])
def test_only_raw_coordinates_are_standardised(control, monkeypatch):
    "As the note below a table says: by the trial itself."
    asked = []
    monkeypatch.setattr(experiment, "frozen", lambda tables, seed, standardise=False, **_: asked.append(standardise))
    monkeypatch.setattr(experiment, "features", lambda *_, **__: None); monkeypatch.setattr(experiment, "_place", lambda _: ("cpu",))
    experiment._frozen({"joint": experiment._Raw() if control else object()}, (None, None, None), 0)
    assert asked == [control == "raw"]


# ---- walked

ENCODERS = {"stgcn": dict(width=2), "gru": dict(width=8), "dsta": dict(width=8), "ctrgcn": dict(width=8), "unik": dict(width=8)}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    "The owners' files of two sets, made up, as `skelnb prepare` leaves them: of NTU 6 clips train and 2 test, of two persons."
    folder = tmp_path_factory.mktemp("papers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SKELNB_HOME", str(folder)); patch.setenv("SKELNB_RESULTS", str(folder / "results"))
        studio = synthesize(n_subjects=4, n_cameras=1, n_repeats=1, n_setups=1, classes=["kick", "handshake"])
        studio.write_ntu(folder / "ntu", progress=False); studio.write_pku(folder / "pku", per_recording=2, progress=False)
        for name, raw in (("ntu60", "ntu"), ("pku1", "pku")): prepare(name, folder / raw, missing=False, workers=1, progress=False)
        experiment._PARTS.clear()
        yield folder
    experiment._PARTS.clear()


def kinds(data):
    "One row of each kind of any table, {name: (table, row)}: method, encoder, protocol and its knobs, control, what the row changes."
    found = {}
    for table in TABLES.values():
        for r in rows_of(table):
            if trial_of(r, data) is None or (r.pretext is not None and r.pretext[data] not in ("ntu60", "pku1")): continue
            if (data == "pku1") != (r.pretext is not None): continue
            kind = (r.method, r.encoder, r.protocol, str(sorted(r.knobs.items())), r.control, str(sorted(r.changes.items())), r.pretext and r.pretext[data])
            found.setdefault(kind, (table, r))
    return found


def short(r):
    "The same row with a small network, as few clips a step as it can do with, an epoch of each of its method's stages."
    stage = STAGES.get(r.method, ("",))[0]
    more = dict(epochs=1 + bool(stage), **({stage: 1} if stage else {}), batch_size=max(2, r.changes.get("k", 0)), lr=.001, feature_dim=16, projection=8, **ENCODERS[r.encoder], **(dict(queue=4) if r.method in QUEUES else dict(hidden=16)))
    if r.protocol not in ("frozen", "fusion"): r = Row(**vars(r) | {"knobs": r.knobs | dict(epochs=1, batch_size=2, lr=.001) | (dict(fraction=.5) if r.protocol == "semi" else {})})
    return r, more


@pytest.mark.parametrize("data", ["ntu60", "pku1"])
def test_every_kind_of_row_runs_at_the_papers_settings(home, tmp_path, data):
    asked = {kind: (table, *short(r)) for kind, (table, r) in kinds(data).items()}
    trials = {kind: trial_of(r, data, **more) for kind, (_, r, more) in asked.items()}
    assert run(trials.values(), results=tmp_path, runs=tmp_path / "runs", progress=False) == []
    for kind, (table, r, more) in asked.items():
        value, found = accuracy(r, table, data, 0, results=tmp_path, **more)
        assert 0 <= value <= 1 and found["clips"]["train"] == (6 if data == "ntu60" else 4) and found["clips"]["val"] == 0, kind
        assert (found["loss"] == []) == (r.control in ("raw", "untrained")) and np.isfinite(found["loss"]).all(), kind
        if r.control not in ("raw", "untrained"): assert found["trial"]["recipe"]["plan"]["batch_size"] == max(2, r.changes.get("k", 0)) and found["trial"]["frames"] == 50
    if data == "ntu60":
        named = {k[:3] for k in asked}
        assert {k[0] for k in asked} == {"skeletonclr", "skeletonbyol", "cmal", "acl", "aimclr", "hiclr", "crossclr"} and {k[1] for k in asked} == set(ENCODERS) and {k[2] for k in asked} == {"frozen", "fusion", "finetune", "semi"} and len(named) > 12 and len(asked) > 80
        assert {k[4] for k in asked} == {None, *CONTROLS}
    else: assert {k[-1] for k in asked} == {"ntu60", "pku1"}
