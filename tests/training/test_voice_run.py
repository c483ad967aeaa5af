"""The run that teaches a model to speak, on a few seconds of speech: both stages, a kill between them, a voice."""

import json
from pathlib import Path

import pytest
import soundfile
import torch

from demos import CLIPS, clips
from speechllm.assistant import Assistant
from speechllm.audio.decode import load
from speechllm.codecs import pocket
from speechllm.encoders.ctc import ALPHABET
from speechllm.errors import DataError
from speechllm.formats import tensors
from speechllm.hearing import Ear, Heard
from speechllm.letter_times import LetterTimes
from speechllm.model import SpeechLLM
from speechllm.reading import Reading
from speechllm.speaking import Sampling
from speechllm.testing import tiny_codec
from speechllm.training import checkpoint
from speechllm.training.acoustic import AcousticOptions
from speechllm.training.alignment import AlignOptions
from speechllm.training.loop import Schedule
from speechllm.training.pronunciation import PronounceOptions
from speechllm.training.speaking import SpeakOptions
from speechllm.training.voice import VoiceRun, VoicesOptions
from speechllm.voice import Voice
from speechllm.woven import SILENT, labels, letters, spread

STEPS = 3
SCHEDULE = Schedule(steps=STEPS, lr=3e-3, warmup=1, save_every=2, log_every=1)
TEXTS = {str(clip.audio): clip.text for clip in clips()}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny: SpeechLLM) -> Path:
    """A base, a codec, and a corpus of three recordings."""
    home = tmp_path_factory.mktemp("home")
    tiny.save_pretrained(home / "base")
    tiny_codec(home / "codec")
    (home / "toy").mkdir()
    rows = []
    for name in ("en_jazz", "en_customers", "en_question"):
        clip = load(CLIPS / f"{name}.ogg")
        soundfile.write(home / "toy" / f"{name}.wav", clip.samples, clip.rate)
        row = {"audio": f"{name}.wav", "text": TEXTS[str(CLIPS / f"{name}.ogg")], "lang": "en", "speaker": "ann"}
        rows.append({**row, "split": "train", "duration": clip.seconds})
    said = [{"lang": "en", "text": row["text"], "phonemes": row["text"].lower()} for row in rows]
    (home / "pronounced.jsonl").write_text("\n".join(map(json.dumps, said * 20)))
    others = [{"text": "In 1984."}, {"text": "..."}, {"text": "It is long.", "duration": 20.0}, {"split": "eval"}]
    rows += [{**rows[0], **other} for other in others]
    (home / "toy" / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return home


@pytest.fixture(autouse=True)
def no_other_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No evaluation texts; and an ear that reads the corpus right, for the sentence that becomes a voice."""
    monkeypatch.setenv("SPEECHLLM_DATA", str(tmp_path))
    right = {round(load(path).seconds, 3): text for path, text in TEXTS.items()}

    def hear(ear: Ear, clip, languages=()) -> Heard:
        return Heard(Reading(right[round(clip.seconds, 3)], (), "en"), (), None)

    monkeypatch.setattr(Ear, "hear", hear)


def run(home: Path, name: str) -> VoiceRun:
    toy = str(home / "toy")
    acoustic = AcousticOptions(
        SCHEDULE, (toy,), size=16, layers=1, batch=2, frames=120, prompt_frames=(20, 40), crop_frames=30, depths=(1, 2),
        judged_from=2, judged_frames=20, judged_channels=(4, 8),
    )  # fmt: skip
    speak = SpeakOptions(SCHEDULE, (toy,), rank=2, alpha=2, tokens=600, frames=200)
    voices = VoicesOptions(str(home / "base"), str(home / "codec"), defaults={"en": toy})
    read = Schedule(steps=STEPS, lr=3e-2, warmup=1, log_every=1)
    pronounce = PronounceOptions(read, (str(home / "pronounced.jsonl"),), batch=4, beside=2, kept_out=3)
    align = AlignOptions(read, (toy,), frames=2000)
    return VoiceRun(voices, speak, acoustic, home / name, pronounce, align)


def test_a_run_makes_a_model_that_speaks(home: Path) -> None:
    whole = run(home, "whole")
    out = whole.train()
    assert out == home / "whole" / "model"
    for stage in ("align", "acoustic", "speak", "pronounce"):
        assert checkpoint.newest_step(home / "whole" / stage) == STEPS
        logged = [json.loads(line) for line in (home / "whole" / stage / "log.jsonl").read_text().splitlines()]
        assert [line["step"] for line in logged] == [1, 2, 3]
        assert ("adversarial" in logged[-1]) == ("pronunciation" in logged[-1]) == (stage == "acoustic")
    model = SpeechLLM.from_pretrained(out, merge=True)
    voice = Voice.load(out / "voice", model)
    assert voice.languages == ("en",)
    assert voice.own["toy"].letters == "simkins started playing jazz in his early teens"
    sounds = [clip.samples.size for clip in voice.say(["I do."], "en", sampling=Sampling(seed=0))]
    assert sum(sounds) > 0
    answer = Assistant(str(out), device="cpu").run("speak", text="I do.")
    assert answer.audio is not None and answer.audio.seconds * 16_000 == sum(sounds)


def test_the_acoustic_model_begins_with_what_was_pronounced(home: Path) -> None:
    fresh = run(home, "other")._acoustic().acoustic.text.state_dict()
    _, read = checkpoint.newest(home / "whole" / "pronounce") or (0, {})
    _, last = checkpoint.newest(home / "whole" / "acoustic") or (0, {})
    for name in ("letters.weight", "out.weight"):
        begun = read["module"][f"text.{name}"]
        moved = (last["codec"]["module"][f"acoustic.text.{name}"] - begun).abs().max()
        assert moved < 0.5 * (fresh[name] - begun).abs().max(), name


def test_letters_are_timed_by_what_learned_to_spell_them(home: Path) -> None:
    """In the corpora that the stage names; what the model itself hears stays as it was."""
    whole, corpus = run(home, "whole"), str(home / "toy")
    ear, times = whole.model.ear, whole._times(corpus)
    mine, own = times.first_pass.state_dict(), ear.first_pass.state_dict()
    _, last = checkpoint.newest(home / "whole" / "align") or (0, {})
    assert all(torch.equal(mine[name], each.to(mine[name].dtype)) for name, each in last["module"].items())
    name = "conformer.blocks.0.before.widen.weight"
    assert not torch.equal(mine[name], own[name])
    assert whole._times("another") == LetterTimes(ear.first_pass)
    rows, voiced = whole._voiced(corpus)
    spans = times(*ear.frames(load(rows[0]["audio"])), letters(rows[0]["text"]), "en", whole.codec.frame_rate)
    assert voiced[0]["spans"].tolist() == [list(span) for span in spans]


def test_silent_letters_take_no_time(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a corpus that is timed anew, whose first pass learns the others alone, and of the voice that comes of it."""

    def vowels(said: str) -> list[bool]:
        return [letter in "aeiou" for letter in said]

    def spell(said: str, lang: str | None) -> list[tuple[int, ...]]:
        return [() if letter in "aeiou" else (1 + ord(letter) % 2,) for letter in said]

    other, corpus = run(home, "silent"), str(home / "toy")
    monkeypatch.setitem(vars(other), "_spell", spell)
    other.train_align()
    rows, voiced = other._voiced(corpus)
    for number, row in enumerate(rows):
        if not any(letter.isdigit() for letter in row["text"]):
            found = [tuple(span) for span in voiced[number]["spans"].tolist()]
            assert [span == SILENT for span in found] == vowels(letters(row["text"]))
    prompt = other.own_voice(corpus)
    assert [span == SILENT for span in prompt.spans] == vowels(prompt.letters)
    said = spread(labels(prompt.letters), prompt.bounds(2))
    assert not {*ALPHABET.encode("aeiou")} & {*said}


def test_without_their_options_there_are_no_such_stages(home: Path) -> None:
    plain = run(home, "plain")
    plain.pronounce = plain.align = None
    plain.train_pronounce()
    plain.train_align()
    assert plain._acoustic().pronouncer is None
    assert plain._times(str(home / "toy")) == LetterTimes(plain.model.ear.first_pass)
    assert not list((home / "plain").glob("*"))


def test_phonemes_are_not_heard_before_they_are_read(home: Path) -> None:
    other = run(home, "unread")
    other.pronounce = None
    with pytest.raises(DataError, match="give the recipe a stage pronounce"):
        other.train_align()


def test_what_is_exported_is_what_was_trained(home: Path) -> None:
    """The adapter, the rows and the acoustic model, to 8 bits; and the codec with the decoder that learned along."""
    folder = home / "whole"
    kept = tensors.load(folder / "model" / "voice" / "model.safetensors")
    _, spoken = checkpoint.newest(folder / "speak") or (0, {})
    _, sounded = checkpoint.newest(folder / "acoustic") or (0, {})
    trained = {name.replace("language.model.model.", "language."): each for name, each in spoken["module"].items()}
    trained |= {name: each for name, each in sounded["codec"]["module"].items() if name.startswith("acoustic.")}
    assert kept.keys() == trained.keys()
    for name, tensor in kept.items():
        assert (tensor - trained[name]).abs().max() <= trained[name].abs().max() / 100 + 1e-3, name
    assert any(each.abs().max() > 0 for name, each in kept.items() if "lora_B" in name)
    before, after = pocket.load_model(home / "codec"), pocket.load_model(folder / "codec")
    same = {name: torch.equal(each, after.state_dict()[name]) for name, each in before.state_dict().items()}
    assert all(is_same for name, is_same in same.items() if name.startswith("encoder."))
    assert not all(is_same for name, is_same in same.items() if name.startswith("decoder."))


def test_a_kill_between_the_stages_changes_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(_: VoiceRun) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(VoiceRun, "train_acoustic", killed)
        with pytest.raises(KeyboardInterrupt):
            run(home, "cut").train()
    assert checkpoint.newest_step(home / "cut" / "speak") == STEPS
    with pytest.raises(DataError, match="stage acoustic has no checkpoint"):
        run(home, "cut").export()
    out = run(home, "cut").train()
    whole = home / "whole" / "model" / "voice"
    assert (out / "voice" / "config.json").read_text() == (whole / "config.json").read_text()
    for path in whole.glob("*.safetensors"):
        mine, theirs = tensors.load(out / "voice" / path.name), tensors.load(path)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(each, theirs[name]) for name, each in mine.items()), path.name
    assert len((home / "cut" / "speak" / "log.jsonl").read_text().splitlines()) == STEPS


def test_rows_that_cannot_be_learned_from_are_left_out(home: Path) -> None:
    one = run(home, "whole")
    assert len(one.rows(str(home / "toy"))) == 4  # not the empty, the long and the one of evaluation
    rows, voiced = one.voiced([str(home / "toy")])
    assert len(rows) == len(voiced) == 3  # not the one with digits
    assert not any("1984" in row["text"] for row in rows)
    for number, row in enumerate(rows):
        assert voiced[number]["codes"].shape == (2, -(-load(row["audio"]).samples.size // 320))


def test_texts_of_evaluations_are_left_out(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept_out = frozenset({"do you care if i sit down out here"})
    monkeypatch.setattr("speechllm.data.reserved.texts", lambda: kept_out)
    assert len(run(home, "whole").rows(str(home / "toy"))) == 3


def test_a_corpus_without_a_sentence_for_a_voice(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Heard(Reading("something else", (), "en"), (), None)
    monkeypatch.setattr(Ear, "hear", lambda ear, clip, languages=(): wrong)
    with pytest.raises(DataError, match="no sentence of three to five seconds"):
        run(home, "whole").own_voice(str(home / "toy"))
