"""A folder of shared data in miniature, and unpacked telephone prompts, so that tests need neither."""

import gzip
import json

import pytest

SENTENCES = {
    "en": ["The old man walked slowly home.", "She never wrote that letter again.", "Where is my coat?",
           "They walked home.", "A window was open all night."],
    "de": ["Der alte Mann ging nach Hause.", "Das Fenster stand offen."],
    "fr": ["La fenêtre est ouverte.", "Il marche vers la maison."],
    "es": ["La ventana está abierta.", "El número de la conferencia cambió."],
    "it": ["La finestra è aperta.", "Lui torna a casa."],
    "ru": ["Окно открыто всю ночь.", "Он идёт домой."],
    "cs": ["Okno je otevřené.", "Starý muž jde domů."],
    "nl": ["Het raam staat open.", "De man loopt naar huis."],
}  # fmt: skip
LISTING = {
    "en": "; Core sounds\n\nvm-intro: Please leave your message after the tone. (simple tone)\n"
    "dictate/both: press * to pause, press # to enter\nbeep: [a tone]\nsilence/1: (1 second)\n"
    "letters/at: at [@]\nconf-full: That conference is full.\nVM-Goodbye: Goodbye!\n"
    "digits/7: seven\ndigits/8: eight\ndigits/9: nine\nauth-thankyou: Thank you.\nqueue-minutes: minutes\n",
    "es": "vm-intro: Deje su mensaje despues del tono.\nconf-full: Esa conferencia esta llena.\n"
    "dictate/both: El numero es este.\nvm-goodbye: Adios\ndigits/7: siete\ndigits/8: ocho\n",
    "fr": "vm-intro: Laissez votre message.\ndigits/7: sept\nconf-full: “La conférence est pleine.”\n",
    "it": "\ufeff; Elenco\nconf-full: La conferenza ? piena.\nvm-intro: Lasci il messaggio ...\n"
    "digits/7: sette\nvm-changeto: Cambia verso quale cartella?\n",
    "ru": "conf-full: Конференция заполнена.\nvm-intro: Оставьте сообщение.\ndigits/7: семь\n",
}


def _gzip(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode("utf-8")))


def _rows(path, rows):
    _gzip(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


@pytest.fixture
def unpacked_prompts(tmp_path, monkeypatch):
    """Unpacked telephone prompts: true listings, empty recordings."""
    folder = tmp_path / "deb"
    voices = {"en": "en_US_f_Allison", "es": "es_MX_f_Allison", "fr": "fr_CA_f_June", "it": "it_IT_m_Carlo",
              "ru": "ru_RU_f_IvrvoiceRU"}  # fmt: skip
    for lang, listing in LISTING.items():
        _gzip(folder / f"usr/share/doc/asterisk-core-sounds-{lang}/core-sounds-{lang}.txt.gz", listing)
        for name in ("vm-intro", "conf-full", "digits/7", "vm-goodbye", "extra"):
            sound = folder / "usr/share/asterisk/sounds" / voices[lang] / f"{name}.g722"
            sound.parent.mkdir(parents=True, exist_ok=True)
            sound.write_bytes(bytes(8000))
        (folder / f"usr/share/doc/asterisk-core-sounds-{lang}-g722").mkdir()
    (folder / "usr/share/doc/fillets-ng-data").mkdir()
    for lang, line in (("it", "Lui non vede niente qui."), ("cs", "Nic tu nevidí.")):
        script = folder / f"usr/share/games/fillets-ng/script/city/dialogs_{lang}.lua"
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(f'dialogId("a", "font", "He’s seen \\"nothing\\" here.")\ndialogStr("{line}")\n')
    monkeypatch.setenv("SPEECHLLM_DEB", str(folder))
    return folder


@pytest.fixture
def small_data(tmp_path, monkeypatch, unpacked_prompts):
    """Every corpus that the mixture reads, in a few rows each."""
    folder = tmp_path / "data"
    texts = folder / "texts"
    sentences = [{"text": text, "lang": lang} for lang, many in SENTENCES.items() for text in many]
    shared = {"text": "An eval sentence that others read, too.", "lang": "en"}
    _rows(texts / "sentences/train.jsonl.gz", [*sentences, shared])
    _rows(texts / "sentences/eval.jsonl.gz", [{**shared, "text": "An EVAL sentence that others read, too"}])
    for lang in ("de", "fr", "es", "nl", "ru", "cs"):
        pairs = [
            {"en": english, lang: theirs} for english, theirs in zip(SENTENCES["en"], SENTENCES[lang], strict=False)
        ]
        _rows(texts / f"translation/en-{lang}.train.jsonl.gz", pairs)
    for lang in ("it", "cs"):
        _rows(texts / f"translation/en-{lang}.eval.jsonl.gz", [{"en": "Kept out.", lang: "Fuori."}])
    _rows(
        texts / "questions/train.jsonl.gz",
        [{"question": "who wrote faust?", "answers": ["Goethe", "J. W. Goethe"]}],
    )
    context = {"question": "Who walked?", "context": "A man walked home.", "answers": ["a man"], "lang": "en"}
    _rows(texts / "questions/squad_short.jsonl.gz", [context])
    instruction = {"instruction": "Name a fruit.", "context": "", "response": "Apple", "lang": "en"}
    _rows(texts / "instructions/train.jsonl.gz", [{**instruction, "category": "no_context"}])
    numbers = [{"spoken": "a quarter to six", "written": "5:45", "lang": "en"},
               {"spoken": "viertel vor sechs", "written": "5:45 Uhr", "lang": "de"}]  # fmt: skip
    _rows(texts / "numbers/train.jsonl.gz", numbers)
    for name in ("librispeech_train", "librispeech_dev", "common_voice_v1_en", "common_voice_later_en",
                 "common_voice_multi", "kathleen_en", "kerstin_de", "nathalie_nl", "css10_es"):  # fmt: skip
        manifest = folder / "speech" / name / "manifest.jsonl"
        manifest.parent.mkdir(parents=True)
        clip = {
            "audio": "audio/1.ogg",
            "text": "HE CAME HOME",
            "lang": "en",
            "split": "train",
            "duration": 2.0,
        }
        rows = [clip, {**clip, "audio": "audio/2.ogg", "text": "never train on this", "split": "eval"},
                {**clip, "audio": "audio/3.ogg", "text": "He came home."}]  # fmt: skip
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("SPEECHLLM_DATA", str(folder))
    return folder
