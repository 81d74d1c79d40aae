"""Forward functions in float64 numpy, straight from the tensors of the file, one example at a time.

Written from the papers and torch's documentation, with loops where the library has einsums, so that an error
of ours would have to be made twice.
"""

import math

import numpy as np


def linear(s, name, x):
    y = x @ s[f"{name}.weight"].astype(float).T
    return y + s[f"{name}.bias"] if f"{name}.bias" in s else y


def layer_norm(s, name, x, eps=1e-5):
    centred = x - x.mean(-1, keepdims=True)
    y = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
    return y * s[f"{name}.weight"] + s[f"{name}.bias"]


def rms_norm(s, name, x, eps):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * s[f"{name}.weight"]


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def gelu_new(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def relu(x):
    return np.maximum(x, 0)


def attend(q, k, v, heads, causal=False, scale=None):
    """(tokens, width) each, head by head; keys and values may have fewer heads than queries."""
    dims = q.shape[-1] // heads
    shared = heads // (k.shape[-1] // dims)
    out = []
    for h in range(heads):
        g = h // shared
        a = q[:, h * dims : (h + 1) * dims]
        b, c = (z[:, g * dims : (g + 1) * dims] for z in (k, v))
        scores = a @ b.T * (dims**-0.5 if scale is None else scale)
        if causal:
            for t in range(len(scores)):
                scores[t, t + 1 :] = -np.inf
        out.append(softmax(scores) @ c)
    return np.concatenate(out, -1)


def conv(s, name, x, stride=1, padding=0):
    """x (channels, height, width), kernel (out, in / groups, height, width)."""
    w = s[f"{name}.weight"].astype(float)
    out, each, kh, kw = w.shape
    groups = x.shape[0] // each
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    rows, columns = (x.shape[1] - kh) // stride + 1, (x.shape[2] - kw) // stride + 1
    y = np.zeros((out, rows, columns))
    for o in range(out):
        first = o // (out // groups) * each
        for i in range(rows):
            for j in range(columns):
                patch = x[
                    first : first + each, i * stride : i * stride + kh, j * stride : j * stride + kw
                ]
                y[o, i, j] = (patch * w[o]).sum()
    return y + s[f"{name}.bias"][:, None, None] if f"{name}.bias" in s else y


def batch_norm(s, name, x, eps=1e-5):
    """Channels first, any number of places."""
    mean, var, scale, shift = (
        s[f"{name}.{n}"].reshape(-1, *(1,) * (x.ndim - 1))
        for n in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / np.sqrt(var + eps) * scale + shift


def max_pool(x, size, stride=None, padding=0):
    stride = stride or size
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)), constant_values=-np.inf)
    rows, columns = (x.shape[1] - size) // stride + 1, (x.shape[2] - size) // stride + 1
    y = np.zeros((len(x), rows, columns))
    for i in range(rows):
        for j in range(columns):
            window = x[:, i * stride : i * stride + size, j * stride : j * stride + size]
            y[:, i, j] = window.max((1, 2))
    return y


def lstm(s, name, x):
    """One direction of one layer; x (tokens, in)."""
    w, u, b, c = (
        s[f"{name}{n}_l0"].astype(float) for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    h = cell = np.zeros(u.shape[1])
    out = []
    for z in x:
        i, f, g, o = np.split(w @ z + b + u @ h + c, 4)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(cell)
        out.append(h)
    return np.stack(out)


def gru(s, name, x):
    w, u, b, c = (
        s[f"{name}{n}_l0"].astype(float) for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    h = np.zeros(u.shape[1])
    out = []
    for z in x:
        (ri, zi, ni), (rh, zh, nh) = np.split(w @ z + b, 3), np.split(u @ h + c, 3)
        reset, update = sigmoid(ri + rh), sigmoid(zi + zh)
        h = (1 - update) * np.tanh(ni + reset * nh) + update * h
        out.append(h)
    return np.stack(out)


def encoder_layer(s, name, x, heads, act, norm_first):
    def attention(x):
        w, b = s[f"{name}.self_attn.in_proj_weight"], s[f"{name}.self_attn.in_proj_bias"]
        q, k, v = np.split(x @ w.astype(float).T + b, 3, -1)
        return linear(s, f"{name}.self_attn.out_proj", attend(q, k, v, heads))

    def mlp(x):
        return linear(s, f"{name}.linear2", act(linear(s, f"{name}.linear1", x)))

    if norm_first:
        x = x + attention(layer_norm(s, f"{name}.norm1", x))
        return x + mlp(layer_norm(s, f"{name}.norm2", x))
    x = layer_norm(s, f"{name}.norm1", x + attention(x))
    return layer_norm(s, f"{name}.norm2", x + mlp(x))


def gpt2(s, c, ids):
    act = {"gelu_new": gelu_new, "gelu": gelu, "relu": relu}[
        c.get("activation_function", "gelu_new")
    ]
    eps = c.get("layer_norm_epsilon", 1e-5)
    x = s["transformer.wte.weight"][ids] + s["transformer.wpe.weight"][: len(ids)].astype(float)
    for i in range(c["n_layer"]):
        at = f"transformer.h.{i}"

        def dense(name, x, at=at):  # in the file (in, out)
            return x @ s[f"{at}.{name}.weight"] + s[f"{at}.{name}.bias"]

        q, k, v = np.split(dense("attn.c_attn", layer_norm(s, f"{at}.ln_1", x, eps)), 3, -1)
        scale = (c["n_embd"] // c["n_head"]) ** -0.5 if c.get("scale_attn_weights", True) else 1.0
        if c.get("scale_attn_by_inverse_layer_idx"):
            scale /= i + 1
        x = x + dense("attn.c_proj", attend(q, k, v, c["n_head"], causal=True, scale=scale))
        x = x + dense("mlp.c_proj", act(dense("mlp.c_fc", layer_norm(s, f"{at}.ln_2", x, eps))))
    x = layer_norm(s, "transformer.ln_f", x, eps)
    return (
        x @ s["transformer.wte.weight"].T
        if c.get("tie_word_embeddings", True)
        else linear(s, "lm_head", x)
    )


def rotated(x, dims, theta, slow=lambda frequency: frequency):
    """Every head of x (tokens, heads * dims), pair by pair."""
    y = x.copy()
    half = dims // 2
    for t in range(len(x)):
        for start in range(0, x.shape[1], dims):
            for i in range(half):
                angle = t * slow(theta ** (-2 * i / dims))
                a, b = x[t, start + i], x[t, start + half + i]
                y[t, start + i] = a * math.cos(angle) - b * math.sin(angle)
                y[t, start + half + i] = b * math.cos(angle) + a * math.sin(angle)
    return y


def llama(s, c, ids):
    heads = c["num_attention_heads"]
    dims = c.get("head_dim") or c["hidden_size"] // heads
    eps, theta = c["rms_norm_eps"], c["rope_theta"]
    x = s["model.embed_tokens.weight"][ids].astype(float)
    for i in range(c["num_hidden_layers"]):
        at = f"model.layers.{i}"
        z = rms_norm(s, f"{at}.input_layernorm", x, eps)
        q, k, v = (linear(s, f"{at}.self_attn.{n}_proj", z) for n in "qkv")
        z = attend(rotated(q, dims, theta), rotated(k, dims, theta), v, heads, causal=True)
        x = x + linear(s, f"{at}.self_attn.o_proj", z)
        z = rms_norm(s, f"{at}.post_attention_layernorm", x, eps)
        gate = linear(s, f"{at}.mlp.gate_proj", z)
        x = x + linear(
            s, f"{at}.mlp.down_proj", gate * sigmoid(gate) * linear(s, f"{at}.mlp.up_proj", z)
        )
    x = rms_norm(s, "model.norm", x, eps)
    tied = c.get("tie_word_embeddings", False)
    return x @ s["model.embed_tokens.weight"].T if tied else linear(s, "lm_head", x)


def vit(s, c, image):
    """image (height, width, channels)."""
    eps, heads, patch = c["layer_norm_eps"], c["num_attention_heads"], c["patch_size"]
    e = "vit.embeddings"
    grid = conv(s, f"{e}.patch_embeddings.projection", image.transpose(2, 0, 1), stride=patch)
    x = np.concatenate([s[f"{e}.cls_token"][0], grid.reshape(len(grid), -1).T])
    x = x + s[f"{e}.position_embeddings"][0]
    for i in range(c["num_hidden_layers"]):
        at = f"vit.encoder.layer.{i}"
        z = layer_norm(s, f"{at}.layernorm_before", x, eps)
        q, k, v = (linear(s, f"{at}.attention.attention.{n}", z) for n in ("query", "key", "value"))
        x = x + linear(s, f"{at}.attention.output.dense", attend(q, k, v, heads))
        z = layer_norm(s, f"{at}.layernorm_after", x, eps)
        x = x + linear(s, f"{at}.output.dense", gelu(linear(s, f"{at}.intermediate.dense", z)))
    return linear(s, "classifier", layer_norm(s, "vit.layernorm", x, eps)[0])
