"""The encoder and decoder against transformers' Whisper, and what padding and batches may not change."""

from pathlib import Path

import pytest
import torch
from transformers import WhisperConfig as HubConfig
from transformers import WhisperForConditionalGeneration

from speechllm.encoders.whisper import WhisperConfig
from speechllm.readers.attention import AttentionReader, Spelling, WhisperModel
from speechllm.testing import tiny_whisper


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_whisper(tmp_path_factory.mktemp("whisper"))


def test_equals_transformers_on_thirty_seconds(tmp_path: Path) -> None:
    torch.manual_seed(0)
    hub = WhisperForConditionalGeneration(
        HubConfig(
            vocab_size=100,
            num_mel_bins=80,
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            max_target_positions=64,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=3,
        )
    ).eval()
    hub.save_pretrained(tmp_path)
    ours = WhisperModel.from_pretrained(tmp_path)
    features, ids = torch.randn(1, 80, 3000), torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        expected = hub(input_features=features, decoder_input_ids=ids).logits
        hidden, lengths = ours.encoder(features.transpose(1, 2), torch.tensor([3000]))
        logits = ours.decoder.logits(ours.decoder(ids, ours.decoder.begin(hidden, lengths)))
    assert torch.allclose(logits, expected, atol=1e-5)


def test_a_row_is_encoded_alike_alone_and_padded(folder: Path) -> None:
    model = WhisperModel.from_pretrained(folder)
    features = torch.randn(3, 90, 80)
    lengths = torch.tensor([90, 61, 20])
    hidden, counts = model.encoder(features, lengths)
    assert counts.tolist() == [45, 31, 10]
    for row, length in enumerate(lengths.tolist()):
        alone, _ = model.encoder(features[row : row + 1, :length], lengths[row : row + 1])
        assert torch.allclose(hidden[row, : counts[row]], alone[0], atol=1e-5)
        assert (hidden[row, counts[row] :] == 0).all()


def test_readings_do_not_depend_on_the_batch(folder: Path) -> None:
    model, spelling = WhisperModel.from_pretrained(folder), Spelling(folder)
    reader = AttentionReader(model.decoder, spelling)
    hidden, lengths = model.encoder(torch.randn(3, 90, 80), torch.tensor([90, 61, 20]))
    together = reader.read(hidden, lengths, ["en", "de", "fr"])
    for row, language in enumerate(["en", "de", "fr"]):
        alone = reader.read(hidden[row : row + 1, : lengths[row]], lengths[row : row + 1], [language])[0]
        assert alone.tokens == together[row].tokens


def test_a_reading_that_does_not_end_is_cut(folder: Path) -> None:
    model, spelling = WhisperModel.from_pretrained(folder), Spelling(folder)
    model.decoder.embed_tokens.weight[spelling.end] = 0
    model.decoder.layer_norm.bias.copy_(model.decoder.embed_tokens.weight[65] * 100)
    read = AttentionReader(model.decoder, spelling).read(
        *model.encoder(torch.randn(1, 50, 80), torch.tensor([50])), ["en"]
    )
    assert len(read[0].tokens) == 21  # half a second: 10 tokens a second + 16


def test_only_allowed_languages_are_found(folder: Path) -> None:
    model, spelling = WhisperModel.from_pretrained(folder), Spelling(folder)
    hidden, lengths = model.encoder(torch.randn(4, 50, 80), torch.tensor([50, 50, 50, 50]))
    assert set(AttentionReader(model.decoder, spelling).languages(hidden, lengths, ["de", "fr"])) <= {"de", "fr"}


def test_text_survives_the_word_pieces(folder: Path) -> None:
    spelling = Spelling(folder)
    assert spelling.decode(spelling.encode("Größe, naïve.")) == "Größe, naïve."
    assert spelling.encode("  ") == []


def test_more_than_thirty_seconds_are_refused() -> None:
    with torch.device("meta"):
        encoder = WhisperModel(WhisperConfig()).encoder
    with pytest.raises(ValueError, match="1501 frames"):
        encoder.embed_positions = torch.nn.Embedding(1500, 512)
        encoder.to_empty(device="cpu")(torch.zeros(1, 3002, 80), torch.tensor([3002]))
