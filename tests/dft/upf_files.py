"""UPF files written from closed forms."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.special import erf

# of V_loc = -2 Z erf(r/(√2 s))/r, the density Z (a/π)^(3/2) exp(-a r²), and the projectors
WIDTH, EXPONENT, RADIUS = 0.45, 0.6, 1.5  # Bohr, Bohr^-2, Bohr


def uniform_mesh() -> np.ndarray:
    return 0.01 * np.arange(1001)


def logarithmic_mesh() -> np.ndarray:
    """As of ld1.x: r = exp(xmin + i dx) / Z."""
    mesh = np.exp(-7 + 0.0125 * np.arange(1191)) / 26
    return mesh[mesh < 60]


def beta(r: np.ndarray, n: int, l: int) -> np.ndarray:
    """β of the n-th projector, Bohr^(-3/2): r^l at the nucleus, smooth at its end."""
    inside = np.clip(1 - (r / RADIUS) ** 2, 0, None)
    return (1 + n) * r**l * inside**6 * (1 + 0.3 * n * r**2)


@dataclass(frozen=True)
class Content:
    """What a file says."""

    mesh: np.ndarray = field(default_factory=uniform_mesh)
    degrees: tuple[int, ...] = (0, 0, 1, 1)
    momenta: tuple[float, ...] | None = (0.5, 0.5, 0.5, 1.5)
    n_valence: float = 4.0
    element: str = "C"
    kind: str = "NC"
    info: str = "made by hand"

    @property
    def n(self) -> int:
        return len(self.degrees)

    @property
    def local(self) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            values = -2 * self.n_valence * erf(self.mesh / np.sqrt(2) / WIDTH) / self.mesh
        values[self.mesh == 0] = -2 * self.n_valence * np.sqrt(2 / np.pi) / WIDTH
        return values

    @property
    def density(self) -> np.ndarray:
        gauss = (EXPONENT / np.pi) ** 1.5 * np.exp(-EXPONENT * self.mesh**2)
        return 4 * np.pi * self.mesh**2 * self.n_valence * gauss

    @property
    def projectors(self) -> list[np.ndarray]:
        return [self.mesh * beta(self.mesh, n, l) for n, l in enumerate(self.degrees)]

    @property
    def coefficients(self) -> np.ndarray:
        """D in Ry: diagonal, and between projectors of equal l and j."""
        kinds = list(zip(self.degrees, self.momenta or self.degrees, strict=True))
        same = np.array([[a == b for a in kinds] for b in kinds]).reshape(self.n, self.n)
        rows = np.arange(1.0, self.n + 1)
        return np.where(same, 0.1 * np.add.outer(rows, rows) + 2 * np.eye(self.n), 0.0)


def numbers(values: np.ndarray) -> str:
    """Four in a row."""
    words = [f"{v:18.11E}" for v in np.ravel(values)]
    return "\n".join(" ".join(words[k : k + 4]) for k in range(0, len(words), 4)) + "\n"


def version_2(c: Content) -> str:
    """As of ONCVPSP."""
    size = len(c.mesh)
    flags = {
        "is_ultrasoft": "T" if c.kind == "US" else "F",
        "is_paw": "T" if c.kind == "PAW" else "F",
        "is_coulomb": "T" if c.kind == "1/r" else "F",
        "has_so": "F" if c.momenta is None else "T",
    }
    header = {
        "generated": "by a test",
        "author": "A <a@b.c>",
        "element": f"{c.element} ",
        "pseudo_type": c.kind,
        **flags,
        "functional": "PBE",
        "z_valence": f"{c.n_valence:8.2f}",
        "l_local": "-1",
        "mesh_size": f"{size:6d}",
        "number_of_proj": str(c.n),
    }
    lines = ['<UPF version="2.0.1">', f"<PP_INFO>\n{c.info}\n</PP_INFO>", "<!-- the rest -->"]
    lines += ["<PP_HEADER", *(f'{key}="{text}"' for key, text in header.items()), "/>"]

    def table(name: str, values: np.ndarray, more: str = "") -> str:
        head = f'{name} type="real" size="{np.size(values)}" columns="4" {more}'
        return f"<{head}>\n{numbers(values)}</{name}>"

    lines += ["<PP_MESH>", table("PP_R", c.mesh), table("PP_RAB", 0 * c.mesh), "</PP_MESH>"]
    lines += [table("PP_LOCAL", c.local), "<PP_NONLOCAL>"]
    for k, (l, values) in enumerate(zip(c.degrees, c.projectors, strict=True), start=1):
        lines.append(table(f"PP_BETA.{k}", values, f'index="{k}" angular_momentum="{l}"'))
    lines += [table("PP_DIJ", c.coefficients)] if c.n else []
    lines += ["</PP_NONLOCAL>", table("PP_RHOATOM", c.density)]
    if c.momenta is not None:
        pairs = enumerate(zip(c.degrees, c.momenta, strict=True), start=1)
        rows = [f'<PP_RELBETA.{k}  index="{k}"  lll="{l}" jjj="{j}"/>' for k, (l, j) in pairs]
        lines += ["<PP_SPIN_ORB>", *rows, "</PP_SPIN_ORB>"]
    return "\n".join([*lines, "</UPF>\n"])


def version_1(c: Content) -> str:
    """As of Quantum ESPRESSO before 2009."""
    lines = [f"<PP_INFO>\n{c.info}\n</PP_INFO>", "<PP_HEADER>"]
    lines += [
        "   0                   Version Number",
        f"  {c.element}                   Element",
        f"   {c.kind}                  Norm - Conserving pseudopotential",
        "    F                  Nonlinear Core Correction",
        " SLA  PW   PBE  PBE    PBE  Exchange-Correlation functional",
        f"    {c.n_valence:.11f}      Z valence",
        "    0.00000000000      Total energy",
        "  0.0000000  0.0000000 Suggested cutoff for wfc and rho",
        "    1                  Max angular momentum component",
        f" {len(c.mesh)}                  Number of points in mesh",
        f"    2    {c.n}             Number of Wavefunctions, Number of Projectors",
        " Wavefunctions         nl  l   occ",
        "                       2S  0  2.00",
        "                       2P  1  2.00",
        "</PP_HEADER>",
    ]
    lines += [f"<PP_MESH>\n  <PP_R>\n{numbers(c.mesh)}  </PP_R>\n</PP_MESH>"]
    lines += [f"<PP_LOCAL>\n{numbers(c.local)}</PP_LOCAL>", "<PP_NONLOCAL>"]
    for k, (l, values) in enumerate(zip(c.degrees, c.projectors, strict=True), start=1):
        end = np.flatnonzero(values)[-1] + 2
        lines.append(f"  <PP_BETA>\n    {k}    {l}             Beta    L\n   {end}")
        lines.append(f"{numbers(values[:end])}  </PP_BETA>")
    d = c.coefficients
    rows = [f"  {i + 1}  {j + 1}  {d[i, j]:.11E}" for i, j in np.argwhere(np.triu(d))]
    lines += [f"  <PP_DIJ>\n    {len(rows)}     Number of nonzero Dij", *rows, "  </PP_DIJ>"]
    lines += ["</PP_NONLOCAL>", f"<PP_RHOATOM>\n{numbers(c.density)}</PP_RHOATOM>"]
    if c.momenta is not None:
        pairs = zip(c.degrees, c.momenta, strict=True)
        lines += ["<PP_ADDINFO>", "2S  1  0  0.50  2.00", "2P  2  1  1.50  2.00"]
        lines += [*(f"  {l}  {j:.2f}" for l, j in pairs), " -7.0 100.0 6.0 0.0125", "</PP_ADDINFO>"]
    return "\n".join(lines) + "\n"
