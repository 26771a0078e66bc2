"""Wannier90's files between Löwdin's orbitals, out: for tools that know tight binding.

``_hr.dat`` has H(R), ``_tb.dat`` also the position matrix; ``.win`` and ``_centres.xyz`` are what
PythTB and others need beside them. Numbers have 11 digits, where Wannier90 itself writes 6 or 8.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hotham_ase.dft.format import Format
from hotham_ase.dft.orthonormal import ERROR, orthonormal, spin_fastest
from hotham_ase.dft.rearranged import in_full_cell
from hotham_ase.dft.sample import Sample
from hotham_ase.electronic.lowdin import OrthogonalMatrices
from hotham_ase.files import new_folder
from hotham_ase.matrices.spin import Spin
from hotham_ase.overlap import position_matrix

SEED = "hotham"


def write_wannier90(sample: Sample, folder: str | Path, *, error: float = ERROR) -> None:
    """Write a sample as Wannier90 would its Wannier functions, whole or not at all.

    The functions are Löwdin's orbitals, see :mod:`hotham_ase.electronic.lowdin`, in the order of
    the sample's atoms, shells and m = −l … l; of spinors up and down one after the other for each.
    The mesh and the error of levels between its points are in the first line of the files.
    ``_tb.dat`` is written where radial functions are known. Collinear spins get the seed names
    ``hotham_up`` and ``hotham_dn``.

    Parameters
    ----------
    sample
        What to write.
    folder
        Must not exist yet.
    error
        eV; what levels may be off. Ten times less needs a mesh some Å longer.

    Raises
    ------
    OrthogonalizationError
        If S is not positive definite.
    FileExistsError
        If the folder exists.

    Warns
    -----
    UserWarning
        If no mesh that fits makes the error as small.
    """
    has_position = sample.basis.subset(sample.atoms.symbols).has_radial
    position = position_matrix(sample.atoms, sample.basis) if has_position else None
    matrices = orthonormal(sample, error, position)
    spin = sample.hamiltonian.spin
    seeds = [f"{SEED}_up", f"{SEED}_dn"] if spin is Spin.POLARIZED else [SEED]
    sample = in_full_cell(sample)
    header = _header(sample, matrices)
    with new_folder(folder) as temporary:
        for channel, seed in enumerate(seeds):
            _write_channel(sample, matrices, channel, temporary / seed, header)


def _header(sample: Sample, matrices: OrthogonalMatrices) -> str:
    from hotham_ase import __version__

    mesh = "x".join(map(str, matrices.mesh))
    # the sample's name would do no harm but where it is that of a temporary folder
    code = sample.provenance.extra.get("hotham_model") or sample.provenance.code
    origin = f"{sample.atoms.get_chemical_formula()} by {code or 'an unknown code'}"
    text = (
        f"hotham_ase {__version__}: {origin}, "
        f"Loewdin's orbitals on a mesh of {mesh}, levels within {matrices.error:.1e} eV"
    )
    spinors = ", up and down of each orbital" if sample.hamiltonian.spin.is_spinor else ""
    return (text + spinors).encode("ascii", "replace").decode()  # a model may have any name


def _write_channel(
    sample: Sample, matrices: OrthogonalMatrices, channel: int, seed: Path, header: str
) -> None:
    """The files of one seed name."""
    order = spin_fastest(sample)
    h = matrices.hamiltonian[channel][:, order[:, None], order]
    r = matrices.position
    r = None if r is None else r[:, :, order[:, None], order]
    name = seed.name
    with seed.with_name(f"{name}_hr.dat").open("w", encoding="ascii") as file:
        file.write(_head(header, [], matrices, len(order)))
        for shift, block in zip(matrices.shifts.tolist(), h, strict=True):
            file.write(_rows(block[None], "{:5d}{:5d}{:5d}".format(*shift)))
    if r is not None:
        with seed.with_name(f"{name}_tb.dat").open("w", encoding="ascii") as file:
            file.write(_head(header, list(_lines(sample.atoms.cell[:])), matrices, len(order)))
            for parts in (h[None], r):
                for shift, block in zip(
                    matrices.shifts.tolist(), parts.swapaxes(0, 1), strict=True
                ):
                    file.write("\n{:5d}{:5d}{:5d}\n".format(*shift) + _rows(block, ""))
    seed.with_name(f"{name}.win").write_text(_win(sample, matrices, header))
    centres = _centres(sample, r, matrices)
    seed.with_name(f"{name}_centres.xyz").write_text(_centres_text(sample, centres, header))


def _head(header: str, cell: list[str], matrices: OrthogonalMatrices, n_rows: int) -> str:
    counts = [f"{n:5d}" for n in matrices.degeneracies]
    lines = ["".join(counts[k : k + 15]) for k in range(0, len(counts), 15)]
    return "\n".join([f" {header}", *cell, f"{n_rows:12d}", f"{len(counts):12d}", *lines, ""])


def _rows(block: np.ndarray, shift: str) -> str:
    """Elements (i, j) with i running fastest; one or three complex numbers each."""
    n = block.shape[-1]
    j, i = np.divmod(np.arange(n * n), n)
    parts = block[:, i, j]
    numbers = np.stack([parts.real, parts.imag], axis=-1).swapaxes(0, 1).reshape(n * n, -1)
    form = shift + "%5d%5d" + "%18.10e" * numbers.shape[1] + "\n"
    table = np.column_stack([i + 1, j + 1, numbers])
    return (form * (n * n)) % tuple(table.ravel().tolist())


def _lines(rows: np.ndarray) -> Iterator[str]:
    return ("".join(f"{x:18.12f}" for x in row) for row in rows)


def _win(sample: Sample, matrices: OrthogonalMatrices, header: str) -> str:
    """What readers look up: cell, atoms and mesh."""
    atoms = sample.atoms
    n_rows = matrices.hamiltonian.shape[-1]
    lines = [f"! {header}", f"num_wann = {n_rows}", f"num_bands = {n_rows}"]
    lines += [f"mp_grid = {' '.join(map(str, matrices.mesh))}"]
    if sample.hamiltonian.spin.is_spinor:
        lines += ["spinors = .true."]
    if sample.fermi_level is not None:
        lines += [f"fermi_energy = {sample.fermi_level:.10f}"]
    lines += ["", "begin unit_cell_cart", "ang", *_lines(atoms.cell[:]), "end unit_cell_cart"]
    rows = zip(atoms.symbols, _lines(atoms.positions), strict=True)
    lines += ["", "begin atoms_cart", "ang", *(f"{s:3s}{row}" for s, row in rows), "end atoms_cart"]
    return "\n".join(lines) + "\n"


def _centres(sample: Sample, r: np.ndarray | None, matrices: OrthogonalMatrices) -> np.ndarray:
    """(n_rows, 3) Å: ⟨φ̃|r|φ̃⟩, or the atoms where r is not known."""
    if r is not None:
        home = np.flatnonzero(~matrices.shifts.any(axis=1))[0]
        return np.diagonal(r[:, home].real, axis1=1, axis2=2).T
    h = sample.hamiltonian
    return np.repeat(sample.atoms.positions, h.n_orbitals * (2 if h.spin.is_spinor else 1), axis=0)


def _centres_text(sample: Sample, centres: np.ndarray, header: str) -> str:
    atoms = sample.atoms
    symbols = ["X"] * len(centres) + atoms.get_chemical_symbols()
    rows = _lines(np.concatenate([centres, atoms.positions]))
    lines = [str(len(symbols)), header, *(f"{s:3s}{r}" for s, r in zip(symbols, rows, strict=True))]
    return "\n".join(lines) + "\n"


FORMAT = Format(
    name="Wannier90",
    files=f"{SEED}_hr.dat and {SEED}_tb.dat",
    convention="wiki",
    write=write_wannier90,
    written_spins=tuple(Spin),
    word="wannier90",
    purpose="WannierBerri, PythTB, TBmodels, Z2Pack",
)
