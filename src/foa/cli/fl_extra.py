"""The parts of `foa fl` that need Flower and torch, loaded when they are asked for: its help works without them."""

from importlib import import_module
from types import ModuleType

from foa.errors import BadInput


def extra(module: str) -> ModuleType:
    """A module that needs the extra `fl`.

    Raises:
        BadInput: the extra is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise BadInput(f"`foa fl` needs {error.name}: install the extra, `pip install 'foa[fl]'`") from error
