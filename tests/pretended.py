"""A GPU pretended on the CPU, so that code for GPUs is tested where there is none.

Tensors `on cuda:0` are wrappers around CPU tensors: values are real, mixed devices are refused, and whatever would make the
CPU wait for a GPU is counted with its place in embprobe. CUDA graphs are recorded operation by operation, with the numbers
that they were given, and replayed on the memory of the recording, so that what a recording freezes is frozen here too.
What it can't tell: speed, rounding, which algorithms are deterministic.
"""

import contextlib
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

CUDA = torch.device("cuda", 0)
WAITING = {  # operations whose result's shape or success the CPU must know
    *("nonzero", "_local_scalar_dense", "masked_select", "unique_consecutive", "_unique2", "unique_dim", "is_nonzero"),
    *(
        "equal",
        "bincount",
        "_linalg_eigh",
        "_linalg_svd",
        "linalg_qr",
        "histc",
        "linalg_cholesky_ex",
        "linalg_lu_factor_ex",
    ),
}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}


class Waits:
    """What would have waited for the GPU: how often, by (what, place in embprobe)."""

    def __init__(self) -> None:
        self.count: Counter[tuple[str, str]] = Counter()
        self.operations = 0

    def add(self, what: str) -> None:
        if RECORDING:
            raise RuntimeError(f"{what} is not permitted while a graph is recorded ({_place()})")
        self.count[what, _place()] += 1

    def clear(self) -> None:
        self.count.clear()
        self.operations = 0


WAITS = Waits()
RECORDING: list["Graph"] = []


def _place() -> str:
    for frame in reversed(traceback.extract_stack()):
        if "/embprobe/" in frame.filename and "/tests/" not in frame.filename:
            return f"{frame.filename.rpartition('/embprobe/')[2]}:{frame.lineno}"
    return "outside embprobe"


class OnGpu(torch.Tensor):
    """A tensor that says that it lies on cuda:0; its values are `held` on the CPU."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "OnGpu":
        self = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            layout=held.layout, device="meta", requires_grad=False,
        )  # fmt: skip
        self.held = held
        return self  # type: ignore[no-any-return]

    device = property(lambda self: CUDA)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]
    is_meta = property(lambda self: False)  # type: ignore[assignment]

    def __repr__(self, **_: object) -> str:  # type: ignore[override]
        return f"OnGpu({tuple(self.shape)}, {self.dtype})"

    def get_device(self) -> int:
        return 0

    def numpy(self, *_: object, **__: object) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    __array__ = numpy

    def tolist(self) -> Any:
        WAITS.add("tolist")
        return self.held.tolist()

    def new_tensor(self, data: Any, **options: Any) -> "OnGpu":
        WAITS.add("copy of a Python value")
        options.pop("device", None)
        return OnGpu(self.held.new_tensor(data, **options))

    def record_stream(self, *_: object) -> None: ...

    def pin_memory(self, *_: object) -> torch.Tensor:
        raise RuntimeError("only dense CPU tensors can be pinned")

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in PRODUCTS and len(args) == 2 and 1 in (args[0].dim(), args[1].dim()):
            return _product_with_vectors(*(args if func is not torch.Tensor.__rmatmul__ else args[::-1]))
        return torch._C._disabled_torch_function_impl(func, types, args, kwargs or {})  # type: ignore[attr-defined]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


PRODUCTS = (torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.Tensor.__rmatmul__)


def _product_with_vectors(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """For which the shape rules of the wrappers' own kind of tensor have no kernel."""
    if a.dim() == b.dim() == 1:
        return (a * b).sum()
    return (a[None] @ b).squeeze(-2) if a.dim() == 1 else (a @ b[:, None]).squeeze(-1)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, OnGpu) else value


def _is_gpu(device: Any) -> bool:
    return device is not None and torch.device(device).type in ("cuda", "meta")  # inside PyTorch the wrappers are meta


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    """One operation: on the values, after the checks that a GPU would make."""
    name = func._schema.name.split("::")[1]
    flat, _ = tree_flatten((args, kwargs))
    ours = [a for a in flat if isinstance(a, OnGpu)]
    theirs = [a for a in flat if isinstance(a, torch.Tensor) and not isinstance(a, OnGpu)]
    device = kwargs.get("device")
    if name in ("_to_copy", "copy_"):
        moved = _moved(func, name, args, kwargs)
        if moved is not NotImplemented:
            return moved
    if not ours and not _is_gpu(device):
        made = func(*args, **(kwargs | ({"pin_memory": False} if kwargs.get("pin_memory") else {})))
        if kwargs.get("pin_memory"):
            made.pinned = True
        return made
    if name in ("is_pinned",):
        return False
    WAITS.operations += 1
    _check(func, name, args, ours, theirs, device)
    options = dict(kwargs)
    if device is not None:
        options["device"] = "cpu"
    options.pop("pin_memory", None)
    if RECORDING:
        RECORDING[-1].keep(func, args, kwargs)
    out = func(*tree_map(_held, args), **tree_map(_held, options))
    if name in ("_local_scalar_dense", "equal", "is_nonzero") or (device is not None and not _is_gpu(device)):
        return out
    known = {id(t.held): t for t in ours}

    def wrapped(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return known[id(value)] if id(value) in known else OnGpu(value)

    if RECORDING:
        RECORDING[-1].add(func, args, options, out)
    return tree_map(wrapped, out)


def _moved(func: Any, name: str, args: Any, kwargs: Any) -> Any:
    """Copies between the devices; NotImplemented for one that stays on its own."""
    if name == "copy_":
        target, source = args[0], args[1]
        patient = not (args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
        if isinstance(target, OnGpu) == isinstance(source, OnGpu):
            return NotImplemented
        _cross(source, patient, up=isinstance(target, OnGpu))
        _held(target).copy_(_held(source))
        return target
    source, target = args[0], kwargs.get("device")
    options = {k: v for k, v in kwargs.items() if k not in ("device", "non_blocking", "pin_memory")}
    patient = not kwargs.get("non_blocking", False)
    if isinstance(source, OnGpu):
        if target is None or _is_gpu(target):
            return NotImplemented
        _cross(source, patient, up=False)
        return func(source.held, **options)
    if not _is_gpu(target):
        return NotImplemented
    _cross(source, patient, up=True)
    return OnGpu(func(source, **options))


def _cross(source: torch.Tensor, patient: bool, *, up: bool) -> None:
    if RECORDING:
        raise RuntimeError(f"a copy between devices can't be recorded ({_place()})")
    if patient:
        WAITS.add("copy to the GPU" if up else "copy from the GPU")
    elif up and not getattr(source, "pinned", False) and source.numel() > 1:
        WAITS.add("copy to the GPU from memory that is not pinned")


def _check(func: Any, name: str, args: Any, ours: list[Any], theirs: list[Any], device: Any) -> None:
    where = f"{func} at {_place()}"
    if name in WAITING:
        WAITS.add(name)
    large = [t for t in theirs if t.dim() > 0]
    if ours and name in INDEXING:
        indices = [i for i in args[1] if i is not None]
        if not isinstance(args[0], OnGpu):
            raise RuntimeError(f"indices should be either on cpu or on the same device as the indexed tensor: {where}")
        if any(not isinstance(i, OnGpu) for i in indices):
            WAITS.add("indices on the CPU")
        if any(_held(i).dtype in (torch.bool, torch.uint8) for i in indices):
            WAITS.add("a mask as index")
        large = [t for t in large if not any(t is i for i in indices)]
    if ours and large:
        shapes = [tuple(t.shape) for t in large]
        raise RuntimeError(f"Expected all tensors to be on the same device, but found cuda:0 and cpu {shapes}: {where}")
    for value in (*args,):
        if isinstance(value, torch.Generator) and value.device.type == "cpu":
            raise RuntimeError(f"Expected a 'cuda' device type for generator but found 'cpu': {where}")


class Devices(TorchDispatchMode):
    """Sends what is made on `cuda`, from nothing, there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


# ---- graphs


class Graph:
    """A CUDA graph: what was recorded, and the memory it works on."""

    def __init__(self) -> None:
        self.steps: list[tuple[Any, Any, Any, Any]] = []
        self.replays = 0
        self.before: list[tuple[torch.Tensor, torch.Tensor]] = []

    def keep(self, func: Any, args: Any, kwargs: Any) -> None:
        """Remembers what an operation is about to write over."""
        silent = {"running_mean", "running_var"} if "batch_norm" in func._schema.name else set()
        for number, argument in enumerate(func._schema.arguments):
            if argument.name in silent or (argument.alias_info is not None and argument.alias_info.is_write):
                value = args[number] if number < len(args) else kwargs.get(argument.name)
                written = [_held(t) for t in tree_flatten(value)[0] if isinstance(t, OnGpu)]
                self.before += [(t, t.clone()) for t in written]

    def add(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        self.steps.append((func, tree_map(self._kept, args), tree_map(self._kept, kwargs), out))

    def _kept(self, value: Any) -> Any:
        if isinstance(value, OnGpu):
            return value.held
        return value.clone() if isinstance(value, torch.Tensor) else value  # a CPU scalar, by its value

    def replay(self) -> None:
        assert not RECORDING
        self.replays += 1
        for func, args, kwargs, out in self.steps:
            again = func(*args, **kwargs)
            for old, new in zip(tree_flatten(out)[0], tree_flatten(again)[0], strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@contextlib.contextmanager
def recorded(graph: Graph, **_: object) -> Iterator[None]:
    """Nothing is computed while a graph is recorded: what changes here goes back at the end."""
    RECORDING.append(graph)
    try:
        yield
    finally:
        RECORDING.pop()
        for tensor, value in reversed(graph.before):
            tensor.copy_(value)
        graph.before.clear()


class _Stream:
    """Work in order, as on the CPU."""

    def __init__(self, *_: object, **__: object) -> None: ...
    def wait_stream(self, other: object) -> None: ...
    def wait_event(self, other: object) -> None: ...
    def synchronize(self) -> None: ...
    def record(self, *_: object) -> None: ...
    def query(self) -> bool:
        return True


def install(patch: Callable[[Any, str, Any], None]) -> Devices:
    """Puts the pretended GPU in place; `patch` is pytest's `monkeypatch.setattr`, or the builtin."""
    make = torch.tensor

    def tensor(data: Any, *args: Any, device: Any = None, **options: Any) -> torch.Tensor:
        if not _is_gpu(device):
            return make(data, *args, device=device, **options)
        WAITS.add("copy of a Python value")
        return OnGpu(make(data, *args, **options))

    def pinned(self: torch.Tensor, *_: object) -> torch.Tensor:
        copy = self.clone()
        copy.pinned = True  # type: ignore[attr-defined]
        return copy

    answers: dict[str, Any] = {
        "is_available": True, "device_count": 1, "_lazy_init": None, "is_bf16_supported": True, "synchronize": None,
        "get_device_name": "Pretended GPU", "manual_seed_all": None, "is_initialized": False, "current_device": 0,
        "max_memory_allocated": 1 << 20, "reset_peak_memory_stats": None, "mem_get_info": (1 << 36, 1 << 37),
        "current_stream": _Stream(), "empty_cache": None, "is_current_stream_capturing": False,
    }  # fmt: skip
    for name, answer in answers.items():
        patch(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    for name in ("Stream", "Event"):
        patch(torch.cuda, name, _Stream)
    patch(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    patch(torch.cuda, "CUDAGraph", Graph)
    patch(torch.cuda, "graph", recorded)
    patch(torch, "tensor", tensor)
    patch(torch.Tensor, "pin_memory", pinned)
    patch(torch.optim.Optimizer, "_accelerator_graph_capture_health_check", lambda self: None)
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # wrappers can't swap their data
    WAITS.clear()
    return Devices()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Waits]:
    """Within the test, `--device cuda` is the pretended one; the waits so far."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    allowed = (
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
    )
    with install(monkeypatch.setattr):
        yield WAITS
    torch.__future__.set_overwrite_module_params_on_conversion(before)
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = allowed[:2]
    torch.use_deterministic_algorithms(allowed[2], warn_only=False)
