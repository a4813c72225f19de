"""Ids and labels come off the wire and go into topics: nothing but their alphabet gets through."""

import msgspec
import pytest

from foa.errors import BadMessage
from foa.messages import Cancel, decode
from foa.values.ids import JobId, SubtaskId, WireId, cluster_id
from foa.values.task import Label


@pytest.mark.parametrize("name", ["job\n", "", "-job", "a b", "a/b", "a+", "ü", "x" * 65])
def test_an_id_of_another_alphabet_is_no_message(name: str):
    with pytest.raises(BadMessage):
        decode(msgspec.json.encode({"do": "cancel", "job": name}), Cancel)


@pytest.mark.parametrize("label", ["gdpr\n", "", "GDPR", "a b"])
def test_a_label_of_another_alphabet_is_none(label: str):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(label, Label)


def test_a_cluster_of_the_longest_job_id_has_an_id():
    jobs = [JobId("j" * 63 + last) for last in "ab"]
    ids = [cluster_id(job, SubtaskId("s12"), number) for job in jobs for number in (1, 2)]
    assert len(set(ids)) == 4
    assert all(msgspec.convert(found, WireId) == found for found in ids)


def test_a_cluster_of_a_usual_job_is_named_for_it():
    assert cluster_id(JobId("job-1"), SubtaskId("s1"), 2) == "job-1.s1.c2"
