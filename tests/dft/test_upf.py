from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.units import Bohr, Rydberg
from scipy.special import erf

from hotham_ase.basis.potentials import AtomicPotential
from hotham_ase.dft import DFTReadError, UnsupportedRunError
from hotham_ase.dft.pseudopotential import FAINT, SWITCH_WIDTH, Pseudopotential
from hotham_ase.dft.upf import read_tables, read_upf
from tests.dft.upf_files import (
    EXPONENT,
    RADIUS,
    WIDTH,
    Content,
    beta,
    logarithmic_mesh,
    uniform_mesh,
    version_1,
    version_2,
)

WRITERS = {"1": version_1, "2": version_2}
MESHES = {"uniform": uniform_mesh, "logarithmic": logarithmic_mesh}


def read(folder: Path, text: str) -> AtomicPotential:
    path = folder / "C.upf"
    path.write_text(text)
    symbol, potential = read_upf(path)
    assert symbol == "C"
    return potential


@pytest.fixture(params=[(v, m) for v in WRITERS for m in MESHES], ids="-".join)
def content_and_potential(request, tmp_path: Path) -> tuple[Content, AtomicPotential]:
    version, mesh = request.param
    content = Content(mesh=MESHES[mesh]())
    return content, read(tmp_path, WRITERS[version](content))


def test_neutral_atom_of_gaussians(content_and_potential):
    """The Hartree potential of a Gaussian is 2 Z erf(√a r)/r Ry."""
    content, potential = content_and_potential
    tables = Pseudopotential(
        *(content.mesh, content.n_valence, content.local, content.density),
        *(content.degrees, content.momenta),
        np.array(content.projectors),
        content.coefficients,
    )
    r = potential.grid[1:] / Bohr
    z = content.n_valence
    expected = 2 * z * (erf(np.sqrt(EXPONENT) * r) - erf(r / np.sqrt(2) / WIDTH)) / r
    found = tables.neutral_potential(potential.grid / Bohr)
    np.testing.assert_allclose(found[1:], expected, atol=3e-8)
    at_nucleus = 4 * z * (np.sqrt(EXPONENT / np.pi) - np.sqrt(0.5 / np.pi) / WIDTH)
    assert found[0] == pytest.approx(at_nucleus, abs=1e-5)
    # that of the file ends where V_NA is faint
    end = r[np.flatnonzero(np.abs(expected) > FAINT)[-1]]
    inner = r < end - SWITCH_WIDTH
    np.testing.assert_allclose(potential.neutral[1:][inner] / Rydberg, expected[inner], atol=3e-8)
    assert potential.neutral_reach == pytest.approx(end * Bohr, abs=0.02)


def test_projectors_and_density(content_and_potential):
    content, potential = content_and_potential
    r = potential.grid / Bohr
    for n, (l, found) in enumerate(zip(potential.degrees, potential.projectors, strict=True)):
        expected = beta(r, n, l)
        np.testing.assert_allclose(found * Bohr**1.5, expected, atol=1e-5 * expected.max())
    assert potential.degrees == content.degrees
    assert potential.total_momenta == content.momenta
    # functions that end smoothly are zero to ten digits before their end
    assert max(potential.cutoffs) <= RADIUS * Bohr + 1e-9
    assert min(potential.cutoffs) > 0.9 * RADIUS * Bohr
    np.testing.assert_allclose(potential.coefficients, content.coefficients * Rydberg, rtol=1e-9)
    gauss = content.n_valence * (EXPONENT / np.pi) ** 1.5 * np.exp(-EXPONENT * r**2)
    np.testing.assert_allclose(potential.density * Bohr**3, gauss, atol=2e-6)
    radial = 4 * np.pi * potential.grid**2 * potential.density
    assert np.trapezoid(radial, potential.grid) == pytest.approx(content.n_valence, abs=1e-6)


def test_versions_agree(tmp_path: Path):
    for mesh in MESHES.values():
        content = Content(mesh=mesh())
        one, two = (read(tmp_path, write(content)) for write in WRITERS.values())
        assert one.agrees_with(two)


def test_scalar_and_local_potentials(tmp_path: Path):
    for write in WRITERS.values():
        scalar = read(tmp_path, write(Content(momenta=None)))
        assert not scalar.is_relativistic
        assert scalar.coefficients[2, 3] != 0  # the same l
        local = read(tmp_path, write(Content(degrees=(), momenta=None)))
        assert local.projectors.shape == (0, len(local.grid))
        assert local.reach == 0


def test_switch_is_smooth(tmp_path: Path):
    """Its second derivative does not jump: one of 1 Ry/Bohr² would make 1e-4 here."""
    potential = read(tmp_path, version_2(Content()))
    third = np.diff(potential.neutral / Rydberg, 3)
    reach = round(potential.neutral_reach / Bohr / 0.01)
    switch = slice(reach - round(SWITCH_WIDTH / 0.01) - 10, reach + 10)
    assert np.abs(third[switch]).max() < 3e-5


def test_text_that_is_not_xml(tmp_path: Path):
    expected = read(tmp_path, version_2(Content()))
    info = 'Smith & Sons <smith@x.y> &nbsp; <"unclosed\n<!ENTITY a "aaaa"> &a;&a; '
    text = version_2(Content(info=info)).replace("E-", "D-")  # and Fortran's exponents
    assert read(tmp_path, text).agrees_with(expected)
    text = text.replace('author="A <a@b.c>"', "author='A \"the\" <a@b.c>'")
    assert read(tmp_path, text).agrees_with(expected)


def test_origin(tmp_path: Path):
    info = "by X. This work is licensed under the CC BY-SA\n 4.0 International License. Etc."
    potential = read(tmp_path, version_2(Content(info=info)))
    assert potential.source == "C.upf, by a test, PBE"
    assert potential.licence == (
        "This work is licensed under the CC BY-SA 4.0 International License."
    )
    assert read(tmp_path, version_1(Content())).licence == ""


@pytest.mark.parametrize("version", WRITERS)
@pytest.mark.parametrize(
    ("kind", "name"), [("US", "ultrasoft"), ("USPP", "ultrasoft"), ("PAW", "PAW"), ("1/r", "Coul")]
)
def test_other_kinds_are_refused_by_name(tmp_path: Path, version: str, kind: str, name: str):
    with pytest.raises(UnsupportedRunError, match=f"C.upf is {name}.*, only norm-conserving"):
        read(tmp_path, WRITERS[version](Content(kind=kind)))


def changed(old: str, new: str, count: int = 1):
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, count)

    return change


def in_section(name: str, change):
    def changed_there(text: str) -> str:
        before, start, rest = text.partition(f"<{name} ")
        section, end, after = rest.partition(f"</{name}>")
        return before + start + change(section) + end + after

    return changed_there


DAMAGED = {
    "other format": (lambda text: "<psml/>", "neither <UPF version="),
    "cut": (lambda text: text[: len(text) // 2], "not a complete UPF file"),
    "no size": (changed("mesh_size", "mesh_sizes"), "mesh_size"),
    "huge size": (changed('mesh_size="  1001"', 'mesh_size="99999999"'), "a count of 99999999"),
    "long size": (changed('mesh_size="  1001"', f'mesh_size="{"9" * 5000}"'), "not a complete UPF"),
    "many projectors": (changed('number_of_proj="4"', 'number_of_proj="99"'), "99 projectors"),
    "a projector less": (changed("<PP_BETA.2 ", "<PP_BETA.7 "), "0 sections PP_BETA.2, not one"),
    "twice": (changed("<PP_LOCAL ", "<PP_R/><PP_LOCAL "), "2 sections PP_R, not one"),
    "not a number": (changed("1.00000000000E-02", "1.0x"), "1.0x"),
    "infinite": (changed("1.00000000000E-02", "inf"), "values that cannot be"),
    "descending": (changed("2.00000000000E-02", "0.00000000000E-02"), "does not ascend"),
    "electrons": (changed('z_valence="    4.00"', 'z_valence="5.00"'), "as that of 4 charges"),
    "density": (
        lambda text: text.replace("PP_RHOATOM", "PP_OTHER").replace("PP_RAB", "PP_RHOATOM"),
        "density has 0 of 4 electrons",
    ),
    "no electrons": (changed('z_valence="    4.00"', 'z_valence="nan"'), "nan valence"),
    "element": (changed('element="C "', 'element="Xx"'), "its element is 'Xx'"),
    "kind": (changed('pseudo_type="NC"', 'pseudo_type="XX"'), "its pseudo_type is 'XX'"),
    "other l": (changed('lll="1"', 'lll="2"'), "other angular momenta than the projectors"),
    "impossible j": (changed('jjj="1.5"', 'jjj="2.5"'), r"total_momenta must be l \+ 1/2"),
    "asymmetric": (in_section("PP_DIJ", changed("3.00000000000E-01", "3.1E-01")), "symmetric"),
    "a projector without end": (
        in_section("PP_BETA.2", lambda text: text.replace("0.00000000000E+00", "1.0E-09")),
        "projectors reaches 30 Bohr",
    ),
    "a jump": (lambda text: text.replace("-9.09", "-1.09", 1), "local potential jumps at about"),
    "attribute": (changed('has_so="T"', 'has_so=T'), "section PP_HEADER is not understood"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), DAMAGED.values(), ids=DAMAGED)
def test_damage_is_refused(tmp_path: Path, change, message: str):
    content = Content(mesh=0.01 * np.arange(3001)) if "reaches" in message else Content()
    with pytest.raises(DFTReadError, match=message) as raised:
        read(tmp_path, change(version_2(content)))
    assert "C.upf" in str(raised.value)


DAMAGED_1 = {
    "a projector less": (changed("  <PP_BETA>", "  <PP_GAMMA>"), "3 of 4 projectors"),
    "element of D": (changed("  1  2  ", "  1  9  "), "PP_DIJ has an element 1 9"),
    "other l": (changed("  1  0.50\n", "  2  1.50\n"), "PP_ADDINFO has other angular momenta"),
    "header": (changed("Version Number\n", "Version Number"), "not a complete UPF file"),
}


@pytest.mark.parametrize(("change", "message"), DAMAGED_1.values(), ids=DAMAGED_1)
def test_damage_of_version_1_is_refused(tmp_path: Path, change, message: str):
    with pytest.raises(DFTReadError, match=message):
        read(tmp_path, change(version_1(Content())))


def test_missing_file(tmp_path: Path):
    with pytest.raises(DFTReadError, match="cannot be read"):
        read_upf(tmp_path / "C.upf")


# ------------------------------------------------------------- files of the shared sets


def test_files_of_the_shared_sets(shared_data: Path):
    """The potential of the neutral atom of carbon, from a calculation outside of the package."""
    files = sorted((shared_data / "abacus" / "orbitals").glob("*.upf"))
    assert files
    for path in files:
        symbol, potential = read_upf(path)
        assert path.name.startswith(f"{symbol}_")
        assert potential.is_relativistic
        if symbol != "C":
            continue
        r = potential.grid / Bohr
        v = read_tables(path)[1].neutral_potential(r)
        for place, expected in ((2, -0.27), (5, -1.2e-3), (6, -2.5e-4)):
            assert np.interp(place, r, v) == pytest.approx(expected, rel=0.03)
        assert potential.n_valence == 4
