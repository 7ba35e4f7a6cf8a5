"""Let ``python -m offtake.cli`` be the command line."""

from __future__ import annotations

import sys

from offtake.cli.main import main

sys.exit(main())
