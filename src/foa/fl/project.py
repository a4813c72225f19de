"""A folder with a federated-learning project: `FL.toml` and a Flower app. Reading the file needs numpy only.

FL.toml   rounds, clients, terms, privacy, a table a site
app.py    app: ClientApp · strategy() · arrays() · config() · optional: validate(arrays), sites(clients)
"""

import importlib.util
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import msgspec

from foa.errors import BadInput
from foa.fl.guardian import Limits, Terms
from foa.fl.negotiation import Negotiation
from foa.fl.plans import Bounds
from foa.fl.wishes import WishRules
from foa.values.ids import WireId, check_id
from foa.values.resources import Name
from foa.values.task import Label

MAX_FILE_BYTES = 200_000
FILE = "FL.toml"

_Positive = Annotated[int, msgspec.Meta(ge=1, le=100_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSpec:
    """One site: what its owner allows, what its device is, what its part of the data is called."""

    name: WireId
    partition: Annotated[int, msgspec.Meta(ge=0)] = 0  #: `partition-id` for the app
    records: _Positive = 1  #: training records
    limits: Limits = Limits()
    seconds_a_step: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 0.001
    battery: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    plugged: bool = True
    width: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    usd_a_round: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0
    bytes_a_second: Annotated[float, msgspec.Meta(ge=0, le=1e9)] | None = None  #: of its line to the server
    group: Annotated[str, msgspec.Meta(max_length=64)] = ""  #: e.g. its region; `bounds.groups` names those that matter
    epsilon: Annotated[float, msgspec.Meta(gt=0, le=1000)] | None = None  #: its own budget; None: the project's
    #: what its owner wishes, in plain words, for the model that stands beside the limits; the limits hold whatever it says
    spec: Annotated[str, msgspec.Meta(max_length=1_000)] = ""
    policies: Annotated[tuple[Label, ...], msgspec.Meta(max_length=32)] = ()  #: p of its card: labels it is cleared for
    key: Annotated[str, msgspec.Meta(max_length=64)] = ""  #: public key of its card; empty: whoever announces it first


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    """Budget of every site that names none."""

    epsilon: Annotated[float, msgspec.Meta(gt=0, le=1000)]
    delta: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What FL.toml says."""

    name: Annotated[str, msgspec.Meta(max_length=64)] = ""  #: its id on the fabric; empty: the folder's name
    app: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_]+\.py$")] = "app.py"
    rounds: _Positive = 10
    clients: _Positive = 10  #: for apps that make any number of sites
    k: _Positive = 4
    purpose: Annotated[str, msgspec.Meta(max_length=200)] = "*"
    #: what a training of this project is good for, in the words that people ask with; empty: made of its purpose
    description: Annotated[str, msgspec.Meta(max_length=2_000)] = ""
    skills: Annotated[tuple[Name, ...], msgspec.Meta(max_length=16)] = ()  #: of the agent that serves it
    examples: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=300)], ...], msgspec.Meta(max_length=16)] = ()
    policies: Annotated[tuple[Label, ...], msgspec.Meta(max_length=32)] = ()  #: labels that every site has to be cleared for
    negotiation: Negotiation = Negotiation()  #: how the server bargains over terms before it trains
    #: for so many rounds the last update of a site that refuses for now is counted again, each time half as much; 0: never
    recount_rounds: Annotated[int, msgspec.Meta(ge=0, le=100)] = 3
    policy: Annotated[str, msgspec.Meta(max_length=1_000)] = ""  #: the owner's wishes for the server agent, in plain words
    terms: Terms = Terms(epochs=1, steps=100, width=1.0, batch=16, noise_multiplier=0.0, clip=1.0)
    #: field of the terms → key by which the app reads it
    keys: Mapping[str, str] = field(default_factory=dict[str, str])
    bounds: Bounds = Bounds(k_max=100_000)
    privacy: Privacy | None = None
    wishes: WishRules | None = None  #: what its sites may ask for; None: it trains when its owner says
    usd_a_round: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 0.0
    credit: bool = False
    #: axes of each array, by name, that a site of less width gets less of (HeteroFL); None: every site gets the whole model
    hidden: Mapping[str, tuple[Annotated[int, msgspec.Meta(ge=0, le=31)], ...]] | None = None
    #: the server learns the sum of a round's updates only; rules out credit, screening, compression and every other rule
    secure_aggregation: bool = False
    sites: Annotated[tuple[SiteSpec, ...], msgspec.Meta(max_length=100_000)] = ()

    def usd_most(self, clients: int | None = None) -> float:
        """What a run may pay its sites at most, US dollars: by auction, or the last price to each that trains.

        Args:
            clients: sites that the app is to make; None: as many as the project says.
        """
        if self.usd_a_round > 0 or self.negotiation.rounds == 0:
            return self.rounds * self.usd_a_round
        sites = clients or len(self.sites) or self.clients
        price = max(self.negotiation.usd, self.negotiation.usd_max)
        return self.rounds * min(self.bounds.k_max, sites) * price


def read_project(folder: Path) -> Project:
    """What a folder's FL.toml says.

    Raises:
        BadInput: there is none, it is no TOML, or a value does not fit; the message says which.
    """
    path = folder / FILE
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadInput(f"{path} is over {MAX_FILE_BYTES:,} bytes")
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}; a project folder holds {FILE} and a Flower app") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not TOML: {error}") from error
    unknown = content.keys() - {known.name for known in fields(Project)}
    if unknown:
        raise BadInput(f"{path}: there is no key {sorted(unknown)[0]!r} here")
    try:
        return msgspec.convert(content, type=Project)
    except msgspec.ValidationError as error:
        raise BadInput(f"{path}: {error}") from error


def project_id(folder: Path, project: Project) -> str:
    """What a project is called on the fabric: its name, or its folder's.

    Raises:
        BadInput: that may not stand in a topic.
    """
    try:
        return check_id(project.name or folder.resolve().name, what="project")
    except ValueError as error:
        raise BadInput(f"{folder}: {error}; give it a `name` in {FILE}") from error


class App:
    """A project's app.py, loaded. It is the user's own code and is trusted like any program they start."""

    def __init__(self, folder: Path, project: Project) -> None:
        """Load it.

        Raises:
            BadInput: it is not there, does not run, or lacks a part.
        """
        self._path = folder / project.app
        self.module = _load(self._path)
        for name in ("app", "strategy", "arrays", "config"):
            if not hasattr(self.module, name):
                raise BadInput(f"{self._path} has no {name!r}: it needs app, strategy(), arrays() and config()")

    def part(self, name: str) -> Any:
        """A part by its name; None where the app has none."""
        return getattr(self.module, name, None)

    def sites(self, project: Project, clients: int | None) -> Sequence[SiteSpec]:
        """The project's sites, or as many as the app makes.

        Raises:
            BadInput: neither names any, two have one name, or a number was asked of a project that names its sites.
        """
        make: Callable[[int], Sequence[SiteSpec]] | None = self.part("sites")
        if make is None and clients is not None and clients != len(project.sites):
            raise BadInput(f"this project names its {len(project.sites)} sites; leave --clients out")
        found = project.sites if make is None else make(clients or project.clients)
        if not found:
            raise BadInput(f"no sites: name them in {FILE} ([[sites]]), or write sites(clients) in {self._path.name}")
        if len({site.name for site in found}) != len(found):
            raise BadInput(f"two sites of {self._path.parent} have one name")
        return found


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"foa_fl_{path.parent.name}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise BadInput(f"{path} is not there: a project folder holds {FILE} and a Flower app")
    module = importlib.util.module_from_spec(spec)
    # dataclasses and torch look a module up by its name
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        raise BadInput(f"{path} needs {error.name or error}: install it, e.g. with `pip install 'foa[fl]'`") from error
    return module
