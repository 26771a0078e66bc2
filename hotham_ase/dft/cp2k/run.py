"""CP2K runs: matrices of every lattice vector, with the run's input, output and basis sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.units import Hartree

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.dft.cp2k.basis import data_folders, find_basis, read_species
from hotham_ase.dft.cp2k.csr import check_real_space, find_matrices, has_matrices, read_elements
from hotham_ase.dft.cp2k.input import Section, read_cell, read_input
from hotham_ase.dft.cp2k.kinds import file_names, kinds_of
from hotham_ase.dft.cp2k.output import Output, is_output, read_bands, read_output
from hotham_ase.dft.cp2k.potential import potential_files
from hotham_ase.dft.format import Format, PseudopotentialFiles
from hotham_ase.dft.plausibility import EIGENVALUE_TOLERANCE, compared_with_run
from hotham_ase.dft.provenance import Provenance, name_of
from hotham_ase.dft.sample import DFTReadError, Sample, UnsupportedRunError
from hotham_ase.dft.textfiles import find_ending, find_in, read_head
from hotham_ase.dft.triplets import joined_spins, matrix_from_triplets, sorted_places_of_atoms
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.spin import Spin

_DROPPED = 100  # dropped elements add up to about so many in a level
_CELL_DIGITS = 6e-4  # Å, what the output rounds


def read_cp2k(
    folder: str | Path, *, orbitals: str | Path | None = None, verify: bool = True
) -> Sample:
    """Read a single point of CP2K with ``KS_CSR_WRITE`` and ``S_CSR_WRITE``.

    Needed are these matrices, text or binary, for k-points with ``REAL_SPACE T``; the output, for
    the atoms and the lattice vectors of the files; and the input or ``.restart``, for the cell and
    the basis sets. These are looked for in ``orbitals``; or in the folder, in the environment's
    ``CP2K_DATA_DIR`` and in ``/usr/share/cp2k``. Molecular orbitals in the output and a band
    structure (``.bs``), if there, are compared with.

    Parameters
    ----------
    folder
        The run's folder.
    orbitals
        Where the files of the basis sets must be.
    verify
        Compare eigenvalues with those that the run printed.

    Raises
    ------
    DFTReadError
        If a file is missing, damaged, or contradicts another one.
    UnsupportedRunError
        For periodic runs without k-points, whose matrices add up all lattice vectors; matrices of
        k-points; and two kinds of orbitals of one element.
    """
    folder = Path(folder)
    check_real_space(folder)
    output, (input_path, subsys, dft) = read_output(_output_file(folder)), _sections(folder)
    atoms = _atoms(output, subsys, input_path)
    basis, shells = _basis(folder, output, subsys, dft, orbitals, input_path)
    sample = Sample(
        atoms=atoms,
        basis=basis,
        hamiltonian=_matrix(folder, "KS", output, atoms, basis, shells) * Hartree,
        overlap=_matrix(folder, "S", output, atoms, basis, shells),
        fermi_level=output.fermi_level,
        n_electrons=output.n_electrons,
        provenance=_provenance(folder, output),
    )
    bands = find_ending(folder, ".bs")
    levels = output.levels if bands is None else read_bands(bands)
    if levels is None or not verify:
        return sample
    # elements below the threshold are left out, which moves levels where S is nearly singular
    tolerance = max(EIGENVALUE_TOLERANCE, _DROPPED * _threshold(dft, input_path) * Hartree)
    return compared_with_run(sample, levels, tolerance)


def _atoms(output: Output, subsys: Section, path: Path) -> Atoms:
    """Positions of the output, which has them to six digits, in the cell of the input."""
    cell, pbc = read_cell(subsys, path)
    if not np.allclose(cell, output.cell, atol=_CELL_DIGITS):
        raise DFTReadError(
            f"{path} has the cell {cell.tolist()}, the output {output.cell.tolist()}: it is not "
            "the input of this run"
        )
    return Atoms(output.numbers, positions=output.positions, cell=cell, pbc=pbc)


def _provenance(folder: Path, output: Output) -> Provenance:
    return Provenance(
        name=name_of(folder),
        code=FORMAT.name,
        version=output.version,
        xc=output.xc,
        scf_converged=output.converged,
        scf_steps=output.n_steps,
        overlap="read",
    )


def _threshold(dft: Section, path: Path) -> float:
    """Below which elements of either matrix are left out."""
    found = [dft.get("PRINT", f"{label}_CSR_WRITE") for label in ("KS", "S")]
    words = [section.value("THRESHOLD") for section in found if section is not None]
    try:
        return max((abs(float(one[0])) for one in words if one), default=0.0)
    except ValueError as error:
        raise DFTReadError(f"{path}: THRESHOLD must be a number: {error}") from error


def _output_file(folder: Path) -> Path:
    found = [p for p in sorted(folder.iterdir()) if p.is_file() and _may_be_output(p)]
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise DFTReadError(f"{folder} must have one output of CP2K, got {names}")
    return found[0]


def _may_be_output(path: Path) -> bool:
    ends = (".csr", ".kp", ".wfn", ".cube", ".inp", ".restart")
    return not path.name.endswith(ends) and is_output(read_head(path, 2**14))


def _input_file(folder: Path) -> Path:
    """The restart file, which has no preprocessor's lines, else the input."""
    for ending in (".restart", ".inp"):
        path = find_ending(folder, ending)
        if path is not None:
            return path
    raise DFTReadError(f"{folder} has no .inp or .restart file, which gives cell and basis sets")


def _sections(folder: Path) -> tuple[Path, Section, Section]:
    """The input and its &SUBSYS and &DFT."""
    path = _input_file(folder)
    root = read_input(path)
    subsys, dft = (root.get("FORCE_EVAL", name) for name in ("SUBSYS", "DFT"))
    if subsys is None or dft is None:
        raise DFTReadError(f"{path} has no &FORCE_EVAL with &DFT and &SUBSYS")
    return path, subsys, dft


# -------------------------------------------------------------------- basis, matrix


def _basis(
    folder: Path,
    output: Output,
    subsys: Section,
    dft: Section,
    orbitals: str | Path | None,
    input_path: Path,
) -> tuple[OrbitalBasis, dict[str, tuple[int, ...]]]:
    """Orbitals of every element, and their shells in CP2K's order."""
    places = [folder, *data_folders()] if orbitals is None else [Path(orbitals)]
    found = [find_in(places, name) for name in file_names(dft, "BASIS_SET_FILE_NAME", "BASIS_SET")]
    files = [path for path in found if path is not None]
    bases: dict[str, SpeciesBasis] = {}
    shells: dict[str, tuple[int, ...]] = {}
    for number, n_valence in sorted(set(zip(output.numbers, output.n_valence, strict=True))):
        symbol = chemical_symbols[int(number)]
        if symbol in bases:
            raise UnsupportedRunError(f"{folder} has {symbol} with two pseudopotentials")
        names = {_basis_name(section, input_path) for section in kinds_of(subsys, symbol)}
        if len(names) != 1:
            raise UnsupportedRunError(
                f"{input_path} gives {symbol} the basis sets {sorted(names)}, expected one"
            )
        path, words = find_basis(files, symbol, names.pop())
        bases[symbol], shells[symbol] = read_species(path, words, symbol, float(n_valence))
    return OrbitalBasis(tuple(bases.values())), shells


def _basis_name(section: Section, path: Path) -> str:
    """Name of the orbitals' basis set; auxiliary ones have a type before it."""
    for words in section.keywords.get("BASIS_SET", []):
        if len(words) == 1 or (len(words) == 2 and words[0].upper() == "ORB"):
            return words[-1]
    raise DFTReadError(f"{path} has no BASIS_SET in &KIND {section.parameter}")


def _matrix(
    folder: Path,
    label: str,
    output: Output,
    atoms: Atoms,
    basis: OrbitalBasis,
    shells: dict[str, tuple[int, ...]],
) -> RealSpaceMatrix:
    name = {"KS": "hamiltonian", "S": "overlap"}[label]
    files = [one for one in find_matrices(folder) if one.label == label]
    if not files:
        raise DFTReadError(f"{folder} has no files of {name}: run with &{label}_CSR_WRITE")
    images = output.images[label]
    if all(one.image is None for one in files):
        if atoms.pbc.any():
            raise UnsupportedRunError(
                f"{folder} is a periodic run at Γ alone, which adds up all lattice vectors, so "
                f"that H(R) is lost: run with &KPOINTS and REAL_SPACE T"
            )
        images = np.zeros((1, 3), dtype=np.int64)
    places = sorted_places_of_atoms(shells[symbol] for symbol in atoms.symbols)
    spins = sorted({one.spin for one in files})
    elements = [
        read_elements([one for one in files if one.spin == spin], images, len(places))
        for spin in spins
    ]
    rows, columns, shifts, values = joined_spins(elements)
    return matrix_from_triplets(
        *(atoms, basis, FORMAT.convention, places[rows], places[columns], shifts, values),
        name=name,
        spin=(Spin.UNPOLARIZED, Spin.POLARIZED)[len(values) - 1],
    )


def _potentials(folder: Path) -> PseudopotentialFiles:
    _, subsys, dft = _sections(folder)
    numbers = np.unique(read_output(_output_file(folder)).numbers)
    return potential_files(folder, subsys, dft, [chemical_symbols[n] for n in numbers])


FORMAT = Format(
    name="CP2K",
    files="…-KS_SPIN_1….csr",
    detect=has_matrices,
    read=lambda folder, n_valence, orbitals, verify: read_cp2k(
        folder, orbitals=orbitals, verify=verify
    ),
    convention="cp2k",
    pseudopotentials=_potentials,
    spins=(Spin.UNPOLARIZED, Spin.POLARIZED),
)
