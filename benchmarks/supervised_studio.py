"""How well the studio's actions can be told apart with labels: a supervised ST-GCN on the embedded recordings.

    python -m benchmarks.supervised_studio                       # data/results/supervised-synthetic.json

Its accuracy is an upper mark for the self-supervised runs. No augmentation but the basic set; the last epoch counts, nothing is chosen.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import nn

from skelnb.augment import BA
from skelnb.data.dataset import load
from skelnb.encoders.core import create_encoder
from skelnb.train.checkpoint import write_json
from skelnb.train.pretrain import epoch_batches

RESULTS = Path(__file__).resolve().parent.parent / "data" / "results"


def accuracy(network, data):
    network.eval()
    with torch.no_grad():
        found = torch.cat([network(data.batch(i)).argmax(1) for i in torch.arange(len(data)).split(128)])
    return (found == torch.as_tensor(data.y)).float().mean().item()


def run(data, protocol, epochs, width, feature_dim, seed, batch_size=32, lr=.1, encoder="stgcn", **settings):
    "Train on one protocol's training clips (or on the first of a pair of sets); accuracy on its test clips after the last epoch."
    train, test = data if isinstance(data, tuple) else data.split(protocol)
    torch.manual_seed(seed)
    if encoder == "stgcn": settings = {"dropout": .1, **settings}
    encoder = create_encoder(encoder, train.skeleton, width=width, feature_dim=feature_dim, frames=train.shape[2], persons=train.shape[4], **settings)
    network = nn.Sequential(encoder, nn.Linear(feature_dim, len(train.classes)))
    optimizer = torch.optim.SGD(network.parameters(), lr, momentum=.9, nesterov=True, weight_decay=1e-4)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    order, chance, augment, y = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1), BA(skeleton=train.skeleton), torch.as_tensor(train.y)
    start = time.perf_counter()
    for epoch in range(epochs):
        network.train()
        total = 0.
        for index in epoch_batches(len(train), batch_size, order):
            loss = nn.functional.cross_entropy(network(augment(train.batch(index), chance)), y[index])
            optimizer.zero_grad(); loss.backward(); optimizer.step()
            total += loss.item()
        rate.step()
        print(f"{protocol} seed {seed} epoch {epoch + 1}: loss {total / (len(train) // batch_size):.3f}, {time.perf_counter() - start:.0f} s", flush=True)
    return dict(protocol=protocol, seed=seed, train=len(train), test=len(test), train_accuracy=accuracy(network, train), accuracy=accuracy(network, test),
                seconds=round(time.perf_counter() - start, 1))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="synthetic")
    parser.add_argument("--protocols", nargs="+", default=["xsub"])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--feature-dim", type=int, default=64)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    args = parser.parse_args(argv)
    data = load(args.data)
    runs = [run(data, p, args.epochs, args.width, args.feature_dim, s) for p in args.protocols for s in args.seeds]
    write_json(RESULTS / f"supervised-{args.data}.json", dict(data=args.data, encoder=f"stgcn, width {args.width}, {args.feature_dim} features", epochs=args.epochs, runs=runs))
    for r in runs: print(r)


if __name__ == "__main__":
    main()
