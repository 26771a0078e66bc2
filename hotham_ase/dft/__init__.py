"""Other codes' files, in and out: the only place that knows their units and orbital orders."""

from __future__ import annotations

from pathlib import Path

from hotham_ase.dft.sample import DFTReadError, Sample, SampleError, UnsupportedRunError

__all__ = ["DFTReadError", "Sample", "SampleError", "UnsupportedRunError", "read_sample"]


def read_sample(folder: str | Path) -> Sample:
    """Read a calculation of any supported code; the format is recognised from its files.

    Recognised are ABACUS run folders, legacy DeepH folders and DeePTB folders. Where a format
    needs to be told more than its files hold, call its own reader.

    Parameters
    ----------
    folder
        The folder with the calculation's files.

    Raises
    ------
    DFTReadError
        If the folder is not there, its format is not recognised, or it cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DFTReadError(f"{folder} is not a folder")
    from hotham_ase.dft.abacus import is_abacus, read_abacus

    if is_abacus(folder):
        return read_abacus(folder)
    from hotham_ase.dft import deeph

    if deeph.is_deeph(folder):
        return deeph.read_deeph(folder)
    if deeph.is_deeptb(folder):
        return deeph.read_deeptb(folder)
    raise DFTReadError(
        f"{folder} has no files of a known format: ABACUS (STRU and INPUT), DeepH "
        "(hamiltonians.h5 and lat.dat) or DeePTB (hamiltonians.h5 and cell.dat)"
    )
