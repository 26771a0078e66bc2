# %% [markdown]
# # A twisted bilayer, as if it were a large one
#
# Bands, density of states and maps of a moiré cell without all of its eigenvalues. Here it has 148
# atoms, so that this takes two minutes; every line is the same for the 11 164 atoms of magic-angle
# graphene, `twisted-graphene:30,31`, which take hours. On the command line the bands are
#
#     hotham bands twisted-graphene:3,4 --n-bands 24 --path GMKG --npoints 13 --checkpoint kept

# %%
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from hotham_ase import HotHamCalculator, build_structure
from hotham_ase.electronic import Checkpoint
from hotham_ase.electronic.dos import layers
from hotham_ase.plotting import plot_bands, plot_dos, plot_states_on_atoms

atoms = build_structure("twisted-graphene:3,4")
print(f"{len(atoms)} atoms, {atoms.info['twist_angle']:.2f}°")

# %% [markdown]
# ## Plan first
# Pairs of atoms are listed and the factorization is analysed, nothing more: what will it take, and
# which way is taken? A real H(k), as at Γ and M, takes half of the memory of a complex one. Plans
# of 11 164 atoms take seconds, too. (`pip install mkl` brings the fastest way.)

# %%
calc = atoms.calc = HotHamCalculator("carbon", kpts=(1, 1, 1), n_bands=24, checkpoint="kept")
plan = calc.get_plan("GMKG", 13)
for kind in plan.kinds:
    print(f"{kind.n_kpts} k-points where H(k) is {kind.name}")
    for way in kind.ways:
        taken = "  <- taken" if way.is_taken else ""
        print(f"    {way.name:45} {way.bytes / 2**20:6.0f} MiB {way.seconds:6.1f} s{taken}")
large = build_structure("twisted-graphene:8,9")
of_large = calc.get_plan("GMKG", 13, atoms=large)
print(f"{len(large)} atoms: about {of_large.solving_seconds / 60:.0f} minutes on one core")

# %% [markdown]
# ## A few bands, counted
# 24 bands about the Fermi level, half of them filled. Those below are counted, so that none is
# missing. Each k-point is kept in the folder `kept` as soon as it is solved.

# %%
bands = calc.get_band_structure("GMKG", 13)
assert bands.energies.shape[2] == 24
print(f"{len(list(Path('kept').glob('*.npz')))} k-points kept")

# %% [markdown]
# A run that was killed goes on there: H is predicted again, k-points are not solved again.


# %%
def found(n: int, n_kpts: int) -> None:
    print(f"{n} of {n_kpts} k-points are there")


another = HotHamCalculator(
    "carbon", kpts=(1, 1, 1), n_bands=24, checkpoint=Checkpoint(Path("kept"), on_found=found)
)
again = another.get_band_structure("GMKG", 13, atoms=atoms)
assert np.array_equal(bands.energies, again.energies)

# %% [markdown]
# ## A density of states without bands
# The kernel polynomial method: traces of polynomials of S⁻¹H over random vectors, with standard
# errors, which fall with the number of vectors and of atoms. It has all states of an interval, not
# only those of 24 bands, and never needs more memory than factors of S.

# %%
level = bands.reference
density = calc.get_estimated_dos(0.5, energies=(level - 6, level + 6))
below, error = (
    np.interp(level, density.bounds, values) for values in (density.counts, density.count_errors)
)
print(f"{density.n_moments} moments of {density.n_vectors} vectors: {below:.0f} ± {error:.0f} of")
print(f"{4 * len(atoms)} electrons lie below the Fermi level")
assert abs(below - 4 * len(atoms)) < 5 * error

# %% [markdown]
# ## Where states are
# Each atom's part of the states within 0.6 eV of the Fermi level, in the upper layer; the mesh has
# K, where the Dirac cones of both layers lie. The layers turn about two atoms above one another, so
# that AA stacking is at the corners of the cell. There they are 8 % denser; the smaller the
# angle, the more of them, and at 1.08° most of the flat bands, is there.

# %%
states = calc.get_states_on_atoms((-0.6, 0.6), kpts=(3, 3, 1))
top = layers(calc.get_hamiltonian().pairs) == 1
from_corner = atoms.get_scaled_positions()
from_corner -= np.round(from_corner)
is_aa = np.linalg.norm((from_corner @ atoms.cell[:])[:, :2], axis=1) < 3
ratio = states[top & is_aa].mean() / states[top].mean()
print(f"{states.sum():.2f} states; atoms at AA stacking have {ratio:.2f} times the mean")
assert ratio > 1

# %% [markdown]
# ## One picture

# %%
figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
plot_bands(bands, window=(-2, 2), ax=axes[0])
plot_dos([density.total()], level, window=(-6, 6), errors=density.errors, ax=axes[1])
plot_states_on_atoms(atoms[top], states[top], ax=axes[2])
figure.savefig("twisted_bilayer.png", dpi=150)
