"""A video file as PyAV decodes it from its start: which frames it holds, when each is shown, what is damaged.

Frames are counted from 0, in the order in which decoding from the start gives them. Two ways lead to a frame:

- *by count*: decode from the start and count. It is right for every file, and slow in long ones.
- *by time*: one pass over the packets, without decoding, tells when each frame is shown; a frame is reached
  from the keyframe before it and known by its time. Frames on the way that no other frame refers to are left
  out. It serves the kinds of files whose packets name every frame (``_NAMED_BY_PACKETS``).

A frame that does not come at its time sends the whole file the first way. Whatever the demuxer or the decoder
complains about makes the file a damaged one.

The file is long for one class, but both ways need the same container, decoder and complaints.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

from video_env.data import nal_units
from video_env.data.complaints import Complaints, listening, said, words
from video_env.errors import InputError

Choose = Callable[[np.ndarray], np.ndarray]
"""From the times of all frames, float64 [F] in seconds, to the indices of those that are wanted, int64
[N]."""
Convert = Callable[[np.ndarray], np.ndarray]
"""What is kept of a frame, uint8 [H, W, 3]: only one at a time is in memory as it was decoded."""

_MOV, _MATROSKA, _AVI, _TRANSPORT = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpegts"
# By container, as FFmpeg names it: the codecs whose every packet is one frame that is shown, with its time.
_NAMED_BY_PACKETS = {name: {"h264", "hevc", "vp9", "av1"} for name in (_MOV, _MATROSKA)}
# Codecs whose decoders can leave out the frames that no other frame refers to.
_CAN_LEAVE_OUT = {"h264", "hevc"}
# FFmpeg's own VP9 decoder notices no damage; libvpx gives the same pixels and notices nearly all.
_CAREFUL_DECODERS = {"vp9": "libvpx-vp9"}
# PyAV before 19 refuses metadata that is not UTF-8 unless it is told otherwise; PyAV 19 always reads it.
_METADATA: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
# These are texts that name other files, which a video has no business with.
_PLAYLISTS = {"concat", "dash", "hls", "imf", "rtsp", "sdp"}
_STRICT = {"err_detect": "crccheck+bitstream+buffer+explode"}
_MOST_REORDERED = 16  # frames that a decoder holds back at most (H.264 and HEVC)
_CUT_SECONDS = 0.5  # by which the packets of a whole file may end before the length that it states


class VideoError(InputError):
    """A video file that cannot be decoded; the message names it and says why."""


class DamagedError(VideoError):
    """A video file that can be decoded in part: a decoder would have to invent the rest."""


@dataclass(frozen=True)
class _Packets:
    """What one pass over the packets tells.

    Attributes:
        starts: (pts, dts) of the packets from which decoding can start without any before them.
        promised: the pts of the frames that decoding from the start should give, in the order shown.
        are_named: whether the container and the codec are of those whose packets are frames, each with a
            time.
        are_frames: whether these are all packets, and the first is one that decoding can start from.
        every_key_starts: whether decoding can start at every packet that is marked as a keyframe.
    """

    starts: list[tuple[int, int]]
    promised: Sequence[int | None]
    are_named: bool
    are_frames: bool
    every_key_starts: bool


class VideoFile:
    """A video file to read frames from.

    Args:
        path: the file.
        strict: refuse damage. Otherwise read what can be read; nothing then tells which frames the decoder
            invented.

    Attributes:
        kind: container and codec, as FFmpeg names them.
        times: float64 [F], seconds after the file's start at which each frame is shown, never falling.
            Before ``read`` these are what the packets promise.

    Raises:
        DamagedError: it is damaged.
        VideoError: it is no video, or says nothing of its times.
    """

    def __init__(self, path: Path, *, strict: bool = True) -> None:
        self.path = path
        self._strict = strict
        with self._opened() as (container, stream, complaints):
            self.kind = (container.format.name, stream.codec.canonical_name)
            self._time_base = stream.time_base or Fraction(1)
            self._rate = stream.average_rate or stream.guessed_rate or Fraction(0)
            self._start = container.start_time
            self._packets = self._scan(container, stream, complaints)
        self._careful = _CAREFUL_DECODERS.get(self.kind[1], "") if self._is_upright() else ""
        if not self._packets.promised:
            raise VideoError(f"{path}: the file holds no frame, expected at least one")
        self.times = self._shown_at(self._packets.promised)

    @property
    def frames_per_second(self) -> float:
        """Mean rate, from the times of the first and the last frame; of a single frame what the file states.

        Raises:
            VideoError: it is no positive number.
        """
        seconds = float(self.times[-1] - self.times[0])
        rate = (len(self.times) - 1) / seconds if seconds > 0 else float(self._rate)
        if not 0 < rate < float("inf"):
            raise VideoError(f"{self.path}: {rate:g} frames per second, expected a positive number")
        return rate

    @property
    def is_plain(self) -> bool:
        """Whether its packets alone tell which frames there are, and every keyframe is one to start from."""
        return self._packets.are_frames and self._packets.every_key_starts

    def read(self, choose: Choose, convert: Convert) -> tuple[np.ndarray, list[np.ndarray]]:
        """Decode chosen frames: their indices, int64 [N], and what ``convert`` made of each.

        Raises:
            DamagedError: the decoder complained on the way to one of them.
            VideoError: the file does not hold them all (as far as ``choose`` does not refuse first).
        """
        try:
            indices = choose(self.times)
        except VideoError:
            if self._packets.are_frames:
                raise
            indices = np.array([], np.int64)  # what the packets promise may be less than there is
        if self._strict and self._packets.are_frames:
            found = self._by_time(indices, convert)
            if found is not None:
                return indices, [found[index] for index in indices.tolist()]
        for _ in range(3):
            found, pts = self._by_count(set(indices.tolist()), convert)
            if not pts:
                raise VideoError(f"{self.path}: not one of its frames decodes")
            self.times = self._shown_at(pts)
            before, indices = indices, choose(self.times)
            # Where the packets promised other frames than there are, others are chosen now.
            if np.array_equal(before, indices):
                return indices, [found[index] for index in indices.tolist()]
        raise VideoError(f"{self.path}: holds another number of frames each time that it is decoded")

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any, Complaints]]:
        """The container, its video stream, and what FFmpeg complains of from now on; what goes wrong inside
        is an error that names the file."""
        options = _STRICT if self._strict else {}
        complaints: Complaints = []
        try:
            # "file:" because a name with a colon would be taken for a protocol.
            with (
                listening() as complaints,
                av.open(
                    f"file:{self.path.absolute()}",
                    **_METADATA,
                    options={**options, "protocol_whitelist": "file"},
                ) as container,
            ):
                if container.format.name in _PLAYLISTS:
                    raise VideoError(
                        f"{self.path}: a list of other files ({container.format.name}), no video"
                    )
                if not container.streams.video:
                    raise VideoError(f"{self.path}: holds no video stream ({container.format.name})")
                stream = container.streams.video[0]
                if stream.codec_context is None:
                    raise VideoError(
                        f"{self.path}: no decoder knows its video stream ({container.format.name})"
                    )
                yield container, stream, complaints
        except (av.error.FFmpegError, OSError, ValueError, OverflowError, ZeroDivisionError) as error:
            if isinstance(error, InputError):
                raise
            raise VideoError(
                f"{self.path}: cannot be read as a video ({words(error, complaints)})"
            ) from error

    def _scan(self, container: Any, stream: Any, complaints: Complaints) -> _Packets:
        name, codec = self.kind
        inside = nal_units.Packets(codec, stream.codec_context.extradata)
        pts: list[int | None] = []
        starts: list[tuple[int, int]] = []
        first_key: tuple[int, int | None] | None = None
        positions: set[int] = set()
        plain, keyframes, end = True, 0, 0.0
        for packet in self._demuxed(container, complaints):
            shown = packet.dts if packet.pts is None else packet.pts
            if shown is not None and packet.duration and packet.time_base:
                end = max(end, float((shown + packet.duration) * packet.time_base))
            if packet.stream_index != stream.index or not packet.size:
                continue
            if packet.is_corrupt and name != _TRANSPORT:
                self._damaged("a packet is cut short or marked as damaged")
            if name == _AVI and packet.pos is not None and packet.pos in positions:
                self._damaged("its index names one place in the file for two frames")
            positions.add(packet.pos)
            data = bytes(packet)
            if fault := inside.fault(data):
                self._damaged(fault)
            keyframes += packet.is_keyframe
            if packet.is_keyframe and first_key is None:
                first_key = (len(pts), packet.pts)
            if packet.is_discard:  # an edit list leaves it out, and others may need it
                plain = False
                continue
            if packet.is_keyframe and packet.pts is not None and inside.can_start_at(data):
                starts.append((packet.pts, packet.pts if packet.dts is None else packet.dts))
            pts.append(packet.pts)
        stated = (container.duration or 0) / 1e6
        if name in (_MATROSKA, _AVI) and end < stated - _CUT_SECONDS:
            self._damaged(f"it states {stated:.2f} seconds and ends after {end:.2f}")
        # What is shown before the first keyframe refers to frames that are not there.
        at, key = first_key or (0, None)
        known = [one for one in pts[at:] if one is not None]
        timed = len(known) == len(pts) - at
        promised = sorted(one for one in known if key is None or one >= key) if timed else pts[at:]
        # Of reordered frames, times that rise from packet to packet are not those of showing.
        times_of_decoding = stream.codec_context.has_b_frames and pts == promised and codec in _CAN_LEAVE_OUT
        are_named = (
            plain
            and not times_of_decoding
            and codec in _NAMED_BY_PACKETS.get(name, ())
            and len(promised) == len(set(known))
        )
        are_frames = (
            are_named
            and len(promised) == len(pts)
            and bool(starts)
            and starts == sorted(starts)
            and starts[0][0] == promised[0]
        )
        every_key_starts = keyframes == len(starts)
        return _Packets(starts, promised, are_named, are_frames, every_key_starts)

    def _demuxed(self, container: Any, complaints: Complaints, *streams: Any) -> Iterator[Any]:
        """The packets; a complaint of the demuxer is damage. (Others are of a decoder that looked at the
        beginning to know the stream.)"""
        packets = container.demux(*streams)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.FFmpegError as error:
                self._damaged(words(error, complaints))
                return
            own = [entry for entry in complaints if entry[1] == container.format.name]
            complaints.clear()
            if own:
                self._damaged(said(own))
            yield packet

    def _damaged(self, why: str) -> None:
        if self._strict:
            raise DamagedError(f"{self.path}: damaged: {why}")

    def _decoder(self, stream: Any) -> Any:
        """A decoder of the stream, with one thread: whoever reads many files has a process for each core."""
        context = stream.codec_context
        # libvpx can be built without more than 8 bits a sample.
        of_bytes = context.format is not None and context.format.components[0].bits == 8
        if of_bytes and self._careful in av.codecs_available:
            own = av.CodecContext.create(self._careful, "r")
            own.extradata = context.extradata
            context = own
        context.thread_type = "NONE"
        context.options = _STRICT if self._strict else {}
        return context

    def _is_upright(self) -> bool:
        """Whether frames are shown unturned; a careful decoder is not told of a turn, so it needs that."""
        if self.kind[1] not in _CAREFUL_DECODERS:
            return True
        with self._opened() as (container, stream, _):
            try:
                return all(frame.rotation == 0 for frame in itertools.islice(container.decode(stream), 1))
            except av.error.FFmpegError:
                return True

    def _by_time(self, indices: np.ndarray, convert: Convert) -> dict[int, np.ndarray] | None:
        """The frames by index, or None where one did not come at its time."""
        in_order = self._packets.promised
        wanted = {in_order[index]: index for index in sorted(set(indices.tolist()))}
        keys = [pts for pts, _ in self._packets.starts]
        found: dict[int, np.ndarray] = {}
        with self._opened() as (container, stream, complaints):
            decoder = self._decoder(stream)
            groups = itertools.groupby(wanted, key=lambda pts: bisect_right(keys, pts) - 1)
            for start, group in groups:
                pts, dts = self._packets.starts[start]
                if start:
                    container.seek(dts, stream=stream)
                    decoder.flush_buffers()
                packets = _from(pts, self._demuxed(container, complaints, stream))
                frames = self._frames(packets, stream, decoder, complaints, wanted)
                missing = set(group)
                last, before = max(missing), None
                for frame in frames:
                    if frame.pts is None or frame.interlaced_frame:
                        return None  # two fields can be two packets
                    if before is not None and frame.pts <= before:
                        return None  # its times are not in the order in which frames are shown
                    before = frame.pts
                    if frame.pts in missing:
                        found[wanted[frame.pts]] = convert(self._whole(frame))
                        missing.remove(frame.pts)
                    if not missing:
                        break
                    if frame.pts > last:
                        return None
                if missing:
                    return None
        return found

    def _frames(
        self,
        packets: Iterator[Any],
        stream: Any,
        decoder: Any,
        complaints: Complaints,
        wanted: dict[int, int],
    ) -> Iterator[Any]:
        """Decoded frames, without some of those that are not wanted."""
        leaves_out = stream.codec.canonical_name in _CAN_LEAVE_OUT
        for packet in packets:
            if leaves_out and packet.size:
                decoder.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
            yield from self._decoded(decoder, packet, complaints)

    def _decoded(self, decoder: Any, packet: Any, complaints: Complaints) -> list[av.VideoFrame]:
        try:
            frames = decoder.decode(packet)
        except av.error.FFmpegError as error:
            self._damaged(words(error, complaints))
            return []
        if complaints:
            self._damaged(said(complaints))
        # In a transport stream the first frame after a mere join of two recordings is marked too.
        if self.kind[0] != _TRANSPORT and any(frame.is_corrupt for frame in frames):
            self._damaged("the decoder marks a frame as damaged")
        return list(frames)

    def _whole(self, frame: Any) -> np.ndarray:
        if frame.is_corrupt:
            self._damaged("the decoder marks a frame as damaged")
        return _upright(frame)

    def _by_count(self, wanted: set[int], convert: Convert) -> tuple[dict[int, np.ndarray], list[int | None]]:
        """The frames by index, as far as there are, and the pts of all frames in the order shown."""
        found: dict[int, np.ndarray] = {}
        pts: list[int | None] = []
        with self._opened() as (container, stream, complaints):
            decoder = self._decoder(stream)
            # A recording that begins between keyframes makes a decoder complain until the first of them.
            begun = fields = False
            for packet in self._demuxed(container, complaints, stream):
                begun = begun or packet.is_keyframe
                try:
                    frames = self._decoded(decoder, packet, complaints)
                except DamagedError:
                    if begun:
                        raise
                    continue
                for frame in frames:
                    if len(pts) in wanted:
                        found[len(pts)] = convert(self._whole(frame))
                    pts.append(frame.pts)
                    fields = fields or frame.interlaced_frame  # each of them may be a packet
        if self._packets.are_named and not fields and len(pts) < len(self._packets.promised):
            self._damaged(f"of {len(self._packets.promised)} frames {len(pts)} can be decoded")
        return found, pts

    def _shown_at(self, pts: Sequence[int | None]) -> np.ndarray:
        """float64 [F] seconds; by the stated rate where the file's own times are missing or fall.

        Raises:
            VideoError: then that rate is no positive number.
        """
        times = np.array([float(one * self._time_base) for one in pts if one is not None])
        if len(times) == len(pts) and np.isfinite(times).all():
            order = np.argsort(times, kind="stable")
            # AVI has times in the order of decoding only.
            if np.abs(order - np.arange(len(order))).max() <= _MOST_REORDERED:
                times = times[order]
                return times - (times[0] if self._start is None else min(self._start / 1e6, times[0]))
        if not self._rate > 0:
            raise VideoError(f"{self.path}: states {self._rate} frames per second and no times of its frames")
        return np.arange(len(pts)) / float(self._rate)


def _from(pts: int, packets: Iterator[Any]) -> Iterator[Any]:
    return itertools.dropwhile(lambda packet: packet.pts != pts, packets)


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """uint8 [H, W, 3], RGB, turned as the file says that it is to be shown."""
    pixels = frame.to_ndarray(format="rgb24")
    return np.rot90(pixels, round(frame.rotation / 90) % 4)
