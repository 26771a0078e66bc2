"""The data doctor: looks for the faults that spoil a data set without anyone noticing.

=====================  ===========================================================
code                   what was found
=====================  ===========================================================
checksum               content that is not what was written
unreadable             parts that are missing or contradict each other
nan                    positions or matrix elements that are not finite numbers
unknown-element        an element that the basis lacks
overlapping-atoms      two atoms at one place
orbital-count          a matrix of another size than the basis says
not-hermitian          onsite blocks that are not symmetric
no-pairs               a pair list that is empty, or lists a pair twice
one-sided-pairs        near pairs of atoms without matrix elements
missing-blocks         atoms without a block of H, or pairs whose orbitals overlap
folded-coordinates     lattice vectors of the pairs that belong to positions in the cell
overlap-norm           orbitals that do not have an overlap of 1 with themselves
overlap-mismatch       S that differs from the integrals of the basis functions
overlap-indefinite     S(k) that is not positive definite
absurd-levels          levels far below those of the atoms
unconverged            a calculation that says it did not converge
first-step             H of the first step (H0): the run made one step only
initial                H0 that some structures have and some not, that is of a later step,
                       or that is no better a start than no H0 at all
electron-count         H whose states below the Fermi level hold another number of
                       electrons: H0, a shifted zero of energy, or another structure's H
duplicate              a structure that is there twice
mixed-settings         structures of different functionals, codes, versions or spin kinds
=====================  ===========================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hotham_ase.dataset.store import Dataset
from hotham_ase.dataset.stored import DatasetError, StoredStructure
from hotham_ase.dataset.structure_checks import Finding, check_structure
from hotham_ase.dft.provenance import Provenance
from hotham_ase.matrices.spin import Spin


def check_dataset(
    path: str | Path, progress: Callable[[int, int], None] | None = None
) -> list[Finding]:
    """Look for known faults in every structure of a data set, see the table above.

    Parameters
    ----------
    path
        A file of :class:`hotham_ase.dataset.DatasetWriter`.
    progress
        Called as ``progress(n_done, n_structures)`` after every structure.

    Raises
    ------
    DatasetError, FileNotFoundError
        If the file is not a data set or does not exist.
    """
    findings: list[Finding] = []
    with Dataset(path, verify=False) as dataset:
        try:
            damaged = dataset.verify_checksums()
            names, basis = dataset.names, dataset.basis
        except DatasetError as error:
            return [Finding(None, "error", "unreadable", str(error))]
        for name in damaged:
            text = "the content is not what was written: the file was damaged or edited"
            where = None if name == "fingerprint" else name
            findings.append(Finding(where, "error", "checksum", text))
        seen: list[_Seen] = []
        for index, name in enumerate(names):
            try:
                stored = dataset.stored(index)
                seen.append(_Seen.of(name, stored))
                # one by one: what is found before an error is kept
                for found in check_structure(stored, basis):
                    findings.append(replace(found, structure=name))
            except Exception as error:  # whatever cannot be examined is a finding of its own
                text = str(error) or type(error).__name__
                findings.append(Finding(name, "error", "unreadable", text))
            if progress is not None:
                progress(index + 1, len(names))
        findings += _duplicates(seen)
        findings += _settings(seen)
        findings += _some_initial(seen)
    return findings


# ---------------------------------------------------------------- on the data set


@dataclass(frozen=True)
class _Seen:
    """What is kept of each structure for comparison with the others; moments are geometry, too."""

    name: str
    geometry: bytes
    spin: Spin
    origin: Provenance
    has_initial: bool

    @classmethod
    def of(cls, name: str, stored: StoredStructure) -> _Seen:
        """Of a structure that is read."""
        arrays = [stored.numbers, stored.cell, stored.positions]
        if stored.moments is not None:
            arrays.append(stored.moments)
        geometry = b"".join(np.round(array, 6).tobytes() for array in arrays)
        has_initial = "initial_hamiltonian" in stored.matrices
        return cls(name, geometry, stored.spin, stored.origin(), has_initial)


def _duplicates(seen: list[_Seen]) -> Iterator[Finding]:
    first: dict[tuple[bytes, Spin], str] = {}
    for one in seen:
        key = one.geometry, one.spin
        if key in first:
            text = f"the same structure is there as {first[key]}"
            yield Finding(one.name, "warning", "duplicate", text)
        first.setdefault(key, one.name)


def _settings(seen: list[_Seen]) -> Iterator[Finding]:
    origins = [one.origin for one in seen]
    for key in ("code", "version", "xc"):
        values = sorted({value for one in origins if (value := getattr(one, key))})
        if len(values) > 1:
            text = f"structures differ in {key}: {', '.join(values)}"
            yield Finding(None, "warning", "mixed-settings", text)
    kinds = sorted({one.spin.value for one in seen})
    if len(kinds) > 1:
        text = f"structures differ in spin: {', '.join(kinds)}"
        yield Finding(None, "warning", "mixed-settings", text)
    n_unknown = sum(one.scf_converged is None for one in origins)
    if n_unknown:
        text = f"{n_unknown} of {len(seen)} structures do not say whether they converged"
        yield Finding(None, "info", "unconverged", text)


def _some_initial(seen: list[_Seen]) -> Iterator[Finding]:
    """A training on H − H0 needs all, one on H none."""
    without = [one.name for one in seen if not one.has_initial]
    if 0 < len(without) < len(seen):
        text = (
            f"{len(seen) - len(without)} of {len(seen)} structures have an initial Hamiltonian, "
            f"the others not, the first is {without[0]}: initial_hamiltonian cannot be switched on "
            "in a training on all of them"
        )
        yield Finding(None, "warning", "initial", text)
