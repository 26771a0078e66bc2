"""Spin: which components a matrix has, and what they mean.

A spinor block is H = Σ_c H_c σ_c with σ_0 = 1 and the Pauli matrices; where time reversal holds,
H = H_0 + i Σ_a B_a σ_a with real H_0 and B_a.
"""

from __future__ import annotations

from enum import Enum

import numpy as np

from hotham_ase.errors import NotSupportedError

PAULI = np.array(
    [[[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]]
)  # (4, 2, 2): 1, σ_x, σ_y, σ_z


class Spin(str, Enum):
    """How spin enters the matrices of a structure; the values are sisl's words.

    ====================  =============================  ==============================
    kind                  stored, for each element       partner (ji, −R) of (ij, R)
    ====================  =============================  ==============================
    ``unpolarized``       H_0                            H_0†
    ``polarized``         H_up, H_down                   H_up†, H_down†
    ``spin-orbit``        H_0, B_x, B_y, B_z, real       H_0ᵀ, −B_aᵀ
    ``non-collinear``     H_0, A_x, A_y, A_z, complex    H_0†, A_a†
    ====================  =============================  ==============================

    Unpolarized and polarized matrices of a DFT code are real. ``spin-orbit`` is coupling without
    magnetism, so that time reversal holds; with it, matrices are ``non-collinear``.

    Everything that depends on spin is asked of it: how many components a matrix has, how many
    electrons a state holds, whether k and −k are alike, and how H(k) is put together.
    """

    UNPOLARIZED = "unpolarized"
    POLARIZED = "polarized"
    NON_COLLINEAR = "non-collinear"
    SPIN_ORBIT = "spin-orbit"

    @property
    def n_components(self) -> int:
        """Stored components of a matrix."""
        return {Spin.UNPOLARIZED: 1, Spin.POLARIZED: 2}.get(self, 4)

    @property
    def n_spins(self) -> int:
        """Spin channels that are solved one by one: the first axis of eigenvalues."""
        return 2 if self is Spin.POLARIZED else 1

    @property
    def is_spinor(self) -> bool:
        """Whether H(k) couples both spins: it has two rows for each orbital."""
        return self.n_components == 4

    def n_rows(self, n_basis: int) -> int:
        """Rows of H(k) of so many orbitals: one for each, or two where spins are coupled."""
        return 2 * n_basis if self.is_spinor else n_basis

    @property
    def degeneracy(self) -> int:
        """Electrons that a state holds."""
        return 2 if self is Spin.UNPOLARIZED else 1

    @property
    def has_time_reversal(self) -> bool:
        """Whether the levels of each channel at k and −k are equal."""
        return self is not Spin.NON_COLLINEAR

    @property
    def is_real(self) -> bool:
        """Whether H(R) of each channel is real, and so is H(k) where k and −k are equivalent."""
        return not self.is_spinor

    @property
    def has_real_components(self) -> bool:
        """Whether the components of a DFT code's matrices are real."""
        return self is not Spin.NON_COLLINEAR

    @property
    def mirror_signs(self) -> np.ndarray:
        """(n_components,) sign that each component's conjugate transpose has as the partner's."""
        return np.array([1, -1, -1, -1] if self is Spin.SPIN_ORBIT else [1] * self.n_components)

    @property
    def identity(self) -> np.ndarray:
        """(n_components,) components of 1: what a matrix that is the same for both spins has."""
        if self is Spin.POLARIZED:
            return np.ones(2)
        return np.eye(self.n_components)[0]

    @property
    def coefficients(self) -> np.ndarray:
        """(n_spins, n_components, s, s) complex or real: H of a channel is Σ_c coefficients ⊗ H_c.

        s is 2 for spinors, else 1; the spin index is outermost, [[uu, ud], [du, dd]].
        """
        if not self.is_spinor:
            return np.eye(self.n_spins)[:, :, None, None]
        i = 1j if self is Spin.SPIN_ORBIT else 1.0
        return np.concatenate([PAULI[:1], i * PAULI[1:]])[None]

    def check(self, name: str, *kinds: Spin) -> None:
        """Refuse to be none of the kinds that are understood, by a NotSupportedError.

        Parameters
        ----------
        name
            Of what has this spin.
        kinds
            Those understood.
        """
        if self not in kinds:
            known = " or ".join(kind.value for kind in kinds)
            raise NotSupportedError(f"{name} must be {known} here, but it is {self.value}")

    def components_of(self, blocks: np.ndarray) -> np.ndarray:
        """Components of spinor blocks, ½ tr(c† H) for each coefficient c.

        Parameters
        ----------
        blocks : (2, 2, …)
            uu, ud; du, dd.

        Returns
        -------
        (n_components, …) complex
        """
        return np.einsum("cst,st...->c...", self.coefficients[0].conj(), blocks) / 2

    def blocks_of(self, components: np.ndarray) -> np.ndarray:
        """Spinor blocks of components, of whatever kind but unpolarized.

        Parameters
        ----------
        components : (n_components, …)

        Returns
        -------
        (2, 2, …) complex: uu, ud; du, dd
        """
        if self is Spin.POLARIZED:
            return np.einsum("st,s...->st...", np.eye(2, dtype=complex), components)
        return np.einsum("cst,c...->st...", self.coefficients[0].astype(complex), components)

    def coefficients_of(self, matrix: Spin, channel: int) -> np.ndarray:
        """(n_components, s, s) coefficients of a channel, for H or a matrix that goes with it.

        Parameters
        ----------
        matrix
            Its kind: this one; or unpolarized, such as that of S, which is the same for both spins
            and does not couple them.
        channel
            One of ``n_spins``.

        Raises
        ------
        ValueError
            For other channels and kinds.
        """
        if channel not in range(self.n_spins):
            raise ValueError(f"channel must be one of the {self.n_spins} of {self.value} spin")
        if matrix is self:
            return self.coefficients[channel]
        if matrix is not Spin.UNPOLARIZED:
            raise ValueError(f"a {matrix.value} matrix has no {self.value} form")
        return self.coefficients[0, :1]  # σ_0


#: Kinds whose electrons fill one set of levels, the same for both directions of every spin.
NONMAGNETIC = (Spin.UNPOLARIZED, Spin.SPIN_ORBIT)
