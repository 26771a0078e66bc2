"""GPAW's calculations with local orbitals: a ``.gpw`` file, read by GPAW itself.

The file has the density, not H. GPAW makes H(k) and S(k) of it on a mesh so dense that H(R) follows
without error, whatever the k-points of the calculation were. S is that of the projector-augmented
waves: it has parts of the projectors of third atoms, and is not that of the orbitals alone. GPAW's
second functions of a shell have smaller norms; here every orbital of a free atom has norm 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import Bohr
from scipy.integrate import simpson

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.dft.format import Format
from hotham_ase.dft.plausibility import Eigenvalues, compared_with_run
from hotham_ase.dft.provenance import Provenance, name_of
from hotham_ase.dft.sample import DFTReadError, Sample, UnsupportedRunError
from hotham_ase.dft.short_ranged import (
    enough_kpts,
    half_mesh,
    in_our_order,
    short_ranged,
    whole_mesh,
)
from hotham_ase.dft.triplets import sorted_places_of_atoms
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.spin import Spin

_NOTHING = 1e-8  # eV, and 1: blocks between atoms that no projector connects are rounding
_N_RADIAL = 1001


def is_gpaw(folder: Path) -> bool:
    """Whether a folder has a file of GPAW."""
    return bool(_files(folder))


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.gpw")) if folder.is_dir() else []


def read_gpaw(folder: str | Path, *, verify: bool = True) -> Sample:
    """Read a calculation of GPAW in its LCAO mode, of one or both spins.

    GPAW must be installed, with the setups of the calculation. Atoms are wrapped into the cell.

    Parameters
    ----------
    folder
        With one ``.gpw`` file.
    verify
        Compare eigenvalues with those in the file.

    Raises
    ------
    DFTReadError
        If there are several files, or GPAW cannot read it.
    UnsupportedRunError
        If GPAW is not installed; for plane waves and grids, non-collinear spins, and two kinds of
        orbitals of one element.
    """
    folder = Path(folder)
    files = _files(folder)
    if len(files) != 1:
        raise DFTReadError(
            f"{folder} must have one .gpw file, got {', '.join(p.name for p in files) or 'none'}"
        )
    path = files[0]
    gpaw = _gpaw(path)
    with _errors_named(path):
        calculator = gpaw.GPAW(path, txt=None)
    return _sample(calculator, path, verify)


def _gpaw(path: Path) -> Any:
    try:
        return import_module("gpaw")
    except ImportError as error:
        raise UnsupportedRunError(
            f"{path} can only be read by GPAW, which cannot be imported here ({error}): install "
            "gpaw and its setups, or read the file where they are and convert it: hotham convert"
        ) from error


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    try:
        yield
    except DFTReadError:
        raise
    except Exception as error:  # of a damaged file, or of setups that are not there: any class
        raise DFTReadError(f"GPAW cannot read {path}: {type(error).__name__}: {error}") from error


def _sample(calculator: Any, path: Path, verify: bool) -> Sample:
    with _errors_named(path):
        _check_kind(calculator, path)
        orbitals = _Orbitals.of(calculator, path)
        atoms, basis = orbitals.atoms, orbitals.basis
        # two orbitals meet at the projectors of a third atom
        mesh = enough_kpts(atoms, basis.cutoff + 2 * orbitals.projectors)
        h, s = _on_mesh(calculator, mesh)
        sample = Sample(
            atoms=atoms,
            basis=basis,
            hamiltonian=orbitals.real_space(h, mesh, "hamiltonian"),
            overlap=orbitals.real_space(s, mesh, "overlap"),
            fermi_level=_fermi_level(calculator),
            n_electrons=float(calculator.get_number_of_electrons()),
            provenance=Provenance(
                name=name_of(path.parent),
                code=FORMAT.name,
                xc=str(calculator.get_xc_functional()),
                overlap="read",
                n_valence="given",
                extra={"mesh": list(mesh)},
            ),
        )
        levels = _levels(calculator)
    return compared_with_run(sample, levels) if verify else sample


def _check_kind(calculator: Any, path: Path) -> None:
    mode = calculator.wfs.mode
    if mode != "lcao":
        raise UnsupportedRunError(f"{path} is in mode {mode}: only lcao has local orbitals")
    if getattr(calculator.wfs, "collinear", True) is False:
        raise UnsupportedRunError(f"{path} has non-collinear spins: not supported")


def _atoms(calculator: Any) -> Atoms:
    """Where GPAW puts them: in the cell, from which its lattice vectors count."""
    original = calculator.get_atoms() if calculator.atoms is None else calculator.atoms
    atoms = Atoms(original.numbers, cell=original.cell[:], pbc=original.pbc)
    atoms.set_scaled_positions(original.get_scaled_positions(wrap=False) % 1.0)
    moments = original.get_initial_magnetic_moments()
    if moments.any():
        atoms.set_initial_magnetic_moments(moments)
    return atoms


@dataclass(frozen=True)
class _Orbitals:
    """The structure and its orbitals.

    Attributes
    ----------
    atoms, basis
    shells
        Of every atom, in GPAW's order.
    scales : (n_basis,)
        By which GPAW's orbitals are multiplied, in its order.
    projectors
        Å, how far they reach.
    """

    atoms: Atoms
    basis: OrbitalBasis
    shells: list[tuple[int, ...]]
    scales: np.ndarray
    projectors: float

    @classmethod
    def of(cls, calculator: Any, path: Path) -> _Orbitals:
        atoms = _atoms(calculator)
        bases: dict[str, SpeciesBasis] = {}
        shells, scales, projectors = [], [], 0.0
        for symbol, setup in zip(atoms.symbols, calculator.wfs.setups, strict=True):
            functions = _functions(setup)
            ls = tuple(f.get_angular_momentum_number() for f in functions)
            order = sorted(range(len(ls)), key=lambda k: ls[k])
            cutoffs = tuple(functions[k].get_cutoff() * Bohr for k in order)
            species = SpeciesBasis(symbol, tuple(ls[k] for k in order), cutoffs, float(setup.Nv))
            known = bases.setdefault(symbol, species)
            if OrbitalBasis((known,)) != OrbitalBasis((species,)):
                raise UnsupportedRunError(f"{path} has atoms of {symbol} with different orbitals")
            shells.append(ls)
            norms = [_norm(f, setup) for f in functions]
            scales.append(np.repeat(norms, [2 * l + 1 for l in ls]) ** -0.5)
            projectors = max(projectors, *(f.get_cutoff() * Bohr for f in setup.pt_j))
        basis = OrbitalBasis(tuple(bases.values()))
        return cls(atoms, basis, shells, np.concatenate(scales), projectors)

    def real_space(
        self, of_spins: np.ndarray, mesh: tuple[int, int, int], name: str
    ) -> RealSpaceMatrix:
        """A(R) of A(k), (n_spins, n_kpts, n, n), in our order and with orbitals of norm 1."""
        places = np.argsort(sorted_places_of_atoms(self.shells))
        scaled = (of_spins * self.scales[:, None] * self.scales)[..., places, :][..., places]
        ours = in_our_order(scaled, self.atoms, self.basis, FORMAT.convention)
        whole = short_ranged(
            *(ours, mesh, self.atoms, self.basis), name=name, beyond=2 * self.projectors
        )
        is_there = whole.layout.largest(whole.values)[len(self.atoms) :] > _NOTHING
        return whole.on_pairs(whole.pairs.select(is_there))


def _functions(setup: Any) -> list[Any]:
    """Orbitals as splines of r^−l φ(r) in Bohr; called otherwise before 23.6."""
    return list(setup.basis_functions_J if hasattr(setup, "basis_functions_J") else setup.phit_j)


def _norm(function: Any, setup: Any) -> float:
    """⟨φ|S|φ⟩ on a free atom: ∫ r² φ² dr + Σ P_n ΔO_nn' P_n', P_n = ∫ r² p_n φ dr."""
    l = function.get_angular_momentum_number()
    mesh = np.linspace(0, function.get_cutoff(), _N_RADIAL)
    phi = np.array([function(r) for r in mesh]) * mesh**l
    projections, places = [], []
    ls = [one.get_angular_momentum_number() for one in setup.pt_j]
    begins = np.cumsum([0, *(2 * other + 1 for other in ls)])
    for projector, other, begin in zip(setup.pt_j, ls, begins, strict=False):
        if other == l:
            inside = mesh < projector.get_cutoff()
            p = np.array([projector(r) for r in mesh[inside]]) * mesh[inside] ** l
            projections.append(simpson(mesh[inside] ** 2 * p * phi[inside], x=mesh[inside]))
            places.append(begin)
    p = np.array(projections)
    return float(simpson(mesh**2 * phi**2, x=mesh) + p @ setup.dO_ii[np.ix_(places, places)] @ p)


def _on_mesh(calculator: Any, mesh: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """H(k) in eV of every spin, (n_spins, n_kpts, n, n), and S(k), (1, …)."""
    tools = import_module("gpaw.lcao.tools")
    there = calculator.fixed_density(kpts=half_mesh(mesh)[0], symmetry="off", txt=None)
    h_half, s_half = tools.get_lcao_hamiltonian(there)
    return whole_mesh(h_half, mesh), whole_mesh(s_half[None], mesh)


def _fermi_level(calculator: Any) -> float | None:
    """eV; None where each spin has its own."""
    try:
        return float(calculator.get_fermi_level())
    except ValueError:
        return None


def _levels(calculator: Any) -> Eigenvalues:
    kpts = np.asarray(calculator.get_ibz_k_points())
    levels = [
        [calculator.get_eigenvalues(kpt, spin) for kpt in range(len(kpts))]
        for spin in range(calculator.get_number_of_spins())
    ]
    return Eigenvalues(kpts, np.array(levels))


FORMAT = Format(
    name="GPAW",
    files="a file that ends in .gpw",
    detect=is_gpaw,
    read=lambda folder, n_valence, orbitals, verify: read_gpaw(folder, verify=verify),
    convention="gpaw",
    spins=(Spin.UNPOLARIZED, Spin.POLARIZED),
)
