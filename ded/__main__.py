"""`python -m ded`."""

from ded.cli import main

main()
