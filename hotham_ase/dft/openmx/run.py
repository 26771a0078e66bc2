"""OpenMX runs: one ``.scfout`` holds the matrices, the structure and the input."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.units import Bohr, Hartree

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.dft.format import Format
from hotham_ase.dft.openmx.input import Input, Species, parse_input
from hotham_ase.dft.openmx.pao import read_pao
from hotham_ase.dft.openmx.scfout import ScfOut, read_scfout
from hotham_ase.dft.plausibility import Eigenvalues, compared_with_run
from hotham_ase.dft.provenance import Provenance, name_of
from hotham_ase.dft.sample import DFTReadError, Sample, UnsupportedRunError
from hotham_ase.dft.textfiles import (
    LARGE,
    SUFFIXES,
    files_ending,
    find_ending,
    find_in,
    read_bytes,
    read_text,
)
from hotham_ase.dft.triplets import matrix_from_triplets
from hotham_ase.matrices.spin import Spin

DATA_PATH = "OPENMX_DFT_DATA_PATH"  # the variable by which ASE's calculator finds OpenMX's data


def read_openmx(
    folder: str | Path, *, orbitals: str | Path | None = None, verify: bool = True
) -> Sample:
    """Read a calculation of OpenMX 3.8 or 3.9 made with ``HS.fileout on``.

    One file is enough: ``.scfout`` names the orbitals. Their shape is in ``.pao`` files, looked for
    in ``orbitals``; or in the ``PAO`` folder of the input's ``DATA.PATH`` and of the environment's
    ``OPENMX_DFT_DATA_PATH``, in the folder, and in ``pao/`` of the folder and its parents. Without
    them the basis has no radial functions. ``.Band``, if there, is compared with.

    Parameters
    ----------
    folder
        With one ``.scfout`` file; it may be compressed.
    orbitals
        Where the ``.pao`` files must be.
    verify
        Compare eigenvalues with those of ``.Band``.

    Raises
    ------
    DFTReadError
        If a file is missing, damaged, or contradicts another one.
    UnsupportedRunError
        For transport, electric fields, contracted orbitals, and two kinds of orbitals of one
        element.
    """
    folder = Path(folder)
    path = find_ending(folder, ".scfout")
    if path is None:
        raise DFTReadError(f"{folder} has no .scfout file: run with HS.fileout on")
    content = read_scfout(read_bytes(path, 16 * LARGE), str(path))
    given = parse_input(content.input_lines, f"the input in {path}")
    if _has_field(given):
        raise UnsupportedRunError(f"{path} has an electric field: H depends on more than the atoms")
    places = _places(folder, given) if orbitals is None else (Path(orbitals),)
    atoms, basis = _structure(content, given, places, path, must_exist=orbitals is not None)
    spin, components = content.components()
    triplets = content.elements()
    common = (atoms, basis, FORMAT.convention, *triplets)
    sample = Sample(
        atoms=atoms,
        basis=basis,
        hamiltonian=matrix_from_triplets(
            *common, components * Hartree, name="hamiltonian", spin=spin
        ),
        overlap=matrix_from_triplets(*common, content.overlap, name="overlap"),
        fermi_level=content.fermi_level * Hartree,
        n_electrons=_n_electrons(content, given, basis, atoms),
        provenance=Provenance(
            name=name_of(folder),
            code=FORMAT.name,
            xc=given.values.get("scf.xctype"),
            overlap="read",
            extra={"scfout_version": content.version},
        ),
    )
    bands = find_ending(folder, ".Band")
    if bands is None or not verify:
        return sample
    return compared_with_run(sample, read_bands(bands))


def _has_field(given: Input) -> bool:
    words = given.values.get("scf.electric.field", "").split()
    try:
        return any(float(word) for word in words[:3])
    except ValueError as error:
        raise DFTReadError(f"{given.source}: scf.Electric.Field must be numbers: {error}") from None


def _n_electrons(content: ScfOut, given: Input, basis: OrbitalBasis, atoms: Atoms) -> float:
    neutral = basis.n_electrons(atoms.numbers)
    n_electrons = neutral - given.number("scf.system.charge")
    if min(abs(content.n_electrons - n) for n in (neutral, n_electrons)) > 1e-4:
        raise DFTReadError(
            f"{given.source} puts {neutral:g} valence electrons on the neutral atoms, but the file "
            f"counts {content.n_electrons:g}"
        )
    return n_electrons


# --------------------------------------------------------------- structure, basis


def _places(folder: Path, given: Input) -> tuple[Path, ...]:
    data = [folder / given.values.get("data.path", "../DFT_DATA19")]
    if DATA_PATH in os.environ:
        data.append(Path(os.environ[DATA_PATH]))
    above = (folder, *folder.resolve().parents)
    return (*(path / "PAO" for path in data), folder, *(parent / "pao" for parent in above))


def _structure(
    content: ScfOut, given: Input, places: tuple[Path, ...], path: Path, *, must_exist: bool
) -> tuple[Atoms, OrbitalBasis]:
    """Atoms at the file's positions, which are in the cell, and their orbitals."""
    species = {one.label: one for one in given.species()}
    listed = given.atoms()
    if len(listed) != len(content.positions):
        raise DFTReadError(
            f"{given.source} lists {len(listed)} atoms, {path} is of {len(content.positions)}"
        )
    bases: dict[str, SpeciesBasis] = {}
    for label, n_valence in dict.fromkeys(listed):
        if label not in species:
            raise DFTReadError(f"{given.source} does not define the species {label}")
        one = species[label]
        symbol = element_of(one, given)
        orbitals = orbitals_of(one, symbol, n_valence, places, must_exist=must_exist)
        if symbol in bases and OrbitalBasis((bases[symbol],)) != OrbitalBasis((orbitals,)):
            raise UnsupportedRunError(f"{path} uses different orbitals for atoms of {symbol}")
        bases[symbol] = orbitals
    symbols = [element_of(species[label], given) for label, _ in listed]
    atoms = Atoms(symbols, positions=content.positions * Bohr, cell=content.cell * Bohr, pbc=True)
    basis = OrbitalBasis(tuple(bases.values()))
    if not np.array_equal(basis.n_orbitals(atoms.numbers), content.n_orbitals):
        raise DFTReadError(
            f"{path} has {content.n_orbitals.tolist()} orbitals on its atoms, its input "
            f"{basis.n_orbitals(atoms.numbers).tolist()}"
        )
    return atoms, basis


def element_of(species: Species, given: Input) -> str:
    """The element whose name begins that of the orbitals' file, such as Mo7.0 or Fe5.5H."""
    found = re.match(r"[A-Z][a-z]?", species.file)
    if found is None or found.group() not in atomic_numbers or found.group() == "E":
        raise UnsupportedRunError(
            f"{given.source} has the orbitals {species.file}, which are of no element"
        )
    return found.group()


def orbitals_of(
    species: Species,
    symbol: str,
    n_valence: float,
    places: tuple[Path, ...],
    *,
    must_exist: bool,
) -> SpeciesBasis:
    """With radial functions where the file is found; the cutoff is part of its name too."""
    names = [f"{species.file}.pao{suffix}" for suffix in SUFFIXES]
    path = next((found for name in names if (found := find_in(places, name))), None)
    if path is not None:
        return read_pao(path, symbol, species, n_valence)
    cutoff = re.match(r"[A-Za-z]+(\d+\.?\d*)", species.file)
    if cutoff is None or must_exist:
        raise DFTReadError(f"{species.file}.pao was not found in {places[0]}")
    cutoffs = (float(cutoff.group(1)) * Bohr,) * len(species.shells)
    return SpeciesBasis(symbol, species.shells, cutoffs, n_valence)


# ------------------------------------------------------------------- eigenvalues


def read_bands(path: str | Path) -> Eigenvalues:
    """Read the eigenvalues of a ``.Band`` file, in eV.

    Parameters
    ----------
    path
        The file: bands, spin and chemical potential; reciprocal vectors; the number of paths and
        the paths; then for every k-point, and spin, ``n kx ky kz`` and n eigenvalues in Hartree.

    Raises
    ------
    DFTReadError
        If it is not of this form.
    """
    path = Path(path)
    lines = [line.split() for line in read_text(path, LARGE).splitlines() if line.strip()]
    try:
        n_bands, spin = int(lines[0][0]), int(lines[0][1])
        heads = lines[3 + int(lines[2][0]) :: 2]
        values = lines[4 + int(lines[2][0]) :: 2]
        n_spins = 2 if spin == 1 else 1
        levels = np.array(values, dtype=float).reshape(-1, n_spins, n_bands)
        kpts = np.array([head[1:4] for head in heads[::n_spins]], dtype=float).reshape(-1, 3)
    except (ValueError, IndexError) as error:
        raise DFTReadError(f"{path} is not a complete .Band file: {error}") from error
    if not levels.size or len(kpts) != len(levels) or not (np.abs(kpts) < 1e3).all():
        raise DFTReadError(f"{path} is not a complete .Band file")
    return Eigenvalues(kpts, levels.transpose(1, 0, 2) * Hartree)


FORMAT = Format(
    name="OpenMX",
    files="a file that ends in .scfout",
    detect=lambda folder: bool(files_ending(folder, ".scfout")),
    read=lambda folder, n_valence, orbitals, verify: read_openmx(
        folder, orbitals=orbitals, verify=verify
    ),
    convention="openmx",
    spins=tuple(Spin),
)
