"""Augmentations: one class each, batched, pure and replayable."""

from skelnb import _reexport

_reexport(__name__, {
    "core": "Augmentation AugmentError Compose",
    "basic": "Shear TemporalCrop BA",
})
