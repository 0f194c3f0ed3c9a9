"""Reads OSCAL assessment results with compliance-trestle and runs its validators; prints what it counted."""

import argparse
import sys
from pathlib import Path

from trestle.core.validator_factory import validator_factory
from trestle.oscal.assessment_results import AssessmentResults

document = AssessmentResults.oscal_read(Path(sys.argv[1]))
good = validator_factory.get(argparse.Namespace(mode="all")).model_is_valid(document, True, None)
sys.stdout.write(f"{len(document.results[0].observations)} observations\n")
sys.exit(0 if good else 1)
