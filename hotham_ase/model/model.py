"""A trained model and its file."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.errors import UsageError
from hotham_ase.matrices import RealSpaceMatrix, Spin
from hotham_ase.memory import format_size
from hotham_ase.model.file import ModelFile, ModelFileError, basis_content
from hotham_ase.model.tensors import MatrixWriter, UncertaintyWriter, build_graph, cutoffs
from hotham_ase.model.uncertainty import Uncertainty
from hotham_ase.nn.compiled import compile_network
from hotham_ase.nn.devices import default_dtype, memory_budget, torch_device, torch_dtype
from hotham_ase.nn.model import DescribedBlocks, HotHam
from hotham_ase.nn.protocol import (
    Network,
    NetworkConfig,
    build_network,
    check_sizes,
    parse_config,
)
from hotham_ase.nn.streaming import BlockSink, predict_blocks
from hotham_ase.nn.uncertainty import BlockUncertainty

if TYPE_CHECKING:
    from ase import Atoms

# the second is of models that need H0: an older version would return the correction alone
FILE_FORMATS = ("hotham_ase model 1", "hotham_ase model 2")
BYTES_PER_PAIR = 300  # of pair list, graph and the indices that checks of H make
BYTES_PER_UNCERTAIN_PAIR = 106  # q², expected errors and grades, and what makes them
EXTRAPOLATION = 1.5  # grade from which a block is called an extrapolation
CONVENTIONS = {
    "harmonics": "real, m = -l ... l, no Condon-Shortley phase",
    "energy": "eV",
    "length": "Angstrom",
    "fourier": "H(k) = sum_R exp(+2 pi i k.R) H(R)",
}


@dataclass(frozen=True, eq=False)
class Prediction:
    """A predicted H with its expected errors.

    Attributes
    ----------
    hamiltonian
        eV.
    uncertainty
        None if the model has none.
    """

    hamiltonian: RealSpaceMatrix
    uncertainty: Uncertainty | None


@dataclass(frozen=True, eq=False)
class HamiltonianModel:
    """A network with the basis it predicts H in and the record of its training.

    It may be shared between threads: predictions change nothing of it. Only while a network is
    built, at loading and at the first prediction on a device in a precision, torch's default
    precision is changed for a moment, under a lock that all models share.

    Attributes
    ----------
    network
        Weights and architecture, float32 or float64.
    basis
        Orbitals of every species the model knows.
    name
        For messages and plots.
    provenance
        JSON-able record: data, split, settings, versions, errors.
    uncertainty
        Expected errors of blocks, fitted after the training; None if nothing was held out for it.
    needs_initial
        Whether the network predicts H − H0, so that a prediction needs H0.
    """

    network: Network
    basis: OrbitalBasis
    name: str = "model"
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)
    uncertainty: BlockUncertainty | None = field(default=None, repr=False)
    needs_initial: bool = False

    def __post_init__(self) -> None:
        shells = tuple(s.shells for s in self.basis.species)
        if shells != self.network.shells:
            raise ModelFileError(
                f"the basis has shells {shells}, the network predicts {self.network.shells}"
            )
        if self.uncertainty is not None and (
            not isinstance(self.network, HotHam)
            or self.uncertainty.n_descriptors != self.network.n_descriptors
        ):
            raise ModelFileError(f"the uncertainty of {self.name} is that of another network")

    @property
    def cutoff(self) -> float:
        """Å; the longest hopping."""
        return self.network.cutoff

    def predict(
        self,
        atoms: Atoms,
        *,
        device: str = "auto",
        dtype: str = "float32",
        memory: str | int | None = None,
        compile: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
        initial_hamiltonian: RealSpaceMatrix | None = None,
    ) -> RealSpaceMatrix:
        """Predict H(R) of a structure.

        Pairs are processed in portions and, where memory asks for it, atoms in spatial blocks with
        all the surroundings that they need; the result is the same.

        Parameters
        ----------
        atoms
            Structure of elements that the model knows.
        device
            ``auto`` (a GPU where there is one), or a torch device.
        dtype
            Precision of the network; the matrix is always float64.
        memory
            What the prediction may use, the matrix included (on a GPU: of the GPU's memory), as
            in ``"8GiB"`` or in bytes; by default three quarters of what is free.
        compile
            Use torch.compile: the first prediction takes minutes longer, later ones are faster.
        on_progress
            Called with the number of hopping pairs done and their total.
        initial_hamiltonian
            H0 of this structure in eV, for a model that learned the correction to it, and for no
            other: the same step of the same DFT code as in the training. The result is then
            H0 + network, on the pairs of both.

        Returns
        -------
        RealSpaceMatrix, eV.

        Raises
        ------
        ValueError
            If there are no atoms, an option has a bad value, memory is given for a network whose
            norm runs over the whole structure, which can be predicted in one piece only, or
            initial_hamiltonian is missing, not needed, or of other atoms or orbitals.
        BasisError
            If an element is not known.
        PairListError
            If positions are not finite, atoms overlap or the cell is degenerate.
        MemoryError
            If the memory does not suffice even so.
        """
        return self.predict_with_uncertainty(
            atoms,
            device=device,
            dtype=dtype,
            memory=memory,
            compile=compile,
            on_progress=on_progress,
            initial_hamiltonian=initial_hamiltonian,
        ).hamiltonian

    def predict_with_uncertainty(
        self,
        atoms: Atoms,
        *,
        device: str = "auto",
        dtype: str = "float32",
        memory: str | int | None = None,
        compile: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
        initial_hamiltonian: RealSpaceMatrix | None = None,
    ) -> Prediction:
        """Predict H(R) of a structure and the errors to expect of its blocks.

        Parameters, errors and H itself are those of :meth:`predict`.
        """
        if len(atoms) == 0:
            raise UsageError("atoms must hold at least one atom, got none")
        if memory is not None and not isinstance(self.network, HotHam):
            raise UsageError(
                f"memory cannot be bounded for {self.name}: the layer norm of the published "
                f"architecture runs over the whole structure; got memory={memory!r}"
            )
        self._check_initial(atoms, initial_hamiltonian)
        target = torch_device(device)
        budget = memory_budget(memory, target)
        margin = self.network.config.hopping_margin
        # the list is never in a GPU's memory
        for_list = budget if target.type == "cpu" else None
        pairs, graph = build_graph(atoms, self.basis, margin, for_list)
        network = self._on(target, torch_dtype(dtype), compile)
        writer = MatrixWriter(pairs, self.basis, network)
        budget -= self._kept(writer, initial_hamiltonian, target, budget)
        trust = None
        with torch.no_grad():
            graph = graph.to(network.cutoffs.device)
            if isinstance(network, HotHam):
                if self.uncertainty is not None:
                    trust = UncertaintyWriter(copy.deepcopy(self.uncertainty), pairs, graph)
                sink = _sink(writer, trust, on_progress)
                wrapped = torch.tensor(pairs.wrapped_positions, device=target)
                predict_blocks(network, graph, wrapped, sink, budget)
            else:  # its norm runs over the whole structure
                onsite, hopping = network(graph, network.geometry(graph))
                writer.onsite(torch.arange(graph.n_atoms), onsite)
                writer.hopping(torch.arange(graph.n_edges), hopping)
                if on_progress is not None:
                    on_progress(graph.n_edges, graph.n_edges)
        h = writer.matrix()
        if initial_hamiltonian is not None:
            h = h + initial_hamiltonian
        return Prediction(h, None if trust is None else trust.uncertainty(EXTRAPOLATION))

    def _kept(
        self,
        writer: MatrixWriter,
        initial: RealSpaceMatrix | None,
        target: torch.device,
        budget: float,
    ) -> int:
        """Bytes on the device that is budgeted for what is not the network's.

        Raises
        ------
        MemoryError
            If they are more than may be used.
        """
        n_edges = writer.pairs.n_edges
        of_trust = 0 if self.uncertainty is None else n_edges * BYTES_PER_UNCERTAIN_PAIR
        if target.type != "cpu":
            return of_trust
        kept = writer.values.nbytes + n_edges * BYTES_PER_PAIR + of_trust
        if initial is not None:  # itself, the network's part on its pairs, the sum
            kept += 3 * initial.values.nbytes + initial.pairs.n_edges * BYTES_PER_PAIR
        if kept >= budget:
            raise MemoryError(
                f"H of this structure with its pair list takes {format_size(kept)}, which leaves "
                f"nothing of the {format_size(budget)} that may be used"
            )
        return kept

    def _check_initial(self, atoms: Atoms, initial: RealSpaceMatrix | None) -> None:
        """Refuse an H0 that is missing, not needed, or not of these atoms and orbitals."""
        if initial is None:
            if self.needs_initial:
                raise UsageError(
                    f"initial_hamiltonian must be given for {self.name}, which predicts the "
                    "correction to H0; got None"
                )
            return
        if not self.needs_initial:
            raise UsageError(
                f"initial_hamiltonian must be None for {self.name}, which predicts all of H; got "
                f"{type(initial).__name__}"
            )
        if not isinstance(initial, RealSpaceMatrix):
            raise UsageError(
                f"initial_hamiltonian must be a RealSpaceMatrix, got {type(initial).__name__}"
            )
        n_orbitals = self.basis.n_orbitals(atoms.numbers)
        initial.check_belongs(atoms, n_orbitals, "initial_hamiltonian")
        if initial.spin is not Spin.UNPOLARIZED:
            raise UsageError(
                f"initial_hamiltonian must be unpolarized, got spin kind {initial.spin.value}"
            )

    def _on(self, device: torch.device, dtype: torch.dtype, compile: bool = False) -> Network:
        """The network on a device, converted at most once for each device and precision."""
        cache: dict[tuple[torch.device, torch.dtype, bool], Network] = self.__dict__.setdefault(
            "_copies", {}
        )
        key = device, dtype, compile and isinstance(self.network, HotHam)
        if key in cache:
            return cache[key]
        with default_dtype(dtype):  # one thread at a time
            if key not in cache:
                config = self.network.config
                table = cutoffs(self.basis, config.hopping_margin)
                network = build_network(config, self.network.shells, table)
                network.load_state_dict(self.network.state_dict())
                network = network.to(device).eval().requires_grad_(False)
                if compile and isinstance(network, HotHam):
                    compile_network(network)
                cache[key] = network
        return cache[key]

    def describe(self) -> dict[str, Any]:
        """What ``hotham info`` prints."""
        field = self.network.receptive_field
        return {
            "name": self.name,
            "species": {s.symbol: s.label for s in self.basis.species},
            "valence electrons": {s.symbol: s.n_valence for s in self.basis.species},
            "hopping cutoff (Å)": round(self.cutoff, 4),
            "receptive field (Å)": field if math.isfinite(field) else "the whole structure",
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "radial functions": self.basis.has_radial,
            "uncertainty": self.uncertainty is not None,
            "needs an initial Hamiltonian": self.needs_initial,
            "architecture": self.network.config.model_dump(mode="json"),
            "conventions": CONVENTIONS,
            **self.provenance,
        }

    def save(self, path: str | Path) -> None:
        """Write everything into one safetensors file, whole or not at all."""
        tensors = {
            f"network.{k}": v.contiguous().cpu() for k, v in self.network.state_dict().items()
        }
        species, radial = basis_content(self.basis)
        tensors |= radial
        if self.uncertainty is not None:
            fitted = self.uncertainty.state_dict()
            tensors |= {f"uncertainty.{k}": v.contiguous() for k, v in fitted.items()}
        texts = {
            "format": FILE_FORMATS[self.needs_initial],
            "name": self.name,
            "config": self.network.config.model_dump_json(),
            "species": species,
            "conventions": json.dumps(CONVENTIONS),
            "provenance": json.dumps(dict(self.provenance)),
            "needs_initial": json.dumps(self.needs_initial),
        }
        ModelFile(tensors, texts).write(path)


def _sink(
    writer: MatrixWriter,
    trust: UncertaintyWriter | None,
    on_progress: Callable[[int, int], None] | None,
) -> BlockSink:
    """Where blocks go, and their descriptors if they are wanted."""

    def onsite(atoms: torch.Tensor, part: DescribedBlocks) -> None:
        writer.onsite(atoms, part.blocks)
        if trust is not None:
            trust.onsite(atoms, part.descriptors)

    def hopping(edges: torch.Tensor, part: DescribedBlocks) -> None:
        writer.hopping(edges, part.blocks)
        if trust is not None:
            trust.hopping(edges, part.descriptors)

    return BlockSink(onsite, hopping, on_progress)


def load_model(name_or_path: str | Path) -> HamiltonianModel:
    """Load a model file, or a bundled model by its name.

    Parameters
    ----------
    name_or_path
        ``"carbon"``, or a path of a ``.safetensors`` file.

    Raises
    ------
    ModelFileError
        If there is no such model, or the file is not one of ours.
    """
    path = _find(name_or_path)
    try:
        return _read_model(path)
    except ModelFileError:
        raise
    except KeyError as error:
        raise ModelFileError(f"{path} is damaged or incomplete: it has no {error}") from error
    except RecursionError as error:
        raise ModelFileError(f"{path} is damaged: its texts are nested too deeply") from error
    except (ValueError, IndexError) as error:  # JSON, settings, species, sizes
        raise ModelFileError(f"{path} is damaged: {_in_one_line(error)}") from error


def _in_one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]}…"


def _read_model(path: Path) -> HamiltonianModel:
    file = ModelFile.read(path, FILE_FORMATS)
    if file.json("conventions") != CONVENTIONS:
        raise ModelFileError(f"{path} uses other conventions: {file.texts['conventions']}")
    needs_initial = json.loads(file.texts.get("needs_initial", "false"))
    provenance = file.json("provenance")
    if not isinstance(needs_initial, bool) or not isinstance(provenance, dict):
        raise ModelFileError(
            f"{path}: needs_initial must be true or false and provenance an object, got "
            f"{needs_initial!r:.50} and {type(provenance).__name__}"
        )
    if file.texts["format"] != FILE_FORMATS[needs_initial]:
        raise ModelFileError(f"{path}: its format does not go with needs_initial {needs_initial}")
    basis = file.basis()
    network = _read_network(path, parse_config(file.texts["config"]), basis, file.group("network."))
    return HamiltonianModel(
        network,
        basis,
        file.texts["name"],
        provenance,
        uncertainty=_read_uncertainty(path, file.group("uncertainty."), network),
        needs_initial=needs_initial,
    )


def _read_network(
    path: Path, config: NetworkConfig, basis: OrbitalBasis, weights: dict[str, torch.Tensor]
) -> Network:
    dtypes = {w.dtype for w in weights.values()}
    if len(dtypes) != 1:
        raise ModelFileError(f"{path} must have weights of one precision, got {dtypes or 'none'}")
    check_sizes(config, [w.shape for w in weights.values()])
    table = cutoffs(basis, config.hopping_margin)
    with default_dtype(dtypes.pop()):
        network = build_network(config, tuple(s.shells for s in basis.species), table)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelFileError(
            f"{path} does not fit its own architecture: {_in_one_line(error)}"
        ) from error
    return network.eval().requires_grad_(False)


def _read_uncertainty(
    path: Path, state: Mapping[str, torch.Tensor], network: Network
) -> BlockUncertainty | None:
    if not state:
        return None
    if not isinstance(network, HotHam):
        raise ModelFileError(f"{path} has an uncertainty, which its architecture cannot have")
    n_bins = state["hopping_factor"].shape[1]
    n_points = state.get("nearest.points", torch.empty(0)).shape[0]
    uncertainty = BlockUncertainty(
        network.n_descriptors, len(network.shells), network.cutoff, n_bins, n_points
    )
    newer = ("nearest.points", "nearest.usual", "hopping_scale", "band_factor")
    # what older files lack keeps its value
    state = {**{k: v for k, v in uncertainty.state_dict().items() if k in newer}, **state}
    try:
        uncertainty.load_state_dict(state)
    except RuntimeError as error:
        raise ModelFileError(
            f"{path} has an uncertainty of another network: {_in_one_line(error)}"
        ) from error
    return uncertainty


def bundled_models() -> list[str]:
    """Names of the models that come with the package."""
    folder = files("hotham_ase.model.bundled")
    return sorted(
        f.name.removesuffix(".safetensors")
        for f in folder.iterdir()
        if f.name.endswith(".safetensors")
    )


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.is_file():
        return path
    name = str(name_or_path)
    if name in bundled_models():
        return Path(str(files("hotham_ase.model.bundled") / f"{name}.safetensors"))
    raise ModelFileError(
        f"model must be a file or one of the bundled models {bundled_models()}, got {name!r}"
    )
