"""Data sets: many structures with their matrices in one HDF5 file, imported and checked."""

from hotham_ase.dataset.describe import describe_dataset
from hotham_ase.dataset.doctor import check_dataset
from hotham_ase.dataset.importing import (
    ImportReport,
    Source,
    find_runs,
    import_folders,
    import_sources,
)
from hotham_ase.dataset.store import Dataset, DatasetWriter
from hotham_ase.dataset.stored import DatasetError
from hotham_ase.dataset.structure_checks import Finding

__all__ = [
    "Dataset",
    "DatasetError",
    "DatasetWriter",
    "Finding",
    "ImportReport",
    "Source",
    "check_dataset",
    "describe_dataset",
    "find_runs",
    "import_folders",
    "import_sources",
]
