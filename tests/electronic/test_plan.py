"""Plans, against what is chosen and solved."""

from __future__ import annotations

import numpy as np
import pytest

from hotham_ase.electronic import BandWindow, SolverOptions, plan_bands
from hotham_ase.electronic.solvers.ordering import Elimination
from hotham_ase.electronic.solvers.policy import choose_solvers
from hotham_ase.electronic.solvers.problem import Blueprint
from hotham_ase.matrices import Spin

KPTS = np.array([(0, 0, 0), (0.5, 0, 0), (1 / 3, 1 / 3, 0)])


@pytest.fixture
def layer(graphene_atoms, one_orbital):
    atoms = graphene_atoms.repeat((16, 16, 1))
    return one_orbital(atoms, 1.6, lambda d: np.full(len(d), -2.7), 0.0)


@pytest.mark.parametrize("memory", [None, 64 << 20, 12 << 20])
def test_what_is_planned_is_what_is_chosen(layer, memory):
    """From where H has blocks alone."""
    given = SolverOptions(memory=memory)
    plan = plan_bands(Blueprint(layer.layout), KPTS, n_bands=8, options=given)
    assert (plan.n_atoms, plan.n_pairs, plan.n_orbitals, plan.n_rows) == (512, 1536, 512, 512)
    assert [(kind.name, kind.n_kpts) for kind in plan.kinds] == [("real", 2), ("complex", 1)]
    assert plan.n_stored == 512 * 4 == layer.at_k(KPTS[2]).nnz
    assert plan.n_factor == Elimination.of(layer).n_factor
    chosen = choose_solvers(layer, KPTS, BandWindow(0, 8, 0.0), SolverOptions(memory=memory))
    for kind, kpt in zip(plan.kinds, KPTS[1:], strict=True):
        assert kind.taken.name == chosen.at(kpt).name
    real, others = (kind.taken.seconds for kind in plan.kinds)
    assert plan.solving_seconds == pytest.approx(2 * real + others)


def test_what_does_not_fit_is_refused_as_later(layer):
    plan = plan_bands(layer, KPTS, n_bands=8, options=SolverOptions(memory=1000))
    assert plan.solving_seconds is None
    options = SolverOptions(memory=1000)
    for text, kpt in zip(plan.refusals, KPTS[1:], strict=True):
        with pytest.raises(MemoryError) as error:
            choose_solvers(layer, [kpt], BandWindow(0, 8, 0.0), options)
        assert str(error.value) == text
    assert not any(way.fits or way.is_taken for kind in plan.kinds for way in kind.ways)
    everything = plan_bands(layer, KPTS, options=SolverOptions(memory=1000))
    assert "ask for a few bands" in everything.refusals[0]


def test_all_bands_are_found_by_dense_solution(layer):
    plan = plan_bands(layer, KPTS[2:])
    assert [way.name for kind in plan.kinds for way in kind.ways] == ["dense"]
    assert plan.n_factor is None


def test_spins_are_counted(layer):
    """A spinor H has two rows for an orbital and is never real; two spins are solved in turn."""
    coupled = plan_bands(Blueprint(layer.layout, Spin.SPIN_ORBIT), KPTS)
    assert coupled.n_rows == 1024
    assert [(kind.name, kind.n_kpts) for kind in coupled.kinds] == [("complex", 3)]
    assert coupled.n_stored == 4 * 512 * 4
    polarized = plan_bands(Blueprint(layer.layout, Spin.POLARIZED), KPTS)
    plain = plan_bands(layer, KPTS)
    assert polarized.solving_seconds == pytest.approx(2 * plain.solving_seconds)
