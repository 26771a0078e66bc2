"""FHI-aims runs: real-space matrices with the run's input and what it printed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.units import Hartree

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.dft.aims.input import CONTROL, GEOMETRY, Control, read_control, read_geometry
from hotham_ase.dft.aims.matrices import (
    BASIS,
    INDICES,
    Pattern,
    read_pattern,
    read_shells,
    read_values,
)
from hotham_ase.dft.aims.output import OUTPUT, Output, read_output
from hotham_ase.dft.aims.placement import Placement, best_placement, check_placement
from hotham_ase.dft.format import Format
from hotham_ase.dft.plausibility import compared_with_run
from hotham_ase.dft.provenance import Provenance, name_of
from hotham_ase.dft.sample import DFTReadError, Sample, UnsupportedRunError
from hotham_ase.dft.triplets import matrix_from_triplets, sorted_places_of_atoms
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.pairs import pair_keys
from hotham_ase.matrices.spin import Spin

_OVERLAP = "rs_overlap"
_HAMILTONIANS = (
    ("rs_hamiltonian.out",),
    ("rs_hamiltonian_up.out", "rs_hamiltonian_dn.out"),
    ("rs_hamiltonian.h5",),
    ("rs_hamiltonian_up.h5", "rs_hamiltonian_down.h5"),
)
_ELECTRONS = 1e-3
_SAME_PLACE = 1e-6  # Å; printed with eight digits
_NOTHING = 1e-8  # elements of S that are but noise of the integration grid


def is_aims(folder: Path) -> bool:
    """Whether a folder has real-space matrices of FHI-aims."""
    return (folder / INDICES).is_file() and (folder / GEOMETRY).is_file()


def read_aims(folder: str | Path, *, verify: bool = True) -> Sample:
    """Read a single point of FHI-aims with ``output_rs_matrices plain`` or ``hdf5``.

    Needed are ``rs_indices.out``, ``rs_overlap`` and ``rs_hamiltonian`` (``_up`` and ``_dn``, in
    HDF5 ``_down``), ``basis-indices.out`` and ``geometry.in``. ``control.in``, if there, gives the
    elements of species and how far orbitals reach, ``aims.out`` the Fermi level, and the levels
    that H and S are compared with. All electrons are in H. Radial functions are not in the files.

    Which orbital of an element lies in its cell is not in the files, and decided by S.

    Parameters
    ----------
    folder
        The run's folder.
    verify
        Compare eigenvalues with those that the run printed, and S with its atoms.

    Raises
    ------
    DFTReadError
        If a file is missing, damaged, or contradicts another one.
    UnsupportedRunError
        For spin-orbit coupling, moving atoms, external fields, ghost atoms, and two kinds of
        orbitals of one element.
    """
    folder = Path(folder)
    _needed(folder, BASIS)
    control = read_control(folder / CONTROL)
    atoms = read_geometry(folder / GEOMETRY, control)
    per_atom = read_shells(folder / BASIS, len(atoms))
    pattern = read_pattern(folder / INDICES)
    run = _Run(folder, atoms, per_atom, pattern)
    files = _hamiltonian_files(folder)
    if len(files) == 1:
        atoms.set_initial_magnetic_moments(None)  # of one spin, which has none
    s = read_values(_needed(folder, _OVERLAP + files[0].suffix), pattern)
    h = np.array([read_values(path, pattern) for path in files]) * Hartree
    placement = best_placement(atoms, *run.pairs(), pattern.cells, s)
    basis = run.basis(control, placement, s)
    overlap = run.matrix(basis, placement, s[None], "overlap")
    output = read_output(folder / OUTPUT)
    _check_positions(folder, atoms, output)
    sample = Sample(
        atoms=atoms,
        basis=basis,
        hamiltonian=run.matrix(basis, placement, h, "hamiltonian"),
        overlap=overlap,
        fermi_level=output.fermi_level,
        n_electrons=_n_electrons(folder, atoms, control, output),
        provenance=_provenance(folder, control, output, placement),
    )
    if not verify:
        return sample
    sorted_shells = [basis[symbol].shells for symbol in atoms.symbols]
    check_placement(overlap, sorted_shells, f"{folder} ({placement.name})")
    return sample if output.levels is None else compared_with_run(sample, output.levels)


def _needed(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise DFTReadError(f"{folder} has no {name}: run with output_rs_matrices")
    return folder / name


def _hamiltonian_files(folder: Path) -> tuple[Path, ...]:
    found = [names for names in _HAMILTONIANS if all((folder / name).is_file() for name in names)]
    if len(found) != 1:
        words = " and ".join(names[0] for names in found) or "none"
        raise DFTReadError(
            f"{folder} must have one rs_hamiltonian.out or .h5, or both of _up and _dn (.h5: "
            f"_down), got {words}"
        )
    return tuple(folder / name for name in found[0])


def _check_positions(folder: Path, atoms: Atoms, output: Output) -> None:
    """Refuse other atoms than those of the run, or of other cells."""
    if output.positions is None:
        return
    same = output.positions.shape == atoms.positions.shape
    moved = output.positions - atoms.positions if same else np.inf
    if same and atoms.pbc.any():
        images = np.rint(atoms.cell.scaled_positions(moved))
        moved = moved - images @ atoms.cell[:]
    if not np.abs(moved).max() < _SAME_PLACE:
        raise DFTReadError(f"{folder}/{GEOMETRY} does not have the atoms of {OUTPUT}")


def _n_electrons(folder: Path, atoms: Atoms, control: Control, output: Output) -> float:
    expected = float(atoms.numbers.sum()) - control.charge
    said = output.n_electrons
    if said is not None and not abs(said - expected) < _ELECTRONS:
        raise DFTReadError(
            f"{folder} has {expected:g} electrons by its input, but {OUTPUT} counts {said:g}"
        )
    return expected


def _provenance(folder: Path, control: Control, output: Output, placement: Placement) -> Provenance:
    return Provenance(
        name=name_of(folder),
        code=FORMAT.name,
        version=output.version,
        xc=control.xc,
        scf_converged=output.converged,
        scf_steps=output.n_steps,
        overlap="read",
        n_valence="given",
        extra={"placement": placement.name},
    )


@dataclass(frozen=True)
class _Run:
    """The pattern of the matrices with the structure that it belongs to; shells of every atom."""

    folder: Path
    atoms: Atoms
    shells: list[tuple[int, ...]]
    pattern: Pattern

    def __post_init__(self) -> None:
        n_basis = sum(2 * l + 1 for of_atom in self.shells for l in of_atom)
        if self.pattern.n_basis != n_basis:
            raise DFTReadError(
                f"{self.folder}/{INDICES} is of {self.pattern.n_basis} orbitals, {BASIS} of "
                f"{n_basis}"
            )
        if self.pattern.is_periodic != bool(self.atoms.pbc.any()):
            raise DFTReadError(
                f"{self.folder}: only one of {INDICES} and {GEOMETRY} has lattice vectors"
            )
        # elements and their mirrors, whose keys must not be equal
        if len(np.unique(self._keys(mirrored=False))) != len(self.pattern.rows):
            raise DFTReadError(f"{self.folder}/{INDICES} lists elements twice")

    def _keys(self, *, mirrored: bool) -> np.ndarray:
        p = self.pattern
        reach = np.abs(p.cells).max(axis=0, initial=0)
        if mirrored:
            return pair_keys(p.columns, p.rows, -p.cells, p.n_basis, reach)
        return pair_keys(p.rows, p.columns, p.cells, p.n_basis, reach)

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Atoms of the row and the column of every element."""
        sizes = [sum(2 * l + 1 for l in of_atom) for of_atom in self.shells]
        atom_of = np.repeat(np.arange(len(sizes)), sizes)
        return atom_of[self.pattern.rows], atom_of[self.pattern.columns]

    def basis(self, control: Control, placement: Placement, overlap: np.ndarray) -> OrbitalBasis:
        """Shells and cutoffs: where ``control.in`` ends orbitals, else half the longest pair."""
        reaches = {one.symbol: one.reach for one in control.species.values()}
        longest = self._longest_pairs(placement, overlap)
        bases: dict[str, SpeciesBasis] = {}
        for symbol, of_atom in zip(self.atoms.symbols, self.shells, strict=True):
            shells = tuple(sorted(of_atom))
            if symbol in bases:
                if bases[symbol].shells != shells:
                    raise UnsupportedRunError(
                        f"{self.folder} has atoms of {symbol} with different orbitals"
                    )
                continue
            reach = reaches.get(symbol)
            cutoff = longest[symbol] / 2 if reach is None else reach
            if not cutoff > 0:
                raise DFTReadError(f"{self.folder} does not say how far orbitals of {symbol} reach")
            number = float(atomic_numbers[symbol])  # all electrons are in H
            bases[symbol] = SpeciesBasis(symbol, shells, (cutoff,) * len(shells), number)
        return OrbitalBasis(tuple(bases.values()))

    def _longest_pairs(self, placement: Placement, overlap: np.ndarray) -> dict[str, float]:
        """Å; of each element, the longest pair with an overlap in which it takes part."""
        kept = np.abs(overlap) > _NOTHING
        i, j = (atom[kept] for atom in self.pairs())
        shifts = placement.shifts(i, j, self.pattern.cells[kept])
        positions = self.atoms.positions
        vectors = positions[j] - positions[i] + shifts @ self.atoms.cell[:]
        lengths = np.linalg.norm(vectors, axis=1)
        symbols = np.array(self.atoms.get_chemical_symbols())
        return {
            str(s): float(lengths[(symbols[i] == s) | (symbols[j] == s)].max(initial=0.0))
            for s in np.unique(symbols)
        }

    def matrix(
        self, basis: OrbitalBasis, placement: Placement, values: np.ndarray, name: str
    ) -> RealSpaceMatrix:
        """In our order of shells and harmonics; what is not in the files is the mirror's."""
        p, places = self.pattern, sorted_places_of_atoms(self.shells)
        alone = ~np.isin(self._keys(mirrored=True), self._keys(mirrored=False))
        shifts = placement.shifts(*self.pairs(), p.cells)
        rows = np.append(p.rows, p.columns[alone])
        columns = np.append(p.columns, p.rows[alone])
        return matrix_from_triplets(
            *(self.atoms, basis, FORMAT.convention, places[rows], places[columns]),
            np.concatenate([shifts, -shifts[alone]]),
            np.concatenate([values, values[:, alone]], axis=1),
            name=name,
            spin=(Spin.UNPOLARIZED, Spin.POLARIZED)[len(values) - 1],
        )


FORMAT = Format(
    name="FHI-aims",
    files="rs_indices.out and geometry.in",
    detect=is_aims,
    read=lambda folder, n_valence, orbitals, verify: read_aims(folder, verify=verify),
    convention="aims",
    spins=(Spin.UNPOLARIZED, Spin.POLARIZED),
)
