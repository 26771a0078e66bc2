"""OpenMX's files, written from their description, not by the package."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from ase.units import Bohr, Hartree
from scipy.linalg import eigvalsh

from hotham_ase.basis.orbitals import SpeciesBasis
from hotham_ase.dft import Sample
from hotham_ase.matrices.spin import Spin
from tests.dft.spinful import dense_matrices, spinor_blocks

INPUT = """
# a comment
System.Name crystal
DATA.PATH   elsewhere
Species.Number 2
<Definition.of.Atomic.Species
 boron {boron} B_PBE19
 Mo    {molybdenum} Mo_PBE19   # comment
Definition.of.Atomic.Species>
Atoms.Number 3
<Atoms.SpeciesAndCoordinates
 1 boron 0.0 0.0 0.0 1.5 1.5
 2 boron 0.0 0.0 0.0 2.0 1.0
 3 Mo    0.0 0.0 0.0 7.0 7.0
Atoms.SpeciesAndCoordinates>
scf.XcType GGA-PBE
scf.SpinPolarization off
{more}
"""


def to_openmx(l: int) -> np.ndarray:
    """s; x, y, z; z², x²-y², xy, xz, yz; m = 0, 1, -1, … of ours, m = -l … l."""
    order = {0: [0], 1: [1, -1, 0], 2: [0, 2, -2, 1, -1], 3: [0, 1, -1, 2, -2, 3, -3]}[l]
    matrix = np.zeros((2 * l + 1, 2 * l + 1))
    for row, m in enumerate(order):
        matrix[row, l + m] = 1
    return matrix


def orbitals_name(species: SpeciesBasis) -> str:
    """Such as B3.6-s2p1d1."""
    counts = "".join(f"{'spdf'[l]}{species.shells.count(l)}" for l in sorted(set(species.shells)))
    return f"{species.symbol}{species.cutoff / Bohr:.1f}-{counts}"


def pao_text(species: SpeciesBasis) -> str:
    """A ``.pao`` file: tables on a logarithmic mesh, with more functions than are used."""
    cutoff = species.cutoff / Bohr
    x = np.linspace(-7.5, np.log(1.02 * cutoff), 2000)
    r = np.exp(x)
    lines = [f"AtomSpecies {species_number(species)}", f"radial.cutoff.pao {cutoff:.1f} # Bohr"]
    lines += ["valence.electron 99.0", "PAO.Mul 3"]
    for l in sorted(set(species.shells)):
        own = [f for of, f in zip(species.shells, species.radial, strict=True) if of == l]
        values = [np.interp(r, species.grid / Bohr, f, right=0.0) * Bohr**1.5 for f in own]
        values.append(np.ones(len(r)))
        lines.append(f"<pseudo.atomic.orbitals.L={l}")
        table = np.column_stack([x, r, *values])
        lines += [" ".join(f"{number:.15f}" for number in row) for row in table]
        lines.append(f"pseudo.atomic.orbitals.L={l}>")
    return "\n".join(lines) + "\n"


def species_number(species: SpeciesBasis) -> int:
    return {"B": 5, "Mo": 42}[species.symbol]


def scfout_bytes(
    sample: Sample, *, version: int = 3, order: str = "<", more: str = "", n_electrons: float = 20.0
) -> bytes:
    """The binary file of a sample of any spin."""
    atoms, spin, layout = sample.atoms, sample.hamiltonian.spin, sample.hamiltonian.layout
    switch = {Spin.UNPOLARIZED: 0, Spin.POLARIZED: 1}.get(spin, 3)
    if switch < 3:
        real, imaginary = list(sample.hamiltonian.values), []
    else:
        (uu, ud), (_, dd) = spinor_blocks(sample)
        # what spin-orbit coupling adds to ud is apart; how it is divided does not matter
        real = [uu.real, dd.real, ud.real, 0.25 * ud.imag]
        imaginary = [uu.imag, dd.imag, 0.75 * ud.imag]
    arrays = [
        dense_matrices(layout, np.asarray(values), sample, to_openmx)
        for values in [*(v / Hartree for v in real), *(v / Hartree for v in imaginary)]
    ]
    s = sample.overlap.on_pairs(sample.hamiltonian.pairs)
    arrays.append(dense_matrices(layout, s.values[0], sample, to_openmx))
    shifts = sorted(arrays[0])
    shifts.remove((0, 0, 0))
    shifts.insert(0, (0, 0, 0))
    pairs = [
        sorted(_neighbours(sample, atom), key=lambda p: p[1] != (0, 0, 0) or p[0] != atom)
        for atom in range(len(atoms))
    ]

    def pack(kind: str, numbers) -> bytes:
        flat = np.ravel(numbers)
        return struct.pack(f"{order}{len(flat)}{kind}", *flat.tolist())

    def matrix(dense) -> bytes:
        offsets = layout.orbital_offsets
        parts = []
        for i, of_atom in enumerate(pairs):
            for j, shift in of_atom:
                block = dense[shift][offsets[i] : offsets[i + 1], offsets[j] : offsets[j + 1]]
                parts.append(pack("d", block))
        return b"".join(parts)

    data = pack("i", [len(atoms), switch + 4 * version, 0, 0, 0, len(shifts) - 1])
    data += pack("i", [1]) if version else b""
    data += pack("d", [[0, *(np.array(R) @ atoms.cell[:] / Bohr)] for R in shifts])
    data += pack("i", [[0, *R] for R in shifts])
    data += pack("i", layout.n_orbitals) + pack("i", [len(p) - 1 for p in pairs])
    data += pack("i", [j + 1 for p in pairs for j, _ in p])
    data += pack("i", [shifts.index(R) for p in pairs for _, R in p])
    data += pack("d", [[0, *row] for row in atoms.cell[:] / Bohr]) + pack("d", np.zeros(12))
    data += pack("d", [[0, *row] for row in atoms.positions / Bohr])
    whole = [matrix(dense) for dense in arrays]
    filler = bytes(len(whole[-1]))
    data += b"".join(whole)
    data += filler * (3 + (3 if version else 0) + switch + 1 + (2 if version else 0))
    fermi = 0.0 if sample.fermi_level is None else sample.fermi_level / Hartree
    data += pack("i", [3]) + pack("d", [fermi, 300, 0, 0, 0, 0, 0, 0, n_electrons, 0])
    names = {s.symbol: orbitals_name(s) for s in sample.basis.species}
    text = INPUT.format(boron=names["B"], molybdenum=names["Mo"], more=more)
    lines = [line.encode() + b"\n\0" for line in text.splitlines()]
    return data + pack("i", [len(lines)]) + b"".join(line.ljust(256, b"~") for line in lines)


def _neighbours(sample: Sample, atom: int) -> list[tuple[int, tuple[int, ...]]]:
    """Second atom and R of the blocks of an atom."""
    layout = sample.hamiltonian.layout
    own = np.flatnonzero(layout.atoms[0] == atom)
    return [(int(layout.atoms[1, b]), tuple(layout.shifts[b].tolist())) for b in own]


def band_text(sample: Sample, kpts: np.ndarray) -> str:
    """A ``.Band`` file."""
    spin = sample.hamiltonian.spin
    n_bands = sample.hamiltonian.n_basis * (2 if spin.is_spinor else 1)
    switch = {Spin.UNPOLARIZED: 0, Spin.POLARIZED: 1}.get(spin, 3)
    lines = [f" {n_bands}  {switch}  0.0", " ".join(["0.0"] * 9), "1", "15 0 0 0 1 0 0 A B"]
    for kpt in kpts:
        s = sample.overlap.at_k(kpt, format="dense", spin=spin)
        for channel in range(spin.n_spins):
            h = sample.hamiltonian.at_k(kpt, format="dense", channel=channel)
            lines.append(f"{n_bands} " + " ".join(f"{x:.15f}" for x in kpt))
            lines.append(" ".join(f"{e / Hartree:.15f}" for e in eigvalsh(h, s)))
    return "\n".join(lines) + "\n"


def write_openmx(folder: Path, sample: Sample, *, with_pao: bool = True, **options) -> Path:
    """A folder with ``.scfout``, ``.Band`` and the orbitals."""
    (folder / "pao").mkdir(parents=True)
    (folder / "crystal.scfout").write_bytes(scfout_bytes(sample, **options))
    (folder / "crystal.Band").write_text(band_text(sample, np.array([[0, 0, 0], [0.1, 0.2, 0.3]])))
    if with_pao:
        for species in sample.basis.species:
            name = orbitals_name(species).split("-")[0]
            (folder / "pao" / f"{name}.pao").write_text(pao_text(species))
    return folder
