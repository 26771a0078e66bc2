"""Checkpoints of the published code: what they predict, and what is refused."""

import json
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import torch
from ase import Atoms
from typer.testing import CliRunner

from hotham_ase import HotHamCalculator
from hotham_ase.cli import app
from hotham_ase.model.checkpoints import CheckpointError, import_checkpoint
from hotham_ase.model.model import load_model
from hotham_ase.model.options import PredictionOptions
from hotham_ase.nn.published.config import PublishedConfig

FOLDERS = ["even_l4", "even_l5", "odd_l4"]


@pytest.fixture(scope="module", params=FOLDERS)
def parity(request, shared_parity, tmp_path_factory):
    """Arrays of the published code, and the path of the imported model."""
    folder = shared_parity / request.param
    output = tmp_path_factory.mktemp("models") / "published.safetensors"
    arguments = ["import-checkpoint", folder / "cp1.pth", folder / "train.json", "-o", output]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return dict(np.load(folder / "reference.npz")), output


def structure(arrays):
    return Atoms(
        arrays["graph/numbers"],
        positions=arrays["graph/positions"],
        cell=arrays["graph/cell"],
        pbc=arrays["graph/pbc"],
    )


def reference_blocks(arrays):
    flat, start = arrays["blocks/flat"], 0
    for rows, columns in arrays["blocks/shape"]:
        yield flat[start : start + rows * columns].reshape(rows, columns)
        start += rows * columns
    assert start == len(flat)


def assert_blocks(matrix, arrays, tolerance):
    (i, j), shifts = arrays["graph/edge_index"], arrays["graph/cell_shifts"]
    partner = matrix.pairs.find(i, j, shifts)
    largest = np.abs(arrays["blocks/flat"]).max()
    assert len(i) == matrix.pairs.n_edges + matrix.pairs.n_atoms
    for e, expected in enumerate(reference_blocks(arrays)):
        own = i[e] == j[e] and not shifts[e].any()
        assert own or partner[e] >= 0
        block = matrix.onsite_block(i[e]) if own else matrix.hopping_block(partner[e])
        np.testing.assert_allclose(block, expected, rtol=0, atol=tolerance * largest)


def test_blocks_are_those_of_the_published_code(parity):
    arrays, path = parity
    model = load_model(path)
    atoms = structure(arrays)
    assert_blocks(
        model.predict(atoms, PredictionOptions(device="cpu", dtype="float64")), arrays, 1e-12
    )


def test_calculator(parity):
    arrays, path = parity
    atoms = structure(arrays)
    atoms.calc = HotHamCalculator(path, device="cpu", dtype="float64")
    assert_blocks(atoms.calc.get_hamiltonian(atoms), arrays, 1e-12)
    atoms.calc = HotHamCalculator(path, device="cpu")
    assert_blocks(atoms.calc.get_hamiltonian(atoms), arrays, 1e-4)


def test_what_needs_radial_functions_says_so(parity):
    arrays, path = parity
    atoms = structure(arrays)
    atoms.calc = HotHamCalculator(path, device="cpu")
    with pytest.raises(Exception, match="radial functions"):
        atoms.calc.get_overlap(atoms)
    with pytest.raises(Exception, match="radial functions"):
        atoms.calc.get_band_structure("GX", npoints=2)


def test_the_file_says_where_it_comes_from(parity):
    _, path = parity
    model = load_model(path)
    imported = model.provenance["imported"]
    assert imported["checkpoint"]["file"] == "cp1.pth"
    assert len(imported["settings"]["sha256"]) == 64
    assert imported["settings"]["content"]["dft"] == "abacus"
    assert isinstance(model.network.config, PublishedConfig)
    assert model.describe()["architecture"]["architecture"] == "published"
    assert [s.label for s in model.basis.species] == ["2s1p", "2s2p1d", "2s2p1d"]


@pytest.fixture
def copy(shared_parity, tmp_path):
    """A checkpoint and its settings, to be spoilt."""
    for name in ("cp1.pth", "train.json"):
        shutil.copy(shared_parity / "odd_l4" / name, tmp_path / name)
    (tmp_path / "train.json").chmod(0o644)
    (tmp_path / "cp1.pth").chmod(0o644)
    return tmp_path


def import_changed(folder, change_settings=None, change_state=None):
    path = folder / "train.json"
    settings = json.loads(path.read_text())
    if change_settings is not None:
        change_settings(settings)
        path.write_text(json.dumps(settings))
    if change_state is not None:
        content = torch.load(folder / "cp1.pth", weights_only=True)
        change_state(content["model_state_dict"])
        torch.save(content, folder / "cp1.pth")
    return import_checkpoint(folder / "cp1.pth", path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("dft", "siesta", "dft = 'siesta' is not supported, only 'abacus' or 'openmx'"),
        ("using_layernorm2", True, "using_layernorm2 = True is not supported"),
        ("edge_include_sc", False, "edge_include_sc = False"),
        ("model_type", 1, "model_type = 1"),
        ("fix_average", True, "fix_average = True"),
        ("basis_sise", 16, "unknown setting 'basis_sise'; did you mean 'basis_size'"),
        ("basis_size", 12, r"weight_f\.layer0\.weight has shape \(22, 64\)"),
        ("basis_size", 1, "basis_size: .* greater than or equal to 2"),
        ("L_max", 5, "has shape"),
        ("Ce", [4, 4], "Ce, Co: .*channels must be three or more"),
        ("Ce", [4, 4, 4, 6], "Ce, Co: .*odd_channels must be 4 numbers"),
        ("orbit", {"H": ["1s"], "C": ["2p", "2s"]}, "shells of C must be .* ascending"),
        ("orbit", {"H": ["1s"], "C": ["2s", "2p", "3s"]}, "shells of C must be .* ascending"),
        ("orbit", {"H": ["1x"]}, "orbit of H must be shells"),
        ("orbit", {"C": 5}, "orbit of C must be a list of shells .* got 5"),
        ("orbit", {"C": None}, "orbit of C must be a list of shells .* got None"),
        ("orbit", {"C": "2s"}, "orbit of C must be a list of shells .* got '2s'"),
        ("rc", "4.2", "rc: .* valid number"),
        ("using_layernorm", "false", "using_layernorm: .* valid boolean"),
        ("using_rearrangement_linear", "false", "using_rearrangement_linear must be true or false"),
        ("orbit", {"H": ["1s"], "Q": ["2s"]}, "symbol must be a chemical symbol"),
        ("cutoff", {"H": 4.0, "C": 5.0}, "cutoff lacks a radius of O"),
        ("cutoff", {"H": "9", "C": 5.0, "O": 5.0}, "cutoff of H must be a number in Bohr, got '9'"),
        ("cutoff", 9.0, "cutoff must map elements to radii"),
    ],
)
def test_settings_that_are_refused(copy, key, value, message):
    with pytest.raises(CheckpointError, match=message):
        import_changed(copy, lambda settings: settings.update({key: value}))


def test_settings_that_are_missing(copy):
    with pytest.raises(CheckpointError, match=r"settings \['Co'\] are missing"):
        import_changed(copy, lambda settings: settings.pop("Co"))


def test_missing_left_over_and_infinite_tensors(copy):
    with pytest.raises(CheckpointError, match=r"LayerNorm_node\.1\.bias is missing"):
        import_changed(copy, change_state=lambda state: state.pop("LayerNorm_node.1.bias"))
    shared = torch.ones(3)
    with pytest.raises(CheckpointError, match=r"tensor LayerNorm_node\.1\.bias has values"):
        import_changed(
            copy, change_state=lambda s: s.update({"LayerNorm_node.1.bias": torch.ones(60) / 0})
        )

    def mend_and_add(state):
        state["LayerNorm_node.1.bias"] = torch.zeros(60)
        state["manybody.weight"] = shared

    with pytest.raises(CheckpointError, match=r"manybody\.weight has no place"):
        import_changed(copy, change_state=mend_and_add)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64])
def test_weights_that_are_not_real_numbers(copy, dtype):
    name = "LayerNorm_node.1.bias"
    with pytest.raises(CheckpointError, match=rf"{name} must hold real numbers.*got {dtype}"):
        import_changed(copy, change_state=lambda s: s.update({name: torch.zeros(60, dtype=dtype)}))


def test_names_of_tensors_that_are_not_text(copy):
    with pytest.raises(CheckpointError, match="no model_state_dict of named tensors"):
        import_changed(copy, change_state=lambda state: state.update({7: torch.zeros(3)}))


def test_comments_and_trailing_commas_in_settings(copy):
    path = copy / "train.json"
    text = path.read_text().rstrip().removesuffix("}")
    path.write_text("// settings\n" + text + ', "trainset": "http://a, }", // where\n}')
    model = import_checkpoint(copy / "cp1.pth", path)
    assert model.provenance["imported"]["settings"]["content"]["trainset"] == "http://a, }"


def test_openmx_radii(copy):
    def change(settings):
        settings.update(dft="openmx", cutoff={"H": 5.0, "C": 6.0, "O": 5.0})

    model = import_changed(copy, change)
    assert model.cutoff == pytest.approx(12.0 * 0.529177, rel=1e-6)
    with pytest.warns(UserWarning, match="no cutoff radii"):
        import_changed(copy, lambda settings: settings.pop("cutoff"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"hello", "neither a zip archive nor a pickle"),
        (b"PK\x03\x04 cut", r"\w+ \w+"),
        (b"\x80\x02hello", r"\w+ \w+"),
        (b"\x80", r"\w+ \w+"),
    ],
)
def test_files_that_are_no_checkpoints(copy, content, reason):
    (copy / "cp1.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=f"damaged or not a checkpoint: .*{reason}"):
        import_changed(copy)


def test_files_that_cannot_be_read(copy):
    for checkpoint, settings in ((".", "train.json"), ("cp1.pth", "."), ("none", "train.json")):
        with pytest.raises(OSError, match="directory"):
            import_checkpoint(copy / checkpoint, copy / settings)


def test_a_checkpoint_cut_short(copy):
    path = copy / "cp1.pth"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        import_changed(copy)


def test_a_file_of_another_program(copy):
    torch.save({"weights": torch.zeros(3)}, copy / "cp1.pth")
    with pytest.raises(CheckpointError, match="no model_state_dict"):
        import_changed(copy)


def test_settings_that_are_not_json(copy):
    (copy / "train.json").write_text("{")
    with pytest.raises(CheckpointError, match="is not JSON"):
        import_checkpoint(copy / "cp1.pth", copy / "train.json")
    with pytest.raises(CheckpointError, match="is not JSON"):
        import_checkpoint(copy / "cp1.pth", copy / "cp1.pth")


class Malicious:
    """Unpickling an instance makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (__import__("os").mkdir, (self.path,))


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_is_executed(copy, zipped):
    content = {"model_state_dict": {"x": Malicious(str(copy / "executed"))}}
    if zipped:
        torch.save(content, copy / "cp1.pth")
    else:
        (copy / "cp1.pth").write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        import_changed(copy)
    assert not (copy / "executed").exists()


def test_command_refuses_other_outputs(copy):
    arguments = ["import-checkpoint", copy / "cp1.pth", copy / "train.json", "-o", copy / "a.pt"]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert isinstance(result.exception, ValueError)
    assert not (copy / "a.pt").exists()


def test_linear_maps_in_other_storage(copy):
    """e3nn's own Linear to single irreps, for which a checkpoint has one flat tensor."""

    def repack(state):
        for kind in ("node", "edge"):
            flat = []
            for k in range(8):
                name = f"{kind}_endlinear.LinearList.{k}"
                weight, mask = state.pop(f"{name}.weight"), state[f"{name}.output_mask"]
                l = (0, 1, 2, 3, 4, 1, 2, 3)[k]
                flat.append(weight.view(6, len(mask) // (2 * l + 1)).T.flatten())
            state[f"{kind}_endlinear.weight"] = torch.cat(flat)

    original = import_changed(copy)
    repacked = import_changed(
        copy, lambda s: s.update(using_rearrangement_linear=False), change_state=repack
    )
    for name, value in original.network.state_dict().items():
        assert torch.equal(repacked.network.state_dict()[name], value), name


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_that_would_run_code_is_said_to_be_one(copy, zipped):
    """And nothing of torch's advice how to load it all the same."""
    content = {"model_state_dict": {"x": Malicious(str(copy / "executed"))}}
    if zipped:
        torch.save(content, copy / "cp1.pth")
    else:
        (copy / "cp1.pth").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(CheckpointError, match="what could run code is never loaded") as raised:
        import_changed(copy)
    assert "mkdir" in str(raised.value)
    assert "weights_only" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.eye(60).to_sparse(),
        torch.empty(60, device="meta"),
        torch.zeros(1).expand(10**15),
    ],
    ids=["sparse", "meta", "repeated"],
)
def test_tensors_that_do_not_hold_their_values(copy, tensor):
    name = "LayerNorm_node.1.bias"
    with pytest.raises(CheckpointError, match=f"tensor {name} must be dense and hold all"):
        import_changed(copy, change_state=lambda state: state.update({name: tensor}))


def test_an_archive_that_was_compressed(copy):
    with zipfile.ZipFile(copy / "cp1.pth") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(copy / "cp1.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    with pytest.raises(CheckpointError, match="torch does not compress"):
        import_changed(copy)


def test_settings_beyond_all_bounds(copy):
    path = copy / "train.json"
    text = path.read_text()
    for spoilt in ("[" * 100_000, '{"epoch": ' + "9" * 5000 + "}"):
        path.write_text(spoilt)
        with pytest.raises(CheckpointError, match="is not JSON that can be read"):
            import_checkpoint(copy / "cp1.pth", path)
    path.write_text(text)
    with pytest.raises(CheckpointError, match="channels ask for more weights than the"):
        import_changed(copy, lambda settings: settings.update(Ce=[10**9, 4, 4], Co=[0, 0, 4]))
    path.write_text(text)
    with pytest.raises(CheckpointError, match="basis_size = 1e"):
        import_changed(copy, lambda settings: settings.update(basis_size=10**9))


def test_a_flipped_bit_in_the_weights(copy):
    with zipfile.ZipFile(copy / "cp1.pth") as archive:
        largest = max(archive.infolist(), key=lambda f: f.file_size)
    data = bytearray((copy / "cp1.pth").read_bytes())
    data[largest.header_offset + 1000] ^= 1
    (copy / "cp1.pth").write_bytes(data)
    with pytest.raises(CheckpointError, match="the checksum of .* in it is another"):
        import_changed(copy)
