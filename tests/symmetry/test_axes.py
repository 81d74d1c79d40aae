"""The axis grammar: text to trees and back, sizes from shapes, clear errors."""

import jax.numpy as jnp
import pytest

from wsljax import symmetry
from wsljax.symmetry.axes import Alt, Fixed, Prod, Sum, Unit, format_axes, parse_axes

TEXTS = [
    "_ h0",
    "h0 h1",
    "h h h",
    "(_4 _4 c) _",
    "d (head=2 q[head]=3)",
    "h+h+h+h h",
    "u=2+c=3+v=1",
    "_L=3 d m[_L]",
    "_1+_1+_1 h|h|g q[h]|q[h]|v[g]",
    "(u.1=2 u.0=4) _",
    "(g=2 g h[g,g]=3) m[g#1]=5",
    "a=2+b=3 x|y@0",
]


@pytest.mark.parametrize("text", TEXTS)
def test_text_survives_the_round_trip(text):
    overs = {}
    trees = parse_axes(text, overs)
    again = {}
    assert parse_axes(format_axes(trees, overs, sizes=True).replace("=-1", ""), again) == trees
    assert again == overs


def test_trees_of_a_merged_head():
    _, merged = parse_axes("d (head q[head])+_2")
    assert isinstance(merged, Sum)
    assert isinstance(merged.parts[0], Prod)
    assert merged.parts[0].parts[0] == Unit("head", -1)
    assert merged.parts[1] == Fixed(2)


def test_alternatives_find_their_axis():
    trees = parse_axes("d _1+_2 a|b")
    assert trees[2] == Alt(1, (Unit("a", -1), Unit("b", -1)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("(a b", "brackets"),
        ("a|b c", "alternatives"),
        ("a b)", "brackets"),
        ("3a", "not a name"),
        ("a ()", "empty product"),
        ("a$b", "cannot read"),
        ("a[b a", "brackets"),
    ],
)
def test_bad_text_is_told_where(text, words):
    with pytest.raises(ValueError, match=words):
        parse_axes(text)


def shapes(**kw):
    return {k: jnp.zeros(v) for k, v in kw.items()}


def test_parse_solves_sizes_from_shapes():
    spec = symmetry.parse(
        shapes(q=(6, 8), bq=(2, 4), gates=(12, 3)),
        {"q": "_ (head q[head])", "bq": "head q[head]", "gates": "h+h+h+h h"},
    )
    assert {u.name: (u.size, u.over) for u in spec.units} == {
        "head": (2, ()),
        "q": (4, ("head",)),
        "h": (3, ()),
    }


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ({"w": "h"}, "has 1 axes"),
        ({"w": "a+b _"}, "do not follow"),
        ({"w": "h h"}, "size 4 here and 6"),
        ({"w": "_ (a=3 b)"}, "do not fit"),
        ({"w": "_ m[head]"}, "nested over 'head'"),
        ({"v": "_ _"}, "missing"),
    ],
)
def test_parse_names_the_leaf_and_the_fault(annotation, words):
    with pytest.raises(ValueError, match=words):
        symmetry.parse(shapes(w=(6, 4)), annotation)


def test_parse_takes_a_tree_of_texts():
    params = [{"w": jnp.zeros((2, 3))}, {"w": jnp.zeros((3, 1))}]
    spec = symmetry.parse(params, [{"w": "_ h"}, {"w": "h _"}])
    assert spec.axes == {"0/w": "_ h", "1/w": "h _"}
