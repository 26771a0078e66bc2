"""A small low-symmetry crystal of two elements, and the files that codes would write for it."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.units import Bohr, Rydberg
from scipy.integrate import simpson
from scipy.linalg import eigvalsh

from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.dft import Provenance, Sample
from hotham_ase.matrices import RealSpaceMatrix
from hotham_ase.matrices.pairs import PairList
from hotham_ase.overlap import kinetic_matrix, overlap_matrix
from tests.dft.layouts import NAMES, csr_text, levels_text

ABACUS_RYDBERG = 13.605698066  # eV, what ABACUS multiplies by before printing


def make_species(
    symbol: str, shells: tuple[int, ...], cutoff_bohr: float, n_valence: float
) -> SpeciesBasis:
    """Smooth radial functions that end at a cutoff."""
    mesh = np.arange(0, cutoff_bohr + 0.005, 0.01)  # Bohr
    radial = []
    for n, l in enumerate(shells):
        values = mesh**l * (1 - (mesh / mesh[-1]) ** 2) ** 3 * np.exp(-0.3 * n * mesh)
        radial.append(values / np.sqrt(simpson(mesh**2 * values**2, x=mesh)))
    return SpeciesBasis(
        symbol,
        shells,
        (mesh[-1] * Bohr,) * len(shells),
        n_valence,
        mesh * Bohr,
        np.array(radial) / Bohr**1.5,
    )


def make_basis() -> OrbitalBasis:
    return OrbitalBasis(
        (make_species("B", (0, 0, 1, 2), 3.6, 3), make_species("Mo", (0, 1, 2, 3), 4.0, 14))
    )


def make_atoms() -> Atoms:
    cell = [[3.4, 0.1, 0.2], [-0.6, 3.7, 0.3], [0.5, -0.4, 4.1]]
    return Atoms(
        "B2Mo",
        scaled_positions=[[0.11, 0.23, 0.31], [0.62, 0.41, 0.87], [0.34, 0.81, 0.55]],
        cell=cell,
        pbc=True,
    )


@pytest.fixture(scope="session")
def basis() -> OrbitalBasis:
    return make_basis()


@pytest.fixture(scope="session")
def atoms() -> Atoms:
    return make_atoms()


def make_fermi_level(h: RealSpaceMatrix, s: RealSpaceMatrix, n_electrons: int) -> float:
    """Where a level of every k-point of a mesh is filled on average."""
    levels = [
        eigvalsh(h.at_k(kpt, format="dense"), s.at_k(kpt, format="dense"))
        for kpt in np.array(list(np.ndindex(4, 4, 4))) / 4
    ]
    n_filled = len(levels) * n_electrons // 2
    return float(np.sort(np.concatenate(levels))[n_filled - 1 : n_filled + 1].mean())


def make_sample(atoms: Atoms, basis: OrbitalBasis) -> Sample:
    """H = T plus small elements on pairs beyond the reach of S."""
    overlap = overlap_matrix(atoms, basis)
    pairs = PairList.from_atoms(atoms, basis.cutoff + 0.5)
    n_orbitals = basis.n_orbitals(atoms.numbers)
    rng = np.random.default_rng(1)
    blocks = [
        rng.normal(scale=0.01, size=(n_orbitals[i], n_orbitals[j])) for i, j in pairs.edge_index.T
    ]
    blocks = [b + blocks[r].T for b, r in zip(blocks, pairs.reverse_edge_index, strict=True)]
    onsite = [np.zeros((n, n)) for n in n_orbitals]
    far = RealSpaceMatrix.from_blocks(pairs, onsite, blocks, name="hamiltonian")
    kinetic = kinetic_matrix(atoms, basis)
    return Sample(
        atoms=atoms,
        basis=basis,
        hamiltonian=far + kinetic,
        overlap=overlap,
        fermi_level=make_fermi_level(far + kinetic, overlap, n_electrons=20),
        n_electrons=20.0,
        provenance=Provenance(name="crystal", code="test", overlap="read"),
    )


@pytest.fixture(scope="session")
def sample(atoms: Atoms, basis: OrbitalBasis) -> Sample:
    return make_sample(atoms, basis)


def to_abacus(l: int) -> np.ndarray:
    """ABACUS's harmonics of degree l from ours: m = 0, 1, -1, …, with the sign (-1)^m."""
    matrix = np.zeros((2 * l + 1, 2 * l + 1))
    order = [0] + [m for k in range(1, l + 1) for m in (k, -k)]
    for row, m in enumerate(order):
        matrix[row, l + m] = (-1) ** m
    return matrix


def abacus_matrices(
    matrix: RealSpaceMatrix, sample: Sample, transform=to_abacus
) -> dict[tuple[int, ...], np.ndarray]:
    """Dense matrix of every R in another code's order."""
    offsets = matrix.layout.orbital_offsets
    turn = np.zeros((matrix.n_basis, matrix.n_basis))
    start = 0
    for symbol in sample.atoms.symbols:
        for l in sample.basis[symbol].shells:
            stop = start + 2 * l + 1
            turn[start:stop, start:stop] = transform(l)
            start = stop
    dense: dict[tuple[int, ...], np.ndarray] = {}
    for block, shift in enumerate(matrix.layout.shifts):
        i, j = matrix.layout.atoms[:, block]
        of_r = dense.setdefault(tuple(shift.tolist()), np.zeros((matrix.n_basis,) * 2))
        start, stop = matrix.layout.offsets[block : block + 2]
        of_r[offsets[i] : offsets[i + 1], offsets[j] : offsets[j + 1]] = matrix.values[
            0, start:stop
        ].reshape(matrix.n_orbitals[i], matrix.n_orbitals[j])
    return {shift: turn @ of_r @ turn.T for shift, of_r in sorted(dense.items())}


def orb_text(species: SpeciesBasis) -> str:
    """An ABACUS orbital file."""
    lines = [
        "---------------------------------------------------------------------------",
        f"Element                     {species.symbol}",
        "Energy Cutoff(Ry)           100",
        "---------------------------------------------------------------------------",
        "SUMMARY  END",
        "",
        f"Mesh                        {len(species.grid)}",
        "dr                          0.01",
    ]
    for n, (l, values) in enumerate(zip(species.shells, species.radial, strict=True)):
        lines.append("                Type                   L                   N")
        lines.append(f"                   0                   {l}                   {n}")
        lines += [" ".join(f"{v * Bohr**1.5:.16e}" for v in values)]
    return "\n".join(lines) + "\n"


LOG = """
                              ABACUS v3.8.1
          exchange-correlation functional = PBE
 SETUP THE ELECTRONS NUMBER
             electron number of element B = 3
       total electron number of element B = 6
            electron number of element Mo = 14
      total electron number of element Mo = 14
            AUTOSET number of electrons:  = 20
 LCAO ALGORITHM --------------- ION=   1  ELEC=   1-------
 E_Fermi        {first:.10f}       {first_ev:.10f}
 LCAO ALGORITHM --------------- ION=   1  ELEC=   9-------
 E_Fermi        {fermi:.10f}       {fermi_ev:.10f}

 charge density convergence is achieved
 !FINAL_ETOT_IS -136.05698066 eV
"""


def log_text(fermi_level: float) -> str:
    """What the reader needs of running_scf.log; energies in Ry and in ABACUS's own eV."""
    fermi = fermi_level / Rydberg
    return LOG.format(
        first=fermi - 0.2,
        first_ev=(fermi - 0.2) * ABACUS_RYDBERG,
        fermi=fermi,
        fermi_ev=fermi * ABACUS_RYDBERG,
    )


def stru_text(coordinates: np.ndarray, cell: np.ndarray, kind: str = "Direct") -> str:
    lines = ["ATOMIC_SPECIES", "B 10.81 B.upf // boron", "Mo 95.95 Mo.upf", ""]
    lines += ["NUMERICAL_ORBITAL", "B.orb", "Mo.orb", "", "LATTICE_CONSTANT", "1.5 # Bohr", ""]
    lines += ["LATTICE_VECTORS"]
    lines += [" ".join(f"{x:.15f}" for x in row / (1.5 * Bohr)) for row in cell]
    rows = [" ".join(f"{x:.15f}" for x in row) + " 1 1 1" for row in coordinates]
    lines += ["", "ATOMIC_POSITIONS", kind, "", "B", "0.0", "2", *rows[:2]]
    lines += ["", "Mo", "0.0 # no moment", "1", rows[2]]
    return "\n".join(lines) + "\n"


def levels_of(sample: Sample, n_bands: int = 26) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """k-points of the run's mesh, levels in ABACUS's eV, and occupations with weights."""
    kpts = np.array(list(np.ndindex(4, 4, 4))) / 4
    levels = np.array(
        [
            eigvalsh(
                sample.hamiltonian.at_k(kpt, format="dense"),
                sample.overlap.at_k(kpt, format="dense"),
            )[:n_bands]
            for kpt in kpts
        ]
    )
    filled = np.zeros(levels.size)
    filled[np.argsort(levels.ravel())[: int(sample.n_electrons) * len(kpts) // 2]] = 2 / len(kpts)
    scale = ABACUS_RYDBERG / Rydberg
    return kpts, levels * scale, filled.reshape(levels.shape)


def write_abacus_run(
    folder: Path,
    sample: Sample,
    *,
    generation: int = 1,
    suffix: str = "",
    coordinates: np.ndarray | None = None,
    kind: str = "Direct",
    with_overlap: bool = True,
    with_levels: bool = False,
    change_h=lambda matrices: matrices,
    settings: str = "",
    note: str = "",
) -> Path:
    """Write a sample as an ABACUS run folder and return the folder."""
    out = folder / "OUT.test"
    out.mkdir(parents=True)
    (folder / "INPUT").write_text(
        f"INPUT_PARAMETERS\nsuffix test # comment\nbasis_type lcao\norbital_dir orb\n"
        f"ecutwfc 60\n{settings}\n"
    )
    (folder / "KPT").write_text("K_POINTS\n0\nGamma\n4 3 2 0 0 0\n")
    if coordinates is None:
        coordinates = sample.atoms.get_scaled_positions(wrap=False)
    (folder / "STRU").write_text(stru_text(coordinates, sample.atoms.cell[:], kind))
    (folder / "orb").mkdir()
    for species in sample.basis.species:
        (folder / "orb" / f"{species.symbol}.orb").write_text(orb_text(species))
    h_r = change_h(abacus_matrices(sample.hamiltonian * (1 / Rydberg), sample))
    names = NAMES[generation]
    texts = {names[0]: csr_text(h_r, "H", generation, sample.atoms, note=note)}
    if with_overlap:
        s_r = abacus_matrices(sample.overlap, sample)
        texts[names[1]] = csr_text(s_r, "S", generation, sample.atoms)
    texts["running_scf.log"] = log_text(sample.fermi_level)
    if with_levels:
        texts["istate.info"] = levels_text(*levels_of(sample))
    packer = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[suffix]
    for name, text in texts.items():
        (out / (name + suffix)).write_bytes(packer(text.encode()))
    return folder


@pytest.fixture(scope="session")
def write_abacus(sample: Sample):
    """Function that writes the sample as an ABACUS run folder and returns the folder."""
    return lambda folder, **options: write_abacus_run(folder, sample, **options)
