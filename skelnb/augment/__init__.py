"""Augmentations: one class each, batched, pure and replayable."""

from skelnb import _reexport

_reexport(__name__, {
    "core": "Augmentation AugmentError Compose",
    "basic": "Shear TemporalCrop BA",
    "normal": "SpatialFlip TimeFlip Rotate GaussianNoise GaussianBlur AxisMask NA",
    "strong": "RandomMask SkeleAdaIN DropAddEdges",
    "growing": "growing AugmentationSet ARRANGEMENTS SETS",
    "explorer": "explore_augment",
})
