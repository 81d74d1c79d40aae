"""Torch files against torch itself, where it is installed."""

import argparse
from collections import OrderedDict

import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from wsljax.interop.torch_file import UnknownGlobal, read_torch, write_torch  # noqa: E402

DTYPES = """float64 float32 float16 bfloat16 complex128 complex64 int64 int32 int16 int8 uint64 uint32
uint16 uint8 float8_e4m3fn float8_e5m2 bool""".split()


def as_bytes(tensor) -> bytes:
    flat = tensor.detach().contiguous().flatten()
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def agrees(array, tensor) -> bool:
    name = "bool" if array.dtype == bool else array.dtype.name
    return (
        array.shape == tuple(tensor.shape)
        and str(tensor.dtype) == f"torch.{name}"
        and np.ascontiguousarray(array).tobytes() == as_bytes(tensor)
    )


def tensors():
    base = torch.arange(24, dtype=torch.float32)
    yield from (torch.arange(6).to(getattr(torch, name)) for name in DTYPES)
    yield base[2:10].reshape(2, 4).t()
    yield base[::3]
    yield base.reshape(2, 3, 4).permute(2, 0, 1)[1:, :, ::2]
    yield base[:1].expand(7)
    yield torch.tensor(3.5)
    yield torch.zeros(0, 3)
    yield torch.zeros(3, 0).t()
    yield torch.nn.Parameter(torch.randn(3))
    yield torch.nn.Buffer(torch.randn(3))
    yield torch.randn(2, requires_grad=True)


@pytest.mark.parametrize("legacy", [False, True])
def test_reads_what_torch_writes(tmp_path, legacy):
    skip = {"uint64", "uint32", "uint16", "float8_e4m3fn", "float8_e5m2"} if legacy else set()
    given = [t for t in tensors() if str(t.dtype).removeprefix("torch.") not in skip]
    path = tmp_path / "a.pth"
    torch.save(given, path, _use_new_zipfile_serialization=not legacy)
    read = read_torch(path)
    assert len(read) == len(given)
    assert all(map(agrees, read, given))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol(tmp_path, protocol):
    value = {
        "net": torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).state_dict(),
        "size": torch.zeros(2, 3).shape,
        "dtype": torch.bfloat16,
        "device": torch.device("cuda:1"),
        "args": argparse.Namespace(lr=0.1),
        "epoch": 3,
        "acc": np.float32(0.5),
    }
    torch.save(value, tmp_path / "a.pth", pickle_protocol=protocol)
    read = read_torch(tmp_path / "a.pth")
    assert isinstance(read["net"], OrderedDict) and list(read["net"]) == list(value["net"])
    assert all(agrees(read["net"][name], value["net"][name]) for name in value["net"])
    assert read["size"] == (2, 3) and read["device"] == "cuda:1" and read["args"] == {"lr": 0.1}
    assert read["dtype"] == jnp.bfloat16 and read["epoch"] == 3 and read["acc"] == np.float32(0.5)


def test_optimiser_state(tmp_path):
    net = torch.nn.Linear(3, 4)
    optimiser = torch.optim.Adam(net.parameters())
    net(torch.ones(3)).sum().backward()
    optimiser.step()
    torch.save(optimiser.state_dict(), tmp_path / "a.pth")
    read = read_torch(tmp_path / "a.pth")
    assert read["param_groups"][0]["lr"] == 1e-3
    assert agrees(read["state"][0]["exp_avg"], optimiser.state_dict()["state"][0]["exp_avg"])


def test_shared_storages_stay_shared(tmp_path):
    x = torch.arange(10.0)
    torch.save({"a": x, "b": x[3:], "c": torch.ones(2)}, tmp_path / "a.pth")
    read = read_torch(tmp_path / "a.pth")
    assert np.shares_memory(read["a"], read["b"]) and not np.shares_memory(read["a"], read["c"])


@pytest.mark.parametrize("case", ["module", "sparse", "function"])
def test_what_is_more_than_data_is_refused(tmp_path, case):
    value = {
        "module": lambda: torch.nn.Linear(2, 2),
        "sparse": lambda: torch.eye(3).to_sparse(),
        "function": lambda: torch.relu,
    }[case]()
    torch.save(value, tmp_path / "a.pth")
    with pytest.raises(UnknownGlobal):
        read_torch(tmp_path / "a.pth")


def test_a_whole_module_is_read_as_attributes(tmp_path):
    net = torch.nn.Linear(2, 3)
    torch.save(net, tmp_path / "a.pth")
    read = read_torch(tmp_path / "a.pth", inert=True)
    assert agrees(read["_parameters"]["weight"], net.weight)


@pytest.mark.parametrize("mmap", [False, True])
def test_torch_reads_what_we_write(tmp_path, mmap):
    tree = OrderedDict(
        weights=[np.asarray(jnp.arange(6).astype(name)).reshape(2, 3) for name in DTYPES],
        brain=jnp.bfloat16([[1.5], [-2]]),
        none=np.zeros((0, 2), np.float32),
        scalar=np.array(2.5),
        transposed=np.arange(6.0).reshape(2, 3).T,
        numbers=(1, -(2**40), 0.5, True, None, "é"),
        deep={"a": {"b": [np.ones(1, np.float32)]}, 3: 4},
    )
    path = tmp_path / "ours.pth"
    write_torch(tree, path)
    read = torch.load(path, weights_only=True, mmap=mmap)
    assert all(map(agrees, tree["weights"], read["weights"]))
    for name in ("brain", "none", "scalar", "transposed"):
        assert agrees(np.asarray(tree[name]), read[name])
    assert read["numbers"] == tree["numbers"] and read["deep"][3] == 4
    assert agrees(tree["deep"]["a"]["b"][0], read["deep"]["a"]["b"][0])
    again = tmp_path / "again.pth"
    torch.save(read, again)
    assert np.array_equal(read_torch(again)["transposed"], tree["transposed"])


def test_the_archive_itself_is_that_of_torch(tmp_path):
    """The same members in the same order, and a pickle that torch's own dump agrees with."""
    import zipfile

    value = {"w": np.arange(4, dtype=np.float32)}
    write_torch(value, tmp_path / "net.pth")
    (tmp_path / "torch").mkdir()
    torch.save({"w": torch.arange(4.0)}, tmp_path / "torch" / "net.pth")
    ours = zipfile.ZipFile(tmp_path / "net.pth")
    theirs = zipfile.ZipFile(tmp_path / "torch" / "net.pth")
    wanted = [name for name in theirs.namelist() if "/." not in name]
    assert [name for name in ours.namelist() if "/." not in name] == wanted
    for name in ("net/data/0", "net/byteorder", "net/version"):
        assert ours.read(name) == theirs.read(name)


def test_omegaconf(tmp_path):
    conf = pytest.importorskip("omegaconf").OmegaConf
    config = conf.create(
        {"n": 2, "names": ["a", "b"], "deep": {"x": 0.5, "none": None, "ok": True}}
    )
    torch.save({"config": config}, tmp_path / "a.pth")
    read = read_torch(tmp_path / "a.pth")
    assert read["config"] == conf.to_container(config)
