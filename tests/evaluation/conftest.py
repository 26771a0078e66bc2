"""The samples of exactly known Hamiltonians, for all tests of this folder."""

from tests.chains import chain_samples, data_file, samples  # noqa: F401
