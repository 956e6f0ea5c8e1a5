"""Methods: encoder, heads, loss and the views they want."""

from skelnb import _reexport

_reexport(__name__, {
    "momentum": "MomentumPair MLP Method PairMethod init_weights ema_update METHODS create_method MethodError",
    "skeletonbyol": "SkeletonBYOL",
    "cmal": "CMAL",
    "queue": "Queue QueueMethod queue_length",
    "skeletonclr": "SkeletonCLR",
    "aimclr": "AimCLR",
    "hiclr": "HiCLR",
    "crossclr": "CrosSCLR",
    "acl": "ACL",
})
