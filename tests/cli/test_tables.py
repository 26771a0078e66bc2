"""What is printed fits a terminal, and reaches a pipe as it is."""

import sys

import pytest

from hotham_ase.cli.tables import show_entries, show_table

SENTENCE = "all orbitals are full " * 12


@pytest.fixture
def on_terminal(monkeypatch, capsys):
    """Call a function with a screen of 60 columns and give what it shows there."""

    def run(show, *arguments, **keywords):
        with monkeypatch.context() as patch:
            patch.setenv("COLUMNS", "60")
            patch.setattr(sys.stdout, "isatty", lambda: True)
            show(*arguments, **keywords)
        return capsys.readouterr().out.splitlines()

    return run


def test_a_pipe_gets_whole_lines_without_blanks_at_their_ends(capsys):
    rows = [
        {"name": "c/0", "error": 0.25, "where": SENTENCE},
        {"name": "d", "error": 10, "where": ""},
    ]
    show_entries({"gap": SENTENCE, "rows": rows, "nested": {"deeper": {"n": 1}, "m": 2}})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"gap     {SENTENCE}".rstrip()
    assert lines[1:3] == ["rows", "  name  error  where"]
    assert lines[3] == f"  c/0    0.25  {SENTENCE}".rstrip()
    assert lines[4] == "  d        10"
    assert lines[5:] == ["nested", "  deeper", "    n  1", "  m       2"]


def test_lines_on_a_terminal_are_broken_under_their_beginning(on_terminal):
    *broken, last = on_terminal(show_entries, {"gap": SENTENCE, "Fermi level": "1 eV"})
    assert last == "Fermi level  1 eV"
    assert max(map(len, broken)) <= 60
    assert all(line[12] == " " != line[13] for line in broken)
    assert " ".join(" ".join(broken).split()) == f"gap {SENTENCE}".rstrip()


def test_wide_tables_fold_within_their_columns(on_terminal):
    lines = on_terminal(show_table, [[f"{n}" * 30 for n in range(4)]], header=["abc"] * 4)
    assert max(map(len, lines)) <= 60
    for n in range(4):
        assert sum(line.count(f"{n}") for line in lines) == 30


def test_names_of_columns_are_broken_between_words_before_numbers_are(on_terminal, capsys):
    names = ["name", "band_mae_meV", "expected_band_error_meV", "fermi_error_meV", "n_structures"]
    rows = [["graphene/000", -449.55, 0.98473, 20.25, 3]]
    lines = on_terminal(show_table, rows, header=names)
    assert max(map(len, lines)) <= 60
    assert lines[-1].split() == ["graphene/000", "-449.55", "0.98473", "20.25", "3"]
    assert sorted(" ".join(lines[:-1]).split()) == sorted(" ".join(names).replace("_", " ").split())
    show_table(rows, header=names)
    assert capsys.readouterr().out.split()[: len(names)] == names


@pytest.mark.parametrize("text", ["[bold]x[/bold]", "[/]", "a:smile:b", "[link=file:x]y"])
def test_text_of_a_file_is_no_command_to_rich(capsys, text):
    show_entries({text: text, "rows": [{text: text}]})
    show_table([[text]], header=[text])
    assert capsys.readouterr().out.count(text) == 6


def test_what_would_command_a_terminal_is_shown(capsys):
    show_entries({"\x1b[2J": "\x1b[31m", "rows": [{"\x9b1m": "\u202e"}]})
    show_table([["\x1b[31m"]])
    assert capsys.readouterr().out.replace("\n", "").isprintable()


def test_no_rows_are_no_lines(capsys):
    show_table([])
    assert capsys.readouterr().out == ""
