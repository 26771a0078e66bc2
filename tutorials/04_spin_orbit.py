# %% [markdown]
# # Spin-orbit coupling without learning it
#
# In one layer of MoS2 spin-orbit coupling splits the valence band at K into a state of spin up and
# one of spin down; at −K their order is reversed. The model `mos2` was trained without spin: the
# coupling is a part of the pseudopotentials, which the model file has, and is computed from them.
# On the command line that is
#
#     hotham bands mos2 --spin-orbit

# %%
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from hotham_ase import HotHamCalculator
from hotham_ase.electronic import eigenvalues_at_kpts
from hotham_ase.plotting import plot_bands
from hotham_ase.structures import build_structure

atoms = build_structure("mos2")
calc = atoms.calc = HotHamCalculator("mos2")
without = calc.get_band_structure("GMKG")
gap_without = calc.get_band_gap(direct=True)

# %% [markdown]
# ## With coupling
# H(R) is not predicted again: i Σ B_a σ_a is added, with B_x, B_y, B_z from the pseudopotentials
# and Pauli matrices σ. Every state holds one electron now, and there are twice as many.

# %%
calc.set(spin_orbit=True)
bands = calc.get_band_structure("GMKG")
print(f"{without.energies.shape[2]} bands without coupling, {bands.energies.shape[2]} with it")
print(f"direct gap {gap_without:.3f} eV without, {calc.get_band_gap(direct=True):.3f} eV with")

# %% [markdown]
# ## The valleys
# The two highest valence bands at K and −K, and the spins of their states in ħ. Experiments see a
# splitting of about 0.15 eV. Spins are along z, since the layer is its own mirror image in the
# plane of Mo: a spin in that plane would be turned round by the mirror.

# %%
valleys = np.array([[1 / 3, 1 / 3, 0], [-1 / 3, -1 / 3, 0]])
levels = eigenvalues_at_kpts(calc.get_hamiltonian(), calc.get_overlap(), valleys)[0]
spins = calc.get_spin_texture(valleys)
n_filled = round(calc.model.basis.n_electrons(atoms.numbers))
top = slice(n_filled - 2, n_filled)
for name, energies, spin in zip(("K", "−K"), levels[:, top], spins[:, top], strict=True):
    print(f"{name}: split by {1e3 * np.ptp(energies):.1f} meV, S_z {spin[:, 2].round(3)}")

# %% [markdown]
# ## One picture
# From Γ to M, where the path lies in another mirror plane, bands come in pairs without spin (grey).
# From M to K and back to Γ they are split.

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
plot_bands(without, window=(-4, 4), ax=axes[0])
plot_bands(bands, window=(-4, 4), spins=calc.get_spin_texture(bands.path)[..., 2], ax=axes[1])
axes[0].set_title("without coupling")
axes[1].set_title("with coupling")
figure.savefig("mos2.png", dpi=150)
