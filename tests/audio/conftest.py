"""One recording in every container and codec that can be written here, made once a session."""

from __future__ import annotations

import pytest
from made_recordings import BY_AV, BY_SOUNDFILE, by_av, by_soundfile, tone


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Three seconds of a 440 Hz tone at 48 kHz in every container and codec that can be written here."""
    samples = tone(48_000, 3.0)
    folder = tmp_path_factory.mktemp("recordings")
    made = {}
    for name in BY_SOUNDFILE:
        container, subtype = name.split()
        made[name] = by_soundfile(container.upper(), subtype.upper(), samples, 48_000)
    for name in BY_AV:
        container, codec = name.split()
        made[name] = by_av(folder / name, container, codec, samples, 48_000)
    made["mp4 aac, index first"] = by_av(folder / "f", "mp4", "aac", samples, 48_000, movflags="faststart")
    return made
