"""What the packets of H.264 and HEVC say before they are decoded: where decoding can start, and what no
whole packet holds.

In MP4 and Matroska a packet is a sequence of NAL units, each after its length (ISO/IEC 14496-15). Inside a
unit no two zero bytes are followed by 0, 1 or 2 (ITU-T H.264 and H.265, 7.4.1:
``emulation_prevention_three_byte``), so a hole of zeros or a misplaced block shows where an entropy decoder
would read on without noticing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_FORBIDDEN = re.compile(rb"\0\0[\0\1\2]")
_CONFIGURATION_VERSION = 1


@dataclass(frozen=True)
class Codec:
    """How a codec's units are told apart.

    Attributes:
        length_at: byte of the decoder configuration whose last two bits are the lengths' size less one.
        kind: a unit's type, from its first byte.
        slices: types that hold parts of pictures.
        restarts: among these, the types at whose packet decoding can start; all keyframes where None.
    """

    length_at: int
    kind: Callable[[int], int]
    slices: range
    restarts: frozenset[int] | None


CODECS = {
    # After an IDR slice (type 5) nothing refers to what was before it (7.4.1.2.4); after a "recovery
    # point", which is marked as a keyframe too, something may.
    "h264": Codec(4, lambda byte: byte & 31, range(1, 6), frozenset({5})),
    "hevc": Codec(21, lambda byte: byte >> 1 & 63, range(32), None),
}


class Packets:
    """The packets of one stream.

    Args:
        codec: as FFmpeg names it.
        configuration: the stream's extradata. Of another codec, or in another form, packets are not looked
            into.
    """

    def __init__(self, codec: str, configuration: bytes | None) -> None:
        known = CODECS.get(codec)
        self._codec = known
        self._length_size = 0
        configuration = configuration or b""
        if known and len(configuration) > known.length_at and configuration[0] == _CONFIGURATION_VERSION:
            self._length_size = (configuration[known.length_at] & 3) + 1

    def fault(self, packet: bytes) -> str:
        """What no whole packet has; empty where nothing is wrong."""
        if not self._length_size or self._codec is None:
            return ""
        try:
            for unit in self._units(packet):
                if unit[0] & 0x80:
                    return "a NAL unit's first bit is set"
                if self._codec.kind(unit[0]) in self._codec.slices and _FORBIDDEN.search(unit.rstrip(b"\0")):
                    return "a NAL unit holds bytes that no encoder writes"
        except ValueError as error:
            return str(error)
        return ""

    def can_start_at(self, keyframe: bytes) -> bool:
        """Whether decoding can start at a keyframe's packet without any before it."""
        if self._codec is None or self._codec.restarts is None:
            return True
        if not self._length_size:
            return False
        try:
            kinds = {self._codec.kind(unit[0]) for unit in self._units(keyframe)}
        except ValueError:
            return False
        return bool(kinds & self._codec.restarts)

    def _units(self, packet: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(packet):
            begin = at + self._length_size
            at = begin + int.from_bytes(packet[at:begin], "big")
            if at > len(packet):
                raise ValueError("a NAL unit is longer than its packet")
            if at > begin:
                yield packet[begin:at]
