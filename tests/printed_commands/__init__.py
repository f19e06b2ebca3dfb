"""Does every command that is printed anywhere work when it is pasted?

`collected` finds the commands, `checkout` runs them, `not_run` lists those that cannot be run here.
"""
