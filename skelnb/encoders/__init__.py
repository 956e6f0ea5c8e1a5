"""Encoders: (N, C, T, V, M) clips to (N, feature_dim) features."""

from skelnb import _reexport

_reexport(__name__, {
    "core": "create_encoder Encoder EncoderError ENCODERS",
    "stgcn": "STGCN load_released",
    "tcn": "TCN place_and_speed",
})
