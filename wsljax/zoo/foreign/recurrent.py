"""Stacked LSTMs with torch's weights: two biases a layer, gates packed as input, forget, cell, output."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from wsljax.zoo.architecture import Architecture, register_architecture


@register_architecture("torch_lstm")
def torch_lstm(
    inputs: int = 4, hidden: int = 32, layers: int = 2, outputs: int = 4
) -> Architecture:
    """`torch.nn.LSTM` over a sequence, then a dense layer on every state of the last layer.

    Hochreiter and Schmidhuber 1997, with forget gates; Herrmann et al. 2024 for the zoo.

    Args:
        inputs: features of one step.
        hidden: units of a layer.
        layers: of the stack.
        outputs: of the dense layer.

    Inputs `(n, steps, inputs)`, outputs `(n, steps, outputs)`. Params: `lstm_i/kernel` `(in, 4
    hidden)`, `lstm_i/recurrent` `(hidden, 4 hidden)`, `lstm_i/bias` and `lstm_i/recurrent_bias`
    `(4 hidden,)`, `dense_0`.
    """
    widths = (inputs, *(hidden,) * layers)

    def init(row, *, key):
        limit = 1 / np.sqrt(hidden)
        scale = jnp.asarray(row.get("init_scale", 1.0), jnp.float32)
        params = {}
        for i in range(layers):
            shapes = {
                "kernel": (widths[i], 4 * hidden),
                "recurrent": (hidden, 4 * hidden),
                "bias": (4 * hidden,),
                "recurrent_bias": (4 * hidden,),
            }
            params[f"lstm_{i}"] = {
                name: scale * jax.random.uniform(part, shape, jnp.float32, -limit, limit)
                for part, (name, shape) in zip(
                    jax.random.split(jax.random.fold_in(key, i), 4), shapes.items()
                )
            }
        last, first = jax.random.split(jax.random.fold_in(key, layers))
        params["dense_0"] = {
            "kernel": scale
            * jax.random.uniform(last, (hidden, outputs), jnp.float32, -limit, limit),
            "bias": jax.random.uniform(first, (outputs,), jnp.float32, -limit, limit),
        }
        return params

    def run_layer(layer, x):
        def step(state, x):
            h, c = state
            gates = x @ layer["kernel"] + layer["bias"]
            gates += h @ layer["recurrent"] + layer["recurrent_bias"]
            i, f, g, o = jnp.split(gates, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        start = jnp.zeros((x.shape[0], hidden), x.dtype)
        _, out = jax.lax.scan(step, (start, start), x.swapaxes(0, 1))
        return out.swapaxes(0, 1)

    def apply(params, x, row, key):
        for i in range(layers):
            x = run_layer(params[f"lstm_{i}"], x)
        return x @ params["dense_0"]["kernel"] + params["dense_0"]["bias"]

    return Architecture(init, apply, (None, inputs))


def lstm_params(flat: np.ndarray, inputs: int, hidden: int, layers: int, outputs: int) -> dict:
    """The params of "torch_lstm" from vectors `(models, size)` in the order of torch's parameters.

    Raises:
        ValueError: the vectors are of another length.
    """
    shapes, widths = [], (inputs, *(hidden,) * layers)
    for i in range(layers):
        names = "kernel", "recurrent", "bias", "recurrent_bias"
        sizes = (4 * hidden, widths[i]), (4 * hidden, hidden), (4 * hidden,), (4 * hidden,)
        shapes += [(f"lstm_{i}", name, shape) for name, shape in zip(names, sizes)]
    shapes += [("dense_0", "kernel", (outputs, hidden)), ("dense_0", "bias", (outputs,))]
    total = sum(int(np.prod(shape)) for *_, shape in shapes)
    if flat.ndim != 2 or flat.shape[1] != total:
        raise ValueError(
            f"an LSTM of {inputs} inputs, {layers} layers of {hidden} and {outputs} outputs has "
            f"{total} weights; the vectors are {flat.shape}."
        )
    params, place = {}, 0
    for layer, name, shape in shapes:
        size = int(np.prod(shape))
        part = flat[:, place : place + size].reshape(-1, *shape)
        params.setdefault(layer, {})[name] = part.swapaxes(1, 2) if len(shape) == 2 else part
        place += size
    return params
