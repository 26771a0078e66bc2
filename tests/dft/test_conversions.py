"""Real runs of one code, written for another: what the other code's own file or tool has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import eigvalsh

from hotham_ase.dft import read_sample, to_sisl, write_sample
from tests.dft.spinful import levels

KPT = np.array([0.13, 0.29, 0.0])


@pytest.mark.parametrize("name", ["Si_pdos_k", "Pt2_soc"])
def test_siesta_s_hsx_as_its_own_tshs(name: str, shared_data: Path):
    """Every element, spinors too; both files of a run, but HSX has single precision."""
    sisl = pytest.importorskip("sisl", reason="needs sisl")
    run = shared_data / "siesta" / name
    sample = read_sample(run)
    file = sisl.get_sile(next(run.glob("*.TSHS")))
    theirs, ours = file.read_hamiltonian(), to_sisl(sample)
    s = theirs.Sk(KPT, format="array")
    np.testing.assert_allclose(ours.Sk(KPT, format="array"), s, atol=1e-8)
    # sisl counts energies of TSHS from the Fermi level
    h = theirs.Hk(KPT, format="array") + file.read_fermi_level() * s
    np.testing.assert_allclose(ours.Hk(KPT, format="array"), h, atol=2e-6)


@pytest.mark.parametrize(
    "name", ["openmx/graphene", "openmx/mos2", "siesta/Si_pdos_k", "abacus/iron_spin/000"]
)
def test_levels_in_sisl_and_tshs(name: str, shared_data: Path, tmp_path: Path):
    sisl = pytest.importorskip("sisl", reason="needs sisl")
    pao = shared_data / "openmx" / "pao" if "openmx" in name else None
    sample = read_sample(shared_data / name, orbitals=pao)
    write_sample(sample, tmp_path / "x.TSHS", "tshs")
    exact, spin = levels(sample, KPT), sample.hamiltonian.spin
    read = sisl.get_sile(tmp_path / "x.TSHS").read_hamiltonian()
    for made, zero in ((to_sisl(sample), 0.0), (read, sample.fermi_level)):
        for channel in range(spin.n_spins):
            which = {"spin": channel} if spin.n_spins == 2 else {}
            h, s = made.Hk(KPT, format="array", **which), made.Sk(KPT, format="array")
            np.testing.assert_allclose(eigvalsh(h, s) + zero, exact[channel], atol=1e-8)
