"""What a reply tells besides its model, where that model was trained with noise. Needs the extra `fl`.

A mean loss or an accuracy over training records is a function of those records that no noise protects, and its sensitivity
is not known from outside the app: so they stay at the site, and cost nothing. The count is replaced by the coarse one that
the site announces anyway (docs/decisions/0031).
"""

from flwr.app import Message, MetricRecord

from foa.fl.block import bucketed_samples
from foa.fl.packing import PACKED

SAMPLES = "num-examples"  #: Flower's usual name of a count


def hush(reply: Message, *, records: int, samples_key: str = SAMPLES) -> None:
    """Leave the model, and a coarse count, in a reply; every other metric and every other setting goes.

    Args:
        reply: of the app, trained with noise.
        records: training records of the site.
        samples_key: the metric that says how much an update counts.
    """
    for name, metrics in list(reply.content.metric_records.items()):
        counted = samples_key in metrics
        reply.content[name] = MetricRecord({samples_key: bucketed_samples(records)} if counted else {})
    for name in [*reply.content.config_records]:
        if name != PACKED:
            del reply.content[name]
