"""Provenance: what is written as JSON comes back, whatever wrote it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from hotham_ase.dft.provenance import Provenance, ProvenanceError

# as ABACUS runs have been stored since format version 1, and what others may have put there
STORED = {
    "code": "ABACUS",
    "eigenvalues": "compared",
    "energy": -2945.1000140486312,
    "initial": {"code": "ABACUS", "scf_steps": 1, "version": None},
    "kpts": {"mesh": [4, 4, 1], "mode": "Gamma"},
    "name": "graphene/000",
    "nspin": 1,
    "overlap": "read",
    "scf_converged": True,
    "scf_steps": 14,
    "version": "3.8.1",
    "xc": None,
}
FOREIGN = {"name": 7, "scf_steps": "many", "scf_converged": 1, "initial": [1], "n_valence": None}


@pytest.mark.parametrize("record", [STORED, FOREIGN, {}])
def test_records_pass_through_unchanged(record: dict):
    text = json.dumps(record, sort_keys=True)
    assert json.dumps(Provenance.from_dict(record).to_dict()) == text


def test_what_is_known_has_a_name():
    read = Provenance.from_dict(STORED)
    assert (read.name, read.code, read.version, read.xc) == (
        "graphene/000",
        "ABACUS",
        "3.8.1",
        None,
    )
    assert (read.scf_converged, read.scf_steps, read.overlap) == (True, 14, "read")
    assert read.initial == Provenance(code="ABACUS", scf_steps=1, extra={"version": None})
    assert read.extra["kpts"] == {"mesh": [4, 4, 1], "mode": "Gamma"}


def test_entries_of_another_type_are_kept_but_not_believed():
    read = Provenance.from_dict(FOREIGN)
    assert read == Provenance(extra=FOREIGN)


def test_what_is_told_later_counts():
    read = replace(Provenance.from_dict(STORED), xc="PBE", name="other")
    assert read.to_dict() == {**STORED, "xc": "PBE", "name": "other"}


def test_extra_is_a_copy_as_json_has_it():
    mesh = (4, 4)
    settings = {"mesh": mesh}
    kept = Provenance(extra=settings)
    settings["mesh"] = None
    assert kept.extra == {"mesh": [4, 4]}


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"name": 7}, "str as its name, got 7"),
        ({"scf_steps": True}, "int as its scf_steps"),
        ({"scf_converged": 1}, "bool as its scf_converged"),
        ({"extra": {"array": np.zeros(2)}}, "JSON-able"),
        ({"extra": {"energy": float("nan")}}, "JSON-able"),
    ],
)
def test_wrong_entries_are_refused(known: dict, message: str):
    with pytest.raises(ProvenanceError, match=message):
        Provenance(**known)
