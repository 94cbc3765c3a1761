"""`python -m trtpoets`."""

from trtpoets.cli import main

main()
