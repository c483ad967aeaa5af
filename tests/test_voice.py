"""A voice says sentences: alike for a seed and as it streams, whole frames, marked; its folder is held to account."""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from speechllm import pitch
from speechllm.assistant import Assistant
from speechllm.audio import mark
from speechllm.audio.clip import Clip
from speechllm.errors import TaskError, WeightsError
from speechllm.language.adapters import merge_lora
from speechllm.model import SpeechLLM
from speechllm.speaking import Piece, Sampling
from speechllm.testing import babble, tiny_codec, tiny_model, tiny_voice
from speechllm.text_encoder import numbers
from speechllm.voice import Filler, Said, Voice, beside
from speechllm.voice_prompt import VoicePrompt
from speechllm.woven import letters

SENTENCES = ["It is so, and it stays so.", "I do."]
HELD = 10  # frames: 0.2 s


def speaking_assistant(folder: Path) -> Assistant:
    """An assistant on random weights that has a voice of random weights."""
    model = tiny_model(folder / "bases")
    model.save_pretrained(folder / "model")
    merge_lora(model)
    tiny_voice(model, folder / "model")
    return Assistant(str(folder / "model"), device="cpu")


@pytest.fixture(scope="module")
def assistant(tmp_path_factory: pytest.TempPathFactory) -> Assistant:
    return speaking_assistant(tmp_path_factory.mktemp("voice"))


@pytest.fixture(scope="module")
def voice(assistant: Assistant) -> Voice:
    return assistant.aloud.voice


def joined(clips: Iterator[Clip]) -> np.ndarray:
    return np.concatenate([clip.samples for clip in clips])


def sound(speaker: Voice, sentences: Sequence[str] = ("I do.",), seed: int = 1, **options: object) -> np.ndarray:
    return joined(speaker.say(sentences, "en", sampling=Sampling(seed=seed), **options))  # type: ignore[arg-type]


# What is said


def test_the_same_seed_gives_the_same_sound_and_another_another(voice: Voice) -> None:
    first = sound(voice)
    assert np.array_equal(first, sound(voice))
    assert not np.array_equal(first[:8000], sound(voice, seed=2)[:8000])
    assert np.isfinite(first).all()


def test_every_letter_is_said_in_order_in_whole_steps(voice: Voice) -> None:
    pieces: list[Piece] = []
    samples = sound(voice, SENTENCES, pieces=pieces)
    assert [piece.place for piece in pieces] == [*range(len("it is so and it stays so") + 2), *range(len("i do") + 2)]
    assert all(len(piece.codes) % voice.config.group == 0 and piece.codes for piece in pieces)
    assert len(samples) == sum(len(piece.codes) for piece in pieces) * voice.codec.hop_length


def test_sound_leaves_before_all_is_said(voice: Voice) -> None:
    pieces: list[Piece] = []
    clips = voice.say(SENTENCES, "en", sampling=Sampling(seed=1), pieces=pieces)
    heard = next(clip for clip in clips if clip.samples.size)
    said = list(pieces)
    assert len(heard.samples) <= sum(len(piece.codes) for piece in said) * voice.codec.hop_length
    assert joined(clips).size
    assert len(said) < len(pieces)


def test_the_mark_is_in_what_is_said(voice: Voice, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a codec that makes speech: that of random weights says the same in every frame."""
    speech = babble(4.0)
    blocks = [Clip(speech.samples[start : start + 7000], speech.rate) for start in range(0, 64_000, 7000)]
    monkeypatch.setattr(voice.codec, "stream_latents", lambda latents, _: [list(latents), iter(blocks)][1])
    samples = sound(voice)
    assert len(samples) == 64_000
    assert mark.detect(Clip(samples, 16_000)).is_marked
    assert not mark.detect(speech).is_marked


def test_a_given_voice_says_the_same_otherwise(voice: Voice) -> None:
    codes = torch.randint(16, (2, 60), generator=torch.Generator().manual_seed(9))
    other = VoicePrompt(codes, "good day", tuple((7 * i + 2, 7 * i + 5) for i in range(8)), "Good day.")
    told: tuple[list[Piece], list[Piece]] = ([], [])
    own, given = sound(voice, pieces=told[0]), sound(voice, voice=other, pieces=told[1])
    assert told[0] == told[1]
    assert own.shape == given.shape and not np.array_equal(own[:4000], given[:4000])


def test_the_spectra_of_a_given_voice_are_moved_to_it(voice: Voice) -> None:
    """By how its prompt is predicted; those of an own voice stay, for it was learned."""
    given, own = voice._filler(voice.own["ann"], None), fresh(voice)
    assert own.spectra is None and given.spectra is not None
    assert given.refit.echo is not None and given.refit.echo.shape == (1, *given.latents.shape)
    latents = list(given.chunks(SAID, "en", iter(pieces_of(40, 60, 4))))
    moved, plain = (
        np.concatenate([clip.samples for clip in each]) for each in (given.sound(latents), own.sound(latents))
    )
    assert moved.shape == plain.shape and not np.allclose(moved, plain, atol=1e-3)
    expected = voice.codec.model.decoder(torch.cat(latents)[None], given.spectra)[0]
    assert np.abs(expected.numpy().clip(-1, 1) - moved).max() < 1e-4


def _first_ways(voice: Voice, sentence: str, count: int) -> list[Said]:
    """The first ways in which a sentence is said."""
    found: list[Said] = []

    def choose(_: str, ways: Iterator[Said]) -> Said:
        found.extend(next(ways) for _ in range(count))
        return found[0]

    list(voice.say([sentence], "en", sampling=Sampling(seed=1), choose=choose))  # type: ignore[arg-type]
    return found


def test_the_first_way_is_the_one_that_is_said_without_a_choice(voice: Voice) -> None:
    pieces: list[Piece] = []
    whole = sound(voice, pieces=pieces)
    first, second = _first_ways(voice, "I do.", 2)
    assert first.pieces == tuple(pieces) != second.pieces
    assert first.is_cut == any(piece.is_cut for piece in pieces)
    assert np.abs(mark.mark(first.clip).samples - whole).max() < 1e-4
    assert len(first.latents) == sum(len(piece.codes) for piece in pieces)


def test_a_language_without_a_voice_is_refused(voice: Voice) -> None:
    with pytest.raises(TaskError, match="this model speaks English, German, not French"):
        next(voice.say(["Bonjour."], "fr"))


# Chunks


def pieces_of(*frames: int) -> list[Piece]:
    rng = np.random.default_rng(0)
    return [Piece(place, tuple(rng.integers(16, size=each).tolist()), False) for place, each in enumerate(frames)]


def fresh(voice: Voice) -> Filler:
    return Filler(voice.acoustic, voice.codec, voice.own["ann"], "en")


SAID = [5, 6, 7]  # labels of a sentence


@pytest.mark.parametrize(
    ("frames", "chunks"),
    [
        ((40, 110, 4), [40 - HELD, 110, 4 + HELD]),
        ((8, 8, 8), [24]),  # too short for a chunk: all of it at the end
        ((40, 20, 20), [40 - HELD, 40 + HELD]),
        ((4, 4, 200), [208]),  # the last letter needs nobody to wait for
    ],
)
def test_settled_frames_add_up(voice: Voice, frames: tuple[int, ...], chunks: list[int]) -> None:
    found = [len(chunk) for chunk in fresh(voice).chunks(SAID, "en", iter(pieces_of(*frames)))]
    assert found == chunks
    assert sum(found) == sum(frames)


def test_frames_that_wait_are_settled_by_what_follows(voice: Voice) -> None:
    """Each chunk is what the model fills in when it knows all the frames up to the chunk's end."""
    pieces = pieces_of(40, 110, 4)
    first, second, _ = fresh(voice).chunks(SAID, "en", iter(pieces))

    def filled(number: int) -> Tensor:
        own, told = voice.own["ann"], [(piece.place, code) for piece in pieces[:number] for code in piece.codes]
        codes = torch.tensor([*own.codes[0].tolist(), *(code for _, code in told)])
        filler = fresh(voice)
        told_said = filler._spread(filler._read(SAID, "en"), [place for place, _ in told])
        said = torch.cat([filler.voice_said, told_said])
        return voice.acoustic.fill(codes, said, voice.codec.latents(own.codes), filler.refit)

    assert torch.allclose(first, filled(1)[:30], atol=1e-5)
    assert torch.allclose(second, filled(2)[30:140], atol=1e-5)
    assert not torch.allclose(second[:HELD], filled(1)[30:], atol=1e-3)


def test_codes_that_are_not_told_change_nothing(voice: Voice) -> None:
    def made(shift: int, *, tells_codes: bool) -> Tensor:
        said = [replace(each, codes=tuple((code + shift) % 16 for code in each.codes)) for each in pieces_of(40, 60, 4)]
        filler = Filler(voice.acoustic, voice.codec, voice.own["ann"], "en", tells_codes=tells_codes)
        return torch.cat(list(filler.chunks(SAID, "en", iter(said))))

    assert torch.equal(made(0, tells_codes=False), made(1, tells_codes=False))
    assert not torch.equal(made(0, tells_codes=True), made(1, tells_codes=True))


def test_what_was_said_just_now_stands_before_the_next_sentence(voice: Voice) -> None:
    filler = fresh(voice)
    list(filler.chunks(SAID, "en", iter(pieces_of(40, 110, 40))))
    assert filler.owed == 0
    assert len(filler.codes) == len(filler.said) == 100  # 2 s
    (after,) = filler.chunks([5], "en", iter(pieces_of(50)))
    (alone,) = fresh(voice).chunks([5], "en", iter(pieces_of(50)))
    assert after.shape == alone.shape
    assert not torch.allclose(after, alone, atol=1e-3)


def test_a_copy_goes_its_own_way(voice: Voice) -> None:
    filler, untouched = fresh(voice), fresh(voice)
    list(filler.copy().chunks(SAID, "en", iter(pieces_of(40, 110, 4))))
    pairs = zip(*(each.chunks(SAID, "en", iter(pieces_of(40, 60, 60))) for each in (filler, untouched)), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    other = fresh(voice)
    other.take(filler)
    assert vars(other) == vars(filler)


# The LLM stays what it was


def test_the_body_is_another_and_the_rows_are_the_same(tiny: SpeechLLM) -> None:
    other = beside(tiny.language, 2)
    for rows in ("get_input_embeddings", "get_output_embeddings"):
        mine, theirs = (getattr(each.model, rows)().weight for each in (tiny.language, other))
        assert mine.data_ptr() == theirs.data_ptr()
    layers = zip(tiny.language.body.layers.parameters(), other.body.layers.parameters(), strict=True)  # type: ignore
    assert all(mine.data_ptr() != theirs.data_ptr() and torch.equal(mine, theirs) for mine, theirs in layers)
    assert len(beside(tiny.language, 1).body.layers) == 1 and len(tiny.language.body.layers) == 2  # type: ignore


def test_speaking_changes_no_answer(assistant: Assistant) -> None:
    model = assistant.model
    before = {name: each.clone() for name, each in model.state_dict().items()}
    asked = dict(question="Who?", reading="It is me.", max_new_tokens=8)
    text = assistant.run("ask", **asked).text  # type: ignore[arg-type]
    voice = Voice.load(model.folder / "voice", model)  # type: ignore[operator]
    assert sound(voice).size
    assert assistant.run("ask", **asked).text == text  # type: ignore[arg-type]
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(each, after[name]) for name, each in before.items())
    own = dict(model.language.body.named_parameters())
    adapted = [n for n, each in voice.language.body.named_parameters() if not torch.equal(each, own[n])]
    assert adapted and all("_proj" in name for name in adapted)


def test_loading_a_voice_warns_of_nothing(assistant: Assistant, recwarn: pytest.WarningsRecorder) -> None:
    Voice.load(assistant.model.folder / "voice", assistant.model)  # type: ignore[operator]
    assert not [str(each.message) for each in recwarn if "peft" in str(each.message)]


# Folders


def rewritten(**changes: object):
    def damage(folder: Path) -> None:
        described = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**described, **changes}))

    return damage


def cut(name: str):
    def damage(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:-20])

    return damage


def lost(name: str):
    return lambda folder: (folder / name).unlink()


def written(text: str):
    return lambda folder: (folder / "config.json").write_text(text)


ACOUSTIC = dict(codebook_size=16, latents=16, size=16, layers=1, heads=2, feed_forward=32, kernel=5, text_width=16)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lost("config.json"), "config.json is of no voice"),
        (lost("model.safetensors"), "model.safetensors is damaged"),
        (lost("ann.safetensors"), "ann.safetensors holds no voice"),
        (cut("config.json"), "config.json is of no voice"),
        (cut("model.safetensors"), "model.safetensors is damaged"),
        (cut("ann.safetensors"), "ann.safetensors holds no voice"),
        (written("[]"), "model_type voice"),
        (written("[" * 5000), "config.json is of no voice"),
        (rewritten(model_type="codec"), "model_type voice"),
        (rewritten(colour="red"), "unknown field 'colour'"),
        (rewritten(group="two"), "group must be"),
        (rewritten(acoustic={"colour": 3}), "unknown field 'colour'"),
        (rewritten(acoustic={**ACOUSTIC, "size": 32}), "is missing or of another shape"),
        (rewritten(acoustic={**ACOUSTIC, "layers": 2}), "is missing or of another shape"),
        (rewritten(rank=4), "is missing or of another shape"),
        (rewritten(layers=2), "is missing or of another shape"),
        (rewritten(group=1), "is missing or of another shape"),
        (rewritten(group=3), "group is at most 2"),
        (rewritten(codec="/no/such/codec"), "/no/such/codec"),
        (rewritten(voices={"en": "bob"}), "bob.safetensors holds no voice"),
        (rewritten(acoustic={**ACOUSTIC, "heads": 3}), "heads"),
        (rewritten(group=0), "group must be above 0"),
        (rewritten(rank=-1), "rank must be above 0"),
        (rewritten(acoustic={**ACOUSTIC, "signs": -5}), "signs must be above 0"),
        (rewritten(acoustic={**ACOUSTIC, "signs": 5, "marks": [2, 6]}), "marks are some of the 5 signs"),
        (rewritten(acoustic={**ACOUSTIC, "marks": [10**30]}), "marks are some of the 0 signs"),
        (rewritten(acoustic={**ACOUSTIC, "marks": "12"}), "marks must be"),
        (rewritten(acoustic={**ACOUSTIC, "signs": 5}), "phonemes.project.weight is missing"),
        (rewritten(silent="fr"), "silent"),
    ],
)
def test_a_damaged_folder_says_what_is_wrong(assistant: Assistant, tmp_path: Path, damage, message: str) -> None:
    folder = tmp_path / "voice"
    shutil.copytree(assistant.model.folder / "voice", folder)  # type: ignore[operator]
    damage(folder)
    with pytest.raises(WeightsError, match=message) as error:
        Voice.load(folder, assistant.model)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value) or "/no/such/codec" in str(error.value)


def test_a_folder_is_whole_without_the_damage(assistant: Assistant, tmp_path: Path) -> None:
    tiny_codec(tmp_path / "codec")
    folder = tmp_path / "voice"
    shutil.copytree(assistant.model.folder / "voice", folder)  # type: ignore[operator]
    rewritten(codec=str(tmp_path / "codec"))(folder)
    voice = Voice.load(folder, assistant.model)
    assert voice.languages == ("en", "de")
    assert np.array_equal(sound(voice), sound(assistant.aloud.voice))
    assert letters(voice.own["ann"].text) == voice.own["ann"].letters


def test_a_sentence_is_as_high_as_its_voice(voice: Voice) -> None:
    """What is predicted is moved to the mean height of the given voice."""
    filler = fresh(voice)
    filler.height = 0.0
    low = filler._read(SAID, "en")
    filler.height = 0.8
    high = filler._read(SAID, "en")
    share = voice.acoustic.pitch(voice.acoustic.text(torch.tensor([SAID]), numbers(["en"])))[0, :, :1]
    wanted = share * 0.8 * voice.acoustic.sung.weight[:, 1]
    assert torch.allclose(high - low, wanted, atol=0.03)  # rounded to bfloat16
    assert wanted.abs().max() > 0.1
    sound = torch.from_numpy(voice.codec.decode(voice.own["ann"].codes).samples)
    assert fresh(voice).height == pitch.mean_height(pitch.heights(sound, 16_000, 320))
