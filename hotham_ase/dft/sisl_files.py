"""The Hamiltonian of sisl, and through it SIESTA's TSHS files, out.

sisl is an optional dependency, imported where it is used.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import coo_array, csr_array

from hotham_ase.basis.orbitals import SpeciesBasis
from hotham_ase.dft.format import Format
from hotham_ase.dft.orthonormal import tool
from hotham_ase.dft.rearranged import in_full_cell
from hotham_ase.dft.sample import ExportError, Sample
from hotham_ase.dft.triplets import triplets_of
from hotham_ase.files import replacing
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.spin import Spin

if TYPE_CHECKING:
    import sisl

LARGEST_L = 4  # sisl's harmonics end there


def to_sisl(sample: Sample) -> sisl.Hamiltonian:
    """The Hamiltonian of sisl with overlap, of the same energies as the sample's H.

    Orbitals are sisl's, in order and sign those of SIESTA, with radial functions where these are
    known. Principal quantum numbers are not: n is l + 1, and shells of the same l differ in zeta.

    Parameters
    ----------
    sample
        Of any spin kind; spin-orbit and non-collinear H become sisl's ``spin-orbit``.

    Raises
    ------
    ExportError
        If sisl is not installed, or has no such harmonics.
    """
    module = _sisl()
    sample = in_full_cell(sample)
    h, s = sample.hamiltonian, sample.overlap
    reach = np.abs(h.pairs.union(s.pairs).cell_shifts).max(axis=0, initial=0)
    geometry = _geometry(module, sample, 2 * reach + 1)
    return module.Hamiltonian.fromsp(
        geometry,
        [_csr(h, values, sample, geometry) for values in _components(h)],
        S=_csr(s, s.single, sample, geometry),
    )


def write_tshs(sample: Sample, path: str | Path) -> None:
    """Write a SIESTA TSHS file through sisl, for TBtrans, whole or not at all.

    Energies are relative to the Fermi level, which sisl writes as 0.

    Parameters
    ----------
    sample
        What to write.
    path
        The file; one that exists is replaced.

    Raises
    ------
    ExportError
        As of :func:`to_sisl`, or if the Fermi level is not known.
    """
    if sample.fermi_level is None:
        raise ExportError(f"TSHS files need a Fermi level, and {sample.name} has none")
    h = to_sisl(
        replace(sample, hamiltonian=sample.hamiltonian - sample.fermi_level * sample.overlap)
    )
    with replacing(path) as temporary:
        # sisl knows the format by the name
        _sisl().get_sile(f"{temporary}{{TSHS}}", mode="w").write_hamiltonian(h)


def _sisl() -> Any:
    return tool("sisl", "its Hamiltonian and for TSHS files", "pip install sisl")


def _geometry(module: Any, sample: Sample, cells: np.ndarray) -> Any:
    kinds = {
        symbol: module.Atom(symbol, _orbitals(module, sample.basis[symbol]))
        for symbol in dict.fromkeys(sample.atoms.get_chemical_symbols())
    }
    atoms = sample.atoms
    lattice = module.Lattice(atoms.cell[:], nsc=cells)
    return module.Geometry(atoms.positions, [kinds[s] for s in atoms.symbols], lattice=lattice)


def _orbitals(module: Any, species: SpeciesBasis) -> list[Any]:
    if species.l_max > LARGEST_L:
        raise ExportError(
            f"sisl's orbitals have l of at most {LARGEST_L}, but {species.symbol} has "
            f"{species.l_max}"
        )
    orbitals, seen = [], Counter[int]()
    for shell, (l, cutoff) in enumerate(zip(species.shells, species.cutoffs, strict=True)):
        seen[l] += 1
        radial = None
        if species.radial is not None:
            radial = module.SphericalOrbital(l, (species.grid, species.radial[shell]), R=cutoff)
        for m in range(-l, l + 1):
            orbital = module.AtomicOrbital(
                n=l + 1, l=l, m=m, zeta=seen[l], R=cutoff, spherical=radial
            )
            orbitals.append(orbital)
    return orbitals


def _components(h: RealSpaceMatrix) -> np.ndarray:
    """(n, n_values) as sisl has them: H; up and down; or eight real numbers of spinors."""
    if not h.spin.is_spinor:
        return h.values
    (uu, ud), (du, dd) = h.spin.blocks_of(h.values)
    return np.array([uu.real, dd.real, ud.real, ud.imag, uu.imag, dd.imag, du.real, du.imag])


def _csr(matrix: RealSpaceMatrix, values: np.ndarray, sample: Sample, geometry: Any) -> csr_array:
    """(n_basis, n_basis · n_cells) in SIESTA's order: columns of one cell after another."""
    layout, n = matrix.layout, matrix.n_basis
    found = triplets_of(layout, values[None], sample.atoms, sample.basis, FORMAT.convention)
    shifts, which = np.unique(layout.shifts, axis=0, return_inverse=True)
    cells = np.array([geometry.lattice.sc_index(shift) for shift in shifts])[which.ravel()]
    columns = found.columns + n * np.repeat(cells, layout.sizes)
    shape = (n, n * int(np.prod(geometry.lattice.nsc)))
    return csr_array(coo_array((found.values[0], (found.rows, columns)), shape=shape))


FORMAT = Format(
    name="SIESTA TSHS",
    files="a .TSHS file",
    convention="siesta",
    write=write_tshs,
    written_spins=tuple(Spin),
    word="tshs",
    suffixes=(".TSHS",),
    purpose="TBtrans, sisl",
    needs=_sisl,
)
