# %% [markdown]
# # From your DFT runs to a model that you can trust
#
#     python tutorials/03_train_on_your_dft_data.py RUN_FOLDER ...
#
# with folders of finished ABACUS, DeepH or DeePTB calculations; without any, five silicon cells
# that come with the tutorials are taken. Each step has a command: `hotham import`, `hotham check`,
# `hotham train --init`, `hotham train`, `hotham evaluate`.

# %%
import sys
import tempfile
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import yaml

from hotham_ase import Dataset, HotHamCalculator, load_model
from hotham_ase.dataset import check_dataset, import_folders
from hotham_ase.evaluation.evaluate import evaluate
from hotham_ase.model.uncertainty import ExtrapolationWarning
from hotham_ase.train.run import train
from hotham_ase.train.template import template

work = Path(tempfile.mkdtemp(prefix="hotham-"))
runs = [path for path in sys.argv[1:] if Path(path).is_dir()]

# %% [markdown]
# ## 1. Collect and examine
# `import_folders` reads what it can and says what it skipped and why. The examination finds the
# mistakes that cost weeks when a training finds them: H of an unconverged run, S of another basis,
# folded coordinates, the same structure twice.

# %%
data = Path(__file__).parent / "data" / "silicon.h5"
if runs:
    data = work / "data.h5"
    for folder, reason in import_folders(runs, data).skipped:
        print("skipped", folder, reason)
for finding in check_dataset(data):
    print(finding.severity, finding.structure, finding.message)

# %% [markdown]
# ## 2. One file says everything
# `template` (`hotham train --init data.h5`) writes every setting with its default and its meaning.
# Most runs change the time only: the learning rate falls to zero in it, so that the model is the
# best one of that time. Here it is half a minute; give it an hour. The small network is for the
# hurry too.

# %%
print("\n".join(template(data).splitlines()[:6]), "\n…")
settings = {
    "data": str(data),
    "output": "run",
    "name": "mine",
    "model": {"channels": 8, "hidden": 32, "convolutions": ["gaunt"]},
    "split": {"train": 0.6, "validation": 0.2, "test": 0.2},
    "training": {"max_time": "30s"},
    "device": "cpu",
}
config = work / "mine.yaml"
config.write_text(yaml.safe_dump(settings))
model_file = train(config)

# %% [markdown]
# ## 3. How good is it?
# The test structures were not seen in any way. The report is one page with tables, parity, errors
# against distance, bands over the reference's, and whether errors were as large as expected.
#
# Half a minute gives H to 4 to 10 meV, by the machine, and bands to some 400 meV, which shows that
# the training works and is good for nothing else. Bands are what to judge by: with twelve cells and
# twelve minutes their error is 8 meV, that of H 0.25 meV (docs/training.md, what error in what
# time).

# %%
model = load_model(model_file)
test = model.provenance["errors"]["test"]
print(f"H {test['mae_meV']:.1f} meV, bands within 5 eV of E_F {test['band_mae_meV']:.0f} meV")
evaluate(model, data, report=work / "report.html")
print("report:", work / "report.html")

# %% [markdown]
# ## 4. Where may it be used?
# A model knows which errors to expect of each block, calibrated on the validation structures, and
# the calculator warns of atoms that are unlike everything in the training set. Displace the atoms
# of a training structure more and more:

# %%
with Dataset(data) as structures:
    known = structures.names.index(model.provenance["split"]["train"][0])
    start = structures.atoms(known)
amplitudes = np.array([0.0, 0.05, 0.1, 0.2, 0.3, 0.4])
expected, beyond = [], []
for amplitude in amplitudes:
    atoms = start.copy()
    atoms.rattle(amplitude, seed=1)
    atoms.calc = HotHamCalculator(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExtrapolationWarning)  # it is looked at below
        uncertainty = atoms.calc.get_uncertainty()
    expected.append(1e3 * uncertainty.rms_error)
    beyond.append(len(uncertainty.extrapolating_atoms))
    print(
        f"σ {amplitude:.2f} Å: expected error {expected[-1]:5.1f} meV, "
        f"{beyond[-1]} of {len(atoms)} atoms extrapolate"
    )

figure, ax = plt.subplots(figsize=(4, 3), layout="constrained")
ax.plot(amplitudes, expected, "o-", label="within the training set")
strange = np.array(beyond) > 0
ax.plot(amplitudes[strange], np.array(expected)[strange], "o", color="C3", label="extrapolation")
ax.set(xlabel="added displacement σ (Å)", ylabel="expected error of H (meV)", ylim=0)
ax.legend()
figure.savefig("expected_errors.png", dpi=150)

# %% [markdown]
# ## 5. Go on from it
# Calculate structures that were flagged, and go on from the model: `init_from` with a smaller
# learning rate. `init_from: carbon` starts from the bundled model in the same way, and species that
# it does not know are added.

# %%
more = {key: value for key, value in settings.items() if key not in ("model", "name", "output")} | {
    "init_from": str(model_file),
    "name": "refined",
    "output": "refined",
    "training": {"max_time": "10s", "learning_rate": 0.002},
}
config.with_name("refined.yaml").write_text(yaml.safe_dump(more))
refined = load_model(train(config.with_name("refined.yaml")))
print(f"H after going on: {refined.provenance['errors']['test']['mae_meV']:.1f} meV")
