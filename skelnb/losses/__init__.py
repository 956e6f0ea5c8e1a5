"""Losses: pure functions of tensors."""

from skelnb import _reexport

_reexport(__name__, {
    "byol": "byol_loss symmetric_byol_loss LossError",
    "cmal": "cmal_loss minimise_loss maximise_loss",
})
