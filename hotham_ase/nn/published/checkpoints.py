"""Weights of the published code's checkpoints as a network of this package."""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from hotham_ase.nn.devices import default_dtype
from hotham_ase.nn.published.gaunt import GauntLayer
from hotham_ase.nn.published.layers import HIDDEN, PublishedLayer, RadialNet
from hotham_ase.nn.published.network import PublishedHotHam
from hotham_ase.nn.published.output import SO2Layer
from hotham_ase.nn.published.readout import IrrepReadout
from hotham_ase.nn.published.settings import CheckpointError, PublishedSettings

#: Last words of the names of tensors that follow from the settings.
_CONSTANTS = (
    "N_average", "output_mask", "mask_m_in", "mask_m_out", "mask_outs", "irreps_index",
    "Ciuv", "RCiuv", "HCiuv", "RCuvi_2l", "sh_z_edge", "sh_z_sc",
)  # fmt: skip


def read_network(
    checkpoint: Path,
    settings: PublishedSettings,
    shells: Sequence[Sequence[int]],
    cutoffs: Sequence[Sequence[float]],
) -> PublishedHotHam:
    """The network of a checkpoint, in its precision; nothing in the file is executed.

    Parameters
    ----------
    checkpoint
        ``cp….pth`` as the published code writes it.
    settings
        Of the same training.
    shells
        Angular momenta of the shells of each species, by atomic number.
    cutoffs : (n_species, n_species)
        Å; the longest hopping of each pair of species.

    Raises
    ------
    CheckpointError
        If the file is damaged or something else, or tensors are missing, left over, of other
        shapes than the settings say, not real or not finite.
    OSError
        If it cannot be read.
    """
    tensors = _Tensors(_read_state(checkpoint), checkpoint)
    _check_channels(settings, tensors)
    with default_dtype(tensors.dtype):
        network = PublishedHotHam(settings.config, shells, cutoffs)
    weights = _convert(tensors, network, rearranged=settings.rearranged)
    tensors.check_used()
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


def _read_state(path: Path) -> dict[str, Tensor]:
    data = path.read_bytes()
    wrong = f"{path} is damaged or not a checkpoint"
    if not data:
        raise CheckpointError(f"{wrong}: it is empty")
    if not data.startswith((b"PK", b"\x80")):
        raise CheckpointError(f"{wrong}: it is neither a zip archive nor a pickle")
    if data.startswith(b"PK"):
        _check_archive(data, wrong)
    try:
        with warnings.catch_warnings():
            # torch's doubts about old formats; what it cannot read is an error anyway
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch would go on with how to load it all the same
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it asks for {foreign[1]}" if foreign else "it is no pickle"
        raise CheckpointError(
            f"{wrong}: {what}, where only tensors and plain values may be; what could run code is "
            "never loaded"
        ) from error
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[0].partition(". ")[0] or "it cannot be unpickled"
        raise CheckpointError(f"{wrong}: {reason}") from error
    except Exception as error:  # a pickle can be damaged so as to raise anything
        raise CheckpointError(f"{wrong}: it cannot be unpickled") from error
    state = content.get("model_state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(x, Tensor) for name, x in state.items()
    ):
        raise CheckpointError(
            f"{path} is not a checkpoint of Hot-Ham: it has no model_state_dict of named tensors"
        )
    for name, x in state.items():
        # what a tensor says it holds must be there: no sparse, virtual or endlessly repeated ones
        if (
            x.layout is not torch.strided
            or x.device.type != "cpu"
            or x.numel() * x.element_size() > x.untyped_storage().nbytes()
        ):
            raise CheckpointError(f"{path}: tensor {name} must be dense and hold all its values")
    return state


def _check_archive(data: bytes, wrong: str) -> None:
    """Refuse archives with wrong checksums, at which torch does not look, or compressed ones.

    torch's are not compressed; such a one may grow without end.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            compressed = any(f.compress_type != zipfile.ZIP_STORED for f in archive.infolist())
            damaged = None if compressed else archive.testzip()
    except (zipfile.BadZipFile, ValueError, OSError, RuntimeError, struct.error) as error:
        raise CheckpointError(f"{wrong}: {error}") from error
    if compressed:
        raise CheckpointError(f"{wrong}: torch does not compress its archives, as this one is")
    if damaged is not None:
        raise CheckpointError(f"{wrong}: the checksum of {damaged} in it is another")


class _Tensors:
    """The tensors of a checkpoint, each taken once and with the shape that the settings ask for."""

    def __init__(self, state: Mapping[str, Tensor], path: Path) -> None:
        self.state, self.path, self.used = state, path, set[str]()

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the numbers."""
        floats = [x.dtype for x in self.state.values() if x.is_floating_point()]
        return torch.float64 if torch.float64 in floats else torch.float32

    def take(self, name: str, *shape: int) -> Tensor:
        """A tensor in a shape; refused if missing, of another size, or no finite real numbers."""
        if name not in self.state:
            raise CheckpointError(f"{self.path}: tensor {name} is missing")
        tensor = self.state[name]
        # e3nn stores flat weights; where it stores matrices, their shape must agree
        if tensor.numel() != math.prod(shape) or (tensor.dim() > 1 and tensor.shape[0] != shape[0]):
            raise CheckpointError(
                f"{self.path}: tensor {name} has shape {tuple(tensor.shape)}, but the settings "
                f"ask for {shape}"
            )
        if not tensor.is_floating_point():
            raise CheckpointError(
                f"{self.path}: tensor {name} must hold real numbers in floating point, "
                f"got {tensor.dtype}"
            )
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{self.path}: tensor {name} has values that are not finite")
        self.used.add(name)
        return tensor.reshape(shape)

    def check_used(self) -> None:
        """Refuse tensors that nobody took and that are no constants of the published code."""
        for name, tensor in self.state.items():
            if name in self.used or tensor.numel() == 0 or name.split(".")[-1] in _CONSTANTS:
                continue
            raise CheckpointError(
                f"{self.path}: tensor {name} has no place in the network that the settings describe"
            )


def _check_channels(settings: PublishedSettings, tensors: _Tensors) -> None:
    """Refuse settings that ask for far more weights than there are, before making these."""
    config, there = settings.config, sum(x.numel() for x in tensors.state.values())
    n_functions, most = config.n_radial, max(*config.channels, *config.odd_channels)
    if max(n_functions, most**2) > there:
        raise CheckpointError(
            f"{settings.path}: basis_size = {n_functions:.6g} and {most:.6g} channels ask for more "
            f"weights than the {there} of the checkpoint"
        )


State = dict[str, Tensor]
Sizes = tuple[int, int]  # natural and pseudo channels


def _convert(tensors: _Tensors, network: PublishedHotHam, *, rearranged: bool) -> State:
    """The network's own state from a checkpoint's tensors."""
    c, n_species = network.config, len(network.shells)
    sizes: list[Sizes] = list(zip(c.channels, c.odd_channels, strict=True))
    out: State = {"species": tensors.take("node_emb.linear.weight", n_species, n_species)}
    first = [tuple(w.shape[1:]) for w in network.first.outputs]
    out |= _radial(tensors, "weight_f", "first", network.first, first)
    n_l, n_out = c.l_max + 1, network.so2.so2.l_out + 1
    for k, module in enumerate(network.convolutions):
        layer = cast(GauntLayer, module)
        source, target = f"GauntConv_layer.{k}", f"convolutions.{k}"
        out |= _common(tensors, source, target, layer, sizes[k], sizes[k + 1], n_l, n_l)
        out |= _gaunt(tensors, f"{source}.weight_gtp", target, layer, sizes[k], sizes[k + 1])
    ends = sizes[-2], sizes[-1]
    out |= _common(tensors, "so2outputlayer", "so2", network.so2, *ends, n_l, n_out)
    out |= _so2(tensors, network.so2, *ends)
    for kind in ("node", "edge"):
        for k, norm in enumerate(getattr(network, f"{kind}_norms")):
            source, target = f"LayerNorm_{kind}.{k}", f"{kind}_norms.{k}"
            degrees = norm.weights[0].shape[0]
            shapes = [(degrees, n) for n in sizes[k + 1] if n]
            n = degrees * sum(sizes[k + 1])
            weights = _split(tensors.take(f"{source}.weight", n), shapes)
            out |= _listed(f"{target}.weights", weights[: len(norm.weights)])
            # all but the natural scalars' are never read
            out[f"{target}.bias"] = tensors.take(f"{source}.bias", n)[: len(norm.bias)]
        readout = getattr(network, f"{kind}_readout")
        out |= _readout(tensors, kind, readout, rearranged=rearranged)
    return out


# In what follows the weights of pseudo parity before the SO(2) layer are taken, so that their
# shapes are checked, and left: they multiply zeros.


def _listed(name: str, weights: Iterable[Tensor]) -> State:
    return {f"{name}.{k}": weight for k, weight in enumerate(weights)}


def _split(flat: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """Cut the last axis into pieces and give these shapes."""
    pieces = flat.split([math.prod(shape) for shape in shapes], dim=-1)
    return [x.unflatten(-1, shape) for x, shape in zip(pieces, shapes, strict=True)]


def _radial(
    tensors: _Tensors, source: str, target: str, net: RadialNet, shapes: Sequence[tuple[int, ...]]
) -> State:
    """A network of radial functions; source has outputs of these shapes, one after the other."""
    width = sum(map(math.prod, shapes))
    last = tensors.take(f"{source}.layer1.weight", HIDDEN, width)
    return {
        f"{target}.hidden": tensors.take(f"{source}.layer0.weight", *net.hidden.shape),
        **_listed(f"{target}.outputs", _split(last, shapes)),
    }


def _gaunt(
    tensors: _Tensors, source: str, target: str, layer: GauntLayer, before: Sizes, after: Sizes
) -> State:
    n_l, channels = layer.product.radial.outputs[0].shape[1:]
    # channels of both parities by degree, filter, mixing of natural, mixing of pseudo parity
    shapes = [(3 * sum(before), n_l), (n_l,), (n_l, channels, after[0])]
    if before[1] and after[1]:
        shapes.append((n_l, 3 * before[1], after[1]))
    name = f"{target}.product.radial"
    state = _radial(tensors, source, name, layer.product.radial, shapes)
    state.pop(f"{name}.outputs.3", None)
    state[f"{name}.outputs.0"] = state[f"{name}.outputs.0"][:, :channels].transpose(1, 2)
    return state


def _by_parity(
    tensors: _Tensors,
    name: str,
    before: Sizes,
    after: Sizes,
    n_l: int,
    n_scalars: int | None = None,
) -> list[Tensor]:
    """Weights of a linear map within each parity and degree, of each parity that has a path."""
    scalars = [] if n_scalars is None else [n_scalars]
    shapes = [(n_l, a, *scalars, b) for a, b in zip(before, after, strict=True) if a and b]
    return _split(tensors.take(f"{name}.weight", sum(map(math.prod, shapes))), shapes)


def _common(
    tensors: _Tensors,
    source: str,
    target: str,
    layer: PublishedLayer,
    before: Sizes,
    after: Sizes,
    n_in: int,
    n_out: int,
) -> State:
    """What all layers share."""
    out: State = {}
    # self-connection, maps before and after the product, gate
    for kind in ("node", "edge"):
        n_scalars = getattr(layer, f"{kind}_self").weight.shape[0]
        name = f"{source}.sc_{kind}"
        weight = _by_parity(tensors, name, before, after, n_out, n_scalars)[0]
        out[f"{target}.{kind}_self.weight"] = weight.permute(2, 0, 1, 3)
        for k, place, ends, n_l in ((1, "in", before, n_in), (2, "out", after, n_out)):
            weights = _by_parity(tensors, f"{source}.lin{k}_{kind}", ends, ends, n_l)
            n_used = len(getattr(layer, f"{kind}_{place}").weights)
            out |= _listed(f"{target}.{kind}_{place}.weights", weights[:n_used])
    gate = layer.gate.weight
    width = after[0] + (n_out - 1) * sum(after)
    weight = tensors.take(f"{source}.gate.gates_lin.weight", after[0], width)
    out[f"{target}.gate.weight"] = weight[:, : gate.shape[1]]
    return out


def _so2(tensors: _Tensors, layer: SO2Layer, before: Sizes, after: Sizes) -> State:
    source, target = "so2outputlayer.so2tp", "so2"
    n_in, n_out = layer.so2.l_in + 1, layer.so2.l_out + 1
    # with pseudo parity in its input the published layer has pseudoscalars, which go nowhere
    n_lost = after[1] if before[1] else 0
    first = n_out * after[0]
    kept = [k for k in range(n_out * sum(after)) if not first <= k < first + after[1]]
    widths, out = [], State()
    for m, weight in enumerate(layer.so2.weights):
        columns, rows = 3 * (n_in - m) * sum(before), weight.shape[-1] + (0 if m else n_lost)
        widths.append((rows,))
        name = "fc_m0" if m == 0 else f"so2_m_fc.{m - 1}"
        name = f"{source}.so2_lin.{name}.linear.weight"
        matrix = tensors.take(name, 2 * rows if m else rows, columns)[:, : weight.shape[-2]]
        if m:
            matrix = matrix.unflatten(0, (2, rows))
        elif n_lost:
            matrix = matrix[kept]
        out[f"{target}.so2.weights.{m}"] = matrix.transpose(-1, -2)
    bias = tensors.take(f"{source}.so2_lin.fc_m0.linear.bias", *widths[0])
    out[f"{target}.so2.bias"] = bias[kept] if n_lost else bias
    radial = _radial(tensors, f"{source}.weights", f"{target}.so2.radial", layer.so2.radial, widths)
    if n_lost:
        name = f"{target}.so2.radial.outputs.0"
        radial[name] = radial[name][:, kept]
    shapes = [(n_out, n) for n in after if n]
    alone = _radial(tensors, f"{source}.fc", f"{target}.self_radial", layer.self_radial, shapes)
    alone.pop(f"{target}.self_radial.outputs.1", None)
    three = 3 * before[0], 3 * before[1]
    weights = _by_parity(tensors, f"{source}.sc_conv", three, after, n_out)
    return out | radial | alone | {f"{target}.self_pair.weights.0": weights[0]}


def _readout(tensors: _Tensors, kind: str, readout: IrrepReadout, *, rearranged: bool) -> State:
    name, shapes = f"{kind}_endlinear", [tuple(w.shape) for w in readout.weights]
    if rearranged:
        weights = [tensors.take(f"{name}.LinearList.{k}.weight", *s) for k, s in enumerate(shapes)]
    else:
        flat = tensors.take(f"{name}.weight", sum(map(math.prod, shapes)))
        weights = [w.T for w in _split(flat, [(b, a) for a, b in shapes])]
    return _listed(f"{kind}_readout.weights", weights)
