"""Losses: pure functions of tensors."""

from skelnb import _reexport

_reexport(__name__, {
    "infonce": "info_nce queue_logits",
    "byol": "byol_loss symmetric_byol_loss LossError",
    "cmal": "cmal_loss minimise_loss maximise_loss",
    "cscl": "similarities sharpen pseudo_label vote cscl_loss",
    "hierarchical": "hierarchical_loss hierarchical_terms log_distribution",
    "mining": "nearest mine mining_report distribution_matching attention_drop cross_view_loss crossclr_losses",
})
