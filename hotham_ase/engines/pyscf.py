"""PySCF as an engine: molecules of any spin, and crystals with GTH pseudopotentials.

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
from pydantic import Field, NonNegativeInt

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.dft.provenance import Provenance
from hotham_ase.dft.rearranged import full_cell
from hotham_ase.dft.sample import Sample
from hotham_ase.dft.short_ranged import (
    enough_kpts,
    half_mesh,
    in_our_order,
    short_ranged,
    whole_mesh,
)
from hotham_ase.engines.engine import Engine, EngineError
from hotham_ase.engines.gaussians import orbital_basis, pyscf_module
from hotham_ase.engines.kpoints import KPoints, density_mesh
from hotham_ase.engines.levels import MOLECULAR_WIDTH, fermi_level, largest_error
from hotham_ase.engines.open_shells import (
    collinear_moments,
    dividing_level,
    n_unpaired,
    polarized_density,
)
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


class PySCF(Engine):
    """Density functional theory in Gaussian orbitals."""

    name: Literal["pyscf"] = "pyscf"
    """PySCF computes, which ``pip install '.[pyscf]'`` in a checkout installs."""
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
    kpts: KPoints = 2.5
    """Of crystals, k-points per Å⁻¹ of each reciprocal lattice vector (2π included), or a mesh. All
    structures of a data set should have the same density."""
    spin: NonNegativeInt | None = None
    """Of molecules, the number of unpaired electrons, N_up − N_down. By default the sum of the
    structure's initial magnetic moments; without moments 0 or 1, as its electrons are even or
    odd."""
    unrestricted: bool = False
    """Of molecules, compute H of both spins of all, also of those without unpaired electrons or
    initial moments."""
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
        overlap_error = max(
            float(np.abs(overlap.at_k(k, format="dense") - s).max())
            for k, s in zip(found.kpts, found.overlap, strict=True)
        )
        if overlap_error > OVERLAP_ERROR:
            raise EngineError(
                f"S of PySCF differs by {overlap_error:.2g} from that of the tables: orbitals "
                "are wider than they may be; choose a basis of shorter range"
            )
        error = max(
            largest_error(hamiltonian, overlap, found.kpts, levels, found.level, channel)
            for channel, levels in enumerate(found.levels)
        )
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
        fermi = found.level if found.is_fermi_level else None
        return Sample(atoms, basis, hamiltonian, overlap, fermi, n_electrons, provenance)

    def _check(self, atoms: Atoms, n_electrons: float) -> None:
        libxc = pyscf_module("pyscf.dft.libxc")
        try:
            is_hybrid = libxc.is_hybrid_xc(self.xc)
        except (KeyError, ValueError) as error:
            raise EngineError(f"PySCF has no functional {self.xc!r}") from error
        if not atoms.pbc.any():
            n_unpaired(atoms, n_electrons, self.spin)
            return
        if self.spin or self.unrestricted or atoms.get_initial_magnetic_moments().any():
            raise EngineError(
                f"{atoms.symbols} is a crystal: PySCF computes these without spin polarization "
                "here, so that there must be no initial moments, and neither spin nor unrestricted"
            )
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
    fock : (n_spins, n, n_basis, n_basis)
        F(k) on ``fock_mesh``.
    kpts : (n_kpts, 3)
        Fractional; where the density converged.
    overlap : (n_kpts, n_basis, n_basis)
    levels : (n_spins, n_kpts, n_bands)
    level
        Between filled and empty levels.
    is_fermi_level
        Whether all filled ones lie below it, and no empty one.
    record
        What else is worth keeping.
    """

    fock: np.ndarray
    fock_mesh: tuple[int, int, int]
    kpts: np.ndarray
    overlap: np.ndarray
    levels: np.ndarray
    level: float
    is_fermi_level: bool
    energy: float
    cycles: int
    record: dict[str, Any]


def _converged(field: Any, gradient: float, density: np.ndarray | None = None) -> Any:
    """The self-consistent field after its cycles, from a density or PySCF's own guess."""
    field.chkfile = None  # a file that would be open until Python's collector finds it
    if temporary := vars(field).pop("_chkfile", None):
        temporary.close()
    field.conv_tol, field.conv_tol_grad, field.max_cycle = CONVERGED, gradient, MOST_CYCLES
    field.kernel(dm0=density)
    if not field.converged and density is not None:
        field = _second_order(field)
    if not field.converged:
        raise EngineError(f"the density does not converge in {field.cycles} cycles")
    return field


def _second_order(field: Any) -> Any:
    """The field after Newton's steps from where it is.

    The energy hardly tells how the hole in a degenerate level lies, as in OH: DIIS goes in circles.
    """
    steps: list[Any] = []
    newton = field.newton()
    newton.callback = lambda _: steps.append(None)
    newton.kernel(field.mo_coeff, field.mo_occ)
    newton.cycles = field.cycles + len(steps)  # PySCF leaves it at 0
    return newton


def _molecule(engine: PySCF, atoms: Atoms, basis: OrbitalBasis) -> _Found:
    gto, dft = pyscf_module("pyscf.gto"), pyscf_module("pyscf.dft")
    n_electrons = basis.n_electrons(atoms.numbers)
    unpaired = n_unpaired(atoms, n_electrons, engine.spin)
    moments = collinear_moments(atoms)
    both = engine.unrestricted or unpaired != 0 or bool(moments.any())
    molecule = gto.M(**_structure(engine, atoms), spin=abs(unpaired))
    field = (dft.UKS if both else dft.RKS)(molecule, xc=engine.xc)
    field.grids.level = engine.grid_level
    # PySCF has more electrons of its first spin
    order = slice(None, None, -1 if unpaired < 0 else 1)
    density = _initial_density(molecule, moments)[order] if both else None
    field = _converged(field, STATIONARY, density)
    fock, levels, overlap = field.get_fock(), field.mo_energy * Hartree, field.get_ovlp()
    record: dict[str, Any] = {"grid_level": engine.grid_level}
    if both:
        level, is_fermi = dividing_level(levels, molecule.nelec)
        record |= {"unpaired": unpaired, "spin_squared": float(field.spin_square()[0])}
    else:
        level, is_fermi = fermi_level(levels[None], n_electrons, MOLECULAR_WIDTH), True
    n = len(overlap)
    return _Found(
        fock=in_our_order(fock.reshape(-1, 1, n, n)[order] * Hartree, atoms, basis, "pyscf"),
        fock_mesh=(1, 1, 1),
        kpts=np.zeros((1, 3)),
        overlap=in_our_order(overlap[None], atoms, basis, "pyscf"),
        levels=levels.reshape(-1, 1, n)[order],
        level=level,
        is_fermi_level=is_fermi,
        energy=float(field.e_tot * Hartree),
        cycles=int(field.cycles),
        record=record,
    )


def _initial_density(molecule: Any, moments: np.ndarray) -> np.ndarray:
    """(2, n_basis, n_basis) of superposed atoms that have these moments."""
    of_atoms = np.repeat(np.arange(molecule.natm), np.diff(molecule.aoslice_by_atom()[:, 2:])[:, 0])
    density = pyscf_module("pyscf.scf.hf").init_guess_by_minao(molecule)
    return polarized_density(np.asarray(density), of_atoms, moments, molecule.atom_charges())


def _crystal(engine: PySCF, atoms: Atoms, basis: OrbitalBasis) -> _Found:
    gto, dft = pyscf_module("pyscf.pbc.gto"), pyscf_module("pyscf.pbc.dft")
    cell_vectors = full_cell(atoms, basis.cutoff).cell[:]  # vacuum as wide as orbitals reach
    cell = gto.M(
        **_structure(engine, atoms),
        a=np.ascontiguousarray(cell_vectors / Bohr),  # its C code reads rows, whatever the order
        ke_cutoff=engine.energy_cutoff / Hartree,
        precision=PRECISION,
    )
    mesh, fock_mesh = (
        density_mesh(engine.kpts, atoms, cell_vectors),
        enough_kpts(atoms, basis.cutoff),
    )
    n_electrons = basis.n_electrons(atoms.numbers)
    kpts = _mesh_points(mesh)
    field = dft.KRKS(cell, cell.get_abs_kpts(kpts), xc=engine.xc).multigrid_numint()
    field = field.smearing(sigma=engine.smearing / Hartree, method="fermi")
    with _whole_grid(cell_vectors):
        field = _converged(field, STATIONARY_CRYSTAL)
        _check_density(field, n_electrons)
        fock = _fock(field, fock_mesh)
    overlap, levels = np.array(field.get_ovlp()), np.array(field.mo_energy) * Hartree
    return _Found(
        fock=in_our_order(fock[None] * Hartree, atoms, basis, "pyscf"),
        fock_mesh=fock_mesh,
        kpts=kpts,
        overlap=in_our_order(overlap, atoms, basis, "pyscf"),
        levels=levels[None],
        level=fermi_level(levels, n_electrons, engine.smearing),
        is_fermi_level=True,
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
    """(n_kpts, n_basis, n_basis) F(k) of the converged density, Ha."""
    cell = field.cell
    there = cell.get_abs_kpts(half_mesh(mesh)[0])
    potential = field.get_veff(cell, field.make_rdm1(), kpts=field.kpts, kpts_band=there)
    return whole_mesh(np.asarray(field.get_hcore(cell, there)) + np.asarray(potential), mesh)


def _structure(engine: PySCF, atoms: Atoms) -> dict[str, Any]:
    """What molecules and crystals have in common; in Bohr, so that one value of it is used."""
    return {
        "atom": list(zip(atoms.get_chemical_symbols(), atoms.positions / Bohr, strict=True)),
        "unit": "Bohr",
        "basis": engine.basis,
        "pseudo": engine.pseudopotential,
        "verbose": 0,
    }


def _mesh_points(mesh: tuple[int, int, int]) -> np.ndarray:
    """(n_kpts, 3) fractional, about Γ, the last index fastest."""
    return np.indices(mesh).reshape(3, -1).T / np.array(mesh)
