"""Methods: encoder, heads, loss and the views they want."""

from skelnb import _reexport

_reexport(__name__, {
    "momentum": "MomentumPair MLP PairMethod init_weights ema_update METHODS create_method MethodError",
    "skeletonbyol": "SkeletonBYOL",
    "cmal": "CMAL",
})
