# %% [markdown]
# # From your DFT code to every tool
#
#     python tutorials/07_your_dft_code.py RUN_FOLDER
#
# with a finished run of OpenMX, SIESTA, CP2K or ABACUS without magnetism (docs/data.md says with
# which keywords); by default it is graphene by CP2K 2023.1, PBE in a minimal basis. No model and no
# training is needed: the run's own H and S are read, give bands, and go on to other codes.

# %%
import sys
import tarfile
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np

from hotham_ase import Dataset, read_sample
from hotham_ase.dataset import import_folders
from hotham_ase.dft import ExportError, to_sisl, write_sample
from hotham_ase.electronic import ElectronicSystem, eigenvalues_at_kpts
from hotham_ase.plotting import plot_bands

work = Path(tempfile.mkdtemp(prefix="hotham-"))
if sys.argv[1:] and Path(sys.argv[1]).is_dir():
    run, path = Path(sys.argv[1]), None  # ASE's path of the lattice
else:
    with tarfile.open(Path(__file__).parent / "data" / "graphene_cp2k.tar.xz") as archive:
        archive.extractall(work, filter="data")
    run, path = work / "graphene_cp2k", "GMKG"

# %% [markdown]
# ## Read
# The code is recognised from the files. Orders, signs and units of all codes become one: Å, eV,
# real harmonics m = −l … l, H_ij(R) between cell 0 and cell R. Levels that the run printed must
# come out of H and S within 1e-4 eV, or reading fails; here 31 k-points agree to 2e-7 eV.

# %%
sample = read_sample(run)
h, s = sample.hamiltonian, sample.overlap
print(f"{sample.atoms.symbols} by {sample.provenance.code}, {sample.provenance.xc or 'DFT'}")
print(f"orbitals: {', '.join(f'{one.symbol} {one.label}' for one in sample.basis.species)}")
print(f"{h.pairs.n_edges} pairs of atoms, eigenvalues of the run: {sample.provenance.eigenvalues}")

# %% [markdown]
# ## Bands
# H(k) = Σ_R exp(2πi k·R) H(R), S(k) likewise, and H(k) C = S(k) C ε: the bands that DFT has in this
# basis, at any k-point and without another DFT calculation. The run had 9 × 9 k-points; Fermi
# level and edges are those of the material, searched for between them.

# %%
system = ElectronicSystem.from_sample(sample)
bands = system.band_structure(path)
edges = system.band_edges()
print(f"path {bands.path.path}, Fermi level {system.fermi_level():.3f} eV, gap {edges.gap:.3f} eV")
print("smallest direct gap at", edges.k_direct.round(4))

# %% [markdown]
# ## A data set
# `hotham import RUN_FOLDER ... -o data.h5` on the command line. ASE knows these files, too:
# `ase gui data.h5`, `ase.io.read("data.h5@0")`.

# %%
import_folders([run], work / "data.h5")
with Dataset(work / "data.h5") as dataset:
    stored = dataset[0]
difference = np.abs((stored.hamiltonian - h).values).max()
print(f"{dataset.path.stat().st_size >> 10} KiB, H differs by {difference:.1e} eV")

# %% [markdown]
# ## To Wannier90's readers
# `hotham convert RUN_FOLDER PATH --to wannier90`. Most tight-binding tools know no overlap, so
# these files are between Löwdin's orthonormal orbitals, which reach farther than ours; the first
# line says how far levels are off. A dozen lines read such a file, with nothing of hotham_ase, and
# find the dots of the picture:

# %%
write_sample(stored, work / "w90", "wannier90")


def read_hr(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3) lattice vectors R, and (n, n_wann, n_wann) H(R) over its weight in a _hr.dat."""
    lines = path.read_text().splitlines()
    print(lines[0])
    n_wann, n_cells = int(lines[1]), int(lines[2])
    n_head = 3 + (n_cells + 14) // 15  # weights are fifteen to a line
    weights = np.array(" ".join(lines[3:n_head]).split(), dtype=int)
    table = np.loadtxt(lines[n_head:]).reshape(n_cells, n_wann, n_wann, 7)
    hoppings = (table[..., 5] + 1j * table[..., 6]).swapaxes(1, 2)  # rows run fastest
    return table[:, 0, 0, :3], hoppings / weights[:, None, None]


kpts = bands.path.kpts[::10]
ours = eigenvalues_at_kpts(h, s, kpts)[0]
shifts, hoppings = read_hr(work / "w90" / "hotham_hr.dat")
theirs = [
    np.linalg.eigvalsh(np.tensordot(np.exp(2j * np.pi * shifts @ kpt), hoppings, 1)) for kpt in kpts
]
error = np.abs(theirs - ours).max()
print(f"Wannier90: {1e3 * error:.3f} meV at {len(kpts)} k-points")
assert error < 5e-3

axes = plot_bands(bands, window=(-22, 18))
distances = bands.get_labels()[0][::10]
axes.plot(distances, np.array(theirs) - bands.reference, "o", color="C3", ms=3)
axes.figure.savefig("bands_of_the_run.png", dpi=150)

# %% [markdown]
# `write_wannier90(sample, folder, error=1e-5)` of `hotham_ase.dft.wannier90` takes more cells and
# is closer. Formats that have S keep H and S as they are, so that nothing is lost.
#
# ## To DeepH
# The files are those that DeepH is trained on; hotham_ase reads them as well.

# %%
write_sample(stored, work / "deeph", "deeph")
back = read_sample(work / "deeph")
error = np.abs(eigenvalues_at_kpts(back.hamiltonian, back.overlap, kpts)[0] - ours).max()
print(f"DeepH: {1e3 * error:.6f} meV")
assert error < 1e-6

# %% [markdown]
# ## To sisl, and by it to TBtrans
# `to_sisl` gives sisl's own object, which finds these levels by itself (`pip install sisl`).

# %%
try:
    hamiltonian = to_sisl(stored)
except ExportError as error:
    print(error)
else:
    error = np.abs([hamiltonian.eigh(kpt) for kpt in kpts] - ours).max()
    print(f"sisl: {1e3 * error:.6f} meV")
    assert error < 1e-6

# %% [markdown]
# `hotham formats` lists all formats, docs/exports.md has what to know of each.
#
# ## Where to go
# - A model of your material: calculate some tens of displaced and strained cells with the same
#   orbitals, and give their folders to `03_train_on_your_dft_data.py`.
# - The model's H of structures that are too large for DFT goes to the same tools:
#   `hotham export MODEL STRUCTURE --to wannier90 -o PATH`.
# - Densities of states, charges, states on atoms: `ElectronicSystem` has what the calculator of
#   `01_band_structure.py` has.
