"""Layers wrapped by nnx's transformations: scan, remat, jit, vmap."""

from flax import nnx

from .linen_common import normal
from .nnx_attention import Block
from .nnx_common import make
from .registry import case


class Residual(nnx.Module):
    def __init__(self, hidden, rngs):
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.up = nnx.Linear(8, hidden, rngs=rngs)
        self.down = nnx.Linear(hidden, 8, rngs=rngs)

    def __call__(self, x):
        return x + self.down(nnx.gelu(self.up(self.norm(x))))


class Stack(nnx.Module):
    """``create(rngs)`` vmapped over layers, then scanned."""

    def __init__(self, rngs, create, layers, remat=False):
        self.inside = nnx.Linear(4, 8, rngs=rngs)
        self.out = nnx.Linear(8, 2, rngs=rngs)
        self.remat = remat
        self.layers = nnx.split_rngs(splits=layers)(nnx.vmap(create, in_axes=0, out_axes=0))(rngs)

    def __call__(self, x):
        def step(x, layer):
            return layer(x)

        step = nnx.remat(step) if self.remat else step
        forward = nnx.scan(step, in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        return self.out(forward(self.inside(x), self.layers))


@case("nnx/scan", [(8, 1), (6, 3)])  # one stream; hidden units of each of three layers
def scan(key):
    return make(lambda r: Stack(r, lambda k: Residual(6, k), 3), key, normal(key, 7, 4))


# stream; heads and hidden units of each of two layers; q/k and v dims of each head of each layer
@case("nnx/scan_transformer", [(8, 1), (2, 2), (3, 4), (3, 4), (9, 2)])
def scan_transformer(key):
    return make(lambda r: Stack(r, lambda k: Block(9, k), 2, remat=True), key, normal(key, 3, 5, 4))


class Wrapped(nnx.Module):
    def __init__(self, rngs):
        self.inside = nnx.Linear(4, 8, rngs=rngs)
        self.layer = Residual(5, rngs)
        self.out = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x):
        x = nnx.jit(lambda m, x: nnx.tanh(m(x)))(self.inside, x)
        x = nnx.remat(lambda m, x: m(x))(self.layer, x)
        return self.out(x)


@case("nnx/jit_remat", [(8, 1), (5, 1)])  # wrappers are transparent
def jit_remat(key):
    return make(Wrapped, key, normal(key, 7, 4))


class Member(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(4, 5, rngs=rngs)
        self.second = nnx.Linear(5, 2, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.tanh(self.first(x)))


class Ensemble(nnx.Module):
    def __init__(self, rngs, average):
        self.average = average
        self.members = nnx.split_rngs(splits=3)(nnx.vmap(Member, in_axes=0, out_axes=0))(rngs)

    def __call__(self, x):
        y = nnx.vmap(lambda m, x: m(x), in_axes=(0, None), out_axes=0)(self.members, x)
        return y.mean(0) if self.average else y


@case("nnx/ensemble", [(5, 3)])  # each member by itself; members are told apart outside
def ensemble(key):
    return make(lambda r: Ensemble(r, False), key, normal(key, 7, 4))


# averaged members permute as well; of the last biases only the mean matters
@case("nnx/ensemble_mean", [(3, 1), (5, 3)], exceptions=("members/second/bias",))
def ensemble_mean(key):
    return make(lambda r: Ensemble(r, True), key, normal(key, 7, 4))
