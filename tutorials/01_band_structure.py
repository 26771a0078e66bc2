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
# Nothing is computed until something is asked for. `kpts` is a Γ-centred mesh, the one for charges
# and occupations; the Fermi level, like gap and edges, is that of the material: it is searched for
# between the k-points of the mesh.

# %%
atoms = graphene(a=2.46)
calc = HotHamCalculator("carbon", kpts=(12, 12, 1))
atoms.calc = calc

bands = calc.get_band_structure()
print("path:", bands.path.path, " Fermi level:", round(calc.get_fermi_level(), 3), "eV")
bands.plot(emin=-10, emax=10, filename="graphene_bands.png")

# %% [markdown]
# ## The Dirac point
# Symmetry makes the two π bands touch at K. The model is exactly equivariant, so they do, to the
# rounding of single precision, and graphene has no gap, however coarse the mesh.

# %%
edges = calc.get_band_edges()
print("bands touch at", edges.k_direct.round(4), "to", f"{1000 * edges.direct_gap:.4f} meV")
assert edges.is_semimetal
assert np.allclose(abs(edges.k_direct), (1 / 3, 1 / 3, 0), atol=1e-4)

# %% [markdown]
# ## Density of states, total and by orbital
# The mesh is refined until the density of states stands still, with bands interpolated in between.
# About the Fermi level all is π: p_z and the d orbitals that change sign with it under reflection.

# %%
dos = calc.get_dos(projections="orbital", shares="lowdin")
print("mesh:", dos[0].info["mesh"])
near = np.abs(dos.get_energies() - calc.get_fermi_level()) < 1
total = dos.sum_all().get_weights()[near].sum()
share = {part.info["label"]: part.get_weights()[near].sum() / total for part in dos}
print("within 1 eV:", {label: round(float(x), 3) for label, x in share.items() if x > 0.001})
assert share["C p_z"] + share["C d_xz"] + share["C d_yz"] > 0.999

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
    strained.calc = HotHamCalculator("carbon", kpts=(12, 12, 1))
    at_m = strained.calc.get_band_structure(path="GM", npoints=2).energies[0, -1]
    splitting = at_m[4] - at_m[3]  # two atoms have eight valence electrons, and four full bands
    print(f"strain {strain:+.2f}: π and π* are {splitting:.2f} eV apart at M")
