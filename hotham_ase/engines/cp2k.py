"""CP2K as an engine: Gaussian orbitals and GTH pseudopotentials, molecules and crystals.

Kühne et al., J. Chem. Phys. 152, 194103 (2020). Its H(R) and S(R) are integrals between cells, as
far as its orbitals reach, whatever the mesh of k-points: that serves the density alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from ase import Atoms
from ase.units import Rydberg, kB
from pydantic import Field
from scipy.linalg import eigh

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.dft.cp2k.basis import data_folders, find_basis, find_valence, read_species
from hotham_ase.dft.rearranged import Placed, placed
from hotham_ase.dft.short_ranged import half_mesh
from hotham_ase.dft.textfiles import find_in
from hotham_ase.engines.engine import EngineError
from hotham_ase.engines.kpoints import KPoints, density_mesh
from hotham_ase.engines.levels import MOLECULAR_WIDTH, fermi_level
from hotham_ase.engines.program import Program
from hotham_ase.errors import HothamError

if TYPE_CHECKING:
    from hotham_ase.dft.sample import Sample

INPUT = "input.inp"
VACUUM = 5.0  # Å on either side of a molecule, whose box has no images
COMPARED = ((0.0, 0.0, 0.0), (0.21, 0.17, 0.13))  # k-points whose levels CP2K prints


class CP2K(Program):
    """Density functional theory in Gaussian orbitals, by the program CP2K."""

    name: Literal["cp2k"] = "cp2k"
    """CP2K computes, which must be installed; Debian's package is ``cp2k``."""
    command: str = "cp2k.psmp"
    """What runs CP2K, such as ``mpirun -n 4 cp2k.psmp``; where that runs on several cores, set
    ``workers``."""
    xc: Literal["PBE", "PADE", "BLYP"] = "PBE"
    """The functional, in CP2K's words; ``PADE`` is the local density approximation."""
    basis: str = Field("DZVP-MOLOPT-SR-GTH", pattern=r"^\S+$")
    """The basis set, in CP2K's words, of all elements. Those of ``-SR`` reach less far."""
    potential: str = Field("GTH-PBE", pattern=r"^\S+$")
    """The GTH pseudopotentials, in CP2K's words."""
    basis_file: str = Field("BASIS_MOLOPT", pattern=r"^[^\s/]+$")
    """Which of CP2K's files has the basis set; files are looked for in ``CP2K_DATA_DIR`` and in
    ``/usr/share/cp2k``."""
    potential_file: str = Field("GTH_POTENTIALS", pattern=r"^[^\s/]+$")
    """Which of CP2K's files has the pseudopotentials."""
    energy_cutoff: float = Field(5500.0, gt=0)
    """Of the finest grid of the density, in eV; 400 Ry. 2200 suffices for Si."""
    relative_cutoff: float = Field(820.0, gt=0)
    """Of the grid that a product of Gaussians is put on, in eV; 60 Ry."""
    kpts: KPoints = 2.5
    """Of crystals, k-points per Å⁻¹ of each reciprocal lattice vector (2π included), or a mesh,
    about Γ. All structures of a data set should have the same density."""
    smearing: float = Field(0.1, gt=0)
    """Of crystals, k_B T of the electrons in eV."""
    scf_accuracy: float = Field(1e-7, gt=0)
    """The density has converged when it changes by less, CP2K's ``EPS_SCF``."""

    arguments: ClassVar[tuple[str, ...]] = ("-i", INPUT)

    def basis_of(self, symbols: Iterable[str]) -> OrbitalBasis:
        """See :meth:`Engine.basis_of`."""
        try:
            return OrbitalBasis(tuple(self._species(symbol) for symbol in sorted(set(symbols))))
        except HothamError as error:
            raise EngineError(str(error)) from error

    def _species(self, symbol: str) -> SpeciesBasis:
        files, potentials = (_data_file(name) for name in (self.basis_file, self.potential_file))
        n_valence = find_valence([potentials], symbol, self.potential)
        path, words = find_basis([files], symbol, self.basis)
        return read_species(path, words, symbol, n_valence)[0]

    def placed(self, atoms: Atoms) -> Placed:
        """Crystals have atoms between −1/2 and 1/2, molecules are in the middle of a cube."""
        if atoms.pbc.any():
            return placed(atoms, lowest=-0.5)
        size = float(np.ptp(atoms.positions, axis=0).max()) + 2 * VACUUM
        move = size / 2 - (atoms.positions.max(axis=0) + atoms.positions.min(axis=0)) / 2
        there = Atoms(atoms.numbers, atoms.positions + move, cell=np.full(3, size))
        return Placed(there, np.arange(len(atoms)), move)

    def write(self, atoms: Atoms, given: Atoms, folder: Path) -> dict[str, Any]:
        """See :meth:`Program.write`."""
        n_electrons = self.basis_of(atoms.symbols).n_electrons(atoms.numbers)
        if n_electrons % 2:
            raise EngineError(
                f"{atoms.symbols} has {n_electrons:g} electrons: only even numbers can be "
                "computed, without spin polarization"
            )
        mesh = density_mesh(self.kpts, given, atoms.cell[:]) if atoms.pbc.any() else None
        text = "\n".join(self._input(atoms, mesh)) + "\n"
        (folder / INPUT).write_text(text, encoding="ascii")
        keys = ("basis", "potential", "energy_cutoff", "relative_cutoff", "scf_accuracy")
        record = {key: getattr(self, key) for key in keys}
        return record | ({} if mesh is None else {"kpts": mesh, "smearing": self.smearing})

    def finished(self, sample: Sample, folder: Path) -> Sample:
        """Where occupations are fixed CP2K says no Fermi level: it is the middle of the gap."""
        if sample.fermi_level is not None:
            return sample
        h, s = (m.at_k((0, 0, 0), format="dense") for m in (sample.hamiltonian, sample.overlap))
        levels = eigh(h, s, eigvals_only=True)[None]
        fermi = fermi_level(levels, sample.n_electrons, MOLECULAR_WIDTH)
        return replace(sample, fermi_level=fermi)

    # ------------------------------------------------------------------- input

    def _input(self, atoms: Atoms, mesh: tuple[int, int, int] | None) -> list[str]:
        dft = [
            f"BASIS_SET_FILE_NAME {_data_file(self.basis_file)}",
            f"POTENTIAL_FILE_NAME {_data_file(self.potential_file)}",
            *_section("QS", "EPS_DEFAULT 1e-12"),
            *_section(
                "MGRID",
                f"CUTOFF {self.energy_cutoff / Rydberg:.10g}",
                f"REL_CUTOFF {self.relative_cutoff / Rydberg:.10g}",
            ),
            *_section("XC", *_section(f"XC_FUNCTIONAL {self.xc}")),
            *(self._molecule() if mesh is None else self._crystal(mesh)),
        ]
        return [
            *_section("GLOBAL", "PROJECT run", "RUN_TYPE ENERGY"),
            *_section(
                "FORCE_EVAL",
                "METHOD QS",
                *_section("DFT", *dft),
                *_section("SUBSYS", *self._structure(atoms)),
            ),
        ]

    def _molecule(self) -> list[str]:
        return [
            *_section("POISSON", "PERIODIC NONE", "PSOLVER WAVELET"),
            *self._scf(),
            *_section(
                "PRINT",
                *_section(
                    "MO",
                    "ENERGIES T",
                    "OCCUPATION_NUMBERS T",
                    "NDIGITS 12",
                    *_section("EACH", "QS_SCF 0"),
                ),
                *_matrices(),
            ),
        ]

    def _crystal(self, mesh: tuple[int, int, int]) -> list[str]:
        points = zip(*half_mesh(mesh), strict=True)
        special = [f"SPECIAL_POINT {_numbers(kpt)}" for kpt in COMPARED]
        return [
            *_section(
                "KPOINTS",
                "SCHEME GENERAL",
                "UNITS B_VECTOR",
                *(f"KPOINT {_numbers(kpt)} {weight:.15g}" for kpt, weight in points),
            ),
            *self._scf(
                *_section(
                    "SMEAR",
                    "METHOD FERMI_DIRAC",
                    f"ELECTRONIC_TEMPERATURE {self.smearing / kB:.10g}",
                )
            ),
            *_section(
                "PRINT",
                *_section(
                    "BAND_STRUCTURE",
                    "FILE_NAME run.bs",
                    "ADDED_MOS -1",
                    *_section("KPOINT_SET", "NPOINTS 1", "UNITS B_VECTOR", *special),
                ),
                *_matrices("REAL_SPACE T"),
            ),
        ]

    def _scf(self, *lines: str) -> list[str]:
        # Without density mixing CP2K extrapolates H, whose empty levels it prints then.
        mixing = _section("MIXING", "METHOD BROYDEN_MIXING", "ALPHA 0.4")
        accuracy = f"EPS_SCF {self.scf_accuracy:g}"
        return _section("SCF", accuracy, "MAX_SCF 100", "ADDED_MOS -1", *lines, *mixing)

    def _structure(self, atoms: Atoms) -> list[str]:
        rows = zip("ABC", atoms.cell[:], strict=True)
        cell = [f"{axis} {_numbers(vector)}" for axis, vector in rows]
        axes = "XYZ" if atoms.pbc.any() else "NONE"
        places = zip(atoms.symbols, atoms.positions, strict=True)
        lines = [
            *_section("CELL", *cell, f"PERIODIC {axes}"),
            *_section("COORD", *(f"{symbol} {_numbers(place)}" for symbol, place in places)),
        ]
        for symbol in dict.fromkeys(atoms.symbols):
            lines += _section(
                f"KIND {symbol}", f"BASIS_SET {self.basis}", f"POTENTIAL {self.potential}"
            )
        return lines


def _section(name: str, *lines: str) -> list[str]:
    return [f"&{name}", *(f"  {line}" for line in lines), f"&END {name.split()[0]}"]


def _matrices(*lines: str) -> list[str]:
    """Both matrices, of all lattice vectors, in files whose names tell these apart."""
    both = [
        _section(f"{label}_CSR_WRITE", "BINARY T", "FILENAME ./x", *lines) for label in ("KS", "S")
    ]
    return [line for section in both for line in section]


def _numbers(values: Iterable[float]) -> str:
    return " ".join(f"{x:.15g}" for x in values)


def _data_file(name: str) -> Path:
    """A file of CP2K's data.

    Raises
    ------
    EngineError
        If it is nowhere.
    """
    folders = data_folders()
    path = find_in(folders, name)
    if path is None:
        places = " and ".join(map(str, folders))
        raise EngineError(f"CP2K's file {name} is not in {places}: set CP2K_DATA_DIR")
    return path.resolve()
