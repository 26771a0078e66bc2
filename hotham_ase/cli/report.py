"""What ``hotham bands`` and ``hotham dos`` say of a structure, as sentences or as JSON."""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hotham_ase.cli.tables import show_table

if TYPE_CHECKING:
    from ase import Atoms
    from ase.spectrum.band_structure import BandStructure

    from hotham_ase.calculator import HotHamCalculator
    from hotham_ase.electronic import BandEdges

GHOSTS = "not known: H has ghost states, which were left out; see the warning"
LEVELS_SHOWN = 8  # on either side of the Fermi level


@dataclass(frozen=True, kw_only=True)
class Report:
    """Numbers of the material; energies in eV, k-points fractional, None where not known.

    Attributes
    ----------
    formula, n_atoms, pbc
        The structure.
    model
        Name of the model.
    fermi_level, fermi_level_change
        And by how much it may still move with more k-points.
    band_gap, direct_gap
        0 for a metal.
    valence_maximum, conduction_minimum
        Energies of the edges.
    k_valence, k_conduction, k_direct
        Where they and the direct gap are; None where a band is filled in part.
    edges_remaining
        By how much an edge may still move.
    expected_error_of_h, expected_error_of_bands
        Root mean square over blocks; mean over bands near the Fermi level.
    n_extrapolating
        Atoms unlike all that the model was trained on.
    spin_orbit
        Whether this is with spin-orbit coupling.
    details
        How it was found, by name.
    """

    formula: str
    n_atoms: int
    pbc: tuple[bool, ...]
    model: str
    fermi_level: float
    fermi_level_change: float | None
    band_gap: float | None = None
    direct_gap: float | None = None
    valence_maximum: float | None = None
    conduction_minimum: float | None = None
    k_valence: tuple[float, ...] | None = None
    k_conduction: tuple[float, ...] | None = None
    k_direct: tuple[float, ...] | None = None
    edges_remaining: float | None = None
    expected_error_of_h: float | None = None
    expected_error_of_bands: float | None = None
    n_extrapolating: int | None = None
    spin_orbit: bool = False
    gap_text: str = field(repr=False)
    error_text: str | None = field(default=None, repr=False)
    details: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> str:
        """One object of all that is known."""
        content = {k: v for k, v in asdict(self).items() if not k.endswith("_text")}
        return json.dumps(content, ensure_ascii=False)

    def entries(self, *, verbose: bool = False) -> dict[str, str]:
        """A sentence for each quantity, by its name."""
        axes = "".join(axis for axis, periodic in zip("xyz", self.pbc, strict=True) if periodic)
        where = f"periodic along {axes}" if axes else "a molecule"
        change = self.fermi_level_change
        certain = ", of the mesh: not converged"
        certain = certain if change is None else f", converged to {_small(change)}"
        entries = {
            "structure": f"{self.formula}, {self.n_atoms} atoms, {where}",
            "model": self.model,
            **({"spin": "with spin-orbit coupling, no magnetism"} if self.spin_orbit else {}),
            "Fermi level": f"{self.fermi_level:.4f} eV{certain if axes else ''}",
            "band gap" if axes else "gap": self.gap_text,
        }
        if self.error_text is not None:
            text = self.error_text.removeprefix("expected errors: ")
            entries["errors"] = text if text == self.error_text else f"{text}, expected"
        return entries | (self.details if verbose else {})


def report_of(
    atoms: Atoms,
    calculator: HotHamCalculator,
    *,
    bands: BandStructure | None = None,
    dos: Any = None,
) -> Report:
    """Ask a calculator what there is to say of its structure.

    Parameters
    ----------
    atoms, calculator
        Attached to one another.
    bands
        Bands that were computed, for the details.
    dos
        Density of states that was computed, likewise.
    """
    from ase.calculators.calculator import CalculatorSetupError, PropertyNotImplementedError

    edges = uncertainty = None
    with contextlib.suppress(CalculatorSetupError):  # all orbitals are full, or none
        edges = calculator.get_band_edges()
    with contextlib.suppress(PropertyNotImplementedError):  # older models do not know
        uncertainty = calculator.get_uncertainty()
    trusted = not calculator.has_ghost_states()
    error = uncertainty.band_error if uncertainty is not None and trusted else None
    report = Report(
        formula=atoms.get_chemical_formula(),
        n_atoms=len(atoms),
        pbc=tuple(map(bool, atoms.pbc)),
        model=calculator.model.name,
        fermi_level=float(calculator.get_fermi_level()),
        fermi_level_change=_finite(calculator.get_fermi_level_change()),
        expected_error_of_bands=error,
        gap_text=describe_gap(edges, error, periodic=bool(atoms.pbc.any())),
        spin_orbit=calculator.parameters["spin_orbit"],
        details=_details(calculator, edges, bands, dos),
    )
    if edges is not None:
        report = replace(
            report,
            band_gap=edges.gap,
            direct_gap=edges.direct_gap,
            valence_maximum=edges.vbm,
            conduction_minimum=edges.cbm,
            k_valence=_place(edges.k_vbm),
            k_conduction=_place(edges.k_cbm),
            k_direct=_place(edges.k_direct),
            edges_remaining=_finite(edges.remaining),
        )
    if uncertainty is not None:
        report = replace(
            report,
            expected_error_of_h=uncertainty.rms_error if trusted else None,
            n_extrapolating=len(uncertainty.extrapolating_atoms),
            error_text=uncertainty.describe(),
        )
    # what the network errs by says nothing of states that were taken out of its H
    return report if trusted else replace(report, error_text=GHOSTS)


def _details(
    calculator: HotHamCalculator, edges: BandEdges | None, bands: BandStructure | None, dos: Any
) -> dict[str, str]:
    """How the numbers were found, by name."""
    mesh = len(calculator.get_bz_k_points()), len(calculator.get_ibz_k_points())
    details = {"mesh": f"{mesh[0]} k-points, {mesh[1]} after symmetry"}
    if edges is not None and edges.n_solved:
        details["search"] = f"{edges.n_solved} k-points more for the edges"
    if bands is not None:
        details["path"] = f"{bands.path.path}, {len(bands.path.kpts)} k-points"
        resolution = getattr(bands, "resolution", 0.0)
        if resolution > 0.01:
            details["path"] += f"; bands closer than {1e3 * resolution:.0f} meV may look like more"
    if dos is not None:
        details["dos"] = _about_dos(dos.info)
    return details


def _about_dos(about: dict[str, str]) -> str:
    solved = f"{about['mesh']} mesh, {about['kpts_solved']} k-points solved in {about['seconds']} s"
    if "moments" not in about:
        return f"{solved}; part of the states that moved at the last refinement: {about['change']}"
    return (
        f"{solved}; {about['moments']} Chebyshev moments of {about['vectors']} random vectors at "
        f"each k-point, broadened by {about['sigma']} eV at most; mean standard error "
        f"{about['error']} per eV"
    )


def describe_gap(edges: BandEdges | None, error: float | None, *, periodic: bool = True) -> str:
    """The gap in words: how large, where, how certain.

    Parameters
    ----------
    edges
        None where there are bands on one side of the Fermi level only.
    error
        Expected error of bands in eV; None if that is not known.
    periodic
        Whether the edges are somewhere in a Brillouin zone.
    """
    if edges is None:
        return "not known: all of the model's orbitals are full, or all are empty"
    if edges.k_vbm is None:  # the Fermi level cuts through a band
        return "none, a band is filled in part"
    touching = f" at {_written(edges.k_vbm)}" if periodic else ""
    if edges.is_semimetal:
        return f"none, bands touch{touching}"
    # the top of the full bands lies above the bottom of the empty ones, at another k-point
    if edges.is_metal:
        seen = " at these k-points" if math.isnan(edges.remaining) else ""
        where = f", from {_written(edges.k_cbm)} to {_written(edges.k_vbm)}" if periodic else ""
        return f"none, bands overlap by {edges.vbm - edges.cbm:.4f} eV{seen}{where}"
    text = f"{edges.gap:.4f} eV"
    if periodic and edges.is_direct:
        text += f", direct{touching}"
    elif periodic:
        text += (
            f", indirect, from {_written(edges.k_vbm)} to {_written(edges.k_cbm)}; direct gap "
            f"{edges.direct_gap:.4f} eV at {_written(edges.k_direct)}"
        )
    if periodic and math.isnan(edges.remaining):
        text += "; of these k-points only, not searched for in between"
    # a model that errs by more than the gap cannot tell whether there is one
    if error is not None and edges.gap < error:
        text += f"; less than the expected error of bands, {_small(error)}"
    return text


def show_levels(calculator: HotHamCalculator, window: tuple[float, float]) -> None:
    """Print the levels of a molecule near the Fermi level."""
    energies = calculator.get_eigenvalues() - calculator.get_fermi_level()
    occupations = calculator.get_occupation_numbers()
    nearest = np.sort(np.argsort(np.abs(energies))[: 2 * LEVELS_SHOWN])
    rows = [
        (n + 1, f"{occupations[n]:.3f}", f"{energies[n]:.4f}")
        for n in nearest
        if window[0] <= energies[n] <= window[1]
    ]
    show_table(rows, header=("level", "electrons", "E − E_F (eV)"))


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _place(kpt: np.ndarray | None) -> tuple[float, ...] | None:
    return None if kpt is None else tuple(float(x) for x in kpt)


def _written(kpt: np.ndarray | None) -> str:
    return "" if kpt is None else "(" + ", ".join(f"{round(x, 4) + 0.0:g}" for x in kpt) + ")"


def _small(energy: float) -> str:
    from hotham_ase.model.uncertainty import in_mev

    return in_mev(energy) if energy >= 1e-4 else "less than 0.1 meV"
