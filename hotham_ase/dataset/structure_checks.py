"""Faults of one structure of a data set, see :mod:`hotham_ase.dataset.doctor` for their codes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.special import expit

from hotham_ase.basis.orbitals import BasisError, OrbitalBasis
from hotham_ase.dataset.packing import PackedMatrix
from hotham_ase.dataset.stored import StoredStructure, spin_of
from hotham_ase.dft.plausibility import LARGEST_DENSE, NEAR_PAIRS, OVERLAPPING, describe_nearest
from hotham_ase.dft.provenance import Provenance
from hotham_ase.electronic.kmesh import Grid, KMesh, reduced
from hotham_ase.electronic.solvers.guard import Guard
from hotham_ase.electronic.solvers.problem import EigenError, IllConditionedWarning, SolverOptions
from hotham_ase.electronic.solvers.solve import eigenvalues_at_kpts
from hotham_ase.matrices.energy_zero import best_shift
from hotham_ase.matrices.pairs import PairList, PairListError
from hotham_ase.matrices.spin import Spin
from hotham_ase.overlap import overlap_matrix

if TYPE_CHECKING:
    from ase import Atoms

    from hotham_ase.dft.sample import Sample
    from hotham_ase.matrices import RealSpaceMatrix

Severity = Literal["error", "warning", "info"]

HERMITIAN_TOLERANCE = 1e-6  # relative to the largest element
OVERLAP_WARNING, OVERLAP_ERROR = 1e-5, 1e-3
NORM_WARNING, NORM_ERROR = 1e-3, 0.05  # of |S_aa - 1|; some codes' orbitals have norms of 0.98
# bonds lower levels below those of the atoms by some 10 eV; levels far lower are no physics
BONDING = 50.0  # eV
SMEARING = 0.1  # eV, for counting the electrons below the Fermi level on a coarse mesh
COUNT_TOLERANCE = 0.02  # relative to the number of electrons; at least half an electron
SAME_MATRIX = 1e-6  # |H - H0| / |H|


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or may be.

    Attributes
    ----------
    structure : str or None
        Name of the structure; None for the data set as a whole.
    severity : {"error", "warning", "info"}
        Errors make training on the structure pointless.
    code : str
        What kind of fault, see :mod:`hotham_ase.dataset.doctor`.
    message : str
        What was found, with numbers.
    """

    structure: str | None
    severity: Severity
    code: str
    message: str


def _error(code: str, message: str) -> Finding:
    return Finding(None, "error", code, message)


def _warning(code: str, message: str) -> Finding:
    return Finding(None, "warning", code, message)


def check_structure(stored: StoredStructure, basis: OrbitalBasis) -> Iterator[Finding]:
    """Faults of one structure, whose name is left open.

    What cannot be checked after an error is left out.

    Raises
    ------
    DatasetError
        If its parts cannot be read, or do not go together.
    """
    fatal = False
    for finding in _check_raw(stored, basis):
        fatal = fatal or finding.severity == "error"
        yield finding
    if fatal:
        return
    sample = stored.sample(basis)
    yield from _check_provenance(sample.provenance)
    # with atoms of other cells, all further findings would be void
    if _is_folded(sample):
        yield _error(
            "folded-coordinates",
            "the lattice vectors of the pairs belong to atoms folded into the cell, the "
            "positions do not: wrap the positions or correct the lattice vectors",
        )
        return
    yield from _check_pairs(sample)
    yield from _check_blocks(sample)
    yield from _check_overlap(sample)
    yield from _check_spectrum(sample)
    yield from _check_initial(sample)


# ------------------------------------------------------- before the sample exists


def _check_raw(stored: StoredStructure, basis: OrbitalBasis) -> Iterator[Finding]:
    if not stored.is_finite:
        yield _error("nan", "positions, cell or moments are not finite numbers")
        return
    atoms = stored.atoms()
    try:
        basis.species_index(atoms.numbers)
    except BasisError as error:
        yield _error("unknown-element", str(error))
        return
    try:
        PairList.from_atoms(atoms, 1.0).check_distances()
    except PairListError as error:
        yield _error("overlapping-atoms", str(error))
    for name, packed in stored.matrices.items():
        yield from _check_raw_matrix(packed, name, spin_of(name, stored.spin), atoms, basis)


def _check_raw_matrix(
    packed: PackedMatrix, name: str, spin: Spin, atoms: Atoms, basis: OrbitalBasis
) -> Iterator[Finding]:
    n_orbitals = basis.n_orbitals(atoms.numbers)
    i, j = packed.edge_index
    n_onsite = int((n_orbitals**2).sum())
    expected = n_onsite + int((n_orbitals[i] * n_orbitals[j]).sum())
    n_values = packed.values.shape[1]
    if n_values != expected:
        yield _error(
            "orbital-count",
            f"{name} has {n_values} elements, but {expected} by the orbitals of the basis and the "
            "pairs",
        )
        return
    n_bad = int((~np.isfinite(packed.values)).sum())
    if n_bad:
        yield _error("nan", f"{n_bad} elements of {name} are not finite numbers")
        return
    if len(i) == 0 and PairList.from_atoms(atoms, basis.pair_cutoffs).n_edges:
        yield _error("no-pairs", f"{name} has no pairs of atoms at all")
    # one of each two pairs is stored: together with the reverses none comes twice
    pairs = np.column_stack([i, j, packed.cell_shifts])
    reverse = np.column_stack([j, i, -packed.cell_shifts])
    n_repeated = 2 * len(pairs) - len(np.unique(np.concatenate([pairs, reverse]), axis=0))
    if n_repeated:
        yield _error("no-pairs", f"{name} lists {n_repeated} pairs more than once")
    largest = float(np.abs(packed.values).max(initial=0.0))
    error, start, signs = 0.0, 0, spin.mirror_signs[:, None, None]
    for n in n_orbitals:
        block = packed.values[:, start : start + n * n].reshape(-1, n, n)
        mirrored = signs * block.conj().transpose(0, 2, 1)
        error = max(error, float(np.abs(block - mirrored).max()))
        start += n * n
    if error > HERMITIAN_TOLERANCE * largest:
        yield _error(
            "not-hermitian",
            f"onsite blocks of {name} differ from their transposes by {error:.3g}, the largest "
            f"element being {largest:.3g}",
        )


# -------------------------------------------------------------------- on the sample


def _check_provenance(provenance: Provenance) -> Iterator[Finding]:
    if provenance.scf_converged is False:
        yield _error("unconverged", "the self-consistent calculation did not converge")
    steps = provenance.scf_steps
    if steps is not None and steps <= 1:
        yield _warning(
            "first-step",
            f"the run made {steps} step: H may be the starting H0 and not the converged one",
        )


def _is_folded(sample: Sample) -> bool:
    """Whether the pairs are shorter, weighted by H, if atoms outside the cell are folded in."""
    atoms, matrix = sample.atoms, sample.hamiltonian
    if not atoms.pbc.any():
        return False
    fractional = atoms.cell.complete().scaled_positions(atoms.positions) + 1e-12
    images = np.where(atoms.pbc, np.floor(fractional), 0).astype(np.int64)
    if not images.any():
        return False
    pairs = matrix.pairs
    i, j = pairs.edge_index
    # matrix elements decay with distance: the reading that puts large ones on near atoms is right
    sizes = np.add.reduceat(np.abs(matrix.values).sum(axis=0), matrix.layout.offsets[:-1])
    weights = sizes[pairs.n_atoms :]
    folded = pairs.edge_vectors + (images[i] - images[j]) @ pairs.cell
    return bool(weights @ np.linalg.norm(folded, axis=1) < weights @ pairs.edge_lengths)


def _check_pairs(sample: Sample) -> Iterator[Finding]:
    cutoffs = {key: NEAR_PAIRS * c for key, c in sample.basis.pair_cutoffs.items()}
    near = PairList.from_atoms(sample.atoms, cutoffs)
    first, second = near.edge_index
    for matrix in (sample.hamiltonian, sample.overlap):
        found = matrix.pairs.find(first, second, near.cell_shifts)
        missing = np.flatnonzero(found < 0)
        if len(missing):
            yield _error(
                "one-sided-pairs",
                f"{matrix.name} lacks {len(missing)} of {near.n_edges} near pairs, "
                f"{describe_nearest(near, missing)}: the list was one-sided or cut when it was "
                "made",
            )


def _check_blocks(sample: Sample) -> Iterator[Finding]:
    """Every atom has a block of H, and every pair whose orbitals overlap, wherever that ends."""
    h, s = sample.hamiltonian, sample.overlap
    empty = [atom for atom in range(len(sample.atoms)) if not h.onsite_block(atom).any()]
    if empty:
        yield _error("missing-blocks", f"hamiltonian has no onsite block of atoms {empty[:9]}")
    overlapping = s.layout.largest(s.values)[s.pairs.n_atoms :] > OVERLAPPING
    first, second = s.pairs.edge_index
    there = h.pairs.find(first, second, s.pairs.cell_shifts) >= 0
    missing = np.flatnonzero(overlapping & ~there)
    if len(missing):
        yield _error(
            "missing-blocks",
            f"hamiltonian lacks {len(missing)} pairs whose orbitals overlap, "
            f"{describe_nearest(s.pairs, missing)}",
        )


def _check_overlap(sample: Sample) -> Iterator[Finding]:
    matrix = sample.overlap
    norms = np.concatenate([np.diag(matrix.onsite_block(i)) for i in range(len(sample.atoms))])
    error = float(np.abs(norms - 1).max())
    if error > NORM_WARNING:
        report = _error if error > NORM_ERROR else _warning
        text = f"overlaps of orbitals with themselves differ from 1 by up to {error:.3g}"
        yield report("overlap-norm", text)
    if not sample.basis.has_radial or sample.provenance.overlap == "computed":
        return
    difference = matrix - overlap_matrix(sample.atoms, sample.basis)
    largest = float(np.abs(difference.values).max(initial=0.0))
    if largest > OVERLAP_WARNING:
        report = _error if largest > OVERLAP_ERROR else _warning
        yield report(
            "overlap-mismatch",
            f"overlap differs by up to {largest:.3g} from the integrals of the basis functions: "
            "other orbitals, other positions, or another orbital order",
        )


def _check_spectrum(sample: Sample) -> Iterator[Finding]:
    """Look for levels that cannot be, and count the electrons below the Fermi level."""
    h, s = sample.hamiltonian, sample.overlap
    if h.n_basis > LARGEST_DENSE:
        return
    mesh, where = _coarse_mesh(sample.atoms, h.spin), "of an atom"
    levels: list[np.ndarray] = []
    try:
        # at any depth: otherwise the guard would leave out the very levels that are looked for
        options = SolverOptions(guard=(guard := Guard.of(h, s, depth=np.inf)))
        for kpt in mesh.ibz_kpts:
            where = f"at k = {kpt.tolist()}"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", IllConditionedWarning)
                levels.append(eigenvalues_at_kpts(h, s, kpt[None], options=options))
    except EigenError as error:
        yield _error("overlap-indefinite", f"{where}: {error}")
        return
    lowest = min(one.min() for one in levels)
    if lowest < guard.baseline - BONDING:
        yield _error(
            "absurd-levels",
            f"the lowest level is {lowest:.1f} eV, that of the atoms' own blocks "
            f"{guard.baseline:.1f} eV: H and S do not belong together",
        )
    if sample.fermi_level is None:
        return
    filled = [expit((sample.fermi_level - one) / SMEARING).sum() for one in levels]
    count = h.spin.degeneracy * float(mesh.weights @ filled)
    if abs(count - sample.n_electrons) > max(0.5, COUNT_TOLERANCE * sample.n_electrons):
        yield _error(
            "electron-count",
            f"{count:.1f} electrons are below the Fermi level of {sample.fermi_level:.3f} eV, "
            f"but there are {sample.n_electrons:g}: H is H0 or of another structure, or its zero "
            "of energy was shifted",
        )


def _check_initial(sample: Sample) -> Iterator[Finding]:
    """Compare H0 with H, whatever their zeros of energy."""
    if sample.initial_hamiltonian is None:
        return
    run = sample.provenance.initial
    steps = None if run is None else run.scf_steps
    if steps is not None and steps > 1:
        yield _warning(
            "initial",
            f"the run that gave H0 made {steps} steps: H0 should be of the density before the "
            "first update",
        )
    # H0 + μS is as good a start as H0 for any μ
    change = _size(sample.hamiltonian - sample.initial_hamiltonian, sample.overlap)
    ratio = change / max(_size(sample.hamiltonian, sample.overlap), 1e-30)
    if ratio >= 1:
        yield _warning(
            "initial",
            f"H - H0 is {ratio:.3g} times as large as H: H0 is of another structure, basis or unit",
        )
    elif ratio < SAME_MATRIX:
        yield _warning("initial", "H0 is H itself: there is nothing left to learn")


def _size(h: RealSpaceMatrix, s: RealSpaceMatrix) -> float:
    """Frobenius norm of H − μS, eV, with the μ that makes it smallest."""
    of_both_spins = np.outer(h.spin.identity, s.single)
    mu = best_shift(h.on_pairs(s.pairs).values.real.ravel(), of_both_spins.ravel())
    return float(np.linalg.norm((h - float(mu) * s).values))


def _coarse_mesh(atoms: Atoms, spin: Spin) -> KMesh:
    """About one point per 0.4 Å⁻¹, shifted off the symmetry points; k and −k counted once."""
    lengths = atoms.cell.lengths()
    lengths[~atoms.pbc | (lengths == 0)] = np.inf
    n1, n2, n3 = np.clip(np.ceil(2 * np.pi / (0.4 * lengths)), 1, 4).astype(int).tolist()
    # even numbers of points have none at Γ anyway
    offset = np.array([0.5 / n if n % 2 and n > 1 else 0.0 for n in (n1, n2, n3)])
    return reduced(Grid((n1, n2, n3), offset, atoms.pbc, np.ones(3)), None, spin)
