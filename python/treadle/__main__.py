"""``python -m treadle``: the command line."""

import sys

from treadle.cli.main import main

sys.exit(main())
