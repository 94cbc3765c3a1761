"""Starts a command of the runtime beside this file, whatever the current folder holds."""

from trtpoets.onboard.__main__ import main

main()
