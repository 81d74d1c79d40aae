"""Ports: co-refinement of products and sums keeps every coordinate where it is."""

import itertools

import hypothesis.strategies as st
from hypothesis import given

from wsljax.symmetry.inference.branches import branches, coordinates
from wsljax.symmetry.inference.ports import (
    Port,
    concatenation,
    factors,
    find,
    product,
    reordered,
    segments,
)
from wsljax.symmetry.inference.refine import cut, partition, segment, split, unify


def divisors(n):
    return [d for d in range(2, n) if n % d == 0]


@st.composite
def refined(draw, size):
    port = Port(size)
    for _ in range(draw(st.integers(0, 3))):
        if draw(st.booleans()) and divisors(size):
            target = factors(port)[draw(st.integers(0, len(factors(port)) - 1))]
            if divisors(target.size):
                split(target, draw(st.sampled_from(divisors(target.size))))
        elif size > 1:
            cut(port, draw(st.integers(1, size - 1)))
    return port


def covered(port):
    """All coordinates of a port, from its branches."""
    total = 0
    for b in branches(port, {}):
        n = 1
        for leaf in b.leaves:
            n *= leaf.size
        total += n
    return total


@given(st.sampled_from([6, 8, 12, 24]).flatmap(lambda n: st.tuples(refined(n), refined(n))))
def test_unifying_gives_one_tree_that_covers_the_axis(pair):
    a, b = pair
    if unify(a, b):
        assert find(a) is find(b)
    for port in pair:
        assert covered(port) == port.size
        starts = [x.start for x in branches(port, {})]
        assert len(set(starts)) == len(starts)


@given(refined(12), st.integers(0, 11), st.integers(1, 12))
def test_a_segment_has_the_coordinates_asked_for(port, start, length):
    stop = min(12, start + length)
    part = segment(port, start, stop)
    if part is not None:
        assert part.size == stop - start
        assert covered(part) == part.size
        whole = {b.start for b in branches(port, {})}
        assert {b.start + start for b in branches(part, {})} <= whole


def test_what_does_not_fit_is_refused():
    a, b = Port(6), Port(6)
    split(a, 2)
    split(b, 3)
    assert not unify(a, b)
    assert not unify(Port(4), Port(5))


def test_chains_of_factors_meet():
    a, b = Port(24), Port(24)
    split(a, 2)
    split(b, 6)
    assert unify(a, b)
    assert [f.size for f in factors(a)] == [2, 3, 4]


def test_segments_of_a_concatenation():
    parts = [Port(2), Port(3), product([Port(2), Port(2)])]
    whole = concatenation(parts)
    assert [s.size for s in segments(whole)] == [2, 3, 4]
    assert list(itertools.accumulate(s.size for s in segments(whole))) == [2, 5, 9]
