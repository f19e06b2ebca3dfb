"""Which models are there, and how is one opened, exported, imported?"""
