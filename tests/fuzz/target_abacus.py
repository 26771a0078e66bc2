"""Damage to ABACUS run folders."""

from __future__ import annotations

import functools
import gzip
import re
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np

from hotham_ase.dft import DFTReadError, Sample, SampleError, read_sample
from hotham_ase.matrices import RealSpaceMatrix
from tests.dft.conftest import make_atoms, make_basis, make_sample, write_abacus_run
from tests.dft.layouts import NAMES
from tests.fuzz.mutations import BINARY, Mutation, Outcome, mutate

NAME = "abacus"
# what cannot be seen: the eigenvalues of a run are compared to 1e-4 eV, its overlap to 2e-5
CLOSE_ENERGY, CLOSE_OVERLAP, CLOSE_POSITION = 1e-2, 1e-4, 5e-4  # eV, 1, Å
TOGETHER = 0.1  # how often two files are damaged at once


@functools.cache
def base(generation: int) -> Path:
    """An undamaged run, written once."""
    folder = Path(tempfile.mkdtemp(prefix="hotham-fuzz-")) / "run"
    sample = make_sample(make_atoms(), make_basis())
    run = write_abacus_run(folder, sample, generation=generation, with_levels=True)
    log = run / "OUT.test" / "running_scf.log"
    last = re.findall(r"E_Fermi\s+\S+\s+(\S+)", log.read_text())[-1]
    log.write_text(log.read_text() + f" EFERMI = {last} eV\n")
    return run


@functools.cache
def truth(generation: int) -> Sample:
    """What the undamaged run holds."""
    return read_sample(base(generation))


# ------------------------------------------------------------- damage to matrix files


def _records(data: bytes) -> list[bytes]:
    """Head and records of a text with one line per array."""
    places = [m.start() for m in re.finditer(rb"(?m)^-?\d+ -?\d+ -?\d+ \d+$", data)]
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def _counted(parts: list[bytes]) -> bytes:
    head = re.sub(rb"(number of .*: )\d+", rb"\g<1>%d" % (len(parts) - 1), parts[0])
    return b"".join([head, *parts[1:]])


def drop_matrix(rng: np.random.Generator, data: bytes) -> bytes:
    """One lattice vector less, with the count made to fit."""
    parts = _records(data)
    if len(parts) > 2:
        del parts[int(rng.integers(1, len(parts)))]
    return _counted(parts)


def drop_matrix_and_reverse(rng: np.random.Generator, data: bytes) -> bytes:
    parts = _records(data)
    vectors = [[int(n) for n in part.split(b"\n")[0].split()[:3]] for part in parts[1:]]
    if not vectors:
        return data
    r = vectors[int(rng.integers(len(vectors)))]
    gone = (r, [-n for n in r])
    kept = [part for part, v in zip(parts[1:], vectors, strict=True) if v not in gone]
    return _counted([parts[0], *kept])


def repeat_matrix(rng: np.random.Generator, data: bytes) -> bytes:
    parts = _records(data)
    return _counted([*parts, parts[int(rng.integers(len(parts)))]]) if len(parts) > 1 else data


def scale_all(rng: np.random.Generator, data: bytes) -> bytes:
    factor = rng.choice([0.5, 2.0, 13.6, 27.2])
    return re.sub(rb"-?\d+\.\d+e[-+]\d+", lambda m: b"%.12e" % (float(m.group()) * factor), data)


MATRIX: tuple[Mutation, ...] = (drop_matrix, drop_matrix_and_reverse, repeat_matrix, scale_all)


# -------------------------------------------------------------------------- attack


def attack(rng: np.random.Generator, folder: Path) -> Outcome:
    """Damage one file or two of a run, and read it."""
    generation = int(rng.integers(1, 5))
    run = folder / "run"
    shutil.copytree(base(generation), run)
    files = sorted(path for path in run.rglob("*") if path.is_file())
    done = []
    for _ in range(1 + (rng.random() < TOGETHER)):
        path = files[int(rng.integers(len(files)))]
        data = path.read_bytes()
        if generation <= 2 and path.name == NAMES[generation][0] and rng.random() < 0.5:
            name, data = mutate(rng, data, MATRIX)
        elif path.parent.name == "OUT.test" and rng.random() < 0.2:
            name, data = mutate(rng, gzip.compress(data, 1), BINARY)
            path.unlink()
            path = path.with_name(path.name + ".gz")
        else:
            name, data = mutate(rng, data)
        path.write_bytes(data)
        files = sorted(path for path in run.rglob("*") if path.is_file())
        done.append(f"{name} in {path.name}")
    damage = f"generation {generation}, {', '.join(done)}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", message=".*did not converge")
            read = read_sample(run)
    except (DFTReadError, SampleError) as error:
        return Outcome("refused", f"{damage}: {error}")
    except Exception as error:  # what must not be
        return Outcome("raw", f"{damage}: {type(error).__name__}: {error}")
    change = difference(truth(generation), read)
    if change is None:
        return Outcome("identical", damage)
    return Outcome("close" if change == "" else "accepted", f"{damage}: {change}")


def difference(expected: Sample, read: Sample) -> str | None:
    """None if the samples are equal, "" if their difference cannot be known, else what differs."""
    if list(read.atoms.symbols) != list(expected.atoms.symbols):
        return f"atoms {read.atoms.symbols}"
    if read.provenance.scf_converged is False:
        return ""  # it says so, with a warning
    cell = expected.atoms.cell
    # an atom in another cell is the same atom, and the R of its pairs follow
    images = np.rint(cell.scaled_positions(read.atoms.positions - expected.atoms.positions))
    moved = np.abs(read.atoms.positions - images @ cell[:] - expected.atoms.positions).max()
    moved = max(moved, np.abs(read.atoms.cell[:] - cell[:]).max())
    changes = {
        "position": (moved, CLOSE_POSITION),
        "H": (_largest(expected.hamiltonian, read.hamiltonian, images), CLOSE_ENERGY),
        "S": (_largest(expected.overlap, read.overlap, images), CLOSE_OVERLAP),
        "electrons": (abs(read.n_electrons - expected.n_electrons), 1e-2),
        "basis": (_basis_change(expected, read), 2e-2),
        "Fermi level": (
            np.inf if read.fermi_level is None else abs(read.fermi_level - expected.fermi_level),
            CLOSE_ENERGY,
        ),
    }
    if all(change < 1e-12 for change, _ in changes.values()):
        return None
    return ", ".join(f"{key} by {c:.3g}" for key, (c, limit) in changes.items() if not c <= limit)


def _largest(a: RealSpaceMatrix, b: RealSpaceMatrix, images: np.ndarray) -> float:
    """Largest difference of two matrices, the atoms of the second being in other cells."""
    i, j = a.pairs.edge_index
    same = b.pairs.find(i, j, a.pairs.cell_shifts + (images[i] - images[j]).astype(int))
    if a.pairs.n_edges != b.pairs.n_edges or (same < 0).any():
        return np.inf
    worst = 0.0
    for edge, other in enumerate(same):
        worst = max(worst, np.abs(a.hopping_block(edge) - b.hopping_block(other)).max())
    n_onsite = a.layout.offsets[a.pairs.n_atoms]
    return max(worst, float(np.abs(a.values - b.values)[:, :n_onsite].max()))


def _basis_change(expected: Sample, read: Sample) -> float:
    """Largest norm of a difference of radial functions, or of valence electrons."""
    worst = 0.0
    for mine in expected.basis.species:
        other = read.basis[mine.symbol]
        if mine.shells != other.shells or mine.radial.shape != other.radial.shape:
            return np.inf
        step = mine.grid[1]
        change = np.sqrt(((mine.radial - other.radial) ** 2 * mine.grid**2).sum(axis=1) * step)
        worst = max(worst, change.max(), abs(mine.cutoff - other.cutoff))
        worst = max(worst, abs(mine.n_valence - other.n_valence))
    return float(worst)
