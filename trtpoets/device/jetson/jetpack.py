"""Tables of JetPack releases and of Jetson modules, for the doctor and for bundles.

Sources: L4T releases as in dusty-nv/jetson-containers (l4t_version.py) and NVIDIA's JetPack archive; TensorRT and CUDA
from the JetPack pages of developer.nvidia.com (5.0.2: 8.4.1; 6.0: 8.6.2; 6.1 to 6.2: 10.3.0; 7.1: 10.13.3), 7.0's 10.13
and 7.2's 10.16.2 from projects that use them; 7.2.2's 11.4.1 from the release notes of TensorRT 11.4.1. Its L4T
release is unknown; 39.2.2 is assumed. DLA: TensorRT's support matrices (10.7 was the last
10.x with it, 11.4.1 has it again on AGX Orin). None of this has been tested on hardware.
"""

from __future__ import annotations

from dataclasses import dataclass

from trtpoets.core.types import Flavour, Precision
from trtpoets.device.capability import Capability, fast_types_of, opset_ceiling, version_of


@dataclass(frozen=True)
class Chip:
    """A Jetson's SoC."""

    name: str
    compute_capability: Capability

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The precisions that its GPU computes fast."""
        return fast_types_of(self.compute_capability).precisions

    @property
    def boards(self) -> tuple[Board, ...]:
        """The modules with this chip."""
        return tuple(board for board in BOARDS if CHIPS[board.chip] is self)

    @property
    def dla(self) -> bool:
        """Whether some modules with it have deep learning accelerators."""
        return any(board.dla for board in self.boards)


@dataclass(frozen=True)
class JetPack:
    """A JetPack release. `python` is the version of the system's Python, `l4t` the first L4T release of this JetPack.

    `chips` are the supported ones. `dla` says whether its TensorRT supports DLAs. `by_pip` says whether TensorRT can
    also be installed from PyPI: JetPack 7 is a standard Arm server system.
    """

    version: str
    l4t: tuple[int, ...]
    ubuntu: str
    python: str
    cuda: str
    tensorrt: str
    chips: tuple[str, ...]
    dla: bool
    by_pip: bool = False

    @property
    def runs_trtpoets(self) -> bool:
        """Whether its TensorRT has named tensors and uint8 inputs, which trtpoets needs; else only `trtexec` works.

        Both exist since 8.5 (release notes of 8.5.1; github.com/NVIDIA/TensorRT/issues/1503).
        """
        return version_of(self.tensorrt) >= (8, 5)

    @property
    def opset_ceiling(self) -> int | None:
        """The newest ONNX opset that its TensorRT supports."""
        return opset_ceiling(Flavour.TENSORRT, self.tensorrt)


CHIPS = {
    "tegra210": Chip("Nano or TX1", (5, 3)),
    "tegra186": Chip("TX2", (6, 2)),
    "tegra194": Chip("Xavier", (7, 2)),
    "tegra234": Chip("Orin", (8, 7)),
    "tegra264": Chip("Thor", (11, 0)),
}
"""Chips by their name in /proc/device-tree/compatible."""


@dataclass(frozen=True)
class Board:
    """A Jetson module, with its name for `--board`. `dla` says whether it has deep learning accelerators.

    `numbers` are those of the module and of its carrier boards, as in device trees and L4T's configurations; `aliases`
    are other words for the last word of its name.
    """

    name: str
    title: str
    chip: str
    dla: bool
    numbers: tuple[str, ...]
    aliases: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """The words of its name: ("orin", "nano")."""
        return tuple(self.name.split("-"))


_ORIN_NX_OR_NANO = ("p3767", "p3768")
"""Numbers that both modules have."""

BOARDS = (
    Board("nano", "Jetson Nano", "tegra210", dla=False, numbers=("p3448", "p3450")),
    Board("tx1", "Jetson TX1", "tegra210", dla=False, numbers=("p2180", "p2371")),
    Board("tx2", "Jetson TX2", "tegra186", dla=False, numbers=("p3310", "p3489", "p3636", "p2771"), aliases=("tx2i",)),
    Board("xavier-nx", "Jetson Xavier NX", "tegra194", dla=True, numbers=("p3668", "p3518")),
    Board("agx-xavier", "Jetson AGX Xavier", "tegra194", dla=True, numbers=("p2888", "p2972", "p2822")),
    Board(
        "orin-nano",
        "Jetson Orin Nano",
        "tegra234",
        dla=False,
        numbers=("p3767-0003", "p3767-0004", "p3767-0005", "p3766", *_ORIN_NX_OR_NANO),
    ),
    Board("orin-nx", "Jetson Orin NX", "tegra234", dla=True, numbers=("p3767-0000", "p3767-0001", *_ORIN_NX_OR_NANO)),
    Board("agx-orin", "Jetson AGX Orin", "tegra234", dla=True, numbers=("p3701", "p3730", "p3737")),
    Board("agx-thor", "Jetson AGX Thor", "tegra264", dla=False, numbers=("p3834", "p4071"), aliases=("t5000", "t4000")),
)
"""All modules, by NVIDIA's names. DLAs are from the modules' data sheets: of the Orins, only the Nano has none."""

_FOUR = ("18.04", "3.6", "10.2")
_FOUR_CHIPS = ("tegra210", "tegra186", "tegra194")
_FIVE = ("20.04", "3.8", "11.4")
_FIVE_CHIPS = ("tegra194", "tegra234")
_SIX_CHIPS = ("tegra234",)
_SEVEN_CHIPS = ("tegra234", "tegra264")

JETPACKS = (
    JetPack("4.6", (32, 6, 1), *_FOUR, "8.0.1", _FOUR_CHIPS, dla=True),
    JetPack("4.6.1", (32, 7, 1), *_FOUR, "8.2.1", _FOUR_CHIPS, dla=True),
    JetPack("4.6.2", (32, 7, 2), *_FOUR, "8.2.1", _FOUR_CHIPS, dla=True),
    JetPack("4.6.3", (32, 7, 3), *_FOUR, "8.2.1", _FOUR_CHIPS, dla=True),
    JetPack("4.6.4", (32, 7, 4), *_FOUR, "8.2.1", _FOUR_CHIPS, dla=True),
    JetPack("4.6.5", (32, 7, 5), *_FOUR, "8.2.1", _FOUR_CHIPS, dla=True),
    JetPack("4.6.6", (32, 7, 6), *_FOUR, "8.2.1", _FOUR_CHIPS, dla=True),
    JetPack("5.0.2", (35, 1), *_FIVE, "8.4.1", _FIVE_CHIPS, dla=True),
    JetPack("5.1", (35, 2, 1), *_FIVE, "8.5.2", _FIVE_CHIPS, dla=True),
    JetPack("5.1.1", (35, 3, 1), *_FIVE, "8.5.2", _FIVE_CHIPS, dla=True),
    JetPack("5.1.2", (35, 4, 1), *_FIVE, "8.5.2", _FIVE_CHIPS, dla=True),
    JetPack("5.1.3", (35, 5), *_FIVE, "8.5.2", _FIVE_CHIPS, dla=True),
    JetPack("5.1.4", (35, 6), *_FIVE, "8.5.2", _FIVE_CHIPS, dla=True),
    JetPack("5.1.5", (35, 6, 1), *_FIVE, "8.5.2", _FIVE_CHIPS, dla=True),
    JetPack("6.0", (36, 2), "22.04", "3.10", "12.2", "8.6.2", _SIX_CHIPS, dla=True),
    JetPack("6.1", (36, 4), "22.04", "3.10", "12.6", "10.3.0", _SIX_CHIPS, dla=True),
    JetPack("6.2", (36, 4, 3), "22.04", "3.10", "12.6", "10.3.0", _SIX_CHIPS, dla=True),
    JetPack("6.2.1", (36, 4, 4), "22.04", "3.10", "12.6", "10.3.0", _SIX_CHIPS, dla=True),
    JetPack("6.2.2", (36, 5), "22.04", "3.10", "12.6", "10.3.0", _SIX_CHIPS, dla=True),
    JetPack("7.0", (38, 2), "24.04", "3.12", "13.0", "10.13.3", ("tegra264",), dla=False, by_pip=True),
    JetPack("7.1", (38, 4), "24.04", "3.12", "13.0", "10.13.3", ("tegra264",), dla=False, by_pip=True),
    JetPack("7.2", (39, 2), "24.04", "3.12", "13.2", "10.16.2", _SEVEN_CHIPS, dla=False, by_pip=True),
    JetPack("7.2.1", (39, 2, 1), "24.04", "3.12", "13.2", "10.16.2", _SEVEN_CHIPS, dla=False, by_pip=True),
    JetPack("7.2.2", (39, 2, 2), "24.04", "3.12", "13", "11.4.1", _SEVEN_CHIPS, dla=True, by_pip=True),
)
"""All releases, in the order of their L4T releases."""


def jetpack_of(l4t: tuple[int, ...]) -> JetPack | None:
    """The JetPack of an L4T release: the last one of its major version that is not newer; None if there is none."""
    older = [jetpack for jetpack in JETPACKS if jetpack.l4t[0] == l4t[0] and jetpack.l4t <= tuple(l4t)]
    return older[-1] if older else None


def chip_of(compatible: str) -> Chip | None:
    """The chip in the text of /proc/device-tree/compatible (entries separated by NUL); None if not in the table."""
    return next((chip for name, chip in CHIPS.items() if f"nvidia,{name}" in compatible.split("\0")), None)


def has_dla(chip: Chip, model: str) -> bool:
    """Whether the module of a model has DLAs; if the model names no module of the chip, whether some of them have.

    TensorRT's builder reports the number of DLA cores.
    """
    named = [board for board in chip.boards if board.title.replace("Jetson ", "") in model]
    return any(board.dla for board in named or chip.boards)
