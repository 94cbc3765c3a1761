"""`python -m trtpoets`."""

from trtpoets.cli.main import main

main()
