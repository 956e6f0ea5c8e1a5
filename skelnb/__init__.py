"""skelnb: learn, take apart and use self-supervised skeleton-based action recognition.

This file and the `__init__.py` of every room are written by hand; all other modules are exported from `nbs/`.
"""

__version__ = "0.1.0"

import importlib
import sys
import types


def _reexport(package, homes):
    """Let `package` answer for the public names of its modules, importing each module on first use.

    `homes` maps a module name to the names it is home of. Where a function is called like its own module
    (`skelnb.evaluate.knn.knn`), the package shows the function; `from skelnb.evaluate.knn import ...` still
    reaches the module.
    """
    home = {name: module for module, names in homes.items() for name in names.split()}

    class Package(types.ModuleType):
        def __setattr__(self, name, value):
            if isinstance(value, types.ModuleType) and home.get(name) == name:
                value = getattr(value, name)
            super().__setattr__(name, value)

        def __getattr__(self, name):
            if name not in home:
                raise AttributeError(f"module {package!r} has no attribute {name!r}")
            return getattr(importlib.import_module(f"{package}.{home[name]}"), name)

        def __dir__(self):
            return sorted({*super().__dir__(), *home})

    module = sys.modules[package]
    module.__class__ = Package
    module.__all__ = sorted(home)


_reexport(__name__, {
    "skeleton": "Skeleton NTU25 UCLA20 COCO17 MEDIAPIPE33 LAYOUTS",
    "player": "player poster moving_picture",
    "data": "load synthesize to_stream SkeletonData Recording",
    "train": "pretrain",
})
