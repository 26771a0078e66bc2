"""Options are right from the start, or refused."""

import pytest

from hotham_ase.errors import HothamError
from hotham_ase.model.options import PredictionOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "fpga"}, "device must be 'auto' or a torch device of this machine, got 'fpga'"),
        ({"device": 0}, "device must be 'auto' or a torch device of this machine, got 0"),
        ({"dtype": "half"}, "dtype must be 'float32' or 'float64', got 'half'"),
        ({"dtype": None}, "dtype must be 'float32' or 'float64', got None"),
        ({"memory": "much"}, "memory must be a size like '8GiB' or a number of bytes, got 'much'"),
        ({"memory": 0}, "memory must be a size like '8GiB' or a number of bytes, got 0"),
        ({"compile": 1}, "compile must be True or False, got 1"),
    ],
)
def test_what_cannot_be(options, message):
    with pytest.raises(ValueError, match=message) as error:
        PredictionOptions(**options)
    assert isinstance(error.value, HothamError)


def test_what_can_be():
    assert PredictionOptions() == PredictionOptions("auto", "float32", None, False)
    assert PredictionOptions("cpu", "float64", "8GiB", True).memory == "8GiB"
