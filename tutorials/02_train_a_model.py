# %% [markdown]
# # Train a model on DFT results
#
# Five silicon cells of eight displaced atoms, computed with ABACUS (PBE, 2s2p1d), lie in
# `tutorials/data/silicon.h5`. For your own runs, `hotham import RUN_FOLDER... -o data.h5` makes
# such a file and `hotham check data.h5` examines it.

# %%
import tempfile
from pathlib import Path

import yaml
from ase.build import bulk

from hotham_ase import Dataset, HotHamCalculator, load_model
from hotham_ase.train.run import read_log, train

data = Path(__file__).parent / "data" / "silicon.h5"
with Dataset(data) as structures:
    print(len(structures), "structures, orbitals:", structures.basis["Si"].label)

# %% [markdown]
# ## Configuration
# One YAML file says everything; keys that are left out have documented defaults. This network is
# small and the run short: half a minute on a CPU, not a production model.

# %%
folder = Path(tempfile.mkdtemp(prefix="hotham-"))
settings = {
    "data": str(data),
    "name": "silicon",
    "output": "run",
    "model": {"channels": 8, "hidden": 32, "message_cutoff": 4.5},
    "split": {"train": 0.6, "validation": 0.2, "test": 0.2},
    "training": {"max_epochs": 60, "learning_rate": 0.01},
    "device": "cpu",
}
(folder / "silicon.yaml").write_text(yaml.safe_dump(settings))

# %% [markdown]
# The same run from a shell: `hotham train silicon.yaml`, and `hotham train silicon.yaml --resume`
# after an interruption.

# %%
model_file = train(folder / "silicon.yaml")
log = read_log(folder / "run")
print(f"training error {log['train_mae_meV'][0]:.1f} → {log['train_mae_meV'][-1]:.1f} meV")
errors = load_model(model_file).provenance["errors"]["test"]
print(f"error on the structure not trained on: {errors['mae_meV']:.1f} meV")

# %% [markdown]
# ## Use it
# The file holds weights, orbitals, electron counts and the record of its training.

# %%
atoms = bulk("Si", "diamond", a=5.43)
atoms.calc = HotHamCalculator(model_file, kpts=(4, 4, 4))
bands = atoms.calc.get_band_structure(path="LGX", npoints=40)
bands.plot(emin=-8, emax=8, filename="silicon_bands.png")
print(f"gap: {atoms.calc.get_band_gap():.2f} eV")
