"""Networks in one form: scales balanced, units and signs aligned to a reference.

Networks that differ by a symmetry compute the same function but lie far apart, and a generator has to learn
all of their places. Here each is replaced by one that computes the same and lies next to a reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ...symmetry import Spec
from ...understanding.matching import weight_matching
from ...understanding.optimisers.balance import balance
from ...understanding.optimisers.scaling import one_sided, scalings
from ..geometry.incoming import incoming, normalising, radii
from .leaves import Dtypes, dtypes_of, join, shapes, split, unpack, widened, with_dtypes
from .restrict import restrict
from .space import Space


class CanonicalSpace(Space):
    """A network of the same function, balanced and aligned to a reference.

    ``decode(encode(params))`` computes the same as ``params``; it is not ``params``. Put it before another space:
    see :func:`.fit_spaces`. Many networks are aligned on the host where that is faster
    (``encode_all``, which generators use for training networks).

    Attributes:
        reference: floating weights that units are aligned to, or None.
        spec: of the floating leaves.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]
        >>> k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
        >>> stack = {"a": jax.random.normal(k1, (9, 4, 3)), "b": jax.random.normal(k2, (9, 3, 2))}
        >>> p, x = jax.tree.map(lambda v: v[5], stack), jax.random.normal(k3, (8, 4))
        >>> spec = symmetry.infer(fn, p, x, kinds=("permutation", "scale"))
        >>> space = CanonicalSpace.fit(stack, spec=spec, key=jax.random.key(1))
        >>> moved = spec.act(spec.sample(jax.random.key(2)), p)
        >>> bool(jnp.allclose(space.encode(moved)["a"], space.encode(p)["a"], atol=1e-4))
        True
    """

    like: Any
    reference: Any
    others: Any
    key: jax.Array
    spec: Spec = eqx.field(static=True)
    dtypes: Dtypes = eqx.field(static=True)
    scales: bool = eqx.field(static=True)
    kinds: tuple[str, ...] | None = eqx.field(static=True)
    sweeps: int = eqx.field(static=True)

    @staticmethod
    def fit(
        networks: Any,
        *,
        key: jax.Array,
        spec: Spec | None = None,
        reference: Any = 0,
        rounds: int = 1,
        scales: bool = True,
        kinds: Sequence[str] | None = ("permutation", "sign", "phase"),
        sweeps: int = 20,
    ) -> CanonicalSpace:
        """Choose the reference.

        Args:
            networks: a ``Population`` or a tree of arrays ``(models, ...)``: training networks alone.
            key: decides the order of visits in alignment.
            spec: the symmetry of one network; by default that of the population.
            reference: the index of a training network, or a network.
            rounds: in each after the first, the mean of the aligned networks becomes the reference.
            scales: whether scalings are balanced: the norm of the weights is made smallest, and weights of which
                the length does not matter get the length at which they are of size one.
            kinds: of the group, what is used to bring a network close to the reference, as for
                ``weight_matching``: None for all that the spec has; empty for no alignment.
            sweeps: visits of all units in one alignment, at most.

        Raises:
            ValueError: no spec, or no round.
        """
        stack, one, spec = unpack(networks, spec)
        if spec is None:
            raise ValueError("a canonical form needs a `spec`: see `wsljax.symmetry.infer`")
        if rounds < 1:
            raise ValueError(f"`rounds` is {rounds}; there is one at least")
        floating, others = split(one)
        dtypes = dtypes_of(floating)
        spec = restrict(spec, one, [path for path, _ in dtypes])
        like = shapes(widened(floating))
        kinds = None if kinds is None else tuple(kinds)
        space = CanonicalSpace(like, None, others, key, spec, dtypes, scales, kinds, sweeps)
        if kinds == ():
            return space
        if isinstance(reference, (int, np.integer)):
            index = int(reference)
            reference = jax.tree.map(lambda x: x[index], split(stack)[0])
        place = lambda s: s.reference  # noqa: E731
        found = space._balanced(widened(split(reference)[0]))
        for _ in range(rounds - 1):
            space = eqx.tree_at(place, space, found, is_leaf=lambda x: x is None)
            found = jax.tree.map(lambda x: x.mean(0), space.encode_all(stack))
        return eqx.tree_at(place, space, found, is_leaf=lambda x: x is None)

    def encode(self, params: Any) -> Any:
        """The network in its canonical form; floating leaves, in at least float32."""
        x = self._balanced(widened(split(params)[0]))
        return x if self.reference is None else self.spec.act(self._found(x), x)

    def encode_all(self, params: Any) -> Any:
        """Many networks; not for use inside of ``jit``."""
        stack = jax.jit(jax.vmap(self._balanced))(widened(split(params)[0]))
        if self.reference is None:
            return stack
        return jax.jit(jax.vmap(self.spec.act))(self._found(stack), stack)

    def _found(self, x: Any) -> dict[str, jax.Array]:
        """What aligns one network, or a stack."""
        return weight_matching(
            self.reference, x, self.spec, key=self.key, kinds=self.kinds, sweeps=self.sweeps
        ).element

    def decode(self, x: Any) -> Any:
        """The network, as it is."""
        return join(with_dtypes(x, self.dtypes), self.others)

    def _balanced(self, floating: Any) -> Any:
        if not self.scales or not scalings(self.spec):
            return floating
        free = [gen.name for gen in scalings(self.spec) if one_sided(gen)]
        spheres = incoming(self.spec, free)
        if spheres:
            element = normalising(floating, self.spec, spheres, radii(spheres, self.spec))
            floating = self.spec.act(element, floating)
        return balance(floating, self.spec).params
