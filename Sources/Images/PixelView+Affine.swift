import Glibc

/// Where the pixels of a transformed picture come from: the point (x, y) of the result shows the point
/// (a·x + b·y + c, d·x + e·y + f) of the original. Pixels are unit squares; the first one's centre is (½, ½).
struct AffineMap {
    var a = 1.0, b = 0.0, c = 0.0
    var d = 0.0, e = 1.0, f = 0.0
}

extension PixelView {
    /// Rotates counter-clockwise by `degrees`, -90 to 90 without these, around the picture's centre, bit for bit as
    /// Pillow's `rotate(degrees, BICUBIC, fillcolor=fill)`.
    func rotate(degrees: Double, _ fill: [UInt8], _ scratch: inout [UInt8]) {
        if degrees == 0 { return }
        // As Pillow reduces the angle; the sum rounds.
        let angle = -((degrees < 0 ? degrees + 360 : degrees) * (Double.pi / 180))
        var map = AffineMap()
        map.a = roundedTo15Decimals(cos(angle))
        map.b = roundedTo15Decimals(sin(angle))
        map.d = roundedTo15Decimals(-sin(angle))
        map.e = map.a
        let x = Double(width) / 2, y = Double(height) / 2
        map.c = map.a * -x + map.b * -y + x
        map.f = map.d * -x + map.e * -y + y
        transform(map, fill, &scratch)
    }

    /// Transforms the picture, bit for bit as Pillow's `transform(size, AFFINE, …, BICUBIC, fillcolor=fill)`: bicubic
    /// with a = -1 in double precision, cut off to bytes; points outside the picture become `fill`[channels].
    func transform(_ map: AffineMap, _ fill: [UInt8], _ scratch: inout [UInt8]) {
        // The original with its edges repeated twice on every side, and pixels of 4 bytes for RGB.
        let size = channels == 3 ? 4 : 1, pitch = (width + 4) * size
        let needed = (height + 4) * pitch
        if scratch.count < needed { scratch = [UInt8](repeating: 0, count: needed) }
        scratch.withUnsafeMutableBufferPointer { scratch in
            pad(into: scratch.baseAddress!, size: size)
            let first = UnsafeRawPointer(scratch.baseAddress!) + 2 * pitch + 2 * size
            if channels == 3 {
                let (red, green, blue) = (fill[0], fill[1], fill[2])
                eachPoint(map) { pixel, column, row, dx, dy in
                    let corner = first + ((row &- 1) &* pitch &+ (column &- 1) &* 4)
                    let value = bicubicRGB(corner, pitch, dx, dy)
                    let target = bytes + 3 &* pixel
                    for channel in 0..<3 { target[channel] = cutOff(value[channel]) }
                } outside: { pixel in
                    let target = bytes + 3 &* pixel
                    target[0] = red
                    target[1] = green
                    target[2] = blue
                }
            } else {
                let grey = fill[0]
                eachPoint(map) { pixel, column, row, dx, dy in
                    let corner = first + ((row &- 1) &* pitch &+ (column &- 1))
                    bytes[pixel] = cutOff(bicubicGrey(corner, pitch, dx, dy))
                } outside: { pixel in
                    bytes[pixel] = grey
                }
            }
        }
    }

    /// Calls one of the closures for each pixel of the result, whose number is the first argument.
    ///
    /// `inside` is given the pixel of the original at or before the point, in both directions, as column and row, -1 or
    /// more, and the distance to the point from that pixel's centre, 0 to 1.
    @inline(__always)
    private func eachPoint(
        _ map: AffineMap, inside: (Int, Int, Int, Double, Double) -> Void, outside: (Int) -> Void
    ) {
        let right = Double(width), bottom = Double(height)
        var pixel = 0
        for y in 0..<height {
            let v = Double(y) + 0.5
            let xOfRow = map.b * v, yOfRow = map.e * v
            for x in 0..<width {
                let u = Double(x) + 0.5
                // The sums in Pillow's order.
                let xIn = map.a * u + xOfRow + map.c, yIn = map.d * u + yOfRow + map.f
                if xIn >= 0, xIn < right, yIn >= 0, yIn < bottom {
                    let x = xIn - 0.5, y = yIn - 0.5, column = integer(below: x), row = integer(below: y)
                    inside(pixel, column.number, row.number, x - column.value, y - row.value)
                } else {
                    outside(pixel)
                }
                pixel &+= 1
            }
        }
    }

    /// Writes the picture with two more pixels on every side, copies of the nearest one, to
    /// `target`[height + 4, width + 4, size].
    private func pad(into target: UnsafeMutablePointer<UInt8>, size: Int) {
        let pitch = (width + 4) * size
        for y in 0..<height {
            let row = bytes + y * width * channels, out = target + (y + 2) * pitch
            for x in -2..<width + 2 {
                let pixel = row + min(max(x, 0), width - 1) * channels, copy = out + (x + 2) * size
                for channel in 0..<channels { copy[channel] = pixel[channel] }
            }
        }
        for y in [0, 1] { (target + y * pitch).update(from: target + 2 * pitch, count: pitch) }
        for y in [height + 2, height + 3] {
            (target + y * pitch).update(from: target + (height + 1) * pitch, count: pitch)
        }
    }
}

/// The cubic through v2 (at d = 0) and v3 (at d = 1). The order of operations is Pillow's.
@inline(__always)
private func cubic(
    _ v1: SIMD4<Double>, _ v2: SIMD4<Double>, _ v3: SIMD4<Double>, _ v4: SIMD4<Double>, _ d: Double
) -> SIMD4<Double> {
    let p2 = v3 - v1
    let p3 = 2 * (v1 - v2) + v3 - v4
    let p4 = v2 - v1 - v3 + v4
    return v2 + d * (p2 + d * (p3 + d * p4))
}

/// The same of bytes: the coefficients are integers, and exact.
@inline(__always)
private func cubic(
    _ v1: SIMD4<Int32>, _ v2: SIMD4<Int32>, _ v3: SIMD4<Int32>, _ v4: SIMD4<Int32>, _ d: Double
) -> SIMD4<Double> {
    let difference = v1 &- v2
    let p2 = SIMD4<Double>(v3 &- v1)
    let p3 = SIMD4<Double>(difference &+ difference &+ v3 &- v4)
    let p4 = SIMD4<Double>(v4 &- v3 &- difference)
    return SIMD4<Double>(v2) + d * (p2 + d * (p3 + d * p4))
}

/// The largest integer that is not above `value`, whose magnitude is below 2⁵⁰.
///
/// `Int(value)` checks its argument's range, which costs as much as the cubics do.
@inline(__always)
private func integer(below value: Double) -> (value: Double, number: Int) {
    // Beside 1.5 · 2⁵² a double has no fraction: the sum rounds to the nearest integer, and its bits count in ones.
    let integers = 0x1.8p52
    let sum = value + integers, nearest = sum - integers
    let number = Int(truncatingIfNeeded: sum.bitPattern) &- Int(truncatingIfNeeded: integers.bitPattern)
    return nearest > value ? (nearest - 1, number &- 1) : (nearest, number)
}

/// `value` as a byte: fractions are cut off, below 0 is 0, above 255 is 255.
@inline(__always)
private func cutOff(_ value: Double) -> UInt8 {
    UInt8(truncatingIfNeeded: min(max(integer(below: value).number, 0), 255))
}

/// The pixels of 4 bytes in rows of `pitch` bytes from `corner` on, interpolated between the second and third column
/// and row.
@inline(__always)
private func bicubicRGB(_ corner: UnsafeRawPointer, _ pitch: Int, _ dx: Double, _ dy: Double) -> SIMD4<Double> {
    @inline(__always)
    func pixel(_ row: Int, _ column: Int) -> SIMD4<Int32> {
        SIMD4<Int32>(
            truncatingIfNeeded: corner.loadUnaligned(fromByteOffset: row * pitch + 4 * column, as: SIMD4<UInt8>.self))
    }
    @inline(__always)
    func across(_ row: Int) -> SIMD4<Double> {
        cubic(pixel(row, 0), pixel(row, 1), pixel(row, 2), pixel(row, 3), dx)
    }
    // At 0 a cubic is exactly its second value: shears and shifts along one axis need one cubic.
    if dy == 0 { return across(1) }
    if dx == 0 { return cubic(pixel(0, 1), pixel(1, 1), pixel(2, 1), pixel(3, 1), dy) }
    return cubic(across(0), across(1), across(2), across(3), dy)
}

/// The same for pixels of 1 byte.
@inline(__always)
private func bicubicGrey(_ corner: UnsafeRawPointer, _ pitch: Int, _ dx: Double, _ dy: Double) -> Double {
    let corner = corner.assumingMemoryBound(to: UInt8.self)
    // Of each row one value.
    @inline(__always)
    func column(_ column: Int) -> SIMD4<Double> {
        SIMD4(
            Double(corner[column]), Double(corner[pitch + column]), Double(corner[2 * pitch + column]),
            Double(corner[3 * pitch + column]))
    }
    let rows = cubic(column(0), column(1), column(2), column(3), dx)
    let (v1, v2, v3, v4) = (rows[0], rows[1], rows[2], rows[3])
    let p2 = v3 - v1
    let p3 = 2 * (v1 - v2) + v3 - v4
    let p4 = v2 - v1 - v3 + v4
    return v2 + dy * (p2 + dy * (p3 + dy * p4))
}

/// Python's `round(value, 15)`: the decimal number of 15 places that is nearest to the exact value, as a double.
private func roundedTo15Decimals(_ value: Double) -> Double {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { text in
        _ = withVaList([value]) { vsnprintf(text.baseAddress!, text.count, "%.15f", $0) }
        return strtod(text.baseAddress!, nil)
    }
}
