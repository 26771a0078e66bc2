"""FHI-aims's files as the description has them, written from a sample."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from ase.units import Hartree

from hotham_ase.dft import Sample
from hotham_ase.matrices.spin import Spin
from tests.dft.spinful import KPTS, dense_matrices, levels

DUMMY = 999999999


@dataclass(frozen=True)
class Layout:
    """How the files are written where it is not known, or may differ."""

    rows_in_cells: bool = True
    nearest_images: bool = False
    whole: bool = False  # both of (row, column) and (column, row)
    h5: bool = False


def to_aims(l: int) -> np.ndarray:
    """FHI-aims's harmonics of degree l from ours: m = −l … l, odd m > 0 with the other sign."""
    return np.diag([-1.0 if m > 0 and m % 2 else 1.0 for m in range(-l, l + 1)])


def aims_order(sample: Sample) -> tuple[np.ndarray, list[list[int]]]:
    """Our orbital of each of theirs, and the shells of every atom: those of highest l come first.

    Their radial functions of one l stay in their order.
    """
    order: list[int] = []
    shells = []
    for symbol in sample.atoms.symbols:
        ours = sample.basis[symbol].shells
        begins = len(order) + np.cumsum([0] + [2 * l + 1 for l in ours])
        theirs = sorted(range(len(ours)), key=lambda k: -ours[k])
        shells.append([ours[k] for k in theirs])
        for k in theirs:
            order += range(begins[k], begins[k + 1])
    return np.array(order), shells


def write_aims(folder: Path, sample: Sample, layout: Layout = Layout()) -> Path:
    """A run's folder with these matrices and their levels at three k-points."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_input(folder, sample)
    order, shells = aims_order(sample)
    _write_basis(folder / "basis-indices.out", shells)
    names = {"rs_overlap": sample.overlap.values[0]}
    if sample.hamiltonian.spin is Spin.POLARIZED:
        down = "down" if layout.h5 else "dn"
        up = "rs_hamiltonian_up"
        names |= dict(zip((up, f"rs_hamiltonian_{down}"), sample.hamiltonian.values, strict=True))
    else:
        names["rs_hamiltonian"] = sample.hamiltonian.values[0]
    matrices = {}
    for name, values in names.items():
        of = sample.overlap if name == "rs_overlap" else sample.hamiltonian
        unit = 1.0 if name == "rs_overlap" else Hartree
        dense = dense_matrices(of.layout, values[None], sample, to_aims)
        matrices[name] = {
            cell: matrix[np.ix_(order, order)] / unit
            for cell, matrix in _cells(dense, sample, layout, np.arange(len(order))).items()
        }
    _write_matrices(folder, matrices, layout)
    _write_output(folder / "aims.out", sample)
    return folder


def _cells(dense: dict, sample: Sample, layout: Layout, places: np.ndarray) -> dict:
    """(row, column) elements of every cell as FHI-aims counts them."""
    atom_of = np.repeat(np.arange(len(sample.atoms)), sample.hamiltonian.n_orbitals)
    images = np.zeros((len(sample.atoms), 3), int)
    if layout.nearest_images:
        images = -np.rint(sample.atoms.get_scaled_positions(wrap=False)).astype(int)
    moved = images[atom_of][:, None] - images[atom_of][None]  # of the cell of j seen from i
    cells: dict = {}
    for shift, matrix in dense.items():
        for i, j in np.argwhere(matrix):
            cell = tuple((np.array(shift) + moved[i, j]).tolist())
            one = cells.setdefault(cell, np.zeros((len(places),) * 2))
            if layout.rows_in_cells:
                one[j, i] = matrix[i, j]
            else:
                one[i, j] = matrix[i, j]
    return cells


def _write_input(folder: Path, sample: Sample) -> None:
    atoms = sample.atoms
    lines = ["# a crystal"]
    lines += ["lattice_vector " + " ".join(f"{x:.16f}" for x in vector) for vector in atoms.cell[:]]
    for k, (symbol, position) in enumerate(zip(atoms.symbols, atoms.positions, strict=True)):
        word, place = "atom", position
        if k == 1:
            word, place = "atom_frac", atoms.get_scaled_positions(wrap=False)[k]
        lines.append(f"{word} " + " ".join(f"{x:.16f}" for x in place) + f" {symbol}_tight")
        lines.append("constrain_relaxation .true.")
        if k == 0:
            lines.append("initial_moment 1.5")
    (folder / "geometry.in").write_text("\n".join(lines) + "\n")
    control = ["xc pbe", "output_rs_matrices plain  # or hdf5", ""]
    for symbol in sorted(set(atoms.symbols)):
        cutoff = sample.basis[symbol].cutoff
        number = int(atoms.numbers[list(atoms.symbols).index(symbol)])
        control += [f"  species {symbol}_tight", f"    nucleus {number}"]
        control += [f"    cut_pot {cutoff - 1:.16f} 1.0 1.0"]
    (folder / "control.in").write_text("\n".join(control) + "\n")


def _write_basis(path: Path, shells: list[list[int]]) -> None:
    lines = ["", "  fn.   type   at.   n   l   m"]
    number = 0
    for atom, of_atom in enumerate(shells):
        for k, l in enumerate(of_atom):
            for m in range(-l, l + 1):
                number += 1
                kind = ("atomic", "ionic ", "hydro ")[k % 3]
                lines.append(f"{number:5d} {kind:8s} {atom + 1:3d} {l + 1:3d} {l:3d} {m:3d}")
    path.write_text("\n".join(lines) + "\n")


def _write_matrices(folder: Path, matrices: dict, layout: Layout) -> None:
    first = next(iter(matrices.values()))
    n_basis = len(next(iter(first.values())))
    cells = sorted({cell for of_name in matrices.values() for cell in of_name})
    cells = [(0, 0, 0), *(cell for cell in cells if cell != (0, 0, 0))]
    nothing = np.zeros((n_basis, n_basis))
    begins, ends, columns = [], [], []
    values: dict = {name: [] for name in matrices}
    for cell in cells:
        parts = {name: of_name.get(cell, nothing) for name, of_name in matrices.items()}
        there = np.any([part != 0 for part in parts.values()], axis=0)
        if not layout.whole:
            there = np.tril(there)
        row_begins, row_ends = [], []
        for row in range(n_basis):
            found = np.flatnonzero(there[row])
            row_begins.append(len(columns) + 1 if len(found) else 0)
            columns += (found + 1).tolist()
            row_ends.append(len(columns) if len(found) else -1)
            for name, part in parts.items():
                values[name] += part[row, found].tolist()
        begins.append(row_begins)
        ends.append(row_ends)
    lines = [
        f"n_hamiltonian_matrix_size: {len(columns) + 1:12d}",
        f"n_cells_in_hamiltonian: {len(cells) + 1:12d}",
        f"n_basis: {n_basis:12d}",
        "cell_index",
    ]

    def row_text(numbers: list[int]) -> str:
        return " ".join(f"{number:10d}" for number in numbers)

    lines += [row_text(cell) for cell in (*cells, (DUMMY,) * 3)]
    lines += ["index_hamiltonian(1,:,:)", *map(row_text, [*begins, [0] * n_basis])]
    lines += ["index_hamiltonian(2,:,:)", *map(row_text, [*ends, [-1] * n_basis])]
    lines += ["column_index_hamiltonian", *(f"{column:10d}" for column in (*columns, 0))]
    (folder / "rs_indices.out").write_text("\n".join(lines) + "\n")
    for name, numbers in values.items():
        if layout.h5:
            with h5py.File(folder / f"{name}.h5", "w") as file:
                file["sparse_matrix"] = np.array([*numbers, 0.0])
        else:
            text = "".join(f"{x:24.16E}\n" for x in (*numbers, 0.0))
            (folder / f"{name}.out").write_text(text)


def _write_output(path: Path, sample: Sample) -> None:
    """Levels with six digits in Hartree; electronvolts are the code's own."""
    n_spins = sample.hamiltonian.spin.n_spins
    lines = [
        "  FHI-aims version      : 250320",
        f"  | Formal number of electrons (from input files) : {sample.atoms.numbers.sum():.10f}",
        f"  | Chemical potential (Fermi level) in eV : {sample.fermi_level:.8E}",
        "  | Atomic structure:",
        "  |       Atom                x [A]            y [A]            z [A]",
    ]
    for number, (symbol, place) in enumerate(
        zip(sample.atoms.symbols, sample.atoms.get_positions(wrap=True), strict=True), start=1
    ):
        coordinates = "".join(f"{x:18.8f}" for x in place)
        lines.append(f"  |{number:5d}: Species {symbol}_tight {coordinates}")
    lines += ["", "  Writing Kohn-Sham eigenvalues."]
    for number, kpt in enumerate(np.round(KPTS, 6)):
        energies = levels(sample, kpt)
        for spin in range(n_spins):
            if n_spins == 2:
                lines.append(f"  Spin-{('up', 'down')[spin]} eigenvalues: ")
            place = "".join(f"  {x:10.6f}" for x in kpt)
            lines += [f"  K-point:{number + 1:8d} at{place} (in units of recip. lattice)", ""]
            lines.append("  State    Occupation    Eigenvalue [Ha]    Eigenvalue [eV]")
            for k, energy in enumerate(energies[spin][:-3]):  # fewer states than orbitals
                hartree = energy / Hartree
                numbers = f"{1:8.5f}  {hartree:16.6f}  {hartree * 27.2113845:16.5f}"
                lines.append(f"  {k + 1:5d}      {numbers}")
            lines.append("")
    lines += ["  Self-consistency cycle converged.", ""]
    lines += ["  | Number of self-consistency cycles          :           17", ""]
    path.write_text("\n".join(lines))
