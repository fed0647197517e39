"""`python -m audiodiff`, which is `audiodiff`."""

from audiodiff.cli.main import main

main()
