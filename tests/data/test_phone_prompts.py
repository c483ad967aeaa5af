"""Telephone prompts: the split rule, the cleaning of the listings, and how they are found."""

import hashlib

from speechllm.data import phone_prompts


def test_texts_are_what_is_said(unpacked_prompts):
    by_id = {prompt.id: prompt for prompt in phone_prompts.prompts()}
    assert by_id["asterisk/vm-intro"].texts["en"] == "Please leave your message after the tone."
    assert by_id["asterisk/vm-intro"].texts["it"] == "Lasci il messaggio"
    assert by_id["asterisk/dictate/both"].texts["en"] == "press star to pause, press pound to enter"
    assert by_id["asterisk/letters/at"].texts["en"] == "at"
    assert by_id["asterisk/conf-full"].texts["it"] == "La conferenza è piena."
    assert by_id["asterisk/conf-full"].texts["fr"] == "La conférence est pleine."
    assert by_id["asterisk/vm-changeto"].texts["it"] == "Cambia verso quale cartella?"
    assert set(by_id["asterisk/vm-goodbye"].texts) == {"en", "es"}  # ids are lower case in every language
    assert not {"asterisk/beep", "asterisk/silence/1", "asterisk/extra"} & set(by_id)


def test_audio_belongs_to_the_text(unpacked_prompts):
    for prompt in phone_prompts.prompts():
        assert all(path.is_file() and path.stem == prompt.id.rsplit("/")[-1] for path in prompt.audio.values())
    assert all(not prompt.audio for prompt in phone_prompts.prompts(audio=False))


def test_split_follows_the_rule_in_every_language(unpacked_prompts):
    for prompt in phone_prompts.prompts():
        full = hashlib.sha256(prompt.id.encode()).digest()[0] < 0x30
        bare = hashlib.sha256(prompt.id.split("/", 1)[1].encode()).digest()[0] < 0x30
        assert prompt.split == ("eval" if full else "dev" if bare else "train")
    splits = [phone_prompts.prompts(split=split) for split in ("train", "dev", "eval")]
    assert sum(map(len, splits)) == len(phone_prompts.prompts())


def test_split_ignores_case():
    assert phone_prompts.PhonePrompt("asterisk/VM-Intro", {}, {}).split == (
        phone_prompts.PhonePrompt("asterisk/vm-intro", {}, {}).split
    )


def test_accents_are_restored_where_they_nearly_always_stand():
    counts = phone_prompts.accent_counts(["El número cambió."] * 9 + ["Numero el número.", "esta está está está"])
    assert phone_prompts.restore_accents("Numero, numero y esta xyz", counts) == "Número, número y esta xyz"


def test_manifest_rows_carry_translations(unpacked_prompts, tmp_path):
    rows = [row for split in ("train", "dev", "eval") for row in phone_prompts.rows(split, langs=("it",))]
    row = next(row for row in rows if row["id"] == "asterisk/conf-full")
    assert row["text"] == "La conferenza è piena."
    assert set(row["translation"]) == {"en", "es", "fr", "ru"}
    assert row["audio"].endswith("conf-full.flac")
