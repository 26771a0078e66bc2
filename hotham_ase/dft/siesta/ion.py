"""SIESTA's ``.ion.xml`` and ``.ion.nc``: orbitals, projectors and neutral-atom potential.

Tables of f(r) on uniform meshes in Bohr and Rydberg; a function is f(r) r^l times a real harmonic.
Orbitals are normalised.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from ase.data import chemical_symbols
from ase.units import Bohr, Rydberg
from scipy.interpolate import CubicSpline

from hotham_ase.basis.orbitals import BasisError, SpeciesBasis
from hotham_ase.basis.potentials import AtomicPotential, PotentialError
from hotham_ase.dft.sample import DFTReadError, UnsupportedRunError
from hotham_ase.dft.textfiles import read_bytes

_MOST = 64 * 2**20  # bytes
_STEP = 0.01  # Bohr, of the mesh that functions are put on
_FARTHEST = 100.0  # Bohr
_LARGEST = 1e6


@dataclass(frozen=True, eq=False)
class Radial:
    """One f(r).

    Attributes
    ----------
    l
        Its degree.
    j
        Total angular momentum of a projector of a fully relativistic potential, else 0.
    energy
        Of a projector, Ry.
    cutoff
        Bohr.
    r, f : (n,)
        Bohr, and values.
    """

    l: int
    j: float
    energy: float
    cutoff: float
    r: np.ndarray = field(repr=False)
    f: np.ndarray = field(repr=False)

    def on(self, mesh: np.ndarray) -> np.ndarray:
        """f(r) r^l on a mesh in Bohr, zero beyond the cutoff."""
        values = CubicSpline(self.r, self.f)(np.minimum(mesh, self.r[-1])) * mesh**self.l
        return np.where(mesh < self.cutoff, values, 0.0)


@dataclass(frozen=True, eq=False)
class Ion:
    """A species.

    Attributes
    ----------
    symbol
        Of the element.
    n_valence
        Valence electrons.
    orbitals, projectors : tuple of Radial
        In the file's order.
    neutral : Radial or None
        V_NA in Ry.
    source
        The file's name.
    """

    symbol: str
    n_valence: float
    orbitals: tuple[Radial, ...]
    projectors: tuple[Radial, ...]
    neutral: Radial | None
    source: str

    @property
    def shells(self) -> tuple[int, ...]:
        """Angular momenta of the shells, in the file's order."""
        return tuple(one.l for one in self.orbitals)

    @property
    def reach(self) -> float:
        """Å; the largest radius of a projector."""
        return Bohr * max((one.cutoff for one in self.projectors), default=0.0)

    def basis(self) -> SpeciesBasis:
        """Orbitals by ascending l, and the potential where the file has it.

        Raises
        ------
        DFTReadError
            If the tables describe no basis.
        """
        ordered = sorted(self.orbitals, key=lambda one: one.l)
        mesh = _mesh(max(one.cutoff for one in ordered))
        try:
            return SpeciesBasis(
                symbol=self.symbol,
                shells=tuple(one.l for one in ordered),
                cutoffs=tuple(one.cutoff * Bohr for one in ordered),
                n_valence=self.n_valence,
                grid=mesh * Bohr,
                radial=np.array([one.on(mesh) for one in ordered]) / Bohr**1.5,
                potential=self._potential(),
            )
        except (BasisError, PotentialError) as error:
            raise DFTReadError(f"{self.source} does not describe a species: {error}") from error

    def _potential(self) -> AtomicPotential | None:
        if self.neutral is None:
            return None
        tables = (*self.projectors, self.neutral)
        mesh = _mesh(max(one.cutoff for one in tables))
        relativistic = any(one.j for one in self.projectors)
        projectors = [one.on(mesh) for one in self.projectors]
        return AtomicPotential(
            degrees=tuple(one.l for one in self.projectors),
            total_momenta=tuple(one.j for one in self.projectors) if relativistic else None,
            coefficients=np.diag([one.energy * Rydberg for one in self.projectors]),
            grid=mesh * Bohr,
            projectors=np.array(projectors).reshape(-1, len(mesh)) / Bohr**1.5,
            cutoffs=tuple(one.cutoff * Bohr for one in self.projectors),
            neutral=self.neutral.on(mesh) * Rydberg,
            density=None,
            n_valence=self.n_valence,
            source=self.source,
        )


def _mesh(cutoff: float) -> np.ndarray:
    return _STEP * np.arange(int(np.ceil(cutoff / _STEP - 1e-9)) + 1)


def read_ion(path: Path) -> Ion:
    """Read a ``.ion.xml`` or ``.ion.nc`` file; ``.xml`` may be compressed.

    Raises
    ------
    DFTReadError
        If it is not of this form or damaged.
    UnsupportedRunError
        If the species is of no element, as mixed or ghost atoms.
    """
    data = read_bytes(path, _MOST)
    try:
        number, tables = (_of_netcdf if data[:3] == b"CDF" else _of_xml)(data)
    except (ValueError, KeyError, TypeError, ElementTree.ParseError) as error:
        raise DFTReadError(f"{path} is not a complete .ion file: {error}") from error
    except Exception as error:  # damaged headers of netCDF raise almost any class
        raise DFTReadError(f"{path} cannot be read: {error}") from error
    if not 0 < number < len(chemical_symbols):
        raise UnsupportedRunError(
            f"{path} is of atomic number {number}: mixed and ghost atoms are not supported"
        )
    return Ion(chemical_symbols[number], *tables, source=path.name)


_Tables = tuple[float, tuple[Radial, ...], tuple[Radial, ...], Radial | None]


def _radial(
    l: float, cutoff: float, r: np.ndarray, f: np.ndarray, *, j: float = 0.0, energy: float = 0.0
) -> Radial:
    r, f = np.asarray(r, dtype=float), np.asarray(f, dtype=float)
    whole = len(r) == len(f) > 3 and r[0] == 0.0 and (np.diff(r) > 0).all()
    if not whole or not 0 < cutoff < _FARTHEST or not r[-1] < _FARTHEST or not 0 <= l <= 10:
        raise ValueError(f"a function of l = {l} that ends at {cutoff} Bohr has no proper mesh")
    if not (np.abs(f) < _LARGEST).all() or not abs(energy) < _LARGEST:
        raise ValueError(f"a function of l = {l} has values that cannot be")
    return Radial(int(l), float(j), float(energy), float(cutoff), r, f)


def _of_xml(data: bytes) -> tuple[int, _Tables]:
    root = ElementTree.fromstring(data)

    def text(name: str) -> str:
        found = root.findtext(name)
        if found is None:
            raise ValueError(f"it has no {name}")
        return found.strip()

    def table(element: ElementTree.Element, *, j: float = 0.0, energy: float = 0.0) -> Radial:
        radial = element if element.tag == "radfunc" else element.find("radfunc")
        if radial is None:
            raise ValueError("a function has no table")
        points = np.array((radial.findtext("data") or "").split(), dtype=float).reshape(-1, 2)
        cutoff = float(radial.findtext("cutoff") or "nan")
        r, f = points.T
        return _radial(float(element.get("l", 0)), cutoff, r, f, j=j, energy=energy)

    projectors = [
        table(one, j=float(one.get("j", 0)), energy=float(one.get("ref_energy", "nan")))
        for one in root.iterfind("kbs/projector")
    ]
    neutral = root.find("vna/radfunc")
    return int(text("z")), (
        float(text("valence")),
        tuple(table(one) for one in root.iterfind("paos/orbital")),
        tuple(projectors),
        None if neutral is None else table(neutral),
    )


def _of_netcdf(data: bytes) -> tuple[int, _Tables]:
    from io import BytesIO

    from scipy.io import netcdf_file

    with netcdf_file(BytesIO(data), mmap=False) as file:
        get = {name: np.array(file.variables[name].data) for name in file.variables}
        number, n_valence = int(file.Atomic_number), float(file.Valence_charge)
        vna = file.variables.get("vna")
        steps = None if vna is None else (float(vna.Vna_cutoff), float(vna.Vna_delta))
    n_points = np.arange(get["orb"].shape[1])
    orbitals = [
        _radial(l, cutoff, delta * n_points, f)
        for l, cutoff, delta, f in zip(
            *(get[name] for name in ("orbnl_l", "cutoff", "delta", "orb")), strict=True
        )
    ]
    momenta = get.get("pjnl_j", np.zeros(len(get["pjnl_l"])))
    projectors = [
        _radial(l, cutoff, delta * n_points, f, j=j, energy=energy)
        for l, cutoff, delta, f, energy, j in zip(
            *(get[name] for name in ("pjnl_l", "kbcutoff", "kbdelta", "proj", "pjnl_ekb")),
            momenta,
            strict=True,
        )
    ]
    neutral = None if steps is None else _radial(0, steps[0], steps[1] * n_points, get["vna"])
    return number, (n_valence, tuple(orbitals), tuple(projectors), neutral)
