"""What you look at and touch."""

from skelnb import _reexport

_reexport(__name__, {
    "embedding": "explore_embedding embed align",
})
