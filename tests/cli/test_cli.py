"""The command line: what test_demo.py, test_benchmarks.py, test_transformers_cli.py leave."""

import pytest

import treadle
from support.ids import shown
from treadle.cli.main import main

LAYER = treadle.TransformerEncoderLayer(8, 2, 12)
ROWS = [
    (treadle.LSTM(8, 8, 2, bidirectional=True), ["l0", "l0_reverse", "l1", "l1_reverse"]),
    (treadle.GRUCell(3, 4), ["itself"]),
    (treadle.MultiheadAttention(8, 2, kdim=3, add_bias_kv=True), ["itself", "out_proj"]),
    (LAYER, ["self_attn", "linear1", "linear2", "norm1", "norm2"]),
    (treadle.TransformerEncoder(LAYER, 2, treadle.LayerNorm(8)), ["layers.0", "layers.1", "norm"]),
    (treadle.LayerNorm(8), ["itself"]),
    (treadle.LayerNorm(8, elementwise_affine=False), []),
]


def test_help(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for word in ("Recurrent", "transformer", "demo", "bench", "info", "convert", "embed", "search"):
        assert word in text


@pytest.mark.parametrize(("module", "rows"), ROWS, ids=shown)
def test_info(tmp_path, capsys, module, rows):
    """A row for each layer, with its parameters, bytes and FLOPs, and their sum."""
    about, table, _ = info(tmp_path, capsys, module)
    assert f"treadle  {treadle.__version__}\n" in about
    found = {name: row[:3] for name, row in table.items()}
    assert list(found) == [*rows, "all"]
    total = found.pop("all")
    assert total[:2] == [module.num_parameters, 4 * module.num_parameters]
    matrices = [value for value in module.state_dict().values() if value.ndim == 2]
    assert total[2] == 2 * sum(value.size for value in matrices)
    if rows:
        assert total == [sum(column) for column in zip(*found.values(), strict=True)]


# The levels that have products of their own in a dtype.
WHOLE = {"portable", "avx2", "avx512", "neon"}
FILLED = {
    "float32": WHOLE,
    "bfloat16": WHOLE | {"avx512_bf16", "amx", "neon_bf16"},
    "int8": WHOLE | {"avx512_bf16", "amx", "neon_dotprod", "neon_i8mm"},
}


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2), ("int8", 1)])
def test_info_says_what_multiplies(tmp_path, capsys, isa, dtype, size):
    """The dtype of the matrices and the level of their products, which may be a lower one."""
    module = treadle.TransformerEncoder(LAYER, 2, treadle.LayerNorm(8)).to(dtype)
    _, table, packed = info(tmp_path, capsys, module)
    level = isa
    if isa not in FILLED[dtype]:
        below = treadle.available_isas()[: treadle.available_isas().index(isa)]
        level = [name for name in below if name in FILLED[dtype]][-1]
    assert [table["layers.0"][3:], table["layers.1"][3:]] == [[dtype, level]] * 2
    assert table["norm"][3:] == ["float32", "-"]
    scales = (3 * 8 + 8 + 12 + 8) if dtype == "int8" else 0  # one for each output
    vectors = 3 * 8 + 8 + 12 + 8 + 4 * 8
    matrices = 4 * 8 * 8 + 2 * 8 * 12
    assert table["layers.0"][1] == size * matrices + 4 * (scales + vectors)
    assert packed == module._packed.native.weight_bytes


def test_info_of_a_sequence(tmp_path, capsys):
    """Each module is a row, with its own dtype and the level that multiplies."""
    module = treadle.Sequential(
        treadle.Conv1d(100, 8, 3), treadle.Tanh(), treadle.Transpose(1, 2),
        treadle.LSTM(8, 4, 2, dtype=["int8", "float32"]), treadle.Linear(4, 2, dtype="bfloat16"),
    )  # fmt: skip
    _, table, _ = info(tmp_path, capsys, module)
    assert list(table) == ["0", "3", "4", "all"]
    assert table["0"][:3] == [2408, 4 * 2408, 4800]
    assert [row[3] for row in table.values()] == ["float32", "float32", "bfloat16", "several"]
    _, table, _ = info(tmp_path, capsys, module[3])
    assert [row[3] for row in table.values()] == ["int8", "float32", "several"]


def info(folder, capsys, module):
    """Return the text before the table, its rows with numbers as integers, and the packed bytes."""
    path = folder / "m.safetensors"
    treadle.save(module, path)
    assert main(["info", str(path)]) == 0
    about, _, table = capsys.readouterr().out.partition(f"\n{module!r}\n")
    _, *lines, packed = table.splitlines()
    number = lambda text: int(text.replace(",", ""))
    rows = {name: [*map(number, rest[:3]), *rest[3:]] for name, *rest in map(str.split, lines)}
    what, _, size = packed.partition(": ")
    assert what == "packed weights"
    return about, rows, number(size.removesuffix(" bytes"))


def test_errors(tmp_path, capsys):
    """A message on standard error, and no traceback."""
    (tmp_path / "text").write_text("no model")
    for name in ("nosuch", "text", ""):
        assert main(["info", str(tmp_path / name)]) == 1
        captured = capsys.readouterr()
        assert captured.err.startswith("treadle")
        assert len(captured.err.splitlines()) == 1
