"""The axis grammar: text to trees and back, sizes from shapes, clear errors."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from wsljax import symmetry
from wsljax.symmetry.axes import Alt, Fixed, Prod, Reorder, Sum, Unit, atoms
from wsljax.symmetry.grammar import format_axes, parse_axes
from wsljax.symmetry.reindex import inverse_order, order_text, read_order, runs

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
    "h{::-1} _",
    "h{1:,0} (a b=2){::2,1::2}",
    "h=4{3,0,2,1} (a=2+b=2){0,2,1,3}",
    "(_2+_1){2,0,1} x|y",
    "_4{1:,0} u.1{::-1} m[_L]=3{2,0,1}",
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
        ("a|b@1 c", "no sum of 2 segments"),
        ("a|b@1 c+d+e", "no sum of 2 segments"),
        ("a|b@7 c+d", "no sum of 2 segments"),
        ("a|b@0 c+d", "no sum of 2 segments"),
        ("a|b@x c+d", "number of an axis"),
        ("a b)", "brackets"),
        ("3a", "not a name"),
        ("a ()", "empty product"),
        ("a$b", "cannot read"),
        ("a[b a", "brackets"),
        ("a{1,0", "brackets"),
        ("a{}", "cannot read ''"),
        ("a{1,x}", "cannot read 'x'"),
        ("a{1,0,}", "cannot read ''"),
        ("a{1:2:3:4}", "cannot read '1:2:3:4'"),
        ("(a{1,0} b)", "only a whole axis"),
        ("a{1,0}+b", "only a whole axis"),
        ("(a+b){::-1}{::-1}", "only a whole axis"),
        ("_1+_1 a{1,0}|b", "only a whole axis"),
        ("a=3{0,1}", "lists 2 coordinates, the axis has 3"),
        ("a=3{0,1,3}", "3 in {0,1,3} is out of range for an axis of size 3"),
        ("a=3{0,1,-4}", "out of range"),
        ("a=3{:4}", "out of range"),
        ("a=3{0,1,1}", "2 is missing, 1 is there twice"),
        ("a=3{::0}", "step"),
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
        ({"w": "_ h{:3}"}, "'w': the order lists 3 coordinates, the axis has 4"),
        ({"w": "_ h{0,1,2,4}"}, "'w': 4 in {0,1,2,4} is out of range"),
        ({"w": "_ h{0,1,1,2}"}, "'w': .*3 is missing, 1 is there twice"),
        ({"w": "_ (h=2+v{1,0})"}, "'w': .*only a whole axis"),
        ({"w": "_ (h{::-1})+v"}, "'w': .*only a whole axis"),
        ({"w": "(a=2+b=4){:} x{:}|y"}, "'w': .*only a whole axis"),
        ({"w": "h h{::-1}"}, "size 4 here and 6"),
    ],
)
def test_parse_names_the_leaf_and_the_fault(annotation, words):
    with pytest.raises(ValueError, match=words):
        symmetry.parse(shapes(w=(6, 4)), annotation)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("::-1", 5),
        ("1:,0", 4),
        ("3,0,2,1", 4),
        ("::2,1::2", 7),
        ("-1,:-1", 5),
        (" 2 : , 0 : 2", 5),
        ("5:1:-2,0,1,2:5:2", 6),
        (":", 0),
        ("0", 1),
    ],
)
def test_an_order_reads_like_numpy(text, size):
    """As indexing ``arange`` item by item does; and its own text gives it back."""
    x = np.arange(size)
    items = (eval(f"x[{item}]", {"x": x}) for item in text.split(","))
    order = read_order(text, size)
    assert order == tuple(np.concatenate([np.atleast_1d(i) for i in items]).tolist())
    assert read_order(order_text(order), size) == order


def test_every_order_of_six_has_a_text():
    for order in itertools.permutations(range(6)):
        text = order_text(order)
        assert read_order(text, 6) == order
        assert len(text.split(",")) == len(runs(order)) <= 6
        assert [order[i] for i in inverse_order(order)] == list(range(6))


def test_regular_orders_are_short():
    n = 64
    for order, text in [
        (range(n), ":"),
        (range(n)[::-1], "::-1"),
        (np.roll(np.arange(n), -1), "1:,0"),
        (np.roll(np.arange(n), 5), "59:,:59"),
        (np.arange(n).reshape(-1, 4).T.ravel(), "::4,1::4,2::4,3::4"),
        ((*range(10, n), *range(9, -1, -1)), "10:,9::-1"),
    ]:
        assert order_text(tuple(order)) == text


def random_axis(random: np.random.Generator, size: int, depth: int = 0):
    """A random tree; at the top possibly reindexed, below it never."""
    kind = random.choice(["fixed", "unit", "sum", "prod"], p=[0.2, 0.3, 0.3, 0.2])
    if kind == "sum" and size > 1:
        cut = int(random.integers(1, size))
        parts = [random_axis(random, n, depth + 1) for n in (cut, size - cut)]
        flat = [q for p in parts for q in (p.parts if isinstance(p, Sum) else (p,))]
        tree = Sum(tuple(flat))
    elif kind == "prod" and depth < 2 and size % 2 == 0 and size > 2:
        tree = Prod((random_axis(random, 2, depth + 1), random_axis(random, size // 2, depth + 1)))
    else:
        tree = Fixed(size) if kind == "fixed" else Unit(f"u{size}", size)
    if depth or random.random() < 0.3:
        return tree
    order = [range(size), range(size)[::-1], np.roll(range(size), 2), random.permutation(size)]
    return Reorder(tree, tuple(int(c) for c in order[random.integers(4)]))


def test_random_trees_survive_the_round_trip():
    random = np.random.default_rng(0)
    seen = set()
    for _ in range(300):
        trees = tuple(random_axis(random, int(n)) for n in random.integers(1, 13, 3))
        text = format_axes(trees, {}, sizes=True)
        assert parse_axes(text) == trees, text
        assert hash(parse_axes(text)) == hash(trees)
        assert format_axes(parse_axes(text), {}, sizes=True) == text
        leaf = symmetry.Leaf("w", tuple(t.size for t in trees), trees)
        units = {a.name: symmetry.Units(a.name, a.size) for t in trees for a in atoms(t) if a.name}
        spec = symmetry.Spec((leaf,), tuple(units.values()))
        spec.validate()
        again = symmetry.parse({"w": np.zeros(leaf.shape)}, spec.axes)
        assert again.leaves == spec.leaves, spec.axes
        seen |= {type(t.tree) for t in trees if isinstance(t, Reorder)}
    assert seen == {Fixed, Unit, Sum, Prod}


def test_a_reindexed_sum_chooses_by_its_segments():
    trees = parse_axes("(_1+_2){1,0,2} a|b")
    assert trees[1] == Alt(0, (Unit("a", -1), Unit("b", -1)))
    assert format_axes(trees, {}) == "(_1+_2){1,0,2} a|b"


def test_parse_solves_sizes_through_a_reindexed_axis():
    spec = symmetry.parse(
        shapes(w=(6, 8), b=(8,), c=(2, 3)),
        {"w": "h{::-1} (a=2+b){::2,1::2}", "b": "a+b", "c": "a _"},
    )
    assert {u.name: u.size for u in spec.units} == {"h": 6, "a": 2, "b": 6}
    assert next(x.trees for x in spec.leaves if x.path == "w") == (
        Reorder(Unit("h", 6), (5, 4, 3, 2, 1, 0)),
        Reorder(Sum((Unit("a", 2), Unit("b", 6))), (0, 2, 4, 6, 1, 3, 5, 7)),
    )
    assert spec.axes["w"] == "h{::-1} (a+b){::2,1::2}"


def test_parse_takes_a_tree_of_texts():
    params = [{"w": jnp.zeros((2, 3))}, {"w": jnp.zeros((3, 1))}]
    spec = symmetry.parse(params, [{"w": "_ h"}, {"w": "h _"}])
    assert spec.axes == {"0/w": "_ h", "1/w": "h _"}
