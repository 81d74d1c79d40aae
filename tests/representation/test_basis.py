"""The number of basis maps, against counts that know nothing of how they are factored."""

import math

import numpy as np
import pytest

from wsljax import symmetry
from wsljax.representation import basis, count_terms, structure
from wsljax.representation.universal.basis import alive

from .specs import SPECS, moves, orbits, spec_of


def free_mlp(*widths: int) -> symmetry.Spec:
    """An MLP all of whose axes, inputs and outputs too, are units."""
    leaves = {}
    for k, (n, m) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        leaves[f"w{k:02d}"] = ((n, m), f"h{k} h{k + 1}")
        leaves[f"b{k:02d}"] = ((m,), f"h{k + 1}")
    return spec_of(leaves)


def partitions(items: list) -> list[list[list]]:
    """All set partitions."""
    if not items:
        return [[]]
    first, rest = items[0], items[1:]
    out = []
    for partition in partitions(rest):
        out.append([[first], *partition])
        for k in range(len(partition)):
            out.append([*partition[:k], [first, *partition[k]], *partition[k + 1 :]])
    return out


def count_by_partitions(spec: symmetry.Spec) -> int:
    """For every pair of blocks the set partitions of their indices that tie equal labels only, a
    nested index only where its parents are tied, into at most as many parts as there are units."""
    total = 0
    blocks = structure(spec)
    for a in blocks:
        for b in blocks:
            labels = a.labels + b.labels
            shift = len(a.labels)
            parents = a.parents + tuple(tuple(p + shift for p in above) for above in b.parents)
            for partition in partitions(list(range(len(labels)))):
                part = {i: n for n, part in enumerate(partition) for i in part}
                context = {i: (labels[i], *(part[p] for p in parents[i])) for i in part}
                parts_of = {(context[i], part[i]) for i in part}
                tied_alike = all(len({context[i] for i in p}) == 1 for p in partition)
                counts = [sum(1 for c, _ in parts_of if c == context[i]) for i in part]
                fits = all(n <= spec.size_of(labels[i]) for n, i in zip(counts, part, strict=True))
                total += tied_alike and fits
    return total


def test_known_counts():
    assert count_terms(free_mlp(2, 32, 32, 3)) == 62  # Zhou et al. 2023, three layers, free ends
    assert count_terms(free_mlp(2, 32, 32, 1)) == 57  # five of them coincide with others at width 1
    assert count_terms(spec_of({"w": ((4, 4), "h h")})) == 15  # Bell(4)
    assert count_terms(spec_of({"w": ((6, 6, 6), "h h h")})) == 203  # Bell(6)
    assert (
        count_terms(spec_of({"w": ((5, 7), "a b")})) == 4
    )  # Bell(2) squared; Hartford et al. 2018
    assert count_terms(spec_of({"s": ((4, 3), "_ _")})) == 1


def test_deep_mlp_counts_and_program_size():
    for layers, terms in ((8, 332), (16, 1180), (32, 4412)):
        spec = free_mlp(*[16] * (layers + 1))
        found = basis(structure(spec), structure(spec))
        assert count_terms(spec) == terms
        assert sum(len(t.reads) for t in found.types) == 6 * layers
        assert sum(len(t.writes) for t in found.types) == 6 * layers
        assert len(found.types) == 2 * layers + 2
        assert len(found.roles) == 5  # constants, first, inner and last units, kernels


@pytest.mark.parametrize("name", SPECS)
def test_count_is_the_number_of_set_partitions(name):
    spec = spec_of(SPECS[name])
    assert count_terms(spec) == count_by_partitions(spec)


@pytest.mark.parametrize("name", SPECS)
def test_count_is_the_number_of_orbits(name):
    spec = spec_of(SPECS[name])
    permutations = moves(spec)
    size = math.prod([len(permutations[0])]) if permutations else 1
    assert count_terms(spec) == orbits((size, size), [(p, p) for p in permutations])


def test_attention_count_is_that_of_the_wreath_product():
    """Per-head units: fewer ties than with one set of units for all heads, more than for merged ones."""
    leaves = {"q": ((4, 3, 4), "d h {}"), "k": ((4, 3, 4), "d h {}")}

    def count(unit: str) -> int:
        return count_terms(spec_of({p: (s, a.format(unit)) for p, (s, a) in leaves.items()}))

    # d: Bell(2); heads untied: units cannot be tied; heads tied: units tied or not
    assert count("q[h]") == 4 * 2 * (1 + 2)
    assert count("q") == 4 * 2 * 2 * 2
    merged = {p: ((4, 12), "d m") for p in leaves}
    assert count_terms(spec_of(merged)) == 4 * 2 * 2


def test_count_between_two_specs():
    one, two = spec_of({"w": ((3, 4), "a b")}), spec_of({"u": ((3,), "a"), "v": ((4, 4), "b b")})
    assert count_terms(one, two) == 2 * 1 + 1 * 5  # Bell(2), and Bell(3) for b with a averaged
    assert count_terms(one, two) == count_terms(two, one)
    with pytest.raises(ValueError, match="units 'a' have 3 .* and 5"):
        count_terms(one, spec_of({"u": ((5,), "a")}))


def test_dropped_pairs_are_exactly_those_that_do_not_fit():
    spec = spec_of({"w": ((3, 3), "h h"), "v": ((3, 1), "h o")})
    found = basis(structure(spec), structure(spec))
    kept = total = 0
    for kind in found.types:
        ok = alive(found, kind, {"h": 3, "o": 1})
        size = len(kind.reads) * len(kind.writes)
        total += size
        kept += size if ok is None else int(ok.sum())
        assert alive(found, kind, {"h": 9, "o": 9}) is None
    assert kept == count_by_partitions(spec) < total


def test_types_do_not_depend_on_widths_or_on_the_order_of_leaves():
    small, large = (
        spec_of({"w": ((n, m), "a b"), "u": ((m, n), "b a")}) for n, m in ((2, 3), (20, 30))
    )
    assert structure(small) == structure(large)
    assert basis(structure(small), structure(small)) is basis(structure(large), structure(large))


def test_layers_are_ordered_as_people_number_them():
    spec = spec_of({f"layer_{k}": ((2,), f"h{k}") for k in range(12)})
    assert [b.name for b in structure(spec)] == [f"layer_{k}" for k in range(12)]


def test_orbits_by_hand():
    """The counter itself, where the answer is plain: S_3 on pairs of 3 has the diagonal and the rest."""
    swap, turn = np.array([1, 0, 2]), np.array([1, 2, 0])
    assert orbits((3, 3), [(swap, swap), (turn, turn)]) == 2
    assert orbits((3, 3), [(swap, swap)]) == 5
