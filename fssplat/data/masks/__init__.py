"""How are masks read, checked and written?"""
