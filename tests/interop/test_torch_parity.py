"""State dicts of torch modules: outputs as torch gives them, and weights that torch loads back."""

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from tests.interop.common import TOLERANCE, error, judge, normal, same_state  # noqa: E402
from wsljax import interop  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
WORDS = np.array([[3, 0, 5, 1, 6, 4], [2, 2, 1, 3, 0, 5]])


def randomised(module):
    """In evaluation, with every weight and statistic drawn anew."""
    torch.manual_seed(0)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            if name.endswith("running_var"):
                nn.init.uniform_(tensor, 0.5, 2)
            else:
                nn.init.normal_(tensor, std=0.4)
    return module.eval()


def outputs(module, *xs):
    with torch.no_grad():
        xs = [torch.tensor(x) for x in xs]
        out = module(*(x.permute(0, 3, 1, 2) if x.ndim == 4 else x for x in xs))
    return (out[0] if isinstance(out, tuple) else out).numpy()


def parity(module, *xs, architecture="auto", group=None, **options):
    module = randomised(module)
    fn, params = interop.from_state_dict(module.state_dict(), architecture, **options)
    want = outputs(module, *xs)
    assert error(jax.jit(fn)(params, *xs), want) < TOLERANCE
    back = interop.to_state_dict(params, fn)
    same_state(back, {k: v.numpy() for k, v in module.state_dict().items()})
    if group is None:
        return
    spec = judge(fn, params, *xs, group=group)
    moved = interop.to_state_dict(spec.act(spec.sample(jax.random.key(3)), params), fn)
    module.load_state_dict({k: torch.tensor(np.asarray(v)) for k, v in moved.items()})
    assert error(outputs(module, *xs), want) < TOLERANCE  # torch agrees that nothing changed


class Reader(nn.Module):
    """Embedding, a recurrent module, a head on its last output."""

    def __init__(self, cell, **options):
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.rnn = cell(4, 3, batch_first=True, **options)
        width = 3 * (2 if options.get("bidirectional") else 1)
        self.head = nn.Linear(options.get("proj_size") or width, 2)

    def forward(self, x):
        return self.head(self.rnn(self.embed(x))[0][:, -1])


@pytest.mark.parametrize(
    "cell, options, group",
    [
        ("LSTM", {"num_layers": 2}, ((4, 1), (3, 2))),
        ("LSTM", {"num_layers": 2, "bidirectional": True}, ((4, 1), (3, 4))),
        ("LSTM", {"proj_size": 2, "bias": False}, ((4, 1), (3, 1), (2, 1))),
        ("GRU", {"num_layers": 2, "bidirectional": True}, ((4, 1), (3, 4))),
        ("GRU", {"bias": False}, ((4, 1), (3, 1))),
        ("RNN", {"nonlinearity": "relu"}, ((4, 1), (3, 1))),
        ("RNN", {"nonlinearity": "tanh", "num_layers": 3}, ((4, 1), (3, 3))),
    ],
)
def test_recurrent(cell, options, group):
    said = {"nonlinearity": options["nonlinearity"]} if "nonlinearity" in options else {}
    parity(Reader(getattr(nn, cell), **options), WORDS, group=group, read="last", **said)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_encoders(norm_first, bias):
    def layer():
        return nn.TransformerEncoderLayer(
            8, 2, 12, batch_first=True, activation="gelu", norm_first=norm_first, bias=bias
        )

    options = {"heads": 2, "activation": "gelu", "norm_first": norm_first}
    x = normal(2, 5, 8)
    # outputs are fixed, and inputs: per layer 2 heads, S_4 of q/k dims and of v dims in each, S_12
    parity(layer(), x, **options, group=((2, 1), (4, 2), (4, 2), (12, 1)))
    whole = nn.TransformerEncoder(layer(), 2, norm=nn.LayerNorm(8), enable_nested_tensor=False)
    parity(whole, x, **options)


def test_attention():
    class Attention(nn.Module):
        def __init__(self, **options):
            super().__init__()
            self.attend = nn.MultiheadAttention(8, 2, batch_first=True, **options)

        def forward(self, q, *others):
            return self.attend(q, *(others or (q, q)))[0]

    x, keys, values = normal(2, 4, 8), normal(2, 5, 5, seed=2), normal(2, 5, 6, seed=3)
    group = ((2, 1), (4, 2), (4, 2))
    parity(Attention(), x, heads=2, group=group)
    parity(Attention(add_bias_kv=True, bias=False), x, heads=2)
    parity(Attention(kdim=5, vdim=6), x, keys, values, heads=2, group=group)


def test_convolutions_pools_and_activations():
    module = nn.Sequential(
        nn.Conv2d(3, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
        nn.LeakyReLU(),
        nn.Conv2d(6, 8, 3, padding="same", groups=2),
        nn.Hardswish(),
        nn.AvgPool2d(3, 2, 1),
        nn.AdaptiveAvgPool2d((3, 2)),
        nn.Flatten(),
        nn.Linear(48, 5),
        nn.Mish(),
        nn.LayerNorm(5),
        nn.Linear(5, 2),
    )
    layers = [
        ("0", {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}),
        "leaky_relu",
        ("2", {"stride": 1, "padding": "same"}),
        "hardswish",
        ("mean_pool", {"size": 3, "stride": 2, "padding": 1}),
        ("adaptive_mean_pool", {"size": (3, 2)}),
        "flatten",
        "7",
        "mish",
        ("9", {"kind": "layer_norm"}),
        "10",
    ]
    # the first six channels go to two groups of three: the halves may be exchanged with those of the eight
    group = ((2, 1), (3, 2), (4, 2), (5, 1))
    parity(module, normal(2, 11, 12, 3), architecture=layers, group=group)
    one = nn.Sequential(nn.Conv1d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(16, 2))
    fn, params = interop.from_state_dict(
        randomised(one).state_dict(), activation="tanh", stride=1, padding=0, pool="none"
    )
    x = normal(2, 6, 3)
    assert error(fn(params, x), outputs(one, x.transpose(0, 2, 1))) < TOLERANCE


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d", "vgg11_bn", "vgg13"])
def test_torchvision(name):
    models = pytest.importorskip("torchvision.models")
    vgg = name.startswith("vgg")
    module = getattr(models, name)(weights=None, **({} if vgg else {"num_classes": 5}))
    if vgg:  # the dense layers alone are 120 million weights
        module.classifier = nn.Sequential(
            nn.Linear(512 * 49, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 5)
        )
    module.eval()
    x = normal(1, 64, 64, 3)
    fn, params = interop.from_state_dict(module.state_dict())
    assert error(fn(params, x), outputs(module, x)) < TOLERANCE
    state = module.state_dict()
    same_state(interop.to_state_dict(params, fn), {k: v.numpy() for k, v in state.items()})


def test_bfloat16():
    module = randomised(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))).bfloat16()
    state = module.state_dict()
    fn, params = interop.from_state_dict(state, activation="relu")
    back = interop.to_state_dict(params, fn)
    for name, tensor in state.items():
        assert str(back[name].dtype) == "bfloat16"
        assert np.array_equal(back[name].astype("float32"), tensor.float().numpy())
