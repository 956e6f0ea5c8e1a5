"""Trained encoders to give away: from finished runs of `benchmarks.methods` to data/weights/NAME.safetensors and its card.

    python -m benchmarks.weights                               # every main method on synthetic-small and NW-UCLA whose run is in data/runs/
    python -m benchmarks.weights --data nw-ucla --methods cmal # some of them
    python -m benchmarks.weights --check                       # hashes of all that is there; which runs are missing

A name is METHOD-DATA, of seed 0 and the last epoch; nothing is chosen on test clips. The weights are stored as float16 (running statistics as
float32), and everything the card says is measured again on what was stored, beside the scores of the run before rounding.
"""

import argparse
import json

import torch

from benchmarks.methods import DATA, NAMES, PASSES, RESULTS, RUNS, by_stream, parts
from skelnb.evaluate.features import Features, features
from skelnb.evaluate.knn import knn
from skelnb.evaluate.linear import linear
from skelnb.train.checkpoint import load_weights
from skelnb.train.weights import load_pretrained, pretrained, save_pretrained

LICENSE = {
    "synthetic-small": "Apache-2.0, as the project. Trained on clips that skelnb makes itself (skelnb.data.synthesize).",
    "nw-ucla": "The weights: Apache-2.0, as the project. They are learnt numbers and hold no recording. They were trained on Northwestern-UCLA Multiview Action 3D "
               "(Wang, Nie, Xia, Wu, Zhu, CVPR 2014), which belongs to its owners: get it from them, heed their terms (research), and cite them.",
}


def missing(data, method, seed):
    "Which files of a finished run are not there."
    run = f"methods-{data}-{method}-seed{seed}"
    return [str(p.relative_to(RESULTS.parent.parent)) for p in (RUNS / run / "last.safetensors", RESULTS / f"{run}.json") if not p.is_file()]


def tables(encoders, clips):
    "{stream: Features of training, held-out and test clips}."
    return {s: [features(e, part, stream=s) for part in clips] for s, e in encoders.items()}


def together(found, streams):
    "Features of one stream; of several, their unit rows side by side, so that a cosine is the mean of the streams'."
    if len(streams) == 1:
        return found[streams[0]]
    return [Features(torch.cat([f.normalised().x for f in each], 1), each[0].y) for each in zip(*(found[s] for s in streams))]


def scores_of(found, seed):
    "kNN and linear accuracy, as `benchmarks.methods.measure` takes them: of the joint stream, and of all streams together."
    scores = {}
    for name, streams in {"joint": ["joint"], "all": list(found)}.items():
        if name == "joint" or len(found) > 1:
            bank, held, asked = together(found, streams)
            fc = linear(None, bank, asked, val=held, seed=seed)
            scores[name] = {"knn": knn(None, bank, asked).accuracy, "knn on val": knn(None, bank, held).accuracy, "linear last": fc.last, "linear best on val": fc.best}
    return scores


def difference(before, after):
    "How far rounding moves features (largest distance of a row, divided by the spread of all rows) and how many kNN answers it changes."
    far, changed = 0., 0.
    for (bank, _, a), (other, _, b) in zip(before.values(), after.values()):
        spread = (a.x - a.x.mean(0)).square().sum(1).mean().sqrt()
        far = max(far, float((a.x - b.x).norm(dim=1).max() / spread))
        changed = max(changed, (knn(None, bank, a).predictions != knn(None, other, b).predictions).double().mean().item())
    return {"largest step of a feature, of the features' spread": round(far, 6), "test clips with another kNN answer": round(changed, 6)}


def one(data, method, seed, clips, folder):
    "Write the weights and the card of one run."
    run = f"methods-{data}-{method}-seed{seed}"
    told, before = json.loads((RESULTS / f"{run}.json").read_text()), by_stream(load_weights(RUNS / run / "last.safetensors"))
    name, about = f"{method}-{data}", DATA[data]
    card = {
        "title": f"{NAMES[method]}, pre-trained without labels on {data}", "method": method, "data": data, "split": about["protocol"], "seed": seed, "epochs": told["recipe"]["plan"]["epochs"],
        "chosen": "last epoch", "frames": about["frames"], "skeleton": clips[0].skeleton.name, "classes": list(clips[0].classes), "clips": told["clips"],
        "clips of": f"load({data!r}, frames={about['frames']}).split({about['protocol']!r}, val={.25 if data == 'synthetic-small' else .2}, seed=0)",
        "recipe": told["recipe"], "result": f"data/results/{run}.json", "command": told["command"], "license": LICENSE[data],
        "trained with": told["versions"], "scores of the run, before rounding": told["scores"]["last"], "untrained": told["scores"]["untrained"]}
    save_pretrained(name, before, card, folder, dtype="float16", overwrite=True)
    after = tables(by_stream(load_pretrained(name, folder)), clips)
    card |= {"scores": scores_of(after, seed), "rounding": difference(tables(before, clips), after)}
    file = save_pretrained(name, before, card, folder, dtype="float16", overwrite=True)
    joint = card["scores"].get("all", card["scores"]["joint"])
    print(f"{file.name:36}{file.stat().st_size / 1000:7.0f} kB   kNN {100 * joint['knn']:.2f} %   {card['rounding']}", flush=True)


def check(folder):
    "Open everything once; say what could not be made for want of a run."
    table = pretrained(folder)
    for name in table.index:
        load_pretrained(name, folder)
    print(table.to_string(), f"\n{len(table)} weights, {table.kB.sum()} kB, hashes right", sep="\n")
    for data in DATA:
        for method in PASSES:
            if f"{method}-{data}" not in table.index:
                print(f"not there: {method}-{data}; of its run are missing: {', '.join(missing(data, method, 0)) or 'nothing'}")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=list(DATA))
    parser.add_argument("--methods", nargs="+", default=list(PASSES), choices=list(PASSES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", default=RESULTS.parent / "weights", help="where to write (data/weights of the checkout)")
    parser.add_argument("--check", action="store_true", help="only look at what is there")
    args = parser.parse_args(argv)
    if not args.check:
        for data in args.data:
            clips = parts(data)
            for method in args.methods:
                if lacking := missing(data, method, args.seed):
                    print(f"{method}-{data}: left out, there is no {' and no '.join(lacking)}; first: python -m benchmarks.methods --data {data} --methods {method} --seeds {args.seed}", flush=True)
                else:
                    one(data, method, args.seed, clips, args.folder)
    check(args.folder)


if __name__ == "__main__":
    main()
