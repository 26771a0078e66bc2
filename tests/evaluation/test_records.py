"""Records have the keys of files and tables, and means are of sizes."""

import pytest

from hotham_ase.evaluation.records import (
    BandErrors,
    ElementErrors,
    HamiltonianErrors,
    MeanErrors,
    PairErrors,
    StructureErrors,
    TrustErrors,
)

TRUST = TrustErrors(1.0, 2.0, 3.0, None, None, 0)


def structure(name, size, sign=1, **more):
    bands = BandErrors(size, sign * size, sign * size, -sign * size, 0.1, 0.0)
    return StructureErrors(
        name=name, hamiltonian=HamiltonianErrors(*[size] * 5, sign * size), bands=bands, **more
    )


def test_what_is_not_known_is_left_out_or_null():
    keys = list(structure("a/b", 1.0).to_dict())
    assert keys[:3] == ["name", "mae_meV", "rmse_meV"]
    assert keys[-1] == "ghost_states"
    row = structure("a/b", 1.0, part="test", trust=TRUST).to_dict()
    assert list(row) == ["name", "part", *keys[1:], *TRUST.to_dict()]
    assert row["expected_band_error_meV"] is None
    assert row["n_extrapolating"] == 0
    pair = PairErrors(blocks="onsite", pair="C-C", errors=ElementErrors(1.0, 2.0, 3.0, 4))
    assert list(pair.to_dict()) == ["blocks", "pair", "mae_meV", "rmse_meV", "max_meV", "n"]


def test_means_are_those_of_sizes():
    rows = [structure("x/1", 1.0, sign=-1), structure("x/2", 4.0), structure("3", 10.0)]
    means = MeanErrors.of(rows)
    assert means.n_structures == 3
    for name in ("mae_meV", "fermi_error_meV", "gap_error_meV"):
        assert getattr(means, name) == pytest.approx(5.0)
    by_group = MeanErrors.by(lambda row: row.group, rows)
    assert {group: e.band_mae_meV for group, e in by_group.items()} == {"x": 2.5, "": 10.0}
