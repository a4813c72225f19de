"""The data types of MQTT v5 (1.5) on the wire: integers, lengths, strings, binary data."""

from foa.broker.reason import malformed

LONGEST = 268_435_455  #: the largest variable byte integer, bytes (1.5.5)


def encode_length(value: int) -> bytes:
    """A variable byte integer, 1 to 4 bytes (1.5.5).

    Raises:
        ValueError: below 0 or above 268 435 455.
    """
    if value < 128:
        return bytes((value,))
    if value > LONGEST:
        raise ValueError(f"{value} does not fit a variable byte integer")
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def decode_length(data: bytes, position: int, end: int) -> tuple[int, int] | None:
    """Read a variable byte integer.

    Returns:
        Its value and the position behind it; None when `data[:end]` stops before it is complete.

    Raises:
        PacketError: longer than 4 bytes, or longer than its value needs (1.5.5: the minimum number of bytes).
    """
    value = shift = 0
    while position < end:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if byte == 0 and shift:
                raise malformed("a length is encoded in more bytes than it needs")
            return value, position
        shift += 7
        if shift > 21:
            raise malformed("a length is longer than 4 bytes")
    return None


def encode_binary(data: bytes) -> bytes:
    """Two bytes of length, then the data, at most 65 535 bytes (1.5.6)."""
    return len(data).to_bytes(2, "big") + data


def encode_string(text: str) -> bytes:
    """Two bytes of length, then UTF-8, at most 65 535 bytes (1.5.4)."""
    return encode_binary(text.encode())


def decode_text(raw: bytes) -> str:
    """UTF-8 as MQTT allows it: well formed, no surrogates, no U+0000 [MQTT-1.5.4-1, MQTT-1.5.4-2].

    Raises:
        PacketError: it is not.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise malformed("a string is not UTF-8") from error
    if "\0" in text:
        raise malformed("a string contains U+0000")
    return text


class Cursor:
    """Reads data types one after another from `data[position:end]`.

    Every method moves behind what it read, and raises PacketError (malformed) when the bytes run out.
    """

    __slots__ = ("data", "end", "position")

    def __init__(self, data: bytes, position: int, end: int) -> None:
        self.data = data
        self.position = position
        self.end = end

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        start = self.position
        self.position += count
        if self.position > self.end:
            raise malformed("a packet ends in the middle of a field")
        return self.data[start : self.position]

    def integer(self, size: int) -> int:
        """A big-endian unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size), "big")

    def length(self) -> int:
        """A variable byte integer."""
        decoded = decode_length(self.data, self.position, self.end)
        if decoded is None:
            raise malformed("a packet ends in the middle of a length")
        value, self.position = decoded
        return value

    def binary(self) -> bytes:
        """Binary data with its length before it."""
        return self.take(self.integer(2))

    def string(self) -> str:
        """A UTF-8 string with its length before it."""
        return decode_text(self.binary())

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return self.end - self.position
