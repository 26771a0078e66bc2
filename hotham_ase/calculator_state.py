"""What a calculator is attached to: structures, parameters and the threads that share it."""

from __future__ import annotations

import copy
import functools
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from ase.calculators.calculator import Calculator, CalculatorSetupError, equal

from hotham_ase.calculator_setup import ase_errors, check_keywords
from hotham_ase.electronic import KMesh, build_mesh

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound="AttachedCalculator")


class SharedCalculatorWarning(UserWarning):
    """A calculator belongs to several structures and is asked without saying which is meant."""


def one_at_a_time(
    method: Callable[Concatenate[C, P], T],
) -> Callable[Concatenate[C, P], T]:
    """Threads that share a calculator wait for one another, so that each gets its own answer.

    The package's errors become the ones that ASE's tools know.
    """

    @functools.wraps(method)
    def locked(self: C, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._lock, ase_errors():
            return method(self, *args, **kwargs)

    return locked


class AttachedCalculator(Calculator):
    """The structures that a calculator belongs to, and its parameters.

    Parameters
    ----------
    parameters
        Keywords of :class:`~hotham_ase.calculator.HotHamCalculator` that files may keep.
    """

    def __init__(self, **parameters: Any) -> None:
        self._lock = threading.RLock()
        self._structure: Atoms | None = None
        self._attached: list[weakref.ref[Atoms]] = []
        self._is_warned = False
        self._parameters_of_results: dict[str, Any] = {}
        super().__init__(**parameters)

    def __repr__(self) -> str:
        """Model, what differs from the defaults, and the structure."""
        changed = self.todict()
        parts = [repr(changed.pop("model"))]
        parts += [f"{key}={value!r}" for key, value in changed.items()]
        structure = self._structure
        parts.append("not attached" if structure is None else str(structure.symbols))
        return f"HotHamCalculator({', '.join(parts)})"

    def __getstate__(self) -> dict[str, Any]:
        """For copies and other processes: all but the lock and what is attached."""
        return {**self.__dict__, "_lock": None, "_attached": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()

    # ------------------------------------------------------------------ parameters

    @one_at_a_time
    def set(self, **kwargs: Any) -> dict[str, Any]:
        """Change parameters; new k-points reuse H(R).

        Raises
        ------
        InputError
            For an unknown keyword or a bad value.
        """
        check_keywords(kwargs, self.default_parameters)
        changed = super().set(**kwargs)
        self._notice_parameters()
        return changed

    def _notice_parameters(self) -> None:
        """Drop what was calculated with other parameters, also if nobody called :meth:`set`."""
        for key, value in self.default_parameters.items():  # one that was deleted is the default
            self.parameters.setdefault(key, value)
        known = self._parameters_of_results
        changed = {k for k, v in self.parameters.items() if not equal(v, known.get(k))}
        if changed or len(known) != len(self.parameters):
            check_keywords(self.parameters, self.default_parameters)
            self._parameters_of_results = copy.deepcopy(dict(self.parameters))
            self._forget(matrices="dtype" in changed)

    def _forget(self, *, matrices: bool) -> None:
        """Drop results, and H and S too if they are others now."""
        self.results = {}

    @one_at_a_time
    def reset(self) -> None:
        """Forget everything that was calculated."""
        super().reset()
        self._forget(matrices=True)

    # ------------------------------------------------------------------ structures

    @one_at_a_time
    def set_atoms(self, atoms: Atoms) -> None:
        """Take note of the structure that the calculator was attached to; ASE calls this."""
        self._structure = atoms
        alive = [ref for ref in self._attached if ref() is not None and ref() is not atoms]
        self._attached = [*alive, weakref.ref(atoms)]

    def _current(self, atoms: Atoms | None = None) -> Atoms:
        """The structure that a getter is about."""
        if atoms is not None:
            if not self._attached:  # asking about another one does not change what it belongs to
                self._structure = atoms
            return atoms
        if self._structure is None:
            raise CalculatorSetupError(
                "the calculator has no structure yet: set atoms.calc to it, or pass atoms"
            )
        alive = [a for ref in self._attached if (a := ref()) is not None and a.calc is self]
        if len(alive) > 1 and not self._is_warned:
            self._is_warned = True
            warnings.warn(
                f"the calculator is attached to {len(alive)} structures: getters without atoms "
                f"are about the last one, {self._structure.symbols}; pass atoms to ask about "
                "another",
                SharedCalculatorWarning,
                stacklevel=4,
            )
        return self._structure

    # ------------------------------------------------------------------ k-points

    @one_at_a_time
    def get_ibz_k_points(self, atoms: Atoms | None = None) -> np.ndarray:
        """(n_kpts, 3) fractional k-points that are solved."""
        return self._mesh(atoms).ibz_kpts

    @one_at_a_time
    def get_k_point_weights(self, atoms: Atoms | None = None) -> np.ndarray:
        """(n_kpts,) share of the zone that each of ``get_ibz_k_points()`` stands for."""
        return self._mesh(atoms).weights

    @one_at_a_time
    def get_bz_k_points(self, atoms: Atoms | None = None) -> np.ndarray:
        """(n_bz, 3) fractional k-points of the whole mesh."""
        return self._mesh(atoms).bz_kpts

    @one_at_a_time
    def get_bz_to_ibz_map(self, atoms: Atoms | None = None) -> np.ndarray:
        """(n_bz,) index into ``get_ibz_k_points()`` of each k-point of the whole mesh."""
        return self._mesh(atoms).bz_to_ibz

    def _mesh(self, atoms: Atoms | None) -> KMesh:
        atoms = self._current(atoms)
        self._notice_parameters()
        return build_mesh(atoms, self.parameters["kpts"], symmetry=self.parameters["symmetry"])
