# %% [markdown]
# # Bands and density of states of graphene
#
# The bundled `carbon` model predicts the DFT Hamiltonian (PBE, 2s2p1d numerical orbitals) of carbon
# structures. Everything below follows from that one prediction. Run it with
# `python tutorials/01_band_structure.py`; the pictures are written to the current folder.

# %%
import matplotlib

matplotlib.use("Agg")
import numpy as np
from ase.build import graphene

from hotham_ase import HotHamCalculator

# %% [markdown]
# ## One structure, one calculator
# Nothing is computed until something is asked for.

# %%
atoms = graphene(a=2.46)
calc = HotHamCalculator("carbon", kpts={"size": (12, 12, 1), "gamma": True})
atoms.calc = calc

bands = calc.get_band_structure(npoints=120)
print("path:", bands.path.path, " Fermi level:", round(calc.get_fermi_level(), 3), "eV")
bands.plot(emin=-10, emax=10, filename="graphene_bands.png")

# %% [markdown]
# ## The Dirac point
# Symmetry makes the two π bands touch at K. The model is exactly equivariant, so they do, to the
# rounding of single precision.

# %%
at_k = calc.get_band_structure(path="GK", npoints=2).energies[0, -1]
highest = len(atoms) * 4 // 2 - 1  # four valence electrons per atom, two per band
gap = at_k[highest + 1] - at_k[highest]
print(f"gap at K: {1000 * gap:.4f} meV")
assert gap < 5e-3

# %% [markdown]
# ## Density of states, total and by orbital

# %%
dos = calc.get_dos(kpts={"size": (36, 36, 1), "gamma": True}, sigma=0.15)
inside = np.abs(dos.get_energies() - calc.get_fermi_level()) < 0.1
print("DOS at the Fermi level:", dos.get_weights()[inside].mean().round(3), "states/eV/cell")

# %% [markdown]
# ## The matrices themselves
# H(R) and S(R) are ordinary sparse matrices: take them wherever you like.

# %%
h, s = calc.get_hamiltonian(), calc.get_overlap()
h_k, s_k = h.at_k((1 / 3, 1 / 3, 0)), s.at_k((1 / 3, 1 / 3, 0))
print("H(K):", h_k.shape, "with", h_k.nnz, "elements;", h.pairs.n_edges, "pairs in real space")

# %% [markdown]
# ## Strain
# A new geometry is a new prediction; k-points alone are not. At M the two π bands are twice the
# hopping apart, so stretching the bonds brings them together.

# %%
for strain in (-0.02, 0.0, 0.02):
    strained = atoms.copy()
    strained.set_cell(atoms.cell[:] * (1 + strain), scale_atoms=True)
    strained.calc = HotHamCalculator("carbon", kpts={"size": (12, 12, 1), "gamma": True})
    at_m = strained.calc.get_band_structure(path="GM", npoints=2).energies[0, -1]
    splitting = at_m[highest + 1] - at_m[highest]
    print(f"strain {strain:+.2f}: π and π* are {splitting:.2f} eV apart at M")
