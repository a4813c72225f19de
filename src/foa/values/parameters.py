"""The numbers that steer the six phases, each written once: name, bounds, default and meaning.

A field whose type carries a title is a setting of the paper under the paper's own name (`FOE_DECOMP_THRESHOLD`); every
other field is ours and is set as `FOA_` and its name in capitals. `foa.app.settings` reads them, and
docs/reference/settings.md is written from the `#:` lines below.

Source: arXiv:2509.20175, appendix "Experimental set-up"; what the paper leaves open is marked "ours".
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Cosine = Annotated[float, msgspec.Meta(ge=-1.0, le=1.0)]
Weight = Annotated[float, msgspec.Meta(ge=0.0, le=1_000.0)]
Seconds = Annotated[float, msgspec.Meta(gt=0.0, le=86_400.0)]
SynthMode = Literal["concatenate", "rebase", "merge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What the phases of one orchestrator go by. The defaults are the paper's where it has one."""

    # ── route: who may and can (eq. 2) ─────────────────────────────────────────────────────────────────────────────────
    #: τ: agents that score below it are no candidates
    decomp_threshold: Annotated[Share, msgspec.Meta(title="FOE_DECOMP_THRESHOLD")] = 0.3
    #: how many neighbours the index gives before the score decides
    candidates_max: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 32
    #: where no agent reaches τ: how many of the nearest that pass policy are taken all the same
    fallback_agents: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4
    #: where nobody else may take a task: how long it waits for agents that may, and whose connection was lost, seconds;
    #: at most half of the job's own time
    return_seconds: Annotated[float, msgspec.Meta(ge=0.0, le=3_600.0)] = 10.0
    #: least probability that the best agent can do the work; below it no agent fits, and the work is refused, where six or
    #: more may take it; 0: never
    fit_threshold: Share = 0.1
    #: β of f = exp(−β‖gap‖): how hard a lack of resources is punished
    beta: Weight = 1.0
    #: whether the score is multiplied by a draw from the agent's reputation
    reputation: bool = True

    # ── decompose (Alg. 1) ─────────────────────────────────────────────────────────────────────────────────────────────
    #: how many agents are asked for a plan
    decomp_max_agents: Annotated[int, msgspec.Meta(ge=1, le=64, title="FOE_DECOMP_MAX_AGENTS")] = 4
    #: fewest subtasks that a proposal should have
    decomp_subtasks_min: Annotated[int, msgspec.Meta(ge=1, le=16, title="FOE_DECOMP_SUBTASKS_MIN")] = 2
    #: most subtasks that a proposal may have
    decomp_subtasks_max: Annotated[int, msgspec.Meta(ge=1, le=16, title="FOE_DECOMP_SUBTASKS_MAX")] = 4
    #: cosine from which two proposed subtasks are the same one
    decomp_merge_sim: Annotated[Cosine, msgspec.Meta(title="FOE_DECOMP_MERGE_SIM")] = 0.5
    #: most nodes of the merged plan
    nodes_max: Annotated[int, msgspec.Meta(ge=1, le=64)] = 8
    #: how often the plan may be changed after a result shows it wrong
    revisions_max: Annotated[int, msgspec.Meta(ge=0, le=16)] = 1
    #: time for proposals to come back, seconds
    proposals_seconds: Seconds = 30.0

    # ── assign (eq. 3) ─────────────────────────────────────────────────────────────────────────────────────────────────
    #: r_i: most agents that work on one subtask
    team_size: Annotated[int, msgspec.Meta(ge=1, le=16, title="FOE_TEAM_SIZE")] = 3
    #: cap_j: most subtasks of one job for an agent that states no slots of its own
    capacity: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4

    # ── draft (Alg. 2) ─────────────────────────────────────────────────────────────────────────────────────────────────
    #: time for the drafts of one subtask to come back, seconds
    draft_seconds: Seconds = 120.0
    #: how often a subtask whose whole team was lost goes to another team
    reassignments_max: Annotated[int, msgspec.Meta(ge=0, le=16)] = 1

    # ── cluster (Alg. 3) ───────────────────────────────────────────────────────────────────────────────────────────────
    #: similarity at which the dendrogram is cut
    cluster_sim_threshold: Annotated[Cosine, msgspec.Meta(title="FOE_CLUSTER_SIM_THRESHOLD")] = 0.2
    #: most members of one cluster
    cluster_max_members: Annotated[int, msgspec.Meta(ge=1, le=16, title="FOE_CLUSTER_MAX_MEMBERS")] = 4
    #: w1: weight of the capability embeddings
    cluster_w1: Weight = 0.3
    #: w2: weight of the resource vectors
    cluster_w2: Weight = 0.0
    #: w3: weight of the drafts' embeddings
    cluster_w3: Weight = 0.5
    #: w4: weight of the Spec embeddings
    cluster_w4: Weight = 0.2

    # ── refine (Alg. 4) ────────────────────────────────────────────────────────────────────────────────────────────────
    #: k: most rounds of refinement
    refine_rounds: Annotated[int, msgspec.Meta(ge=0, le=16, title="FOE_REFINE_ROUNDS")] = 3
    #: time for all rounds of one cluster, seconds; then the best draft stands
    refine_timeout: Annotated[Seconds, msgspec.Meta(title="FOE_REFINE_TIMEOUT")] = 300.0
    #: deadline of one round, seconds
    round_seconds: Seconds = 20.0
    #: share of the voices, by weight, that ends the rounds
    quorum: Share = 0.67
    #: the rounds end when the answers moved less than this on average
    gain: Share = 0.02

    # ── synthesise (Alg. 5, eq. 4) ─────────────────────────────────────────────────────────────────────────────────────
    #: SYNTH: join the reports, resolve their conflicts, or summarise them
    synth: SynthMode = "concatenate"
    #: time for one synthesis by Agent-0's own model, seconds
    synth_seconds: Seconds = 60.0

    def __post_init__(self) -> None:
        if self.decomp_subtasks_min > self.decomp_subtasks_max:
            raise ValueError(
                f"FOE_DECOMP_SUBTASKS_MIN is {self.decomp_subtasks_min} and FOE_DECOMP_SUBTASKS_MAX "
                f"{self.decomp_subtasks_max}: the least must not be over the most"
            )
        if self.cluster_w1 + self.cluster_w2 + self.cluster_w3 + self.cluster_w4 <= 0.0:
            raise ValueError("FOA_CLUSTER_W1 to FOA_CLUSTER_W4 are all 0: one of them must be more")
