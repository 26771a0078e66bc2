"""S(R) from the orbital files against the S(R) that ABACUS wrote."""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from scipy.sparse import csr_array

from hotham_ase.basis.conventions import index_and_sign
from hotham_ase.overlap import overlap_matrix

ABACUS_BOHR = 0.529177210903  # Å, behind the lattice constants in the input files


def read_stru(path: Path) -> Atoms:
    """Structure of an ABACUS input with direct coordinates."""
    lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    constant = float(lines[lines.index("LATTICE_CONSTANT") + 1])
    start = lines.index("LATTICE_VECTORS") + 1
    cell = np.array([line.split() for line in lines[start : start + 3]], dtype=float)
    symbols, scaled = [], []
    rest = iter(lines[lines.index("Direct") + 1 :])
    for symbol in rest:
        next(rest)  # magnetic moment
        for _ in range(int(next(rest))):
            symbols.append(symbol)
            scaled.append([float(x) for x in next(rest).split()[:3]])
    return Atoms(symbols, cell=cell * constant * ABACUS_BOHR, scaled_positions=scaled, pbc=True)


def read_csr(path: Path) -> dict[tuple[int, int, int], np.ndarray]:
    """Dense real matrices by lattice vector."""
    with lzma.open(path, "rt") as file:
        file.readline()
        size = int(file.readline().split()[-1])
        out = {}
        for _ in range(int(file.readline().split()[-1])):
            *shift, n_values = (int(x) for x in file.readline().split())
            if n_values:
                data, columns, starts = (
                    np.array(file.readline().split(), dtype=t) for t in (float, int, int)
                )
                out[tuple(shift)] = csr_array((data, columns, starts), shape=(size, size)).toarray()
    return out


@pytest.mark.parametrize(
    ("run", "elements"),
    [
        ("graphene/000", "C"),
        ("carbon_allotropes/diamond_0", "C"),
        ("silicon/000", "Si"),
        ("hbn_graphene/000", "BCN"),
        ("mos2/000", "MoS"),
    ],
)
def test_overlap_is_abacus_own(shared_data, orb_basis, run, elements):
    folder = shared_data / "abacus" / run
    atoms = read_stru(folder / "STRU")
    assert "".join(sorted(set(atoms.symbols))) == elements
    theirs = read_csr(folder / "OUT.ABACUS" / "data-SR-sparse_SPIN0.csr.xz")
    s = overlap_matrix(atoms, orb_basis)
    shells = [l for symbol in atoms.symbols for l in orb_basis[symbol].shells]
    index, sign = index_and_sign("abacus", shells)
    ours: dict[tuple[int, ...], np.ndarray] = {}
    for block, ((i, j), shift) in enumerate(zip(s.layout.atoms.T, s.layout.shifts, strict=True)):
        dense = ours.setdefault(tuple(shift.tolist()), np.zeros((s.n_basis, s.n_basis)))
        rows = slice(*s.layout.orbital_offsets[[i, i + 1]])
        columns = slice(*s.layout.orbital_offsets[[j, j + 1]])
        start, stop = s.layout.offsets[block : block + 2]
        dense[rows, columns] = s.values[0, start:stop].reshape(s.n_orbitals[i], s.n_orbitals[j])
    zero = np.zeros((s.n_basis, s.n_basis))
    error = max(
        np.abs(
            ours.get(shift, zero) - sign[:, None] * theirs.get(shift, zero)[index][:, index] * sign
        ).max()
        for shift in set(ours) | set(theirs)
    )
    print(f"{run}: max |ΔS| against ABACUS {error:.1e} on {len(theirs)} lattice vectors")
    assert len(theirs) > 1
    assert error < 1e-7
