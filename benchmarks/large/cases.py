"""What is measured: structures, bands, k-points, and what was asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """Bands about the Fermi level of one structure.

    Attributes
    ----------
    structure
        As for :func:`hotham_ase.build_structure`.
    n_bands
        About the Fermi level.
    path
        Special points, of which Γ is the first: the window is found there.
    npoints
        k-points along the path; None for its special points only.
    target
        Seconds for a k-point that were asked for.
    sigma
        eV; of the density of states by the kernel polynomial method, None for none.
    is_flat
        Whether the four bands about the Fermi level are to be looked at.
    note
        What has to be said of it.
    """

    structure: str
    n_bands: int
    path: str
    npoints: int | None = None
    target: float | None = None
    sigma: float | None = None
    is_flat: bool = False
    note: str = ""


UNRELAXED = "The structure is not relaxed."
CASES = {
    "trial": Case("twisted-graphene:2,3", 40, "GKMG", npoints=7, sigma=0.5, is_flat=True),
    "tbg_3.89": Case(
        "twisted-graphene:8,9:ring", 40, "GKMG", npoints=13, target=90, is_flat=True, note=UNRELAXED
    ),
    "tbg_2.00": Case(
        "twisted-graphene:16,17:ring",
        40,
        "GKM",
        target=300,
        sigma=0.2,
        is_flat=True,
        note=UNRELAXED,
    ),
    "tbg_1.08": Case(
        "twisted-graphene:30,31:ring", 16, "GMK", target=2700, is_flat=True, note=UNRELAXED
    ),
    "tbg_1.08_corrugated": Case(
        "twisted-graphene:30,31:corrugated",
        16,
        "GMK",
        target=2700,
        is_flat=True,
        note="Atoms are moved along the normal only: AA regions do not shrink in the plane.",
    ),
    "si_1000": Case(
        "cubic-silicon:5x5x5",
        16,
        "GX",
        note="At Γ the cell has 0.8 of Γ-X of the crystal, at X 0.9: its conduction minimum, at "
        "about 0.85, lies between them.",
    ),
    "si_vacancy_511": Case(
        "silicon-vacancy:4",
        16,
        "G",
        note=UNRELAXED + " Γ only: levels of defects of neighbouring cells interact.",
    ),
    "ribbon_2000": Case(
        "armchair-ribbon:40:1x1x25",
        40,
        "GX",
        note="Bare edges, 40 dimer lines: atoms there are unlike all that the model carbon was "
        "trained on, an extrapolation; trust neither edge states nor the gap.",
    ),
}
DEFAULT = tuple(name for name in CASES if name != "trial")

#: What was published about the flat bands at 1.08°, of the same cell of 11 164 atoms.
PUBLISHED = """\
Published, for 1.08° and the same cell of 11 164 atoms:

- Lucignano, Alfè, Cataudella, Ninno & Cantele, Phys. Rev. B 99, 195419 (2019), DFT with plane
  waves: the width of the four flat bands and the gaps to the bands below and above come out only
  if the out-of-plane relaxation, the corrugation, is taken into account.
- Zhang, Regnault, Bernevig, Dai & Weng, arXiv:2101.04934, DFT with numerical orbitals (OpenMX),
  rigid and corrugated, shift-invert Lanczos as here.
- Li et al., Nat. Comput. Sci. 2, 367 (2022), Fig. 6: a neural network's Hamiltonian beside the
  former DFT bands of the relaxed structure."""
