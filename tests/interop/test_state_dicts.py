"""Torch state dicts made by hand: against numpy and groups derived by hand, there and back, and incomplete."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.interop import numpy_networks as net
from tests.interop.common import TOLERANCE, Tensors, error, judge, normal, same_state
from wsljax import interop

IMAGES = normal(2, 6, 8, 3)
WORDS = np.array([[3, 0, 5, 1, 6, 4], [2, 2, 1, 3, 0, 5]])
CASES = {}


def case(function):
    """Registers ``() -> (state, architecture, options, inputs, forward of one example, group)``."""
    CASES[function.__name__] = function
    return function


def image(forward):
    """A forward of channels first images, called with channels last."""
    return lambda s, x: forward(s, x.transpose(2, 0, 1).astype(float))


@case
def mlp():
    s = Tensors().layer("0", 5, 4).layer("2", 6, 5).layer("4", 2, 6)

    def forward(s, x):
        return net.linear(s, "4", np.tanh(net.linear(s, "2", np.tanh(net.linear(s, "0", x)))))

    return s, "auto", {"activation": "tanh"}, normal(3, 4), forward, ((5, 1), (6, 1))


@case
def cnn_flattened():
    s = Tensors().layer("conv1", 5, 3, 3, 3, bias=False).norm("bn1", 5, stats=True)
    s.layer("conv2", 4, 5, 3, 3).layer("fc1", 7, 4 * 1 * 2).norm("bn2", 7, stats=True).layer(
        "fc2", 2, 7
    )

    @image
    def forward(s, x):
        x = net.relu(net.batch_norm(s, "bn1", net.conv(s, "conv1", x, stride=2, padding=1)))
        x = net.max_pool(net.relu(net.conv(s, "conv2", x, padding=1)), 2)
        x = net.relu(net.batch_norm(s, "bn2", net.linear(s, "fc1", x.ravel())))
        return net.linear(s, "fc2", x)

    options = {"activation": "relu", "stride": [2, 1], "padding": 1, "pool": ["none", "max"]}
    return s, "auto", options, IMAGES, forward, ((5, 1), (4, 1), (7, 1))


@case
def listed_layers():
    # grouped convolution, PReLU, GroupNorm in two groups of two, BatchNorm of what was flattened
    s = Tensors().layer("a", 4, 3, 3, 3).norm("gn", 4)
    s.put("slope.weight", (4,))
    s.layer("b", 6, 2, 3, 3).norm("flat", 6 * 4 * 6, stats=True).layer("out", 2, 6 * 4 * 6)

    @image
    def forward(s, x):
        x = net.conv(s, "a", x, padding=1)
        y = x.reshape(2, -1)
        y = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + 1e-5)
        x = y.reshape(x.shape) * s["gn.weight"][:, None, None] + s["gn.bias"][:, None, None]
        x = np.where(x > 0, x, s["slope.weight"][:, None, None] * x)
        x = np.tanh(net.conv(s, "b", x))
        return net.linear(s, "out", net.batch_norm(s, "flat", x.ravel()))

    layers = [
        ("a", {"padding": 1}), ("gn", {"kind": "group_norm", "groups": 2}), ("slope", {"kind": "prelu"}),
        ("b", {"padding": 0}), "tanh", "flatten", "flat", "dropout", "out",
    ]  # fmt: skip
    # the two groups move as wholes, with the half of b's outputs that reads them; inside each two channels
    # of a and three of b
    return s, layers, {"stride": 1}, IMAGES, forward, ((2, 1), (2, 2), (3, 2))


@case
def embedded_lstm():
    s = Tensors().add(embed__weight=(7, 4), rnn__weight_ih_l0=(12, 4), rnn__weight_hh_l0=(12, 3))
    s.add(rnn__bias_ih_l0=(12,), rnn__bias_hh_l0=(12,)).layer("head", 2, 3)

    def forward(s, ids):
        return net.linear(s, "head", net.lstm(s, "rnn.", s["embed.weight"][ids].astype(float))[-1])

    return s, "auto", {"read": "last"}, WORDS, forward, ((4, 1), (3, 1))


@case
def bare_gru():
    s = Tensors().add(weight_ih_l0=(9, 4), weight_hh_l0=(9, 3), bias_ih_l0=(9,), bias_hh_l0=(9,))
    # all states are outputs, so none may move; the read-out makes them a hidden layer
    s.layer("head", 2, 3)

    def forward(s, x):
        return net.linear(s, "head", net.gru(s, "", x.astype(float)))

    return s, ["", "head"], {}, normal(2, 5, 4), forward, ((3, 1),)


def encoder_tensors(name, depth, width, hidden):
    s = Tensors()
    for i in range(depth):
        at = f"{name}layers.{i}"
        s.put(f"{at}.self_attn.in_proj_weight", (3 * width, width))
        s.put(f"{at}.self_attn.in_proj_bias", (3 * width,))
        s.layer(f"{at}.self_attn.out_proj", width, width)
        s.layer(f"{at}.linear1", hidden, width).layer(f"{at}.linear2", width, hidden)
        s.norm(f"{at}.norm1", width).norm(f"{at}.norm2", width)
    return s


@case
def encoder_classifier():
    s = Tensors()
    s.put("embed.weight", (7, 6))
    for name, value in encoder_tensors("encoder.", 2, 6, 5).items():
        s[name] = value
    s.norm("encoder.norm", 6).layer("head", 2, 6)

    def forward(s, ids):
        x = s["embed.weight"][ids].astype(float)
        for i in range(2):
            x = net.encoder_layer(s, f"encoder.layers.{i}", x, 2, net.relu, norm_first=True)
        return net.linear(s, "head", net.layer_norm(s, "encoder.norm", x).mean(0))

    options = {"heads": 2, "activation": "relu", "norm_first": True, "read": "mean"}
    # stream S_6; per layer 2 heads, S_3 of q/k dims and of v dims in each, S_5 of the MLP
    return s, "auto", options, WORDS, forward, ((6, 1), (2, 2), (3, 4), (3, 4), (5, 2))


def resnet_tensors(stages, kernel, bottleneck=0, project=True, side="downsample", head="fc"):
    s = (
        Tensors(scale=0.3)
        .layer("conv1", stages[0], 3, kernel, kernel, bias=False)
        .norm("bn1", stages[0], True)
    )
    into = stages[0]
    for i, out in enumerate(stages, start=1):
        at = f"layer{i}.0"
        plan = [(bottleneck, into, 1), (bottleneck, bottleneck, 3), (out, bottleneck, 1)]
        plan = plan if bottleneck else [(out + 1, into, 3), (out, out + 1, 3)]
        for k, (o, n, size) in enumerate(plan, start=1):
            s.layer(f"{at}.conv{k}", o, n, size, size, bias=False).norm(f"{at}.bn{k}", o, True)
        if project and (i > 1 or out != into):
            s.layer(f"{at}.{side}.0", out, into, 1, 1, bias=False).norm(f"{at}.{side}.1", out, True)
        into = out
    return s.layer(head, 2, into)


def resnet_forward(stages, kernel, bottleneck=0, side="downsample", head="fc"):
    @image
    def forward(s, x):
        x = net.conv(s, "conv1", x, stride=2 if kernel == 7 else 1, padding=kernel // 2)
        x = net.relu(net.batch_norm(s, "bn1", x))
        x = net.max_pool(x, 3, 2, 1) if kernel == 7 else x
        for i in range(1, len(stages) + 1):
            at, h = f"layer{i}.0", x
            strides = (1, 2, 1) if bottleneck else (2, 1)
            for k, stride in enumerate(strides, start=1):
                size = s[f"{at}.conv{k}.weight"].shape[-1]
                h = net.conv(
                    s, f"{at}.conv{k}", h, stride=stride if i > 1 else 1, padding=size // 2
                )
                h = net.batch_norm(s, f"{at}.bn{k}", h)
                h = net.relu(h) if k < len(strides) else h
            if f"{at}.{side}.0.weight" in s:
                x = net.conv(s, f"{at}.{side}.0", x, stride=2 if i > 1 else 1)
                x = net.batch_norm(s, f"{at}.{side}.1", x)
            elif i > 1:
                extra = len(h) - len(x)
                x = np.pad(x[:, ::2, ::2], ((extra // 2, extra - extra // 2), (0, 0), (0, 0)))
            x = net.relu(x + h)
        return net.linear(s, head, x.mean((1, 2)))

    return forward


@case
def resnet_basic():
    # a stream for each stage (4, 5); inside each block one more channel than its stream
    s = resnet_tensors((4, 5), 7)
    group = ((4, 1), (5, 1), (5, 1), (6, 1))
    return s, "auto", {}, normal(2, 16, 16, 3), resnet_forward((4, 5), 7), group


@case
def resnet_bottleneck_cifar():
    s = resnet_tensors((4, 5), 3, bottleneck=3, side="shortcut", head="linear")
    forward = resnet_forward((4, 5), 3, 3, "shortcut", "linear")
    # streams 4, 5; two inner widths of 3 in each block
    return s, "auto", {}, normal(2, 6, 6, 3), forward, ((4, 1), (5, 1), (3, 4))


@case
def resnet_padded():
    s = resnet_tensors((4, 6), 3, project=False)
    # the stream of the first stage runs on among two channels that are free
    group = ((4, 1), (5, 1), (7, 1), (2, 1))
    return s, "auto", {"shortcut": "pad"}, normal(2, 6, 6, 3), resnet_forward((4, 6), 3), group


@case
def vgg():
    # numbers of VGG 11: convolutions at 0, 3, 6, 8, 11, 13, 16, 18, a max pool behind 0, 3, 8, 13, 18
    s, into = Tensors(scale=0.3), 3
    widths = dict(zip((0, 3, 6, 8, 11, 13, 16, 18), (4, 5, 6, 7, 5, 6, 4, 3)))
    for n, out in widths.items():
        s.layer(f"features.{n}", out, into, 3, 3)
        into = out
    s.layer("classifier.0", 5, 3).layer("classifier.3", 2, 5)

    @image
    def forward(s, x):
        for n in widths:
            x = net.relu(net.conv(s, f"features.{n}", x, padding=1))
            x = net.max_pool(x, 2) if n in (0, 3, 8, 13, 18) else x
        return net.linear(s, "classifier.3", net.relu(net.linear(s, "classifier.0", x[:, 0, 0])))

    group = tuple((n, 1) for n in (*widths.values(), 5))
    return s, "auto", {}, normal(1, 32, 32, 3), forward, group


@pytest.mark.parametrize("name", CASES)
def test_parity_group_and_round_trip(name):
    state, architecture, options, x, forward, group = CASES[name]()
    fn, params = interop.from_state_dict(state, architecture, **options)
    want = np.stack([forward(state, one) for one in x])
    assert error(jax.jit(fn)(params, x), want) < TOLERANCE
    same_state(interop.to_state_dict(params, fn), state)
    spec = judge(fn, params, x, group=group)
    moved = spec.act(spec.sample(jax.random.key(2)), params)
    back = interop.to_state_dict(moved, fn)  # other weights, the same function, in torch's layout
    assert error(np.stack([forward(back, one) for one in x]), want) < TOLERANCE


def test_layouts_are_jaxs():
    state, *_ = cnn_flattened()
    fn, params = interop.from_state_dict(state, activation="relu", stride=1, padding=1, pool="none")
    assert params["conv1"]["kernel"].shape == (3, 3, 3, 5) and params["fc1"]["kernel"].shape == (
        8,
        7,
    )
    kernel = state["fc1.weight"].reshape(7, 4, 2)  # (out, channels, places)
    assert np.array_equal(params["fc1"]["kernel"].reshape(2, 4, 7), kernel.transpose(2, 1, 0))
    assert set(params["bn1"]) == {"scale", "bias", "mean", "var"}
    assert set(fn.rest) == {"bn1.num_batches_tracked", "bn2.num_batches_tracked"}


def test_wrapped_names_dtypes_and_jax_arrays():
    state, _, options, x, forward, _ = mlp()
    wrapped = {f"module._orig_mod.{k}": jnp.asarray(v, jnp.bfloat16) for k, v in state.items()}
    fn, params = interop.from_state_dict(wrapped, **options)
    assert set(params) == {"0", "2", "4"} and params["0"]["kernel"].dtype == jnp.bfloat16
    same_state(interop.to_state_dict(params, fn), wrapped)
    fn, params = interop.from_state_dict(wrapped, dtype="float32", **options)
    rounded = {k: np.asarray(v.astype(jnp.bfloat16), "float32") for k, v in state.items()}
    assert error(fn(params, x), np.stack([forward(rounded, one) for one in x])) < TOLERANCE


def test_float64_is_not_rounded_unasked():
    state = {"weight": np.ones((2, 3))}
    assert interop.from_state_dict(state)[1]["kernel"].dtype == np.float64
    with jax.enable_x64(False):
        with pytest.raises(ValueError, match="'weight' is float64.*dtype='float32'"):
            interop.from_state_dict(state)
        assert interop.from_state_dict(state, dtype="float32")[1]["kernel"].dtype == np.float32


def test_a_function_among_the_layers_and_a_module_used_twice():
    s = Tensors().layer("a", 4, 4).layer("b", 2, 4)
    layers = ["a", jnp.sin, "a", "sin", "b"]
    fn, params = interop.from_state_dict(s, layers)
    x = normal(3, 4)
    twice = np.sin(net.linear(s, "a", np.sin(net.linear(s, "a", x))))
    assert error(fn(params, x), net.linear(s, "b", twice)) < TOLERANCE


CONV = {"activation": "relu", "stride": 1, "padding": 1, "pool": "none"}


def without(name, **more):
    return {k: v for k, v in {**CONV, **more}.items() if k != name}


@pytest.mark.parametrize(
    "make, architecture, options, message",
    [
        (mlp, "auto", {}, "do not tell the activation: pass activation="),
        (mlp, "auto", {"activation": "tan"}, "'tan' is no module.*no activation"),
        (mlp, "wide", {}, "unknown architecture 'wide'; known: auto"),
        (mlp, ["0", "tanh", "2"], {}, "tensors '4.bias', '4.weight' are read by no layer"),
        (mlp, ["0", "tanh", "3"], {}, "'3' is no module of the state dict"),
        (mlp, ["0", "tanh", ("2", {"width": 3}), "4"], {}, "unknown setting 'width'"),
        (mlp, ["flatten", "0", "2", "4"], {}, "order of what it flattens is not known"),
        (mlp, "resnet", {}, "these were not found"),
        (mlp, "vgg", {}, "these were not found"),
        (
            cnn_flattened,
            "auto",
            without("stride"),
            r"'conv1' \(convolution\): the weights do not tell stride",
        ),
        (cnn_flattened, "auto", without("padding"), "the weights do not tell padding"),
        (cnn_flattened, "auto", without("pool"), "if pooling follows 'conv1'"),
        (cnn_flattened, "auto", {**CONV, "pool": ["max"]}, "pool: 1 given for 2 convolutions"),
        (cnn_flattened, "auto", {**CONV, "pool": "median"}, "unknown kind 'median'"),
        (embedded_lstm, "auto", {}, "which outputs of the sequence are read: pass read="),
        (
            encoder_classifier,
            "auto",
            {"heads": 2, "activation": "relu", "read": "mean"},
            "tell norm_first",
        ),
        (
            encoder_classifier,
            "auto",
            {"heads": 4, "activation": "relu", "norm_first": True, "read": "mean"},
            "heads = 4 does not divide its width 6",
        ),
        (resnet_padded, "auto", {}, "shortcut='pad'"),
    ],
)
def test_what_the_weights_do_not_tell_is_asked_for(make, architecture, options, message):
    with pytest.raises(ValueError, match=message):
        interop.from_state_dict(make()[0], architecture, **options)


def test_ambiguous_modules():
    vector = Tensors().layer("a", 4, 3).norm("n", 4).layer("b", 2, 4)
    with pytest.raises(ValueError, match="module 'n'.*do not tell what it is.*layer_norm"):
        interop.from_state_dict(vector, activation="relu")
    fn, params = interop.from_state_dict(vector, activation="relu", norm="layer_norm")
    x = normal(3, 3)
    want = net.linear(
        vector, "b", net.relu(net.layer_norm(vector, "n", net.linear(vector, "a", x)))
    )
    assert error(fn(params, x), want) < TOLERANCE
    square = Tensors().layer("a", 4, 4, bias=False).layer("b", 2, 4)
    with pytest.raises(ValueError, match="4 x 4 without bias.*embedding=True or False"):
        interop.from_state_dict(square, activation="relu")
    small = Tensors().layer("c", 4, 3, 1, 1).layer("f", 2, 4)
    with pytest.raises(ValueError, match="pass head='mean', 'max' .*or 'flatten'"):
        interop.from_state_dict(small, stride=1, padding=0, pool="none", activation="relu")
    plain = Tensors().add(weight_ih_l0=(3, 4), weight_hh_l0=(3, 3))
    with pytest.raises(ValueError, match="nonlinearity='tanh' or 'relu'"):
        interop.from_state_dict(plain)


def test_modules_that_are_not_read():
    transposed = Tensors().add(a__weight=(3, 4, 2, 2), a__bias=(4,))
    with pytest.raises(ValueError, match="'a'.*transposed convolution, which is not read"):
        interop.from_state_dict(transposed, stride=1, padding=0, pool="none")
    decoder = encoder_tensors("", 1, 6, 5)
    decoder.put("layers.0.multihead_attn.in_proj_weight", (18, 6))
    with pytest.raises(ValueError, match="'layers.0.multihead_attn.in_proj_weight' is.*decoder"):
        interop.from_state_dict(decoder, heads=2, activation="relu", norm_first=False)
    normed = Tensors().add(a__bias=(4,), a__parametrizations__weight__original0=(4, 1))
    with pytest.raises(ValueError, match="'a' has tensors.*do not tell what it is"):
        interop.from_state_dict(normed)


def test_options_that_nothing_reads_and_entries_that_are_no_tensors():
    state, *_ = mlp()
    with pytest.raises(TypeError, match="no layer has a setting 'heads'"):
        interop.from_state_dict(state, activation="relu", heads=2)
    with pytest.raises(TypeError, match="resnet has no option 'heads'"):
        interop.from_state_dict(resnet_tensors((4, 5), 3), heads=2)
    with pytest.raises(
        TypeError, match=r"'state_dict' is Tensors, not a tensor.*checkpoint\['state_dict'\]"
    ):
        interop.from_state_dict({"state_dict": state, "epoch": 3})
    with pytest.raises(ValueError, match="no floating-point tensors"):
        interop.from_state_dict({})
    fn, params = interop.from_state_dict(
        {**state, "mask": np.ones(3, "float32")}, activation="relu", ignore=["^mask$"]
    )
    assert list(fn.rest) == ["mask"]
    with pytest.raises(ValueError, match="params has no '0/kernel'"):
        interop.to_state_dict({"0": {}}, fn)
