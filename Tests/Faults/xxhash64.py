"""XXH64 (Yann Collet, xxhash_spec.md) in plain Python: an implementation beside the program's own."""

import struct

MASK = (1 << 64) - 1
P1, P2, P3, P4, P5 = (
    0x9E3779B185EBCA87,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0x85EBCA77C2B2AE63,
    0x27D4EB2F165667C5,
)


def rotate(value, bits):
    return (value << bits | value >> 64 - bits) & MASK


def round_(lane, value):
    return rotate((lane + value * P2) & MASK, 31) * P1 & MASK


def digest(data, seed=0):
    """The checksum of `data`."""
    whole = len(data) // 32 * 32
    if whole:
        lanes = [(seed + P1 + P2) & MASK, (seed + P2) & MASK, seed, (seed - P1) & MASK]
        values = struct.unpack_from(f"<{whole // 8}Q", data)
        for lane in range(4):
            state = lanes[lane]
            for value in values[lane::4]:
                # `round_`, written out: most of the time is spent here.
                state = (state + value * P2) & MASK
                state = ((state << 31 | state >> 33) & MASK) * P1 & MASK
            lanes[lane] = state
        result = sum(rotate(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18))) & MASK
        for lane in lanes:
            result = ((result ^ round_(0, lane)) * P1 + P4) & MASK
    else:
        result = (seed + P5) & MASK
    result = (result + len(data)) & MASK
    rest = data[whole:]
    while len(rest) >= 8:
        result = (rotate(result ^ round_(0, int.from_bytes(rest[:8], "little")), 27) * P1 + P4) & MASK
        rest = rest[8:]
    if len(rest) >= 4:
        result = (rotate(result ^ int.from_bytes(rest[:4], "little") * P1 & MASK, 23) * P2 + P3) & MASK
        rest = rest[4:]
    for byte in rest:
        result = rotate(result ^ byte * P5 & MASK, 11) * P1 & MASK
    result = (result ^ result >> 33) * P2 & MASK
    result = (result ^ result >> 29) * P3 & MASK
    return result ^ result >> 32
