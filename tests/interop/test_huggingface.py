"""Hugging Face folders, made by hand: against numpy, against groups derived by hand, and damaged."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.interop import numpy_networks
from tests.interop.common import TOLERANCE, Tensors, error, judge, normal, same_state
from wsljax import interop, symmetry

IDS = np.array([[3, 0, 5, 1, 6, 4, 2, 0], [1, 1, 2, 6, 5, 0, 3, 4]])  # every word occurs
GPT2 = {
    "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 7, "n_positions": 8,
    "n_embd": 6, "n_layer": 2, "n_head": 2, "n_inner": 5, "layer_norm_epsilon": 1e-5,
    "activation_function": "gelu_new", "resid_pdrop": 0.1, "summary_type": "cls_index",
}  # fmt: skip
LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 7, "hidden_size": 6,
    "intermediate_size": 5, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 4, "rms_norm_eps": 1e-5, "rope_theta": 100.0, "max_position_embeddings": 8,
    "tie_word_embeddings": False, "torch_dtype": "float32",
}  # fmt: skip
VIT = {
    "model_type": "vit", "architectures": ["ViTForImageClassification"], "hidden_size": 6,
    "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 5, "image_size": 4,
    "patch_size": 2, "num_channels": 3, "layer_norm_eps": 1e-6, "id2label": {"0": "a", "1": "b"},
}  # fmt: skip


def gpt2_tensors(c):
    t, d = Tensors(), c["n_embd"]
    t.put("transformer.wte.weight", (c["vocab_size"], d))
    t.put("transformer.wpe.weight", (c["n_positions"], d))
    for i in range(c["n_layer"]):
        at, inner = f"transformer.h.{i}", c.get("n_inner") or 4 * d
        for name, rows, columns in (
            ("attn.c_attn", d, 3 * d), ("attn.c_proj", d, d), ("mlp.c_fc", d, inner), ("mlp.c_proj", inner, d),
        ):  # fmt: skip
            t.put(f"{at}.{name}.weight", (rows, columns))
            t.put(f"{at}.{name}.bias", (columns,))
        t.norm(f"{at}.ln_1", d).norm(f"{at}.ln_2", d)
    t.norm("transformer.ln_f", d)
    if not c.get("tie_word_embeddings", True):
        t.put("lm_head.weight", (c["vocab_size"], d))
    return t


def llama_tensors(c):
    t, d, inner = Tensors(), c["hidden_size"], c["intermediate_size"]
    dims = c.get("head_dim") or d // c["num_attention_heads"]
    q, kv = dims * c["num_attention_heads"], dims * c["num_key_value_heads"]
    t.put("model.embed_tokens.weight", (c["vocab_size"], d))
    for i in range(c["num_hidden_layers"]):
        at = f"model.layers.{i}"
        for name, out, into in ("q", q, d), ("k", kv, d), ("v", kv, d), ("o", d, q):
            t.layer(f"{at}.self_attn.{name}_proj", out, into, bias=c.get("attention_bias", False))
        for name, out, into in ("gate", inner, d), ("up", inner, d), ("down", d, inner):
            t.layer(f"{at}.mlp.{name}_proj", out, into, bias=c.get("mlp_bias", False))
        t.put(f"{at}.input_layernorm.weight", (d,))
        t.put(f"{at}.post_attention_layernorm.weight", (d,))
    t.put("model.norm.weight", (d,))
    if not c.get("tie_word_embeddings", False):
        t.put("lm_head.weight", (c["vocab_size"], d))
    return t


def vit_tensors(c):
    t, d, inner = Tensors(), c["hidden_size"], c["intermediate_size"]
    t.put("vit.embeddings.cls_token", (1, 1, d))
    t.put("vit.embeddings.position_embeddings", (1, 5, d))
    t.layer("vit.embeddings.patch_embeddings.projection", d, 3, 2, 2)
    for i in range(c["num_hidden_layers"]):
        at = f"vit.encoder.layer.{i}"
        for name in ("query", "key", "value"):
            t.layer(f"{at}.attention.attention.{name}", d, d, bias=c.get("qkv_bias", True))
        t.layer(f"{at}.attention.output.dense", d, d)
        t.layer(f"{at}.intermediate.dense", inner, d).layer(f"{at}.output.dense", d, inner)
        t.norm(f"{at}.layernorm_before", d).norm(f"{at}.layernorm_after", d)
    return t.norm("vit.layernorm", d).layer("classifier", len(c["id2label"]), d)


def write(folder, config, tensors, **kw):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    interop.write_safetensors(tensors, folder, **kw)
    return folder


# Residual stream S_6; per layer 2 heads, in each S_3 of q/k dims and S_3 of v dims; S_5 of the MLP.
GPT2_GROUP = ((6, 1), (2, 2), (3, 4), (3, 4), (5, 2))
# Residual stream S_6; per layer 2 groups, in each S_2 of query heads and S_4 of v dims, while the q/k dims
# are held by the rotation; S_5 of gate and up.
LLAMA_GROUP = ((6, 1), (2, 2), (2, 4), (4, 4), (5, 2))

CASES = {
    "gpt2": (GPT2, {}, GPT2_GROUP),
    "gpt2_own_head": (GPT2, {"tie_word_embeddings": False, "activation_function": "gelu"}, GPT2_GROUP),
    # n_inner falls back to four times the width
    "gpt2_scales": (
        GPT2,
        {"n_inner": None, "scale_attn_by_inverse_layer_idx": True, "scale_attn_weights": False},
        ((6, 1), (2, 2), (3, 4), (3, 4), (24, 2)),
    ),
    "llama": (LLAMA, {}, LLAMA_GROUP),
    "llama_tied_biases": (
        LLAMA, {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}, LLAMA_GROUP,
    ),
    # every query head has its own keys: 3 heads; head dims 6 / 3 = 2
    "llama_no_groups": (
        LLAMA,
        {"num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": None},
        ((6, 1), (3, 2), (2, 6), (5, 2)),
    ),
    "vit": (VIT, {}, ((6, 1), (2, 1), (3, 2), (3, 2), (5, 1))),
    "vit_no_qkv_bias": (VIT, {"qkv_bias": False}, ((6, 1), (2, 1), (3, 2), (3, 2), (5, 1))),
}  # fmt: skip
TENSORS = {"gpt2": gpt2_tensors, "llama": llama_tensors, "vit": vit_tensors}
FORWARD = {
    "gpt2": numpy_networks.gpt2, "llama": numpy_networks.llama, "vit": numpy_networks.vit,
}  # fmt: skip


def made(name, folder):
    base, changes, group = CASES[name]
    config = {**base, **changes}
    tensors = TENSORS[config["model_type"]](config)
    x = normal(2, 4, 4, 3) if config["model_type"] == "vit" else IDS
    return config, tensors, x, group, write(folder, config, tensors)


@pytest.mark.parametrize("name", CASES)
def test_parity_group_and_round_trip(name, tmp_path):
    config, tensors, x, group, folder = made(name, tmp_path / "in")
    fn, params = interop.from_huggingface(folder)
    want = np.stack([FORWARD[config["model_type"]](tensors, config, one) for one in x])
    assert error(jax.jit(fn)(params, x), want) < TOLERANCE
    judge(fn, params, x, group=group)
    interop.to_huggingface(params, fn.config, tmp_path / "out", max_shard_bytes=700)
    assert len(list((tmp_path / "out").glob("model-*"))) > 1
    back = interop.read_safetensors(tmp_path / "out")
    same_state(dict(sorted(back.items())), dict(sorted(tensors.items())))
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert {k: v for k, v in written.items() if k not in ("dtype", "torch_dtype")} == {
        k: v for k, v in config.items() if k != "torch_dtype"
    }


@pytest.mark.slow
def test_generators_of_llama_are_found(tmp_path):
    config = {
        **LLAMA, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 2,
        "hidden_size": 4, "intermediate_size": 3,
    }  # fmt: skip
    fn, params = interop.from_huggingface(write(tmp_path, config, llama_tensors(config)))
    spec = symmetry.infer(fn, params, IDS, kinds=("permutation", "linear"))
    moved = [
        {t.block.split("/")[-2] for t in g.terms} for g in spec.generators if g.kind == "linear"
    ]
    assert {"v_proj", "o_proj"} in moved, spec  # GL of the values of a head
    assert {"q_proj", "k_proj"} in moved, spec  # what commutes with the rotation
    assert max(symmetry.check(fn, params, spec, IDS, key=jax.random.key(0)).values()) < 1e-5


def test_published_gpt2_names_without_prefix_and_with_buffers(tmp_path):
    tensors = {k.removeprefix("transformer."): v for k, v in gpt2_tensors(GPT2).items()}
    tensors["h.0.attn.bias"] = np.tril(np.ones((1, 1, 8, 8), "float32"))
    tensors["lm_head.weight"] = tensors["wte.weight"].copy()
    fn, params = interop.from_huggingface(write(tmp_path, GPT2, tensors))
    want = np.stack([numpy_networks.gpt2(gpt2_tensors(GPT2), GPT2, one) for one in IDS])
    assert error(fn(params, IDS), want) < TOLERANCE
    tensors["lm_head.weight"] = tensors["wte.weight"] + 1
    with pytest.raises(
        ValueError, match="differs from 'transformer.wte.weight'.*tie_word_embeddings"
    ):
        interop.from_huggingface(write(tmp_path, GPT2, tensors))


def test_bodies_without_heads(tmp_path):
    config = {**GPT2, "architectures": ["GPT2Model"]}
    tensors = {k.removeprefix("transformer."): v for k, v in gpt2_tensors(config).items()}
    fn, params = interop.from_huggingface(write(tmp_path / "gpt2", config, tensors))
    assert set(params) == {"wte", "wpe", "h", "ln_f"} and fn(params, IDS).shape == (2, 8, 6)
    tied = {**gpt2_tensors(GPT2)}
    hidden = np.asarray(fn(params, IDS)) @ tied["transformer.wte.weight"].T
    want = np.stack([numpy_networks.gpt2(tied, GPT2, one) for one in IDS])
    assert error(hidden, want) < TOLERANCE

    config = {**VIT, "architectures": ["ViTModel"], "pooler_act": "tanh"}
    tensors = {
        k.removeprefix("vit."): v for k, v in vit_tensors(VIT).items() if "classifier" not in k
    }
    folder = write(tmp_path / "vit", config, tensors)
    fn, params = interop.from_huggingface(folder)
    images = normal(2, 4, 4, 3)
    assert set(fn(params, images)) == {"last_hidden_state"}
    tensors |= Tensors(3).layer("pooler.dense", 6, 6)
    fn, params = interop.from_huggingface(write(folder, config, tensors))
    out = fn(params, images)
    want = np.tanh(
        numpy_networks.linear(tensors, "pooler.dense", np.asarray(out["last_hidden_state"])[:, 0])
    )
    assert error(out["pooler_output"], want) < TOLERANCE


def test_bfloat16_is_kept_and_cast_on_request(tmp_path):
    halves = {k: v.astype(jnp.bfloat16) for k, v in llama_tensors(LLAMA).items()}
    folder = write(tmp_path / "a", LLAMA, halves)
    fn, params = interop.from_huggingface(folder)
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("bfloat16")}
    out = fn(params, IDS)
    assert out.dtype == jnp.bfloat16
    interop.to_huggingface(params, fn.config, tmp_path / "b")
    same_state(interop.read_safetensors(tmp_path / "b"), dict(sorted(halves.items())))
    assert json.loads((tmp_path / "b" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    fn, params = interop.from_huggingface(folder, dtype="float32")
    wide = {k: v.astype(np.float32) for k, v in halves.items()}
    want = np.stack([numpy_networks.llama(wide, LLAMA, one) for one in IDS])
    assert error(fn(params, IDS), want) < TOLERANCE
    assert 1e-4 < error(out.astype(jnp.float32), want) < 0.1


def slowed(frequency, factor=8.0, low=1.0, high=4.0, length=32):
    """Llama 3.1's frequencies, as its reference code writes them."""
    wavelength = 2 * np.pi / frequency
    if wavelength < length / high:
        return frequency
    if wavelength > length / low:
        return frequency / factor
    smooth = (length / wavelength - low) / (high - low)
    return (1 - smooth) * frequency / factor + smooth * frequency


LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


@pytest.mark.parametrize("old", [True, False])
def test_scaled_rotations(old, tmp_path, monkeypatch):
    theta = 20.0  # of three frequencies one is kept, one between, one divided
    between = theta ** (-1 / 3)
    assert slowed(1.0) == 1.0 and slowed(theta ** (-2 / 3)) == theta ** (-2 / 3) / 8
    assert between / 8 < slowed(between) < between
    if old:
        rope = {"rope_theta": theta, "rope_scaling": {"rope_type": "llama3", **LLAMA3}}
    else:
        rope = {"rope_parameters": {"rope_type": "llama3", "rope_theta": theta, **LLAMA3}}
    config = {k: v for k, v in LLAMA.items() if k != "rope_theta"} | rope | {"head_dim": 6}
    tensors = llama_tensors(config)
    fn, params = interop.from_huggingface(write(tmp_path, config, tensors))
    plain = numpy_networks.rotated
    unscaled = np.stack(
        [numpy_networks.llama(tensors, {**config, "rope_theta": theta}, x) for x in IDS]
    )
    monkeypatch.setattr(numpy_networks, "rotated", lambda x, d, t: plain(x, d, t, slowed))
    want = np.stack(
        [numpy_networks.llama(tensors, {**config, "rope_theta": theta}, x) for x in IDS]
    )
    assert error(fn(params, IDS), want) < TOLERANCE < error(unscaled, want)


@pytest.mark.parametrize(
    "base, changes, message",
    [
        (GPT2, {"flash": 3}, r"'flash' = 3 is not known here.*ignore=\('flash',\)"),
        (GPT2, {"add_cross_attention": True}, "'add_cross_attention' = True is not known"),
        (GPT2, {"model_type": "bert"}, "model_type 'bert' is not supported: only gpt2, llama, vit"),
        (
            GPT2,
            {"architectures": ["GPT2ForSequenceClassification"]},
            "only GPT2LMHeadModel or GPT2Model",
        ),
        (
            GPT2,
            {"activation_function": "xielu"},
            "'activation_function': unknown activation 'xielu'",
        ),
        (GPT2, {"n_head": 4}, "n_head = 4 does not divide n_embd = 6"),
        (GPT2, {"n_inner": 9}, "has shape .*; by the config it is"),
        (GPT2, {"n_layer": 3}, "missing tensors: 'transformer.h.2"),
        (GPT2, {"n_layer": 1}, "no place for tensors 'transformer.h.1"),
        (GPT2, {"quantization_config": {"bits": 4}}, "quantised"),
        (LLAMA, {"rope_scaling": {"type": "dynamic", "factor": 2}}, "'dynamic' is not supported"),
        (
            LLAMA,
            {"rope_scaling": {"rope_type": "llama3", "factor": 2}},
            "lacks .*'high_freq_factor'",
        ),
        (
            LLAMA,
            {"rope_scaling": {"rope_type": "linear", "factor": 2, "beta": 1}},
            "unknown .'beta'.",
        ),
        (LLAMA, {"partial_rotary_factor": 0.5}, "'partial_rotary_factor' = 0.5 is not supported"),
        (LLAMA, {"sliding_window": 4}, "'sliding_window' = 4 is not known"),
        (LLAMA, {"num_key_value_heads": 3}, "num_key_value_heads = 3 does not divide 4 heads"),
        (
            LLAMA,
            {"attention_bias": True},
            "missing tensors: 'model.layers.0.self_attn.q_proj.bias'",
        ),
        (LLAMA, {"head_dim": 3}, "must be even"),
        (VIT, {"qkv_bias": False}, "no place for tensors"),
        (VIT, {"image_size": 6}, "'vit/embeddings/position_embeddings'.*by the config it is"),
    ],
)
def test_what_changes_the_function_is_an_error(base, changes, message, tmp_path):
    write(tmp_path, {**base, **changes}, TENSORS[base["model_type"]](base))
    with pytest.raises(ValueError, match=message):
        interop.from_huggingface(tmp_path)


def test_ignored_fields_and_linear_rotations(tmp_path):
    config = {**LLAMA, "flash": 3, "rope_scaling": {"type": "linear", "factor": 2.0}}
    tensors = llama_tensors(LLAMA)
    fn, params = interop.from_huggingface(write(tmp_path, config, tensors), ignore=("flash",))
    from wsljax.interop.huggingface.rotary import frequencies

    assert np.allclose(frequencies(config, 4), frequencies(LLAMA, 4) / 2)
    assert fn(params, IDS).shape == (2, 8, 7)


def test_inputs_and_params_that_do_not_fit(tmp_path):
    fn, params = interop.from_huggingface(write(tmp_path, GPT2, gpt2_tensors(GPT2)))
    with pytest.raises(ValueError, match="9 tokens, but n_positions = 8"):
        fn(params, np.zeros((1, 9), int))
    params["wrong"] = params["transformer"]["ln_f"]
    with pytest.raises(
        ValueError, match="'wrong/bias', 'wrong/scale', for which the file has no place"
    ):
        interop.to_huggingface(params, fn.config, tmp_path / "out")
    del params["wrong"], params["transformer"]["ln_f"]
    with pytest.raises(ValueError, match="params has no 'transformer/ln_f/scale'"):
        interop.to_huggingface(params, fn.config, tmp_path / "out")
    fn, params = interop.from_huggingface(write(tmp_path, VIT, vit_tensors(VIT)))
    with pytest.raises(ValueError, match=r"not \(batch, 4, 4, 3\): height, width, channels"):
        fn(params, np.zeros((1, 3, 4, 4), "float32"))
