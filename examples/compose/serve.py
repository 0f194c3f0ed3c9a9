"""Runs the service that ``SERVICE`` names, its model laid into its cache first, as an image would have it."""

import os
import sys
from pathlib import Path

from fixtures.refapp.__main__ import main
from fixtures.refapp.install import preload_model

preload_model(Path.home())
sys.exit(main([os.environ["SERVICE"]]))
