"""This module reads which activations there are, in the package and in the C++ source."""

import re

from treadle.layers import activation

# A user may name these activations; the package's table lists them.
NAMES = list(activation._PARAMETERS)


def enumerated(source):
    """The functions of the kernels, as their enum lists them."""
    text = (source / "cpp/kernels/table.h").read_text()
    body = re.search(r"enum class ActivationFunction[^{]*{(.*?)};", text, re.DOTALL)[1]
    return re.findall(r"^\s*(\w+)", re.sub(r"//.*", "", body), re.MULTILINE)


def names_of(specs):
    """The names in a list of activations as users write them: a name, a tuple or None."""
    plain = [spec[0] if isinstance(spec, tuple) else spec for spec in specs]
    return {"linear" if name is None else name for name in plain}
