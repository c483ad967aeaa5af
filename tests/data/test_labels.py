"""Labels in the reader's style: its writing, the reference's words, no loop."""

import pytest

from speechllm.data.labels import styled


@pytest.mark.parametrize(
    ("reference", "heard", "label"),
    [
        ("MISS INNES HE SAID", "Miss Inz, he said.", "Miss Innes, he said."),
        ("lobster and miniature", "Lobster and miniature lobster and miniature lobster and", "Lobster and miniature."),
        ("it costs forty two pounds", "It costs 42 pounds.", "It costs 42 pounds."),
        ("so i said i'm here", "So he said, I'm here.", "So I said, I'm here."),
        ("the cat sat", "The cat sat on the mat and slept", "The cat sat."),
    ],
)
def test_style_of_one_words_of_the_other(reference: str, heard: str, label: str) -> None:
    result = styled(reference, heard)
    assert result is not None
    assert result.replace("innes", "innes") == label


@pytest.mark.parametrize("heard", ["", "Something else altogether was written", "..."])
def test_what_shares_too_little_is_no_label(heard: str) -> None:
    assert styled("the quick brown fox", heard) is None
