# %% [markdown]
# # A first model from nothing
#
# No file of a DFT code: structures are made, PySCF computes them (`pip install '.[pyscf]'`),
# a model learns them. Everything takes two minutes on two free cores. In a shell it is
# `hotham generate water.yaml`, `hotham train train.yaml`, `hotham bands water.xyz -m …`.

# %%
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import yaml
from ase import Atoms

from hotham_ase import HotHamCalculator, load_model
from hotham_ase.electronic import ElectronicSystem
from hotham_ase.engines.pyscf import PySCF
from hotham_ase.train.run import train

work = Path(tempfile.mkdtemp(prefix="hotham-"))

# %% [markdown]
# ## 1. Structures, and what computes them
# Water with its atoms displaced at random, PBE in the basis def2-SVP. Crystals want
# pseudopotentials and a basis of short range; docs/generate.md has silicon.


# %%
def write(name, settings):
    file = work / f"{name}.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


water = write(
    "water",
    {
        "output": "water.h5",
        "structures": [{"start": "molecule:H2O", "number": 40, "displacement": 0.06}],
        "engine": {"name": "pyscf", "xc": "pbe", "basis": "def2-svp"},
    },
)
hotham = [sys.executable, "-m", "hotham_ase"]

# %% [markdown]
# How many, how large, how long: `hotham generate water.yaml --dry-run`. The first structure is
# computed for it, and kept.

# %%
subprocess.run([*hotham, "generate", water, "--dry-run"], check=True)

# %% [markdown]
# Structures are kept one by one: a run that is killed goes on with the same command. H and S of
# each give the levels of PySCF's own run, and how exactly is noted.

# %%
subprocess.run([*hotham, "generate", water], check=True)

# %% [markdown]
# ## 2. Learn
# A small network for a minute. S is not learned: it is computed from the basis. The zero of energy
# of free molecules is the vacuum, the same for all, so that it is learned, too; that of crystals is
# arbitrary.

# %%
settings = {
    "data": "water.h5",
    "output": "run",
    "name": "water",
    "model": {"channels": 16, "hidden": 32},
    "training": {"max_time": "1min", "loss": {"energy_zero": "none"}},
    "device": "cpu",
}
model_file = train(write("train", settings))
errors = load_model(model_file).provenance["errors"]["test"]
print(f"H {errors['mae_meV']:.1f} meV, levels about the gap {errors['band_mae_meV']:.0f} meV")

# %% [markdown]
# ## 3. Use it
# The orbital energies while the molecule is bent, and those of PySCF for some of the angles. The
# training set has angles of 104° ± 8°; beyond, errors grow.


# %%
def bent(angle, bond=0.97):
    half = np.radians(angle) / 2
    return Atoms(
        "OH2",
        positions=[
            [0, 0, 0],
            [0, bond * np.sin(half), bond * np.cos(half)],
            [0, -bond * np.sin(half), bond * np.cos(half)],
        ],
    )


def levels(atoms):
    atoms.calc = HotHamCalculator(model_file)
    return atoms.calc.get_eigenvalues()[:10]


angles = np.linspace(92, 118, 14)
predicted = np.array([levels(bent(angle)) for angle in angles])
computed = {}
for angle in angles[::4]:
    sample = PySCF(xc="pbe", basis="def2-svp").calculate(bent(angle), f"angle/{angle:.0f}")
    state = ElectronicSystem.from_sample(sample).ground_state()
    computed[angle] = state.eigenvalues[0, 0, :10]
    difference = computed[angle] - predicted[angles == angle][0]
    print(f"{angle:.0f}°: levels differ by {1e3 * np.abs(difference[1:5]).mean():.0f} meV")

figure, ax = plt.subplots(figsize=(4, 4), layout="constrained")
ax.plot(angles, predicted[:, 1:5], "-", color="C0")
for angle, energies in computed.items():
    ax.plot([angle] * 4, energies[1:5], "o", color="C3")
ax.set(xlabel="H-O-H angle (degrees)", ylabel="energy (eV)", title="filled orbitals of water")
figure.savefig("water_levels.png", dpi=150)
