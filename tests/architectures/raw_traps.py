"""Small functions that have misled an inference: ties, ranks, and orders along an axis of layers."""

import jax
import jax.numpy as jnp
from jax import lax

from .raw_draw import affine, data, draw
from .registry import case


def _two_layers(middle, hidden, width, batch=24):
    """``build``: 3 -> 4 -> ``hidden`` -> [middle] -> ``width`` features -> 2 outputs."""

    def build(key):
        def fn(p, x):
            h = jnp.tanh(affine(p["a"], x))
            return middle(jnp.tanh(affine(p["b"], h))) @ p["out"]

        shapes = {"a": ((3, 4), (4,)), "b": ((4, hidden), (hidden,)), "out": (width, 2)}
        return fn, draw(key, shapes), data(key, (batch, 3))

    return build


def _one_hot(index, n, like):
    return jax.nn.one_hot(index, n, dtype=like.dtype)


def _pairs(h):
    """(batch, 6) as (batch, 2, 3)."""
    return h.reshape(-1, 2, 3)


# S_4 alone in most of these: the layer of 4 before is free, the one that is treated so is not.

# The first unit above a threshold: which is first depends on the order, ties being the rule.
case("raw/first_positive", group=((4, 1),))(
    _two_layers(lambda h: _one_hot(jnp.argmax(h > 0.6, axis=-1), 5, h), 5, 5, batch=256)
)

# Rectified scores tie at zero, where the two largest are picked by position.
case("raw/top_k_of_relu", group=((4, 1),))(
    _two_layers(lambda h: _one_hot(lax.top_k(jax.nn.relu(h - 0.3), 2)[1], 5, h).sum(axis=1), 5, 5)
)

# The values of the two largest do not depend on how ties are broken: S_5.
case("raw/top_k_values_of_relu", group=((4, 1), (5, 1)))(
    _two_layers(lambda h: lax.top_k(jax.nn.relu(h), 2)[0], 5, 2)
)

# Sorting by a coarse key leaves equal keys in their order, and what is carried along shows it.
case("raw/sort_by_coarse_key", group=((4, 1),))(
    _two_layers(lambda h: lax.sort((jnp.floor(2 * h), h), num_keys=1)[1], 5, 5)
)

# Sorting by a fine key carries anything along: S_5 before, nothing after.
case("raw/sort_by_fine_key", group=((4, 1), (5, 1)))(
    _two_layers(lambda h: lax.sort((h, jnp.sin(3 * h)), num_keys=1)[1], 5, 5)
)

# Ranks move with the units: S_5.
case("raw/ranks", group=((4, 1), (5, 1)))(
    _two_layers(lambda h: jnp.argsort(jnp.argsort(h, -1), -1).astype(h.dtype), 5, 5)
)

# Prefix sums of ones are places.
case("raw/places_by_cumsum", group=((4, 1),))(
    _two_layers(lambda h: h * jnp.cumsum(jnp.ones_like(h), axis=-1), 5, 5)
)

# One unit of 5 is set apart, the other four are not.
case("raw/one_set_apart", group=((4, 1), (4, 1)))(
    _two_layers(lambda h: jnp.sin(h.at[:, 0].add(1.0)), 5, 5)
)

# Prefix sums from group to group tie the units of all groups: S_3 once; the groups are in order.
case("raw/cumsum_over_groups", group=((4, 1), (3, 1)))(
    _two_layers(lambda h: jnp.cumsum(_pairs(h), axis=1).reshape(h.shape), 6, 6)
)

# A group is added to the reversed groups: S_3 once, and the groups (told apart by a constant) not.
case("raw/reversed_groups", group=((4, 1), (3, 1)))(
    _two_layers(
        lambda h: (
            lambda z: (jnp.cos(z) + 2 * z[:, ::-1] + jnp.arange(2)[:, None] * z**2).reshape(h.shape)
        )(_pairs(h)),
        6,
        6,
    )
)

# A softmax across groups leaves the units of a place interchangeable with those of another place,
# groups at each place by themselves: S_3 of places, S_2^3.
case("raw/softmax_over_groups", group=((4, 1), (3, 1), (2, 3)))(
    _two_layers(lambda h: jax.nn.softmax(3 * _pairs(h), axis=1).reshape(h.shape), 6, 6)
)


@case("raw/stack_and_its_reverse", group=((5, 1), (4, 1)))
def stack_and_its_reverse(key):
    # Each of 2 layers reads its own bias and the other's: hidden units move together, S_4; stream S_5.
    def fn(p, x):
        def step(h, layer):
            up, bias, other, down = layer
            return h + jnp.tanh(h @ up + bias + 0.5 * other) @ down, None

        layers = (p["up"], p["bias"], p["bias"][::-1], p["down"])
        return lax.scan(step, x @ p["in"], layers)[0] @ p["out"]

    shapes = {"in": (3, 5), "up": (2, 5, 4), "bias": (2, 4), "down": (2, 4, 5), "out": (5, 2)}
    return fn, draw(key, shapes), data(key, (6, 3))


@case("raw/stack_reversed", group=((5, 1), (4, 3)))
def stack_reversed(key):
    # All leaves reversed alike: the hidden units of 3 layers stay independent, S_4^3; stream S_5.
    def fn(p, x):
        def step(h, layer):
            return h + jnp.tanh(h @ layer["up"] + layer["bias"]) @ layer["down"], None

        layers = jax.tree.map(lambda w: w[::-1], p["layers"])
        return lax.scan(step, x @ p["in"], layers)[0] @ p["out"]

    layers = {"up": (3, 5, 4), "bias": (3, 4), "down": (3, 4, 5)}
    return fn, draw(key, {"in": (3, 5), "layers": layers, "out": (5, 2)}), data(key, (6, 3))


@case("raw/layers_averaged", group=((5, 1), (4, 1), (3, 44)))
def layers_averaged(key):
    # Only the mean over 3 copies of each weight is used, so copies may be exchanged weight by weight:
    # S_3 for each of 20 + 4 + 20 weights; stream S_5, hidden S_4.
    def fn(p, x):
        layer = jax.tree.map(lambda w: jnp.mean(w, axis=0), p["layers"])
        h = x @ p["in"]
        return (h + jnp.tanh(h @ layer["up"] + layer["bias"]) @ layer["down"]) @ p["out"]

    layers = {"up": (3, 5, 4), "bias": (3, 4), "down": (3, 4, 5)}
    return fn, draw(key, {"in": (3, 5), "layers": layers, "out": (5, 2)}), data(key, (6, 3))


@case("raw/heads_as_batch", group=((4, 1), (5, 4)))
def heads_as_batch(key):
    # Small networks along the middle axis of one leaf and the first of another: S_4, S_5^4.
    def fn(p, x):
        h = jax.vmap(lambda w: jnp.tanh(x @ w), in_axes=1)(p["in"])
        return jnp.sum(jnp.sin(jnp.einsum("ebh,eho->ebo", h, p["out"])), axis=0)

    return fn, draw(key, {"in": (3, 4, 5), "out": (4, 5, 2)}), data(key, (6, 3))


@case("raw/product_units", group=((20, 1),))
def product_units(key):
    # Heads and their units are used as one flat set, whatever the shape of the leaves: S_20.
    def fn(p, x):
        h = jnp.tanh(jnp.einsum("bi,ieh->beh", x, p["in"]))
        return jnp.einsum("beh,heo->bo", h, p["out"])

    return fn, draw(key, {"in": (3, 4, 5), "out": (5, 4, 2)}), data(key, (6, 3))
