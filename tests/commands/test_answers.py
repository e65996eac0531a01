import numpy as np
import pandas as pd
import pytest

from spacewarps.commands.answers import Answers, read_answers
from spacewarps.commands.paired import gains, same_samples
from spacewarps.evaluation.metrics import classification_metrics
from tests.complaints import complaint

HEADER = "id,source,label,predicted,p_A,p_B"
TWO = f"{HEADER}\ns2,s2,A,A,0.75,0.25\ns1,s1,B,A,0.5,0.5\n"


def drawn(seed: int, *, sources: int = 200, better: float = 0.0) -> Answers:
    """Return answers for two stamps of each source, which are answered alike; higher ``better``, surer of the truth."""
    number = np.arange(2 * sources)
    samples = pd.DataFrame({"id": number.astype(str), "source": (number // 2).astype(str)})
    samples["label"] = np.array(["A", "B"])[number // 2 % 2]
    of_label = 1 / (1 + np.exp(-np.random.default_rng(seed).normal(1 + better, 1, sources)))[number // 2]
    is_a = samples["label"].to_numpy() == "A"
    of_a = np.where(is_a, of_label, 1 - of_label)
    return Answers.of(samples, ["A", "B"], np.stack([of_a, 1 - of_a], axis=1))


def test_answers_come_back_by_id_with_what_they_come_to() -> None:
    answers = read_answers(TWO.encode())
    assert answers.samples["id"].tolist() == ["s1", "s2"]
    assert answers.right.tolist() == [0.0, 1.0]
    header, *rows = TWO.splitlines()
    with_notes = read_answers("\n".join([f"{header},unusual", *(f"{row},z missing" for row in rows)]).encode())
    assert with_notes.fingerprint() == answers.fingerprint()
    assert np.array_equal(with_notes.probabilities, answers.probabilities)
    assert answers.losses.tolist() == pytest.approx([np.log(2), -np.log(0.75)])


def test_losses_are_those_that_the_report_has_a_certain_mistake_included() -> None:
    answers = read_answers(f"{HEADER}\ns1,s1,A,B,0,1\ns2,s2,B,B,0,1\ns3,s3,A,A,1e-300,1\n".encode())
    reported = classification_metrics(answers.labels, answers.probabilities, ["A", "B"])
    assert answers.losses.mean() == pytest.approx(reported["log_loss"])


def test_the_order_of_a_table_changes_nothing_and_another_source_does() -> None:
    lines = TWO.splitlines()
    turned = read_answers("\n".join([lines[0], lines[2], lines[1]]).encode())
    other = read_answers(TWO.replace("s2,s2", "s2,s1").encode())
    answers = read_answers(TWO.encode())
    assert same_samples(answers, turned)
    assert answers.fingerprint() == turned.fingerprint()
    assert not same_samples(answers, other)
    assert answers.fingerprint() != other.fingerprint()


def test_ids_and_labels_that_were_written_as_text_are_what_they_were() -> None:
    lines = f"{HEADER.replace('p_A', 'p_=A')}\n'=s1,''=s1,'=A,B,0.25,0.75\n-7,-7,B,B,0.25,0.75\n"
    answers = read_answers(lines.encode())
    assert answers.samples.to_numpy().tolist() == [["-7", "-7", "B"], ["=s1", "'=s1", "=A"]]
    assert answers.right.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "No columns"),
        ("\0", "the columns should be"),
        ("id,label\n1,A\n", "the columns should be id,source,label,predicted,p_..., but are id,label"),
        (f"{HEADER}\n", "it holds no answers"),
        ("id,source,label,predicted,p_A\ns1,s1,A,A,1\n", "fewer than two classes"),
        (f"{HEADER}\ns1,s1,A,A,high,0\n", "high"),
        (f"{HEADER}\ns1,s1,A,A,,1\n", "could not convert"),
        (f"{HEADER}\ns1,s1,A,A,nan,1\n", "the probabilities of 's1' do not add up to 1"),
        (f"{HEADER}\ns1,s1,A,A,2,-1\n", "the probabilities of 's1' do not add up to 1"),
        (f"{HEADER}\ns1,s1,A,A,inf,1\n", "the probabilities of 's1' do not add up to 1"),
        (f"{HEADER}\ns1,s1,C,A,0.5,0.5\n", "the label 'C' is none of the classes"),
        (f"{HEADER}\ns1,s1,A,A,0.5,0.5\ns1,s1,A,A,0.5,0.5\n", "the id 's1' appears twice"),
        (f"{HEADER}\ns1,s1,A,A,0.5,0.5,7\n", "rows are longer than the header"),
        (f"{HEADER}\ns1,s1,A,A,1,0\ns1,s1,A,A,0.5,0.5,7,8\n", "Error tokenizing data"),
    ],
)
def test_a_table_that_holds_no_answers_is_refused_in_one_line(text: str, told: str) -> None:
    assert told in complaint(ValueError, read_answers, text.encode())


def test_a_network_that_is_surer_of_the_truth_is_better_by_more_than_noise() -> None:
    loss, accuracy = gains(drawn(1, better=1.0), drawn(2))
    assert loss.beats(0.95)
    assert loss.verdict(0.95) == "better, by more than noise"
    assert loss.told.endswith(" lower")
    assert accuracy.told.endswith(" higher")
    back = gains(drawn(2), drawn(1, better=1.0))[0]
    assert not back.beats(0.5)
    assert back.verdict(0.95) == "worse, by more than noise"
    assert back.told == loss.told.replace("lower", "higher")


def test_networks_that_are_alike_differ_as_often_as_the_confidence_allows() -> None:
    verdicts = [gains(drawn(seed), drawn(1000 + seed))[0].verdict(0.9) for seed in range(300)]
    assert 15 <= sum(verdict != "within noise" for verdict in verdicts) <= 45


def test_what_is_the_same_has_no_difference_and_one_source_tells_nothing() -> None:
    same = gains(drawn(1), drawn(1))[0]
    assert (same.verdict(0.95), same.beats(0.95)) == ("no difference", False)
    one = gains(drawn(1, sources=1, better=9.0), drawn(2, sources=1))[0]
    assert (one.verdict(0.95), one.beats(0.95)) == ("too few sources to tell", False)
