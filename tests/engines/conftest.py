"""PySCF, where it is installed."""

from __future__ import annotations

import pytest

pytest.importorskip("pyscf")
