"""What the pickles of torch refer to: storages, tensors, and plain classes of other packages."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from wsljax.interop.torch_pickle import (
    Global,
    Record,
    TorchFileError,
    check_key,
    record_of,
)

#: torch's name of a dtype -> numpy's; those that numpy lacks come with jax (ml_dtypes).
DTYPES: dict[str, np.dtype] = {
    name: np.dtype(getattr(jnp, name))
    for name in """float64 float32 float16 bfloat16 complex128 complex64 int64 int32 int16 int8 uint64
    uint32 uint16 uint8 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz""".split()
} | {"bool": np.dtype(bool)}

#: The typed storages of torch, by class name.
STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}


class Storage:
    """The bytes that tensors are views of.

    Attributes:
        data: bytes in the machine's order.
        dtype: of its elements; None: untyped.
    """

    __slots__ = ("data", "dtype")

    def __init__(self, data: Any, dtype: np.dtype | None):
        self.data, self.dtype = data, dtype


class TensorMaker:
    """Makes arrays of storages, within bounds: of each storage, and of memory in all.

    Args:
        max_bytes: of all tensors together, written out (an expanded tensor is larger than its
            storage).
    """

    def __init__(self, max_bytes: int):
        self.max_bytes, self.made = max_bytes, 0

    def __call__(
        self, storage: Any, offset: Any, size: Any, stride: Any, dtype: Any = None
    ) -> np.ndarray:
        """A read-only view of a storage.

        Raises:
            TorchFileError: the view leaves the storage, or sizes or strides are negative.
        """
        if not isinstance(storage, Storage):
            raise TorchFileError(f"a tensor of a {type(storage).__name__} instead of a storage")
        dtype = storage.dtype if dtype is None else dtype
        if not isinstance(dtype, np.dtype):
            raise TorchFileError("a tensor without a dtype")
        _check_natural("offset", offset)
        for what, sizes in (("size", size), ("stride", stride)):
            if not isinstance(sizes, tuple) or len(sizes) > 64:
                raise TorchFileError(f"a tensor whose {what} is a {type(sizes).__name__}")
            for number in sizes:
                _check_natural(what, number)
        if len(size) != len(stride):
            raise TorchFileError(f"a tensor with {len(size)} sizes and {len(stride)} strides")
        count = math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride)) + 1 if count else 0
        held = len(storage.data) // dtype.itemsize
        if last > held:
            raise TorchFileError(f"a tensor needs {last} elements of a storage that has {held}")
        self.made += count * dtype.itemsize
        if self.made > self.max_bytes:
            raise TorchFileError(
                f"its tensors take more than {self.max_bytes} bytes; a larger `max_bytes` allows it"
            )
        if not count:
            return np.zeros(size, dtype)
        strides = [(step if n > 1 else 1) * dtype.itemsize for n, step in zip(size, stride)]
        out = np.ndarray(size, dtype, storage.data, offset * dtype.itemsize, strides)
        out.flags.writeable = False
        return out


def native_bytes(
    data: memoryview, dtype: np.dtype | None, *, swap: bool
) -> memoryview | np.ndarray:
    """The bytes of a storage in the machine's order; booleans are checked to be 0 or 1."""
    if dtype == np.dtype(bool) and np.any(np.frombuffer(data, np.uint8) > 1):
        raise TorchFileError("a storage of booleans that are neither 0 nor 1")
    if not swap or dtype is None or dtype.itemsize == 1:
        return data
    width = dtype.itemsize // (2 if dtype.kind == "c" else 1)
    return np.frombuffer(data, f"u{width}").byteswap().view(np.uint8).data


def torch_globals(make: Callable[..., np.ndarray]) -> dict[str, Global]:
    """The names that torch itself writes, with tensors made by `make`."""

    def rebuild(storage, offset, size, stride, *unused):
        return make(storage, offset, size, stride)

    def rebuild_untyped(storage, offset, size, stride, grad, hooks, dtype, *unused):
        return make(storage, offset, size, stride, _dtype_of(dtype))

    def rebuild_parameter(data, *unused):
        if not isinstance(data, np.ndarray):
            raise TorchFileError(f"a parameter of a {type(data).__name__}")
        return data

    def rebuild_subclass(function, kind, args, state):
        if not isinstance(function, Global) or function.name not in tensors:
            raise TorchFileError("a tensor of a class of its own")
        if not isinstance(kind, Global) or kind.name not in _TENSOR_CLASSES:
            raise TorchFileError(f"a tensor of the class {getattr(kind, 'name', kind)!r}")
        return tensors[function.name].call(*args)  # pyright: ignore[reportOptionalCall]

    tensors = {
        "torch._utils._rebuild_tensor": rebuild,
        "torch._utils._rebuild_tensor_v2": rebuild,
        "torch._utils._rebuild_tensor_v3": rebuild_untyped,
        "torch._utils._rebuild_parameter": rebuild_parameter,
        "torch._utils._rebuild_parameter_with_state": rebuild_parameter,
    }
    calls = {
        **tensors,
        "torch._tensor._rebuild_from_type_v2": rebuild_subclass,
        "torch.Size": _size,
        "torch.device": _device,
    }
    known = {name: Global(name, call) for name, call in calls.items()}
    tensors = {name: known[name] for name in tensors}
    for name, dtype in DTYPES.items():
        known[f"torch.{name}"] = Global(f"torch.{name}", value=dtype)
    for name, dtype in STORAGES.items():
        for module in ("torch", "torch.cuda", "torch.storage"):
            known[f"{module}.{name}"] = Global(f"{module}.{name}", value=DTYPES[dtype])
    for name in ("torch.storage.UntypedStorage", "torch.UntypedStorage", *_TENSOR_CLASSES):
        known[name] = Global(name)
    return known


_TENSOR_CLASSES = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")


def plain_globals() -> dict[str, Global]:
    """Names of the standard library, numpy and OmegaConf that checkpoints hold beside tensors."""
    calls: dict[str, Callable[..., Any]] = {
        "collections.OrderedDict": lambda *args: OrderedDict(_pairs(args)),
        "collections.defaultdict": lambda *args: dict(_pairs(args[1:])),
        "collections.Counter": lambda *args: dict(*_only(args, dict)),
        "builtins.dict": lambda *args: dict(_pairs(args)),
        "builtins.list": lambda *args: list(*_only(args, list, tuple)),
        "builtins.tuple": lambda *args: tuple(*_only(args, list, tuple)),
        "builtins.set": lambda *args: set(map(check_key, *_only(args or ([],), list, tuple))),
        "builtins.frozenset": lambda *args: frozenset(
            map(check_key, *_only(args or ([],), list, tuple))
        ),
        "builtins.complex": lambda *args: complex(*_only(args, int, float, many=True)),
        "builtins.bytes": lambda *args: bytes(*_only(args, bytes)),
        "builtins.bytearray": lambda *args: bytes(*_only(args, bytes, bytearray)),
        "_codecs.encode": _encode,
        "dill._dill._create_array": _dill_array,
        "numpy.dtype": lambda name, *unused: _DType(name),
    }
    for module in ("numpy.core", "numpy._core"):
        calls[f"{module}.multiarray.scalar"] = _scalar
        calls[f"{module}.multiarray._reconstruct"] = lambda *unused: _Array()
        calls[f"{module}.numeric._frombuffer"] = _from_buffer
    for name in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"):
        for module in ("pathlib", "pathlib._local"):
            calls[f"{module}.{name}"] = lambda *parts: "/".join(_only(parts, str, many=True))
    known = {name: Global(name, call) for name, call in calls.items()}
    for name in ("argparse.Namespace", "types.SimpleNamespace"):
        known[name] = record_of(name)
    for name in ("int", "long", "float", "str", "unicode", "bool", "object", "NoneType"):
        known[f"builtins.{name}"] = Global(f"builtins.{name}")
    known |= {name: Global(name) for name in ("numpy.ndarray", "typing.Any")}
    return known | _omegaconf_globals()


def _omegaconf_globals() -> dict[str, Global]:
    """Configurations of OmegaConf: containers and nodes become what they hold."""

    def held(attribute: str) -> Callable[[Record], Any]:
        def finish(record: Record) -> Any:
            if not isinstance(record.state, dict) or attribute not in record.state:
                raise TorchFileError(f"{record.name!r} without its {attribute!r}.")
            return record.state[attribute]

        return finish

    known = {
        "omegaconf.dictconfig.DictConfig": held("_content"),
        "omegaconf.listconfig.ListConfig": held("_content"),
        "omegaconf.base.Metadata": None,
        "omegaconf.base.ContainerMetadata": None,
        "omegaconf.base.SCMode": None,
    }
    for kind in ("Any", "Integer", "Float", "String", "Boolean", "Bytes", "Path", "Enum"):
        known[f"omegaconf.nodes.{kind}Node"] = held("_val")
    return {name: record_of(name, finish) for name, finish in known.items()}


class _DType:
    """A numpy dtype while its pickle is read: a number's, in either byte order."""

    def __init__(self, name: Any):
        if not isinstance(name, str) or name[:1] not in "biufc?" or not name[1:].isdigit():
            raise TorchFileError(f"a numpy dtype {str(name)[:40]!r}; only numbers are read")
        self.dtype = np.dtype(name)

    def set_state(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ("<", ">", "|", "="):
            raise TorchFileError("a numpy dtype without a byte order")
        self.dtype = self.dtype.newbyteorder(order)

    def plain(self) -> np.dtype:
        return self.dtype


class _Array:
    """A numpy array while its pickle is read."""

    def __init__(self) -> None:
        self.array: np.ndarray | None = None

    def set_state(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise TorchFileError("a numpy array without its state")
        _, shape, dtype, fortran, data = state
        self.array = _array(data, dtype, shape, "F" if fortran else "C")

    def plain(self) -> np.ndarray:
        if self.array is None:
            raise TorchFileError("a numpy array without its state.")
        return self.array


def _array(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    data = data.encode("latin1") if isinstance(data, str) else data  # as Python 2 wrote it
    if not isinstance(dtype, _DType) or not isinstance(data, (bytes, bytearray)):
        raise TorchFileError("a numpy array of something else than numbers")
    if not isinstance(shape, tuple) or len(shape) > 64:
        raise TorchFileError("a numpy array without a shape")
    for number in shape:
        _check_natural("size", number)
    if math.prod(shape) * dtype.dtype.itemsize != len(data):
        raise TorchFileError(f"a numpy array of shape {shape} from {len(data)} bytes")
    if not data:
        return np.zeros(shape, dtype.dtype.newbyteorder("="))
    out = np.frombuffer(data, dtype.dtype).reshape(shape, order=order)  # pyright: ignore
    return out.astype(dtype.dtype.newbyteorder("="), copy=False)


def _scalar(dtype: Any, data: Any) -> Any:
    return _array(data, dtype, (), "C")[()]


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    return _array(data, dtype, shape, "F" if order == "F" else "C")


def _dill_array(function: Any, args: Any, state: Any, attributes: Any = None) -> _Array:
    if not isinstance(function, Global) or not function.name.endswith("multiarray._reconstruct"):
        raise TorchFileError("an array of a class of its own")
    out = _Array()
    out.set_state(state)
    return out


def _encode(text: Any, code: Any = "latin1") -> bytes:
    if not isinstance(text, str) or code not in ("latin1", "latin-1", "utf-8", "utf8", "ascii"):
        raise TorchFileError("an encoding that is not plain text's")
    return text.encode(code)


def _size(*args: Any) -> tuple[int, ...]:
    (sizes,) = _only(args, list, tuple)
    for number in sizes:
        _check_natural("size", number)
    return tuple(sizes)


def _device(kind: Any, index: Any = None) -> str:
    _only((kind,), str)
    if index is None:
        return kind
    _check_natural("device index", index)
    return f"{kind}:{index}"


def _dtype_of(dtype: Any) -> Any:
    return dtype.value if isinstance(dtype, Global) else dtype


def _pairs(args: tuple[Any, ...]) -> Any:
    if not args:
        return ()
    (items,) = args
    items = items.items() if isinstance(items, dict) else items
    pairs = [tuple(pair) for pair in items]
    if any(len(pair) != 2 for pair in pairs):
        raise TorchFileError("a dictionary of something else than pairs")
    return [(check_key(key), value) for key, value in pairs]


def _only(args: tuple[Any, ...], *kinds: type, many: bool = False) -> tuple[Any, ...]:
    """The arguments, at most one of them unless `many`, all of these types."""
    if (len(args) > 1 and not many) or not all(isinstance(arg, kinds) for arg in args):
        raise TorchFileError("arguments of another type")
    return args


def _check_natural(what: str, number: Any) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        shown = number if isinstance(number, int) and abs(number) < 2**64 else type(number).__name__
        raise TorchFileError(f"a {what} of {shown}")
