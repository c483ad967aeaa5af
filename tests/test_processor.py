"""The processor writes what the model reads."""

from pathlib import Path

import pytest
import torch
from transformers import AutoProcessor

from speechllm.conversation import AudioPlace, Conversation, Ids
from speechllm.model import SpeechLLM
from speechllm.processor import SpeechLLMProcessor
from speechllm.testing import babble


@pytest.fixture
def processor(tiny: SpeechLLM, tmp_path: Path) -> SpeechLLMProcessor:
    tiny.config.save_pretrained(tmp_path)
    return AutoProcessor.from_pretrained(tmp_path)


def test_features_encode_as_the_ear_hears(tiny: SpeechLLM, processor: SpeechLLMProcessor) -> None:
    clips = [babble(0.7), babble(1.1)]
    features, lengths = processor.features(clips)
    hidden, counts = tiny.whisper.encoder(features, lengths)
    for row, clip in enumerate(clips):
        alone, count = tiny.ear.frames(clip)
        assert counts[row] == count[0]
        assert torch.allclose(hidden[row, : counts[row]], alone[0], atol=1e-5)


def test_a_conversation_becomes_ids_around_a_place(processor: SpeechLLMProcessor) -> None:
    segments = processor(Conversation.ask("Write it down.", "Done."))
    assert [type(segment) for segment in segments] == [Ids, AudioPlace, Ids, Ids]
    assert [segment.supervised for segment in segments if isinstance(segment, Ids)] == [False, False, True]
    supervised = segments[-1]
    assert isinstance(supervised, Ids)
    assert processor.decode(supervised.ids) == "Done."
