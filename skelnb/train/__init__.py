"""The training loop, checkpoints and recipes."""

from skelnb import _reexport

_reexport(__name__, {
    "pretrain": "pretrain",
    "recipes": "recipe Recipe RecipeError",
    "checkpoint": "save_checkpoint load_checkpoint save_weights load_weights",
    "export": "export_onnx run_onnx onnx_notes",
})
