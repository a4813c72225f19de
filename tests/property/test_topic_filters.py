"""The filter table against the rules of MQTT v5, 4.7, written out one filter at a time."""

from hypothesis import given
from hypothesis import strategies as st

from foa.transport.matcher import FilterTable, matches

LEVEL = st.sampled_from(["", "a", "b", "c"])
TOPIC = st.lists(LEVEL, min_size=1, max_size=4).map("/".join).filter(bool) | st.sampled_from(["$SYS/a", "$SYS"])
FILTER = st.builds(
    lambda levels, rest: "/".join([*levels, "#"] if rest else levels),
    st.lists(LEVEL | st.just("+"), min_size=1, max_size=4),
    st.booleans(),
).filter(bool) | st.sampled_from(["#", "+", "$SYS/#", "$SYS/+", "$share/g/a/+", "$share/g/#"])


def by_the_book(topic_filter: str, topic: str) -> bool:
    """4.7 word for word."""
    if topic_filter.startswith("$share/"):
        topic_filter = topic_filter.split("/", 2)[2]
    if topic.startswith("$") and topic_filter[0] in "+#":
        return False
    wanted, levels = topic_filter.split("/"), topic.split("/")
    for index, level in enumerate(wanted):
        if level == "#":
            return True  # the parent level too: "a/#" matches "a"
        if index == len(levels) or level not in ("+", levels[index]):
            return False
        if index == len(levels) - 1 and wanted[index + 1 :] == ["#"]:
            return True
    return len(wanted) == len(levels)


@given(FILTER, TOPIC)
def test_one_filter_matches_by_the_book(topic_filter: str, topic: str) -> None:
    assert matches(topic_filter, topic) == by_the_book(topic_filter, topic)


@given(st.lists(st.tuples(FILTER, st.integers(0, 5), st.booleans()), max_size=30), st.lists(TOPIC, min_size=1, max_size=5))
def test_a_table_gives_what_its_filters_give_one_by_one(changes: list[tuple[str, int, bool]], topics: list[str]) -> None:
    table: FilterTable[int] = FilterTable()
    there: list[tuple[str, int]] = []
    for topic_filter, value, adds in changes:
        if adds:
            table.add(topic_filter, value)
            there.append((topic_filter, value))
        else:
            table.discard(topic_filter, value)
            same = [one for one in there if one[1] == value and inner(one[0]) == inner(topic_filter)]
            if same:
                there.remove(same[0])
        for topic in topics:
            found = table.match(topic)
            assert len(found) == len(set(found))
            assert set(found) == {value for wanted, value in there if by_the_book(wanted, topic)}


def inner(topic_filter: str) -> str:
    return topic_filter.split("/", 2)[2] if topic_filter.startswith("$share/") else topic_filter
