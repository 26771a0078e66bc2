"""What a data set holds, in a page."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from hotham_ase.dataset.store import Dataset


def describe_dataset(path: str | Path) -> dict[str, Any]:
    """Structures, orbitals, origin and state of a data set.

    Everything is read once, for the checksums; no matrix is built.

    Parameters
    ----------
    path
        A file of :class:`hotham_ase.dataset.DatasetWriter`.

    Returns
    -------
    dict
        JSON-able: ``file``, ``size_MB``, ``damaged`` (names of structures whose content is not
        what was written, and "fingerprint" if the basis or the list of structures is not; empty
        if all is well), ``n_structures``, ``groups`` and ``formulas`` with their numbers of
        structures, ``n_atoms`` and ``n_orbitals`` (smallest and largest), ``species`` with
        orbitals, cutoffs and valence electrons, ``has_radial``, ``spin``, ``overlap``
        ("read", "computed" with numbers), ``n_initial`` (with an initial Hamiltonian),
        ``n_fermi_level`` (with a Fermi level), ``origin`` (codes, versions and functionals with
        numbers), ``n_unconverged``, ``format_version``, ``package_version``, ``fingerprint``.

    Raises
    ------
    DatasetError, FileNotFoundError
        If the file is not a data set, a structure cannot be read at all, or it does not exist.
    """
    path = Path(path)
    with Dataset(path, verify=False) as dataset:
        attributes, basis, names = dataset.attributes, dataset.basis, dataset.names
        damaged = dataset.verify_checksums()
        overlap: Counter[str] = Counter()
        formulas: Counter[str] = Counter()
        origin: dict[str, Counter[str]] = {key: Counter() for key in ("code", "version", "xc")}
        n_orbitals, n_unconverged, n_fermi_level = [], 0, 0
        for index in range(len(dataset)):
            stored = dataset.geometry(index)
            atoms, source = stored.atoms(), stored.origin()
            formulas[atoms.get_chemical_formula()] += 1
            overlap[str(source.get("overlap", "unknown"))] += 1
            for key, counted in origin.items():
                counted[str(source.get(key) or "unknown")] += 1
            n_orbitals.append(int(basis.n_orbitals(atoms.numbers).sum()))
            n_unconverged += source.get("scf_converged") is False
            n_fermi_level += not np.isnan(stored.fermi_level)
        groups = Counter(name.rpartition("/")[0] or "(no group)" for name in names)
    species = {
        s.symbol: {"orbitals": s.label, "cutoff": round(s.cutoff, 4), "n_valence": s.n_valence}
        for s in basis.species
    }
    return {
        "file": path.name,
        "size_MB": round(path.stat().st_size / 1e6, 3),
        "damaged": damaged,
        "n_structures": len(names),
        "groups": dict(groups),
        "formulas": dict(formulas),
        "n_atoms": attributes["n_atoms"],
        "n_orbitals": [min(n_orbitals), max(n_orbitals)],
        "species": species,
        "has_radial": basis.has_radial,
        "spin": "unpolarized",  # the only kind that is stored
        "overlap": dict(overlap),
        "n_initial": attributes["n_initial"],
        "n_fermi_level": n_fermi_level,
        "origin": {key: dict(counted) for key, counted in origin.items()},
        "n_unconverged": n_unconverged,
        "format_version": attributes["format_version"],
        "package_version": attributes["package_version"],
        "fingerprint": attributes["fingerprint"],
    }
