"""What GPAW 26.7 answers to the reader about runs of 22.8, recorded, and what replays it.

``chain``: NO in a chain, both spins, three k-points, ``szp(dzp)``; ``molecule``: CO in the
direction (3, 5, 9), ``dzp``. Where GPAW is, ``python -m tests.dft.gpaw.replay RUN.gpw NAME``
records.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import ase.io  # noqa: F401  # it looks for GPAW's formats, the real one's
import numpy as np
from ase import Atoms
from scipy.interpolate import CubicSpline

OFF_MESH = np.array([[0.11, 0, 0], [0.37, 0, 0], [0.5, 0, 0]])
_N_RADIAL = 101


def recorded(name: str) -> dict[str, np.ndarray]:
    with np.load(Path(__file__).with_name(f"{name}.npz")) as file:
        return dict(file)


class Spline:
    """A function of the distance in Bohr."""

    def __init__(self, l: float, cutoff: float, values: np.ndarray) -> None:
        self.l, self.cutoff = int(l), float(cutoff)
        self.function = CubicSpline(np.linspace(0, cutoff, len(values)), values)

    def get_angular_momentum_number(self) -> int:
        return self.l

    def get_cutoff(self) -> float:
        return self.cutoff

    def __call__(self, r: float) -> float:
        return float(self.function(r))


class Calculator:
    """Answers as the calculator did."""

    def __init__(self, record: dict[str, np.ndarray]) -> None:
        self.record = record
        r = record
        self.atoms = Atoms(
            *(r["numbers"], r["positions"]), cell=r["cell"], pbc=r["pbc"], magmoms=r["moments"]
        )
        setups = {number: self._setup(number) for number in sorted(set(r["numbers"].tolist()))}
        self.wfs = SimpleNamespace(
            mode="lcao", setups=[setups[number] for number in r["numbers"].tolist()]
        )

    def _setup(self, number: int) -> Any:
        def splines(kind: str) -> list[Spline]:
            table = self.record[f"{kind}_{number}"]
            return [Spline(row[0], row[1], row[2:]) for row in table]

        return SimpleNamespace(
            phit_j=splines("orbitals"),
            pt_j=splines("projectors"),
            dO_ii=self.record[f"overlap_{number}"],
            Nv=self.record[f"valence_{number}"],
        )

    def fixed_density(self, kpts: np.ndarray, symmetry: str, txt: None) -> Calculator:
        assert symmetry == "off"
        np.testing.assert_allclose(kpts, self.record["kpts"], atol=1e-12)
        return self

    def get_fermi_level(self) -> float:
        return float(self.record["fermi_level"])

    def get_number_of_electrons(self) -> float:
        return float(self.record["n_electrons"])

    def get_number_of_spins(self) -> int:
        return len(self.record["levels"])

    def get_xc_functional(self) -> str:
        return str(self.record["xc"])

    def get_ibz_k_points(self) -> np.ndarray:
        return self.record["ibz_kpts"]

    def get_eigenvalues(self, kpt: int, spin: int) -> np.ndarray:
        return self.record["levels"][spin, kpt]


def stand_in(monkeypatch: Any, name: str) -> Calculator:
    """Put a GPAW in place that reads any file as this one."""
    calculator = Calculator(recorded(name))
    gpaw, lcao, tools = (ModuleType(part) for part in ("gpaw", "gpaw.lcao", "gpaw.lcao.tools"))
    gpaw.GPAW = lambda path, txt: calculator  # type: ignore[attr-defined]
    tools.get_lcao_hamiltonian = lambda of: (  # type: ignore[attr-defined]
        of.record["hamiltonian"],
        of.record["overlap"],
    )
    for module in (gpaw, lcao, tools):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return calculator


def record(path: Path, name: str) -> None:
    """Ask the real GPAW, and keep the answers."""
    from gpaw import GPAW
    from gpaw.lcao.tools import get_lcao_hamiltonian

    from hotham_ase.dft.gpaw import run

    calculator = GPAW(path, txt=None)
    atoms = calculator.atoms
    orbitals = run._Orbitals.of(calculator, path)
    mesh = run.enough_kpts(orbitals.atoms, orbitals.basis.cutoff + 2 * orbitals.projectors)
    answers: dict[str, Any] = {
        "numbers": atoms.numbers,
        "positions": atoms.positions,
        "cell": atoms.cell[:],
        "pbc": atoms.pbc,
        "moments": atoms.get_initial_magnetic_moments(),
        "fermi_level": calculator.get_fermi_level(),
        "n_electrons": calculator.get_number_of_electrons(),
        "xc": str(calculator.get_xc_functional()),
        "ibz_kpts": calculator.get_ibz_k_points(),
        "levels": run._levels(calculator).eigenvalues,
    }

    def table(splines: list[Any]) -> np.ndarray:
        rows = []
        for f in splines:
            cutoff = f.get_cutoff()
            mesh = np.linspace(0, cutoff * (1 - 1e-12), _N_RADIAL)
            rows.append([f.get_angular_momentum_number(), cutoff, *(f(r) for r in mesh)])
        return np.array(rows)

    for number, setup in zip(atoms.numbers, calculator.wfs.setups, strict=True):
        answers[f"orbitals_{number}"] = table(run._functions(setup))
        answers[f"projectors_{number}"] = table(setup.pt_j)
        answers[f"overlap_{number}"] = setup.dO_ii
        answers[f"valence_{number}"] = setup.Nv
    there = []

    class Spy:
        def fixed_density(self, **options: Any) -> Any:
            there.append(calculator.fixed_density(**options))
            answers["kpts"] = options["kpts"]
            return there[0]

    run._on_mesh(Spy(), mesh)
    answers["hamiltonian"], answers["overlap"] = get_lcao_hamiltonian(there[0])
    if atoms.pbc.any():
        between = calculator.fixed_density(kpts=OFF_MESH, symmetry="off", txt=None)
        answers["levels_off_mesh"] = run._levels(between).eigenvalues
    np.savez_compressed(Path(__file__).with_name(f"{name}.npz"), **answers)


if __name__ == "__main__":
    record(Path(sys.argv[1]), sys.argv[2])
