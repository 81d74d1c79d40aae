"""Folders that transformers wrote: its logits, and folders of ours that it opens."""

import os

import jax
import numpy as np
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tests.interop.common import TOLERANCE, error  # noqa: E402
from wsljax import interop, symmetry  # noqa: E402

IDS = np.random.default_rng(0).integers(0, 11, (2, 9))
IMAGES = np.random.default_rng(1).normal(size=(2, 8, 12, 3)).astype("float32")
GPT2 = {"vocab_size": 11, "n_positions": 9, "n_embd": 8, "n_layer": 2, "n_head": 2}
LLAMA = {
    "vocab_size": 11, "hidden_size": 16, "intermediate_size": 10, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
VIT = {
    "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12,
    "image_size": [8, 12], "patch_size": 4,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
}  # fmt: skip

CASES = [
    ("GPT2LMHeadModel", GPT2, {}),
    (
        "GPT2LMHeadModel",
        GPT2,
        {"n_inner": 5, "activation_function": "gelu", "layer_norm_epsilon": 0.1},
    ),
    (
        "GPT2LMHeadModel",
        GPT2,
        {"tie_word_embeddings": False, "scale_attn_by_inverse_layer_idx": True},
    ),
    ("GPT2LMHeadModel", GPT2, {"scale_attn_weights": False, "reorder_and_upcast_attn": True}),
    ("GPT2LMHeadModel", GPT2, {"activation_function": "relu"}),
    ("GPT2Model", GPT2, {"activation_function": "silu"}),
    ("LlamaForCausalLM", LLAMA, {}),
    (
        "LlamaForCausalLM",
        LLAMA,
        {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
    ),
    ("LlamaForCausalLM", LLAMA, {"head_dim": 6, "num_key_value_heads": 1, "rms_norm_eps": 0.1}),
    ("LlamaForCausalLM", LLAMA, {"rope_parameters": LLAMA3, "hidden_act": "gelu_pytorch_tanh"}),
    (
        "LlamaForCausalLM",
        LLAMA,
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 50.0, "factor": 2.0}},
    ),
    ("LlamaModel", LLAMA, {"num_key_value_heads": 4}),
    ("ViTForImageClassification", VIT, {"num_labels": 3}),
    (
        "ViTForImageClassification",
        VIT,
        {"qkv_bias": False, "hidden_act": "gelu_new", "layer_norm_eps": 0.1},
    ),
    ("ViTModel", VIT, {"pooler_output_size": 5, "pooler_act": "relu"}),
]


def opened(module, folder):
    """What transformers computes, as a dict of arrays or an array."""
    inputs = (
        torch.tensor(IMAGES).permute(0, 3, 1, 2)
        if "ViT" in type(module).__name__
        else torch.tensor(IDS)
    )
    with torch.no_grad():
        out = module(inputs)
    if "logits" in out:
        return out.logits.numpy()
    if "pooler_output" in out:
        return {k: out[k].numpy() for k in ("last_hidden_state", "pooler_output")}
    return out.last_hidden_state.numpy()


@pytest.mark.parametrize("case", range(len(CASES)), ids=lambda i: f"{CASES[i][0]}-{i}")
def test_logits_and_round_trip(case, tmp_path):
    name, base, changes = CASES[case]
    family = name.split("For")[0].removesuffix("Model").removesuffix("LMHead")
    config = getattr(transformers, f"{family}Config")(**{**base, **changes})
    torch.manual_seed(case)
    module = getattr(transformers, name)(config).eval()
    for tensor in module.parameters():
        torch.nn.init.normal_(tensor, std=0.3)
    module.save_pretrained(tmp_path / "theirs", max_shard_size="4KB" if case % 2 else "5GB")
    fn, params = interop.from_huggingface(tmp_path / "theirs")
    x = IMAGES if "ViT" in name else IDS
    want, got = opened(module, tmp_path), jax.jit(fn)(params, x)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert error(a, b) < TOLERANCE

    spec = symmetry.infer(fn, params, x, kinds=("permutation",))
    moved = spec.act(spec.sample(jax.random.key(0)), params)
    interop.to_huggingface(
        moved, fn.config, tmp_path / "ours", max_shard_bytes=3000 if case % 2 else 10**9
    )
    again = getattr(transformers, name).from_pretrained(tmp_path / "ours").eval()
    theirs, ours = module.state_dict(), again.state_dict()
    assert list(theirs) == list(ours)
    assert any(not torch.equal(theirs[k], ours[k]) for k in theirs)  # other weights
    for a, b in zip(jax.tree.leaves(opened(again, tmp_path)), jax.tree.leaves(want), strict=True):
        assert error(a, b) < TOLERANCE  # the same function, by transformers


def test_bfloat16_weights(tmp_path):
    config = transformers.LlamaConfig(**LLAMA)
    module = transformers.LlamaForCausalLM(config).to(torch.bfloat16).eval()
    module.save_pretrained(tmp_path / "theirs")
    fn, params = interop.from_huggingface(tmp_path / "theirs")
    assert {str(a.dtype) for a in jax.tree.leaves(params)} == {"bfloat16"}
    wide_fn, wide = interop.from_huggingface(tmp_path / "theirs", dtype="float32")
    want = opened(module.float(), tmp_path)
    assert error(wide_fn(wide, IDS), want) < TOLERANCE
    assert error(np.asarray(fn(params, IDS), "float32"), want) < 0.1
    interop.to_huggingface(params, fn.config, tmp_path / "ours")
    again = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "ours", dtype="auto")
    assert again.dtype == torch.bfloat16
    assert all(
        torch.equal(a.float(), b.float()) for a, b in zip(again.parameters(), module.parameters())
    )
