"""Neural audio codecs behind one contract (`codecs/base.py`): sound to codes (K, T) and back.

    codec = codecs.load("facebook/encodec_24khz", bandwidth=6.0)
    codes = codec.encode(clip)

Nothing heavy is imported before a codec is loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speechllm.codecs.base import Codec

POCKET, ORIGINAL = "pocket", "encodec"
POCKET_TYPE = "pocket-codec"  # model_type in the config.json of a folder with a pocket codec of your own
# Names that a file of codes may ask for: no more is fetched because a file says so.
KNOWN = (
    POCKET,
    ORIGINAL,
    "facebook/encodec_24khz",
    "facebook/encodec_32khz",
    "kyutai/mimi",
    "descript/dac_16khz",
    "descript/dac_24khz",
    "descript/dac_44khz",
)

__all__ = ["KNOWN", "load"]


def load(name_or_id: str | Path, device: str | None = None, **options: Any) -> Codec:
    """A codec by name ("pocket", "encodec": the original package), hub id or folder, found by its config's model_type.

    device: "cpu", "cuda", …; None: a GPU if there is one. options: `bandwidth` in kbit/s (EnCodec) or `codebooks`
    (all others): fewer of them; all by default. Raises WeightsError where there is no such codec or it cannot keep
    the contract, DataError for options that it does not have.
    """
    name = str(name_or_id)
    if name == ORIGINAL:
        from speechllm.codecs import original

        return original.load(device, **options)
    from speechllm.codecs import hub

    folder = Path(name).expanduser()
    if name == POCKET or (folder.is_dir() and hub.model_type(folder) == POCKET_TYPE):
        from speechllm.codecs import pocket

        return pocket.load(name_or_id, device, **options)
    return hub.load(name_or_id, device, **options)
