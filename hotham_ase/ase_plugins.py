"""What ASE finds of this package by its entry points: data sets as files that it reads, and a name.

``ase.ioformats`` is read where ``ase.io`` is imported, so that nothing is imported here before it
is used. ``ase.plugins`` is an experiment of ASE 3.29, and only what asks for it reads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ase.utils.plugins import ExternalIOFormat

if TYPE_CHECKING:
    from ase import Atoms

#: Names ending in .h5 belong to many. Ours have their format's name near the beginning; older ones
#: had it at the end, and are known by the names in their first structure.
_SIGNATURE = rb"\x89HDF\r\n\x1a\n.*(hotham-dataset|structures.*cell_shifts)"

dataset_format = ExternalIOFormat(
    desc="Data set of hotham-ase",
    code="+S",
    module=__name__,
    magic_regex=_SIGNATURE,
)


def read_hotham_dataset(filename: str, index: slice) -> Iterator[Atoms]:
    """Structures of a data set without their matrices, for :func:`ase.io.read`.

    Parameters
    ----------
    filename
        The file.
    index
        Which of them. ASE makes ``slice(n, None)`` of a number n, and takes the first.

    Yields
    ------
    Atoms
        With ``name`` and, if it is known, ``fermi_level`` (eV) in ``info``.

    Raises
    ------
    DatasetError
        If the file is not a data set, or is damaged.
    IndexError
        If it has no structure of the number that was asked for, or that such a slice begins with.
    """
    from hotham_ase.dataset import Dataset

    with Dataset(filename) as dataset:
        n, first = len(dataset), index.start
        if first is not None and index.stop is None and not -n <= first < n:
            raise IndexError(f"{filename} has {n} structures, but number {first} was wanted")
        for number in range(n)[index]:
            stored = dataset.geometry(number)
            atoms = stored.atoms()
            atoms.info["name"] = stored.name
            if stored.fermi_level == stored.fermi_level:  # NaN where it is not known
                atoms.info["fermi_level"] = stored.fermi_level
            yield atoms


def __getattr__(name: str) -> Any:
    """The plug-ins of ASE's experiment; ASE leaves out what a module does not have."""
    if name == "__ase_plugins__":
        try:
            from ase._4.plugins.plugin import CalculatorPlugin

            found = CalculatorPlugin(
                "hotham", implementation="hotham_ase.calculator.HotHamCalculator"
            )
            return {found}
        except (ImportError, TypeError):  # it may move or change without notice
            pass
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
