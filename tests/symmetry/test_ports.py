"""Ports: co-refinement of products, sums and orders keeps every coordinate where it is."""

import itertools

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from wsljax.symmetry.inference.branches import branches, coordinates
from wsljax.symmetry.inference.ports import (
    Port,
    concatenation,
    factors,
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
    if draw(st.booleans()):
        port = reordered(port, np.array(draw(st.permutations(range(size)))))
    for _ in range(draw(st.integers(0, 3))):
        if draw(st.booleans()):
            labels = draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))
            partition(port, np.unique(labels, return_inverse=True)[1].reshape(-1))
        elif draw(st.booleans()) and divisors(size):
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


def addresses(port):
    """For each coordinate of a port: its leaves, and where in them it is."""
    out = {}
    for branch, at in zip(branches(port, {}), coordinates(port), strict=True):
        leaves = tuple(id(leaf) for leaf in branch.leaves if leaf.size > 1)
        for place, k in enumerate(at.tolist()):
            assert k not in out
            out[k] = (leaves, place)
    assert sorted(out) == list(range(port.size))
    return [out[k] for k in range(port.size)]


@given(st.sampled_from([6, 8, 12, 24]).flatmap(lambda n: st.tuples(refined(n), refined(n))))
def test_unifying_gives_one_tree_that_covers_the_axis(pair):
    a, b = pair
    if unify(a, b):
        ours, theirs = addresses(a), addresses(b)
        for x, y in zip(ours, theirs, strict=True):
            assert x == y or not x[0] or not y[0]
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
        ours, theirs = addresses(part), addresses(port)[start:stop]
        assert [x for x in ours if x[0]] == [x for x in theirs if x[0]]


@given(refined(12), st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_a_partition_has_the_coordinates_of_each_label(port, labels):
    labels = np.unique(labels, return_inverse=True)[1].reshape(-1)
    parts = partition(port, labels)
    if parts is not None:
        whole = addresses(port)
        for k, part in enumerate(parts):
            ours = addresses(part)
            theirs = [whole[i] for i in np.flatnonzero(labels == k)]
            assert [x for x in ours if x[0]] == [x for x in theirs if x[0]]


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
