"""ABACUS run folders: STRU, INPUT, KPT, the running log and the sparse H(R) and S(R).

ABACUS writes lengths in Bohr and matrices in Rydberg; they are converted with `ase.units`.
Energies that it prints in eV use its own Rydberg of 13.605698066 eV; they are scaled back, so
that matrices, eigenvalues and Fermi level are on one scale.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import Rydberg

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.dft.abacus.csr import (
    Header,
    SparseMatrix,
    joined,
    largest_size,
    read_binary,
    read_counts,
    read_csr,
)
from hotham_ase.dft.abacus.input import RECORDED, Settings, read_input
from hotham_ase.dft.abacus.log import LEVEL_FILES, Log, read_eigenvalues, read_log
from hotham_ase.dft.abacus.npz import read_npz
from hotham_ase.dft.abacus.orb import read_basis
from hotham_ase.dft.abacus.stru import Structure, read_stru
from hotham_ase.dft.abacus.write import write_abacus
from hotham_ase.dft.format import Format, PseudopotentialFiles
from hotham_ase.dft.plausibility import EIGENVALUE_TOLERANCE, compared_with_run
from hotham_ase.dft.provenance import name_of
from hotham_ase.dft.sample import DFTReadError, Sample, UnsupportedRunError
from hotham_ase.dft.textfiles import LARGE, find_one, read_bytes, read_head, read_text
from hotham_ase.dft.triplets import matrix_from_triplets
from hotham_ase.dft.upf import read_upf_of
from hotham_ase.matrices.realspace import RealSpaceMatrix
from hotham_ase.matrices.spin import Spin
from hotham_ase.overlap import overlap_matrix

# names that releases until 3.8 and 3.10 gave the files, then of the later ones; the names say
# nothing about the layout
H_FILES = (
    "data-HR-sparse_SPIN0.csr", "hrs1_nao.csr", "hrs1g1_nao.csr", "hrg1s1_nao.csr",
    "hrs1_nao.dat", "hrs1g1_nao.dat", "hrs1_nao.npz", "hrs1g1_nao.npz",
)  # fmt: skip
S_FILES = (
    "data-SR-sparse_SPIN0.csr", "srs1_nao.csr", "sr_nao.csr", "srs1g1_nao.csr", "srg1_nao.csr",
    "sr_nao.dat", "srg1_nao.dat", "sr_nao.npz", "srg1_nao.npz",
)  # fmt: skip
# H of the other spin, in the order of H_FILES
DOWN_FILES = tuple(
    name.replace("SPIN0", "SPIN1").replace("hrs1", "hrs2").replace("g1s1", "g1s2")
    for name in H_FILES
)
_ROUNDED = 20  # errors of elements add up to about so many in an eigenvalue


def is_abacus(folder: Path) -> bool:
    """Whether a folder looks like an ABACUS run."""
    if not (folder / "INPUT").is_file():
        return False
    try:
        return (folder / "STRU").is_file() or read_input(folder).structure.is_file()
    except DFTReadError:  # another program's INPUT
        return False


def read_abacus(
    folder: str | Path, *, orbitals: str | Path | None = None, verify: bool = True
) -> Sample:
    """Read one self-consistent ABACUS LCAO calculation made with ``out_mat_hs2 1``.

    Text files may be compressed (``.gz``, ``.xz``). Where the run has no S file, S is computed
    from the orbitals. With ``lspinorb 1`` H is ``spin-orbit``, with ``noncolin 1``
    ``non-collinear``, with ``nspin 2`` ``polarized``; then the atoms have the moments of STRU.

    Parameters
    ----------
    folder
        The folder with STRU and INPUT.
    orbitals
        Where the orbital files must be; by default INPUT's ``orbital_dir``, the folder, or
        ``orbitals/`` of the folder and its parents.
    verify
        Compare the eigenvalues of H and S with those that the run printed, if it did and
        converged, at one or two k-points (``provenance.eigenvalues`` is then "compared").

    Returns
    -------
    Sample
        Atoms at the positions that STRU gives. If ABACUS folded atoms into the cell, the lattice
        vectors of the pairs are those of the positions given.

    Raises
    ------
    DFTReadError
        If a file is missing, cut short, or contradicts another one.
    UnsupportedRunError
        For relaxations, molecular dynamics and others of a kind that is not supported.
    """
    folder = Path(folder)
    if not is_abacus(folder):
        raise DFTReadError(f"{folder} is not an ABACUS run: STRU or INPUT is missing")
    settings = read_input(folder)
    settings.check_supported()
    if not settings.out.is_dir():
        raise DFTReadError(f"{folder} has no {settings.out.name}: ABACUS was not run there")
    structure = _structure(settings)
    log = read_log(settings.out, [label for label, _, _ in structure.species])
    _check_structure(settings, structure, log)
    basis = read_basis(settings, structure, log.n_valence, orbitals)
    content, csr = _hamiltonian(settings, structure, basis)
    # S follows from atoms and orbitals alone, so that a run without its file is as good
    s_path = find_one(settings.out, S_FILES)
    sample = Sample(
        atoms=structure.atoms,
        basis=basis,
        hamiltonian=_matrix(csr, structure.atoms, basis, "hamiltonian", Rydberg, settings.spin),
        overlap=_overlap(s_path, structure, basis, settings.spin),
        fermi_level=log.fermi_level,
        n_electrons=_n_electrons(settings, log, basis, structure.atoms),
        provenance=replace(
            log.provenance,
            name=name_of(folder),
            code=FORMAT.name,
            overlap="computed" if s_path is None else "read",
            extra={**log.provenance.extra, **_settings_record(settings, content, csr.n_missing)},
        ),
    )
    return _compared(sample, settings, csr.rounding) if verify else sample


def _structure(settings: Settings) -> Structure:
    structure = read_stru(settings.structure, settings.get("latname", "none"))
    if settings.spin is Spin.POLARIZED:
        structure.atoms.set_initial_magnetic_moments(structure.moments)
    return structure


def _compared(sample: Sample, settings: Settings, rounding: float) -> Sample:
    """The sample, after its eigenvalues were compared with the run's."""
    has_levels = find_one(settings.out, LEVEL_FILES) is not None
    if has_levels and sample.provenance.scf_converged:
        largest = float(np.abs(sample.hamiltonian.values).max())
        tolerance = max(EIGENVALUE_TOLERANCE, _ROUNDED * rounding * largest)
        sample = compared_with_run(sample, read_eigenvalues(settings.folder), tolerance)
    if settings.to_prove is not None and sample.provenance.eigenvalues is None:
        raise UnsupportedRunError(
            f"{settings.folder} has {settings.to_prove}: whether H(R) is all of H can only be told "
            f"from the run's own eigenvalues ({LEVEL_FILES[0]}), which were not compared"
        )
    return sample


def _n_electrons(settings: Settings, log: Log, basis: OrbitalBasis, atoms: Atoms) -> float:
    """The electrons that the run used: what INPUT says, else those of the atoms.

    Raises
    ------
    DFTReadError
        If the log counted others.
    """
    given = settings.number("nelec") or basis.n_electrons(atoms.numbers)
    n_electrons = given + settings.number("nelec_delta")
    if log.n_electrons is not None and abs(log.n_electrons - n_electrons) > 1e-4 * n_electrons:
        raise DFTReadError(
            f"the log in {settings.out} counts {log.n_electrons:g} electrons, but INPUT and the "
            f"valences in the log give {n_electrons:g}"
        )
    return n_electrons


def _check_structure(settings: Settings, structure: Structure, log: Log) -> None:
    n_types = settings.number("ntype")
    if n_types and n_types != len(structure.species):
        raise DFTReadError(
            f"{settings.folder}/INPUT has ntype {n_types:g}, {settings.structure} has "
            f"{len(structure.species)} types"
        )
    source = f"the log in {settings.out}"
    vectors = structure.atoms.cell[:] / structure.constant
    if log.vectors is not None and not np.allclose(log.vectors, vectors, rtol=2e-5, atol=1e-6):
        raise DFTReadError(
            f"{source} has the lattice vectors {log.vectors.tolist()}, the structure file "
            f"{np.round(vectors, 6).tolist()}: it is not the structure of this run"
        )
    if log.scaled_positions is not None:
        # ten decimals, but from Å they are converted with a rounded Bohr
        _check_same(structure.atoms, log.scaled_positions, 1e-6, source)


def _check_same(atoms: Atoms, scaled: np.ndarray, tolerance: float, source: str) -> None:
    """Refuse a structure that is not the run's; ABACUS may have folded atoms into the cell."""
    given = atoms.get_scaled_positions(wrap=False)
    if given.shape != scaled.shape:
        raise DFTReadError(
            f"{source} has {len(scaled)} atoms, the structure file {len(given)}: it is not the "
            "structure of this run"
        )
    difference = given - scaled
    error = np.abs(difference - np.rint(difference)).max(axis=1)
    if not error.max() <= tolerance:
        atom = int(error.argmax())
        raise DFTReadError(
            f"{source} has atom {atom} at {scaled[atom].tolist()}, the structure file at "
            f"{np.round(given[atom], 8).tolist()}: it is not the structure of this run"
        )


def _check_header(header: Header | None, structure: Structure, path: Path) -> None:
    """Compare the structure in a matrix file, if it has one; it has six digits."""
    if header is None:
        return
    atoms = structure.atoms
    if not np.allclose(header.cell, atoms.cell[:], rtol=2e-5, atol=1e-4):
        raise DFTReadError(
            f"{path} is of the cell {header.cell.tolist()}, the structure file has "
            f"{np.round(atoms.cell[:], 5).tolist()}"
        )
    _check_same(atoms, header.scaled_positions, 1e-4, str(path))


# ----------------------------------------------------------------------- provenance


def _digest(settings: Settings, h_bytes: bytes) -> str:
    digest = hashlib.sha256()
    for path in (settings.structure, settings.folder / "INPUT", settings.kpoints):
        digest.update(read_bytes(path) if path.is_file() else b"")
    digest.update(h_bytes)
    return digest.hexdigest()


def _settings_record(settings: Settings, matrix: bytes, n_missing: int) -> dict[str, Any]:
    """What INPUT and KPT say about the accuracy of the run, and what identifies its files."""
    kpts = None
    if settings.kpoints.is_file():
        words = read_text(settings.kpoints).split()
        if words[1:2] == ["0"] and words[2:3] and words[2].lower() in ("gamma", "mp"):
            mesh = words[3:6]
            if len(mesh) == 3 and all(word.isdecimal() and len(word) < 6 for word in mesh):
                kpts = {"mode": words[2], "mesh": [int(word) for word in mesh]}
    record = {
        "nspin": 4 if settings.spin.is_spinor else int(settings.get("nspin", "1")),
        "kpts": kpts,
        "settings": {key: settings.values[key] for key in RECORDED if key in settings.values},
        "sha256": _digest(settings, matrix),
    }
    return record | ({"empty_lattice_vectors": n_missing} if n_missing else {})


# --------------------------------------------------------------- basis, matrix


def _hamiltonian(
    settings: Settings, structure: Structure, basis: OrbitalBasis
) -> tuple[bytes, SparseMatrix]:
    """Content of the files of H, and their elements; a polarized run has one for each spin."""
    up, down = (find_one(settings.out, names) for names in (H_FILES, DOWN_FILES))
    if up is None:
        raise DFTReadError(
            f"{settings.out} has no H(R) file ({H_FILES[0]} or {H_FILES[1]}): run with "
            "out_mat_hs2 1"
        )
    content, csr = _read_sparse(up, structure, basis, settings.spin)
    if settings.spin is not Spin.POLARIZED:
        if down is not None:
            raise DFTReadError(f"{down} is of a calculation with nspin 2, INPUT is not")
        return content, csr
    if down is None:
        raise DFTReadError(f"{settings.out} has H(R) of one spin only, {up.name}")
    other, of_down = _read_sparse(down, structure, basis, settings.spin)
    return content + other, joined(csr, of_down)


def _read_sparse(
    path: Path, structure: Structure, basis: OrbitalBasis, spin: Spin
) -> tuple[bytes, SparseMatrix]:
    """Content of a matrix file, and its elements."""
    n_orbitals = basis.n_orbitals(structure.atoms.numbers)
    n_basis = int(n_orbitals.sum())
    n_rows = spin.n_rows(n_basis)
    if ".npz" in path.suffixes:
        if spin.is_spinor:
            raise UnsupportedRunError(f"{path} is npz: of nspin 4 runs only .csr and .dat are read")
        matrix = read_npz(path, n_orbitals)
        _check_header(matrix.header, structure, path)
        return read_bytes(path, 16 * LARGE), matrix
    if ".dat" in path.suffixes:
        data = read_bytes(path, 16 * LARGE)
        return data, read_binary(data, n_basis, str(path), spin)
    # the counts come first: they say how large the content can be
    n_vectors = read_counts(read_head(path, 2**16), n_rows, str(path))
    data = read_bytes(path, min(largest_size(n_rows, n_vectors), 16 * LARGE))
    matrix = read_csr(data, n_basis, str(path), spin)
    _check_header(matrix.header, structure, path)
    return data, matrix


def _overlap(
    path: Path | None, structure: Structure, basis: OrbitalBasis, spin: Spin
) -> RealSpaceMatrix:
    """S of a file; without one, the integrals of the basis functions."""
    if path is None:
        return overlap_matrix(structure.atoms, basis)
    csr = _read_sparse(path, structure, basis, spin)[1]
    csr = csr.of_both_spins(str(path)) if spin.is_spinor else csr
    return _matrix(csr, structure.atoms, basis, "overlap", 1.0, Spin.UNPOLARIZED)


def _matrix(
    csr: SparseMatrix, atoms: Atoms, basis: OrbitalBasis, name: str, unit: float, spin: Spin
) -> RealSpaceMatrix:
    atom_of = np.repeat(np.arange(len(atoms)), basis.n_orbitals(atoms.numbers))
    shifts = _unfolded(csr, atoms, basis, atom_of, name)
    return matrix_from_triplets(
        *(atoms, basis, FORMAT.convention, csr.rows, csr.columns, shifts, csr.values * unit),
        name=name,
        spin=spin,
    )


def _unfolded(
    csr: SparseMatrix, atoms: Atoms, basis: OrbitalBasis, atom_of: np.ndarray, name: str
) -> np.ndarray:
    """Lattice vectors of the elements for the positions as given.

    ABACUS may have folded atoms into the cell, so that its R belong to other positions. Matrix
    elements decay with distance: of the two readings, the one under which large elements belong
    to near atoms is right.
    """
    i, j = atom_of[csr.rows], atom_of[csr.columns]
    weights = np.abs(csr.values).max(axis=0)

    def lengths(of: np.ndarray) -> np.ndarray:
        vectors = atoms.positions[j] - atoms.positions[i] + of @ atoms.cell[:]
        return np.linalg.norm(vectors, axis=1)

    best, length = csr.shifts, lengths(csr.shifts)
    # coordinates on the border must not fall out of the cell by rounding
    images = np.floor(atoms.get_scaled_positions(wrap=False) + 1e-12).astype(np.int64)
    if images.any():
        folded = csr.shifts + images[i] - images[j]
        if weights @ lengths(folded) < weights @ length:
            best, length = folded, lengths(folded)
    cutoffs = np.array([s.cutoff for s in basis.species])[basis.species_index(atoms.numbers)]
    large = weights > 1e-3 * weights.max(initial=0.0)
    too_far = length[large] > (cutoffs[i] + cutoffs[j])[large]
    if too_far.any():
        raise DFTReadError(
            f"{name} has large elements between atoms farther apart than their orbitals reach: "
            "STRU is not the structure that this matrix was computed for"
        )
    return best


def _pseudopotentials(folder: Path) -> PseudopotentialFiles:
    settings = read_input(folder)
    names = read_stru(settings.structure, settings.get("latname", "none")).pseudopotentials
    places = settings.places("pseudo_dir")[:1] + settings.places("orbital_dir")
    return PseudopotentialFiles(names, tuple(places), read_upf_of)


FORMAT = Format(
    name="ABACUS",
    files="STRU and INPUT",
    detect=is_abacus,
    read=lambda folder, n_valence, orbitals, verify: read_abacus(
        folder, orbitals=orbitals, verify=verify
    ),
    convention="abacus",
    pseudopotentials=_pseudopotentials,
    spins=tuple(Spin),
    write=write_abacus,
    written_spins=tuple(Spin),
    word="abacus",
    written_files="hrs1_nao.csr, STRU and INPUT",
    purpose="ABACUS with init_chg hr",
)
