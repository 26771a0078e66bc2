"""SIESTA's files, written from their description, not by the package."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py
import numpy as np
from ase.units import Bohr, Rydberg
from scipy.linalg import eigvalsh

from hotham_ase.basis.orbitals import SpeciesBasis
from hotham_ase.dft import Sample
from hotham_ase.matrices.spin import Spin
from tests.dft.spinful import dense_matrices, spinor_blocks

NUMBERS = {"B": 5, "Mo": 42}


def to_siesta(l: int) -> np.ndarray:
    """m = -l … l with the sign (-1)^m."""
    return np.diag([(-1.0) ** m for m in range(-l, l + 1)])


def record(*parts: bytes, order: str = "<") -> bytes:
    data = b"".join(parts)
    mark = struct.pack(f"{order}i", len(data))
    return mark + data + mark


class _Elements:
    """Sparse rows of H and S in the supercell: by row the columns (orbital, copy)."""

    def __init__(self, sample: Sample, *, folded: bool = False) -> None:
        layout, spin = sample.hamiltonian.layout, sample.hamiltonian.spin
        if spin.is_spinor:
            (uu, ud), (du, dd) = spinor_blocks(sample)
            # elements are listed transposed; with spin-orbit coupling all eight, else four
            mirror = layout.mirror
            uu, ud, du, dd = (mirror(block) for block in (uu, ud, du, dd))
            values = [uu.real, dd.real, ud.real, -ud.imag, uu.imag, dd.imag, du.real, du.imag]
        else:
            values = list(sample.hamiltonian.values)
        s = sample.overlap.on_pairs(sample.hamiltonian.pairs).values[0]
        arrays = [*(np.asarray(v) / Rydberg for v in values), s]
        dense = [dense_matrices(layout, v, sample, to_siesta) for v in arrays]
        self.shifts = sorted(dense[0], key=lambda r: (r != (0, 0, 0), r))
        table = np.array([[of[r] for r in self.shifts] for of in dense])  # (kinds, R, n, n)
        if folded:
            self.shifts, table = [(0, 0, 0)], table.sum(axis=1, keepdims=True)
        self.n_basis = table.shape[-1]
        self.columns, self.h, self.s = [], [], []
        present = np.abs(table).max(axis=0) > 0
        for row in range(self.n_basis):
            copies, columns = np.nonzero(present[:, row])
            self.columns.append(copies * self.n_basis + columns)
            self.h.append(table[:-1, copies, row, columns])
            self.s.append(table[-1, copies, row, columns])

    @property
    def n_spins(self) -> int:
        return len(self.h[0])


def species_records(sample: Sample, order: str, *, together: bool) -> list[bytes]:
    species = sample.basis.species
    head = [
        struct.pack(f"{order}20sdi", s.symbol.ljust(20).encode(), s.n_valence, s.n_orbitals)
        for s in species
    ]
    records = [record(*head, order=order)]
    for one in species:
        rows = []
        for shell, l in enumerate(one.shells):
            zeta = 1 + one.shells[:shell].count(l)
            rows += [struct.pack(f"{order}3i", l + 1, l, zeta)] * (2 * l + 1)
        records += (
            [record(*rows, order=order)] if together else [record(row, order=order) for row in rows]
        )
    return records


def hsx_bytes(sample: Sample, version: int = 1, *, order: str = "<", double: bool = True) -> bytes:
    """A ``.HSX`` file of version 0, 1 or 2."""
    elements = _Elements(sample)
    real = "d" if double and version else "f"

    def pack(kind: str, numbers) -> bytes:
        flat = np.ravel(numbers)
        return struct.pack(f"{order}{len(flat)}{kind}", *flat.tolist())

    def rows(kind: str, of_rows) -> list[bytes]:
        return [record(pack(kind, row), order=order) for row in of_rows]

    atoms, shifts, n = sample.atoms, elements.shifts, elements.n_basis
    counts = pack("i", [len(row) for row in elements.columns])
    matrices = rows("i", [row + 1 for row in elements.columns])
    for spin in range(elements.n_spins):
        matrices += rows(real, [row[spin] for row in elements.h])
    matrices += rows(real, elements.s)
    symbols = [one.symbol for one in sample.basis.species]
    kinds = pack("i", [1 + symbols.index(symbol) for symbol in atoms.symbols])
    if version == 0:
        vectors = _vectors(sample, elements)
        copy_of = np.tile(np.arange(1, n + 1), len(shifts))
        n_elements = sum(len(row) for row in elements.columns)
        parts = [record(pack("i", [n, n * len(shifts), elements.n_spins, n_elements]), order=order)]
        parts += [record(pack("i", [0]), order=order), record(pack("i", copy_of), order=order)]
        parts += [record(counts, order=order), *matrices]
        parts += [record(pack("d", [sample.n_electrons, 0.0]), order=order), *rows("f", vectors)]
        parts += [record(pack("i", [len(symbols)]), order=order)]
        parts += species_records(sample, order, together=False)
        parts += [record(pack("i", [len(atoms)]), order=order), record(kinds, order=order)]
        return b"".join(parts)
    fermi = 0.0 if sample.fermi_level is None else sample.fermi_level / Rydberg
    sizes = [len(atoms), n, elements.n_spins, len(symbols), len(shifts), 1, 1]
    parts = [record(pack("i", [one]), order=order) for one in (version, int(double))]
    parts += [record(pack("i", sizes), order=order)]
    numbers = [fermi, sample.n_electrons, 0.01]
    parts += [record(pack("d", atoms.cell[:] / Bohr), pack("d", numbers), order=order)]
    last = np.cumsum(sample.hamiltonian.n_orbitals)
    where = (pack("i", shifts), pack("d", atoms.positions / Bohr), kinds, pack("i", last))
    parts += [record(*where, order=order), *species_records(sample, order, together=True)]
    if version == 2:
        parts += [record(pack("i", np.eye(3, dtype=int)), pack("d", [0, 0, 0]), order=order)]
    return b"".join([*parts, record(counts, order=order), *matrices])


def _vectors(sample: Sample, elements: _Elements) -> list[np.ndarray]:
    """Bohr from the atom of the row to that of each column."""
    atoms, n = sample.atoms, elements.n_basis
    atom_of = np.repeat(np.arange(len(atoms)), sample.hamiltonian.n_orbitals)
    places = atoms.positions[atom_of] / Bohr
    shifts = np.array(elements.shifts) @ atoms.cell[:] / Bohr
    return [
        places[columns % n] + shifts[columns // n] - places[row]
        for row, columns in enumerate(elements.columns)
    ]


def tshs_bytes(sample: Sample, *, gamma: bool = False) -> bytes:
    """A ``.TSHS`` file."""
    elements = _Elements(sample, folded=gamma)
    atoms, shifts, n = sample.atoms, elements.shifts, elements.n_basis

    def pack(kind: str, numbers) -> bytes:
        flat = np.ravel(numbers)
        return struct.pack(f"<{len(flat)}{kind}", *flat.tolist())

    n_elements = sum(len(row) for row in elements.columns)
    sizes = [len(atoms), n, n * len(shifts), elements.n_spins, n_elements]
    parts = [record(pack("i", [1])), record(pack("i", sizes))]
    parts += [record(pack("i", [len(shifts), 1, 1]))]
    parts += [record(pack("d", atoms.cell[:] / Bohr), pack("d", atoms.positions / Bohr))]
    parts += [record(pack("i", [int(gamma), 0, 0]))]
    parts += [record(pack("i", np.eye(3, dtype=int)), pack("d", [0, 0, 0]))]
    fermi = 0.0 if sample.fermi_level is None else sample.fermi_level / Rydberg
    parts += [record(pack("d", [fermi, sample.n_electrons, 0.01])), record(pack("i", [0, 0]))]
    parts += [record(pack("i", [0, *np.cumsum(sample.hamiltonian.n_orbitals)]))]
    parts += [record(pack("i", [len(row) for row in elements.columns]))]
    parts += [record(pack("i", row + 1)) for row in elements.columns]
    parts += [record(pack("d", row)) for row in elements.s]
    for spin in range(elements.n_spins):
        parts += [record(pack("d", row[spin])) for row in elements.h]
    return b"".join([*parts, *([] if gamma else [record(pack("i", shifts))])])


def write_nc(path: Path, sample: Sample, *, gamma: bool = False) -> Path:
    """A ``LABEL.nc`` file, as HDF5; netCDF writes attributes that are numbers as arrays of one."""
    elements = _Elements(sample, folded=gamma)
    atoms, symbols = sample.atoms, [one.symbol for one in sample.basis.species]
    with h5py.File(path, "w") as file:
        file["lasto"] = np.cumsum(sample.hamiltonian.n_orbitals).astype("i4")
        file["Ef"] = [(sample.fermi_level or 0.0) / Rydberg]
        file["Qtot"] = [sample.n_electrons]
        file["cell"], file["xa"] = atoms.cell[:] / Bohr, atoms.positions / Bohr
        file["nsc"] = np.array([len(elements.shifts), 1, 1], "i4")
        sparse = file.create_group("SPARSE")
        sparse["isc_off"] = np.array(elements.shifts, "i4")
        sparse["n_col"] = np.array([len(row) for row in elements.columns], "i4")
        sparse["list_col"] = np.concatenate(elements.columns).astype("i4") + 1
        sparse["S"] = np.concatenate(elements.s)
        sparse["H"] = np.concatenate(elements.h, axis=1)
        sparse["H"].attrs["unit"] = np.bytes_("Ry")
        basis = file.create_group("BASIS")
        basis["basis"] = np.array([1 + symbols.index(symbol) for symbol in atoms.symbols], "i4")
        for number, one in enumerate(sample.basis.species, start=1):
            group = basis.create_group(one.symbol)
            group["orbnl_l"] = np.array(one.shells, "i4")
            group.attrs["Label"] = np.bytes_(one.symbol)
            group.attrs["ID"] = np.array([number], "i4")
    return path


def ion_text(species: SpeciesBasis) -> str:
    """A ``.ion.xml`` file; the last point is the cutoff, and f(r) is without r^l."""
    lines = ['<ion version="0.1">', f"<symbol>{species.symbol}</symbol>"]
    lines += [f"<z> {NUMBERS[species.symbol]} </z>", f"<valence> {species.n_valence} </valence>"]
    lines += ["<preamble> a & b </preamble>".replace("&", "&amp;"), "<paos>"]
    r = species.grid / Bohr
    for l, values in zip(species.shells, species.radial, strict=True):
        f = np.empty(len(r))
        f[1:] = values[1:] * Bohr**1.5 / r[1:] ** l
        f[0] = np.polyval(np.polyfit(r[1:6], f[1:6], 4), 0.0)
        lines += [f'<orbital l=" {l}" n="1" z="1" ispol="0" population=" 0.0">', "<radfunc>"]
        lines += [f"<npts> {len(r)} </npts>", f"<cutoff> {r[-1]:.12f} </cutoff>", "<data>"]
        lines += [f"{a:.14f} {b:.14e}" for a, b in zip(r, f, strict=True)]
        lines += ["</data>", "</radfunc>", "</orbital>"]
    return "\n".join([*lines, "</paos>", "<kbs></kbs>", "</ion>"]) + "\n"


def xv_text(sample: Sample) -> str:
    rows = [*sample.atoms.cell[:] / Bohr]
    lines = [" ".join(f"{x:.12f}" for x in row) + " 0 0 0" for row in rows]
    lines.append(str(len(sample.atoms)))
    for number, place in zip(sample.atoms.numbers, sample.atoms.positions / Bohr, strict=True):
        lines.append(f"1 {number} " + " ".join(f"{x:.12f}" for x in place) + " 0 0 0")
    return "\n".join(lines) + "\n"


def eig_text(sample: Sample, kpts: np.ndarray) -> tuple[str, str]:
    """``.EIG`` and ``.KP``."""
    spin = sample.hamiltonian.spin
    n_bands = sample.hamiltonian.n_basis * (2 if spin.is_spinor else 1)
    fermi = sample.fermi_level or 0.0
    n_spins = {Spin.UNPOLARIZED: 1, Spin.POLARIZED: 2}.get(spin, 8)
    lines, places = [f"{fermi:.9f}", f"{n_bands} {n_spins} {len(kpts)}"], [str(len(kpts))]
    reciprocal = 2 * np.pi * np.linalg.inv(sample.atoms.cell[:] / Bohr).T
    for k, kpt in enumerate(kpts):
        s = sample.overlap.at_k(kpt, format="dense", spin=spin)
        levels = [
            eigvalsh(sample.hamiltonian.at_k(kpt, format="dense", channel=channel), s)
            for channel in range(spin.n_spins)
        ]
        lines.append(f"{k + 1} " + " ".join(f"{e:.9f}" for e in np.ravel(levels)))
        places.append(f"{k + 1} " + " ".join(f"{x:.10f}" for x in kpt @ reciprocal) + " 0.5")
    return "\n".join(lines) + "\n", "\n".join(places) + "\n"


def write_siesta(folder: Path, sample: Sample, matrices: dict[str, bytes]) -> Path:
    """A folder with these files of matrices, structure, species and levels."""
    folder.mkdir(parents=True)
    for name, data in matrices.items():
        (folder / name).write_bytes(data)
    for species in sample.basis.species:
        (folder / f"{species.symbol}.ion.xml").write_text(ion_text(species))
    (folder / "crystal.XV").write_text(xv_text(sample))
    levels, kpts = eig_text(sample, np.array([[0, 0, 0], [0.1, 0.2, 0.3]]))
    (folder / "crystal.EIG").write_text(levels)
    (folder / "crystal.KP").write_text(kpts)
    return folder
