"""The tables of reference folders: each module of this package has a list `CASES`."""

from importlib import import_module
from pkgutil import iter_modules

MODULES = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]

CASES = [case for module in MODULES for case in module.CASES]
