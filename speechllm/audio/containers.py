"""Open a recording of unknown make and decode it piece by piece: libsndfile for wav, flac, ogg and their kin,
FFmpeg (PyAV) for the rest.

What a file is called decides nothing: its bytes do. Only regular files are opened, once, and read through a
plain view of bytes, so no container can make a decoder open another file or an address: playlists and concat
scripts are not among the formats that FFmpeg may pick, and its own access to files is shut off.
"""

from __future__ import annotations

import io
import logging
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from speechllm.audio.clip import check_rate
from speechllm.errors import AudioError, AudioLimitError

log = logging.getLogger(__name__)

MOST_CHANNELS = 8
_PIECE = 16_384  # frames decoded at a time
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,ogg,mp3,aac,flac,wav,w64,aiff,caf,amr,asf,avi"
_ESTIMATED = {"mp3", "aac", "amr"}  # without a header, FFmpeg guesses the duration from the first packets
_URL = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)


@dataclass(frozen=True)
class AudioLimits:
    """What a recording may cost; more raises AudioLimitError before all of it is decoded."""

    bytes: int = 1 << 30  # size as stored: of the file, the bytes or the array
    seconds: float = 3600.0  # duration, as declared and as decoded

    def check_bytes(self, size: int, name: str) -> None:
        """Raise AudioLimitError when `size` bytes are too many."""
        if size > self.bytes:
            raise AudioLimitError(f"{name}: {size / 1e6:.1f} MB is more than the limit of {self.bytes / 1e6:.1f} MB")

    def check_seconds(self, seconds: float, name: str) -> None:
        """Raise AudioLimitError when the recording lasts (or declares to last) too long."""
        if seconds > self.seconds:
            raise AudioLimitError(f"{name}: {seconds:.1f} s or more, longer than the limit of {self.seconds:g} s")


def shown(path: object) -> str:
    """A file name fit for one line of a message."""
    text = "".join(letter if letter.isprintable() else "?" for letter in str(path))
    text = text if len(text) <= 200 else f"{text[:99]}…{text[-100:]}"
    return text or "''"


class _View:
    """The bytes of a file, without its name or descriptor; errors are kept for later, not thrown into C."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.error: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            data = bytes(self._file.read(size))
            return data if size < 0 else data[:size]
        except Exception as error:  # any object may be handed in, and C code above cannot carry its exception
            self.error = error
            return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            self._file.seek(offset, whence)
            return self._file.tell()
        except Exception as error:
            self.error = error
            return -1

    def tell(self) -> int:
        return self.seek(0, io.SEEK_CUR)


@contextmanager
def opened_path(path: str | os.PathLike[str], limits: AudioLimits) -> Iterator[_View]:
    """Open a regular file for reading; anything else (folder, pipe, device, URL) raises AudioError."""
    name = shown(path)
    if _URL.match(str(path)):
        raise AudioError(f"{name}: addresses are not opened; download the recording and give its path")
    try:
        # Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise AudioError(f"{name}: {'no such file' if isinstance(error, FileNotFoundError) else reason}") from None
    with os.fdopen(descriptor, "rb") if _is_regular(descriptor) else _closed(descriptor, name) as file:
        size = os.fstat(descriptor).st_size
        if size == 0:
            raise AudioError(f"{name}: the file is empty")
        limits.check_bytes(size, name)
        yield _View(file)


def _is_regular(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _closed(descriptor: int, name: str) -> Any:
    is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
    os.close(descriptor)
    raise AudioError(f"{name}: {'a folder' if is_folder else 'not a regular file'}; give the path of one recording")


@contextmanager
def opened_file(file: Any, limits: AudioLimits, name: str) -> Iterator[_View]:
    """Read a binary file object from its first byte; what cannot seek (a pipe) is spooled first."""
    if isinstance(file, io.TextIOBase):
        raise AudioError(f"{name}: opened as text; open it in binary mode ('rb')")
    view = _View(file)
    with tempfile.SpooledTemporaryFile(max_size=1 << 24) as spool:
        try:
            with suppress(OSError, AttributeError, TypeError):  # most objects have no descriptor
                if stat.S_ISCHR(os.fstat(file.fileno()).st_mode):
                    raise AudioError(f"{name}: a device; give one recording")
            if not getattr(file, "seekable", lambda: False)():
                while (piece := view.read(1 << 20)) and spool.tell() <= limits.bytes:
                    spool.write(piece)
                source = _View(spool)
            else:
                source = view
        except ValueError as error:  # a closed file
            raise AudioError(f"{name}: {error}") from None
        size = source.seek(0, io.SEEK_END)
        source.seek(0)
        if error := view.error or source.error:
            raise AudioError(f"{name}: cannot be read: {shown(error)}")
        if size <= 0:
            raise AudioError(f"{name}: holds no bytes")
        limits.check_bytes(size, name)
        yield source


def decoded(view: _View, limits: AudioLimits, name: str) -> Iterator[tuple[np.ndarray, int]]:
    """Decode to pieces `(samples (n, C) float32, rate in Hz)`, full scale at [-1, 1].

    A file that breaks off gives what is there, and a warning in the log.
    Raises AudioError when nothing decodes.
    """
    found = False
    for decoder in (_by_libsndfile, _by_ffmpeg):
        view.seek(0)
        for piece in decoder(view, limits, name):
            found = True
            yield piece
        if view.error is not None:
            raise AudioError(f"{name}: cannot be read: {shown(view.error)}")
        if found:
            return
    raise AudioError(
        f"{name}: no sound in it that can be decoded; give a wav, flac, ogg, opus, mp3, m4a or webm recording"
    )


def _by_libsndfile(view: _View, limits: AudioLimits, name: str) -> Iterator[tuple[np.ndarray, int]]:
    import soundfile

    head = view.read(3)
    view.seek(0)
    if head in (b"ID3", b"caf") or (head[:1] == b"\xff" and head[1:2] >= b"\xe0"):
        return  # mp3, aac and caf go to FFmpeg: the decoders in here write complaints to the terminal
    try:
        sound = soundfile.SoundFile(cast(Any, view))
    except (soundfile.LibsndfileError, TypeError):  # TypeError: headerless formats, which name no rate
        return
    with sound:
        if sound.subtype.startswith("MPEG"):
            return
        rate = _checked(sound.samplerate, sound.channels, name)
        if sound.frames < 1 << 62:  # larger: the header does not know
            limits.check_seconds(sound.frames / rate, name)
        at = 0
        while True:
            try:
                samples = sound.read(_PIECE, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                if at:
                    log.warning("%s: damaged after %.1f s, the rest is left out (%s)", name, at / rate, shown(error))
                return
            if not len(samples):
                return
            at += len(samples)
            yield samples, rate


def _by_ffmpeg(view: _View, limits: AudioLimits, name: str) -> Iterator[tuple[np.ndarray, int]]:
    import av
    from av.error import FFmpegError

    options = {"format_whitelist": _FORMATS, "protocol_whitelist": "none"}
    try:
        container = av.open(view, "r", options=options, io_open=_refuse)
    except (FFmpegError, ValueError, OSError):
        return
    with container:
        if not container.streams.audio:
            return
        stream = container.streams.audio[0]
        if container.duration and container.format.name not in _ESTIMATED:
            limits.check_seconds(container.duration / av.time_base, name)
        skipped, has_sound, packets = 0, False, container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except (FFmpegError, ValueError, OSError):
                packet, skipped = None, skipped + 1
            if packet is None:
                break
            try:
                frames = packet.decode()
            except (FFmpegError, ValueError, OSError):
                skipped += 1
                continue
            for frame in frames:
                rate = _checked(frame.sample_rate, frame.layout.nb_channels, name)
                has_sound = True
                yield _frame_samples(frame), rate
        if skipped and has_sound:
            log.warning("%s: damaged, %d pieces are left out", name, skipped)


def _refuse(url: str, *_: object) -> None:
    raise OSError(f"a recording may not open {url!r}")


def _checked(rate: int, channels: int, name: str) -> int:
    if not 1 <= channels <= MOST_CHANNELS:
        raise AudioError(f"{name}: {channels} channels; 1 to {MOST_CHANNELS} are supported")
    return check_rate(rate, name)


def _frame_samples(frame: Any) -> np.ndarray:
    """An FFmpeg frame as (n, C) float32; planar frames come as (C, n), packed ones as (1, n * C)."""
    array = frame.to_ndarray()
    array = array.T if frame.format.is_planar else array.reshape(-1, frame.layout.nb_channels)
    return scaled(array)


def scaled(array: np.ndarray) -> np.ndarray:
    """Integers of 8 (unsigned), 16 or 32 bits, or floats, as float32 with full scale at [-1, 1]."""
    if array.dtype == np.uint8:
        return (array.astype(np.float32) - 128) / 128
    if array.dtype.kind == "i":
        return array.astype(np.float32) / float(1 << (8 * array.dtype.itemsize - 1))
    with np.errstate(over="ignore"):  # a double too large for float32 becomes infinite, and is refused as such
        return array.astype(np.float32)
