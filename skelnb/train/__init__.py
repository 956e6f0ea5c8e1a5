"""The training loop, checkpoints and recipes."""

from skelnb import _reexport

_reexport(__name__, {
    "pretrain": "pretrain",
    "recipes": "recipe Recipe RecipeError",
    "checkpoint": "save_checkpoint load_checkpoint save_weights load_weights",
    "weights": "load_pretrained save_pretrained pretrained load_or_train weights_folders WeightsError",
    "scale": "each_once gather_features synchronise check_queue plan_run scaling distributed_ready ScaleError",
    "export": "export_onnx run_onnx onnx_notes",
})
