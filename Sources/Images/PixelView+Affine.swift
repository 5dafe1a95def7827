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
            let first = UnsafePointer(scratch.baseAddress!) + 2 * pitch + 2 * size
            let right = Double(width), bottom = Double(height)
            for y in 0..<height {
                let v = Double(y) + 0.5
                for x in 0..<width {
                    let u = Double(x) + 0.5
                    let target = bytes + (y * width + x) * channels
                    var xIn = map.a * u + map.b * v + map.c, yIn = map.d * u + map.e * v + map.f
                    guard xIn >= 0, xIn < right, yIn >= 0, yIn < bottom else {
                        for channel in 0..<channels { target[channel] = fill[channel] }
                        continue
                    }
                    xIn -= 0.5
                    yIn -= 0.5
                    let column = xIn >= 0 ? Int(xIn) : -1, row = yIn >= 0 ? Int(yIn) : -1
                    let corner = first + (row - 1) * pitch + (column - 1) * size
                    let dx = xIn - Double(column), dy = yIn - Double(row)
                    if size == 4 {
                        let value = bicubicRGB(UnsafeRawPointer(corner), pitch, dx, dy)
                        for channel in 0..<3 { target[channel] = UInt8(value[channel]) }
                    } else {
                        target[0] = UInt8(bicubicGrey(corner, pitch, dx, dy))
                    }
                }
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

/// The pixels of 4 bytes in rows of `pitch` bytes from `corner` on, interpolated between the second and third column
/// and row, and cut off to 0...255.
@inline(__always)
private func bicubicRGB(_ corner: UnsafeRawPointer, _ pitch: Int, _ dx: Double, _ dy: Double) -> SIMD4<Double> {
    @inline(__always)
    func pixel(_ row: Int, _ column: Int) -> SIMD4<Double> {
        SIMD4<Double>(corner.loadUnaligned(fromByteOffset: row * pitch + 4 * column, as: SIMD4<UInt8>.self))
    }
    @inline(__always)
    func across(_ row: Int) -> SIMD4<Double> {
        // With dx = 0 the cubic is exactly the second pixel: shears and shifts along y need no more.
        if dx == 0 { return pixel(row, 1) }
        return cubic(pixel(row, 0), pixel(row, 1), pixel(row, 2), pixel(row, 3), dx)
    }
    let value = dy == 0 ? across(1) : cubic(across(0), across(1), across(2), across(3), dy)
    return value.clamped(lowerBound: .zero, upperBound: SIMD4(repeating: 255))
}

/// The same for pixels of 1 byte.
@inline(__always)
private func bicubicGrey(_ corner: UnsafePointer<UInt8>, _ pitch: Int, _ dx: Double, _ dy: Double) -> Double {
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
    return min(max(v2 + dy * (p2 + dy * (p3 + dy * p4)), 0), 255)
}

/// Python's `round(value, 15)`: the decimal number of 15 places that is nearest to the exact value, as a double.
private func roundedTo15Decimals(_ value: Double) -> Double {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { text in
        _ = withVaList([value]) { vsnprintf(text.baseAddress!, text.count, "%.15f", $0) }
        return strtod(text.baseAddress!, nil)
    }
}
