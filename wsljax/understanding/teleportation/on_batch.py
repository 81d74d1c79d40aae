"""Teleports for activations that have no continuous group: an action that holds on one batch only.

Two forms, here exact; the published programs take ``g^-1`` for ``I - T``, or the activations of the
network before it was moved, and so change the loss:

- ``"2022"`` (arXiv:2205.10637, equation 8): the outputs ``a`` of a hidden layer become ``a g`` on the batch,
  and the next kernel ``g^-1 W``. Needs the inverse of the activation.
- ``"2024"`` (arXiv:2305.13404): the kernel ``W`` before the activation becomes ``W g``, and the next
  kernel is fitted to the new activations. Any activation.

Rows are samples: a layer is ``h W + b``. Both solve linear equations with one unknown row of a kernel for
each coordinate that enters it, one equation for each sample: exact as long as there are no more
samples than coordinates, and no two samples alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.linalg import expm

from ..._compat import is_tracer
from .action import Action
from .ascend import Teleported, teleport

FORMS = ("2022", "2024")


def teleport_on_batch(
    loss: Callable[..., jax.Array],
    params: Any,
    x: jax.Array,
    *inputs: Any,
    activation: Callable[[jax.Array], jax.Array],
    inverse: Callable[[jax.Array], jax.Array] | None = None,
    form: str = "2022",
    **options: Any,
) -> Teleported:
    """As :func:`teleport`, for an MLP with any activation, **holding on the batch ``x`` only**.

    The loss on this batch stays what it is. The network is another function: on other data its outputs
    move, and so does the loss there. What is general: any widths, depth, biases, and activation
    (invertible ones for the form "2022"). What is not: dense layers in a row only, one activation between
    all of them, no skip connections, no convolutions, and fewer samples than the narrowest layer concerned.

    Args:
        loss: ``loss(params, x, *inputs) -> scalar``.
        params: list of layers, each ``kernel``, ``(kernel,)`` or ``(kernel, bias)``, the kernel of shape
            ``(in, out)``; the activation stands between them.
        x: ``(samples, in)``.
        *inputs: what else the loss takes.
        activation, inverse, form: see :func:`batch_action`.
        **options: of :func:`teleport`.

    Raises:
        ValueError: as :func:`batch_action` and :func:`teleport` do.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> k = jax.random.split(jax.random.key(0), 4)
        >>> p = [jax.random.normal(k[0], (5, 6)) / 2, jax.random.normal(k[1], (6, 2))]
        >>> x, y = jax.random.normal(k[2], (4, 5)), jax.random.normal(k[3], (4, 2))
        >>> loss = lambda p, x, y: jnp.sum((jax.nn.sigmoid(x @ p[0]) @ p[1] - y) ** 2)
        >>> logit = lambda a: jnp.log(a / (1 - a))
        >>> _, _, _, report = teleport_on_batch(
        ...     loss, p, x, y, activation=jax.nn.sigmoid, inverse=logit, steps=3
        ... )
        >>> bool(report.objective_after > report.objective_before), bool(report.loss_change < 1e-5)
        (True, True)
    """
    action = batch_action(params, x, activation=activation, inverse=inverse, form=form)
    return teleport(loss, params, action, x, *inputs, **options)


def batch_action(
    params: Any,
    x: jax.Array,
    *,
    activation: Callable[[jax.Array], jax.Array],
    inverse: Callable[[jax.Array], jax.Array] | None = None,
    form: str = "2022",
    keep_rest: bool = True,
) -> Action:
    """The action of ``GL(width)`` of each hidden layer that leaves an MLP's outputs on ``x`` unchanged.

    The direction ``v`` is a list with one matrix ``(width, width)`` for each hidden layer; the element is
    its exponential. Coming back by ``-v`` restores the outputs on the batch; where a layer has more
    coordinates than there are samples, what the batch does not see of the kernels after the first
    may differ.

    Args:
        params, x: see :func:`teleport_on_batch`.
        activation: between the layers, entry by entry.
        inverse: of it; not a number where there is none (such steps are turned down).
        form: "2022" or "2024", see this module.
        keep_rest: keep what the batch does not see of a kernel (the neutral element then is neutral).
            ``False`` drops it, as the published formulas do.

    Raises:
        ValueError: if there are more samples than coordinates where a kernel is fitted, or the samples
            are linearly dependent there (where values are known); for a form without its inverse, or
            layers that do not fit together.
    """
    if form not in FORMS:
        raise ValueError(f"`form` must be one of {FORMS}, got {form!r}")
    if form == "2022" and inverse is None:
        raise ValueError(
            "the form '2022' needs the inverse of the activation: pass `inverse=`, or '2024'"
        )
    kernels = _layers(params)
    _refuse(kernels, x, activation, form)
    widths = [w.shape[1] for w, _ in kernels[:-1]]
    zero = [jnp.zeros((k, k), jnp.result_type(x, kernels[0][0])) for k in widths]
    move = _move_2022 if form == "2022" else _move_2024

    def act(v: Sequence[jax.Array], params: Any) -> Any:
        layers = _layers(params)
        new = move(v, layers, x, activation, inverse, keep_rest)
        return _rebuild(params, new)

    return Action(act, zero)


def _move_2022(v, layers, x, activation, inverse, keep_rest):
    """Each hidden layer's ``a`` to ``a g``: its kernel is fitted, to the moved activations before it."""
    new, h, undo = [], x, None
    moved = x
    for i, (w, b) in enumerate(layers):
        z = h @ w + b
        if undo is not None:
            w = undo @ w
        if i == len(layers) - 1:
            new.append(w)
            break
        a = activation(z)
        target = a @ expm(v[i])
        wanted = inverse(target) - b
        have = moved @ w if keep_rest else jnp.zeros_like(wanted)
        new.append((w if keep_rest else 0) + jnp.linalg.pinv(moved) @ (wanted - have))
        h, moved, undo = a, target, expm(-v[i])
    return new


def _move_2024(v, layers, x, activation, inverse, keep_rest):
    """Each kernel before an activation times ``g``, and the next one fitted to what comes out."""
    new, h, moved = [], x, x
    for i, (w, b) in enumerate(layers):
        z = h @ w
        if i:  # the outputs of this layer as before, from the moved activations
            have = moved @ w if keep_rest else jnp.zeros_like(z)
            w = (w if keep_rest else 0) + jnp.linalg.pinv(moved) @ (z - have)
        if i == len(layers) - 1:
            new.append(w)
            break
        w = w @ expm(v[i])
        new.append(w)
        h, moved = activation(z + b), activation(moved @ w + b)
    return new


def _layers(params: Any) -> list[tuple[jax.Array, Any]]:
    """Pairs of kernel and bias (0 where there is none)."""
    if not isinstance(params, (list, tuple)) or len(params) < 2:
        raise ValueError(
            "expected params as a list of at least two layers, (kernel, bias) or (kernel,) each"
        )
    out = []
    for i, layer in enumerate(params):
        parts = tuple(layer) if isinstance(layer, (list, tuple)) else (layer,)
        if not 1 <= len(parts) <= 2 or jnp.ndim(parts[0]) != 2:
            raise ValueError(
                f"params[{i}]: expected a kernel of shape (in, out), and perhaps a bias, got shapes "
                f"{[jnp.shape(p) for p in parts]}"
            )
        if out and out[-1][0].shape[1] != parts[0].shape[0]:
            raise ValueError(
                f"params[{i}]: a kernel of shape {parts[0].shape} after one of {out[-1][0].shape}"
            )
        out.append((jnp.asarray(parts[0]), parts[1] if len(parts) > 1 else 0))
    return out


def _rebuild(params: Any, kernels: Sequence[jax.Array]) -> Any:
    def one(layer: Any, kernel: jax.Array) -> Any:
        if not isinstance(layer, (list, tuple)):
            return kernel.astype(jnp.asarray(layer).dtype)
        return type(layer)((kernel.astype(layer[0].dtype), *layer[1:]))

    return type(params)(one(layer, k) for layer, k in zip(params, kernels, strict=True))


def _refuse(layers, x, activation, form) -> None:
    """Raise where the equations have no exact solution."""
    if jnp.ndim(x) != 2 or x.shape[1] != layers[0][0].shape[0]:
        raise ValueError(
            f"expected a batch of shape (samples, {layers[0][0].shape[0]}), got {jnp.shape(x)}"
        )
    fitted = range(len(layers) - 1) if form == "2022" else range(1, len(layers))
    h = x
    for i, (w, b) in enumerate(layers):
        if i in fitted:
            if len(x) > w.shape[0]:
                raise ValueError(
                    f"{len(x)} samples, but {w.shape[0]} coordinates enter layer {i}: no exact move of "
                    f"its kernel exists. Take at most {min(layers[j][0].shape[0] for j in fitted)} samples"
                )
            s = jnp.linalg.svd(h, compute_uv=False)
            if not is_tracer(s):
                if not bool(s[-1] > 10 * max(h.shape) * jnp.finfo(h.dtype).eps * s[0]):
                    raise ValueError(
                        f"the {len(x)} samples are linearly dependent where they enter layer {i} (singular "
                        f"values from {float(s[0]):.3g} to {float(s[-1]):.3g}): no exact move of its kernel "
                        "exists. Take fewer samples, and none twice"
                    )
        h = activation(h @ w + b)
