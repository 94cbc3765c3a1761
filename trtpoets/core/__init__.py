"""Types, errors, photo decoding and file access, used by every other folder. Imports no other folder of trtpoets."""
