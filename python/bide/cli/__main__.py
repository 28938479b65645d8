"""``python -m bide.cli`` is ``bide``."""

import sys

from bide.cli import main

sys.exit(main())
