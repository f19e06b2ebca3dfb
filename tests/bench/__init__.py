"""Do the benchmarks run?"""
