"""A set of one's own is like any other: every method, encoder, augmentation, protocol and explorer takes it."""

import numpy as np
import pytest
import torch

from skelnb.augment.explorer import explore_augment
from skelnb.data import guess, prepare_custom
from skelnb.data.layouts import write_custom
from skelnb.data.streams import to_stream
from skelnb.encoders import ENCODERS, create_encoder
from skelnb.evaluate import Features, clusters, features, knn, linear, retrieval, semi
from skelnb.explore.confusion import explore_confusion
from skelnb.explore.embedding import explore_embedding
from skelnb.explore.joints import explore_joints
from skelnb.explore.predict import predict
from skelnb.explore.similarity import batch_similarities, explore_similarity
from skelnb.methods.momentum import METHODS
from skelnb.train import recipe

KINDS = {"15 joints in pictures": dict(layout="15", style="tsv", dims=2), "39 markers, two persons": dict(layout="39", style="npy", persons=2, unit="mm", up="z", missing=.05)}


@pytest.fixture(scope="module", params=KINDS)
def own(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    got = write_custom(folder / "recordings", n_subjects=4, n_repeats=1, views=2, **KINDS[request.param])
    return prepare_custom(got["clips"].parent, guess(got["clips"].parent, got["layout"]), "own", frames=12, out=folder / "set", progress=False)


@pytest.fixture(scope="module")
def encoder(own):
    torch.manual_seed(0)
    return create_encoder("stgcn", own.skeleton, width=4, feature_dim=16, frames=12, persons=own.shape[-1]).eval()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns_on_it(name, own):
    train, _ = own.split("subject=1")
    method, history = recipe(name, own, epochs=1, width=4, feature_dim=16, batch_size=16).run(train, progress=False)
    assert np.isfinite(history[-1]["loss"]) and features(method, train).x.isfinite().all()


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_and_stream_sees_it(name, own):
    net = create_encoder(name, own.skeleton, feature_dim=16, frames=12, persons=own.shape[-1], **({} if name == "gru" else {"width": 8})).eval()
    for stream in ("joint", "motion", "bone"): assert net(to_stream(own.batch([0, 1]), stream, own.skeleton)).shape == (2, 16)


def test_every_protocol_and_split_measures_it(own, encoder):
    assert {"fold=1/4", "subject=1", "view=2"} <= set(own.protocols())
    for protocol in ("fold=1/4", "subject=2", "view=1"):
        train, test = own.split(protocol); tr, te = features(encoder, train), features(encoder, test)
        assert isinstance(tr, Features) and 0 <= knn(None, tr, te, k=5).accuracy <= 1 and 0 <= clusters(te)["nmi"] <= 1
        assert 0 <= linear(None, tr, te, epochs=2).accuracy <= 1 and 0 <= retrieval(None, tr, te).map <= 1
    assert 0 <= semi(encoder, train, test, fraction=.5, epochs=1).accuracy <= 1


def test_every_explorer_shows_it(own, encoder):
    train, test = own.split("subject=1"); some = own.subset(np.arange(6)); f = features(encoder, test)
    cmal = recipe("cmal", own, width=4, feature_dim=16).build(some, 0)
    pages = [explore_augment(own, clips=2), explore_embedding(test, f, xy=f.x[:, :2].numpy()), explore_confusion(knn(None, features(encoder, train), f), test, train),
             explore_joints(some, encoder), explore_similarity(some, batch_similarities(cmal, some)), predict(encoder, test.batch([0])[0], train)]
    for page in pages: assert 5_000 < len(page.to_html()) < 400_000, page
