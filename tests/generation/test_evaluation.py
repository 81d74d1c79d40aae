"""The evaluation of generators: distances against brute force, known cases, invariance, flags."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsljax import symmetry, zoo
from wsljax.generation.evaluation import (
    Audit,
    Quotient,
    compare,
    copying_test,
    coverage,
    disagreement,
    energy_test,
    ensemble_gain,
    euclidean,
    evaluate,
    jensen_shannon,
    minimum_matching,
    nearest_neighbour_accuracy,
    nearest_rows,
    new_and_good,
    wrong_overlap,
)
from wsljax.generation.evaluation.flags import duplicates
from wsljax.generation.evaluation.networks import weight_rows
from wsljax.generation.evaluation.quotient import sorted_weights
from wsljax.generation.evaluation.representatives import representatives

RNG = np.random.default_rng(0)
UNITS = 4
FUNCTION = zoo.Function("mlp", {"widths": (3, UNITS, 2)})
DATA = (RNG.normal(size=(40, 3)).astype(np.float32), (np.arange(40) % 2).astype(np.int32))


@pytest.fixture(autouse=True)
def float32():
    with jax.enable_x64(False):
        yield


def stack(count, seed, widths=(3, UNITS, 2)):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=(count, *shape)).astype(np.float32)  # noqa: E731
    return {
        f"dense_{i}": {"kernel": draw(n, m), "bias": draw(m)}
        for i, (n, m) in enumerate(zip(widths[:-1], widths[1:]))
    }


def one(networks, i=0):
    return jax.tree.map(lambda x: x[i], networks)


@pytest.fixture(scope="module")
def spec():
    with jax.enable_x64(False):
        fn = lambda p, x: FUNCTION.apply(p, x)  # noqa: E731
        return symmetry.infer(fn, one(stack(1, 9)), DATA[0], kinds=("permutation", "scale"))


def permutations_of(rows_of, x, y):
    """The smallest distance of `x` to any permutation of `y`, tried one by one."""
    return min(np.linalg.norm(rows_of(x) - rows_of(z)) for z in y)


def all_permuted(p, layers=1):
    """Every network that permuting hidden units makes of this one."""
    sizes = [p[f"dense_{i}"]["bias"].shape[0] for i in range(layers)]
    for orders in itertools.product(*(itertools.permutations(range(n)) for n in sizes)):
        q = {name: dict(layer) for name, layer in p.items()}
        for i, order in enumerate(map(list, orders)):
            q[f"dense_{i}"]["kernel"] = q[f"dense_{i}"]["kernel"][:, order]
            q[f"dense_{i}"]["bias"] = q[f"dense_{i}"]["bias"][order]
            q[f"dense_{i + 1}"]["kernel"] = q[f"dense_{i + 1}"]["kernel"][order]
        yield q


def flat(p):
    return weight_rows(jax.tree.map(lambda x: x[None], p))[0]


# ------------------------------------------------------------------------------------ distances
def test_nearest_rows_against_brute_force():
    x, y = RNG.normal(size=(7, 30)), RNG.normal(size=(9, 30))
    y[4] = x[2] + 1e-9  # squares alone would lose this
    full = np.array([[np.linalg.norm(a - b) for b in y] for a in x])
    np.testing.assert_allclose(euclidean(x, y), full, rtol=1e-7)
    assert 0.99e-9 < euclidean(x, y)[2, 4] / 30**0.5 < 1.01e-9
    found = nearest_rows(x, y)
    np.testing.assert_array_equal(found.index, full.argmin(1))
    groups = np.arange(7) % 3, np.arange(9) % 3
    hidden = np.where(groups[0][:, None] == groups[1][None], np.inf, full)
    np.testing.assert_array_equal(nearest_rows(x, y, groups).index, hidden.argmin(1))
    alone = nearest_rows(x, y, (np.zeros(7), np.zeros(9)))
    assert (alone.index == -1).all() and np.isinf(alone.distance).all()


def test_one_hidden_layer_is_exact(spec):
    x, y = stack(4, 1), stack(6, 2)
    quotient = Quotient(one(y), spec, key=jax.random.key(0))
    assert quotient.one_set
    a, b = quotient.settle(x), quotient.settle(y)
    settled = [representatives(z, spec) for z in (x, y)]
    brute = np.array(
        [
            [permutations_of(flat, one(settled[0], i), all_permuted(one(settled[1], j))) for j in range(6)]
            for i in range(4)
        ]
    )  # fmt: skip
    np.testing.assert_allclose(quotient.matrix(a, b), brute, rtol=1e-6)
    found = quotient.nearest(a, b)
    np.testing.assert_array_equal(found.index, brute.argmin(1))
    np.testing.assert_allclose(found.distance, brute.min(1), rtol=1e-6)
    groups = np.array([0, 1, 0, 1]), np.array([0, 0, 0, 1, 1, 1])
    hidden = np.where(groups[0][:, None] == groups[1][None], np.inf, brute)
    np.testing.assert_array_equal(quotient.nearest(a, b, groups).index, hidden.argmin(1))


def test_signs_are_matched_with_units():
    fn = lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"]  # noqa: E731
    draw = lambda *shape: RNG.normal(size=shape).astype(np.float32)  # noqa: E731
    x, y = ({"a": draw(3, 2, 3), "b": draw(3, 3, 2)} for _ in range(2))
    spec = symmetry.infer(fn, one(x), draw(8, 2), kinds=("permutation", "sign"))
    quotient = Quotient(one(x), spec, key=jax.random.key(0))
    found = quotient.matrix(quotient.settle(x), quotient.settle(y))
    for i, j in np.ndindex(3, 3):
        best = np.inf
        for order in itertools.permutations(range(3)):
            for signs in itertools.product((1, -1), repeat=3):
                a, b = (
                    y["a"][j][:, order] * signs,
                    y["b"][j][list(order)] * np.array(signs)[:, None],
                )
                best = min(
                    best, np.sqrt(((x["a"][i] - a) ** 2).sum() + ((x["b"][i] - b) ** 2).sum())
                )
        assert abs(found[i, j] - best) < 1e-5


def test_two_hidden_layers_search_and_bound():
    widths = (2, 3, 3, 2)
    x, y = stack(3, 1, widths), stack(5, 2, widths)
    axes = {
        "dense_0/kernel": "_ h0", "dense_0/bias": "h0", "dense_1/kernel": "h0 h1",
        "dense_1/bias": "h1", "dense_2/kernel": "h1 _", "dense_2/bias": "_",
    }  # fmt: skip
    spec = symmetry.parse(one(x), axes)
    quotient = Quotient(one(y), spec, key=jax.random.key(0), candidates=None)
    a, b = quotient.settle(x), quotient.settle(y)
    found, near = quotient.matrix(a, b), quotient.nearest(a, b)
    brute = np.array(
        [
            [permutations_of(flat, one(x, i), all_permuted(one(y, j), 2)) for j in range(5)]
            for i in range(3)
        ]
    )
    assert (found >= brute - 1e-5).all()  # an upper bound, here nearly always reached
    assert np.mean(found < brute * 1.001) > 0.7
    bound = euclidean(sorted_weights(x, spec), sorted_weights(y, spec))
    assert (bound <= brute + 1e-5).all() and (bound > 0.2 * brute).all()
    assert near.exact.all()
    np.testing.assert_allclose(near.distance, found.min(1), rtol=1e-5)
    few = Quotient(one(y), spec, key=jax.random.key(0), candidates=1)
    rough = few.nearest(few.settle(x), few.settle(y))
    assert (rough.distance >= near.distance - 1e-5).all()
    assert (rough.distance[rough.exact] <= near.distance[rough.exact] + 1e-5).all()


# ------------------------------------------------------------------------------------ statistics
def test_copying_test_counts_pairs():
    g, h = RNG.integers(0, 5, 13).astype(float), RNG.integers(0, 5, 8).astype(float)
    u = sum((a > b) + 0.5 * (a == b) for a in g for b in h)
    found = copying_test(g, h)
    assert found.further == pytest.approx(u / (13 * 8))
    assert found.z == pytest.approx((u - 52) / np.sqrt(13 * 8 * 22 / 12))
    assert copying_test(h - 10, h).z == copying_test(h - 10, h).least < 0
    null = [copying_test(*RNG.normal(size=(2, 20))).z for _ in range(400)]
    assert abs(np.mean(null)) < 0.2 and abs(np.std(null) - 1) < 0.1
    with pytest.raises(ValueError, match="none"):
        copying_test(g, g[:0])


def test_diversity_of_known_sets():
    x = RNG.normal(size=(60, 3))
    distances = lambda a, b: (euclidean(a, a), euclidean(b, b), euclidean(a, b))  # noqa: E731
    copies = distances(x, x)
    assert nearest_neighbour_accuracy(*copies).mean() == 0
    assert coverage(copies[2]).mean() == 1 and minimum_matching(copies[2]).mean() == 0
    far = distances(x + 100, x)
    assert nearest_neighbour_accuracy(*far).mean() == 1
    assert coverage(far[2]).mean() < 0.2 and energy_test(*far).p == 0.001
    other = RNG.normal(size=(60, 3))
    same = distances(other, x)
    assert 0.3 < nearest_neighbour_accuracy(*same).mean() < 0.7
    assert energy_test(*same).p > 0.01
    one_point = distances(
        np.repeat(x[:1] + 0.01, 60, 0), x
    )  # collapse: duplicates give themselves away
    assert nearest_neighbour_accuracy(*one_point).mean() > 0.8
    assert coverage(one_point[2]).sum() == 1
    levels = [
        energy_test(*distances(*RNG.normal(size=(2, 12, 2))), permutations=99).p for _ in range(80)
    ]
    assert 0.35 < np.mean(levels) < 0.65 and np.mean(np.array(levels) <= 0.1) < 0.25


def test_energy_statistic():
    x, y = RNG.normal(size=(5, 2)), RNG.normal(size=(7, 2))
    pairs = lambda a, b: np.mean([np.linalg.norm(p - q) for p in a for q in b])  # noqa: E731
    wanted = 2 * pairs(x, y) - pairs(x, x) - pairs(y, y)
    found = energy_test(euclidean(x, x), euclidean(y, y), euclidean(x, y))
    assert found.statistic == pytest.approx(wanted, rel=1e-6)


def test_predictions_against_brute_force():
    a, b = RNG.integers(0, 3, (4, 50)), RNG.integers(0, 3, (5, 50))
    wanted = np.array([[(p != q).mean() for q in b] for p in a])
    np.testing.assert_allclose(disagreement(a, b), wanted, atol=1e-6)
    y = RNG.integers(0, 3, 50)
    overlap = [[((p != y) & (q != y)).sum() / ((p != y) | (q != y)).sum() for q in b] for p in a]
    np.testing.assert_allclose(wrong_overlap(a != y, b != y), overlap, atol=1e-6)
    assert wrong_overlap(np.zeros((1, 3)), np.zeros((1, 3))).item() == 1
    logits = RNG.normal(size=(1, 50, 3)).repeat(3, 0)
    assert jensen_shannon(logits) == pytest.approx(0) and ensemble_gain(logits, y) == 0
    split = np.array(
        [[[9.0, 0], [9, 0], [0, 9]], [[9, 0], [0, 9], [9, 0]], [[0, 9], [9, 0], [9, 0]]]
    )
    assert ensemble_gain(split, np.zeros(3, int)) == pytest.approx(1 / 3)


def test_new_and_good_counts():
    ratios, quality = np.array([0, 0.5, 1, 2, np.nan]), np.array([1, 1, 1, 0, 1.0])
    assert new_and_good(ratios, quality, 0.5, 1).tolist() == [0, 1, 1, 0, 0]
    assert new_and_good(ratios, quality, 1.0, 0).tolist() == [0, 0, 1, 1, 0]


# ------------------------------------------------------------------------------------ one call
@pytest.fixture(scope="module")
def networks(spec):
    """Noisy copies of one classifier, each in an orbit of its own place: 24 runs."""
    with jax.enable_x64(False):
        base, noise = one(stack(1, 5)), stack(24, 6)
        params = jax.tree.map(lambda x, e: x + 0.1 * e, base, noise)
        params = moved(params, spec, 3)
        return zoo.Population(params, {"run": np.arange(24)}, spec=spec, function=FUNCTION)


def moved(params, spec, seed):
    keys = jax.random.split(jax.random.key(seed), len(jax.tree.leaves(params)[0]))
    act = jax.jit(jax.vmap(lambda k, p: spec.act(spec.sample(k), p)))
    return jax.tree.map(np.asarray, act(keys, params))


@pytest.fixture(scope="module")
def audit(networks):
    with jax.enable_x64(False):
        return Audit(
            networks.take(slice(0, 12)), networks.take(slice(12, 24)), data=DATA,
            scores=("accuracy", "cross_entropy"), key=jax.random.key(0), resamples=50,
        )  # fmt: skip


def strictest(report):
    return [n for n in report.values if n.startswith("new and good/ratio 0.75")][0]


def test_copies_are_found_in_the_quotient(audit, networks):
    training = networks.take(slice(0, 12))
    copies = audit.report(training.with_params(moved(training.params, audit.spec, 8)), "copies")
    assert copies["quotient/ratio"] < 1e-4 and copies["quotient/copies"] == 1
    assert copies["weights/ratio"] > 0.5 and copies["weights/copies"] == 0  # raw distance is fooled
    assert copies["quotient/Z_U"] < -3 and copies["predictions/distance"] == 0
    assert copies[strictest(copies)] == 0
    assert copies["predictions/wrong overlap"] == 1
    names = [flag.split(":")[0] for flag in copies.flags]
    assert "copies" in names and "z_u_saturated" in names


def test_the_unit_of_distance_from_some_of_the_training_networks(audit, networks):
    training, held_out = networks.take(slice(0, 12)), networks.take(slice(12, 24))
    options = {"data": DATA, "key": jax.random.key(0), "resamples": 10}
    usual = lambda **more: Audit(training, held_out, **options, **more).held_out_report()  # noqa: E731
    whole, enough, few = usual(), usual(sampled=12), usual(sampled=5)
    name = "quotient/usual distance"
    assert enough[name] == whole[name] == audit.held_out_report()[name]
    # the nearest is sought among all: each distance is one of those that all have
    settled = audit.known("training").settled
    apart = audit.quotient.matrix(settled, settled)
    np.fill_diagonal(apart, np.inf)
    assert np.abs(apart.min(1) - few[name]).min() < 1e-5 * few[name]
    with pytest.raises(ValueError, match="sampled"):
        usual(sampled=1)


def test_held_out_networks_are_new(audit):
    report = audit.held_out_report()
    assert 0.7 < report["quotient/ratio"] < 1.4
    assert report["quotient/ratio"] == pytest.approx(report["quotient/held-out ratio"])
    assert report["quotient/Z_U"] == 0 and report["quotient/further than held-out"] == 0.5
    assert report["quotient/copies"] == 0
    assert report[strictest(report)] > 0.5
    assert report["quality/accuracy best"] >= report["quality/accuracy mean"]
    assert report["diversity of quotient/energy p"] > 0.01


def test_group_elements_change_nothing_in_the_quotient(audit, networks):
    samples = networks.take(slice(12, 24))
    noise = jax.tree.map(lambda e: 0.02 * e, stack(12, 13))  # no ties with held-out networks
    samples = samples.with_params(jax.tree.map(np.add, samples.params, noise))
    other = samples.with_params(moved(samples.params, audit.spec, 11))
    a, b = audit.report(samples), audit.report(other)
    assert abs(a["weights/ratio"] - b["weights/ratio"]) > 0.01
    for name in a.values:
        if name.startswith("weights/") or "of weights" in name:
            continue
        np.testing.assert_allclose(
            b.values[name], a.values[name], rtol=2e-3, atol=1e-3, err_msg=name
        )


def test_flags(audit, networks):
    training, held_out = networks.take(slice(0, 12)), networks.take(slice(12, 24))
    options = {"scores": {"norm": lambda p: jnp.sum(p["dense_0"]["bias"] ** 2)}, "resamples": 20}
    run = training.with_columns({"run": np.zeros(12, int)})
    report = evaluate(held_out, run, held_out.with_columns({"run": np.zeros(12, int)}),
                      key=jax.random.key(1), **options)  # fmt: skip
    names = [flag.split(":")[0] for flag in report.flags]
    assert "single_run" in names and "shared_runs" in names
    assert not any(f.startswith(("single_run", "shared_runs")) for f in audit.flags)

    broken = jax.tree.map(np.array, held_out.params)
    broken["dense_0"]["bias"][0, 1] = np.nan
    for leaf in jax.tree.leaves(broken):
        leaf[2] = leaf[1]
    report = audit.report(held_out.with_params(broken))
    names = [flag.split(":")[0] for flag in report.flags]
    assert "not_finite" in names and "duplicates" in names
    assert np.isnan(report.columns["quotient_ratio"][0]) and report.count == 12
    assert duplicates(np.array([[0.0], [1.0], [1.0], [1.0]]), 0.0) == 3
    nothing = held_out.with_params(jax.tree.map(lambda x: np.full_like(x, np.nan), held_out.params))
    assert "all 12" in audit.report(nothing).flags[-1]


def test_comparison_is_a_table_and_json(audit, networks):
    found = compare(
        {"copies": networks.take(slice(0, 12))}, None, None, audit=audit, baselines=False,
        key=jax.random.key(3),
    )  # fmt: skip
    text = str(found)
    assert "held-out networks" in text and "quotient/ratio" in text and "! copies:" in text
    read = json.loads(found.to_json())["reports"]["copies"]
    assert read["values"]["quotient/ratio"]["value"] == pytest.approx(0, abs=1e-4)
    assert "quotient" in str(found["copies"]) and found["copies"].columns["accuracy"].shape == (12,)
    with pytest.raises(KeyError, match="was not measured"):
        found["copies"]["nonsense"]


def test_bad_input(networks, audit):
    training, held_out = networks.take(slice(0, 12)), networks.take(slice(12, 24))
    key = jax.random.key(0)
    other = jax.tree.map(lambda x: x[..., :1], held_out.params)
    with pytest.raises(ValueError, match="dense_0/bias"):
        audit.report(other)
    with pytest.raises(ValueError, match="needs `data"):
        evaluate(held_out, training, held_out, key=key)
    with pytest.raises(ValueError, match="no metric"):
        evaluate(held_out, training, held_out, key=key, data=DATA, scores=("goodness",))
    wrong = training.with_params(jax.tree.map(lambda x: np.full_like(x, np.inf), training.params))
    with pytest.raises(ValueError, match="`training` holds networks with NaN"):
        evaluate(held_out, wrong, held_out, key=key, data=DATA)
    with pytest.raises(ValueError, match="audit"):
        compare({}, None, None, audit=audit, key=key, resamples=3)
    with pytest.raises(
        ValueError, match="'candidates'"
    ):  # an option of the audit, not the first argument
        compare({}, None, None, audit=audit, key=key, candidates=3)
