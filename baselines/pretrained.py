"""Weights from files, which others have trained and saved in their own way, for the features of a network."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from headposeplus.errors import TrainingError
from headposeplus.faults import Fault, listed, shown, unreadable
from headposeplus.files import LFS_POINTER, parse_json

_EXPECTED = "the weights of a ResNet18, of PyTorch or safetensors"
_AGAIN = "give another, or download it again"
_ALONE = "in the program that made it, save the weights alone: torch.save(network.state_dict(), FILE)"
_FIRST = "conv1.weight"  # by which a ResNet is found among the tensors of a file
_OWN = re.compile(r"(conv1|bn1|layer\d+)\.")  # the names of a ResNet's features
_UNNEEDED = "num_batches_tracked"  # old files have none
_DEPTH = 8  # of mappings in mappings
_HEADER = 100 << 20  # bytes that the header of a safetensors file may have
_TYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8},
    "BOOL": torch.bool,
}


def fill(features: nn.Module, path: Path, mend: str = _AGAIN) -> str:
    """Load the features of a ResNet18 from a file; return in words what was taken.

    The file may hold more: a head, an optimizer, the tensors of the whole under a name such as ``state_dict`` or
    ``module``. ``mend`` is what to do about a damaged file.

    Raises
    ------
    TrainingError
        If the file is damaged, holds objects whose reading would run code, or not just one ResNet18, or numbers that
        are not finite.
    """
    tensors = dict(_flat(_read(path, mend)))
    prefix = _prefix(tensors, path)
    wanted = features.state_dict()
    found = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    _check_names(found, wanted, path)
    taken = {name: tensor for name, tensor in found.items() if name in wanted}
    for name, tensor in taken.items():
        what = _difference(name, tensor, wanted[name])
        if what:
            raise TrainingError(Fault(what, file=path))
    features.load_state_dict(taken, strict=False)
    for name, tensor in features.state_dict().items():
        if not tensor.isfinite().all() or (name.endswith("running_var") and (tensor < 0).any()):
            what = f"expected finite numbers, and variances that are not negative, found others in {name}"
            raise TrainingError(Fault(what, "give weights of a training that went well", path))
    rest = dict.fromkeys(_seen(_part(name, prefix)) for name in tensors if name.removeprefix(prefix) not in taken)
    left_out = f"; left out: {', '.join(list(rest)[:8])}{', ...' if len(rest) > 8 else ''}" if rest else ""
    return f"{path}: the features of ResNet18 are taken{left_out}; the pose regressor begins anew"


def _read(path: Path, mend: str) -> object:
    """Return what a file of PyTorch or safetensors holds; no code of the file's is run."""
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise TrainingError(unreadable(path, error, _EXPECTED)) from error
    if not start:
        raise TrainingError(Fault(f"expected {_EXPECTED}, found an empty file", mend, path))
    if start.startswith(LFS_POINTER):
        raise TrainingError(Fault("only a pointer of Git LFS", "fetch the file itself: git lfs pull", path))
    if start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
        raise TrainingError(Fault(f"expected {_EXPECTED}, found a web page", "download the file itself", path))
    try:
        if start[8:9] == b"{":
            return _read_safetensors(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has no error of its own: a damaged file raises many kinds
        # Torch's own words advise to let the file run its code.
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found:
            what = f"holds objects, {found[1][:80]} among them, and to read those is to run code"
            raise TrainingError(Fault(what, _ALONE, path)) from error
        if "TorchScript" in str(error):
            raise TrainingError(Fault("holds a program, TorchScript, not weights alone", _ALONE, path)) from error
        what = f"expected {_EXPECTED}, found another or a damaged file"
        raise TrainingError(Fault(what, mend, path)) from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file: 8 bytes for the header's length, a header in JSON, the numbers.

    Raises ValueError, KeyError or TypeError if the file is damaged.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _HEADER:
            raise ValueError("a header that is too long")
        header = parse_json(file.read(length))
        data = file.read()
    tensors = {}
    for name, about in header.items():
        if name == "__metadata__":
            continue
        dtype, shape, (begin, end) = _TYPES[about["dtype"]], about["shape"], about["data_offsets"]
        if not 0 <= begin <= end <= len(data) or end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{name} is not whole")
        numbers = torch.frombuffer(bytearray(data[begin:end]), dtype=dtype) if end > begin else torch.empty(0)
        tensors[name] = numbers.reshape(shape)
    return tensors


def _flat(content: object, name: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in mappings in mappings, some deep, with their names joined by dots."""
    if isinstance(content, Tensor):
        yield name, content
    elif isinstance(content, Mapping) and depth < _DEPTH:  # a mapping may hold itself
        for key, value in content.items():
            yield from _flat(value, f"{name}.{key}" if name else str(key), depth + 1)


def _seen(name: str) -> str:
    """Return a stranger's name as it can be shown."""
    return name if name.isprintable() and len(name) <= 60 else shown(name)


def _prefix(tensors: Mapping[str, Tensor], path: Path) -> str:
    """Return what stands before the names of the one ResNet among tensors: empty, or ending in a dot."""
    starts = [name.removesuffix(_FIRST) for name in tensors if name.endswith(_FIRST)]
    found = [start for start in starts if start[-1:] in ("", ".") and f"{start}layer1.0.{_FIRST}" in tensors]
    # A checkpoint may hold one network by two names.
    found = list({id(tensors[start + _FIRST]): start for start in reversed(found)}.values())[::-1]
    if len(found) == 1:
        return found[0]
    if found:
        names = listed([_seen(start.rstrip(".")) or "the file itself" for start in found], "place")
        raise TrainingError(Fault(f"holds {len(found)} networks ({names})", "save one of them alone", path))
    held = f"found such as {shown(next(iter(tensors)))}" if tensors else "found no tensors"
    what = f"expected the weights of a ResNet18 by torchvision's names, {held}"
    raise TrainingError(Fault(what, "give another file, or use `weights` none", path))


def _check_names(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> None:
    """Raise TrainingError if tensors are not those of a ResNet18, or not all of them."""
    more = [name for name in found if name not in wanted and _OWN.match(name)]
    lacking = [name for name in wanted if name not in found and not name.endswith(_UNNEEDED)]
    for names, word in ((more, "has"), (lacking, "lacks")):
        if names:
            what = f"not the weights of a ResNet18: it {word} {listed(map(_seen, names), 'tensor')}"
            raise TrainingError(Fault(what, "give those of one, by torchvision's names", path))


def _difference(name: str, tensor: Tensor, wanted: Tensor) -> str:
    """Return in words why a tensor cannot stand for another one; empty if it can."""
    if tensor.shape != wanted.shape:
        here, there = (" x ".join(map(str, shape)) for shape in (tensor.shape, wanted.shape))
        return f"{name} is {here}; that of a ResNet18 is {there}"
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        return f"expected plain numbers, found a sparse or an empty tensor in {name}"
    if not (tensor.is_floating_point() or name.endswith(_UNNEEDED)):
        return f"expected floating-point numbers, found {tensor.dtype} in {name}"
    return ""


def _part(name: str, prefix: str) -> str:
    """Return the part of a file's network, or of the file, to which a tensor belongs that is not taken."""
    words, before = name.split("."), prefix.split(".")
    while len(words) > 1 and words[0] == before[0]:
        words, before = words[1:], before[1:]
    return words[0]
