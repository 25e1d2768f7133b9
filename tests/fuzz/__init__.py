"""Hostile cases: `make fuzz` runs thousands of them, tests/test_fuzz.py a few.

A kind of case makes an input with hypothesis, gives it to a command or a function, and says what came
of it.  At fault is whatever ends in a traceback, a crash, a wait without end, nonsense that was taken
for sense, or something left behind.
"""
