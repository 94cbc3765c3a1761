"""The commands of trtpoets as Python functions, with the names and options that they have on the command line.

The stages of the pipeline (retrain, export, quantize, build, evaluate, bench, report) connect the other packages. A
stage computes a key from its inputs and options, and does nothing if the result on disk has a valid card with that key.
"""
