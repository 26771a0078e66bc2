"""DeepH folders of the layout that DeepH-dock and DeepH-pack have used since 2025, out.

``POSCAR`` with atoms sorted by element, ``info.json``, and one HDF5 file for each matrix:
``atom_pairs`` (n_blocks, 5), Rx, Ry, Rz, i and j from 0; the blocks one after another in
``entries``, each beginning at one of ``chunk_boundaries``, of the shapes ``chunk_shapes``. H and S
have the same pairs. Blocks are in eV; of spinors [[uu, ud], [du, dd]], and S that of one spin.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from hotham_ase.dft.format import Format
from hotham_ase.dft.h5blocks import blocks_of, our_info
from hotham_ase.dft.rearranged import by_element
from hotham_ase.dft.sample import ExportError, Sample
from hotham_ase.files import new_folder
from hotham_ase.hdf5 import reserve, write_hdf5
from hotham_ase.matrices.realspace import RealSpaceMatrix
from hotham_ase.matrices.spin import Spin

H_FILE, S_FILE = "hamiltonian.h5", "overlap.h5"


def write_deeph_new(sample: Sample, folder: str | Path) -> None:
    """Write a sample as a DeepH folder of the newer layout, whole or not at all.

    Atoms are sorted by element and put into the cell. ``info.json`` gets an entry ``hotham_ase``
    as in :func:`hotham_ase.dft.deeph.write_deeph`.

    Parameters
    ----------
    sample
        What to write.
    folder
        Must not exist yet.

    Raises
    ------
    ExportError
        If the Fermi level is not known: the format demands one.
    FileExistsError
        If the folder exists.
    """
    if sample.fermi_level is None:
        raise ExportError(f"DeepH's newer format needs a Fermi level, and {sample.name} has none")
    sample = by_element(sample)
    h, s = sample.hamiltonian, sample.overlap
    pairs = h.pairs.union(s.pairs)
    symbols = list(dict.fromkeys(sample.atoms.get_chemical_symbols()))
    info = {
        "atoms_quantity": len(sample.atoms),
        "orbits_quantity": h.n_basis,
        "orthogonal_basis": False,
        "spinful": h.spin is not Spin.UNPOLARIZED,
        "fermi_energy_eV": sample.fermi_level,
        "elements_orbital_map": {symbol: sample.basis[symbol].shells for symbol in symbols},
        "occupation": sample.n_electrons,
        "hotham_ase": our_info(sample),
    }
    with new_folder(folder) as temporary:
        (temporary / "POSCAR").write_text(_poscar(sample))
        (temporary / "info.json").write_text(json.dumps(info, indent=1))
        _write_matrix(sample, h.on_pairs(pairs), temporary / H_FILE)
        _write_matrix(sample, s.on_pairs(pairs), temporary / S_FILE)


def _poscar(sample: Sample) -> str:
    """VASP's file of a structure, with all digits, which ASE's does not keep."""
    atoms = sample.atoms
    symbols = atoms.get_chemical_symbols()
    kinds = list(dict.fromkeys(symbols))
    lines = [atoms.get_chemical_formula(), "1.0"]
    lines += [" ".join(f"{x:.16f}" for x in vector) for vector in atoms.cell[:]]
    lines += [" ".join(kinds), " ".join(str(symbols.count(kind)) for kind in kinds), "Cartesian"]
    lines += [" ".join(f"{x:.16f}" for x in position) for position in atoms.positions]
    return "\n".join(lines) + "\n"


def _write_matrix(sample: Sample, matrix: RealSpaceMatrix, path: Path) -> None:
    names, blocks = [], []
    for i, j, shift, block in blocks_of(matrix, sample, FORMAT.convention):
        names.append((*shift, i, j))
        blocks.append(block)
    with write_hdf5(path) as file:
        reserve(file, sum(block.nbytes for block in blocks) + 64 * len(blocks))
        file["atom_pairs"] = np.array(names, dtype=np.int64)
        file["chunk_shapes"] = np.array([block.shape for block in blocks], dtype=np.int64)
        file["chunk_boundaries"] = np.cumsum([0, *(block.size for block in blocks)])
        file["entries"] = np.concatenate([block.ravel() for block in blocks])


FORMAT = Format(
    name="DeepH, newer",
    files="hamiltonian.h5 and POSCAR",
    convention="wiki",
    write=write_deeph_new,
    written_spins=tuple(Spin),
    word="deeph-new",
    purpose="DeepH-dock, DeepH-pack since 2025",
)
