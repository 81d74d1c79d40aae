"""An interpreter with torch beside this one, which runs a step of a published network when asked."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

SCRIPT = Path(__file__).with_name("_metanets_torch.py")


class Worker:
    """A context: the process ends with it.

    Attributes:
        skipped: why there is nothing to run, or None.
        parameters: of the published network.
        version: of torch.
        answer: all that the process said first.
    """

    def __init__(self, python: str, *, script: Path = SCRIPT, **what: Any):
        # -P: the folder of the script has a `statistics.py`, which must not hide the standard one
        self.process = subprocess.Popen(
            [python, "-P", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.answer = self._ask(what) or {"skipped": "the interpreter ended; has it torch?"}
        self.skipped: str | None = self.answer.get("skipped")
        self.parameters = float(self.answer.get("parameters", 0))
        self.version: str = self.answer.get("torch", "")

    def run(self, **asked: Any) -> float:
        """What is asked for (by default one step), done once; its seconds."""
        return float(self._ask(asked))

    def _ask(self, what: dict[str, Any]) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(what) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.communicate()
