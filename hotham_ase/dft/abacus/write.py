"""ABACUS's sparse matrices, out: for ABACUS to start from, and for pyatb.

Both read text of the older layout, see :mod:`hotham_ase.dft.abacus.csr`. Atoms are in the cell and
sorted by element, as in ABACUS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers
from ase.units import Bohr, Rydberg
from scipy.sparse import coo_array, csr_array

from hotham_ase.dft.format import Format
from hotham_ase.dft.rearranged import by_element
from hotham_ase.dft.sample import Sample
from hotham_ase.dft.triplets import triplets_of
from hotham_ase.files import new_folder
from hotham_ase.matrices import BlockLayout
from hotham_ase.matrices.spin import Spin
from hotham_ase.overlap import position_matrix

SPACING = 0.14  # 1/Bohr, of k-points
LEAST_CHARGE = 1e-6  # electrons


@dataclass(frozen=True, eq=False)
class _Matrix:
    """Elements with two rows for each orbital where there are spinors, spin fastest.

    Attributes
    ----------
    label
        H, S or r.
    n_rows
        Of the matrix of each R.
    rows, columns, shifts
        As of :class:`~hotham_ase.dft.triplets.Triplets`.
    values : (n_matrices, n)
        Of matrices in one file: one, or three Cartesian components.
    """

    label: str
    n_rows: int
    rows: np.ndarray
    columns: np.ndarray
    shifts: np.ndarray
    values: np.ndarray

    def doubled(self) -> _Matrix:
        """The same for both spins, which it does not couple."""
        rows, columns = (np.concatenate([2 * k, 2 * k + 1]) for k in (self.rows, self.columns))
        shifts, values = np.tile(self.shifts, (2, 1)), np.tile(self.values, 2)
        return _Matrix(self.label, 2 * self.n_rows, rows, columns, shifts, values)

    def records(self, shifts: np.ndarray) -> Iterator[list[csr_array]]:
        """Matrices of given R, empty where there are none."""
        low, high = shifts.min(axis=0), shifts.max(axis=0)
        shape = tuple(high - low + 1)
        keys = np.ravel_multi_index(tuple((self.shifts - low).T), shape)
        order = np.argsort(keys, kind="stable")
        wanted = np.ravel_multi_index(tuple((shifts - low).T), shape)
        begins, ends = (np.searchsorted(keys[order], wanted, side) for side in ("left", "right"))
        for begin, end in zip(begins, ends, strict=True):
            part = order[begin:end]
            where = (self.rows[part], self.columns[part])
            yield [_csr(values[part], where, self.n_rows) for values in self.values]


def _csr(values: np.ndarray, where: tuple[np.ndarray, np.ndarray], n_rows: int) -> csr_array:
    matrix = csr_array(coo_array((values, where), shape=(n_rows, n_rows)))
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix


def write_abacus(sample: Sample, folder: str | Path) -> None:
    """Write H for ABACUS to start a calculation from, whole or not at all.

    The folder gets ``hrs1_nao.csr``, for collinear spins also ``hrs2_nao.csr``, a ``STRU`` in whose
    order of atoms they are, and an ``INPUT`` with which ABACUS takes its first density from them,
    ``init_chg hr``. Pseudopotentials and orbitals that ``STRU`` names are not written.

    Parameters
    ----------
    sample
        What to write.
    folder
        Must not exist yet.

    Raises
    ------
    FileExistsError
        If the folder exists.
    """
    text = _input(sample)
    sample = by_element(sample)
    shifts = _lattice_vectors(sample.hamiltonian.layout)
    with new_folder(folder) as temporary:
        (temporary / "INPUT").write_text(text)
        (temporary / "STRU").write_text(_stru(sample))
        for n, matrix in enumerate(_hamiltonians(sample)):
            _write(matrix, shifts, temporary / f"hrs{n + 1}_nao.csr")


def write_pyatb(sample: Sample, folder: str | Path) -> None:
    """Write H, S and, if radial functions are known, r for pyatb, whole or not at all.

    The folder gets the files under the names of ABACUS until 3.10, ``STRU``, and an ``Input`` for
    pyatb to which blocks of what is to be computed can be added.

    Parameters
    ----------
    sample, folder
        As for :func:`write_abacus`.

    Raises
    ------
    FileExistsError
        If the folder exists.
    """
    sample = by_element(sample)
    s = sample.overlap
    others = [_matrix("S", s.layout, s.values, sample)]
    layouts = [sample.hamiltonian.layout, s.layout]
    if sample.basis.subset(sample.atoms.symbols).has_radial:
        r = position_matrix(sample.atoms, sample.basis)  # from the origin of the cell
        layouts.append(r.overlap.layout)
        others.append(_matrix("r", layouts[-1], r.values / Bohr, sample))
    if sample.hamiltonian.spin.is_spinor:  # then S is complex, but r is not
        others = [one.doubled() for one in others]
        others[0] = replace(others[0], values=others[0].values.astype(complex))
    shifts = _lattice_vectors(*layouts)  # pyatb wants the same R in all files
    with new_folder(folder) as temporary:
        (temporary / "STRU").write_text(_stru(sample))
        (temporary / "Input").write_text(_pyatb_input(sample, has_position=len(others) > 1))
        for n, matrix in enumerate(_hamiltonians(sample)):
            _write(matrix, shifts, temporary / f"data-HR-sparse_SPIN{n}.csr")
        for matrix, name in zip(others, ("SR-sparse_SPIN0", "rR-sparse"), strict=False):
            _write(matrix, shifts, temporary / f"data-{name}.csr")


# ----------------------------------------------------------------------- matrices


def _hamiltonians(sample: Sample) -> list[_Matrix]:
    """In Ry; two of collinear spins."""
    h = sample.hamiltonian
    matrix = _matrix("H", h.layout, h.values / Rydberg, sample)
    if not h.spin.is_spinor:
        return [replace(matrix, values=channel[None]) for channel in matrix.values]
    blocks = h.spin.blocks_of(matrix.values)
    rows, columns = (
        np.concatenate([2 * k + spin[n] for spin in np.ndindex(2, 2)])
        for n, k in enumerate((matrix.rows, matrix.columns))
    )
    shifts = np.tile(matrix.shifts, (4, 1))
    return [_Matrix("H", 2 * h.n_basis, rows, columns, shifts, blocks.reshape(1, -1))]


def _matrix(label: str, layout: BlockLayout, values: np.ndarray, sample: Sample) -> _Matrix:
    found = triplets_of(layout, values, sample.atoms, sample.basis, FORMAT.convention)
    return _Matrix(label, layout.n_basis, found.rows, found.columns, found.shifts, found.values)


def _lattice_vectors(*layouts: BlockLayout) -> np.ndarray:
    """(n, 3) all R in lexicographic order."""
    return np.unique(np.concatenate([layout.shifts for layout in layouts]), axis=0)


# ---------------------------------------------------------------------------- text


def _write(matrix: _Matrix, shifts: np.ndarray, path: Path) -> None:
    """The older layout: every array on a line of its own, none of a matrix without elements."""
    is_position = len(matrix.values) > 1
    with path.open("w", encoding="ascii") as file:
        file.write("STEP: 0\n")
        file.write(f"Matrix Dimension of {matrix.label}(R): {matrix.n_rows}\n")
        file.write(f"Matrix number of {matrix.label}(R): {len(shifts)}\n")
        for shift, parts in zip(shifts.tolist(), matrix.records(shifts), strict=True):
            file.write(" ".join(map(str, shift)) + ("\n" if is_position else " "))
            for part in parts:
                file.write(f"{part.nnz}\n")
                if part.nnz:
                    file.write(_numbers(part.data) + "\n")
                    file.writelines(
                        " ".join(map(str, a)) + "\n" for a in (part.indices, part.indptr)
                    )


def _numbers(values: np.ndarray) -> str:
    if np.iscomplexobj(values):
        return " ".join(f"({z.real:.12e},{z.imag:.12e})" for z in values.tolist())
    return " ".join(f"{x:.12e}" for x in values.tolist())


def stru_text(
    atoms: Atoms, files: Mapping[str, tuple[str, str]], moments: np.ndarray | None = None
) -> str:
    """Text of a STRU.

    Parameters
    ----------
    atoms
        Those of an element one after another.
    files
        Names of pseudopotential and orbitals of every element.
    moments : (n_atoms,)
        From which the atoms start, in Bohr magnetons; 0 by default.
    """
    symbols = atoms.get_chemical_symbols()
    kinds = list(dict.fromkeys(symbols))
    masses = {kind: atomic_masses[atomic_numbers[kind]] for kind in kinds}
    lines = ["ATOMIC_SPECIES", *(f"{kind} {masses[kind]:.4f} {files[kind][0]}" for kind in kinds)]
    lines += ["", "NUMERICAL_ORBITAL", *(files[kind][1] for kind in kinds)]
    lines += ["", "LATTICE_CONSTANT", f"{1 / Bohr:.15f}", "", "LATTICE_VECTORS"]  # 1 Å
    lines += [" ".join(f"{x:.15f}" for x in vector) for vector in atoms.cell[:]]
    lines += ["", "ATOMIC_POSITIONS", "Direct"]
    scaled = atoms.get_scaled_positions(wrap=False)
    own = [""] * len(atoms) if moments is None else [f" mag {x:.15g}" for x in moments]
    for kind in kinds:
        of_kind = [n for n, symbol in enumerate(symbols) if symbol == kind]
        lines += ["", kind, "0.0", str(len(of_kind))]
        lines += [" ".join(f"{x:.15f}" for x in scaled[n]) + f" 1 1 1{own[n]}" for n in of_kind]
    return "\n".join(lines) + "\n"


def _stru(sample: Sample) -> str:
    """Of files that are not written."""
    files = {symbol: (f"{symbol}.upf", f"{symbol}.orb") for symbol in sample.atoms.symbols}
    return stru_text(sample.atoms, files)


def _input(sample: Sample) -> str:
    """INPUT of a run in this folder that begins with H."""
    spin, atoms = sample.hamiltonian.spin, sample.atoms
    lines = ["INPUT_PARAMETERS", "calculation scf", "basis_type lcao", f"nspin {_nspin(spin)}"]
    if spin is Spin.NON_COLLINEAR:
        lines += ["noncolin 1"]
    if spin.is_spinor:  # without coupling ABACUS stops at pseudopotentials that have none
        lines += ["lspinorb 1"]
    charge = sample.basis.n_electrons(atoms.numbers) - sample.n_electrons
    if abs(charge) > LEAST_CHARGE:
        lines += [f"nelec_delta {-charge:.10f}"]
    spacings = [SPACING if periodic else 100 for periodic in atoms.pbc]  # one point where not
    lines += ["ecutwfc 100", "kspacing {} {} {}".format(*spacings)]
    lines += ["pseudo_dir ./", "orbital_dir ./", "init_chg hr", "read_file_dir ./"]
    return "\n".join(lines) + "\n"


def _nspin(spin: Spin) -> int:
    return {Spin.UNPOLARIZED: 1, Spin.POLARIZED: 2}.get(spin, 4)


def _pyatb_input(sample: Sample, has_position: bool) -> str:
    spin = sample.hamiltonian.spin
    files = [f"data-HR-sparse_SPIN{n}.csr" for n in range(spin.n_spins)]
    level = "Auto" if sample.fermi_level is None else f"{sample.fermi_level:.10f}"
    lines = ["INPUT_PARAMETERS", "{", f"    nspin {_nspin(spin)}", "    package ABACUS"]
    lines += [f"    fermi_energy {level}", "    fermi_energy_unit eV"]
    lines += [f"    HR_route {' '.join(files)}", "    SR_route data-SR-sparse_SPIN0.csr"]
    if has_position:
        lines += ["    rR_route data-rR-sparse.csr", "    rR_unit Bohr"]
    lines += ["    HR_unit Ry", "}", "", "LATTICE", "{", "    lattice_constant 1.0"]
    lines += ["    lattice_constant_unit Angstrom", "    lattice_vector"]
    lines += ["    " + " ".join(f"{x:.15f}" for x in vector) for vector in sample.atoms.cell[:]]
    return "\n".join([*lines, "}"]) + "\n"


FORMAT = Format(
    name="pyatb",
    files="data-HR-… and data-SR-sparse_SPIN0.csr",
    convention="abacus",
    write=write_pyatb,
    written_spins=tuple(Spin),
    word="pyatb",
    purpose="pyatb",
)
