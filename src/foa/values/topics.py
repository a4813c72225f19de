"""Topic names, each written once. The root is a setting and a tenant is a root (design: docs/reference/wire.md)."""

from dataclasses import dataclass

from foa.values.ids import AgentId, ClusterId, JobId, OrchestratorId


@dataclass(frozen=True, slots=True)
class Topics:
    """Every topic and topic filter under one root."""

    root: str = "foa"

    def jobs(self) -> str:
        """Submissions, client to any Agent-0."""
        return f"{self.root}/orchestrator/jobs"

    def shared_jobs(self) -> str:
        """Filter through which the orchestrators share submissions (MQTT v5, 4.8.2)."""
        return f"$share/agent-0/{self.jobs()}"

    def cancel(self, job: JobId | str = "+") -> str:
        """A wish to stop one job; every Agent-0 listens to the `+` form."""
        return f"{self.root}/orchestrator/cancel/{job}"

    def meta(self, job: JobId | str = "+") -> str:
        """Progress events of one job."""
        return f"{self.root}/meta/{job}"

    def result(self, job: JobId | str = "+") -> str:
        """The result of one job, retained."""
        return f"{self.root}/result/{job}"

    def capability(self, agent: AgentId | str = "+") -> str:
        """The signed VCV of one agent, retained; an empty payload: it left."""
        return f"{self.root}/capabilities/updates/{agent}"

    def vitals(self, agent: AgentId | str = "+") -> str:
        """Load, price now, queue; also the last will's "gone"."""
        return f"{self.root}/capabilities/vitals/{agent}"

    def remote(self, agent: AgentId | str = "+") -> str:
        """The card of one agent at another broker, retained; an empty payload: it left, or is on this one."""
        return f"{self.root}/capabilities/remote/{agent}"

    def tasks(self, agent: AgentId) -> str:
        """Requests to one agent."""
        return f"{self.root}/agents/{agent}/tasks"

    def training(self, agent: AgentId) -> str:
        """Flower messages to one site of federated learning; replies go to their Response Topic."""
        return f"{self.root}/agents/{agent}/fl"

    def wishes(self, project: str, agent: AgentId | str = "+") -> str:
        """What a site wishes of a project's server, signed."""
        return f"{self.root}/fl/wishes/{project}/{agent}"

    def told(self, project: str, agent: AgentId | str = "+") -> str:
        """What a project's server tells a site of its wish, retained."""
        return f"{self.root}/fl/told/{project}/{agent}"

    def replies(self, orchestrator: OrchestratorId) -> str:
        """Replies to one orchestrator."""
        return f"{self.root}/orchestrators/{orchestrator}/replies"

    def echo(self, name: str) -> str:
        """What an orchestrator says to itself, to know that everything before it has arrived."""
        return f"{self.root}/orchestrators/{name}/echo"

    def channel(self, cluster: ClusterId | str = "+") -> str:
        """The channel of one cluster: round posts, votes, TASK_COMPLETE."""
        return f"{self.root}/clusters/{cluster}/channel"

    def gossip(self, orchestrator: OrchestratorId | str = "+") -> str:
        """Digests and deltas between orchestrators."""
        return f"{self.root}/gossip/{orchestrator}"

    def enforcement(self) -> str:
        """Every denial and grant that matters, for auditors."""
        return f"{self.root}/policies/enforcement"

    def id_of(self, topic: str) -> str:
        """The id inside a topic of one of the per-thing families above: its one variable level.

        Raises:
            ValueError: the topic is none of them.
        """
        levels = topic.removeprefix(self.root + "/").split("/")
        match levels:
            case ["meta" | "result" | "gossip", found]:
                return found
            case ["capabilities", "updates" | "vitals" | "remote", found]:
                return found
            case ["agents" | "orchestrators" | "clusters", found, "tasks" | "fl" | "replies" | "channel"]:
                return found
            case ["fl", "wishes" | "told", _, found]:
                return found
            case ["orchestrator", "cancel", found]:
                return found
            case _:
                raise ValueError(f"no id in topic {topic!r}")
