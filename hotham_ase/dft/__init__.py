"""Other codes' files, in and out: the only place that knows their units and orbital orders."""

from hotham_ase.dft.formats import read_sample, run_format
from hotham_ase.dft.provenance import Provenance
from hotham_ase.dft.sample import DFTReadError, Sample, SampleError, UnsupportedRunError

__all__ = [
    "DFTReadError",
    "Provenance",
    "Sample",
    "SampleError",
    "UnsupportedRunError",
    "read_sample",
    "run_format",
]
