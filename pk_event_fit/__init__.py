"""Fits Neural ODEs to pharmacokinetic dosing data, with the solver library of your choice.

Importing this package loads no array library but NumPy.
"""

__version__ = "0.1.0"
