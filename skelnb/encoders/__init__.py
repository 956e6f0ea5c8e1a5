"""Encoders: (N, C, T, V, M) clips to (N, feature_dim) features."""

from skelnb import _reexport

_reexport(__name__, {
    "core": "create_encoder Encoder EncoderError ENCODERS Topology topologies layer_table convert_released load_released",
    "stgcn": "STGCN",
    "tcn": "TCN place_and_speed",
    "gru": "GRU",
    "dsta": "DSTA",
    "ctrgcn": "CTRGCN",
    "unik": "UNIK",
    "released": "open_released read_state released_parts",
})
