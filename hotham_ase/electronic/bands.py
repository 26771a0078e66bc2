"""Band structures along a path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ase.spectrum.band_structure import BandStructure

from hotham_ase.electronic.eigen import BandWindow, eigenvalues_at_kpts

if TYPE_CHECKING:
    from ase.dft.kpoints import BandPath

    from hotham_ase.matrices import RealSpaceMatrix


def band_structure(
    hamiltonian: RealSpaceMatrix,
    overlap: RealSpaceMatrix | None,
    path: BandPath,
    *,
    reference: float,
    window: BandWindow | None = None,
) -> BandStructure:
    """Eigenvalues along a band path.

    Parameters
    ----------
    hamiltonian, overlap
        H(R) in eV and S(R); without S the basis is taken as orthonormal.
    path
        k-points, fractional in the cell of H; see :func:`hotham_ase.electronic.kpath.band_path`.
    reference
        eV; the Fermi level of a *mesh*, since a path misses most of the zone.
    window
        Only these bands.

    Returns
    -------
    ase.spectrum.band_structure.BandStructure
        Energies (1, n_kpts, n_bands) in eV, absolute.
    """
    energies = eigenvalues_at_kpts(hamiltonian, overlap, path.kpts, window=window)
    return BandStructure(path, energies, reference=reference)
