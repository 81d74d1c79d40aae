"""Reading the pickles inside torch files as data: no code of theirs ever runs.

A pickle is a program for a small stack machine. Python's own runs `REDUCE` by calling whatever the
pickle names, so that loading a file may do anything. This machine knows the opcodes that plain data
needs (`_OPCODES`) and, where Python would import and call, looks the name up in a table of
constructors that we wrote; what is not in the table is an error, or, at the caller's wish, a
`Record`: the arguments and attributes of an object that is never made.

Opcodes and the format of their arguments: `pickletools` in the standard library; PEPs 307, 3154
and 574.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Mapping
from typing import Any

#: A pickle of weights names tensors; the tensors themselves are elsewhere.
MAX_PICKLE_BYTES = 2**28
MAX_INT_BYTES = 128


class TorchFileError(ValueError):
    """A file that is damaged, hostile, or not in the format it is read as."""


class UnknownGlobal(TorchFileError):
    """A pickle asks for a class or function that is not on the list.

    Attributes:
        name: dotted name of what it asks for.
    """

    def __init__(self, name: str):
        self.name = name
        super().__init__(
            f"its pickle asks for {name!r}, which is not on the list of what files of weights hold; "
            f"nothing was run. `inert={{{name!r}}}` reads it as plain data, the attributes of an "
            "object that is never made. `trusted=True` hands the file to pickle, which runs whatever "
            "code the file contains: only for files that you made yourself."
        )


class Global:
    """A name that a pickle refers to, and what making one of it does here.

    Attributes:
        name: dotted.
        call: the constructor, from the arguments in the pickle; None if there is nothing to make.
        value: what the name stands for when it is a value itself (a dtype); None: its name.
    """

    __slots__ = ("call", "name", "value")

    def __init__(self, name: str, call: Callable[..., Any] | None = None, value: Any = None):
        self.name, self.call, self.value = name, call, value


class Record:
    """An object of a class that is not imported: arguments, attributes and items, as data."""

    __slots__ = ("args", "finish", "items", "name", "state")

    def __init__(
        self, name: str, args: tuple[Any, ...], finish: Callable[[Record], Any] | None = None
    ):
        self.name, self.args, self.finish = name, args, finish
        self.state: Any = None
        self.items: Any = None

    def plain(self) -> Any:
        """What stands for the object in the result: attributes, else items, else arguments."""
        if self.finish is not None:
            return self.finish(self)
        if isinstance(self.state, tuple) and len(self.state) == 2:  # attributes and slots
            parts = [part for part in self.state if isinstance(part, dict)]
            return {key: value for part in parts for key, value in part.items()}
        if self.state is not None:
            return self.state
        if self.items is not None:
            return self.items
        return self.args[0] if len(self.args) == 1 else list(self.args)


def record_of(name: str, finish: Callable[[Record], Any] | None = None) -> Global:
    """A class that is read as a `Record`."""
    return Global(name, lambda *args: Record(name, args, finish))


def interpret(
    data: bytes | memoryview,
    known: Mapping[str, Global],
    *,
    persistent: Callable[[Any], Any] | None = None,
    inert: frozenset[str] | bool = frozenset(),
    start: int = 0,
) -> tuple[Any, int]:
    """Run a pickle on the machine of this module.

    Args:
        data: holds a pickle.
        known: dotted name -> what it may be made into; nothing else is.
        persistent: makes an object of a persistent id (torch: a storage).
        inert: further names, read as `Record`s; True: every further name.
        start: where the pickle begins.

    Returns:
        The object, which may hold `Record`s and `Global`s (see `torch_tree.finish`), and where the pickle ends.

    Raises:
        UnknownGlobal: a name that is in neither list.
        TorchFileError: damage, an opcode that plain data does not need, or a limit exceeded.

    Example:
        >>> import pickle
        >>> interpret(pickle.dumps({"a": (1, 2.0, None)}), {})[0]
        {'a': (1, 2.0, None)}
        >>> interpret(pickle.dumps(print), {})
        Traceback (most recent call last):
            ...
        wsljax.interop.torch_pickle.UnknownGlobal: its pickle asks for 'builtins.print', ...
    """
    if len(data) - start > MAX_PICKLE_BYTES:
        raise TorchFileError(
            f"its pickle has {len(data) - start} bytes; {MAX_PICKLE_BYTES} at most."
        )
    return _Machine(io.BytesIO(bytes(data[start:])), known, persistent, inert).run(start)


_OPCODES = {
    op.code.encode("latin1"): op
    for op in pickletools.opcodes
    if op.name
    in """PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1
    LONG4 BINFLOAT BINSTRING SHORT_BINSTRING BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES
    SHORT_BINBYTES BINBYTES8 BYTEARRAY8 EMPTY_LIST APPEND APPENDS LIST EMPTY_TUPLE TUPLE TUPLE1
    TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS EMPTY_SET ADDITEMS FROZENSET BINGET LONG_BINGET
    BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL REDUCE NEWOBJ NEWOBJ_EX BUILD BINPERSID""".split()
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset(
    """BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT BINSTRING SHORT_BINSTRING BINUNICODE
    SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8""".split()
)
_KEYS = (str, bytes, int, float, complex, type(None))


class _Machine:
    def __init__(self, stream, known, persistent, inert):
        self.stream, self.known = stream, known
        self.persistent, self.inert = persistent, inert
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self, start: int) -> tuple[Any, int]:
        while True:
            place = start + self.stream.tell()
            code = self.stream.read(1)
            op = _OPCODES.get(code)
            if op is None:
                what = f"opcode {code!r} is not one of plain data" if code else "it ends too early"
                raise TorchFileError(f"its pickle cannot be read: {what} (byte {place}).")
            try:
                arg = op.arg.reader(self.stream) if op.arg is not None else None
                if op.name == "STOP":
                    if len(self.stack) != 1 or self.marks:
                        raise TorchFileError("it does not end with one object")
                    return self.stack[0], start + self.stream.tell()
                self.step(op.name, arg)
            except UnknownGlobal:
                raise
            except (TorchFileError, ValueError, TypeError, IndexError, KeyError) as error:
                why = _first_line(error) if str(error) else type(error).__name__
                raise TorchFileError(
                    f"its pickle cannot be read: {op.name} at byte {place}: {why}"
                ) from error

    def step(self, name: str, arg: Any) -> None:
        stack = self.stack
        if name in _LITERALS:
            if isinstance(arg, int) and arg.bit_length() > 8 * MAX_INT_BYTES:
                raise TorchFileError(f"an integer of more than {MAX_INT_BYTES} bytes")
            stack.append(arg)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("PROTO", "FRAME"):
            if name == "PROTO" and arg > 5:
                raise TorchFileError(f"pickle protocol {arg} is newer than 5")
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if name == "MEMOIZE" else arg] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[arg])
        else:
            getattr(self, "_" + name.lower())(arg)

    # -- stack and marks

    def _mark(self, _):
        self.marks.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def _pop(self, _):
        if self.stack:
            self.stack.pop()
        else:
            self.since_mark()

    def _pop_mark(self, _):
        self.since_mark()

    def _dup(self, _):
        self.stack.append(self.stack[-1])

    # -- containers

    def _empty_list(self, _):
        self.stack.append([])

    def _list(self, _):
        items = self.since_mark()
        self.stack.append(items)

    def _append(self, _):
        item = self.stack.pop()
        self.extend([item])

    def _appends(self, _):
        self.extend(self.since_mark())

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Record):
            target.items = [] if target.items is None else target.items
            target = target.items
        if not isinstance(target, list):
            raise TorchFileError(f"appends to a {type(target).__name__}")
        target.extend(items)

    def _empty_tuple(self, _):
        self.stack.append(())

    def _tuple(self, _):
        items = self.since_mark()
        self.stack.append(tuple(items))

    def _tuple1(self, _):
        self.take_tuple(1)

    def _tuple2(self, _):
        self.take_tuple(2)

    def _tuple3(self, _):
        self.take_tuple(3)

    def take_tuple(self, count: int) -> None:
        if len(self.stack) < count:
            raise TorchFileError("the stack is empty")
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.stack.append(items)

    def _empty_dict(self, _):
        self.stack.append({})

    def _dict(self, _):
        items = self.since_mark()
        self.stack.append({})
        self.update(items)

    def _setitem(self, _):
        value, key = self.stack.pop(), self.stack.pop()
        self.update([key, value])

    def _setitems(self, _):
        self.update(self.since_mark())

    def update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Record):
            target.items = {} if target.items is None else target.items
            target = target.items
        if not isinstance(target, dict) or len(items) % 2:
            raise TorchFileError(f"sets {len(items)} items of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2]):
            target[check_key(key)] = value

    def _empty_set(self, _):
        self.stack.append(set())

    def _additems(self, _):
        items = self.since_mark()
        if not isinstance(self.stack[-1], set):
            raise TorchFileError(f"adds to a {type(self.stack[-1]).__name__}")
        self.stack[-1].update(map(check_key, items))

    def _frozenset(self, _):
        items = self.since_mark()
        self.stack.append(frozenset(map(check_key, items)))

    # -- names and objects

    def _global(self, arg):
        self.stack.append(self.look_up(*arg.split(" ", 1)))

    def _stack_global(self, _):
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TorchFileError("a name that is not text")
        self.stack.append(self.look_up(module, name))

    def look_up(self, module: str, name: str) -> Global:
        full = f"{_OLD_MODULES.get(module, module)}.{name}"
        if full in self.known:
            return self.known[full]
        if self.inert is True or (self.inert is not False and full in self.inert):
            return record_of(full)
        raise UnknownGlobal(full)

    def _reduce(self, _):
        args, made = self.stack.pop(), self.stack.pop()
        self.make(made, args)

    def _newobj(self, _):
        self._reduce(None)

    def _newobj_ex(self, _):
        options, args, made = self.stack.pop(), self.stack.pop(), self.stack.pop()
        if options:
            raise TorchFileError("a constructor with named arguments")
        self.make(made, args)

    def make(self, made: Any, args: Any) -> None:
        if not isinstance(made, Global) or made.call is None or not isinstance(args, tuple):
            what = made.name if isinstance(made, Global) else type(made).__name__
            raise TorchFileError(f"calls {what!r} with a {type(args).__name__}")
        self.stack.append(made.call(*args))

    def _build(self, _):
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Record):
            target.state = state
        elif hasattr(target, "set_state"):
            target.set_state(state)
        elif not isinstance(target, dict):  # attributes of a dict (`_metadata`) are not weights
            raise TorchFileError(f"sets attributes of a {type(target).__name__}")

    def _binpersid(self, _):
        if self.persistent is None:
            raise TorchFileError("it refers to data outside of itself")
        self.stack.append(self.persistent(self.stack.pop()))


_OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}


def check_key(key: Any) -> Any:
    """A dict key or set item: text, a number, or a flat tuple of those (a hash of more may last)."""
    flat = key if isinstance(key, tuple) and len(key) <= 64 else (key,)
    if not all(isinstance(part, _KEYS) for part in flat):
        raise TorchFileError(f"a {type(key).__name__} as a key")
    return key


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:300]
