"""Sizes worth testing: around the vector width and the tile edges, and some that models have."""


def around_powers(limit):
    """0, then {1, 2, 3} * 2^k minus and plus one, up to `limit` (YNNPACK's rule)."""
    sizes = {0}
    for k in range(limit.bit_length()):
        for factor in (1, 2, 3):
            sizes.update(factor * 2**k + d for d in (-1, 0, 1))
    return sorted(size for size in sizes if size <= limit)


def shape_id(**letters):
    """The id of a test case in the dimension letters, T3-B2-I5-H7."""
    return "-".join(f"{letter}{size}" for letter, size in letters.items())


# (T, B, I, H). Hidden sizes straddle 4, 8 and 16 lanes; batches straddle every row block; the first
# step, no step and no row are shapes like any other.
SHAPES = [
    (1, 1, 1, 1),
    (3, 2, 5, 7),
    (2, 3, 4, 3),
    (4, 1, 8, 4),
    (5, 4, 3, 5),
    (3, 5, 9, 8),
    (2, 6, 1, 9),
    (7, 7, 2, 15),
    (4, 8, 16, 16),
    (3, 9, 17, 17),
    (2, 13, 31, 23),
    (6, 1, 33, 31),
    (5, 16, 12, 32),
    (4, 17, 7, 33),
    (3, 1, 64, 47),
    (9, 2, 65, 48),
    (2, 31, 6, 63),
    (3, 33, 10, 64),
    (1, 65, 11, 65),
    (40, 1, 1, 50),
    (0, 2, 5, 7),
    (3, 0, 5, 7),
    (0, 0, 5, 7),
    (25, 1, 128, 128),
    (12, 20, 40, 256),
]

# A few of them where every ISA and option has to pass.
SMALL_SHAPES = [(3, 2, 5, 7), (4, 8, 16, 16), (4, 17, 7, 33), (9, 1, 20, 50)]

SHAPE_IDS = [shape_id(T=t, B=b, I=i, H=h) for t, b, i, h in SHAPES]
SMALL_SHAPE_IDS = [shape_id(T=t, B=b, I=i, H=h) for t, b, i, h in SMALL_SHAPES]
