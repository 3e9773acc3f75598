"""The command line, but for what test_demo.py, test_benchmarks.py and test_transformers_cli.py test."""

import pytest

import weft
from weft.cli import main

LAYER = weft.TransformerEncoderLayer(8, 2, 12)
ROWS = [
    (weft.LSTM(8, 8, 2, bidirectional=True), ["l0", "l0_reverse", "l1", "l1_reverse"]),
    (weft.GRUCell(3, 4), ["itself"]),
    (weft.MultiheadAttention(8, 2, kdim=3, add_bias_kv=True), ["itself", "out_proj"]),
    (LAYER, ["self_attn", "linear1", "linear2", "norm1", "norm2"]),
    (weft.TransformerEncoder(LAYER, 2, weft.LayerNorm(8)), ["layers.0", "layers.1", "norm"]),
    (weft.LayerNorm(8), ["itself"]),
    (weft.LayerNorm(8, elementwise_affine=False), []),
]


def test_help(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for word in ("Recurrent", "transformer", "demo", "bench", "info", "convert", "embed", "search"):
        assert word in text


@pytest.mark.parametrize(("module", "rows"), ROWS, ids=lambda value: repr(value)[:20])
def test_info(tmp_path, capsys, module, rows):
    """A row for each layer, with its parameters, bytes and FLOPs, and their sum."""
    path = tmp_path / "m.safetensors"
    weft.save(module, path)
    assert main(["info", str(path)]) == 0
    about, _, table = capsys.readouterr().out.partition(f"\n{module!r}\n")
    assert f"weft     {weft.__version__}\n" in about
    _, *lines, packed = table.splitlines()
    assert packed.startswith("packed weights: ")
    found = {name: [int(n.replace(",", "")) for n in rest] for name, *rest in map(str.split, lines)}
    assert list(found) == [*rows, "all"]
    total = found.pop("all")
    assert total[:2] == [module.num_parameters, 4 * module.num_parameters]
    matrices = [value for value in module.state_dict().values() if value.ndim == 2]
    assert total[2] == 2 * sum(value.size for value in matrices)
    if rows:
        assert total == [sum(column) for column in zip(*found.values(), strict=True)]


def test_errors(tmp_path, capsys):
    """A message on standard error, and no traceback."""
    (tmp_path / "text").write_text("no model")
    for name in ("nosuch", "text", ""):
        assert main(["info", str(tmp_path / name)]) == 1
        captured = capsys.readouterr()
        assert captured.err.startswith("weft")
        assert len(captured.err.splitlines()) == 1
