"""ABACUS's INPUT: which keywords are obeyed, which are refused, and which need a proof."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hotham_ase.dft.sample import DFTReadError, UnsupportedRunError
from hotham_ase.dft.textfiles import read_text
from hotham_ase.matrices.spin import Spin

# H(R) as written may lack a part of these operators, which ABACUS adds to H(k) only in some
# versions: such a run is read where its own eigenvalues prove that nothing is missing.
NEED_PROOF = ("dft_plus_u", "deepks_scf")
_HYBRIDS = ("hf", "pbe0", "hse", "scan0", "b3lyp", "cwp22", "muller", "power", "wp22")
RECORDED = (
    "ecutwfc", "scf_thr", "scf_nmax", "smearing_method", "smearing_sigma", "dft_functional",
    *NEED_PROOF,
)  # fmt: skip
_SPINS = {"1": Spin.UNPOLARIZED, "2": Spin.POLARIZED, "4": Spin.NON_COLLINEAR}


def _is_true(value: str) -> bool:
    return value.lower().strip(".") in ("1", "t", "true", "yes", "y", "on")


def _is_positive(value: str) -> bool:
    try:
        return float(value) > 0
    except ValueError:
        return _is_true(value)


# Keywords that change H(R) or what belongs to it: when they are refused, and why. Obeyed are
# suffix, stru_file, kpoint_file, orbital_dir, latname, ntype, nelec, nelec_delta and those of spin,
# which say which components H has. Every other keyword is about convergence, parallel runs, forces,
# energies or output, and changes no H of a converged calculation of given atoms.
_REFUSED: dict[str, tuple[Callable[[str], bool], str]] = {
    "gamma_only": (_is_true, "the H of all lattice vectors folded into one: run with gamma_only 0"),
    "esolver_type": (lambda v: v.lower() != "ksdft", "another method than Kohn-Sham DFT"),
    "efield_flag": (_is_true, "an electric field: H depends on more than the atoms"),
    "gate_flag": (_is_true, "a charged gate: H depends on more than the atoms"),
    "imp_sol": (_is_true, "a solvent: H depends on more than the atoms"),
    "ocp": (_is_true, "fixed occupations, which have no Fermi level"),
    "sc_mag_switch": (_is_true, "constrained moments, which are not supported"),
    "nupdown": (
        lambda v: v.strip("0.+-") != "",
        "a fixed moment: each spin has its own Fermi level",
    ),
}


@dataclass(frozen=True)
class Settings:
    """Keywords of an INPUT file.

    Attributes
    ----------
    folder
        Where INPUT is.
    values
        Keywords in lower case and their values as text.
    """

    folder: Path
    values: dict[str, str] = field(repr=False)

    def get(self, key: str, default: str) -> str:
        """Value of a keyword, or what ABACUS takes without it."""
        return self.values.get(key, default)

    def number(self, key: str) -> float:
        """A keyword's number, 0 if it is not given.

        Raises
        ------
        DFTReadError
            If it is no number.
        """
        try:
            return float(self.get(key, "0"))
        except ValueError:
            raise DFTReadError(
                f"{self.folder}/INPUT: {key} must be a number, got {self.values[key]!r}"
            ) from None

    def places(self, key: str) -> list[Path]:
        """Where files may lie: the folder that a keyword names, the run's, ``orbitals/`` above."""
        above = (self.folder, *self.folder.resolve().parents)
        named = self.folder / self.get(key, ".")
        return [named, self.folder, *(parent / "orbitals" for parent in above)]

    @property
    def structure(self) -> Path:
        """The structure file."""
        return self.folder / self.get("stru_file", "STRU")

    @property
    def kpoints(self) -> Path:
        """The file of k-points."""
        return self.folder / self.get("kpoint_file", "KPT")

    @property
    def out(self) -> Path:
        """The folder of the results.

        Raises
        ------
        DFTReadError
            If ``suffix`` leads out of the run's folder.
        """
        suffix = self.get("suffix", "ABACUS")
        if any(mark in suffix for mark in "/\\\0") or len(suffix) > 200:
            raise DFTReadError(
                f"{self.folder}/INPUT: suffix must be a name without separators, got {suffix!r}"
            )
        return self.folder / f"OUT.{suffix}"

    @property
    def to_prove(self) -> str | None:
        """A keyword for which H(R) may not be all of H, see ``NEED_PROOF``; None without."""
        for key in NEED_PROOF:
            if _is_positive(self.get(key, "0")):
                return key
        hybrid = self.get("dft_functional", "default").lower() in _HYBRIDS
        return "dft_functional" if hybrid else None

    @property
    def spin(self) -> Spin:
        """Of the run; both keywords of spinors imply nspin 4.

        Raises
        ------
        DFTReadError
            If ``nspin`` is not known.
        """
        nspin = self.get("nspin", "1")
        if nspin not in _SPINS:
            raise DFTReadError(f"{self.folder}/INPUT: nspin must be 1, 2 or 4, got {nspin!r}")
        if _is_true(self.get("noncolin", "0")):
            return Spin.NON_COLLINEAR
        # the density has no magnetization then: time reversal holds
        return Spin.SPIN_ORBIT if _is_true(self.get("lspinorb", "0")) else _SPINS[nspin]

    def check_supported(self) -> None:
        """Refuse runs whose H is of another kind than ours.

        Raises
        ------
        UnsupportedRunError
            For relaxations and molecular dynamics, plane waves, external fields, and H(R)
            folded into one lattice vector.
        """
        calculation = self.get("calculation", "scf")
        # others move the atoms: STRU is the first structure, H that of another
        if calculation != "scf":
            raise UnsupportedRunError(
                f"{self.folder} is a {calculation!r} calculation: only calculation scf can be "
                "imported; make a single-point run of each structure"
            )
        if self.get("basis_type", "pw") != "lcao":
            raise UnsupportedRunError(f"{self.folder} is not an LCAO calculation (basis_type lcao)")
        for key, (applies, reason) in _REFUSED.items():
            if key in self.values and applies(self.values[key]):
                raise UnsupportedRunError(f"{self.folder} has {key} {self.values[key]}: {reason}")


def read_input(folder: str | Path) -> Settings:
    """Read the INPUT file of a run.

    Parameters
    ----------
    folder
        The run's folder.

    Raises
    ------
    DFTReadError
        If INPUT cannot be read, or gives a keyword twice with different values.
    """
    folder = Path(folder)
    values: dict[str, str] = {}
    for line in read_text(folder / "INPUT").splitlines():
        words = line.split("#")[0].split("//")[0].split()
        if len(words) < 2:
            continue
        key, value = words[0].lower(), " ".join(words[1:])
        # which of two values the run took is not known
        if values.setdefault(key, value) != value:
            raise DFTReadError(
                f"{folder}/INPUT gives {key} twice, as {values[key]!r} and as {value!r}"
            )
    return Settings(folder, values)
