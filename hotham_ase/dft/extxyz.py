"""Extended xyz with what follows from H and S: charges, Fermi level and gap."""

from __future__ import annotations

from pathlib import Path

from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from hotham_ase.dft.format import Format
from hotham_ase.dft.sample import Sample
from hotham_ase.electronic import ElectronicSystem
from hotham_ase.files import replacing
from hotham_ase.matrices.spin import NONMAGNETIC


def write_extxyz(sample: Sample, path: str | Path) -> None:
    """Write a structure with Mulliken charges, ``fermi_level`` and ``band_gap`` in eV.

    Of a prediction there are also ``hotham_model`` and ``spin_orbit``, as in
    :meth:`HotHamCalculator.get_frozen`.

    Parameters
    ----------
    sample
        Whose H and S they are found from, on the default mesh.
    path
        The file; one that exists is replaced.
    """
    system = ElectronicSystem.from_sample(sample)
    atoms = sample.atoms.copy()
    atoms.calc = SinglePointCalculator(atoms, charges=system.charges())
    atoms.info |= {"fermi_level": system.fermi_level(), "band_gap": system.band_gap()}
    known = sample.provenance.extra
    atoms.info |= {key: known[key] for key in ("hotham_model", "spin_orbit") if key in known}
    with replacing(path) as temporary:
        write(temporary, atoms, format="extxyz")


FORMAT = Format(
    name="extended xyz",
    files="an .extxyz file",
    convention="wiki",
    write=write_extxyz,
    written_spins=NONMAGNETIC,
    word="extxyz",
    suffixes=(".extxyz", ".xyz"),
    purpose="ASE, OVITO: charges and gap, no matrices",
)
