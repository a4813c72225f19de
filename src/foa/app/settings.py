"""Every setting, read once: command line, environment, the user's file, the federation's file, defaults, in this order.

    command line ─► FOA_… / FOE_… ─► ~/.config/foa/foa.toml ─► FEDERATION.toml ─► default
                          the first that names a setting decides, `foa settings` shows which

The paper's parameters keep the paper's names (`FOE_DECOMP_THRESHOLD`); ours begin with `FOA_`. In a TOML file they stand
under the same names in the table `[settings]`. A file in the working directory is not read unless somebody names it:
`foa ask` is made to be run inside other people's repositories, and such a file could send keys elsewhere.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import msgspec

from foa.app.bounds import describe, metas
from foa.app.nearest import nearest
from foa.app.toml_file import TomlFile
from foa.errors import BadInput
from foa.values.budget import Amount, Budget, Count
from foa.values.ids import ID_PATTERN, check_id
from foa.values.parameters import Parameters

Text = Annotated[str, msgspec.Meta(max_length=2_000)]
Secret = Annotated[str, msgspec.Meta(max_length=4_000, description="secret")]
Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
#: RFC 8037, `x`: 32 bytes as base64url without padding.
_PUBLIC_KEY = re.compile(r"[A-Za-z0-9_-]{43}")
#: A policy label, or a family of them.
_LABELS = re.compile(r"[a-z0-9][a-z0-9:._-]{0,63}|[a-z0-9][a-z0-9._-]{0,60}:\*")
PREFIXES = ("FOA_", "FOE_")
#: Where values come as text, so that `"2"` is a number there; in a file 2 is.
LAX = ("environment", "command line")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What this process goes by."""

    # ── the fabric ─────────────────────────────────────────────────────────────────────────────────────────────────────
    #: broker, `mqtt://host:port` or `mqtts://host:port`; empty: an embedded broker is started
    broker_url: Text = ""
    #: user name at the broker; empty: none
    broker_username: Text = ""
    #: password at the broker
    broker_password: Secret = field(default="", repr=False)
    #: file with the certificate authorities that may sign the broker's certificate; empty: the system's
    broker_ca: Text = ""
    #: port on which `foa up` and `foa broker` listen, on loopback; 0: any free one
    broker_port: Port = 1883
    #: how long agents may be cut off from the broker before their work goes to others, seconds
    away_seconds: Annotated[int, msgspec.Meta(ge=0, le=3_600)] = 5
    #: first level of every topic; a tenant is a root
    root: Annotated[str, msgspec.Meta(pattern=ID_PATTERN)] = "foa"
    #: policy labels that this federation knows, `gdpr, phi, region:*`: a card that claims another is refused; empty: any
    policies: Text = ""
    #: MQTT client library
    transport: Literal["mqttium", "paho"] = "mqttium"

    # ── other orchestrators ────────────────────────────────────────────────────────────────────────────────────────────
    #: orchestrators whose registries are kept alike with this one's, and their keys: `zero-a=KEY, zero-b=KEY`, as
    #: `foa orchestrator --show-key` prints them; its own may be among them; empty: none
    gossip_peers: Text = ""
    #: brokers of orchestrators elsewhere, `mqtt://user:password@host:port, …`; agents there become known here
    gossip_brokers: Secret = field(default="", repr=False)
    #: how often registries are compared, seconds
    gossip_seconds: Annotated[float, msgspec.Meta(ge=0.1, le=3_600.0)] = 30.0

    # ── models ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    #: OpenAI-compatible endpoint, e.g. `http://localhost:11434/v1` for Ollama; empty: the embedded model
    model_url: Text = ""
    #: model's name at that endpoint
    model: Text = ""
    #: names that agent files may ask for by `model:`, and what the endpoint calls them: `sonnet=qwen3:8b, opus=qwen3:32b`;
    #: an agent that asks for another gets FOA_MODEL
    models: Text = ""
    #: key for that endpoint
    model_key: Secret = field(default="", repr=False)
    #: whether the model can drive tools by itself; small ones cannot, and are given what was found instead
    model_tools: bool = False
    #: `wordllama` (embedded), `minilm` (embedded, better and slower; extra `minilm`), or the name of an embedding model at
    #: FOA_EMBEDDER_URL
    embedder: Text = "wordllama"
    #: OpenAI-compatible endpoint of the embedder; empty: FOA_MODEL_URL
    embedder_url: Text = ""
    #: length of its vectors; longer ones are cut to it (Matryoshka)
    embedder_dimension: Annotated[int, msgspec.Meta(ge=8, le=8_192)] = 256

    # ── where agents are searched ──────────────────────────────────────────────────────────────────────────────────────
    #: `edge` (Qdrant's engine in this process), `exact` (every vector compared, in memory: up to some thousands of agents),
    #: or `qdrant` (a server at FOA_INDEX_URL; extra `qdrant`)
    index: Literal["edge", "exact", "qdrant"] = "edge"
    #: folder of one orchestrator in which its index and its agents' cards are kept; empty: `foa orchestrator` keeps them
    #: under the state directory, `foa up` in memory and in a temporary folder
    index_dir: Text = ""
    #: into how many parts the index is split, each built by itself, searched in turn; another number, and it is built again
    index_shards: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    #: only 4-bit codes of the vectors are kept in memory, the vectors are read from disk: less memory, slower searches
    index_quantised: bool = False
    #: address of the Qdrant server, `http://127.0.0.1:6333`
    index_url: Text = ""
    #: its API key
    index_key: Secret = field(default="", repr=False)
    #: how the names of its collections begin; the orchestrator's and the embedder's follow
    index_collection: Annotated[str, msgspec.Meta(pattern=ID_PATTERN)] = "foa-agents"

    # ── federated learning ─────────────────────────────────────────────────────────────────────────────────────────────
    #: `host:port` at which the server of a run gives and takes models above 1 MB by HTTP; empty: in a folder under the state
    #: directory, which its sites then have to share
    fl_listen: Text = ""
    #: address by which sites reach that, where it is not `http://host:port` (a public name, a proxy)
    fl_url: Text = ""
    #: certificate for it, PEM; with FOA_FL_KEY it is HTTPS
    fl_cert: Text = ""
    #: key of that certificate, PEM without a passphrase
    fl_key: Text = ""
    #: at a site: file with the certificate authorities that may sign the server's certificate; empty: the system's
    fl_ca: Text = ""
    #: at a site: hosts from which models are taken and to which updates are brought, with commas between; empty: any that a
    #: server names
    fl_hosts: Text = ""
    #: most bytes of one model or update
    fl_blob_bytes: Annotated[int, msgspec.Meta(ge=1_000_000, le=2_000_000_000)] = 2_000_000_000

    # ── what one task may spend unless it says otherwise ───────────────────────────────────────────────────────────────
    #: US dollars
    budget_usd: Amount = 1.0
    #: model tokens, read and written, over all agents
    budget_tokens: Count = 200_000
    #: model calls over all agents
    budget_calls: Count = 200
    #: seconds from intake to answer
    budget_seconds: Amount = 600.0

    # ── this machine ───────────────────────────────────────────────────────────────────────────────────────────────────
    #: where the journal, the broker's sessions and the agents' replies are kept
    state_dir: Path = Path("~/.local/state/foa")
    #: where weights and indexes are kept that can be made again
    cache_dir: Path = Path("~/.cache/foa")
    #: folder of evaluation data for `scripts/bench`; empty: none
    data: Text = ""
    #: least severe log line that is written to stderr
    log: Literal["debug", "info", "warning", "error"] = "warning"
    #: show tracebacks instead of one sentence
    debug: bool = False

    # ── the phases ─────────────────────────────────────────────────────────────────────────────────────────────────────
    parameters: Parameters = Parameters()  #: what the six phases go by
    origins: Mapping[str, str] = field(default_factory=dict[str, str])  #: setting → where its value comes from

    def __post_init__(self) -> None:
        for folder in ("state_dir", "cache_dir"):
            object.__setattr__(self, folder, getattr(self, folder).expanduser())
        if self.model_url and not self.model:
            raise ValueError("FOA_MODEL_URL is set and FOA_MODEL is not: name the model that the endpoint should use")
        if self.model and not self.model_url:
            raise ValueError(f"FOA_MODEL is {self.model!r} and FOA_MODEL_URL is not set: give the address of its endpoint")
        if self.models and not self.model_url:
            raise ValueError("FOA_MODELS is set and FOA_MODEL_URL is not: give the address of the endpoint that has them")
        if self.gossip_brokers and not self.gossip_peers:
            raise ValueError(
                "FOA_GOSSIP_BROKERS is set and FOA_GOSSIP_PEERS is not: name the orchestrators that are heard there"
            )
        if (self.index == "qdrant") != bool(self.index_url):
            raise ValueError(
                "FOA_INDEX is qdrant and FOA_INDEX_URL is not set: give the server's address"
                if self.index == "qdrant"
                else f"FOA_INDEX_URL is set and FOA_INDEX is {self.index}: set FOA_INDEX=qdrant, or leave the address out"
            )
        if self.index_url and not re.match("https?://[^/]", self.index_url):
            raise ValueError("FOA_INDEX_URL is no address of a server, as in `http://127.0.0.1:6333`")
        self.models_by_name()
        self.peers()
        self.known_policies()

    def peers(self) -> Mapping[str, str]:
        """Public keys of the orchestrators that are heard, by name.

        Raises:
            ValueError: an entry of `gossip_peers` is not `name=key`.
        """
        found = _pairs(self.gossip_peers, "FOA_GOSSIP_PEERS", "name=key", "zero-a=" + 43 * "…")
        for name, key in found.items():
            check_id(name, what="FOA_GOSSIP_PEERS: orchestrator")
            if not _PUBLIC_KEY.fullmatch(key):
                raise ValueError(f"FOA_GOSSIP_PEERS: {key[:60]!r} is no key: `foa orchestrator --show-key` prints one")
        return found

    def other_brokers(self) -> Sequence[str]:
        """Addresses of the brokers of orchestrators elsewhere."""
        return [part.strip() for part in self.gossip_brokers.split(",") if part.strip()]

    def known_policies(self) -> frozenset[str]:
        """Policy labels that cards may claim, `region:*` for a family; none: any.

        Raises:
            ValueError: one is no label.
        """
        labels = frozenset(part.strip() for part in self.policies.split(",") if part.strip())
        for label in labels:
            if not _LABELS.fullmatch(label):
                raise ValueError(f"FOA_POLICIES: {label!r} is no policy label; write them as `gdpr, phi, region:*`")
        return labels

    def models_by_name(self) -> Mapping[str, str]:
        """What the endpoint calls the models that agent files may ask for.

        Raises:
            ValueError: an entry of `models` is not `name=model`.
        """
        return _pairs(self.models, "FOA_MODELS", "name=model", "sonnet=qwen3:8b, opus=qwen3:32b")

    @property
    def budget(self) -> Budget:
        """What a task may spend that says nothing itself."""
        return Budget(usd=self.budget_usd, tokens=self.budget_tokens, calls=self.budget_calls, seconds=self.budget_seconds)


def _pairs(text: str, setting: str, form: str, example: str) -> dict[str, str]:
    """Read `name=value, name=value`.

    Raises:
        ValueError: an entry has another form.
    """
    found: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, joined, value = (part.strip() for part in entry.partition("="))
        if not (name and joined and value):
            raise ValueError(f"{setting}: {entry!r} is not `{form}`, as in `{example}`")
        found[name] = value
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One setting as people write it."""

    name: str  #: `FOE_DECOMP_THRESHOLD`, `FOA_MODEL_URL`
    field: str  #: its attribute
    owner: type  #: `Settings` or `Parameters`
    type: Any  #: with its bounds
    default: Any

    @property
    def secret(self) -> bool:
        """Whether its value must not be shown."""
        return any(meta.description == "secret" for meta in metas(self.type))


@cache
def known_settings() -> Mapping[str, Known]:
    """Every setting by its name, in the order of the classes."""
    found: dict[str, Known] = {}
    for owner in (Settings, Parameters):
        hints = get_type_hints(owner, include_extras=True)
        for each in fields(owner):
            if each.name in {"parameters", "origins"}:
                continue
            titles = [meta.title for meta in metas(hints[each.name]) if meta.title]
            name = titles[-1] if titles else "FOA_" + each.name.upper()
            default = None if each.default is MISSING else each.default
            found[name] = Known(name=name, field=each.name, owner=owner, type=hints[each.name], default=default)
    return found


def read_settings(
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
    federation: TomlFile | None = None,
) -> Settings:
    """Put the settings together.

    Args:
        environ: the environment; the process's own by default.
        overrides: values by setting name that the command line or a library user gives; they go first.
        federation: a FEDERATION.toml whose `[settings]` go last.

    Raises:
        BadInput: a name is unknown (the nearest known one is named), a value does not fit, a file cannot be read;
            for a file, with its line.
    """
    environment = dict(os.environ if environ is None else environ)
    own = user_file(environment)
    values: dict[str, tuple[object, str]] = dict(_folders(environment))
    for file in (federation, own):
        if file is not None:
            values |= _from_file(file)
    values |= {name: (value, "environment") for name, value in _ours(environment).items()}
    values |= {name: (value, "command line") for name, value in (overrides or {}).items()}
    return _build(values)


def as_environment(settings: Settings) -> dict[str, str]:
    """Every setting as the environment of a child process has it: the child goes by these and by nothing else."""
    owners: Mapping[type, object] = {Settings: settings, Parameters: settings.parameters}
    return {name: _as_text(getattr(owners[known.owner], known.field)) for name, known in known_settings().items()}


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def user_file(environ: Mapping[str, str]) -> TomlFile | None:
    """The user's own file: FOA_CONFIG, else `foa.toml` in the configuration folder if it is there.

    Raises:
        BadInput: FOA_CONFIG names a file that cannot be read, or the file is not TOML.
    """
    if named := environ.get("FOA_CONFIG"):
        return TomlFile.read(Path(named).expanduser())
    folder = environ.get("XDG_CONFIG_HOME") or "~/.config"
    usual = Path(folder).expanduser() / "foa" / "foa.toml"
    return TomlFile.read(usual) if usual.is_file() else None


def wants_tracebacks(environ: Mapping[str, str] | None = None) -> bool:
    """Whether FOA_DEBUG asks for tracebacks; readable even where the settings themselves are not."""
    return (os.environ if environ is None else environ).get("FOA_DEBUG", "").lower() in {"1", "true", "yes", "on"}


def _ours(environ: Mapping[str, str]) -> Mapping[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(PREFIXES) and name != "FOA_CONFIG"}


def _folders(environ: Mapping[str, str]) -> Mapping[str, tuple[object, str]]:
    """Where the system says that such folders belong (XDG Base Directory Specification)."""
    homes = {"FOA_STATE_DIR": "XDG_STATE_HOME", "FOA_CACHE_DIR": "XDG_CACHE_HOME"}
    return {name: (f"{environ[home]}/foa", home) for name, home in homes.items() if environ.get(home)}


def _from_file(file: TomlFile) -> Mapping[str, tuple[object, str]]:
    table = file.table("settings")
    return {name: (value, file.place(name, section="settings")) for name, value in table.items()}


def _build(values: Mapping[str, tuple[object, str]]) -> Settings:
    known = known_settings()
    chosen: dict[type, dict[str, Any]] = {Settings: {}, Parameters: {}}
    for name, (value, origin) in values.items():
        setting = known.get(name)
        if setting is None:
            raise BadInput(f"{origin}: there is no setting {name}{nearest(name, known)} (`foa settings` lists them)")
        chosen[setting.owner][setting.field] = _convert(setting, value, origin)
    origins = {name: origin for name, (_, origin) in values.items()}
    try:
        return Settings(**chosen[Settings], parameters=Parameters(**chosen[Parameters]), origins=origins)
    except ValueError as error:
        raise BadInput(str(error)) from error


def _convert(setting: Known, value: object, origin: str) -> Any:
    try:
        return msgspec.convert(value, setting.type, strict=origin not in LAX, dec_hook=_path)
    except msgspec.ValidationError as error:
        shown = "that" if setting.secret else repr(value)[:80]
        raise BadInput(f"{origin}: {setting.name} cannot be {shown}: it takes {describe(setting.type)}") from error


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str | Path) and str(value):
        return Path(value).expanduser()
    raise msgspec.ValidationError("Expected a path")
