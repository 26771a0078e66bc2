"""Model files that are not what was written, by chance or by hand, and what is said of them."""

import json

import numpy as np
import pytest
import torch
from ase.build import graphene
from safetensors import safe_open
from safetensors.torch import save_file

from hotham_ase.basis.fitted import FittedPotential
from hotham_ase.basis.orbitals import OrbitalBasis, SpeciesBasis
from hotham_ase.model.file import ModelFileError
from hotham_ase.model.model import HamiltonianModel, load_model
from hotham_ase.model.options import PredictionOptions
from hotham_ase.model.tensors import cutoffs
from hotham_ase.nn.config import ModelConfig
from hotham_ase.nn.model import HotHam
from tests.potentials import with_potentials

GRID = np.linspace(0, 2, 5)
BASIS = OrbitalBasis(
    (SpeciesBasis("C", (0, 1), (2.0, 2.0), 4, GRID, np.exp(-GRID) * np.ones((2, 1))),)
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    config = ModelConfig(l_max=2, channels=3, hidden=4, n_radial=4, message_cutoff=2.5)
    network = HotHam(config, [s.shells for s in BASIS.species], cutoffs(BASIS))
    return HamiltonianModel(network.eval().requires_grad_(False), BASIS, "small", {"from": "test"})


@pytest.fixture
def path(model, tmp_path):
    model.save(tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


def content(path):
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def rewritten(path, change, *, digest=False):
    """The file with something changed by hand; without a digest it is one of an older version."""
    tensors, texts = content(path)
    if not digest:
        del texts["digest"]
    change(tensors, texts)
    save_file(tensors, path, texts)
    return path


def test_what_is_saved_is_loaded(model, path):
    loaded = load_model(path)
    atoms = graphene(vacuum=5)
    for name, weight in model.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], weight)
    assert loaded.basis == BASIS
    assert loaded.provenance == {"from": "test"}
    expected = model.predict(atoms, PredictionOptions(device="cpu"))
    np.testing.assert_array_equal(
        loaded.predict(atoms, PredictionOptions(device="cpu")).values, expected.values
    )


def test_a_file_without_a_digest_is_of_an_older_version(path):
    assert load_model(rewritten(path, lambda tensors, texts: None)).name == "small"


def test_any_flipped_bit_is_noticed(path):
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    header = int.from_bytes(data[:8], "little")
    places = [*rng.integers(8, 8 + header, 150), *rng.integers(8 + header, len(data), 150)]
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        with pytest.raises(ModelFileError):
            load_model(path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.99])
def test_a_file_that_was_cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ModelFileError, match="not a safetensors file"):
        load_model(path)


def scaled(tensors, texts):
    tensors["network.baseline.coefficients"] = 1 + tensors["network.baseline.coefficients"]


def swapped(tensors, texts):
    names = [n for n in tensors if n.startswith("network.interactions")]
    a, b = next(
        (a, b)
        for a in names
        for b in names
        if a < b
        and tensors[a].shape == tensors[b].shape
        and not torch.equal(tensors[a], tensors[b])
    )
    tensors[a], tensors[b] = tensors[b], tensors[a]


def renamed_electrons(tensors, texts):
    texts["species"] = texts["species"].replace("4.0", "5.0")


def dropped(tensors, texts):
    del tensors["basis.C.grid"], tensors["basis.C.radial"]


@pytest.mark.parametrize("change", [scaled, swapped, renamed_electrons, dropped])
def test_what_was_changed_by_hand_is_noticed(path, change):
    with pytest.raises(ModelFileError, match="damaged: its content is not what was written"):
        load_model(rewritten(path, change, digest=True))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(path, value):
    def spoil(tensors, texts):
        tensors["network.baseline.onsite"].view(-1)[3] = value

    with pytest.raises(ModelFileError, match=r"network.baseline.onsite must hold finite numbers"):
        load_model(rewritten(path, spoil))


def test_a_model_that_went_wrong_in_training(path):
    broken = load_model(path)
    broken.network.baseline.onsite.view(-1)[3] = np.nan
    broken.save(path)
    with pytest.raises(ModelFileError, match=r"network.baseline.onsite must hold finite numbers"):
        load_model(path)


def setting(name, value):
    def change(tensors, texts):
        config = json.loads(texts["config"])
        texts["config"] = json.dumps({**config, name: value})

    return change


def text(name, value):
    return lambda tensors, texts: texts.update({name: value})


def entry(**values):
    def change(tensors, texts):
        texts["species"] = json.dumps([{**json.loads(texts["species"])[0], **values}])

    return change


DEEP = "[" * 100_000 + "]" * 100_000
DAMAGED = {
    "no name": (lambda tensors, texts: texts.pop("name"), "has no 'name'"),
    "no species": (
        lambda t, x: [x.update(species="[]"), t.pop("basis.C.grid"), t.pop("basis.C.radial")],
        "species must be non-empty",
    ),
    "species twice": (
        lambda t, x: x.update(species=json.dumps(json.loads(x["species"]) * 2)),
        "each given once|is of no species|has no",
    ),
    "species as a number": (text("species", "3"), "damaged: "),
    "species nested": (text("species", DEEP), "damaged: "),
    "symbol as a number": (entry(symbol=6), "symbol"),
    "symbol of no element": (entry(symbol="Cx"), "symbol must be a chemical symbol"),
    "shells as text": (entry(shells="01"), "shells"),
    "shells as fractions": (entry(shells=[0, 1.5]), "shells"),
    "shells beyond i": (entry(shells=[0, 70]), "shells.1 Input should be less than or equal to 6"),
    "many shells": (entry(shells=[0] * 10**4), "at most 100"),
    "cutoffs as text": (entry(cutoffs=["2", "2"]), "cutoffs"),
    "cutoffs without end": (entry(cutoffs=[2.0, 1e9]), "cutoffs"),
    "electrons as text": (entry(n_valence="4"), "n_valence"),
    "electrons true": (entry(n_valence=True), "n_valence"),
    "electrons not a number": (entry(n_valence=np.nan), "n_valence"),
    "another entry": (entry(spin=1), "spin Extra inputs are not permitted"),
    "config nested": (text("config", DEEP), "nested too deeply"),
    "config of 5000 digits": (text("config", '{"l_max": ' + "9" * 5000 + "}"), "damaged: "),
    "config of no object": (text("config", "[]"), "damaged: "),
    "many channels": (setting("channels", 10**9), "channels must be at most"),
    "many hidden": (setting("hidden", 10**9), "hidden must be at most"),
    "no range": (setting("message_cutoff", 1e-9), "no cutoff below 0.1"),
    "endless range": (setting("hopping_margin", 1e12), "hopping_margin must be at most"),
    "other size": (setting("channels", 2), "does not fit its own architecture"),
    "provenance nested": (text("provenance", DEEP), "nested too deeply"),
    "provenance a list": (text("provenance", "[]"), "provenance an object, got .* list"),
    "initial as text": (text("needs_initial", '"yes"'), "needs_initial and physics must be true"),
    "initial of another format": (text("needs_initial", "true"), "does not go with needs_initial"),
    "other conventions": (text("conventions", "{}"), "uses other conventions"),
    "unknown text": (text("dihest", "0"), "unknown entry 'dihest'"),
    "unknown tensor": (lambda t, x: t.update(x=torch.zeros(1)), "unknown tensor 'x'"),
    "orbitals of nobody": (
        lambda t, x: t.update({"basis.H.grid": torch.zeros(5)}),
        r"\['H.grid'\] are of no species",
    ),
    "orbitals of another shape": (
        lambda t, x: t.update({"basis.C.grid": torch.zeros(2, 2)}),
        "radial of C must have shape|damaged",
    ),
    "integers": (
        lambda t, x: t.update({"network.baseline.onsite": torch.zeros(1, 4, 4, dtype=torch.int64)}),
        "must hold finite numbers",
    ),
    "half precision": (
        lambda t, x: t.update({"network.baseline.onsite": torch.zeros(1, 4, 4).bfloat16()}),
        "must hold finite numbers, float32 or float64; it has torch.bfloat16",
    ),
    "two precisions": (
        lambda t, x: t.update({"network.baseline.onsite": t["network.baseline.onsite"].double()}),
        "weights of one precision",
    ),
    "no weights": (
        lambda t, x: [t.pop(n) for n in list(t) if n.startswith("network.")],
        "weights of one precision, got none",
    ),
    "an uncertainty of another kind": (
        lambda t, x: t.update({"uncertainty.hopping_factor": torch.zeros(3)}),
        "damaged",
    ),
}


@pytest.mark.parametrize(("change", "message"), DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_files_of_older_versions(path, change, message):
    with pytest.raises(ModelFileError, match=message) as raised:
        load_model(rewritten(path, change))
    assert "\n" not in str(raised.value)


# ---------------------------------------------------------------------- potentials


@pytest.fixture
def rich(model, tmp_path):
    """A model whose basis has potentials, and that has H0 of them and of a fitted one."""
    basis, fitted = with_potentials(BASIS), FittedPotential({"C": (9.0, 0.1 + 0.2)})
    network = model.network
    model = HamiltonianModel(network, basis, "rich", physics=True, fitted=fitted)
    model.save(tmp_path / "rich.safetensors")
    return tmp_path / "rich.safetensors"


@pytest.mark.parametrize("relativistic", [True, False])
@pytest.mark.parametrize("physics", [True, False])
def test_potentials_are_saved_and_loaded(model, tmp_path, relativistic, physics):
    basis = with_potentials(BASIS, relativistic=relativistic)
    path = tmp_path / "rich.safetensors"
    HamiltonianModel(model.network, basis, "rich", physics=physics).save(path)
    loaded = load_model(path)
    assert loaded.basis == basis
    assert loaded.physics is physics
    mine, theirs = loaded.basis["C"].potential, basis["C"].potential
    assert (mine.source, mine.licence) == (theirs.source, theirs.licence)
    assert content(path)[1]["format"] == "hotham_ase model 4"
    kind = "fully relativistic" if relativistic else "scalar"
    assert loaded.describe()["pseudopotentials"] == {"C": f"C.upf ({kind})"}


def test_files_without_potentials_are_as_before(path):
    """Older versions of the package read them."""
    _, texts = content(path)
    assert texts["format"] == "hotham_ase model 1"
    assert "physics" not in texts
    assert set(json.loads(texts["species"])[0]) == {"symbol", "shells", "cutoffs", "n_valence"}


def potential_entry(**values):
    def change(tensors, texts):
        one = json.loads(texts["species"])[0]
        potential = {**one["potential"], **values}
        texts["species"] = json.dumps([{**one, "potential": potential}])

    return change


def without_potential(tensors, texts):
    one = json.loads(texts["species"])[0]
    del one["potential"]
    texts["species"] = json.dumps([one])


DAMAGED_POTENTIALS = {
    "no entry": (without_potential, r"\['C.potential.coefficients'.* are of no species"),
    "no tensors": (
        lambda t, x: [t.pop(name) for name in list(t) if ".potential." in name],
        "damaged",
    ),
    "no projectors": (lambda t, x: t.pop("basis.C.potential.projectors"), "damaged"),
    "no V_NA": (lambda t, x: t.pop("basis.C.potential.neutral"), "not all species of its basis"),
    "shape": (
        lambda t, x: t.update({"basis.C.potential.neutral": torch.zeros(3)}),
        "neutral must have shape",
    ),
    "electrons": (potential_entry(n_valence=5.0), "must have n_valence = 4 electrons, got 5"),
    "many degrees": (potential_entry(degrees=[0] * 101), "at most 100"),
    "degrees beyond i": (potential_entry(degrees=[1, 70]), "less than or equal to 6"),
    "momenta": (potential_entry(total_momenta=[0.5, 2.5]), "total_momenta must be"),
    "one kind": (potential_entry(cutoffs=[1.0]), "cutoffs must be 2 positive lengths"),
    "source": (potential_entry(source=3), "source"),
    "another entry": (potential_entry(spin=1), "spin Extra inputs are not permitted"),
    "physics as text": (text("physics", '"yes"'), "physics must be true or false"),
    "physics and H0": (text("needs_initial", "true"), "must have one H0"),
    "older format": (text("format", "hotham_ase model 1"), "format does not go with"),
    "unknown format": (text("format", "hotham_ase model 9"), "expected .*hotham_ase model 4"),
    "fitted without H0": (text("physics", "false"), "must predict H − H0 to have a fitted"),
    "fitted of others": (text("fitted", '{"C": [1, 2], "N": [1, 2]}'), r"of \['N'\], which its"),
    "fitted of one number": (text("fitted", '{"C": [1]}'), "amplitudes of C must be 2 numbers"),
    "fitted below 0": (text("fitted", '{"C": [1, -2]}'), "amplitudes of C must be 2 numbers"),
    "fitted NaN": (text("fitted", '{"C": [NaN, 2]}'), "amplitudes of C must be 2 numbers"),
    "fitted infinite": (text("fitted", '{"C": [1, 1e999]}'), "amplitudes of C must be 2 numbers"),
    "fitted of 400 digits": (text("fitted", '{"C": [1, 9' + 400 * "9" + "]}"), "from 0 to 10000"),
    "fitted as text": (text("fitted", '{"C": ["1", "2"]}'), "amplitudes of C must be 2 numbers"),
    "fitted true": (text("fitted", '{"C": [true, 1]}'), "amplitudes of C must be 2 numbers"),
    "fitted of no symbol": (text("fitted", "[1, 2]"), "must be given by chemical symbol"),
    "fitted nested": (text("fitted", DEEP), "nested too deeply"),
    "fitted no JSON": (text("fitted", "C"), "damaged"),
}


@pytest.mark.parametrize(
    ("change", "message"), DAMAGED_POTENTIALS.values(), ids=DAMAGED_POTENTIALS.keys()
)
def test_damaged_potentials(rich, change, message):
    with pytest.raises(ModelFileError, match=message) as raised:
        load_model(rewritten(rich, change))
    assert "\n" not in str(raised.value)


def test_a_fitted_potential_is_saved_and_loaded(rich):
    loaded = load_model(rich)
    assert loaded.fitted == FittedPotential({"C": (9.0, 0.1 + 0.2)})
    assert loaded.describe()["fitted potential (eV)"] == {"C": (9.0, 0.1 + 0.2)}
    before, after = loaded.basis["C"].potential, loaded.h0_basis["C"].potential
    assert after.neutral[0] == pytest.approx(before.neutral[0] - 9.3)
    # older packages know formats 1 to 3 only, and refuse texts that they do not know
    texts = content(rich)[1]
    assert texts["format"] == "hotham_ase model 4"
    assert json.loads(texts["fitted"]) == {"C": [9.0, 0.1 + 0.2]}
    load_model(rewritten(rich, lambda t, x: x.pop("fitted")))
    assert load_model(rich).fitted is None


def test_a_fitted_potential_belongs_to_the_model(model):
    basis, fitted = with_potentials(BASIS), FittedPotential({"N": (1.0, 2.0)})
    with pytest.raises(ModelFileError, match=r"fitted potential of \['N'\], which its basis lacks"):
        HamiltonianModel(model.network, basis, "x", physics=True, fitted=fitted)
    with pytest.raises(ModelFileError, match="x must predict H − H0 to have a fitted potential"):
        HamiltonianModel(model.network, basis, "x", fitted=FittedPotential({"C": (1.0, 2.0)}))


def test_physics_needs_potentials(model):
    with pytest.raises(ModelFileError, match="not all species of its basis"):
        HamiltonianModel(model.network, BASIS, "bare", physics=True)
    basis = with_potentials(BASIS)
    with pytest.raises(ModelFileError, match="must have one H0"):
        HamiltonianModel(model.network, basis, "both", learns_correction=True, physics=True)
