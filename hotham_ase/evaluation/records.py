"""Errors as records, with the names that files, tables and the JSON of ``hotham evaluate`` have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any

import numpy as np

BAND_WINDOW = 5.0  # eV on either side of the Fermi level


@dataclass(frozen=True)
class Record:
    """Base of the records."""

    def to_dict(self) -> dict[str, Any]:
        """Fields by their names, those of a part beside the others; JSON-able.

        Optional fields that are None are left out.
        """
        content: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Record):
                content |= value.to_dict()
            elif value is not None or field.default is MISSING:
                content[field.name] = value
        return content


@dataclass(frozen=True)
class HamiltonianErrors(Record):
    """Errors of the elements of H of a structure, meV.

    Attributes
    ----------
    mae_meV, rmse_meV
        Of all elements, without the shift.
    mae_onsite_meV, mae_hopping_meV
        Of onsite and of hopping blocks.
    mae_raw_meV
        Of all elements, no shift removed.
    mu_meV
        The shift.
    """

    mae_meV: float
    rmse_meV: float
    mae_onsite_meV: float
    mae_hopping_meV: float
    mae_raw_meV: float
    mu_meV: float


@dataclass(frozen=True)
class BandErrors(Record):
    """Errors of what follows from H.

    Attributes
    ----------
    band_mae_meV
        Mean |Δε| within ±5 eV of the reference's Fermi level.
    band_shift_meV
        The shift between both energy scales, which is removed.
    fermi_error_meV, gap_error_meV
        Predicted minus reference.
    dos_distance
        ∫|ΔDOS| dE / ∫DOS dE within ±5 eV, broadened by 0.1 eV: 0 for equal and 2 for disjoint
        densities of states.
    ghost_states
        1 if the prediction has levels that no material has, which are left out.
    """

    band_mae_meV: float
    band_shift_meV: float
    fermi_error_meV: float
    gap_error_meV: float
    dos_distance: float
    ghost_states: float


@dataclass(frozen=True)
class TrustErrors(Record):
    """What errors a model expected of a structure.

    Attributes
    ----------
    expected_block_error_meV, block_error_meV
        Expected and seen, root mean squares over the blocks that the network predicts.
    expected_atom_error_meV, expected_band_error_meV
        See :class:`~hotham_ase.model.uncertainty.Uncertainty`; the second is None if the model does
        not know.
    largest_grade
        Of extrapolation, None if it is infinite.
    n_extrapolating
        Atoms.
    """

    expected_block_error_meV: float
    block_error_meV: float
    expected_atom_error_meV: float
    expected_band_error_meV: float | None
    largest_grade: float | None
    n_extrapolating: int


@dataclass(frozen=True, kw_only=True)
class StructureErrors(Record):
    """All errors of a structure.

    Attributes
    ----------
    name
        Of the structure.
    part
        One of :data:`~hotham_ase.evaluation.parts.PARTS`; None where that was not looked at.
    hamiltonian, bands
        Errors.
    trust
        What was expected; None if the model has no uncertainty.
    """

    name: str
    part: str | None = None
    hamiltonian: HamiltonianErrors
    bands: BandErrors
    trust: TrustErrors | None = None

    @property
    def group(self) -> str:
        """The part of the name before the last "/"."""
        return self.name.rpartition("/")[0]


@dataclass(frozen=True)
class MeanErrors(Record):
    """Means over structures, of signed errors the means of their size.

    The fields are those of :class:`HamiltonianErrors` and :class:`BandErrors` but for the shifts,
    and the number of structures.
    """

    mae_meV: float
    rmse_meV: float
    mae_onsite_meV: float
    mae_hopping_meV: float
    mae_raw_meV: float
    band_mae_meV: float
    fermi_error_meV: float
    gap_error_meV: float
    dos_distance: float
    ghost_states: float
    n_structures: int

    @classmethod
    def of(cls, structures: Sequence[StructureErrors]) -> MeanErrors:
        """The means of at least one structure."""
        rows = [row.to_dict() for row in structures]
        names = (f.name for f in fields(cls) if f.name != "n_structures")
        means = {name: float(np.mean([abs(row[name]) for row in rows])) for name in names}
        return cls(**means, n_structures=len(rows))

    @classmethod
    def by(
        cls, kind: Callable[[StructureErrors], str], structures: Sequence[StructureErrors]
    ) -> dict[str, MeanErrors]:
        """The means of the structures of each kind."""
        kinds: dict[str, list[StructureErrors]] = {}
        for row in structures:
            kinds.setdefault(kind(row), []).append(row)
        return {name: cls.of(members) for name, members in kinds.items()}


@dataclass(frozen=True)
class ElementErrors(Record):
    """Errors of ``n`` elements of H, meV."""

    mae_meV: float
    rmse_meV: float
    max_meV: float
    n: int


@dataclass(frozen=True, kw_only=True)
class PairErrors(Record):
    """Errors of a pair of species, or of one of its pairs of shells.

    Attributes
    ----------
    blocks
        ``onsite`` or ``hopping``.
    pair, shells
        As in ``C-N`` and ``s1-p``.
    errors
        Of its elements.
    """

    blocks: str
    pair: str
    shells: str | None = None
    errors: ElementErrors


@dataclass(frozen=True)
class DistanceErrors(Record):
    """Errors of hopping blocks of atoms ``from_A`` to ``to_A`` Å apart, beside their mean |H|."""

    from_A: float
    to_A: float
    mean_abs_h_meV: float
    errors: ElementErrors


@dataclass(frozen=True)
class ReliabilityErrors(Record):
    """Root mean square errors expected and seen of ``n`` onsite or hopping blocks."""

    blocks: str
    expected_meV: float
    seen_meV: float
    n: int


def describe_errors(mae: float, band_mae: float, n_structures: int) -> str:
    """The errors that matter most, in meV, in a line.

    Examples
    --------
    >>> describe_errors(0.2755, 2.98, 10)
    'H 0.276 meV, bands 2.98 meV within 5 eV of E_F (10 structures)'
    """
    return (
        f"H {mae:.3g} meV, bands {band_mae:.3g} meV within {BAND_WINDOW:g} eV of E_F "
        f"({n_structures} structure{'s' if n_structures != 1 else ''})"
    )
