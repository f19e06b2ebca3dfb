"""What does fssplat answer to an input that cannot be right? One line: what, where, what to do.

`cases/` lists the inputs by area, `outcome.py` runs a command and judges its answer.
"""
