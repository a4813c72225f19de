"""A site's privacy ledger: an append-only SQLite file that says no before the budget is exceeded.

    debit(key) ─► train ─► keep(key, reply) ─► send
        │            └─ killed here: the debit stands; the same key trains again under it, nothing was sent
        │            └─ the app failed: that it did was told, so the round is over (`keep` with nothing)
        └─ refused: BudgetExceeded, nothing written

Write-ahead: the debit is on disk before training starts and nothing gives it back. A round key is debited once; a repeated
request for it is answered with the reply that was kept, so that the same debit never pays for two releases. The filter is
valid although an agent picks every round's noise after seeing earlier rounds (see `foa.fl.privacy`).
"""

import sqlite3
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from foa.errors import BadInput, BudgetExceeded, StoreFailed
from foa.fl.privacy import Mechanism, PrivacyBudget

FORMAT = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS budget (
    one INTEGER PRIMARY KEY CHECK (one = 1), format INTEGER NOT NULL,
    epsilon REAL NOT NULL, delta REAL NOT NULL, rdp_order INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS debits (
    number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, rdp REAL NOT NULL CHECK (rdp > 0),
    terms TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY REFERENCES debits (key), reply BLOB NOT NULL);
CREATE TRIGGER IF NOT EXISTS no_refund BEFORE DELETE ON debits BEGIN SELECT RAISE(ABORT, 'debits are for ever'); END;
CREATE TRIGGER IF NOT EXISTS no_change BEFORE UPDATE ON debits BEGIN SELECT RAISE(ABORT, 'debits are for ever'); END;
CREATE TRIGGER IF NOT EXISTS one_budget BEFORE UPDATE ON budget BEGIN SELECT RAISE(ABORT, 'the budget is fixed'); END;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Debit:
    """One entry of the ledger."""

    key: str  #: what it pays for, e.g. `run-7/round-3`
    rdp: float  #: Rényi divergence at the ledger's order
    terms: str  #: the mechanism, as text
    fresh: bool  #: written by this call; False: it was there already
    epsilon_spent: float  #: ε of all debits, this one included


class PrivacyLedger:
    """What one site has spent of its privacy budget. Safe to share between threads, and between processes through its file.

    Use it as a context manager, or call `close`.
    """

    def __init__(self, path: Path | str, budget: PrivacyBudget) -> None:
        """Open the ledger, creating it with this budget if it is new.

        Args:
            path: the file, or `:memory:` for one that is forgotten (tests, simulations).
            budget: must be the very budget the ledger was created with.

        Raises:
            BadInput: the file holds another budget: a budget that has been spent from cannot be swapped.
            StoreFailed: the file cannot be opened or is no ledger.
        """
        self._lock = threading.RLock()
        self.budget = budget
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30.0)
        except sqlite3.Error as error:
            raise StoreFailed(f"privacy ledger {path}: {error}") from error
        try:
            with self._failing(path):
                self._create()
            self._check_same(path)
        except BaseException:
            self._db.close()
            raise

    def _create(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        # FULL: a commit is on the disk when it returns, also if the power goes
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)
        self._db.execute(
            "INSERT OR IGNORE INTO budget VALUES (1, ?, ?, ?, ?)",
            (FORMAT, self.budget.epsilon, self.budget.delta, self.budget.order),
        )

    def _check_same(self, path: Path | str) -> None:
        found = self._db.execute("SELECT format, epsilon, delta, rdp_order FROM budget").fetchone()
        if found[0] != FORMAT:
            raise BadInput(f"privacy ledger {path} has format {found[0]}, this program reads {FORMAT}: update it")
        if found[1:] != (self.budget.epsilon, self.budget.delta, self.budget.order):
            raise BadInput(
                f"privacy ledger {path} was opened with epsilon {found[1]:g}, delta {found[2]:g} and order {found[3]}; "
                "use the same budget again, it cannot be changed once data was spent"
            )

    @contextmanager
    def _failing(self, what: object) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreFailed(f"privacy ledger ({what}): {error}") from error

    def debit(self, key: str, mechanism: Mechanism, *, at: float) -> Debit:
        """Pay for one release before it is made. On disk when this returns.

        Args:
            key: names the release; a second debit under it writes nothing.
            mechanism: what will be done with the data.
            at: seconds since the epoch, for the record.

        Raises:
            BudgetExceeded: what is left does not pay for it; nothing was written.
            BadInput: the key was debited under terms that cost less, so it does not cover this release.
            StoreFailed: the file could not be written; do not train.
        """
        cost = mechanism.rdp(self.budget.order)
        if not 0 < cost < float("inf"):
            raise BudgetExceeded(f"a release of cost {cost} cannot be paid for: it has no privacy guarantee")
        with self._lock, self._failing(key), self._transaction():
            before = self._db.execute("SELECT rdp, terms FROM debits WHERE key = ?", (key,)).fetchone()
            if before is not None:
                return self._again(key, before, cost)
            spent = self._spent()
            if spent + cost > self.budget.allowance:
                raise BudgetExceeded(
                    f"epsilon {self.budget.epsilon_of(spent + cost):.2f} after this round is over the budget of "
                    f"{self.budget.epsilon:g}: ask for more noise, fewer steps, or leave this site out"
                )
            self._db.execute(
                "INSERT INTO debits (key, rdp, terms, at) VALUES (?, ?, ?, ?)", (key, cost, repr(mechanism), at)
            )
        return Debit(
            key=key, rdp=cost, terms=repr(mechanism), fresh=True, epsilon_spent=self.budget.epsilon_of(spent + cost)
        )

    def _again(self, key: str, before: tuple[float, str], cost: float) -> Debit:
        if cost > before[0]:
            raise BadInput(f"round {key} was paid for as {before[1]}; it cannot be run again under costlier terms")
        return Debit(
            key=key, rdp=before[0], terms=before[1], fresh=False, epsilon_spent=self.budget.epsilon_of(self._spent())
        )

    @contextmanager
    def _transaction(self) -> Generator[None]:
        # IMMEDIATE: no other process reads the sum between our check and our write
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def keep(self, key: str, reply: bytes) -> bytes:
        """Store the reply of a paid round before it is sent. Gives the one to send: the first that was kept.

        An empty one says that the round was answered and that there is nothing to send again.

        Raises:
            StoreFailed: it could not be stored, or the key was never debited; do not send.
        """
        with self._lock, self._failing(key):
            if self._db.execute("SELECT 1 FROM debits WHERE key = ?", (key,)).fetchone() is None:
                raise StoreFailed(f"round {key} was never paid for: debit it before keeping a reply")
            self._db.execute("INSERT OR IGNORE INTO replies VALUES (?, ?)", (key, reply))
            return bytes(self._db.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()[0])

    def find(self, key: str) -> bytes | None:
        """The reply that was kept for this round.

        Raises:
            BudgetExceeded: it was answered and its reply is not kept any more; asked again, it would have to be paid again.
        """
        with self._lock, self._failing(key):
            row = self._db.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        if row is not None and not row[0]:
            raise BudgetExceeded(f"round {key} was paid for and answered, and its reply is not kept any more")
        return None if row is None else bytes(row[0])

    def forget_replies(self, *, but: str) -> None:
        """Let go of the replies of every other run. Their rounds stay answered: none is trained again under its debit.

        What is kept under a key without a slash is of no run (`foa.fl.counts`) and stays.

        Args:
            but: name of the run whose replies are kept.

        Raises:
            StoreFailed: the file could not be written.
        """
        with self._lock, self._failing(but):
            self._db.execute(
                "UPDATE replies SET reply = x'' WHERE instr(key, '/') > 0 AND substr(key, 1, ?) != ?",
                (len(but) + 1, f"{but}/"),
            )

    def paid(self, key: str) -> float | None:
        """Rényi divergence that was debited for this round; None: nothing yet."""
        with self._lock, self._failing(key):
            row = self._db.execute("SELECT rdp FROM debits WHERE key = ?", (key,)).fetchone()
        return None if row is None else float(row[0])

    def _spent(self) -> float:
        return float(self._db.execute("SELECT COALESCE(SUM(rdp), 0.0) FROM debits").fetchone()[0])

    @property
    def spent(self) -> float:
        """Rényi divergence spent, at the ledger's order."""
        with self._lock, self._failing("sum"):
            return self._spent()

    @property
    def epsilon_spent(self) -> float:
        """ε of everything spent, at the ledger's order and δ."""
        return self.budget.epsilon_of(self.spent)

    @property
    def left(self) -> float:
        """Rényi divergence that may still be spent."""
        return max(0.0, self.budget.allowance - self.spent)

    def affords(self, mechanism: Mechanism) -> bool:
        """Whether a debit of this would pass now. A promise to nobody: only `debit` reserves."""
        return 0 < mechanism.rdp(self.budget.order) <= self.left

    def entries(self) -> list[Debit]:
        """Every debit, oldest first."""
        with self._lock, self._failing("list"):
            rows = self._db.execute("SELECT key, rdp, terms FROM debits ORDER BY number").fetchall()
        total, found = 0.0, list[Debit]()
        for key, rdp, terms in rows:
            total += rdp
            found.append(Debit(key=key, rdp=rdp, terms=terms, fresh=False, epsilon_spent=self.budget.epsilon_of(total)))
        return found

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> "PrivacyLedger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def kept_order(path: Path) -> int | None:
    """The Rényi order of a ledger that is there already: it stays, whatever a later run plans. None: there is no ledger.

    Raises:
        StoreFailed: the file is no ledger.
    """
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(path, timeout=30.0)) as db:
            found = db.execute("SELECT rdp_order FROM budget").fetchone()
    except sqlite3.Error as error:
        raise StoreFailed(f"privacy ledger {path}: {error}") from error
    return None if found is None else int(found[0])


def bucketed(epsilon: float, *, width: float = 0.5) -> float:
    """ε as it may be told to others: rounded down to a multiple of `width`, since exact spending says what was done."""
    return max(0.0, width * int(epsilon / width))
