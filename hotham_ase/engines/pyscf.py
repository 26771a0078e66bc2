"""PySCF as an engine: molecules, and crystals with GTH pseudopotentials.

Sun et al., J. Chem. Phys. 153, 024109 (2020). Of a crystal the density converges on a coarse mesh
of k-points; from it F(k) is made once on a mesh so dense that no blocks within the orbitals' reach
fall together. S is not taken from PySCF, but from the two-centre tables of the same Gaussians, as
predictions do; both are compared.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from ase.units import Bohr, Hartree
from pydantic import Field, PositiveFloat, PositiveInt

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.dft.provenance import Provenance
from hotham_ase.dft.sample import Sample
from hotham_ase.dft.short_ranged import enough_kpts, in_our_order, short_ranged
from hotham_ase.engines.engine import Engine, EngineError
from hotham_ase.engines.gaussians import orbital_basis, pyscf_module
from hotham_ase.engines.levels import fermi_level, largest_error
from hotham_ase.overlap import overlap_matrix

if TYPE_CHECKING:
    from ase import Atoms

CONVERGED = 1e-9  # Ha, of the energy
# Ha, of the energy's gradient; the plane waves' grid of crystals has more noise than molecules'
STATIONARY, STATIONARY_CRYSTAL = 2e-6, 3e-5
MOST_CYCLES = 100
PRECISION = 1e-6  # of lattice sums; 1e-8 changes bands by nothing that can be seen
ELECTRONS_LOST = 0.01  # on the grid of the density
OVERLAP_ERROR = 1e-4  # S of other orbitals, or in another order, is far beyond it
MOLECULAR_WIDTH = 0.01  # eV; molecules of even electrons have a gap


class PySCF(Engine):
    """Density functional theory in Gaussian orbitals."""

    name: Literal["pyscf"] = "pyscf"
    """PySCF computes, which ``pip install hotham-ase[pyscf]`` installs."""
    xc: str = "pbe"
    """The functional, in PySCF's words: ``pbe``, or ``b3lyp`` (with VWN-RPA, as Gaussian has it;
    ``b3lyp5`` is ORCA's, and H differs by 0.1 eV). Crystals take local and semilocal ones."""
    basis: str = "def2-svp"
    """The basis set, in PySCF's words. Crystals want one of GTH pseudopotentials, of short range:
    ``gth-szv-molopt-sr`` or ``gth-dzvp-molopt-sr``."""
    pseudopotential: str | None = None
    """GTH pseudopotentials, such as ``gth-pbe``; without, all electrons are computed, up to Kr and
    in molecules only."""
    grid_level: int = Field(3, ge=0, le=9)
    """Of molecules, how fine the grid about the atoms is, 0 to 9."""
    kpts: PositiveFloat | tuple[PositiveInt, PositiveInt, PositiveInt] = 2.5
    """Of crystals, k-points per Å⁻¹ of each reciprocal lattice vector (2π included), or a mesh. All
    structures of a data set should have the same density."""
    energy_cutoff: float = Field(3800.0, gt=0)
    """Of crystals, the cutoff of plane waves for the density in eV. The default is for C, N and O;
    1100 suffices for Si."""
    smearing: float = Field(0.1, gt=0)
    """Of crystals, k_B T of the electrons in eV."""

    def basis_of(self, symbols: Iterable[str]) -> OrbitalBasis:
        """See :meth:`Engine.basis_of`."""
        return orbital_basis(symbols, self.basis, self.pseudopotential)

    def calculate(self, atoms: Atoms, name: str) -> Sample:
        """See :meth:`Engine.calculate`."""
        started = time.perf_counter()
        basis = self.basis_of(atoms.get_chemical_symbols())
        n_electrons = basis.n_electrons(atoms.numbers)
        self._check(atoms, n_electrons)
        found = (_crystal if atoms.pbc.any() else _molecule)(self, atoms, basis)
        hamiltonian = short_ranged(found.fock, found.fock_mesh, atoms, basis, name="hamiltonian")
        overlap = overlap_matrix(atoms, basis)
        fermi = fermi_level(found.levels, n_electrons, found.width)
        overlap_error = max(
            float(np.abs(overlap.at_k(k, format="dense") - s).max())
            for k, s in zip(found.kpts, found.overlap, strict=True)
        )
        if overlap_error > OVERLAP_ERROR:
            raise EngineError(
                f"S of PySCF differs by {overlap_error:.2g} from that of the tables: orbitals "
                "are wider than they may be; choose a basis of shorter range"
            )
        error = largest_error(hamiltonian, overlap, found.kpts, found.levels, fermi)
        extra = {
            "basis": self.basis,
            "pseudopotential": self.pseudopotential,
            **found.record,
            "total_energy_eV": found.energy,
            "largest_level_error_meV": 1e3 * error,
            "largest_overlap_error": overlap_error,
            "seconds": round(time.perf_counter() - started, 2),
        }
        provenance = Provenance(
            name=name,
            code="PySCF",
            version=pyscf_module("pyscf").__version__,
            xc=self.xc,
            scf_converged=True,
            scf_steps=found.cycles,
            overlap="computed",
            eigenvalues="compared",
            n_valence="given",
            extra=extra,
        )
        return Sample(atoms, basis, hamiltonian, overlap, fermi, n_electrons, provenance)

    def _check(self, atoms: Atoms, n_electrons: float) -> None:
        libxc = pyscf_module("pyscf.dft.libxc")
        try:
            is_hybrid = libxc.is_hybrid_xc(self.xc)
        except (KeyError, ValueError) as error:
            raise EngineError(f"PySCF has no functional {self.xc!r}") from error
        if not atoms.pbc.any():
            if n_electrons % 2:
                raise EngineError(
                    f"{atoms.symbols} has {n_electrons:g} electrons: only even numbers can be "
                    "computed, without spin polarization"
                )
            return
        if self.pseudopotential is None:
            raise EngineError(
                "crystals need a pseudopotential: set pseudopotential: gth-pbe and a basis like "
                "gth-dzvp-molopt-sr"
            )
        if is_hybrid:
            raise EngineError(f"crystals cannot be computed with {self.xc}, a hybrid functional")


@dataclass(frozen=True, eq=False)
class _Found:
    """What PySCF found, in our order of orbitals and in eV.

    Attributes
    ----------
    fock : (n, n_basis, n_basis)
        F(k) on ``fock_mesh``.
    kpts : (n_kpts, 3)
        Fractional; where the density converged.
    overlap : (n_kpts, n_basis, n_basis)
    levels : (n_kpts, n_bands)
    width
        eV, of the occupations.
    record
        What else is worth keeping.
    """

    fock: np.ndarray
    fock_mesh: tuple[int, int, int]
    kpts: np.ndarray
    overlap: np.ndarray
    levels: np.ndarray
    width: float
    energy: float
    cycles: int
    record: dict[str, Any]


def _converged(field: Any, gradient: float) -> Any:
    """The self-consistent field after its cycles."""
    field.conv_tol, field.conv_tol_grad, field.max_cycle = CONVERGED, gradient, MOST_CYCLES
    field.kernel()
    if not field.converged:
        raise EngineError(f"the density does not converge in {MOST_CYCLES} cycles")
    return field


def _molecule(engine: PySCF, atoms: Atoms, basis: OrbitalBasis) -> _Found:
    gto, dft = pyscf_module("pyscf.gto"), pyscf_module("pyscf.dft")
    molecule = gto.M(**_structure(engine, atoms))
    field = dft.RKS(molecule, xc=engine.xc)
    field.grids.level = engine.grid_level
    field = _converged(field, STATIONARY)
    fock, overlap = field.get_fock(), field.get_ovlp()
    return _Found(
        fock=in_our_order(fock[None] * Hartree, atoms, basis, "pyscf"),
        fock_mesh=(1, 1, 1),
        kpts=np.zeros((1, 3)),
        overlap=in_our_order(overlap[None], atoms, basis, "pyscf"),
        levels=field.mo_energy[None] * Hartree,
        width=MOLECULAR_WIDTH,
        energy=float(field.e_tot * Hartree),
        cycles=int(field.cycles),
        record={"grid_level": engine.grid_level},
    )


def _crystal(engine: PySCF, atoms: Atoms, basis: OrbitalBasis) -> _Found:
    gto, dft = pyscf_module("pyscf.pbc.gto"), pyscf_module("pyscf.pbc.dft")
    cell_vectors = periodic_cell(atoms, basis)
    cell = gto.M(
        **_structure(engine, atoms),
        a=np.ascontiguousarray(cell_vectors / Bohr),  # its C code reads rows, whatever the order
        ke_cutoff=engine.energy_cutoff / Hartree,
        precision=PRECISION,
    )
    mesh, fock_mesh = _density_mesh(engine, atoms, cell_vectors), enough_kpts(atoms, basis.cutoff)
    kpts = _mesh_points(mesh)
    field = dft.KRKS(cell, cell.get_abs_kpts(kpts), xc=engine.xc).multigrid_numint()
    field = field.smearing(sigma=engine.smearing / Hartree, method="fermi")
    with _whole_grid(cell_vectors):
        field = _converged(field, STATIONARY_CRYSTAL)
        _check_density(field, basis.n_electrons(atoms.numbers))
        fock = _fock(field, fock_mesh)
    overlap = np.array(field.get_ovlp())
    return _Found(
        fock=in_our_order(fock * Hartree, atoms, basis, "pyscf"),
        fock_mesh=fock_mesh,
        kpts=kpts,
        overlap=in_our_order(overlap, atoms, basis, "pyscf"),
        levels=np.array(field.mo_energy) * Hartree,
        width=engine.smearing,
        energy=float(field.e_tot * Hartree),
        cycles=int(field.cycles),
        record={
            "kpts": list(mesh),
            "fock_kpts": list(fock_mesh),
            "energy_cutoff_eV": engine.energy_cutoff,
            "smearing_eV": engine.smearing,
        },
    )


@contextmanager
def _whole_grid(cell: np.ndarray) -> Iterator[None]:
    """Keep PySCF from leaving out parts of orbitals in cells with oblique or turned vectors.

    About an orbital that is small in the cell it takes a part of the grid only, the box between
    the fractional coordinates of r − (c, c, c) and r + (c, c, c), c the orbital's radius. Only
    where the vectors are the axes is the sphere sure to be in that box.
    """
    multigrid = pyscf_module("pyscf.pbc.dft.multigrid.multigrid")
    before = multigrid.R_RATIO_SUBLOOP
    if (np.abs(cell - np.diag(np.abs(np.diag(cell)))) > 1e-9).any():
        multigrid.R_RATIO_SUBLOOP = 0.0
    try:
        yield
    finally:
        multigrid.R_RATIO_SUBLOOP = before


def _check_density(field: Any, n_electrons: float) -> None:
    """Refuse a density on the grid that does not hold all electrons."""
    numint, density = field._numint, field.make_rdm1()
    found, *_ = numint.nr_rks(field.cell, field.grids, field.xc, density, kpts=field.kpts)
    if abs(found - n_electrons) > ELECTRONS_LOST:
        raise EngineError(
            f"the density has {found:.3f} electrons on the grid, {n_electrons:g} should be: raise "
            "energy_cutoff"
        )


def _fock(field: Any, mesh: tuple[int, int, int]) -> np.ndarray:
    """(n_kpts, n_basis, n_basis) F(k) of the converged density, Ha; half of it by F(−k) = F(k)*."""
    cell, kpts = field.cell, _mesh_points(mesh)
    places = np.rint(kpts * mesh).astype(int)
    opposite = np.ravel_multi_index(tuple((-places % mesh).T), mesh)
    half = np.flatnonzero(np.arange(len(kpts)) <= opposite)
    there = cell.get_abs_kpts(kpts[half])
    potential = field.get_veff(cell, field.make_rdm1(), kpts=field.kpts, kpts_band=there)
    of_half = np.asarray(field.get_hcore(cell, there)) + np.asarray(potential)
    fock = np.empty((len(kpts), *of_half.shape[1:]), complex)
    fock[opposite[half]] = of_half.conj()
    fock[half] = of_half
    return fock


def _structure(engine: PySCF, atoms: Atoms) -> dict[str, Any]:
    """What molecules and crystals have in common; in Bohr, so that one value of it is used."""
    return {
        "atom": list(zip(atoms.get_chemical_symbols(), atoms.positions / Bohr, strict=True)),
        "unit": "Bohr",
        "basis": engine.basis,
        "pseudo": engine.pseudopotential,
        "verbose": 0,
    }


def periodic_cell(atoms: Atoms, basis: OrbitalBasis) -> np.ndarray:
    """(3, 3) Å; along directions that are not periodic as much vacuum as orbitals reach.

    Parameters
    ----------
    atoms, basis
        The structure and its orbitals.
    """
    bare = atoms.cell.copy()
    bare[~atoms.pbc] = 0.0
    vectors = bare.complete()[:]
    for axis in np.flatnonzero(~atoms.pbc):  # unit vectors normal to the others
        heights = atoms.positions @ vectors[axis]
        vectors[axis] *= heights.max() - heights.min() + basis.cutoff
    return vectors


def _density_mesh(engine: PySCF, atoms: Atoms, cell: np.ndarray) -> tuple[int, int, int]:
    if isinstance(engine.kpts, tuple):
        mesh = np.array(engine.kpts)
    else:
        lengths = 2 * np.pi * np.linalg.norm(np.linalg.inv(cell), axis=0)
        mesh = np.maximum(np.ceil(engine.kpts * lengths - 1e-6), 1)
    n1, n2, n3 = np.where(atoms.pbc, mesh, 1).astype(int).tolist()
    return n1, n2, n3


def _mesh_points(mesh: tuple[int, int, int]) -> np.ndarray:
    """(n_kpts, 3) fractional, about Γ, the last index fastest."""
    return np.indices(mesh).reshape(3, -1).T / np.array(mesh)
