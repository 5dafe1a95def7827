"""Runs the tests of this folder, or those whose names contain one of the given words. Called by `make test-interop`."""

import pathlib
import sys
import unittest

loader = unittest.TestLoader()
if sys.argv[1:]:
    loader.testNamePatterns = [f"*{word}*" for word in sys.argv[1:]]
suite = loader.discover(str(pathlib.Path(__file__).parent))
result = unittest.TextTestRunner(verbosity=2).run(suite)
if result.testsRun == 0:
    sys.exit("no test has such a name")
sys.exit(not result.wasSuccessful())
