"""The samples that are learned: their zero of energy, and which H0 is below what is learned.

The zero of energy is arbitrary: H and H + μS describe the same physics. Where H0 is known, as of a
DFT code's first step or computed from the pseudopotentials, the difference from it may be learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hotham_ase.basis.orbitals import OrbitalBasis
from hotham_ase.dataset import Dataset
from hotham_ase.errors import UsageError
from hotham_ase.matrices.energy_zero import EnergyZero
from hotham_ase.matrices.spin import Spin

if TYPE_CHECKING:
    from ase import Atoms

    from hotham_ase.dft.sample import Sample
    from hotham_ase.matrices import RealSpaceMatrix


def with_zero(sample: Sample, energy_zero: EnergyZero) -> Sample:
    """The sample with the zero of energy in which it is learned.

    Parameters
    ----------
    sample
        As the DFT code left it.
    energy_zero
        ``fermi`` shifts it to H − E_F S; ``fit`` and ``none`` leave it as it is.

    Raises
    ------
    ValueError
        If the Fermi level is needed but not known.
    """
    if energy_zero != "fermi":
        return sample
    if sample.fermi_level is None:
        raise UsageError(
            f"energy_zero must be 'fit' or 'none' for {sample.name}, whose Fermi level is not known"
        )
    # H and H − E_F S have the same eigenvectors, and eigenvalues that differ by E_F
    hamiltonian = sample.hamiltonian - sample.fermi_level * sample.overlap
    return replace(sample, hamiltonian=hamiltonian, fermi_level=0.0)


class ReferenceSamples:
    """The samples of a data set as they are learned: H − H0 where they have an H0, else H.

    Parameters
    ----------
    data
        An open data set.
    energy_zero
        See :func:`with_zero`.
    learns_correction
        Whether samples keep the H0 that the data set has.
    computed
        H0 = T + V_nl + V_NA (+ V_fit) of every structure of the data set, which samples get
        instead.
    """

    def __init__(
        self,
        data: Dataset,
        energy_zero: EnergyZero,
        learns_correction: bool = False,
        computed: Sequence[RealSpaceMatrix] | None = None,
    ) -> None:
        self.data, self.energy_zero = data, energy_zero
        self.learns_correction, self.computed = learns_correction, computed

    @property
    def basis(self) -> OrbitalBasis:
        """Of all species."""
        return self.data.basis

    def atoms(self, index: int) -> Atoms:
        """A structure alone."""
        return self.data.atoms(index)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Sample:
        sample = self.on_network_pairs(index)
        if self.computed is None:
            return sample
        sample.hamiltonian.check_spin(Spin.UNPOLARIZED)  # H0 is
        return replace(sample, initial_hamiltonian=self.computed[index])

    def on_network_pairs(self, index: int) -> Sample:
        """A sample without what a prediction has on other pairs than the network's.

        A given H0 comes with its own pairs. A computed one is made on the network's, which
        therefore must reach as far as the whole H, projectors included.
        """
        sample = with_zero(self.data[index], self.energy_zero)
        return sample if self.learns_correction else replace(sample, initial_hamiltonian=None)
