"""Other codes' files, in and out: the only place that knows their units and orbital orders."""

from hotham_ase.dft.formats import read_sample, run_format, write_sample
from hotham_ase.dft.provenance import Provenance
from hotham_ase.dft.sample import (
    DFTReadError,
    ExportError,
    Sample,
    SampleError,
    UnsupportedRunError,
)
from hotham_ase.dft.sisl_files import to_sisl
from hotham_ase.dft.tight_binding import to_kwant, to_pybinding

__all__ = [
    "DFTReadError",
    "ExportError",
    "Provenance",
    "Sample",
    "SampleError",
    "UnsupportedRunError",
    "read_sample",
    "run_format",
    "to_kwant",
    "to_pybinding",
    "to_sisl",
    "write_sample",
]
