"""Weight space learning in JAX.

Trace a network once, learn what may be done to its weights without changing its function, and
let everything else follow from that annotation::

    from wsljax import symmetry

    spec = symmetry.infer(fn, params, *inputs)   # any JAX function, any pytree of arrays
    spec.act(spec.sample(key), params)           # other weights, the same function

The subpackages load on first use, so `import wsljax` stays as cheap as importing jax.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "applications",
    "generation",
    "interop",
    "representation",
    "symmetry",
    "train",
    "understanding",
    "zoo",
]

# Every subpackage, loaded when it is first touched.
_SUBPACKAGES = tuple(name for name in __all__ if not name.startswith("_"))

if TYPE_CHECKING:
    from wsljax import (
        applications,
        generation,
        interop,
        representation,
        symmetry,
        train,
        understanding,
        zoo,
    )


def __getattr__(name: str):
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(
        f"module 'wsljax' has no attribute {name!r}; its subpackages are {', '.join(_SUBPACKAGES)}"
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBPACKAGES})
