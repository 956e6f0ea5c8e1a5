"""Methods: encoder, heads, loss and the views they want."""

from skelnb import _reexport

_reexport(__name__, {
    "momentum": "MomentumPair MLP init_weights ema_update",
    "skeletonbyol": "SkeletonBYOL",
    "cmal": "CMAL",
})
