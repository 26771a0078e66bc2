"""GTH pseudopotentials against PySCF: V_nl, V_loc, files, and the density of the free atom."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.units import Bohr, Hartree
from scipy.integrate import simpson
from scipy.interpolate import CubicSpline

from hotham_ase.dft.free_atom import EXPONENTS, exchange_correlation
from hotham_ase.dft.gth import GTHPotential, gth_from_rows

TITANIUM = """    4    6    2
     0.38000000    2     8.71144218    -0.70028677
    3
     0.33777078    2     2.57526386     3.69297065
                                       -4.76760461
     0.24253135    2    -4.63054123     8.87087502
                                      -10.49616087
     0.24331694    1    -9.40665268
"""
SILICON = """    2    2
     0.44000000    1    -6.26928833
    2
     0.43563383    2     8.95174150    -2.70627082
                                        3.49378060
     0.49794218    1     2.43127673
"""


def potential(text: str) -> GTHPotential:
    return gth_from_rows([line.split() for line in text.splitlines()], "made by hand")


def pyscf_atoms(atoms: Atoms, basis):
    gto = pytest.importorskip("pyscf.gto")
    places = list(zip(atoms.get_chemical_symbols(), atoms.positions / Bohr, strict=True))
    return gto.M(atom=places, unit="Bohr", basis=basis, pseudo="gth-pbe", spin=None, verbose=0)


def titanium_oxide() -> Atoms:
    return Atoms("TiO", positions=[[0, 0, 0], [0.8, -0.9, 1.1]])


@pytest.mark.parametrize(
    ("atoms", "basis"),
    [
        (molecule("SiH4"), "gth-szv-molopt-sr"),
        (molecule("CH3CH2OH"), "gth-dzvp-molopt-sr"),
        (titanium_oxide(), "gth-dzvp-molopt-sr"),  # projectors of s, p and d
    ],
)
def test_nonlocal_and_kinetic_matrices_are_pyscf_s(atoms, basis):
    pytest.importorskip("pyscf")
    from pyscf.scf.atom_hf_pp import get_pp_nl

    from hotham_ase.dft.short_ranged import in_our_order
    from hotham_ase.engines.gaussians import orbital_basis
    from hotham_ase.overlap import kinetic_matrix, nonlocal_matrix

    atoms.rattle(0.2, seed=1)
    there, ours = pyscf_atoms(atoms, basis), orbital_basis(set(atoms.symbols), basis, "gth-pbe")
    for find, known in (
        (nonlocal_matrix, get_pp_nl(there)),
        (kinetic_matrix, there.intor("int1e_kin")),
    ):
        found = find(atoms, ours).at_k((0, 0, 0), format="dense")
        expected = in_our_order(known * Hartree, atoms, ours, "pyscf")
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("symbol", ["Si", "Ti", "H"])
def test_local_potential_is_pyscf_s(symbol):
    """−Z erf/r is the attraction of a Gaussian charge, which libcint knows in closed form."""
    pytest.importorskip("pyscf")
    from pyscf.scf.atom_hf_pp import get_pp_loc_part2

    from hotham_ase.engines.gaussians import gth_of

    a, b = 0.8, 0.3
    atom = pyscf_atoms(Atoms(symbol), {symbol: [[1, [a, 1]], [1, [b, 1]]]})
    found = gth_of(atom, symbol, "gth-pbe")
    with atom.with_rinv_zeta(1 / (2 * found.local_radius**2)):
        known = -found.n_valence * atom.intor("int1e_rinv")
    known += get_pp_loc_part2(atom)
    r = np.linspace(0, 12, 12001)
    rows = np.array([r * np.exp(-a * r**2), r * np.exp(-b * r**2)])
    rows /= np.sqrt(simpson(r**2 * rows**2, x=r))[:, None]
    integrals = simpson(r**2 * found.local(r) * rows[:, None] * rows, x=r)
    np.testing.assert_allclose(integrals, known[::3, ::3], rtol=0, atol=1e-8)


def test_files_say_what_pyscf_reads_in_them():
    pytest.importorskip("pyscf")
    from hotham_ase.engines.gaussians import gth_of

    for symbol, text in (("Si", SILICON), ("Ti", TITANIUM)):
        basis = {symbol: "gth-szv-molopt-sr"}
        known = gth_of(pyscf_atoms(Atoms(symbol), basis), symbol, "gth-pbe")
        found = potential(text)
        for name in ("electrons", "local_radius", "local_coefficients", "projector_radii"):
            assert getattr(found, name) == getattr(known, name)
        for ours, theirs in zip(found.strengths, known.strengths, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_projectors_are_normalised():
    r = np.linspace(0, 12, 12001)
    degrees, rows = potential(TITANIUM).projectors(r)
    assert degrees == [0, 0, 1, 1, 2]
    np.testing.assert_allclose(simpson(r**2 * rows**2, x=r), 1, rtol=0, atol=1e-10)


@pytest.mark.parametrize("text", [SILICON, TITANIUM])
def test_the_neutral_atom(text):
    gth = potential(text)
    found = gth.atomic_potential()
    tables = gth.tables()
    assert simpson(tables.density, x=tables.mesh) == pytest.approx(gth.n_valence, abs=1e-6)
    assert (tables.density >= 0).all()
    assert found.n_valence == gth.n_valence
    assert found.neutral[-1] == 0
    assert np.abs(np.diff(found.neutral, 3)).max() < 1e-3 * np.abs(found.neutral).max()
    # beyond the core V_NA is the attraction by the charge that its electrons leave unscreened
    outside = np.array([6.0, 8.0, 10.0])
    charge = gth.n_valence - CubicSpline(tables.mesh, tables.density).antiderivative()(outside)
    field = CubicSpline(tables.mesh, tables.neutral_potential(tables.mesh)).derivative()(outside)
    np.testing.assert_allclose(field, 2 * charge / outside**2, rtol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # NumPy of PySCF
def test_the_density_is_that_of_pyscf_s_atom():
    """Averaged over spheres, in the local density approximation, in the same Gaussians."""
    pytest.importorskip("pyscf")
    from pyscf.data.elements import NRSRHFS_CONFIGURATION
    from pyscf.dft import numint
    from pyscf.scf.atom_hf_pp import AtomSCFPP
    from pyscf.scf.atom_ks import AtomSphAverageRKS

    from hotham_ase.engines.gaussians import gth_of

    basis = {"Si": [[l, [float(a), 1.0]] for l in range(2) for a in EXPONENTS]}
    atom = pyscf_atoms(Atoms("Si"), basis)

    class Silicon(AtomSphAverageRKS):
        get_hcore = AtomSCFPP.get_hcore  # V_loc on a grid, of which the tolerance is

    field = Silicon(atom)
    field.atomic_configuration, field.xc = NRSRHFS_CONFIGURATION, "LDA_XC_TETER93"
    field.init_guess, field.grids.atom_grid, field.conv_tol = "minao", (200, 50), 1e-10
    field.run()
    assert field.converged
    tables = gth_of(atom, "Si", "gth-pbe").tables()
    r = tables.mesh[10:800:10]
    along = numint.eval_ao(atom, r[:, None] * [0, 0.6, 0.8])
    known = 4 * np.pi * r**2 * numint.eval_rho(atom, along, field.make_rdm1())
    np.testing.assert_allclose(tables.density[10:800:10], known, rtol=0, atol=1e-4)


def test_exchange_and_correlation_are_those_of_libxc():
    libxc = pytest.importorskip("pyscf.dft.libxc")
    rho = 10.0 ** np.arange(-6, 2)
    known = 2 * libxc.eval_xc("LDA_XC_TETER93", rho)[1][0]
    np.testing.assert_allclose(exchange_correlation(rho), known, rtol=1e-12)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    2\n     0.4356", "   NLCC 1\n  0.5 1 20.0\n    2\n     0.4356", "NLCC"),
        ("2.43127673", "", "ends within its numbers"),
        ("0.44000000    1", "0.44000000    9", "ends within its numbers, or counts too many"),
        ("0.44000000", "-0.44", "radii must be lengths"),
        ("    2    2\n", "    0    0\n", "its electrons"),
        ("    2    2\n", "    2    2   0   0   1\n", "more than four"),
        ("0.43563383    2", "nan    2", "radii must be lengths"),
        ("8.95174150", "inf", "not numbers"),
    ],
)
def test_what_is_no_such_potential_is_refused(old, new, message):
    with pytest.raises(ValueError, match=message):
        potential(SILICON.replace(old, new))


def test_coefficients_must_be_symmetric():
    with pytest.raises(ValueError, match="no symmetric matrices"):
        replace(potential(SILICON), strengths=(np.array([[1.0, 2], [0, 1]]), np.eye(1)))


def test_all_of_a_file_have_neutral_atoms():
    path = Path("/usr/share/cp2k/GTH_POTENTIALS")
    if not path.is_file():
        pytest.skip("CP2K's GTH_POTENTIALS is not installed")
    from hotham_ase.dft.cp2k.potential import read_gth

    for symbol, electrons in (("Cs", 9), ("Zn", 12), ("W", 14), ("Pb", 4), ("Gd", 18)):
        found = read_gth(path, symbol, f"GTH-PBE-q{electrons}")
        assert found.neutral_reach < 4
