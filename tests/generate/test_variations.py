"""Structures made of structures."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.io import write

from hotham_ase.errors import UsageError
from hotham_ase.generate.config import StructuresConfig
from hotham_ase.generate.variations import make_structures
from hotham_ase.structure_files import StructureError
from hotham_ase.structures import build_structure


def made(**settings) -> list[Atoms]:
    return make_structures(StructuresConfig(**settings))


def test_a_name_alone_is_that_structure():
    (only,) = made(start="cubic-silicon")
    assert only == build_structure("cubic-silicon")


def test_the_same_settings_make_the_same_structures():
    settings = {"start": "cubic-silicon", "number": 3, "displacement": 0.1, "strain": 0.02}
    assert made(**settings) == made(**settings)
    assert made(**settings) != made(**settings, seed=1)
    first, second, _ = made(**settings)
    assert first != second


def test_displacements_have_their_width():
    start = build_structure("silicon:6x6x6")
    (moved,) = made(start="silicon:6x6x6", displacement=0.05)
    assert np.std(moved.positions - start.positions) == pytest.approx(0.05, rel=0.05)
    assert np.array_equal(moved.cell, start.cell)


@pytest.mark.parametrize("name", ["silicon", "graphene", "nanotube:4,0"])
def test_strain_moves_atoms_with_the_cell_along_periodic_directions(name):
    start = build_structure(name)
    for strained in made(start=name, number=5, strain=0.03):
        # positions r F, vectors a F with symmetric F
        deformation = np.linalg.lstsq(
            np.concatenate([start.cell[:], start.positions]),
            np.concatenate([strained.cell[:], strained.positions]),
            rcond=None,
        )[0]
        np.testing.assert_allclose(start.positions @ deformation, strained.positions, atol=1e-12)
        strain = deformation - np.eye(3)
        np.testing.assert_allclose(strain, strain.T, atol=1e-12)
        assert 1e-4 < np.abs(strain).max() < 0.06
        normal = ~start.pbc
        np.testing.assert_allclose(strain[normal], 0, atol=1e-12)


def test_sliding_moves_whole_layers():
    start = build_structure("bilayer-graphene")
    upper = start.positions[:, 2] > start.positions[:, 2].mean()
    moves = []
    for slid in made(start="bilayer-graphene", number=4, sliding=True):
        move = slid.positions - start.positions
        np.testing.assert_allclose(move[~upper], 0, atol=1e-12)
        np.testing.assert_allclose(move[upper], move[upper][:1].repeat(2, axis=0), atol=1e-12)
        assert move[upper][0, 2] == 0
        moves.append(move[upper][0])
    assert np.std(moves) > 0.1


def test_frames_of_a_trajectory_are_taken_in_turn(tmp_path):
    frames = [Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.7 + n / 10]]) for n in range(3)]
    write(tmp_path / "run.traj", frames)
    file = str(tmp_path / "run.traj")
    assert made(start=file) == frames
    assert made(start=file, number=5) == [*frames, *frames[:2]]
    assert made(start=f"{file}@1:") == frames[1:]


def test_dynamics_have_their_temperature_and_go_on():
    dynamics = {"calculator": "emt", "temperature": 600, "equilibration": 100, "interval": 10}
    start = {"start": "graphene:3x3x1", "name": "g"}
    frames = made(**start, number=4, dynamics=dynamics)
    assert made(**start, number=4, dynamics=dynamics) == frames
    assert len(frames) == 4
    assert all(frame.calc is None and "momenta" not in frame.arrays for frame in frames)
    amplitude = np.std(frames[-1].positions - frames[0].positions)
    assert 0.01 < amplitude < 0.5
    same = made(**start, number=4, dynamics={**dynamics, "calculator": f"{__name__}:calculator"})
    assert same == frames


def calculator():
    return EMT()


def no_calculator():
    raise ValueError("no such parameters")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start": "molecule:H2O", "strain": 0.1}, "no strain: use displacement"),
        ({"start": "graphene", "sliding": True}, "sliding needs two or more layers"),
        ({"start": "cubic-silicon:2x2x2", "displacement": 1.0}, "come closer"),
        (
            {"start": "graphene", "number": 2, "dynamics": {"calculator": "emf"}},
            "calculator emf cannot be made",
        ),
        *(
            ({"start": "graphene", "number": 2, "dynamics": {"calculator": name}}, message)
            for name, message in (
                (f"{__name__}:no_calculator", "cannot be made: no such parameters"),
                (":calculator", "cannot be made: Empty module name"),
            )
        ),
    ],
)
def test_what_cannot_be_made_is_said(settings, message):
    with pytest.raises(UsageError, match=message):
        made(**settings)


def test_a_start_that_is_nothing_is_said():
    with pytest.raises(StructureError, match="neither a file nor one of the built-in"):
        made(start="grafene.xyz")
