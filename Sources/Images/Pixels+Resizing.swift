extension Pixels {
    /// The picture resampled to `width` × `height`, bit for bit as Pillow's `resize((width, height), BICUBIC)`.
    public func resized(width: Int, height: Int) -> Pixels {
        resized(from: (0, 0, Float(self.width), Float(self.height)), width: width, height: height)
    }

    /// The part of the picture inside `box` (fractions of a pixel allowed), resampled to `width` × `height`, bit for
    /// bit as Pillow's `resize((width, height), BICUBIC, box)`: pixels outside the box still weigh in at its edges.
    public func resized(
        from box: (left: Float, top: Float, right: Float, bottom: Float), width: Int, height: Int
    ) -> Pixels {
        precondition(
            box.left >= 0 && box.top >= 0 && box.right <= Float(self.width) && box.bottom <= Float(self.height))
        precondition(box.left < box.right && box.top < box.bottom && width > 0 && height > 0)
        return Pixels(width: width, height: height, channels: channels) { target in
            Resampler().resample(self, from: box, width: width, height: height, into: target)
        }
    }

    /// The picture cut to `rectangle` and then resampled, bit for bit as Pillow's `crop(…).resize((width, height),
    /// BICUBIC)`: pixels outside the rectangle do not count.
    public func resized(croppingTo rectangle: Rectangle, width: Int, height: Int) -> Pixels {
        Pixels(width: width, height: height, channels: channels) { target in
            Resampler().resample(self, croppedTo: rectangle, width: width, height: height, into: target)
        }
    }
}

/// Pillow's 8-bit bicubic resampling (a = −½, the filter widened by the shrink factor), with the memory it needs kept
/// between calls.
///
/// Two passes, columns first, each rounding to 8 bits; the weights are integers of 22 fractional bits, so that sums
/// are exact and do not depend on their order. Belongs to one thread at a time.
package final class Resampler {
    /// Which samples make one output column or row, and how much each weighs.
    private struct Filter {
        /// Of each output: the first input and the number of inputs.
        var spans: [(first: Int, count: Int)] = []
        /// Of each output: `stride` weights, of which `count` are in use.
        var weights: [Int32] = []
        var stride = 0
        private var exact: [Double] = []

        /// Makes those of `outputs` samples, from the stretch [from, to) of `inputs` samples, that are `wanted`.
        mutating func make(inputs: Int, from: Float, to: Float, outputs: Int, wanted: Range<Int>) {
            // Single precision here and double below: the last bit of a weight depends on it.
            let scale = Double(to - from) / Double(outputs)
            let widening = max(scale, 1)
            let support = 2 * widening
            stride = Int(support.rounded(.up)) * 2 + 1
            let narrowing = 1 / widening
            spans.removeAll(keepingCapacity: true)
            weights.removeAll(keepingCapacity: true)
            weights.reserveCapacity(wanted.count * stride)
            for output in wanted {
                let centre = Double(from) + (Double(output) + 0.5) * scale
                let first = max(0, Int(centre - support + 0.5))
                let count = min(inputs, Int(centre + support + 0.5)) - first
                spans.append((first, count))
                exact.removeAll(keepingCapacity: true)
                var sum = 0.0
                for input in first..<first + count {
                    let weight = Self.bicubic((Double(input) - centre + 0.5) * narrowing)
                    exact.append(weight)
                    sum += weight
                }
                let divisor = sum != 0 ? sum : 1
                for input in 0..<stride { weights.append(input < count ? Self.fixed(exact[input] / divisor) : 0) }
            }
        }

        private static func fixed(_ weight: Double) -> Int32 {
            Int32(weight * Double(1 << fraction) + (weight < 0 ? -0.5 : 0.5))
        }

        private static func bicubic(_ distance: Double) -> Double {
            let x = abs(distance), a = -0.5
            if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
            if x < 2 { return (((x - 5) * x + 8) * x - 4) * a }
            return 0
        }
    }

    private static let fraction = 22
    private static let half = Int32(1) << 21
    private var columns = Filter(), rows = Filter()
    private var narrowed: [UInt8] = []
    private var lastRow: [UInt8] = []

    package init() {}

    /// Resamples `picture` to `width` × `height` and writes the part of the result inside `window`, all of it where
    /// there is none, to `target`[rows, columns, channels]. `rectangle`: the picture is first cut to it; `box`: the
    /// part of that which is resampled.
    package func resample(
        _ picture: borrowing Pixels, croppedTo rectangle: Rectangle? = nil,
        from box: (left: Float, top: Float, right: Float, bottom: Float)? = nil, width: Int, height: Int,
        window: Rectangle? = nil, into target: UnsafeMutablePointer<UInt8>
    ) {
        let cut = rectangle ?? Rectangle(left: 0, top: 0, width: picture.width, height: picture.height)
        let box = box ?? (0, 0, Float(cut.width), Float(cut.height))
        let window = window ?? Rectangle(left: 0, top: 0, width: width, height: height)
        precondition(
            cut.fits(width: picture.width, height: picture.height) && window.fits(width: width, height: height))
        let channels = picture.channels, row = window.width * channels
        // As in Pillow, a pass that would change nothing is left out.
        let needsColumns = width != cut.width || box.left != 0 || box.right != Float(width)
        let needsRows = height != cut.height || box.top != 0 || box.bottom != Float(height)
        // The rows of the source that count.
        var top = window.top, bottom = window.top + window.height
        if needsRows {
            rows.make(inputs: cut.height, from: box.top, to: box.bottom, outputs: height, wanted: top..<bottom)
            top = rows.spans[0].first
            bottom = rows.spans[window.height - 1].first + rows.spans[window.height - 1].count
        }
        if needsColumns {
            let wanted = window.left..<window.left + window.width
            columns.make(inputs: cut.width, from: box.left, to: box.right, outputs: width, wanted: wanted)
        }
        picture.bytes.withUnsafeBufferPointer { bytes in
            let pitch = picture.width * channels
            let source = bytes.baseAddress! + (cut.top + top) * pitch + cut.left * channels
            let unmoved = source + window.left * channels
            switch (needsColumns, needsRows) {
            case (true, true):
                let count = (bottom - top) * row
                if narrowed.count < count { narrowed = [UInt8](repeating: 0, count: count) }
                narrowed.withUnsafeMutableBufferPointer {
                    narrow(source, pitch, cut.width, bottom - top, channels, window.width, into: $0.baseAddress!)
                    shorten($0.baseAddress!, row, top, row, window.height, into: target)
                }
            case (true, false):
                narrow(source, pitch, cut.width, window.height, channels, window.width, into: target)
            case (false, true):
                shorten(unmoved, pitch, top, row, window.height, into: target)
            case (false, false):
                for y in 0..<window.height { (target + y * row).update(from: unmoved + y * pitch, count: row) }
            }
        }
    }

    /// The pass along the rows: `count` rows of `inputs` pixels become rows of `outputs` pixels.
    private func narrow(
        _ source: UnsafePointer<UInt8>, _ pitch: Int, _ inputs: Int, _ count: Int, _ channels: Int, _ outputs: Int,
        into target: UnsafeMutablePointer<UInt8>
    ) {
        let stride = columns.stride
        columns.spans.withUnsafeBufferPointer { spans in
            columns.weights.withUnsafeBufferPointer { weights in
                for y in 0..<count {
                    let row = source + y * pitch
                    let out = target + y * outputs * channels
                    if channels == 1 {
                        for x in 0..<outputs {
                            let span = spans[x]
                            var sum = Self.half
                            for tap in 0..<span.count {
                                sum &+= Int32(row[span.first + tap]) &* weights[x * stride + tap]
                            }
                            out[x] = Self.clipped(sum)
                        }
                    } else if y < count - 1 {
                        narrowColour(row, spans, weights, stride, out, outputs)
                    } else {
                        // Pixels are loaded four bytes at a time; behind the very last one there may be nothing to
                        // load.
                        if lastRow.count < 3 * inputs + 1 { lastRow = [UInt8](repeating: 0, count: 3 * inputs + 1) }
                        lastRow.withUnsafeMutableBufferPointer { $0.baseAddress!.update(from: row, count: 3 * inputs) }
                        lastRow.withUnsafeBufferPointer {
                            narrowColour($0.baseAddress!, spans, weights, stride, out, outputs)
                        }
                    }
                }
            }
        }
    }

    @inline(__always)
    private func narrowColour(
        _ row: UnsafePointer<UInt8>, _ spans: UnsafeBufferPointer<(first: Int, count: Int)>,
        _ weights: UnsafeBufferPointer<Int32>, _ stride: Int, _ out: UnsafeMutablePointer<UInt8>, _ outputs: Int
    ) {
        let raw = UnsafeRawPointer(row)
        for x in 0..<outputs {
            let span = spans[x]
            var sum = SIMD4<Int32>(repeating: Self.half)
            for tap in 0..<span.count {
                let pixel = raw.loadUnaligned(fromByteOffset: 3 * (span.first + tap), as: SIMD4<UInt8>.self)
                sum &+= SIMD4<Int32>(truncatingIfNeeded: pixel) &* weights[x * stride + tap]
            }
            sum = (sum &>> 22).clamped(lowerBound: .zero, upperBound: SIMD4(repeating: 255))
            let clipped = SIMD4<UInt8>(truncatingIfNeeded: sum)
            out[3 * x] = clipped[0]
            out[3 * x + 1] = clipped[1]
            out[3 * x + 2] = clipped[2]
        }
    }

    /// The pass along the columns: rows of `width` bytes, the first of which is row `top` of the filter's input,
    /// become `outputs` rows.
    private func shorten(
        _ source: UnsafePointer<UInt8>, _ pitch: Int, _ top: Int, _ width: Int, _ outputs: Int,
        into target: UnsafeMutablePointer<UInt8>
    ) {
        typealias Wide = SIMD16<Int32>
        rows.weights.withUnsafeBufferPointer { weights in
            for y in 0..<outputs {
                let span = rows.spans[y]
                let first = source + (span.first - top) * pitch
                let weights = weights.baseAddress! + y * rows.stride
                let out = target + y * width
                var x = 0
                while x + 16 <= width {
                    var sum = Wide(repeating: Self.half)
                    for tap in 0..<span.count {
                        let samples = UnsafeRawPointer(first + tap * pitch + x).loadUnaligned(as: SIMD16<UInt8>.self)
                        sum &+= Wide(truncatingIfNeeded: samples) &* weights[tap]
                    }
                    sum = (sum &>> 22).clamped(lowerBound: .zero, upperBound: Wide(repeating: 255))
                    let clipped = SIMD16<UInt8>(truncatingIfNeeded: sum)
                    UnsafeMutableRawPointer(out + x).storeBytes(of: clipped, as: SIMD16<UInt8>.self)
                    x += 16
                }
                while x < width {
                    var sum = Self.half
                    for tap in 0..<span.count { sum &+= Int32(first[tap * pitch + x]) &* weights[tap] }
                    out[x] = Self.clipped(sum)
                    x += 1
                }
            }
        }
    }

    /// The sample that a sum of weighted ones stands for.
    @inline(__always)
    private static func clipped(_ sum: Int32) -> UInt8 { UInt8(truncatingIfNeeded: min(max(sum >> 22, 0), 255)) }
}
