"""``hotham import`` and ``hotham check``."""

from hotham_ase.dataset import Dataset


def test_import_reports_and_skips_bad_folders(hotham, shared_data, tmp_path):
    good, bad = shared_data / "abacus" / "bilayer_graphene" / "000", tmp_path / "empty"
    bad.mkdir()
    path = tmp_path / "data.h5"
    code, out, err = hotham("import", good, bad, "-o", path)
    assert code == 0
    assert f"wrote {path}: 1 of 2 structures" in out
    assert f"skipped {bad}" in err
    with Dataset(path) as data:
        assert len(data) == 1


def test_import_of_nothing_writes_nothing(hotham, tmp_path):
    code, _, err = hotham("import", tmp_path, "-o", tmp_path / "data.h5")
    assert code == 2
    assert "none of the 1 structures could be imported" in err
    assert not (tmp_path / "data.h5").exists()


def test_check_accepts_a_sound_data_set(hotham, data_file):
    code, out, _ = hotham("check", data_file)
    assert code == 0
    assert "0 errors" in out


def test_check_ends_with_one_if_the_data_are_damaged(hotham, data_file, tmp_path):
    import h5py

    path = tmp_path / "damaged.h5"
    path.write_bytes(data_file.read_bytes())
    with h5py.File(path, "r+") as file:
        file["structures/00000000/positions"][0, 0] += 0.1
    code, out, _ = hotham("check", path)
    assert code == 1
    assert "checksum" in out
