"""Whether matrices can be what a calculation found: what is looked at when a sample is read.

A flipped digit cannot be known, but most damage can: orbitals that overlap have a block of H, an
orbital has norm 1, the electrons of the run are below its Fermi level, and where a run printed its
eigenvalues H and S have to give them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy.linalg import LinAlgError, eigh

from hotham_ase.dft.sample import DFTReadError, Sample
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList
from hotham_ase.overlap import overlap_matrix

# PAOs of some codes are normalised to a few per cent only
NORM_TOLERANCE = 0.05
# of S against the basis functions, by code: ABACUS agrees to 3e-8, others to 4e-5
OVERLAP_TOLERANCE = 3e-4
OVERLAP_TOLERANCES = {"ABACUS": 2e-5}
# between l and m of one atom; FHI-aims integrates on grids of a lattice's symmetry, and S of GPAW
# has parts of the projectors of neighbours
MIXING_TOLERANCES = {"FHI-aims": 5e-3, "GPAW": 0.05}
# orbitals are tiny near their cutoffs, where codes may leave pairs out; nearer ones must be there
NEAR_PAIRS = 0.75
OVERLAPPING = 1e-4  # a block of S that is larger than this needs a block of H
N_SAMPLED = 60  # pairs of S that are computed
EIGENVALUE_TOLERANCE = 1e-4  # eV
LARGEST_DENSE = 2500  # orbitals; larger matrices are not diagonalized here
SMALL = 800  # orbitals; so far a second k-point costs little
LARGEST_COUNT_ERROR = 0.1  # of the electrons, and at least two, on the few k-points looked at


@dataclass(frozen=True)
class Eigenvalues:
    """Kohn-Sham eigenvalues that a run printed.

    Attributes
    ----------
    kpts : (n_kpts, 3)
        Fractional reciprocal coordinates.
    eigenvalues : (n_spins, n_kpts, n_bands)
        eV on the scale of the matrices.
    occupations : (n_spins, n_kpts, n_bands) or None
        As printed: they include the k-point's weight. None if they are not.
    """

    kpts: np.ndarray
    eigenvalues: np.ndarray
    occupations: np.ndarray | None = None


def _n_rows(sample: Sample) -> int:
    """Rows of H(k)."""
    return sample.hamiltonian.spin.n_rows(sample.hamiltonian.n_basis)


def check_sample(sample: Sample) -> None:
    """Refuse matrices that cannot belong to the structure.

    S has norms of 1 and no elements between different l and m of one atom; a sample of its blocks
    agrees with the two-centre integrals, where the radial functions are known; every atom has an
    onsite block of H, every pair whose orbitals overlap a hopping block, and no pair crosses a
    direction that is not periodic.

    Parameters
    ----------
    sample
        What was read.

    Raises
    ------
    DFTReadError
        With what was expected and what is there.
    """
    check_periodicity(sample)
    _check_onsite(sample)
    if sample.basis.has_radial and sample.provenance.overlap != "computed":
        _check_overlap(sample)
    _check_missing_pairs(sample)


def check_electrons(sample: Sample) -> None:
    """Refuse an H that has another number of levels below the Fermi level than electrons need.

    A few k-points are looked at, so only gross errors are found: an H in another unit, with
    another zero of energy, or of another structure. Matrices of more than 2 500 orbitals and
    samples without a Fermi level are not looked at.

    Raises
    ------
    DFTReadError
        With both numbers; or if S(k) is not positive definite.
    """
    if sample.fermi_level is None or _n_rows(sample) > LARGEST_DENSE:
        return
    # a point inside the zone and its images in the axes: no level there is degenerate by symmetry
    kpts = np.array([[0.21, 0.17, 0.13], [-0.21, 0.33, 0.29]]) * sample.atoms.pbc
    n_kpts = len(kpts) if sample.atoms.pbc.any() and _n_rows(sample) <= SMALL else 1
    levels = np.concatenate(
        [
            _levels(sample, kpt, channel)
            for kpt in kpts[:n_kpts]
            for channel in range(sample.hamiltonian.spin.n_spins)
        ]
    )
    filled = (levels < sample.fermi_level).sum() / n_kpts
    n_electrons = sample.hamiltonian.spin.degeneracy * filled
    if abs(n_electrons - sample.n_electrons) > max(2.0, LARGEST_COUNT_ERROR * sample.n_electrons):
        raise DFTReadError(
            f"{sample.name}: {n_electrons:g} electrons are below the Fermi level of "
            f"{sample.fermi_level:.3f} eV where {sample.n_electrons:g} should be: H is in another "
            "unit, has another zero of energy, or is of another structure"
        )


def check_against_run(
    sample: Sample, run: Eigenvalues, tolerance: float = EIGENVALUE_TOLERANCE
) -> int:
    """Refuse matrices that do not give the eigenvalues that their run printed.

    One or two k-points are compared: one where phases are complex, and Γ or what comes first; none
    beyond 2 500 orbitals. The printed occupations must add up to the sample's electrons, and the
    levels below its Fermi level hold them.

    Parameters
    ----------
    sample
        What was read.
    run
        What the run printed.
    tolerance
        Largest difference in eV.

    Returns
    -------
    Number of k-points whose eigenvalues were compared.

    Raises
    ------
    DFTReadError
        With the difference; or if S(k) is not positive definite.
    """
    if run.occupations is not None:
        _check_occupations(sample, run.eigenvalues, run.occupations)
    n_spins, _, n_bands = run.eigenvalues.shape
    if n_spins != sample.hamiltonian.spin.n_spins:
        raise DFTReadError(
            f"{sample.name}: the run printed levels of {n_spins} spins, where H is "
            f"{sample.hamiltonian.spin.value}"
        )
    n_levels = _n_rows(sample)
    if n_bands > n_levels:
        raise DFTReadError(
            f"{sample.name}: the run has {n_bands} bands, more than the {n_levels} that its "
            f"{sample.hamiltonian.n_basis} orbitals make"
        )
    compared = _kpoints_to_compare(sample, run.kpts)
    for index, spin in product(compared, range(n_spins)):
        levels = _levels(sample, run.kpts[index], spin)[:n_bands]
        error = np.abs(levels - run.eigenvalues[spin, index])
        if not error.max() <= tolerance:
            band = int(error.argmax())
            raise DFTReadError(
                f"{sample.name}: H and S do not give the run's own eigenvalues: level {band + 1} "
                f"at k = {np.round(run.kpts[index], 4).tolist()} is {levels[band]:.5f} eV, the run "
                f"printed {run.eigenvalues[spin, index, band]:.5f} eV"
            )
    return len(compared)


def compared_with_run(
    sample: Sample, run: Eigenvalues, tolerance: float = EIGENVALUE_TOLERANCE
) -> Sample:
    """The sample, its provenance saying so if :func:`check_against_run` compared k-points."""
    if not check_against_run(sample, run, tolerance):
        return sample
    return replace(sample, provenance=replace(sample.provenance, eigenvalues="compared"))


def _check_occupations(sample: Sample, levels: np.ndarray, occupations: np.ndarray) -> None:
    n_electrons = float(occupations.sum())
    if abs(n_electrons - sample.n_electrons) > 1e-3 * max(1.0, sample.n_electrons):
        raise DFTReadError(
            f"{sample.name}: the run's occupations add up to {n_electrons:g} electrons, but the "
            f"sample has {sample.n_electrons:g}"
        )
    if sample.fermi_level is not None:
        # the lowest level of every k-point is full: its occupation is the k-point's weight
        below = (levels < sample.fermi_level) * occupations[..., :1]
        if abs(below.sum() - n_electrons) > max(2.0, LARGEST_COUNT_ERROR * n_electrons):
            raise DFTReadError(
                f"{sample.name}: {below.sum():g} of {n_electrons:g} electrons are in the run's "
                f"levels below the Fermi level of {sample.fermi_level:.3f} eV"
            )


def _kpoints_to_compare(sample: Sample, kpts: np.ndarray) -> list[int]:
    """The k-point farthest from those where H(k) is real, and the first."""
    if _n_rows(sample) > LARGEST_DENSE:
        return []
    most_complex = int(np.abs(np.sin(2 * np.pi * kpts)).sum(axis=1).argmax())
    first = [0] if most_complex and _n_rows(sample) <= SMALL else []
    return [most_complex, *first]


def _levels(sample: Sample, kpt: np.ndarray, channel: int) -> np.ndarray:
    """(n_bands,) eigenvalues of one of the ``n_spins`` channels in eV."""
    h_k = sample.hamiltonian.at_k(kpt, format="dense", channel=channel)
    s_k = sample.overlap.at_k(kpt, format="dense", spin=sample.hamiltonian.spin)
    try:
        return eigh(h_k, s_k, eigvals_only=True, overwrite_a=True, overwrite_b=True)
    except LinAlgError as error:
        raise DFTReadError(
            f"{sample.name}: S(k) is not positive definite at k = {np.round(kpt, 4).tolist()}"
        ) from error


# ------------------------------------------------------------------------- blocks


def check_periodicity(sample: Sample) -> None:
    """Refuse blocks between cells along directions that are not periodic.

    Raises
    ------
    DFTReadError
        With the first of them.
    """
    for matrix in (sample.hamiltonian, sample.overlap):
        crossing = matrix.pairs.cell_shifts[:, ~sample.atoms.pbc].any(axis=1)
        if crossing.any():
            shift = matrix.pairs.cell_shifts[crossing.argmax()].tolist()
            raise DFTReadError(
                f"{sample.name}: {matrix.name} has a block at R = {shift}, but pbc is "
                f"{sample.atoms.pbc.tolist()}"
            )


def _check_onsite(sample: Sample) -> None:
    for atom, symbol in enumerate(sample.atoms.symbols):
        _check_levels(sample, atom, symbol)
        block = sample.overlap.onsite_block(atom)
        error = np.abs(np.diag(block) - 1)
        if not error.max() <= NORM_TOLERANCE:
            k = int(error.argmax())
            raise DFTReadError(
                f"{sample.name}: overlap of orbital {k} of atom {atom} ({symbol}) with itself is "
                f"{block[k, k]:.4g}, expected 1: it is in another unit or incomplete"
            )
        # harmonics at one centre are orthogonal, whatever the radial functions
        shells = sample.basis[symbol].shells
        lm = np.concatenate([[(l, m) for m in range(-l, l + 1)] for l in shells])
        other = (lm[:, None] != lm).any(axis=2)
        mixed = np.abs(block[other]).max(initial=0.0)
        code = str(sample.provenance.code)
        if mixed > MIXING_TOLERANCES.get(code, OVERLAP_TOLERANCE):
            raise DFTReadError(
                f"{sample.name}: overlap of atom {atom} ({symbol}) has elements of {mixed:.3g} "
                "between orbitals of different l or m, which are orthogonal: another order of "
                "orbitals, or not an overlap"
            )


def _check_levels(sample: Sample, atom: int, symbol: str) -> None:
    """Refuse orbitals without an energy; no number of a calculation is exactly zero by chance."""
    for channel in range(sample.hamiltonian.spin.n_spins):
        block = sample.hamiltonian.onsite_block(atom, channel)
        if not block.any():
            raise DFTReadError(f"{sample.name}: hamiltonian has no onsite block of atom {atom}")
        missing = np.flatnonzero(np.diag(block) == 0)
        if len(missing):
            raise DFTReadError(
                f"{sample.name}: hamiltonian has no element of orbital {missing[0]} of atom {atom} "
                f"({symbol}) with itself: it is incomplete"
            )


def _check_overlap(sample: Sample) -> None:
    """Compare some of the blocks of S with the two-centre integrals, the nearest ones first."""
    pairs = sample.overlap.pairs
    order = np.argsort(pairs.edge_lengths, kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, N_SAMPLED).astype(int))]
    if len(order) == 0:
        return
    some = _selection(pairs, chosen)
    difference = (
        sample.overlap.on_pairs(some).values
        - overlap_matrix(sample.atoms, sample.basis, pairs=some).values
    )
    largest = float(np.abs(difference).max())
    if largest > OVERLAP_TOLERANCES.get(str(sample.provenance.code), OVERLAP_TOLERANCE):
        raise DFTReadError(
            f"{sample.name}: overlap differs by {largest:.3g} from the integrals of the basis "
            "functions: other orbitals, another structure, or another order of orbitals"
        )


def _selection(pairs: PairList, edges: np.ndarray) -> PairList:
    """Some of the pairs, and their reverses."""
    return pairs.select(np.unique(np.concatenate([edges, pairs.reverse_edge_index[edges]])))


def _check_missing_pairs(sample: Sample) -> None:
    for matrix in (sample.hamiltonian, sample.overlap):
        near = PairList.from_atoms(sample.atoms, _near_cutoffs(sample, matrix))
        _refuse_missing(sample, matrix, near, "where orbitals overlap")
    size = sample.overlap.layout.largest(sample.overlap.values)[len(sample.atoms) :]
    overlapping = np.flatnonzero(size > OVERLAPPING)
    if len(overlapping):
        pairs = _selection(sample.overlap.pairs, overlapping)
        _refuse_missing(sample, sample.hamiltonian, pairs, "where S has one")


def _near_cutoffs(sample: Sample, matrix: RealSpaceMatrix) -> dict[tuple[str, str], float]:
    """Å within which a matrix must have all pairs of two elements.

    Without radial functions the orbitals' reach is not known: then it is the longest pair that
    the matrix has.
    """
    if sample.basis.has_radial:
        return {key: NEAR_PAIRS * c for key, c in sample.basis.pair_cutoffs.items()}
    symbols = np.array(sample.atoms.get_chemical_symbols())
    i, j = symbols[matrix.pairs.edge_index]
    lengths = matrix.pairs.edge_lengths
    return {
        (a, b): NEAR_PAIRS * float(lengths[(i == a) & (j == b)].max(initial=0.1))
        for a, b in product(np.unique(symbols).tolist(), repeat=2)
    }


def _refuse_missing(sample: Sample, matrix: RealSpaceMatrix, pairs: PairList, where: str) -> None:
    i, j = pairs.edge_index
    found = matrix.pairs.find(i, j, pairs.cell_shifts)
    size = matrix.layout.largest(matrix.values)[len(sample.atoms) :]
    missing = np.flatnonzero((found < 0) | (np.append(size, 0.0)[found] == 0.0))
    if len(missing):
        raise DFTReadError(
            f"{sample.name}: {matrix.name} lacks {len(missing)} blocks {where}, "
            f"{describe_nearest(pairs, missing)}: it is incomplete"
        )


def describe_nearest(pairs: PairList, edges: np.ndarray) -> str:
    """Words for the shortest of some pairs."""
    e = edges[pairs.edge_lengths[edges].argmin()]
    i, j = pairs.edge_index[:, e]
    return (
        f"the nearest at {pairs.edge_lengths[e]:.2f} Å (i={i}, j={j}, "
        f"R={pairs.cell_shifts[e].tolist()})"
    )
