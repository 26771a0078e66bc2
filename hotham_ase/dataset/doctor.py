"""The data doctor: looks for the faults that spoil a data set without anyone noticing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.special import expit

from hotham_ase.basis.orbitals import BasisError, OrbitalBasis
from hotham_ase.dataset.packing import PackedMatrix
from hotham_ase.dataset.store import Dataset
from hotham_ase.dataset.stored import DatasetError, StoredStructure
from hotham_ase.electronic.solvers.dense import DenseSolver
from hotham_ase.electronic.solvers.guard import onsite_levels
from hotham_ase.electronic.solvers.problem import EigenError, Sought
from hotham_ase.matrices.pairs import PairList, PairListError

if TYPE_CHECKING:
    from ase import Atoms

    from hotham_ase.dft.sample import Sample
    from hotham_ase.matrices import RealSpaceMatrix

Severity = Literal["error", "warning", "info"]

HERMITIAN_TOLERANCE = 1e-6  # relative to the largest element
OVERLAP_WARNING, OVERLAP_ERROR = 1e-5, 1e-3
NORM_WARNING, NORM_ERROR = 1e-3, 0.05  # of |S_aa - 1|; some codes' orbitals have norms of 0.98
OVERLAPPING = 1e-4  # blocks of S with larger elements have a block of H
# bonds lower levels below those of the atoms by some 10 eV; levels far lower are no physics
BONDING = 50.0  # eV
# orbitals are tiny near their cutoffs, where codes may leave pairs out; nearer ones must be there
NEAR_PAIRS = 0.75
SMEARING = 0.1  # eV, for counting the electrons below the Fermi level on a coarse mesh
COUNT_TOLERANCE = 0.02  # relative to the number of electrons; at least half an electron
SAME_MATRIX = 1e-6  # |H - H0| / |H|
LARGEST_DENSE = 2500  # orbitals; larger matrices are not diagonalized here


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
        What kind of fault, see :func:`check_dataset`.
    message : str
        What was found, with numbers.
    """

    structure: str | None
    severity: Severity
    code: str
    message: str


Problem = tuple[Severity, str, str]


def check_dataset(
    path: str | Path, progress: Callable[[int, int], None] | None = None
) -> list[Finding]:
    """Look for known faults in every structure of a data set.

    =====================  ===========================================================
    code                   what was found
    =====================  ===========================================================
    checksum               content that is not what was written
    unreadable             parts that are missing or contradict each other
    nan                    positions or matrix elements that are not finite numbers
    unknown-element        an element that the basis lacks
    overlapping-atoms      two atoms at one place
    orbital-count          a matrix of another size than the basis says
    not-hermitian          onsite blocks that are not symmetric
    no-pairs               a pair list that is empty, or lists a pair twice
    one-sided-pairs        near pairs of atoms without matrix elements
    missing-blocks         atoms without a block of H, or pairs whose orbitals overlap
    folded-coordinates     lattice vectors of the pairs that belong to positions in the cell
    overlap-norm           orbitals that do not have an overlap of 1 with themselves
    overlap-mismatch       S that differs from the integrals of the basis functions
    overlap-indefinite     S(k) that is not positive definite
    absurd-levels          levels far below those of the atoms
    unconverged            a calculation that says it did not converge
    first-step             H of the first step (H0): the run made one step only
    initial                H0 that some structures have and some not, that is of a later step,
                           or that is no better a start than no H0 at all
    electron-count         H whose states below the Fermi level hold another number of
                           electrons: H0, a shifted zero of energy, or another structure's H
    duplicate              a structure that is there twice
    mixed-settings         structures of different functionals, codes or versions
    =====================  ===========================================================

    Parameters
    ----------
    path
        A file of :class:`hotham_ase.dataset.DatasetWriter`.
    progress
        Called as ``progress(n_done, n_structures)`` after every structure.

    Raises
    ------
    DatasetError, FileNotFoundError
        If the file is not a data set or does not exist.
    """
    findings: list[Finding] = []
    with Dataset(path, verify=False) as dataset:
        try:
            damaged = dataset.verify_checksums()
            names, basis = dataset.names, dataset.basis
        except DatasetError as error:
            return [Finding(None, "error", "unreadable", str(error))]
        for name in damaged:
            text = "the content is not what was written: the file was damaged or edited"
            where = None if name == "fingerprint" else name
            findings.append(Finding(where, "error", "checksum", text))
        seen: list[_Seen] = []
        for index, name in enumerate(names):
            problems: list[Problem] = []
            try:
                stored = dataset.stored(index)
                seen.append(_Seen.of(name, stored))
                for problem in check_structure(stored, basis):
                    problems.append(problem)
            except Exception as error:  # whatever cannot be examined is a finding of its own
                problems.append(("error", "unreadable", str(error) or type(error).__name__))
            findings += [Finding(name, *problem) for problem in problems]
            if progress is not None:
                progress(index + 1, len(names))
        findings += _duplicates(seen)
        findings += _settings(seen)
        findings += _some_initial(seen)
    return findings


def check_structure(stored: StoredStructure, basis: OrbitalBasis) -> Iterator[Problem]:
    """Problems of one structure; what cannot be checked after an error is left out.

    Raises
    ------
    DatasetError
        If its parts cannot be read, or do not go together.
    """
    fatal = False
    for problem in _check_raw(stored, basis):
        fatal = fatal or problem[0] == "error"
        yield problem
    if fatal:
        return
    sample = stored.sample(basis)
    yield from _check_provenance(sample.provenance)
    if _is_folded(sample):
        yield (
            "error",
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


def _check_raw(stored: StoredStructure, basis: OrbitalBasis) -> Iterator[Problem]:
    if not (np.isfinite(stored.positions).all() and np.isfinite(stored.cell).all()):
        yield "error", "nan", "positions or cell are not finite numbers"
        return
    atoms = stored.atoms()
    try:
        basis.species_index(atoms.numbers)
    except BasisError as error:
        yield "error", "unknown-element", str(error)
        return
    try:
        PairList.from_atoms(atoms, 1.0).check_distances()
    except PairListError as error:
        yield "error", "overlapping-atoms", str(error)
    for name, packed in stored.matrices.items():
        yield from _check_raw_matrix(packed, name, atoms, basis)


def _check_raw_matrix(
    packed: PackedMatrix, name: str, atoms: Atoms, basis: OrbitalBasis
) -> Iterator[Problem]:
    n_orbitals = basis.n_orbitals(atoms.numbers)
    i, j = packed.edge_index
    n_onsite = int((n_orbitals**2).sum())
    expected = n_onsite + int((n_orbitals[i] * n_orbitals[j]).sum())
    if packed.values.shape != (expected,):
        yield (
            "error",
            "orbital-count",
            f"{name} has {packed.values.size} elements, but {expected} by the orbitals of the "
            "basis and the pairs",
        )
        return
    n_bad = int((~np.isfinite(packed.values)).sum())
    if n_bad:
        yield "error", "nan", f"{n_bad} elements of {name} are not finite numbers"
        return
    if len(i) == 0 and PairList.from_atoms(atoms, basis.pair_cutoffs).n_edges:
        yield "error", "no-pairs", f"{name} has no pairs of atoms at all"
    both = np.concatenate(
        [
            np.column_stack([i, j, packed.cell_shifts]),
            np.column_stack([j, i, -packed.cell_shifts]),
        ]
    )
    n_repeated = len(both) - len(np.unique(both, axis=0))
    if n_repeated:
        yield "error", "no-pairs", f"{name} lists {n_repeated} pairs more than once"
    largest = float(np.abs(packed.values).max(initial=0.0))
    error, start = 0.0, 0
    for n in n_orbitals:
        block = packed.values[start : start + n * n].reshape(n, n)
        error = max(error, float(np.abs(block - block.conj().T).max()))
        start += n * n
    if error > HERMITIAN_TOLERANCE * largest:
        yield (
            "error",
            "not-hermitian",
            f"onsite blocks of {name} differ from their transposes by {error:.3g}, the largest "
            f"element being {largest:.3g}",
        )


# -------------------------------------------------------------------- on the sample


def _check_provenance(provenance: dict[str, Any]) -> Iterator[Problem]:
    if provenance.get("scf_converged") is False:
        yield "error", "unconverged", "the self-consistent calculation did not converge"
    steps = provenance.get("scf_steps")
    if steps is not None and steps <= 1:
        yield (
            "warning",
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
    sizes = np.add.reduceat(np.abs(matrix.single), matrix.layout.offsets[:-1])
    weights = sizes[pairs.n_atoms :]
    folded = pairs.edge_vectors + (images[i] - images[j]) @ pairs.cell
    return bool(weights @ np.linalg.norm(folded, axis=1) < weights @ pairs.edge_lengths)


def _check_pairs(sample: Sample) -> Iterator[Problem]:
    cutoffs = {key: NEAR_PAIRS * c for key, c in sample.basis.pair_cutoffs.items()}
    near = PairList.from_atoms(sample.atoms, cutoffs)
    first, second = near.edge_index
    for matrix in (sample.hamiltonian, sample.overlap):
        found = matrix.pairs.find(first, second, near.cell_shifts)
        missing = np.flatnonzero(found < 0)
        if len(missing):
            yield (
                "error",
                "one-sided-pairs",
                f"{matrix.name} lacks {len(missing)} of {near.n_edges} near pairs, "
                f"{_nearest(near, missing)}: the list was one-sided or cut when it was made",
            )


def _nearest(pairs: PairList, edges: np.ndarray) -> str:
    e = edges[pairs.edge_lengths[edges].argmin()]
    i, j = pairs.edge_index[:, e]
    return (
        f"the nearest at {pairs.edge_lengths[e]:.2f} Å (i={i}, j={j}, "
        f"R={pairs.cell_shifts[e].tolist()})"
    )


def _check_blocks(sample: Sample) -> Iterator[Problem]:
    """Every atom has a block of H, and every pair whose orbitals overlap, wherever that ends."""
    h, s = sample.hamiltonian, sample.overlap
    empty = [atom for atom in range(len(sample.atoms)) if not h.onsite_block(atom).any()]
    if empty:
        yield "error", "missing-blocks", f"hamiltonian has no onsite block of atoms {empty[:9]}"
    overlapping = s.layout.largest(s.values)[s.pairs.n_atoms :] > OVERLAPPING
    first, second = s.pairs.edge_index
    there = h.pairs.find(first, second, s.pairs.cell_shifts) >= 0
    missing = np.flatnonzero(overlapping & ~there)
    if len(missing):
        yield (
            "error",
            "missing-blocks",
            f"hamiltonian lacks {len(missing)} pairs whose orbitals overlap, "
            f"{_nearest(s.pairs, missing)}",
        )


def _check_overlap(sample: Sample) -> Iterator[Problem]:
    matrix = sample.overlap
    norms = np.concatenate([np.diag(matrix.onsite_block(i)) for i in range(len(sample.atoms))])
    error = float(np.abs(norms - 1).max())
    if error > NORM_WARNING:
        yield (
            "error" if error > NORM_ERROR else "warning",
            "overlap-norm",
            f"overlaps of orbitals with themselves differ from 1 by up to {error:.3g}",
        )
    if not sample.basis.has_radial or sample.provenance.get("overlap") == "computed":
        return
    from hotham_ase.overlap import overlap_matrix

    difference = matrix - overlap_matrix(sample.atoms, sample.basis)
    largest = float(np.abs(difference.values).max(initial=0.0))
    if largest > OVERLAP_WARNING:
        yield (
            "error" if largest > OVERLAP_ERROR else "warning",
            "overlap-mismatch",
            f"overlap differs by up to {largest:.3g} from the integrals of the basis functions: "
            "other orbitals, other positions, or another orbital order",
        )


def _check_spectrum(sample: Sample) -> Iterator[Problem]:
    """Look for levels that cannot be, and count the electrons below the Fermi level."""
    if sample.hamiltonian.n_basis > LARGEST_DENSE:
        return
    count, lowest = 0.0, np.inf
    kpts, weights = _coarse_mesh(sample)
    for kpt, weight in zip(kpts, weights, strict=True):
        h_k = sample.hamiltonian.at_k(kpt, format="dense")
        s_k = sample.overlap.at_k(kpt, format="dense")
        try:
            # without a guard: it would leave out the very levels that are looked for
            levels = DenseSolver().solve(h_k, s_k, Sought(vectors=False)).eigenvalues
        except EigenError as error:
            yield "error", "overlap-indefinite", f"at k = {kpt.tolist()}: {error}"
            return
        lowest = min(lowest, levels[0])
        if sample.fermi_level is not None:
            count += 2 * weight * float(expit((sample.fermi_level - levels) / SMEARING).sum())
    atomic = onsite_levels(sample.hamiltonian, sample.overlap)[0]
    if lowest < atomic - BONDING:
        yield (
            "error",
            "absurd-levels",
            f"the lowest level is {lowest:.1f} eV, that of the atoms' own blocks {atomic:.1f} eV: "
            "H and S do not belong together",
        )
    if sample.fermi_level is None:
        return
    tolerance = max(0.5, COUNT_TOLERANCE * sample.n_electrons)
    if abs(count - sample.n_electrons) > tolerance:
        yield (
            "error",
            "electron-count",
            f"{count:.1f} electrons are below the Fermi level of {sample.fermi_level:.3f} eV, "
            f"but there are {sample.n_electrons:g}: H is H0 or of another structure, or its zero "
            "of energy was shifted",
        )


def _check_initial(sample: Sample) -> Iterator[Problem]:
    """Compare H0 with H, whatever their zeros of energy."""
    if sample.initial_hamiltonian is None:
        return
    steps = sample.provenance.get("initial", {}).get("scf_steps")
    if steps is not None and steps > 1:
        yield (
            "warning",
            "initial",
            f"the run that gave H0 made {steps} steps: H0 should be of the density before the "
            "first update",
        )
    change = _size(sample.hamiltonian - sample.initial_hamiltonian, sample.overlap)
    ratio = change / max(_size(sample.hamiltonian, sample.overlap), 1e-30)
    if ratio >= 1:
        yield (
            "warning",
            "initial",
            f"H - H0 is {ratio:.3g} times as large as H: H0 is of another structure, basis or unit",
        )
    elif ratio < SAME_MATRIX:
        yield "warning", "initial", "H0 is H itself: there is nothing left to learn"


def _size(h: RealSpaceMatrix, s: RealSpaceMatrix) -> float:
    """Frobenius norm of H − μS, eV, with the μ that makes it smallest."""
    mu = float((s.values * h.on_pairs(s.pairs).values).sum() / (s.values**2).sum())
    return float(np.linalg.norm((h - mu * s).values))


def _coarse_mesh(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """About one point per 0.4 Å⁻¹, shifted off the symmetry points; k and −k counted once."""
    lengths = sample.atoms.cell.lengths()
    sizes = [
        int(np.clip(np.ceil(2 * np.pi / (0.4 * length)), 1, 4)) if periodic and length > 0 else 1
        for length, periodic in zip(lengths, sample.atoms.pbc, strict=True)
    ]
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in sizes), indexing="ij"), -1).reshape(-1, 3)
    kpts = (grid + 0.5 * (np.array(sizes) > 1)) / sizes
    kpts -= np.rint(kpts)
    partner = np.round(-kpts - np.rint(-kpts), 9)
    kept: dict[tuple[float, ...], float] = {}
    for kpt, other in zip(np.round(kpts, 9) + 0.0, partner + 0.0, strict=True):
        key = tuple(other) if tuple(other) in kept else tuple(kpt)
        kept[key] = kept.get(key, 0.0) + 1 / len(kpts)
    return np.array(list(kept)), np.array(list(kept.values()))


# ---------------------------------------------------------------- on the data set


@dataclass(frozen=True)
class _Seen:
    """What is kept of each structure for comparison with the others."""

    name: str
    geometry: bytes
    origin: dict[str, Any]
    has_initial: bool

    @classmethod
    def of(cls, name: str, stored: StoredStructure) -> _Seen:
        arrays = (stored.numbers, stored.cell, stored.positions)
        geometry = b"".join(np.round(array, 6).tobytes() for array in arrays)
        return cls(name, geometry, stored.origin(), "initial_hamiltonian" in stored.matrices)


def _duplicates(seen: list[_Seen]) -> Iterator[Finding]:
    first: dict[bytes, str] = {}
    for one in seen:
        if one.geometry in first:
            text = f"the same structure is there as {first[one.geometry]}"
            yield Finding(one.name, "warning", "duplicate", text)
        first.setdefault(one.geometry, one.name)


def _settings(seen: list[_Seen]) -> Iterator[Finding]:
    for key in ("code", "version", "xc"):
        values = sorted({str(one.origin[key]) for one in seen if one.origin.get(key)})
        if len(values) > 1:
            text = f"structures differ in {key}: {', '.join(values)}"
            yield Finding(None, "warning", "mixed-settings", text)
    n_unknown = sum(one.origin.get("scf_converged") is None for one in seen)
    if n_unknown:
        text = f"{n_unknown} of {len(seen)} structures do not say whether they converged"
        yield Finding(None, "info", "unconverged", text)


def _some_initial(seen: list[_Seen]) -> Iterator[Finding]:
    """A training on H − H0 needs all, one on H none."""
    without = [one.name for one in seen if not one.has_initial]
    if 0 < len(without) < len(seen):
        text = (
            f"{len(seen) - len(without)} of {len(seen)} structures have an initial Hamiltonian, "
            f"the others not, the first is {without[0]}: initial_hamiltonian cannot be switched on "
            "in a training on all of them"
        )
        yield Finding(None, "warning", "initial", text)
