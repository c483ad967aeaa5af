"""Hub encoders keep the contract, whatever the architecture: tiny random models, nothing fetched."""

import numpy as np
import pytest
import torch
import transformers

from speechllm.audio.clip import Clip
from speechllm.encoders.hub import HubEncoder
from speechllm.errors import WeightsError

NARROW = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def wav2vec2(norm: str) -> HubEncoder:
    config = transformers.Wav2Vec2Config(
        **NARROW,
        conv_dim=(16,) * 7,
        feat_extract_norm=norm,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )
    return HubEncoder(transformers.Wav2Vec2Model(config), transformers.Wav2Vec2FeatureExtractor())


def w2v_bert() -> HubEncoder:
    config = transformers.Wav2Vec2BertConfig(**NARROW, add_adapter=True)
    return HubEncoder(transformers.Wav2Vec2BertModel(config), transformers.SeamlessM4TFeatureExtractor())


def parakeet() -> HubEncoder:
    config = transformers.ParakeetEncoderConfig(**NARROW, subsampling_conv_channels=16, conv_kernel_size=9)
    return HubEncoder(transformers.ParakeetEncoder(config), transformers.ParakeetFeatureExtractor())


BUILDERS = {
    "wav2vec2, layer norm": (lambda: wav2vec2("layer"), 50.0),
    "wav2vec2, group norm": (lambda: wav2vec2("group"), 50.0),
    "w2v-BERT with adapter": (w2v_bert, 25.0),
    "parakeet": (parakeet, 12.5),
}


def noise(seconds: float, seed: int, hz: int = 16000) -> Clip:
    samples = np.random.default_rng(seed).normal(0, 0.1, round(seconds * hz))
    return Clip(samples.astype(np.float32), hz)


@pytest.fixture(params=BUILDERS, scope="module")
def encoder_and_rate(request):
    torch.manual_seed(0)
    build, hz = BUILDERS[request.param]
    return build().eval(), hz


def test_frame_rate_is_derived(encoder_and_rate):
    encoder, hz = encoder_and_rate
    assert encoder.frame_rate == hz
    hidden, lengths = encoder(*encoder.features([noise(4.0, 0)]))
    assert hidden.shape == (1, int(lengths[0]), encoder.size) == (1, hidden.shape[1], 32)
    assert abs(int(lengths[0]) - 4.0 * hz) <= 2


@torch.no_grad()
def test_a_row_does_not_depend_on_its_batch(encoder_and_rate):
    encoder, _ = encoder_and_rate
    clips = [noise(seconds, seed) for seed, seconds in enumerate((2.0, 0.7, 1.31))]
    hidden, lengths = encoder(*encoder.features(clips))
    for row, clip in enumerate(clips):
        alone, length = encoder(*encoder.features([clip]))
        assert length[0] == lengths[row]
        torch.testing.assert_close(hidden[row, : length[0]], alone[0], atol=1e-5, rtol=0)
        assert not hidden[row, length[0] :].any()


@torch.no_grad()
def test_equals_the_model_called_by_hand(encoder_and_rate):
    encoder, _ = encoder_and_rate
    clip = noise(1.5, 5)
    inputs = encoder.extractor(clip.samples, sampling_rate=16000, return_tensors="pt", return_attention_mask=True)
    expected = encoder.model(**inputs).last_hidden_state
    hidden, lengths = encoder(*encoder.features([clip]))
    torch.testing.assert_close(hidden[0], expected[0, : lengths[0]], atol=1e-5, rtol=0)


@torch.no_grad()
def test_very_short_and_silent_clips_stay_finite(encoder_and_rate):
    encoder, _ = encoder_and_rate
    clips = [
        Clip(np.zeros(0, np.float32), 16000),
        Clip(np.ones(1, np.float32), 8000),
        noise(0.5, 1, hz=44100),
    ]
    hidden, lengths = encoder(*encoder.features(clips))
    assert torch.isfinite(hidden).all() and (lengths >= 1).all()


@torch.no_grad()
@pytest.mark.parametrize("build", [lambda: wav2vec2("layer"), parakeet], ids=["wav2vec2", "parakeet"])
def test_saved_and_loaded_gives_the_same_frames(build, tmp_path):
    encoder = build().eval()
    encoder.save_pretrained(tmp_path)
    features = encoder.features([noise(1.0, 2)])
    torch.testing.assert_close(HubEncoder.from_pretrained(tmp_path)(*features)[0], encoder(*features)[0])


def test_a_checkpoint_with_a_head_gives_its_encoder(tmp_path):
    inner = parakeet()
    with_head = transformers.ParakeetForCTC(
        transformers.ParakeetCTCConfig(encoder_config=inner.model.config.to_dict(), vocab_size=8, pad_token_id=7)
    )
    with_head.save_pretrained(tmp_path)
    inner.extractor.save_pretrained(tmp_path)
    loaded = HubEncoder.from_pretrained(tmp_path)
    assert isinstance(loaded.model, transformers.ParakeetEncoder)
    for name, tensor in with_head.encoder.state_dict().items():
        assert torch.equal(tensor, loaded.model.state_dict()[name])


def test_what_cannot_be_an_encoder_is_refused_in_one_line(tmp_path):
    with pytest.raises(WeightsError, match="holds no speech encoder") as raised:
        HubEncoder.from_pretrained(tmp_path)
    assert "\n" not in str(raised.value)
    small = transformers.WhisperConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2
    )
    whisper = transformers.WhisperModel(small).get_encoder()
    with pytest.raises(WeightsError, match="30 s"):
        HubEncoder(whisper, transformers.WhisperFeatureExtractor())
