"""The public names of wsljax and their signatures, held against `tests/public_api.txt`.

A change of the public interface is a decision: make it, then update the file with

    python -m tests.test_public_api --update

A name is public if its package exports it in `__all__`, or, without one, if it has no underscore
and was defined in the library. Annotations are left out, since they read differently from one
version of Python to the next.
"""

import difflib
import importlib
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import wsljax

SNAPSHOT = Path(__file__).parent / "public_api.txt"
HEADING = "# The public interface of wsljax; to update it: python -m tests.test_public_api --update"


def public_names(package: ModuleType) -> list[str]:
    if hasattr(package, "__all__"):
        return sorted(package.__all__)
    return sorted(
        name
        for name, value in vars(package).items()
        if not name.startswith("_")
        and not inspect.ismodule(value)
        and getattr(value, "__module__", "").startswith("wsljax")
    )


def default_text(value: Any) -> str:
    """A default as it would be written; anything whose repr is not stable is `...`."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, (tuple, list)):
        inner = ", ".join(map(default_text, value)) + ("," if len(value) == 1 else "")
        return f"({inner})" if isinstance(value, tuple) else f"[{inner}]"
    name = getattr(value, "__qualname__", None)
    return name if isinstance(name, str) and "<" not in name else "..."


def signature_text(function: Any) -> str:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return "(...)"
    empty = inspect.Parameter.empty
    parameters = []
    for p in signature.parameters.values():
        text = str(p.replace(annotation=empty, default=empty))
        parameters.append(text if p.default is empty else f"{text}={default_text(p.default)}")
        parameters[-1] = parameters[-1].strip()
    kinds = [p.kind for p in signature.parameters.values()]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        parameters.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    positional = kinds.count(inspect.Parameter.POSITIONAL_ONLY)
    if positional:
        parameters.insert(positional, "/")
    return f"({', '.join(parameters)})"


def described(name: str, value: Any) -> list[str]:
    """One line for the name, and under a class one for each public member it defines."""
    if inspect.ismodule(value):
        return [f"{name}  (module)"]
    if not inspect.isclass(value):
        return [name + (signature_text(value) if callable(value) else "")]
    members = set()
    for base in value.__mro__:
        if not base.__module__.startswith("wsljax"):
            continue
        for member in vars(base):
            found = getattr(value, member, None)
            if not member.startswith("_") and not inspect.isclass(found):
                members.add(f"    .{member}{signature_text(found) if callable(found) else ''}")
    return [f"{name}{signature_text(value)}  (class)", *sorted(members)]


def public_api() -> str:
    lines = [HEADING]
    for room in (name for name in wsljax.__all__ if not name.startswith("_")):
        package = importlib.import_module(f"wsljax.{room}")
        lines += ["", f"[wsljax.{room}]"]
        for name in public_names(package):
            lines += described(name, getattr(package, name))
    return "\n".join(lines) + "\n"


def test_the_public_interface_is_what_was_agreed():
    stored, actual = SNAPSHOT.read_text(), public_api()
    difference = "\n".join(
        difflib.unified_diff(stored.splitlines(), actual.splitlines(), "agreed", "actual", "", "")
    )
    assert stored == actual, (
        f"the public interface has changed:\n{difference}\n"
        "if that is meant: python -m tests.test_public_api --update"
    )


def test_every_public_name_has_a_docstring():
    for room in (name for name in wsljax.__all__ if not name.startswith("_")):
        package = importlib.import_module(f"wsljax.{room}")
        assert package.__doc__, f"wsljax.{room} has no docstring"
        for name in public_names(package):
            value = getattr(package, name)
            if inspect.isclass(value) or inspect.isroutine(value):
                assert inspect.getdoc(value), f"wsljax.{room}.{name} has no docstring"


def test_a_description_shows_names_kinds_and_defaults():
    class Thing:
        """Stands in for a class of the library."""

        size: int = 3
        _hidden = 1

        def __init__(self, a: int, *, key, b: float = 1.0):
            self.a = a, key, b

        def act(self, g, /, x=(1, "y"), *rest, fn=len, **options) -> None:
            """Nothing."""

        @staticmethod
        def load(path, like=None): ...

    Thing.__module__ = "wsljax.somewhere"
    assert described("Thing", Thing) == [
        "Thing(a, *, key, b=1.0)  (class)",
        "    .act(self, g, /, x=(1, 'y'), *rest, fn=len, **options)",
        "    .load(path, like=None)",
        "    .size",
    ]
    assert described("LIMIT", 3) == ["LIMIT"]
    no_stable_text = object()
    assert described("f", lambda x, y=no_stable_text: x) == ["f(x, y=...)"]


if __name__ == "__main__":
    if sys.argv[1:] != ["--update"]:
        sys.exit("python -m tests.test_public_api --update")
    SNAPSHOT.write_text(public_api())
