"""What a data set holds, in a page."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hotham_ase.basis.orbitals import SpeciesBasis
from hotham_ase.dataset.store import Dataset


@dataclass(frozen=True)
class SpeciesDescription:
    """Of a species: shells such as 2s2p1d, largest cutoff in Å, valence electrons, potential."""

    orbitals: str
    cutoff: float
    n_valence: float
    pseudopotential: str | None

    @classmethod
    def of(cls, species: SpeciesBasis) -> SpeciesDescription:
        """Describe the basis of a species."""
        label = None if species.potential is None else species.potential.label
        return cls(species.label, round(species.cutoff, 4), species.n_valence, label)


@dataclass(frozen=True)
class DatasetDescription:
    """Structures, orbitals, origin and state of a data set; ``dataclasses.asdict`` is JSON-able.

    Attributes
    ----------
    file, size_MB
        Name and size.
    damaged
        Names of structures whose content is not what was written, and "fingerprint" if the basis
        or the list of structures is not; empty if all is well.
    n_structures
        How many there are.
    groups, formulas
        Numbers of structures by the first part of their names, and by composition.
    n_atoms, n_orbitals
        Smallest and largest.
    species, has_radial
        The basis, and whether S can be computed from it.
    spin
        Numbers of structures by the kind of their H.
    n_moments
        Structures with initial magnetic moments.
    overlap
        Numbers of structures whose S was "read" or "computed".
    n_initial, n_fermi_level
        Structures with an initial Hamiltonian, and with a Fermi level.
    origin
        Of codes, versions and functionals (xc) the numbers of structures.
    n_unconverged
        Structures of calculations that say they did not converge.
    format_version, package_version, fingerprint
        Of the file.
    """

    file: str
    size_MB: float
    damaged: list[str]
    n_structures: int
    groups: dict[str, int]
    formulas: dict[str, int]
    n_atoms: tuple[int, int]
    n_orbitals: tuple[int, int]
    species: dict[str, SpeciesDescription]
    has_radial: bool
    spin: dict[str, int]
    n_moments: int
    overlap: dict[str, int]
    n_initial: int
    n_fermi_level: int
    origin: dict[str, dict[str, int]]
    n_unconverged: int
    format_version: int
    package_version: str
    fingerprint: str


def describe_dataset(path: str | Path) -> DatasetDescription:
    """Describe a data set.

    Everything is read once, for the checksums; no matrix is built.

    Parameters
    ----------
    path
        A file of :class:`hotham_ase.dataset.DatasetWriter`.

    Raises
    ------
    DatasetError, FileNotFoundError
        If the file is not a data set, a structure cannot be read at all, or it does not exist.
    """
    path = Path(path)
    formulas: Counter[str] = Counter()
    overlap: Counter[str] = Counter()
    spin: Counter[str] = Counter()
    of_runs: dict[str, Counter[str]] = {key: Counter() for key in ("code", "version", "xc")}
    n_atoms, n_orbitals = [], []
    n_initial = n_fermi_level = n_unconverged = n_moments = 0
    with Dataset(path, verify=False) as dataset:
        basis, names = dataset.basis, dataset.names
        format_version, package_version = dataset.versions
        for index in range(len(dataset)):
            stored = dataset.geometry(index)
            atoms, origin = stored.atoms(), stored.origin()
            formulas[atoms.get_chemical_formula()] += 1
            overlap[origin.overlap or "unknown"] += 1
            spin[stored.spin.value] += 1
            n_moments += stored.moments is not None
            for key, counted in of_runs.items():
                counted[getattr(origin, key) or "unknown"] += 1
            n_initial += dataset.has_initial(index)
            n_atoms.append(len(atoms))
            n_orbitals.append(int(basis.n_orbitals(atoms.numbers).sum()))
            n_fermi_level += not np.isnan(stored.fermi_level)
            n_unconverged += origin.scf_converged is False
        return DatasetDescription(
            file=path.name,
            size_MB=round(path.stat().st_size / 1e6, 3),
            damaged=dataset.verify_checksums(),
            n_structures=len(names),
            groups=dict(Counter(name.rpartition("/")[0] or "(no group)" for name in names)),
            formulas=dict(formulas),
            n_atoms=(min(n_atoms), max(n_atoms)),
            n_orbitals=(min(n_orbitals), max(n_orbitals)),
            species={one.symbol: SpeciesDescription.of(one) for one in basis.species},
            has_radial=basis.has_radial,
            spin=dict(spin),
            n_moments=n_moments,
            overlap=dict(overlap),
            n_initial=n_initial,
            n_fermi_level=n_fermi_level,
            origin={key: dict(counted) for key, counted in of_runs.items()},
            n_unconverged=n_unconverged,
            format_version=format_version,
            package_version=package_version,
            fingerprint=dataset.fingerprint,
        )
