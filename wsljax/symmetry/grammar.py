"""The axis grammar as text: parsing annotations and writing them (the trees are in :mod:`.axes`).

Example:
    >>> trees = parse_axes("_1+_1 (head d[head])|v")
    >>> format_axes(trees, {"d": ("head",)})
    '_1+_1 (head d[head])|v'
    >>> format_axes(parse_axes("_ (a=2+b=2){0,2,1,3} h=4{3,2,1,0}"), {})
    '_ (a+b){0,2,1,3} h{::-1}'
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from .axes import (
    UNKNOWN,
    Alt,
    Axis,
    Fixed,
    Prod,
    Reorder,
    Sum,
    Unit,
    atoms,
    check_reindexing,
    default_seats,
    ordered,
    plain,
)
from .reindex import check_text, order_text


def parse_axes(text: str, overs: dict[str, tuple[str, ...]] | None = None) -> tuple[Axis, ...]:
    """Text of one leaf's annotation to one tree per axis.

    Args:
        text: e.g. ``"d (head q[head])"``.
        overs: filled with ``{unit: names it is nested over}`` as they are met.

    Raises:
        ValueError: where the text is not in the grammar, with the place.
    """
    overs = {} if overs is None else overs
    trees = [_Parser(word, text, overs).whole() for word in _split(text)]
    for k, tree in enumerate(trees):
        if isinstance(tree, Alt):
            trees[k] = Alt(_chooser(trees, k, tree, text), tree.parts)
    return tuple(trees)


def _choosers(trees: Sequence[Axis], k: int, n: int) -> list[int]:
    """The axes but ``k`` that are sums of ``n`` segments, which may choose among as many alternatives."""
    sums = [plain(t) for t in trees]
    return [j for j, t in enumerate(sums) if j != k and isinstance(t, Sum) and len(t.parts) == n]


def _chooser(trees: Sequence[Axis], k: int, tree: Alt, text: str) -> int:
    """The axis whose segment chooses among the alternatives of axis ``k``."""
    n = len(tree.parts)
    fits = _choosers(trees, k, n)
    if tree.axis in fits:
        return tree.axis
    if tree.axis >= 0:
        raise ValueError(
            f"{text!r}: axis {k} has {n} alternatives chosen by axis {tree.axis}, which is no sum of "
            f"{n} segments; those that are: {fits}"
        )
    if len(fits) != 1:
        raise ValueError(
            f"{text!r}: axis {k} has {n} alternatives, which need one other axis that is a sum of as "
            f"many segments; found {len(fits)} (write '@AXIS')"
        )
    return fits[0]


def _split(text: str) -> list[str]:
    words, depth, current = [], 0, ""
    for ch in text:
        depth += ch in "([{" and 1 or (-1 if ch in ")]}" else 0)
        if ch.isspace() and depth == 0:
            if current:
                words.append(current)
            current = ""
        else:
            current += ch
    if depth:
        raise ValueError(f"{text!r}: brackets do not match")
    return words + ([current] if current else [])


class _Parser:
    def __init__(self, word: str, text: str, overs: dict[str, tuple[str, ...]]):
        self.text, self.overs = text, overs
        self.tokens = re.findall(r"[()|+@\[\],=.#]|[A-Za-z_0-9]+|\{[^{}]*\}|\s+", word)
        if "".join(self.tokens) != word:
            raise ValueError(f"{text!r}: cannot read {word!r}")
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, expected: str | None = None) -> str:
        token = self.peek()
        if not token or (expected is not None and token != expected):
            raise ValueError(f"{self.text!r}: expected {expected or 'a name'!r}, found {token!r}")
        self.at += 1
        return token

    def whole(self) -> Axis:
        options = [self.sum()]
        while self.peek() == "|":
            self.take()
            options.append(self.sum())
        axis = -1
        if self.peek() == "@":
            self.take()
            if not self.peek().isdigit():
                raise ValueError(f"{self.text!r}: '@' needs the number of an axis")
            axis = int(self.take())
        if self.peek():
            raise ValueError(f"{self.text!r}: unexpected {self.peek()!r}")
        tree = options[0] if len(options) == 1 else Alt(axis, tuple(options))
        try:
            tree = ordered(tree)
            check_reindexing(tree)
        except ValueError as e:
            raise ValueError(f"{self.text!r}: {e}") from None
        return tree

    def sum(self) -> Axis:
        parts = [self.atom()]
        while self.peek() == "+":
            self.take()
            parts.append(self.atom())
        return parts[0] if len(parts) == 1 else Sum(tuple(parts))

    def atom(self) -> Axis:
        tree = self.plain()
        while self.peek().startswith("{"):
            try:
                tree = Reorder(tree, check_text(self.take()[1:-1]))
            except ValueError as e:
                raise ValueError(f"{self.text!r}: {e}") from None
        return tree

    def plain(self) -> Axis:
        if self.peek() == "(":
            self.take()
            parts = []
            while self.peek() != ")":
                if self.peek().isspace():
                    self.take()
                else:
                    parts.append(self.sum())
            self.take(")")
            if not parts:
                raise ValueError(f"{self.text!r}: empty product")
            return parts[0] if len(parts) == 1 else Prod(tuple(parts))
        name = self.take()
        if not re.fullmatch(r"[A-Za-z_][A-Za-z_0-9]*", name):
            raise ValueError(f"{self.text!r}: {name!r} is not a name")
        if name.startswith("_"):
            if name == "_" or name[1:].isdigit():
                return Fixed(int(name[1:]) if name != "_" else UNKNOWN)
            return Fixed(self._size(), name)
        part = None
        if self.peek() == ".":
            self.take()
            part = int(self.take())
        over: tuple[str, ...] = ()
        at: tuple[int, ...] = ()
        if self.peek() == "[":
            self.take()
            while self.peek() != "]":
                token = self.take()
                if token == "#":
                    at = at[:-1] + (int(self.take()),)
                elif token != "," and not token.isspace():
                    at += (over.count(token),)
                    over += (token,)
            self.take("]")
        if over:
            if self.overs.get(name, over) != over:
                raise ValueError(
                    f"{self.text!r}: {name!r} is nested over {over} here and over {self.overs[name]} elsewhere"
                )
            self.overs[name] = over
        return Unit(name, self._size(), part, () if at == default_seats(over) else at)

    def _size(self) -> int:
        if self.peek() != "=":
            return UNKNOWN
        self.take()
        return int(self.take())


def format_axes(
    trees: tuple[Axis, ...],
    overs: Mapping[str, tuple[str, ...]],
    sizes: bool | set[tuple[str, int | None]] = False,
) -> str:
    """The text of a leaf's annotation.

    ``sizes`` writes every size, so that it parses without shapes; or those of the given names, each
    once (the set is emptied as they are written).
    """
    words = []
    for k, tree in enumerate(trees):
        if isinstance(tree, Fixed) and tree.name is None and sizes is not True:
            words.append("_")
        elif isinstance(tree, Alt):
            fits = _choosers(trees, k, len(tree.parts))
            mark = "" if fits == [tree.axis] else f"@{tree.axis}"
            words.append("|".join(_format(p, overs, sizes) for p in tree.parts) + mark)
        else:
            words.append(_format(tree, overs, sizes))
    return " ".join(words)


def unclear_sizes(leaves: Iterable[tuple[Axis, ...]]) -> set[tuple[str, int | None]]:
    """Names (and factors) whose sizes must be written for the text to parse with the leaves' shapes."""
    axes = [tree for trees in leaves for tree in trees]
    flat = [p for t in map(plain, axes) for p in (t.parts if isinstance(t, Alt) else (t,))]
    names = [[(a.name, getattr(a, "part", None)) for a in atoms(t) if a.name] for t in flat]
    clear = {
        word[0]
        for word, t in zip(names, flat, strict=True)
        if isinstance(t, (Fixed, Unit)) and word
    }
    needed: set[tuple[str, int | None]] = set()
    while True:
        before = len(clear)
        for word, tree in zip(names, flat, strict=True):
            unknown = [w for w in word if w not in clear]
            if len(unknown) == 1 or (isinstance(tree, Sum) and unknown and _only(tree, unknown[0])):
                clear |= set(unknown)
        if len(clear) > before:
            continue
        rest = [w for word in names for w in word if w not in clear]
        if not rest:
            return needed
        needed.add(rest[0])
        clear.add(rest[0])


def _only(tree: Sum, name: tuple[str, int | None]) -> bool:
    """Whether a sum is of one name alone, and of fixed parts."""
    return all(
        isinstance(p, (Fixed, Unit))
        and (p.name is None or (p.name, getattr(p, "part", None)) == name)
        for p in tree.parts
    )


def _size_text(
    key: tuple[str, int | None], size: int, sizes: bool | set[tuple[str, int | None]]
) -> str:
    if sizes is True:
        return f"={size}"
    if sizes and key in sizes:
        sizes.discard(key)
        return f"={size}"
    return ""


def _format(
    tree: Axis, overs: Mapping[str, tuple[str, ...]], sizes: bool | set[tuple[str, int | None]]
) -> str:
    if isinstance(tree, Fixed):
        if tree.name is None:
            return f"_{tree.size}" if tree.size >= 0 else "_"
        return tree.name + _size_text((tree.name, None), tree.size, sizes)
    if isinstance(tree, Unit):
        over = overs.get(tree.name, ())
        part = "" if tree.part is None else f".{tree.part}"
        seats = default_seats(over)
        words = [
            o if a == d else f"{o}#{a}"
            for o, a, d in zip(over, tree.at or seats, seats, strict=True)
        ]
        return (
            tree.name
            + part
            + (f"[{','.join(words)}]" if words else "")
            + _size_text((tree.name, tree.part), tree.size, sizes)
        )
    if isinstance(tree, Prod):
        return "(" + " ".join(_format(p, overs, sizes) for p in tree.parts) + ")"
    if isinstance(tree, Sum):
        return "+".join(_format(p, overs, sizes) for p in tree.parts)
    if isinstance(tree, Reorder):
        text = _format(tree.tree, overs, sizes)
        order = tree.order if isinstance(tree.order, str) else order_text(tree.order)
        return (f"({text})" if isinstance(tree.tree, Sum) else text) + f"{{{order}}}"
    raise ValueError("alternatives stand at the top of an axis only")
