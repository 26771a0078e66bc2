"""UPF files, versions 1 and 2: norm-conserving pseudopotentials of Quantum ESPRESSO and ABACUS."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from hotham_ase.basis.potentials import AtomicPotential
from hotham_ase.dft.pseudopotential import Pseudopotential
from hotham_ase.dft.sample import DFTReadError, UnsupportedRunError
from hotham_ase.dft.textfiles import read_text

_LARGEST = 64 * 2**20  # bytes of a file
_LARGEST_VALUE = 1e6  # of any table, Ry and Bohr
_MOST_PROJECTORS = 50
_KINDS = {"US": "ultrasoft", "USPP": "ultrasoft", "PAW": "PAW", "1/r": "Coulomb"}
_ATTRIBUTE = re.compile(r"""\s*([\w.:]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_NO_EXPONENT = re.compile(r"(?<=\d)(?=[-+]\d{3}\b)")  # Fortran's 1.0-100
_LICENCE = re.compile(r"[A-Z][^.]{0,200}\blicensed under\b[^.]{0,200}(?:\.\d[^.]{0,200})?\.")


def read_upf(path: str | Path) -> tuple[str, AtomicPotential]:
    """Chemical symbol and potential of a UPF file; see :func:`read_tables`."""
    symbol, tables = read_tables(path)
    try:
        return symbol, tables.atomic_potential()
    except ValueError as error:
        raise DFTReadError(f"{path} does not describe a potential: {error}") from error


def read_upf_of(path: Path, symbol: str) -> AtomicPotential:
    """Potential of a UPF file that must be of an element; see :func:`read_tables`."""
    element, potential = read_upf(path)
    if element != symbol:
        raise DFTReadError(f"{path} is for {element}, not for {symbol}")
    return potential


def read_tables(path: str | Path) -> tuple[str, Pseudopotential]:
    """Read a norm-conserving pseudopotential in UPF format.

    Version 2 is read as the text that codes write, not as XML: many files are not valid XML.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    symbol
        Chemical symbol.
    tables : Pseudopotential
        With the j of projectors where the file is fully relativistic.

    Raises
    ------
    DFTReadError
        If the file is of another format, damaged, or contradicts itself.
    UnsupportedRunError
        If it is an ultrasoft, PAW or Coulomb potential.
    """
    path = Path(path)
    text = read_text(path, _LARGEST)
    try:
        version_2 = re.search(r"<UPF\s+version\s*=\s*[\"']2\.", text[:10000])
        if version_2 is None and "<PP_HEADER>" not in text:
            raise ValueError('it has neither <UPF version="2…"> nor <PP_HEADER>')
        symbol, tables = (_version_2 if version_2 else _version_1)(path, text)
        if symbol not in atomic_numbers or symbol == "X":
            raise ValueError(f"its element is {symbol!r:.20}")
        return symbol, tables
    except DFTReadError:
        raise
    except (ValueError, IndexError, KeyError) as error:
        raise DFTReadError(f"{path} is not a complete UPF file: {error}") from error


# ----------------------------------------------------------------- version 2


def _version_2(path: Path, text: str) -> tuple[str, Pseudopotential]:
    header, _ = _section(text, "PP_HEADER")
    kind = header.get("pseudo_type", "NC").strip()
    flags = {"is_ultrasoft": "US", "is_paw": "PAW", "is_coulomb": "1/r"}
    kind = next((kind for key, kind in flags.items() if _is_true(header, key)), kind)
    _check_kind(path, kind)
    n_mesh, n_projectors = _count(header["mesh_size"]), _count(header["number_of_proj"])
    if n_projectors > _MOST_PROJECTORS:
        raise ValueError(f"it has {n_projectors} projectors")
    mesh = _table(text, "PP_R", n_mesh)
    betas = [_section(text, f"PP_BETA.{k}") for k in range(1, n_projectors + 1)]
    degrees = tuple(int(attributes["angular_momentum"]) for attributes, _ in betas)
    momenta = None
    if _is_true(header, "has_so"):
        spins = [_section(text, f"PP_RELBETA.{k}")[0] for k in range(1, n_projectors + 1)]
        momenta = tuple(float(attributes["jjj"]) for attributes in spins)
        if tuple(int(attributes["lll"]) for attributes in spins) != degrees:
            raise ValueError("PP_SPIN_ORB has other angular momenta than the projectors")
    tables = Pseudopotential(
        mesh=mesh,
        n_valence=float(header["z_valence"]),
        local=_table(text, "PP_LOCAL", n_mesh),
        density=_table(text, "PP_RHOATOM", n_mesh),
        degrees=degrees,
        momenta=momenta,
        projectors=_rows([_numbers(body, n_mesh, "PP_BETA") for _, body in betas], n_mesh),
        coefficients=_matrix(text, n_projectors),
        source=_source(path, header.get("generated", ""), header.get("functional", "")),
        licence=_licence(text),
    )
    return header["element"].strip(), tables


def _matrix(text: str, n: int) -> np.ndarray:
    if n == 0:
        return np.zeros((0, 0))
    return _table(text, "PP_DIJ", n * n).reshape(n, n)


def _section(text: str, name: str) -> tuple[dict[str, str], str]:
    """Attributes and content of the one element of a name."""
    starts = [m.end() for m in re.finditer(rf"<{re.escape(name)}(?=[\s>/])", text)]
    if len(starts) != 1:
        raise ValueError(f"it has {len(starts)} sections {name}, not one")
    at, attributes = starts[0], {}
    while (found := _ATTRIBUTE.match(text, at)) is not None:
        attributes[found[1]] = found[2] if found[2] is not None else found[3]
        at = found.end()
    end = re.compile(r"\s*(/?)>").match(text, at)
    if end is None:
        raise ValueError(f"the start of its section {name} is not understood")
    if end[1]:
        return attributes, ""
    close = text.find(f"</{name}>", end.end())
    if close < 0:
        raise ValueError(f"its section {name} does not end")
    return attributes, text[end.end() : close]


def _table(text: str, name: str, n: int) -> np.ndarray:
    return _numbers(_section(text, name)[1], n, name)


def _numbers(body: str, n: int, name: str) -> np.ndarray:
    """(n,) the numbers of a section."""
    words = body.replace("D", "E").replace("d", "e").split(maxsplit=n)
    if len(words) != n:
        raise ValueError(f"its section {name} has not {n} numbers")
    try:
        values = np.array(words, dtype=float)
    except ValueError:
        values = np.array([_NO_EXPONENT.sub("E", word) for word in words], dtype=float)
    if not (np.abs(values) < _LARGEST_VALUE).all():
        raise ValueError(f"its section {name} has values that cannot be")
    return values


def _rows(tables: list[np.ndarray], n_mesh: int) -> np.ndarray:
    return np.reshape(tables, (len(tables), n_mesh))


def _is_true(header: Mapping[str, str], key: str) -> bool:
    return header.get(key, "F").strip().strip(".").upper() in ("T", "TRUE")


def _count(word: str) -> int:
    number = int(word)
    if not 0 <= number < 100000:
        raise ValueError(f"it has a count of {number}")
    return number


def _check_kind(path: Path, kind: str) -> None:
    if kind in _KINDS:
        raise UnsupportedRunError(
            f"{path} is {_KINDS[kind]}, only norm-conserving pseudopotentials can be used"
        )
    if kind not in ("NC", "SL"):
        raise ValueError(f"its pseudo_type is {kind!r:.20}")


# ----------------------------------------------------------------- version 1


def _version_1(path: Path, text: str) -> tuple[str, Pseudopotential]:
    lines = [line.split() for line in _section(text, "PP_HEADER")[1].strip().splitlines()]
    symbol, kind, functional = lines[1][0], lines[2][0], " ".join(lines[4][:4])
    _check_kind(path, kind)
    n_mesh, (n_waves, n_projectors) = _count(lines[9][0]), map(_count, lines[10][:2])
    if n_projectors > _MOST_PROJECTORS:
        raise ValueError(f"it has {n_projectors} projectors")
    bodies = re.split(r"<PP_BETA>", _section(text, "PP_NONLOCAL")[1])[1:]
    if len(bodies) != n_projectors:
        raise ValueError(f"it has {len(bodies)} of {n_projectors} projectors")
    betas = [_beta_1(body, n_mesh) for body in bodies]
    tables = Pseudopotential(
        mesh=_table(text, "PP_R", n_mesh),
        n_valence=float(lines[5][0]),
        local=_table(text, "PP_LOCAL", n_mesh),
        density=_table(text, "PP_RHOATOM", n_mesh),
        degrees=tuple(l for l, _ in betas),
        momenta=_momenta_1(text, n_waves, [l for l, _ in betas]),
        projectors=_rows([table for _, table in betas], n_mesh),
        coefficients=_matrix_1(text, n_projectors),
        source=_source(path, "", functional),
        licence=_licence(text),
    )
    return symbol, tables


def _beta_1(body: str, n_mesh: int) -> tuple[int, np.ndarray]:
    """Degree l and r β(r) of one projector: "1 0 Beta L", how many points, their values."""
    head, count, *rest = body.strip().split("\n", 2)
    n = _count(count.split()[0])
    if n > n_mesh:
        raise ValueError(f"a projector has {n} points on a mesh of {n_mesh}")
    words = rest[0].split(maxsplit=n)[:n]
    return int(head.split()[1]), np.pad(_numbers(" ".join(words), n, "PP_BETA"), (0, n_mesh - n))


def _matrix_1(text: str, n: int) -> np.ndarray:
    """D from how many elements are not zero, and these: "i j D_ij"."""
    matrix = np.zeros((n, n))
    if n:
        count, *lines = _section(text, "PP_DIJ")[1].strip().splitlines()
        for line in lines[: _count(count.split()[0])]:
            i, j, value = line.split()[:3]
            if not (1 <= int(i) <= n and 1 <= int(j) <= n):
                raise ValueError(f"its PP_DIJ has an element {i} {j}")
            matrix[int(i) - 1, int(j) - 1] = matrix[int(j) - 1, int(i) - 1] = float(value)
    return matrix


def _momenta_1(text: str, n_waves: int, degrees: list[int]) -> tuple[float, ...] | None:
    """The projectors' j: "l j" after the lines of the wave functions; None if scalar."""
    if "<PP_ADDINFO>" not in text:
        return None
    lines = _section(text, "PP_ADDINFO")[1].strip().splitlines()[n_waves:]
    pairs = [line.split()[:2] for line in lines[: len(degrees)]]
    if [int(l) for l, _ in pairs] != degrees:
        raise ValueError("PP_ADDINFO has other angular momenta than the projectors")
    return tuple(float(j) for _, j in pairs)


# ------------------------------------------------------------------- origin


def _source(path: Path, generator: str, functional: str) -> str:
    parts = (path.name, generator.strip(), functional.strip())
    return ", ".join(" ".join(part.split()) for part in parts if part)[:300]


def _licence(text: str) -> str:
    """The sentence of a file's comment that names a licence, as far as one can tell."""
    head = " ".join(text[:20000].partition("<PP_HEADER")[0].split())
    found = _LICENCE.search(head)
    return found[0].strip()[:300] if found else ""
