"""What the sample model is taught about boards: facts only, no phrasing.

Sources: the project's fact sheet (sbc-bench, sbc-reviews and llm-bench results, rpi documentation)
for cores, bandwidth, power and prices; Raspberry Pi's documentation for ports and supplies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Board:
    """One board; texts are written so that they follow "it has"."""

    name: str
    aliases: tuple[str, ...]
    core: str
    clock: str
    mhz: int
    soc: str
    ram_gb: tuple[float, ...]
    usb: str
    video: str
    ethernet: str
    wireless: str
    supply: str
    storage: str
    bandwidth: str
    cache: str
    kind: str
    idle: float | None = None
    stress: float | None = None
    price: str | None = None

    @property
    def short(self) -> str:
        """The name as it is mostly said, such as "Pi 5"."""
        return self.name.removeprefix("Raspberry ")

    @property
    def dotprod(self) -> bool:
        """Whether the cores have int8 dot products."""
        return self.core == "Cortex-A76"

    @property
    def ram(self) -> str:
        """All RAM sizes in words."""
        if self.ram_gb == (0.5,):
            return "512 MB"
        sizes = [f"{size:g}" for size in self.ram_gb]
        return f"{', '.join(sizes[:-1])} or {sizes[-1]} GB" if len(sizes) > 1 else f"{sizes[0]} GB"

    @property
    def ram_most(self) -> str:
        """The largest RAM size in words."""
        return "512 MB" if self.ram_gb == (0.5,) else f"{self.ram_gb[-1]:g} GB"


_A53: dict[str, Any] = {
    "core": "Cortex-A53",
    "storage": "a microSD card slot",
    "cache": "512 KB of L2 cache",
    "bandwidth": "3.6 GB/s in theory",
}
_A72: dict[str, Any] = {
    "core": "Cortex-A72",
    "soc": "BCM2711",
    "cache": "1 MB of L2 cache",
    "bandwidth": "12.8 GB/s in theory and about 3.7 GB/s measured on one thread",
}
_A76: dict[str, Any] = {
    "core": "Cortex-A76",
    "clock": "2.4 GHz",
    "mhz": 2400,
    "soc": "BCM2712",
    "cache": "512 KB of L2 cache per core and 2 MB of L3 cache",
    "bandwidth": "about 17 GB/s in theory and 14 to 15 GB/s measured on one thread",
}
_TWO_MICRO_HDMI = "two micro HDMI ports"
_DUAL_5 = "dual-band Wi-Fi and Bluetooth 5"
_DUAL_42 = "dual-band Wi-Fi and Bluetooth 4.2"
_GIGABIT = "Gigabit Ethernet"
_NO_ETHERNET = "no Ethernet port"
_CARRIER = "whatever its carrier board offers"
_USB_C_5A = "5 V at 5 A over USB-C"
_USB_C_3A = "5 V at 3 A over USB-C"
_MICRO_USB = "5 V at 2.5 A over micro USB"
_MICRO_SD = "a microSD card slot"

BOARDS: tuple[Board, ...] = (
    Board(
        "Raspberry Pi Zero 2 W",
        ("Zero 2 W", "Pi Zero 2", "Zero 2", "pi zero 2w", "zero2w"),
        clock="1.0 GHz",
        mhz=1000,
        soc="RP3A0",
        ram_gb=(0.5,),
        usb="one micro USB port for devices",
        video="one mini HDMI port",
        ethernet=_NO_ETHERNET,
        wireless="2.4 GHz Wi-Fi and Bluetooth 4.2",
        supply="5 V at 2 A over micro USB",
        kind="the smallest board, for little power and little space",
        price="15 USD",
        **_A53,
    ),
    Board(
        "Raspberry Pi 3A+",
        ("Pi 3 A+", "3A+", "Pi 3 Model A+", "pi 3a plus"),
        clock="1.4 GHz",
        mhz=1400,
        soc="BCM2837B0",
        ram_gb=(0.5,),
        usb="one USB 2.0 port",
        video="one full-size HDMI port",
        ethernet=_NO_ETHERNET,
        wireless=_DUAL_42,
        supply=_MICRO_USB,
        kind="a small board with little RAM",
        idle=3.1,
        stress=5.6,
        **_A53,
    ),
    Board(
        "Raspberry Pi 3B",
        ("Pi 3 B", "3B", "Pi 3 Model B", "Pi 3"),
        clock="1.2 GHz",
        mhz=1200,
        soc="BCM2837",
        ram_gb=(1,),
        usb="four USB 2.0 ports",
        video="one full-size HDMI port",
        ethernet="100 Mbit Ethernet",
        wireless="2.4 GHz Wi-Fi and Bluetooth 4.1",
        supply=_MICRO_USB,
        kind="an older board for light work",
        idle=1.5,
        **_A53,
    ),
    Board(
        "Raspberry Pi 3B+",
        ("Pi 3 B+", "3B+", "Pi 3 Model B+", "pi 3b plus"),
        clock="1.4 GHz",
        mhz=1400,
        soc="BCM2837B0",
        ram_gb=(1,),
        usb="four USB 2.0 ports",
        video="one full-size HDMI port",
        ethernet="300 Mbit Ethernet",
        wireless=_DUAL_42,
        supply=_MICRO_USB,
        kind="an older board for light work",
        idle=3.1,
        stress=5.6,
        **_A53,
    ),
    Board(
        "Raspberry Pi 4B",
        ("Pi 4", "Pi 4 Model B", "4B", "RPi 4", "rpi4", "Raspberry Pi 4"),
        clock="1.5 or 1.8 GHz",
        mhz=1500,
        ram_gb=(1, 2, 3, 4, 8),
        usb="two USB 3.0 and two USB 2.0 ports",
        video=_TWO_MICRO_HDMI,
        ethernet=_GIGABIT,
        wireless=_DUAL_5,
        supply=_USB_C_3A,
        storage=_MICRO_SD,
        kind="a good all-round board for small models",
        idle=1.6,
        stress=5.0,
        price="35 USD with 1 GB, 67.50 USD with 2 GB and 83.75 USD with 3 GB",
        **_A72,
    ),
    Board(
        "Raspberry Pi 400",
        ("Pi 400", "RPi 400", "the 400"),
        clock="1.8 GHz",
        mhz=1800,
        ram_gb=(4,),
        usb="two USB 3.0 ports and one USB 2.0 port",
        video=_TWO_MICRO_HDMI,
        ethernet=_GIGABIT,
        wireless=_DUAL_5,
        supply=_USB_C_3A,
        storage=_MICRO_SD,
        kind="a Pi 4 inside a keyboard",
        idle=2.7,
        stress=5.2,
        **_A72,
    ),
    Board(
        "Raspberry Pi CM4",
        ("CM4", "Compute Module 4", "Pi CM4"),
        clock="1.5 GHz",
        mhz=1500,
        ram_gb=(1, 2, 4, 8),
        usb=_CARRIER,
        video=_CARRIER,
        ethernet=_CARRIER,
        wireless="optional dual-band Wi-Fi and Bluetooth 5",
        supply="power from its carrier board",
        storage="up to 32 GB of eMMC, or none on the Lite version",
        kind="a module for your own product, with a carrier board",
        idle=2.5,
        stress=4.6,
        **_A72,
    ),
    Board(
        "Raspberry Pi 5",
        ("Pi 5", "RPi 5", "rpi5", "pi5", "the Pi 5", "Pi 5 Model B"),
        ram_gb=(1, 2, 4, 8, 16),
        usb="two USB 3.0 and two USB 2.0 ports",
        video=_TWO_MICRO_HDMI,
        ethernet=_GIGABIT,
        wireless=_DUAL_5,
        supply=_USB_C_5A,
        storage="a microSD card slot and a PCIe connector for an SSD",
        kind="the best board for language models",
        idle=2.8,
        stress=9.7,
        price="45 USD with 1 GB, 77.50 USD with 2 GB, 110 USD with 4 GB, 175 USD with 8 GB "
        "and 305 USD with 16 GB",
        **_A76,
    ),
    Board(
        "Raspberry Pi 500",
        ("Pi 500", "RPi 500", "the 500"),
        ram_gb=(8,),
        usb="two USB 3.0 ports and one USB 2.0 port",
        video=_TWO_MICRO_HDMI,
        ethernet=_GIGABIT,
        wireless=_DUAL_5,
        supply=_USB_C_5A,
        storage=_MICRO_SD,
        kind="a Pi 5 inside a keyboard",
        idle=3.1,
        stress=9.0,
        **_A76,
    ),
    Board(
        "Raspberry Pi 500+",
        ("Pi 500+", "Pi 500 Plus", "RPi 500+", "500+"),
        ram_gb=(16,),
        usb="two USB 3.0 ports and one USB 2.0 port",
        video=_TWO_MICRO_HDMI,
        ethernet=_GIGABIT,
        wireless=_DUAL_5,
        supply=_USB_C_5A,
        storage="a microSD card slot and a 256 GB SSD inside",
        kind="a Pi 5 with 16 GB inside a keyboard",
        idle=2.9,
        stress=9.4,
        **_A76,
    ),
    Board(
        "Raspberry Pi CM5",
        ("CM5", "Compute Module 5", "Pi CM5"),
        ram_gb=(2, 4, 8, 16),
        usb=_CARRIER,
        video=_CARRIER,
        ethernet=_CARRIER,
        wireless="optional dual-band Wi-Fi and Bluetooth 5",
        supply="power from its carrier board",
        storage="up to 64 GB of eMMC, or none on the Lite version",
        kind="a fast module for your own product, with a carrier board",
        idle=2.4,
        stress=8.5,
        **_A76,
    ),
)


def board(name: str) -> Board:
    """The board of that name; KeyError if there is none."""
    return {item.name: item for item in BOARDS}[name]
