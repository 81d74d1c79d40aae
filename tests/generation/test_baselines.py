"""Trivial baselines: their statistics, alignment, and the protocol of generators."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsljax import symmetry
from wsljax.generation import Generator
from wsljax.generation.baselines import (
    Copies,
    EntryGaussian,
    Interpolation,
    KernelDensity,
    LeafGaussian,
    NoisyCopies,
    PrincipalGaussian,
    Soups,
    trivial_baselines,
)
from wsljax.generation.evaluation import aligned_population
from wsljax.generation.evaluation.networks import weight_rows
from wsljax.generation.generator import Batch
from wsljax.zoo import Population

RNG = np.random.default_rng(1)
MANY = 4000


@pytest.fixture(autouse=True)
def float32():
    with jax.enable_x64(False):
        yield


def networks(count=6):
    draw = lambda *shape: RNG.normal(size=(count, *shape)).astype(np.float32)  # noqa: E731
    return {"a": draw(2, 2) * np.array([1.0, 3.0], np.float32), "b": 5 + draw(2)}


def rows_of(generator, n=MANY, seed=0):
    return weight_rows(generator.sample(jax.random.key(seed), n))


def test_copies_and_noise():
    params = networks()
    rows = weight_rows(params)
    drawn = rows_of(Copies(params), 300)
    hits = (drawn[:, None] == rows[None]).all(-1)
    assert (hits.sum(1) == 1).all() and (hits.sum(0) > 20).all()
    noisy = rows_of(NoisyCopies(params, 0.1))
    nearest = np.abs(noisy[:, None] - rows[None]).sum(-1).argmin(1)
    noise = (noisy - rows[nearest]) / rows.std(0)
    np.testing.assert_allclose(noise.std(0), 0.1, rtol=0.1)
    assert (
        rows_of(NoisyCopies(params, 0.0), 20).tolist()
        == rows_of(NoisyCopies(params, 0.0), 20).tolist()
    )


def test_gaussians_have_the_moments_of_the_training_networks():
    params = networks()
    rows = weight_rows(params)
    entry = rows_of(EntryGaussian(params))
    np.testing.assert_allclose(entry.mean(0), rows.mean(0), atol=0.15)
    np.testing.assert_allclose(entry.std(0), rows.std(0), rtol=0.08)
    assert np.abs(np.corrcoef(entry.T) - np.eye(6)).max() < 0.08
    leaf = rows_of(LeafGaussian(params))
    for part, of in ((slice(0, 4), params["a"]), (slice(4, 6), params["b"])):
        np.testing.assert_allclose(leaf[:, part].mean(0), of.mean(), atol=0.2)
        np.testing.assert_allclose(leaf[:, part].std(0), of.std(), rtol=0.08)
    full = rows_of(PrincipalGaussian(params))
    wanted = np.cov(rows.T)
    np.testing.assert_allclose(np.cov(full.T), wanted, atol=0.12 * np.abs(wanted).max())
    generator = PrincipalGaussian(params)
    np.testing.assert_allclose(generator.factors.T @ generator.factors, wanted, atol=1e-4)
    few = rows_of(PrincipalGaussian(params, 2), 50) - rows.mean(0)
    assert np.linalg.matrix_rank(few, tol=1e-3) == 2
    best = np.linalg.eigh(wanted)[1][:, -2:]  # in the plane of largest variance
    np.testing.assert_allclose(few @ best @ best.T, few, atol=1e-4)


def test_kernel_density():
    params = networks(5)
    rows = weight_rows(params)
    copies = rows_of(KernelDensity(params, bandwidth=0.0), 40)
    assert np.abs(copies[:, None] - rows[None]).max(-1).min(1).max() < 1e-3
    scott = KernelDensity(params)
    assert scott.bandwidth == pytest.approx(5 ** (-1 / (4 + 4)))
    spread = np.cov(rows_of(KernelDensity(params, bandwidth=0.5)).T)
    wanted = np.cov(rows.T) * (4 / 5 + 0.25)  # of the points (ddof 0), and of the kernel
    np.testing.assert_allclose(spread, wanted, atol=0.12 * np.abs(wanted).max())
    apart = rows_of(KernelDensity(params, bandwidth=0.0, independent=True), 200)
    assert np.abs(apart[:, None] - rows[None]).max(-1).min(1).max() > 0.1  # mixes of coordinates


def test_mixtures_lie_between():
    params = networks(4)
    rows = weight_rows(params)
    middle = rows_of(Interpolation(params, 0.5, 0.5), 60)
    pairs = np.array([(rows[i] + rows[j]) / 2 for i in range(4) for j in range(i)])
    apart = np.abs(middle[:, None] - pairs[None]).max(-1)
    assert apart.min(1).max() < 1e-5 and len(set(apart.argmin(1))) == len(pairs)
    np.testing.assert_allclose(
        rows_of(Soups(params, 4), 3), np.tile(rows.mean(0), (3, 1)), atol=1e-5
    )
    singles = rows_of(Soups(params, 1), 30)
    assert np.abs(singles[:, None] - rows[None]).max(-1).min(1).max() < 1e-6


def test_alignment_makes_interpolation_keep_the_function():
    fn = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]  # noqa: E731
    draw = lambda *shape: RNG.normal(size=shape).astype(np.float32)  # noqa: E731
    p, x = {"a": draw(3, 6), "b": draw(6, 2)}, draw(20, 3)
    spec = symmetry.infer(fn, p, x, kinds=("permutation", "scale"))
    move = jax.jit(jax.vmap(lambda k: spec.act(spec.sample(k), p)))
    zoo_ = Population(move(jax.random.split(jax.random.key(0), 5)), {}, spec=spec)
    aligned = aligned_population(zoo_, key=jax.random.key(1))
    run = jax.jit(jax.vmap(fn, in_axes=(0, None)))
    wrong = lambda g: float(np.abs(run(g, x) - fn(p, x)).max())  # noqa: E731
    assert wrong(Interpolation(zoo_, 0.5, 0.5).sample(jax.random.key(2), 8)) > 0.3
    assert wrong(Interpolation(aligned, 0.5, 0.5).sample(jax.random.key(2), 8)) < 1e-3
    found = trivial_baselines(zoo_, key=jax.random.key(3), soup=3)
    assert "aligned soup of 3" in found and "raw soup of 3" in found
    assert all(isinstance(g, Generator) for g in found.values())


def test_the_protocol_of_generators():
    params = networks(4)
    params["b"] = jnp.asarray(params["b"], jnp.bfloat16)
    params["steps"] = np.array([7, 7, 7, 7])
    for generator in (Copies(params), NoisyCopies(params), LeafGaussian(params), Soups(params, 2)):
        few, many = (generator.sample(jax.random.key(4), n) for n in (2, 5))
        assert few["b"].dtype == jnp.bfloat16 and few["a"].dtype == jnp.float32
        assert few["steps"].tolist() == [7, 7]
        np.testing.assert_array_equal(few["a"], many["a"][:2])
        assert not any(jax.tree.leaves(generator.trainable()))
        with pytest.raises(TypeError, match="nothing to fit"):
            generator.loss(Batch(params), key=jax.random.key(0))


def test_bad_input():
    params = networks(3)
    with pytest.raises(ValueError, match="NaN"):
        Copies({"w": np.full((2, 1), np.nan)})
    with pytest.raises(ValueError, match="floating"):
        Copies({"steps": np.arange(3)})
    with pytest.raises(ValueError, match="1 to 3"):
        Soups(params, 4)
    with pytest.raises(ValueError, match="1 to 2"):
        PrincipalGaussian(params, 3)
    with pytest.raises(ValueError, match="0 to 1"):
        Interpolation(params, -0.5, 0.5)
    with pytest.raises(ValueError, match="negative"):
        NoisyCopies(params, -1)
