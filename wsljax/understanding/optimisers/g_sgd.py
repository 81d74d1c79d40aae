"""G-SGD: gradient descent in coordinates that positive scaling leaves alone.

Source: Q. Meng, S. Zheng, H. Zhang, W. Chen, Q. Ye, Z.-M. Ma, N. Yu, T.-Y. Liu, "G-SGD: Optimizing ReLU
Neural Networks in its Positively Scale-Invariant Space", ICLR 2019. The value of a path (the product of
the weights along it) does not change under scaling; *basis paths*, those with at most one weight off the
skeleton, are coordinates of all networks up to scaling. The gradient with respect to their values follows
from that with respect to the weights (the paper's inverse chain rule); the step is made in path values,
and brought back to weights with the skeleton held (weight allocation).

The paper has MLPs and CNNs whose hidden layers are equally wide, without biases. What is done here holds
for any spec with scaling generators, and is the same thing said without paths. A skeleton entry for each
unit (see ``skeleton.py``) fixes the scaling: in the network ``v`` whose skeleton entries have the size
they had in the balanced initial network, all other entries are functions of the weights that scaling does
not change, and coordinates of the quotient.

* ``coordinates="gauge"``: descent in these ``v`` themselves.
* ``coordinates="path"``: descent in ``u_e = v_e * out(unit that e leads into)``, where ``out`` is the
  product of the weights on one way from that unit to the outputs, relative to its initial value. In units
  of the initial skeleton, ``u_e`` is the value of the path through ``e``: for a chain with one skeleton
  weight per unit these are the paper's basis paths (the paper sets its skeleton to one at the start, which
  is the factor by which they differ). As there, a way out whose value goes to zero ruins the coordinate.

The step commutes with the scaling group exactly: the weights come back in the scaling they had. Under
permutations it commutes as far as the largest entries, by which the skeleton is chosen, are unique. A unit
with no weights at all has no skeleton: its values are not finite.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from wsljax.symmetry import Generator, Spec

from .scaling import log_factor, offsets, scalings, used_blocks
from .shortest import solve
from .skeleton import Family, Skeleton, choose, mask, plan, scaling_of


class GSGDState(NamedTuple):
    """Steps since the start; the skeletons of the ways in, and of the ways out."""

    count: jax.Array
    inward: Skeleton
    outward: Skeleton


def g_sgd(
    spec: Spec,
    learning_rate: optax.ScalarOrSchedule,
    *,
    coordinates: str = "gauge",
    names: Sequence[str] | None = None,
) -> optax.GradientTransformation:
    """G-SGD, a complete optimiser: what it is given is the gradient, what it gives is the step.

    Blocks that no generator scales make plain gradient steps of the same learning rate.

    Args:
        spec: with ``Scale`` generators.
        learning_rate: number or schedule.
        coordinates: ``"gauge"`` or ``"path"``; see the module.
        names: of the generators to use; by default all scaling ones.

    Raises:
        ValueError: for other coordinates, a spec without scaling, generators whose scaling no weight
            tells apart, or, in the update, without ``params``.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]
        >>> p = {"a": jnp.array([[2.0, 1.0], [1.0, 3.0]]), "b": jnp.ones((2, 1))}
        >>> x = jax.random.normal(jax.random.key(0), (8, 2))
        >>> spec = symmetry.infer(fn, p, x, kinds=("permutation", "scale"))
        >>> optimiser = g_sgd(spec, 0.1)
        >>> state = optimiser.init(p)
        >>> updates, state = optimiser.update(jax.tree.map(jnp.ones_like, p), state, p)
        >>> print(updates["a"][0, 0], updates["a"][1, 1])  # the skeletons of the two units
        0.0 0.0
    """
    if coordinates not in ("gauge", "path"):
        raise ValueError(f"`coordinates` must be 'gauge' or 'path', got {coordinates!r}")
    generators = scalings(spec, names)
    if not generators:
        raise ValueError(
            "this spec has no scaling generators: infer it with kinds=('permutation', 'scale')"
        )
    ranks = {b.name: len(b.axes) for b in spec.layout}
    inward = plan(generators, ranks, outward=False)
    outward = plan(generators, ranks, outward=True) if coordinates == "path" else []

    def init(params):
        blocks = used_blocks(spec, params, generators)
        t, _, _ = solve(generators, blocks, 2.0, anchored=True)
        balanced = {n: x * jnp.exp(log_factor(generators, t, n, x)) for n, x in blocks.items()}
        ins = choose(inward, balanced)
        return GSGDState(jnp.zeros((), jnp.int32), ins, choose(outward, balanced))

    def update(updates, state, params=None):
        if params is None:
            raise ValueError("`g_sgd` needs the weights: call update(updates, state, params)")
        rate = learning_rate(state.count) if callable(learning_rate) else learning_rate
        w, g = spec.blocks(params), spec.blocks(updates)
        blocks = used_blocks(spec, params, generators)
        gauge = scaling_of(inward, state.inward, blocks)
        factor = {n: jnp.exp(log_factor(generators, gauge, n, x)) for n, x in blocks.items()}
        held = mask(inward, state.inward, blocks)
        v = {n: x * factor[n] for n, x in blocks.items()}
        slope = {n: jnp.where(held[n], 0, g[n].astype(x.dtype) / factor[n]) for n, x in v.items()}
        if coordinates == "gauge":
            new = {n: x - jnp.asarray(rate, x.dtype) * slope[n] for n, x in v.items()}
        else:
            new = _path_step(generators, outward, state.outward, held, v, slope, rate)
        shift = offsets(generators)
        steps = {}
        for name, x in w.items():
            if name in new:
                back = new[name] / factor[name] - jnp.asarray(shift[name], new[name].dtype)
                steps[name] = jnp.where(held[name], 0, back - x.astype(back.dtype)).astype(x.dtype)
            else:
                steps[name] = (-jnp.asarray(rate, x.dtype) * g[name]).astype(x.dtype)
        return spec.unblocks(steps, like=params), state._replace(
            count=optax.safe_increment(state.count)
        )

    return optax.GradientTransformation(init, update)


def _path_step(
    generators: Sequence[Generator],
    families: Sequence[Family],
    skeleton: Skeleton,
    held: dict[str, jax.Array],
    v: dict[str, jax.Array],
    slope: dict[str, jax.Array],
    rate: Any,
) -> dict[str, jax.Array]:
    """A gradient step in path values, given weights and gradient with the skeleton at its size."""

    def weights(u):
        """The weights of path values; skeleton entries are not among these, and stay."""

        def adjust(name, logs, t):
            lead = log_factor(generators, t, name, u[name], positive=True)
            return jnp.where(held[name], jnp.log(jnp.abs(v[name])), logs - lead)

        ways = scaling_of(families, skeleton, u, adjust)
        return {
            n: jnp.where(
                held[n], v[n], x * jnp.exp(-log_factor(generators, ways, n, x, positive=True))
            )
            for n, x in u.items()
        }

    ways = scaling_of(families, skeleton, v)
    u = {
        n: jnp.where(held[n], x, x * jnp.exp(log_factor(generators, ways, n, x, positive=True)))
        for n, x in v.items()
    }
    _, pull = jax.vjp(weights, u)
    (gradient,) = pull(slope)
    return weights({n: x - jnp.asarray(rate, x.dtype) * gradient[n] for n, x in u.items()})
