"""Torch files without torch: what is read, what is refused, and that nothing ever runs."""

import io
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsljax.interop import torch_pickle
from wsljax.interop.torch_file import (
    TorchFileError,
    UnknownGlobal,
    read_pickle,
    read_torch,
    write_torch,
)
from wsljax.interop.torch_writer import _Pickle

P = b"\x80\x02"  # protocol 2


def archive(
    code: bytes, storages=(), *, compression=zipfile.ZIP_STORED, extra=(), top="a"
) -> bytes:
    """A torch file with a pickle of our own."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        file.writestr(f"{top}/data.pkl", code)
        for i, data in enumerate(storages):
            file.writestr(f"{top}/data/{i}", data)
        file.writestr(f"{top}/version", "3\n")
        for name, data in extra:
            file.writestr(name, data)
    return out.getvalue()


def plain(value) -> bytes:
    """The code of a tree without arrays, without protocol and end."""
    made = _Pickle()
    made.put(value, "test")
    return bytes(made.code)


def tensor(size, stride, *, offset=0, count=4, kind="FloatStorage", key="0") -> bytes:
    storage = b"(" + plain("storage") + f"ctorch\n{kind}\n".encode() + plain(key) + plain("cpu")
    storage += plain(count) + b"tQ"
    args = (
        storage + plain(offset) + plain(size) + plain(stride) + b"\x89ccollections\nOrderedDict\n)R"
    )
    return P + b"ctorch._utils\n_rebuild_tensor_v2\n(" + args + b"tR."


FOUR = np.arange(4, dtype=np.float32).tobytes()
TREE = {
    "weights": [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((3, 1), np.float64)],
    "nested": OrderedDict([("a", (1, -2, 2**40, 2**900, 0.5, None, True, "é")), (3, [])]),
    "half": np.float16([1, 2]),
    "brain": jnp.bfloat16([1.5, -2]),
    "eighth": jnp.ones(3, jnp.float8_e4m3fn),
    "ints": [
        np.arange(3, dtype=d) for d in "int8 int16 int32 int64 uint8 uint16 uint32 uint64".split()
    ],
    "complex": np.complex64([1 + 2j]),
    "mask": np.array([[True, False]]),
    "scalar": np.float32(3),
    "zero": np.zeros((0, 4), np.float32),
    "zero-d": np.array(2.0),
}


def same(a, b) -> bool:
    if hasattr(a, "shape") and not isinstance(a, (np.floating, np.integer)):
        a, b = np.asarray(a), np.asarray(b)
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b


# -- what is read ----------------------------------------------------------------------------------


def test_round_trip(tmp_path):
    write_torch(TREE, tmp_path / "tree.pth")
    back = read_torch(tmp_path / "tree.pth")
    assert same(TREE, back)
    assert isinstance(back["nested"], OrderedDict)
    assert [f.name for f in tmp_path.iterdir()] == ["tree.pth"]


def test_bytes_and_mapped_files_read_alike(tmp_path):
    path = tmp_path / "tree.pth"
    write_torch(TREE, path)
    assert same(read_torch(path.read_bytes()), read_torch(path, mmap=True))


def test_equal_trees_give_equal_files_with_aligned_storages(tmp_path):
    for name in ("x/a.pth", "y/a.pth"):
        (tmp_path / name).parent.mkdir()
        write_torch(TREE, tmp_path / name)
    data = (tmp_path / "x/a.pth").read_bytes()
    assert data == (tmp_path / "y/a.pth").read_bytes()
    place = data.index(np.arange(6, dtype=np.float32).tobytes())
    assert place % 64 == 0


def test_an_array_in_two_places_is_stored_once(tmp_path):
    w = np.ones(100, np.float32)
    write_torch({"a": w, "b": w}, tmp_path / "a.pth")
    back = read_torch(tmp_path / "a.pth")
    assert np.shares_memory(back["a"], back["b"])
    with zipfile.ZipFile(tmp_path / "a.pth") as file:
        assert sum("/data/" in name for name in file.namelist()) == 1


def test_views_have_offsets_and_strides():
    x = np.arange(12, dtype=np.float32)
    read = read_torch(archive(tensor((3, 2), (1, 4), offset=2, count=12), [x.tobytes()]))
    np.testing.assert_array_equal(read, x[2:].reshape(-1)[[[0, 4], [1, 5], [2, 6]]])
    expanded = read_torch(archive(tensor((5,), (0,), offset=1, count=12), [x.tobytes()]))
    assert expanded.tolist() == [1.0] * 5
    odd = read_torch(archive(tensor((1, 2), (2**90, 1), count=12), [x.tobytes()]))
    assert odd.tolist() == [[0.0, 1.0]]  # the stride of an axis of one is never used


def test_arrays_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        read_torch(archive(tensor((4,), (1,)), [FOUR]))[0] = 1


@pytest.mark.parametrize("name", ["float32", "bfloat16", "complex64", "int64", "uint8"])
def test_big_endian_files(name):
    values = np.asarray(jnp.arange(4).astype(name)) if name != "int64" else np.arange(4)
    width = values.itemsize // (2 if values.dtype.kind == "c" else 1)
    swapped = np.frombuffer(values.tobytes(), f"u{width}").byteswap().tobytes()
    kind = {"float32": "Float", "bfloat16": "BFloat16", "complex64": "ComplexFloat"}
    kind = kind.get(name, {"int64": "Long", "uint8": "Byte"}.get(name)) + "Storage"
    data = archive(tensor((4,), (1,), kind=kind), [swapped], extra=[("a/byteorder", "big")])
    assert same(read_torch(data), values)


def test_unknown_byte_order():
    data = archive(tensor((4,), (1,)), [FOUR], extra=[("a/byteorder", "middle")])
    with pytest.raises(TorchFileError, match="byte order"):
        read_torch(data)


def test_numbers_of_numpy_in_a_checkpoint():
    value = {
        "acc": np.float64(0.5),
        "step": np.int32(7),
        "grid": np.arange(6).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
        "none": np.zeros((0, 2)),
    }
    for protocol in (2, 3, 4, 5):
        back = read_pickle(pickle.dumps(value, protocol))
        for name, item in value.items():
            np.testing.assert_array_equal(back[name], item)
        assert back["big"].dtype.isnative
        assert isinstance(back["acc"], np.float64)


def test_plain_objects_of_the_standard_library():
    import argparse
    import pathlib
    from collections import Counter, defaultdict

    value = {
        "args": argparse.Namespace(lr=0.1, name="x"),
        "path": pathlib.PurePosixPath("a/b"),
        "counts": Counter("aab"),
        "default": defaultdict(list, {"k": [1]}),
        "set": {1, 2},
        "frozen": frozenset({3}),
        "complex": 1 + 2j,
        "bytes": b"ab",
        "array": bytearray(b"cd"),
        ("tuple", 1): "key",
    }
    for protocol in (2, 4, 5):
        back = read_pickle(pickle.dumps(value, protocol))
        assert back["args"] == {"lr": 0.1, "name": "x"}
        assert back["path"] == "a/b"
        assert back["counts"] == {"a": 2, "b": 1} and back["default"] == {"k": [1]}
        assert back["set"] == {1, 2} and back["frozen"] == {3} and back["complex"] == 1 + 2j
        assert bytes(back["array"]) == b"cd" and back["bytes"] == b"ab"
        assert back["tuple", 1] == "key"


class Dataset:
    def __init__(self):
        self.data, self.name = [np.arange(3.0)], "zoo"


def test_inert_classes_become_their_attributes():
    name = f"{Dataset.__module__}.Dataset"
    data = pickle.dumps({"train": Dataset()})
    with pytest.raises(UnknownGlobal, match="inert") as error:
        read_pickle(data)
    assert error.value.name == name
    for inert in ({name}, True):
        back = read_pickle(data, inert=inert)
        assert back["train"]["name"] == "zoo"
        np.testing.assert_array_equal(back["train"]["data"][0], np.arange(3.0))


# -- no code runs ----------------------------------------------------------------------------------


class Attack:
    def __reduce__(self):
        return exec, (f"import pathlib; pathlib.Path({self.path!r}).touch()",)


@pytest.mark.parametrize("inert", [False, True])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_code_in_a_pickle_never_runs(tmp_path, protocol, inert):
    attack = Attack()
    attack.path = str(tmp_path / "ran")
    code = pickle.dumps({"w": attack}, protocol)
    for read, data in ((read_pickle, code), (read_torch, archive(code))):
        if inert:
            assert read(data, inert=True)["w"].startswith("import pathlib")
        else:
            with pytest.raises(UnknownGlobal, match="builtins.exec.*nothing was run.*trusted=True"):
                read(data)
    assert not (tmp_path / "ran").exists()


def test_trusted_is_the_only_way_to_run(tmp_path):
    attack = Attack()
    attack.path = str(tmp_path / "ran")
    data = archive(pickle.dumps(attack, 2))
    read_torch(data, trusted=True)
    assert (tmp_path / "ran").exists()


def test_trusted_files_still_need_no_torch(tmp_path):
    write_torch({"w": np.ones(3, np.float32)}, tmp_path / "a.pth")
    assert same(read_torch(tmp_path / "a.pth", trusted=True), {"w": np.ones(3, np.float32)})


NAMES = [
    "os.system",
    "builtins.eval",
    "builtins.getattr",
    "torch.load",
    "torch.hub.load",
    "torch._utils._rebuild_sparse_tensor",
    "torch.jit._pickle.build_intlist",
    "numpy.testing._private.utils.runstring",
    "numpy.load",
    "functools.partial",
    "operator.attrgetter",
    "collections.namedtuple",
    "pathlib.Path.unlink",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_not_listed_are_refused(name):
    module, _, function = name.rpartition(".")
    for code in (
        P + f"c{module}\n{function}\n.".encode(),
        b"\x80\x04" + plain(module) + plain(function) + b"\x93.",
    ):
        with pytest.raises(UnknownGlobal, match=name.replace(".", r"\.")):
            read_torch(archive(code))


def test_every_listed_constructor_survives_odd_arguments():
    """Fuzz: whatever a pickle hands to a constructor, the answer is data or our own error."""
    from wsljax.interop import torch_tensors

    known = torch_tensors.torch_globals(torch_tensors.TensorMaker(1000))
    known |= torch_tensors.plain_globals()
    odd = [(), [], {}, "x", b"x", -1, 2**70, None, 1.5, ((1, 2),), [(1, 2, 3)], {"a": 1}, "f8"]
    tried = 0
    for entry in known.values():
        if entry.call is None:
            continue
        for first in odd:
            for args in ((), (first,), (first, first), (first,) * 4, (first,) * 7):
                tried += 1
                try:
                    out = entry.call(*args)
                except (ValueError, TypeError, KeyError, IndexError):
                    continue
                if hasattr(out, "set_state"):
                    for state in odd + [(1,) * 5, (3, "<", None, None, None, -1, -1, 0)]:
                        try:
                            out.set_state(state)
                        except (ValueError, TypeError):
                            continue
    assert tried > 1000


# -- hostile pickles -------------------------------------------------------------------------------

LAUGHS = b"".join([b"](", *[b"h\x00"] * 10, b"eq\x00"])
BAD_PICKLES = {
    "ends early": (P + b"(K\x01", "too early"),
    "no end": (P + b"K\x01", "too early"),
    "two objects": (P + b"K\x01K\x02.", "one object"),
    "nothing": (P + b".", "one object"),
    "open mark": (P + b"(K\x01.", "one object"),
    "empty stack": (P + b"\x85.", "stack is empty"),
    "no mark": (P + b"K\x01t.", "IndexError|pop"),
    "unknown opcode": (P + b"\xff.", "opcode"),
    "protocol 0 text integer": (P + b"I1\n.", "opcode b'I'"),
    "inst": (P + b"(ios\nsystem\n.", "opcode b'i'"),
    "obj": (P + b"(o.", "opcode b'o'"),
    "extension": (P + b"\x82\x01.", "opcode"),
    "out of band buffer": (b"\x80\x05\x97.", "opcode"),
    "text persistent id": (P + b"P1\n.", "opcode b'P'"),
    "protocol 9": (b"\x80\x09N.", "protocol 9"),
    "missing memo": (P + b"h\x05.", "BINGET"),
    "huge integer": (
        P + b"\x8b" + struct.pack("<i", 200) + b"\x01" * 200 + b".",
        "integer of more",
    ),
    "negative integer length": (P + b"\x8b" + struct.pack("<i", -1) + b".", "LONG4"),
    "integer beyond the end": (P + b"\x8b" + struct.pack("<i", 2**31 - 1) + b".", "LONG4"),
    "endless text": (P + b"X" + struct.pack("<I", 2**32 - 1) + b"a.", "BINUNICODE"),
    "more endless text": (b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"a.", "BINUNICODE8"),
    "endless bytes": (b"\x80\x04\x8e" + struct.pack("<Q", 2**63) + b"a.", "BINBYTES8"),
    "not text": (P + b"X" + struct.pack("<I", 2) + b"\xff\xfe.", "BINUNICODE"),
    "a list as a key": (P + b"}]K\x01s.", "list as a key"),
    "a nested tuple as a key": (P + b"})\x85\x85K\x01s.", "tuple as a key"),
    "sets items of a list": (P + b"]K\x01K\x02s.", "list"),
    "appends to a dict": (P + b"}K\x01a.", "appends to a dict"),
    "odd items": (P + b"}(K\x01u.", "1 items"),
    "calls a number": (P + b"K\x01)R.", "calls 'int'"),
    "calls without a tuple": (P + b"ccollections\nOrderedDict\n]R.", "with a list"),
    "calls a type": (P + b"cbuiltins\nint\n)R.", "builtins.int"),
    "attributes of a number": (P + b"K\x01}b.", "attributes of a int"),
    "a name that is not text": (b"\x80\x04K\x01K\x02\x93.", "not text"),
    "storage that is none": (P + b"K\x01Q.", "reference"),
    "contains itself": (P + b"]q\x00h\x00a.", "contains itself"),
    "billion laughs": (
        P + b"K\x01q\x00" + LAUGHS * 30 + b"h\x00" + b"].",
        "unfolds into|one object",
    ),
    "deep nesting": (P + b"]" * 5000 + b"a" * 4999 + b".", "nested deeper"),
    "deep tuples": (P + b")" + b"\x85" * 50_000 + b".", "nested deeper"),
}


@pytest.mark.parametrize("case", BAD_PICKLES)
def test_bad_pickles(case):
    code, message = BAD_PICKLES[case]
    for read, data in ((read_torch, archive(code)), (read_pickle, code)):
        if case == "storage that is none" and read is read_pickle:
            message = "outside of itself"
        with pytest.raises(TorchFileError, match=message):
            read(data)


def test_billion_laughs_are_counted_not_unfolded():
    code = P + b"K\x01q\x00" + b"0" + LAUGHS * 30 + b"."
    code = code.replace(b"eq\x00](", b"eq\x000](")  # keep the last list only
    with pytest.raises(TorchFileError, match="unfolds into more than"):
        read_torch(archive(code))
    few = P + b"K\x01q\x000" + LAUGHS + b"0" + LAUGHS + b"."
    back = read_torch(archive(few))
    assert len(jax.tree.leaves(back)) == 100 and back[0] is back[1]


def test_a_hash_of_tuples_of_tuples_is_never_taken():
    """Sixty tuples of pairs hash in 2**60 steps; the key is refused first."""
    code = P + b")q\x000" + b"h\x00h\x00\x86q\x000" * 60 + b"}h\x00K\x01s."
    with pytest.raises(TorchFileError, match="tuple as a key"):
        read_torch(archive(code))


def test_random_damage_is_an_error_or_data(tmp_path):
    """Bytes changed at random: never another exception, never a hang, never a crash."""
    write_torch({"w": [np.arange(4.0)], "meta": (1, "x", None)}, tmp_path / "a.pth")
    whole = bytearray((tmp_path / "a.pth").read_bytes())
    rng = np.random.default_rng(0)
    errors = 0
    for _ in range(400):
        data = whole.copy()
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(256)
        if rng.random() < 0.2:
            data = data[: rng.integers(len(data))]
        try:
            read_torch(bytes(data), check_crc=bool(rng.random() < 0.5))
        except TorchFileError:
            errors += 1
    assert errors > 200


# -- hostile tensors -------------------------------------------------------------------------------

BAD_TENSORS = {
    "storage too short": (tensor((5,), (1,)), "needs 5 elements"),
    "view beyond the end": (tensor((2,), (1,), offset=3), "needs 5 elements"),
    "stride beyond the end": (tensor((2,), (4,)), "needs 5 elements"),
    "negative size": (tensor((-1,), (1,)), "size of -1"),
    "negative stride": (tensor((2,), (-1,), offset=3), "stride of -1"),
    "negative offset": (tensor((1,), (1,), offset=-1), "offset of -1"),
    "size that is no integer": (tensor((1.5,), (1,)), "size of float"),
    "size that is true": (tensor((True,), (1,)), "size of True|size of bool"),
    "huge size": (tensor((2**62, 2**62), (1, 1)), "needs"),
    "huge expansion": (tensor((2**40,), (0,)), "max_bytes"),
    "ranks differ": (tensor((2, 2), (1,)), "2 sizes and 1 strides"),
    "sizes as a list": (tensor([2], (1,)), "size is a list"),
    "65 axes": (tensor((1,) * 65, (1,) * 65), "size is a tuple"),
    "more elements than bytes": (tensor((4,), (1,), count=5), "16 bytes for 5"),
    "negative count": (tensor((4,), (1,), count=-1), "without a size"),
    "missing storage": (tensor((4,), (1,), key="7"), "no storage '7'"),
    "storage of another folder": (tensor((4,), (1,), key="../version"), "no storage"),
    "wrong storage type": (tensor((4,), (1,), kind="Tensor"), "type"),
}


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_bad_tensors(case):
    code, message = BAD_TENSORS[case]
    with pytest.raises(TorchFileError, match=message):
        read_torch(archive(code, [FOUR]))


def test_booleans_are_zero_or_one():
    code = tensor((4,), (1,), kind="BoolStorage")
    assert read_torch(archive(code, [b"\0\1\1\0"])).tolist() == [False, True, True, False]
    with pytest.raises(TorchFileError, match="neither 0 nor 1"):
        read_torch(archive(code, [b"\0\1\2\0"]))


# -- hostile archives ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "a\\..\\x", "C:/x", "a/./x"])
def test_names_that_point_elsewhere(name):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("a/data.pkl", P + b"N.")
        info = zipfile.ZipInfo("x")
        info.filename = info.orig_filename = name
        file.writestr(info, b"")
    with pytest.raises(TorchFileError, match="name|points out"):
        read_torch(out.getvalue())


def test_zip_bombs():
    zeros = bytes(10**7)
    data = archive(tensor((4,), (1,)), [zeros], compression=zipfile.ZIP_DEFLATED)
    assert len(data) < 20_000
    with pytest.raises(TorchFileError, match="max_ratio"):
        read_torch(data)
    with pytest.raises(TorchFileError, match="max_bytes"):
        read_torch(data, max_bytes=10**6)
    assert read_torch(data, max_ratio=2000).shape == (4,)


def test_a_member_that_unpacks_to_more_than_it_says():
    data = bytearray(archive(tensor((4,), (1,)), [bytes(3000)], compression=zipfile.ZIP_DEFLATED))
    for place in (data.index(struct.pack("<I", 3000)), data.rindex(struct.pack("<I", 3000))):
        data[place : place + 4] = struct.pack("<I", 30)
    with pytest.raises(TorchFileError, match="does not unpack to 30 bytes"):
        read_torch(bytes(data), check_crc=False)


def test_deflated_archives_are_read():
    data = archive(tensor((4,), (1,)), [FOUR], compression=zipfile.ZIP_DEFLATED)
    assert read_torch(data).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_is_refused(method):
    with pytest.raises(TorchFileError, match="packed by method"):
        read_torch(archive(P + b"N.", compression=method))


def change(data: bytes, old: bytes, new: bytes, *, last: bool = False) -> bytes:
    place = data.rindex(old) if last else data.index(old)
    return data[:place] + new + data[place + len(old) :]


def test_encrypted_members():
    data = archive(P + b"N.")
    place = data.index(b"PK\x01\x02") + 8
    with pytest.raises(TorchFileError, match="encrypted"):
        read_torch(data[:place] + b"\x01" + data[place + 1 :])


def test_overlapping_members():
    data = archive(tensor((4,), (1,)), [FOUR, FOUR])
    entries = [i for i in range(len(data)) if data[i : i + 4] == b"PK\x01\x02"]
    offset = data[entries[1] + 42 : entries[1] + 46]
    # two entries of the table for the bytes of one member
    data = data[: entries[2] + 42] + offset + data[entries[2] + 46 :]
    with pytest.raises(TorchFileError, match="share bytes|another name"):
        read_torch(data)


def test_a_member_that_reaches_into_the_next():
    data = bytearray(archive(tensor((4,), (1,)), [FOUR, FOUR]))
    entry = [i for i in range(len(data)) if data[i : i + 4] == b"PK\x01\x02"][1]
    for place in (entry + 20, entry + 24):
        data[place : place + 4] = struct.pack("<I", 100)
    with pytest.raises(TorchFileError, match="share bytes"):
        read_torch(bytes(data))


def test_header_and_table_disagree():
    data = archive(tensor((4,), (1,)), [FOUR])
    with pytest.raises(TorchFileError, match="another name"):
        read_torch(change(data, b"a/data/0", b"a/data/1"))


def test_duplicated_members():
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = archive(tensor((4,), (1,)), [FOUR], extra=[("a/data/0", FOUR)])
    with pytest.raises(TorchFileError, match="two members 'a/data/0'"):
        read_torch(data)


def test_bits_that_flipped():
    data = change(archive(tensor((4,), (1,)), [FOUR]), FOUR, b"\1" + FOUR[1:])
    with pytest.raises(TorchFileError, match="'a/data/0' is damaged.*check_crc=False"):
        read_torch(data)
    assert read_torch(data, check_crc=False)[0] != 0


def test_truncated_files(tmp_path):
    write_torch(TREE, tmp_path / "tree.pth")
    data = (tmp_path / "tree.pth").read_bytes()
    for length in (0, 3, 10, 100, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.pth").write_bytes(data[:length])
        for mmap in (False, True):
            with pytest.raises(TorchFileError, match="cut.pth"):
                read_torch(tmp_path / "cut.pth", mmap=mmap)


def test_archives_of_others():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("hello.txt", "x")
    with pytest.raises(TorchFileError, match="torch did not write it"):
        read_torch(out.getvalue())
    with pytest.raises(TorchFileError, match="TorchScript"):
        read_torch(archive(P + b"N.", extra=[("a/constants.pkl", b"")]))


def test_plain_pickles_are_not_torch_files():
    with pytest.raises(TorchFileError, match="no file of torch|read_pickle"):
        read_torch(pickle.dumps({"a": 1}))


def test_long_pickles(monkeypatch):
    monkeypatch.setattr(torch_pickle, "MAX_PICKLE_BYTES", 100)
    with pytest.raises(TorchFileError, match="has 1"):
        read_torch(archive(P + plain("x" * 100) + b"."))


# -- the legacy layout -----------------------------------------------------------------------------


def legacy(code: bytes, storages: dict, *, little=True, keys=None) -> bytes:
    order = "<" if little else ">"
    header = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": little}]
    out = b"".join(pickle.dumps(value, 2) for value in header) + code
    out += pickle.dumps(list(storages) if keys is None else keys, 2)
    for data in storages.values():
        out += (
            struct.pack(order + "q", data.size)
            + data.astype(data.dtype.newbyteorder(order)).tobytes()
        )
    return out


def legacy_tensor(view: bytes) -> bytes:
    return tensor((2,), (1,)).replace(plain(4) + b"tQ", plain(4) + view + b"tQ")


@pytest.mark.parametrize("little", [True, False])
def test_legacy_files(little):
    x = np.arange(4, dtype=np.float32)
    data = legacy(legacy_tensor(b"N"), {"0": x}, little=little)
    assert read_torch(data).tolist() == [0, 1]
    data = legacy(legacy_tensor(plain(("v", 2, 2))), {"0": x}, little=little)
    assert read_torch(data).tolist() == [2, 3]


def test_hostile_legacy_files():
    x = np.arange(4, dtype=np.float32)
    good = legacy_tensor(b"N")
    cases = [
        (legacy(good, {"0": x})[:-1], "cut short"),
        (legacy(good, {"0": x[:3]}), "cut short"),
        (legacy(good, {"0": np.arange(5, dtype=np.float32)}), "another size"),
        (legacy(good, {"0": x}, keys=["1"]), "list of storages"),
        (legacy(good, {"0": x}, keys=[]), "list of storages"),
        (legacy(good, {"0": x}, keys=["0", "0"]), "list of storages"),
        (legacy(legacy_tensor(plain(("v", 3, 2))), {"0": x}), "beyond the end"),
        (legacy(legacy_tensor(plain(("v", -1, 2))), {"0": x}), "beyond the end"),
        (legacy(tensor((2,), (1,), count=2**50), {"0": x}), "larger than the file"),
        (legacy(P + b"cos\nsystem\n.", {}), "os.system"),
    ]
    for data, message in cases:
        with pytest.raises(TorchFileError, match=message):
            read_torch(data)


# -- the writer ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tree, where",
    [
        ({"a": [object()]}, r"the tree\['a'\]\[0\] is a object"),
        ({"a": np.array(["x"])}, r"the tree\['a'\] has the dtype"),
        ({(1, 2): 0}, "key"),
        ({"f": print}, "builtin_function"),
    ],
)
def test_what_cannot_be_written(tmp_path, tree, where):
    with pytest.raises(TypeError, match=where):
        write_torch(tree, tmp_path / "a.pth")
    assert not list(tmp_path.iterdir())


def test_checksums_are_written(tmp_path):
    write_torch({"w": np.arange(3.0)}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as file:
        assert file.testzip() is None
        assert file.getinfo("a/data/0").CRC == zlib.crc32(np.arange(3.0).tobytes())
