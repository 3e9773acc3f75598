"""Every case of `support.bits` has the bits that are recorded in tests/reference/bits.json.

`support.record_bits` tells how to make the record anew.
"""

import platform

import pytest

import treadle
from support import record_bits


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="the record was made on x86-64"
)
@pytest.mark.parametrize("level", sorted({*treadle.available_isas()} & {*record_bits.LEVELS}))
def test_the_bits_are_those_recorded(source, level):
    recorded = record_bits.read(source / "tests" / "reference" / "bits.json")
    cases = record_bits.every_case(portable=True)
    found = record_bits.record(cases, [level])
    assert record_bits.differences(recorded, found) == []


def test_a_changed_case_is_named():
    before = {"a": {"avx2": "0", "avx512": "1"}, "b": {"avx2": "2"}, "c": {"avx2": "3"}}
    after = {"a": {"avx2": "0", "avx512": "9"}, "b": {"avx2": "2"}, "d": {"avx2": "4"}}
    assert record_bits.differences(before, after) == [
        "c: in the first record only",
        "a: other bits on avx512",
        "d: in the second record only",
    ]


def test_a_record_is_read_as_it_was_written(tmp_path):
    levels = record_bits.LEVELS
    found = {"a": dict.fromkeys(levels, "0"), "b": dict(zip(levels, "00111", strict=True))}
    record_bits.write(tmp_path / "record.json", found)
    assert (tmp_path / "record.json").read_text() == (
        '{\n"a": {"portable": "0"},\n"b": {"portable": "0", "avx512": "1"}\n}\n'
    )
    assert record_bits.read(tmp_path / "record.json") == found


def test_a_record_keeps_the_levels_that_a_machine_lacks():
    before = {"a": {"avx2": "0", "amx": "1"}, "b": {"amx": "2"}}
    found = record_bits.completed({"a": {"avx2": "9"}, "c": {"avx2": "3"}}, before)
    assert found == {"a": {"avx2": "9", "amx": "1"}, "c": {"avx2": "3"}}


def test_one_changed_bit_changes_the_hash():
    array = record_bits.np.ones((2, 3), "f4")
    other = array.copy()
    other.view("u4")[1, 2] ^= 1
    hashes = [record_bits.digest(value) for value in (array, other, array.reshape(3, 2), [array])]
    assert len(set(hashes)) == 4
