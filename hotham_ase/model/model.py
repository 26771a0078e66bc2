"""A trained model: from a structure to H, and what is to be expected of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from hotham_ase.errors import UsageError
from hotham_ase.matrices import BlockLayout, RealSpaceMatrix, Spin
from hotham_ase.memory import format_size
from hotham_ase.model.bundled import bundled_models, model_path
from hotham_ase.model.file import ModelFileError, StoredModel
from hotham_ase.model.options import PredictionOptions
from hotham_ase.model.protocol import Foreseen, Prediction
from hotham_ase.model.tensors import MatrixWriter, UncertaintyWriter, build_graph, network_for
from hotham_ase.model.uncertainty import EXTRAPOLATION
from hotham_ase.nn.devices import default_dtype, memory_budget, torch_device
from hotham_ase.nn.protocol import BlockSink, DescribedBlocks, Network

if TYPE_CHECKING:
    from ase import Atoms

BYTES_PER_PAIR = 300  # of pair list, graph and the indices that checks of H make
BYTES_PER_UNCERTAIN_PAIR = 106  # q², expected errors and grades, and what makes them
#: Of a pair of atoms; one core, the network of the bundled model of carbon, not its H0.
SECONDS_PER_WEIGHT = 1.2e-10
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, eq=False)
class HamiltonianModel(StoredModel):
    """A network with the basis it predicts H in and the record of its training.

    It may be shared between threads: predictions change nothing of it. Only while a network is
    built, at loading and at the first prediction on a device in a precision, torch's default
    precision is changed for a moment, under a lock that all models share.

    Attributes are those of :class:`~hotham_ase.model.file.StoredModel`.
    """

    _copies: dict[tuple[torch.device, str, bool], Network] = field(
        default_factory=dict, init=False, repr=False
    )

    def predict(
        self,
        atoms: Atoms,
        options: PredictionOptions | None = None,
        *,
        initial_hamiltonian: RealSpaceMatrix | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> RealSpaceMatrix:
        """Predict H(R) of a structure.

        Pairs are processed in portions and, where memory asks for it, atoms in spatial blocks with
        all the surroundings that they need; the result is the same. Where H − H0 was learned with
        H0 = T + V_nl + V_NA + V_fit of the pseudopotentials and the fitted potential, H0 is
        computed first and the network's blocks are added to it.

        Parameters
        ----------
        atoms
            Structure of elements that the model knows.
        options
            Device, precision, memory; by default those of :class:`PredictionOptions`.
        initial_hamiltonian
            H0 of this structure in eV, for a model that learned the correction to the H0 of a DFT
            code, and for no other: the same step of the same code as in the training. The result
            is then H0 + network, on the pairs of both.
        on_progress
            Called with the number of hopping pairs done and their total.

        Returns
        -------
        RealSpaceMatrix, eV.

        Raises
        ------
        ValueError
            If there are no atoms, memory is given for a network that can predict a structure in
            one piece only, or initial_hamiltonian is missing, not needed, or of other atoms or
            orbitals.
        BasisError
            If an element is not known.
        PairListError
            If positions are not finite, atoms overlap or the cell is degenerate.
        MemoryError
            If the memory does not suffice even so.
        """
        return self.predict_with_uncertainty(
            atoms, options, initial_hamiltonian=initial_hamiltonian, on_progress=on_progress
        ).hamiltonian

    def predict_with_uncertainty(
        self,
        atoms: Atoms,
        options: PredictionOptions | None = None,
        *,
        initial_hamiltonian: RealSpaceMatrix | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Prediction:
        """Predict H(R) of a structure and the errors to expect of its blocks.

        Parameters, errors and H itself are those of :meth:`predict`.
        """
        options = options or PredictionOptions()
        self._check_request(atoms, options)
        self._check_initial(atoms, initial_hamiltonian)
        device = torch_device(options.device)
        budget, on_cpu = memory_budget(options.memory, device), device.type == "cpu"
        # the list is never in a GPU's memory
        margin, for_list = self.network.config.hopping_margin, budget if on_cpu else None
        pairs, graph = build_graph(atoms, self.basis, margin, for_list)
        if on_progress is not None:  # H0 comes first
            on_progress(0, pairs.n_edges)
        matrix = MatrixWriter(pairs, self.basis, self.network)
        left = self._left(budget, matrix, initial_hamiltonian, on_cpu)
        if self.physics:  # the network's pairs reach as far as H did in the training, with V_nl
            from hotham_ase.overlap import initial_values  # slow, for hotham info

            matrix.values = initial_values(atoms, self.h0_basis, pairs)
        network, graph = self._on(device, options), graph.to(device)
        sinks: list[BlockSink] = [matrix]
        trust = None
        if self.uncertainty is not None:
            trust = UncertaintyWriter(copy.deepcopy(self.uncertainty), pairs, graph)
            sinks.append(trust)
        if on_progress is not None:
            sinks.append(_Progress(on_progress, pairs.n_edges))
        wrapped = torch.tensor(pairs.wrapped_positions, device=device)
        with torch.no_grad():
            network.predict_blocks(graph, wrapped, sinks, left)
        h = matrix.matrix()
        if initial_hamiltonian is not None:  # the network gave the correction to it
            h = h + initial_hamiltonian
        return Prediction(h, None if trust is None else trust.uncertainty(EXTRAPOLATION))

    def _check_request(self, atoms: Atoms, options: PredictionOptions) -> None:
        if len(atoms) == 0:
            raise UsageError("atoms must hold at least one atom, got none")
        reason = self.network.whole_because
        if options.memory is not None and reason is not None:
            raise UsageError(
                f"memory cannot be bounded for {self.name}: {reason}; got memory={options.memory!r}"
            )

    def _check_initial(self, atoms: Atoms, initial: RealSpaceMatrix | None) -> None:
        """Refuse an H0 that is missing, not needed, or not of these atoms and orbitals."""
        got = None if initial is None else type(initial).__name__
        if self.learns_correction != (initial is not None):
            wanted, learned = "None", "all of H"
            if self.learns_correction:
                wanted, learned = "given", "the correction to H0"
            raise UsageError(
                f"initial_hamiltonian must be {wanted} for {self.name}, which predicts {learned}; "
                f"got {got}"
            )
        if initial is None:
            return
        if not isinstance(initial, RealSpaceMatrix):
            raise UsageError(f"initial_hamiltonian must be a RealSpaceMatrix, got {got}")
        # it is added block by block: from another structure or basis the sum would mean nothing
        n_orbitals = self.basis.n_orbitals(atoms.numbers)
        initial.check_belongs(atoms, n_orbitals, "initial_hamiltonian")
        if initial.spin is not Spin.UNPOLARIZED:
            raise UsageError(
                f"initial_hamiltonian must be unpolarized, got spin kind {initial.spin.value}"
            )

    def _left(
        self, budget: float, matrix: MatrixWriter, initial: RealSpaceMatrix | None, on_cpu: bool
    ) -> float:
        """Bytes of a budget that are left for the network, beside what is kept of its blocks.

        Raises
        ------
        MemoryError
            If none are.
        """
        n_edges = matrix.pairs.n_edges
        of_trust = 0 if self.uncertainty is None else n_edges * BYTES_PER_UNCERTAIN_PAIR
        if not on_cpu:  # the matrix is not on the device
            return budget - of_trust
        kept = self._kept(matrix.layout)
        if initial is not None:  # itself, the network's part on its pairs, the sum
            kept += 3 * initial.values.nbytes + initial.pairs.n_edges * BYTES_PER_PAIR
        needed = kept + self._of_h0(matrix.layout)[0]
        if needed >= budget:
            raise MemoryError(
                f"H of this structure with its pair list takes {format_size(needed)}, which leaves "
                f"nothing of the {format_size(budget)} that may be used"
            )
        return budget - kept

    def _kept(self, layout: BlockLayout) -> int:
        """Bytes of H, its pair list and its expected errors."""
        of_trust = 0 if self.uncertainty is None else BYTES_PER_UNCERTAIN_PAIR
        return 8 * layout.n_values + layout.pairs.n_edges * (BYTES_PER_PAIR + of_trust)

    def _of_h0(self, layout: BlockLayout) -> tuple[int, float]:
        """Bytes beside it and seconds of a computed H0, which is made before the network begins."""
        if not self.physics:
            return 0, 0.0
        from hotham_ase.overlap.cost import initial_cost  # slow, for hotham info

        return initial_cost(layout)

    def foresee(self, atoms: Atoms, options: PredictionOptions | None = None) -> Foreseen:
        """What a prediction takes, from the pairs of atoms only.

        Parameters
        ----------
        atoms
            Structure of elements that the model knows.
        options
            Device and memory.

        Raises
        ------
        BasisError, PairListError, MemoryError
            As for :meth:`predict`, if pairs cannot be listed.
        """
        options = options or PredictionOptions()
        device = torch_device(options.device)
        budget, margin = memory_budget(options.memory, device), self.network.config.hopping_margin
        pairs, graph = build_graph(atoms, self.basis, margin)
        layout = BlockLayout(pairs, self.basis.n_orbitals(atoms.numbers))
        kept, needed = self._kept(layout), self.network.bytes_needed(graph)
        if device.type != "cpu":  # where neither the time nor what is allowed is known beforehand
            return Foreseen(layout)
        n_weights = sum(p.numel() for p in self.network.parameters())
        seconds = SECONDS_PER_WEIGHT * n_weights * pairs.n_edges
        of_h0, seconds_of_h0 = self._of_h0(layout)
        seconds += seconds_of_h0
        if needed is None:
            return Foreseen(layout, None, seconds)
        return Foreseen(layout, int(kept + max(of_h0, min(needed, budget - kept))), seconds)

    def _on(self, device: torch.device, options: PredictionOptions) -> Network:
        """The network on a device, converted at most once for each device and precision."""
        key = device, options.dtype, options.compile
        if key in self._copies:
            return self._copies[key]
        with default_dtype(DTYPES[options.dtype]):  # one thread at a time
            if key not in self._copies:
                network = network_for(self.network.config, self.basis)
                network.load_state_dict(self.network.state_dict())
                network = network.to(device).eval().requires_grad_(False)
                if options.compile:
                    network.compile_hot_parts()
                self._copies[key] = network
        return self._copies[key]


class _Progress:
    """Counts the pairs whose blocks have come."""

    def __init__(self, report: Callable[[int, int], None], total: int) -> None:
        self.report, self.done, self.total = report, 0, total

    def onsite(self, atoms: torch.Tensor, blocks: DescribedBlocks) -> None:
        """Not counted."""

    def hopping(self, edges: torch.Tensor, blocks: DescribedBlocks) -> None:
        """Count and report."""
        self.done += len(edges)
        self.report(self.done, self.total)


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
    path = model_path(name_or_path)
    if path is None:
        raise ModelFileError(
            f"model must be a file or one of the bundled models {bundled_models()}, got "
            f"{str(name_or_path)!r}"
        )
    return HamiltonianModel.read(path)
