"""K-points that are kept: another run finds them, and nothing that is damaged."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from hotham_ase.electronic.population import solve_with_shares
from hotham_ase.electronic.solvers.guard import GhostStateWarning, Guard
from hotham_ase.electronic.solvers.problem import (
    BandWindow,
    IllConditionedWarning,
    SolverOptions,
)
from hotham_ase.electronic.solvers.solve import eigenvalues_at_kpts, solve_kpts
from hotham_ase.electronic.solvers.store import Checkpoint, CheckpointWarning
from hotham_ase.errors import UsageError
from hotham_ase.matrices import RealSpaceMatrix
from tests.electronic.solvers.slow import KPTS, SlowSolver, closed_form, matrices


class Kept:
    """A folder, who wrote of a solution there, and how many k-points each call found."""

    def __init__(self, folder) -> None:
        self.folder, self.diary, self.found = folder / "kept", folder / "diary", []

    def options(self, **more) -> SolverOptions:
        checkpoint = Checkpoint(self.folder, on_found=lambda *n: self.found.append(n))
        solver = SlowSolver(diary=str(self.diary))
        return SolverOptions(solver=solver, checkpoint=checkpoint, **more)

    @property
    def n_solved(self) -> int:
        return len(self.diary.read_text().splitlines())

    @property
    def files(self) -> list:
        return sorted(self.folder.glob("*.npz"))


@pytest.fixture
def kept(tmp_path) -> Kept:
    return Kept(tmp_path)


def test_another_run_solves_what_is_missing(kept):
    values = eigenvalues_at_kpts(*matrices(), KPTS[:7], options=kept.options())
    assert (kept.n_solved, kept.found) == (7, [])
    seen = []
    options = kept.options(on_progress=lambda *done: seen.append(done))
    again = eigenvalues_at_kpts(*matrices(), KPTS, options=options)
    assert (kept.n_solved, kept.found) == (12, [(7, 12)])
    assert seen == [(n, 12) for n in range(13)]
    np.testing.assert_array_equal(again[:, :7], values)
    np.testing.assert_allclose(again, closed_form(), atol=1e-10)


class Searching(SlowSolver):
    """One that does not count."""

    def solve(self, h_k, s_k, sought):
        return replace(super().solve(h_k, s_k, sought), is_counted=False)


def test_how_states_were_proved_complete_is_kept(kept):
    solver = Searching(diary=str(kept.diary))
    for _ in range(2):
        options = replace(kept.options(), solver=solver)
        states = list(solve_kpts(*matrices(), KPTS[:2], options=options))
        assert not any(s.is_counted for s in states)
    assert kept.n_solved == 2


@dataclass(frozen=True)
class Overtaken(SlowSolver):
    """While it solves, a ghost is found at another k-point, as where threads solve side by side."""

    guard: Guard | None = field(default=None, compare=False)

    def solve(self, h_k, s_k, sought):
        states = super().solve(h_k, s_k, sought)
        self.guard.threshold, self.guard.ghost = 0.95, -50.0
        return states


def test_what_was_solved_with_the_old_threshold_is_not_kept_for_the_new(kept):
    """Graphene's S has the eigenvalues 1 ± 0.129 |f|: one of two directions is left out."""
    h, s = matrices()
    guard = Guard.of(h, s)
    solver = Overtaken(diary=str(kept.diary), guard=guard)
    eigenvalues_at_kpts(h, s, KPTS[:1], options=replace(kept.options(guard=guard), solver=solver))
    options = kept.options(guard=replace(Guard.of(h, s), threshold=0.95))
    with pytest.warns(IllConditionedWarning):
        values = eigenvalues_at_kpts(h, s, KPTS[:1], options=options)
    np.testing.assert_allclose(values, closed_form()[:, :1, :1], atol=1e-10)
    assert (kept.n_solved, kept.found) == (2, [])


def test_what_was_solved_otherwise_is_not_taken(kept):
    """Another H, S, window, or with eigenvectors; but not another progress or solver."""
    h, s = matrices()
    one_k = KPTS[:1]
    eigenvalues_at_kpts(h, s, one_k, options=kept.options())
    options = kept.options()
    eigenvalues_at_kpts(h, s, one_k, options=replace(options, solver=None))
    assert (kept.n_solved, kept.found) == (1, [(1, 1)])
    others = [(1.01 * h, s, None), (h, None, None), (h, s, BandWindow(0, 1, 0.0))]
    for n, (h_r, s_r, window) in enumerate(others):
        eigenvalues_at_kpts(h_r, s_r, one_k, window=window, options=options)
        assert kept.n_solved == 2 + n
    eigenvalues_at_kpts(h, s, one_k + 1e-9, options=options)
    assert kept.n_solved == 5
    assert kept.found == [(1, 1)]


def test_rounding_of_a_prediction_makes_no_other_matrix(kept):
    h, s = matrices()
    values = eigenvalues_at_kpts(h, s, KPTS, options=kept.options())
    again = eigenvalues_at_kpts((1 + 1e-7) * h, s, KPTS, options=kept.options())
    assert kept.found == [(12, 12)]
    np.testing.assert_array_equal(again, values)


def test_eigenvectors_are_kept_when_asked_for(kept):
    h, s = matrices()
    without = kept.options()
    checkpoint = replace(without.checkpoint, vectors=True)
    with_vectors = replace(without, checkpoint=checkpoint)
    for options, n_solved in ((without, 3), (without, 6), (with_vectors, 9), (with_vectors, 9)):
        states = list(solve_kpts(h, s, KPTS[:3], vectors=True, options=options))
        assert kept.n_solved == n_solved
    for state, kpt in zip(states, KPTS, strict=False):
        h_k, s_k = (m.at_k(kpt, format="dense") for m in (h, s))
        c = state.columns
        np.testing.assert_allclose(h_k @ c, s_k @ c * state.eigenvalues, atol=1e-10)
    shares = solve_with_shares(h, s, KPTS[:3], np.arange(2), options=with_vectors)[1]
    np.testing.assert_allclose(shares, 0.5, atol=1e-10)
    assert kept.n_solved == 9


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-30]),
        lambda path: path.write_bytes(b"not a file of NumPy's"),
        lambda path: path.write_bytes(pickle.dumps(np.zeros(2))),
        lambda path: path.write_bytes(_flipped(path.read_bytes(), b"eigenvalues.npy", 170)),
        lambda path: np.savez(path, eigenvalues=np.array([np.nan]), first_band=0, n_removed=0),
        lambda path: np.savez(path, eigenvalues=np.array([object()])),
        lambda path: np.savez(path, eigenvalues=np.zeros(2), first_band="a", n_removed=0),
    ],
)
def test_damaged_files_are_told_of_and_written_anew(kept, damage):
    eigenvalues_at_kpts(*matrices(), KPTS, options=kept.options())
    damage(kept.files[3])
    with pytest.warns(CheckpointWarning, match=f"{kept.files[3].name} is damaged, and"):
        values = eigenvalues_at_kpts(*matrices(), KPTS, options=kept.options())
    np.testing.assert_allclose(values, closed_form(), atol=1e-10)
    assert (kept.n_solved, kept.found) == (13, [(11, 12)])
    eigenvalues_at_kpts(*matrices(), KPTS, options=kept.options())
    assert kept.found[1:] == [(12, 12)]


def _flipped(content: bytes, after: bytes, distance: int) -> bytes:
    """One bit is another."""
    place = content.index(after) + distance
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


def test_damaged_matrix_is_told_of_and_written_anew(kept):
    h, s = matrices()
    eigenvalues_at_kpts(h, s, KPTS, options=kept.options())
    files = sorted(kept.folder.glob("matrix-*.h5"))
    assert len(files) == 2
    for path in files:
        assert RealSpaceMatrix.load(path).digest[:16] == path.stem[7:]
        path.write_bytes(path.read_bytes()[:500])
    with pytest.warns(CheckpointWarning, match="is damaged") as told:
        eigenvalues_at_kpts(*matrices(), KPTS, options=kept.options())
    assert {w.message.args[0].split(" ")[0] for w in told} == {str(path) for path in files}
    assert kept.found == [(12, 12)]
    for path in files:
        assert RealSpaceMatrix.load(path).digest[:16] == path.stem[7:]


def test_ghosts_are_found_again_in_what_was_kept(kept, chain):
    """At the zone's edge S is 0.002 and the level −50 eV; see test_solve."""
    one, other = np.diag([1.0, 0.0]), np.diag([0.0, 1.0])
    pairs, kpts = chain().pairs, np.outer([0, 0.1, 0.5, 0.2, 0.49], [0, 0, 1])
    h = RealSpaceMatrix.from_blocks(pairs, [other], [0.05 * one] * 2)
    s = RealSpaceMatrix.from_blocks(pairs, [one + other], [0.499 * one] * 2)
    results = []
    for n_solved in (None, kept.diary):
        guard = Guard.of(h, s)
        before = 0 if n_solved is None else kept.n_solved
        with pytest.warns(GhostStateWarning, match="at -50 eV.*at 2 of 5 k-points"):
            values = eigenvalues_at_kpts(h, s, kpts, options=kept.options(guard=guard))
        results.append((values, guard.ghost, guard.threshold, guard.n_removed))
        after = kept.n_solved
    assert after == before  # the second time
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert results[0][1:] == results[1][1:]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="checkpoint must be a folder, got the file"):
        Checkpoint(tmp_path / "file")
