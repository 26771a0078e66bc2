"""ABACUS run folders: STRU, INPUT, KPT, the running log and the sparse H(R) and S(R).

ABACUS writes lengths in Bohr and matrices in Rydberg; they are converted with `ase.units`.
Energies that it prints in eV use its own Rydberg of 13.605698066 eV; they are scaled back, so
that matrices, eigenvalues and Fermi level are on one scale.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import Rydberg

from hotham_ase.dft.abacus_csr import read_csr
from hotham_ase.dft.abacus_stru import Structure, read_stru
from hotham_ase.dft.sample import DFTReadError, Sample, UnsupportedRunError
from hotham_ase.dft.triplets import matrix_from_triplets
from hotham_ase.matrices.realspace import RealSpaceMatrix
from hotham_ase.orbitals import OrbitalBasis, SpeciesBasis, read_orb

ABACUS_RYDBERG = 13.605698066  # eV as ABACUS converts what it prints
# file names of the releases until 3.9 first, then of the later ones
H_FILES = ("data-HR-sparse_SPIN0.csr", "hrs1_nao.csr", "hrs1g1_nao.csr", "hrg1s1_nao.csr")
S_FILES = (
    "data-SR-sparse_SPIN0.csr",
    "srs1_nao.csr",
    "sr_nao.csr",
    "srs1g1_nao.csr",
    "srg1_nao.csr",
)
SUFFIXES = ("", ".gz", ".xz")
_NUMBER = r"([-+]?\d+\.?\d*(?:[eE][-+]?\d+)?)"


def is_abacus(folder: str | Path) -> bool:
    """Whether a folder looks like an ABACUS run."""
    return (Path(folder) / "STRU").is_file() and (Path(folder) / "INPUT").is_file()


def read_abacus(folder: str | Path) -> Sample:
    """Read one self-consistent ABACUS LCAO calculation made with ``out_mat_hs2 1``.

    Text files may be compressed (``.gz``, ``.xz``). Orbital files are looked for in INPUT's
    ``orbital_dir``, in the folder, and in ``orbitals/`` of the folder and its parents. Where the
    run has no S file, S is computed from the orbitals.

    Parameters
    ----------
    folder
        The folder with STRU and INPUT.

    Returns
    -------
    Sample
        Atoms in ABACUS's order at the positions that STRU gives. If ABACUS folded atoms into
        the cell, the lattice vectors of the pairs are those of the positions given.

    Raises
    ------
    DFTReadError
        If a file is missing, cut short, or contradicts another one.
    UnsupportedRunError
        For spin-polarised and spinor calculations, and for relaxations or molecular dynamics.
    """
    folder = Path(folder)
    if not is_abacus(folder):
        raise DFTReadError(f"{folder} is not an ABACUS run: STRU or INPUT is missing")
    settings = _read_input(folder)
    _check_supported(folder, settings)
    out = folder / f"OUT.{settings.get('suffix', 'ABACUS')}"
    log = _read_log(out)
    structure = read_stru(folder / "STRU")
    basis = _read_basis(folder, settings, structure, log.n_valence)
    atoms = structure.atoms
    h_bytes = _read_first(out, H_FILES)
    if h_bytes is None:
        raise DFTReadError(
            f"{out} has no H(R) file ({H_FILES[0]} or {H_FILES[1]}): run with out_mat_hs2 1"
        )
    hamiltonian = _read_matrix(h_bytes, atoms, basis, "hamiltonian", Rydberg)
    s_bytes = _read_first(out, S_FILES)
    if s_bytes is not None:
        overlap = _read_matrix(s_bytes, atoms, basis, "overlap", 1.0)
    else:
        from hotham_ase.overlap import overlap_matrix

        overlap = overlap_matrix(atoms, basis)
    n_electrons = float(settings.get("nelec", 0)) or log.n_electrons
    if n_electrons is None:
        n_electrons = basis.n_electrons(atoms.numbers)
    provenance = {
        "name": f"{folder.resolve().parent.name}/{folder.resolve().name}",
        "code": "ABACUS",
        "overlap": "computed" if s_bytes is None else "read",
        **log.provenance,
        **_settings_provenance(folder, settings),
        "sha256": _digest(folder, h_bytes),
    }
    return Sample(
        atoms=atoms,
        basis=basis,
        hamiltonian=hamiltonian,
        overlap=overlap,
        fermi_level=log.fermi_level,
        n_electrons=n_electrons,
        provenance=provenance,
    )


@dataclass(frozen=True)
class Eigenvalues:
    """Kohn-Sham eigenvalues that a run printed.

    Attributes
    ----------
    kpts : (n_kpts, 3)
        Fractional reciprocal coordinates.
    eigenvalues : (n_kpts, n_bands)
        eV on the scale of the matrices.
    occupations : (n_kpts, n_bands)
        As printed: they include the k-point's weight.
    """

    kpts: np.ndarray
    eigenvalues: np.ndarray
    occupations: np.ndarray


def read_eigenvalues(folder: str | Path) -> Eigenvalues:
    """Read ``istate.info`` of an unpolarised ABACUS run.

    Raises
    ------
    DFTReadError
        If the file is missing or not of this form.
    """
    folder = Path(folder)
    out = folder / f"OUT.{_read_input(folder).get('suffix', 'ABACUS')}"
    data = _read_first(out, ("istate.info",))
    if data is None:
        raise DFTReadError(f"{out} has no istate.info")
    kpts, bands = [], []
    for section in data.decode().split("BAND")[1:]:
        head, _, table = section.partition("\n")
        inside = re.search(r"\(([^()]*)\)\s*$", head)
        if inside is None:
            raise DFTReadError(f"istate.info of {folder} has a header without a k-point: {head!r}")
        kpts.append([float(x) for x in inside.group(1).split()])
        bands.append(np.array(table.split(), dtype=float).reshape(-1, 3))
    if not kpts or len({len(b) for b in bands}) != 1:
        raise DFTReadError(f"istate.info of {folder} must list the same bands at every k-point")
    table_all = np.array(bands)  # (n_kpts, n_bands, 3)
    return Eigenvalues(
        np.array(kpts), table_all[:, :, 1] * (Rydberg / ABACUS_RYDBERG), table_all[:, :, 2]
    )


# ----------------------------------------------------------------------- files


def _candidates(folder: Path, names: tuple[str, ...]) -> Iterator[Path]:
    for name in names:
        for suffix in SUFFIXES:
            yield folder / (name + suffix)


def _read_first(folder: Path, names: tuple[str, ...]) -> bytes | None:
    """Content of the first of these files that exists, decompressed."""
    for path in _candidates(folder, names):
        if path.is_file():
            try:
                data = path.read_bytes()
                if path.suffix == ".gz":
                    return gzip.decompress(data)
                return lzma.decompress(data) if path.suffix == ".xz" else data
            except (OSError, EOFError, lzma.LZMAError) as error:
                raise DFTReadError(f"{path} cannot be read: {error}") from error
    return None


def _read_input(folder: Path) -> dict[str, str]:
    """Keywords of INPUT, lower case, and their values without comments."""
    settings = {}
    for line in (folder / "INPUT").read_text(errors="replace").splitlines():
        words = re.split(r"#|//", line)[0].split()
        if len(words) >= 2:
            settings[words[0].lower()] = " ".join(words[1:])
    return settings


def _check_supported(folder: Path, settings: dict[str, str]) -> None:
    nspin = settings.get("nspin", "1")
    if nspin != "1":
        kind = {"2": "spin-polarised", "4": "non-collinear"}.get(nspin, "unknown")
        raise UnsupportedRunError(
            f"{folder} has nspin {nspin} ({kind}): not supported yet, only nspin 1 is"
        )
    calculation = settings.get("calculation", "scf")
    if calculation != "scf":
        raise UnsupportedRunError(
            f"{folder} is a {calculation!r} calculation: only calculation scf can be imported; "
            "make a single-point run of each structure"
        )
    if settings.get("basis_type", "pw") != "lcao":
        raise UnsupportedRunError(f"{folder} is not an LCAO calculation (basis_type lcao)")


def _digest(folder: Path, h_bytes: bytes) -> str:
    digest = hashlib.sha256()
    for name in ("STRU", "INPUT", "KPT"):
        path = folder / name
        digest.update(path.read_bytes() if path.is_file() else b"")
    digest.update(h_bytes)
    return digest.hexdigest()


def _settings_provenance(folder: Path, settings: dict[str, str]) -> dict[str, Any]:
    """What INPUT and KPT say about the accuracy of the run."""
    kpts = None
    path = folder / "KPT"
    if path.is_file():
        words = path.read_text(errors="replace").split()
        if len(words) >= 6 and words[1] == "0" and words[2].lower() in ("gamma", "mp"):
            kpts = {"mode": words[2], "mesh": [int(w) for w in words[3:6]]}
    kept = ("ecutwfc", "scf_thr", "scf_nmax", "smearing_method", "smearing_sigma", "dft_functional")
    return {
        "nspin": 1,
        "kpts": kpts,
        "settings": {key: settings[key] for key in kept if key in settings},
    }


# ------------------------------------------------------------------------- log


@dataclass(frozen=True)
class _Log:
    n_valence: dict[str, float]
    n_electrons: float | None
    fermi_level: float | None
    provenance: dict[str, Any]


def _read_log(out: Path) -> _Log:
    data = _read_first(out, ("running_scf.log",))
    if data is None:
        raise DFTReadError(f"{out} has no running_scf.log, which gives the valence electrons")
    text = data.decode(errors="replace")

    def last(pattern: str) -> str | None:
        found = re.findall(pattern, text, flags=re.IGNORECASE | re.MULTILINE)
        return found[-1] if found else None

    valence = re.findall(
        rf"^\s*electron number of element (\S+)\s*=\s*{_NUMBER}", text, re.I | re.M
    )
    n_electrons = last(rf"nelec now\s*=\s*{_NUMBER}")
    n_electrons = n_electrons or last(rf"number of electrons:?\s*=\s*{_NUMBER}")
    energy = last(rf"FINAL_ETOT_IS\s+{_NUMBER}")
    steps = re.findall(r"ELEC\s*=\s*(\d+)", text)
    converged = None
    if re.search(r"charge density convergence is achieved|#SCF IS CONVERGED#", text):
        converged = True
    elif re.search(r"convergence has not been achieved|SCF IS NOT CONVERGED", text, re.I):
        converged = False
    provenance = {
        "version": last(r"ABACUS v(\S+)"),
        "xc": last(r"exchange-correlation functional\s*=\s*(\S+)"),
        "energy": None if energy is None else float(energy) * (Rydberg / ABACUS_RYDBERG),
        "scf_converged": converged,
        "scf_steps": int(steps[-1]) if steps else None,
    }
    return _Log(
        n_valence={label: float(n) for label, n in valence},
        n_electrons=None if n_electrons is None else float(n_electrons),
        fermi_level=_fermi_level(last),
        provenance=provenance,
    )


def _fermi_level(last: Callable[[str], str | None]) -> float | None:
    """eV; from the Rydberg column of the energy table where there is one."""
    rydberg = last(rf"^\s*E_Fermi\s+{_NUMBER}")
    if rydberg is not None:
        return float(rydberg) * Rydberg
    printed = last(rf"EFERMI\s*=\s*{_NUMBER}\s*eV")
    return None if printed is None else float(printed) * (Rydberg / ABACUS_RYDBERG)


# --------------------------------------------------------------- basis, matrix


def _read_basis(
    folder: Path, settings: dict[str, str], structure: Structure, n_valence: dict[str, float]
) -> OrbitalBasis:
    places = [folder / settings.get("orbital_dir", "."), folder]
    places += [parent / "orbitals" for parent in (folder, *folder.resolve().parents)]
    species: dict[str, SpeciesBasis] = {}
    for label, symbol, name in structure.species:
        path = next((p / name for p in places if (p / name).is_file()), None)
        if path is None:
            raise DFTReadError(
                f"orbital file {name} of {label} was not found in {places[0]}, {folder} or an "
                "orbitals/ folder above it"
            )
        if label not in n_valence:
            raise DFTReadError(f"running_scf.log of {folder} has no electron number of {label}")
        orbitals = read_orb(path, n_valence[label])
        if orbitals.symbol != symbol:
            raise DFTReadError(f"{path} is for {orbitals.symbol}, STRU uses it for {label}")
        if symbol in species and OrbitalBasis((orbitals,)) != OrbitalBasis((species[symbol],)):
            raise UnsupportedRunError(f"{folder} uses different orbitals for atoms of {symbol}")
        species[symbol] = orbitals
    return OrbitalBasis(tuple(species.values()))


def _read_matrix(
    data: bytes, atoms: Atoms, basis: OrbitalBasis, name: str, unit: float
) -> RealSpaceMatrix:
    n_orbitals = basis.n_orbitals(atoms.numbers)
    rows, columns, shifts, values = read_csr(data, int(n_orbitals.sum()), name)
    atom_of = np.repeat(np.arange(len(atoms)), n_orbitals)
    shifts = _unfolded(atoms, basis, atom_of[rows], atom_of[columns], shifts, np.abs(values), name)
    return matrix_from_triplets(
        atoms, basis, "abacus", rows, columns, shifts, values * unit, name=name
    )


def _unfolded(
    atoms: Atoms,
    basis: OrbitalBasis,
    i: np.ndarray,
    j: np.ndarray,
    shifts: np.ndarray,
    weights: np.ndarray,
    name: str,
) -> np.ndarray:
    """Lattice vectors of the elements for the positions as given.

    ABACUS may have folded atoms into the cell, so that its R belong to other positions. Matrix
    elements decay with distance: of the two readings, the one under which large elements belong
    to near atoms is right.
    """

    def lengths(of: np.ndarray) -> np.ndarray:
        vectors = atoms.positions[j] - atoms.positions[i] + of @ atoms.cell[:]
        return np.linalg.norm(vectors, axis=1)

    best, length = shifts, lengths(shifts)
    # coordinates on the border must not fall out of the cell by rounding
    images = np.floor(atoms.get_scaled_positions(wrap=False) + 1e-12).astype(np.int64)
    if images.any():
        folded = shifts + images[i] - images[j]
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
