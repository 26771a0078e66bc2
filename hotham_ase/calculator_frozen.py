"""Results in the shape that ASE's files of structures keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ase.calculators.singlepoint import SinglePointDFTCalculator, arrays_to_kpoints

if TYPE_CHECKING:
    from ase import Atoms

    from hotham_ase.electronic import KMesh


def frozen_copy(
    atoms: Atoms,
    results: Mapping[str, Any],
    mesh: KMesh,
    *,
    calculator: str,
    model: str,
    band_gap: float,
) -> Atoms:
    """A copy of a structure with ASE's SinglePointDFTCalculator.

    Parameters
    ----------
    atoms
        The structure.
    results
        By ASE's names: charges, Fermi level, eigenvalues, occupations and k-point weights.
    mesh
        Their k-points.
    calculator, model
        Names for the record.
    band_gap
        eV; with the Fermi level and the model's name it is in ``info`` too, which more kinds of
        files keep.
    """
    frozen = atoms.copy()
    frozen.calc = SinglePointDFTCalculator(
        frozen,
        efermi=results["fermi_level"],
        bzkpts=mesh.bz_kpts,
        ibzkpts=mesh.ibz_kpts,
        bz2ibz=mesh.bz_to_ibz,
        charges=results["charges"],
    )
    # the calculator for single structures takes bands as objects, one for each k-point and spin
    frozen.calc.kpts = arrays_to_kpoints(
        results["eigenvalues"], results["occupations"], results["kpoint_weights"]
    )
    frozen.calc.name = calculator
    frozen.info |= {
        "fermi_level": results["fermi_level"],
        "band_gap": band_gap,
        "hotham_model": model,
    }
    return frozen
