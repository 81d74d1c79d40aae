"""Where the real data files are, on machines that have them."""

from __future__ import annotations

import os
from pathlib import Path


def data_folder() -> Path | None:
    """The folder of `WSLJAX_DATA`, or `../shared/data` beside the repository, if it is there."""
    given = os.environ.get("WSLJAX_DATA")
    folder = Path(given) if given else Path(__file__).parents[2] / "shared" / "data"
    return folder if folder.is_dir() else None
