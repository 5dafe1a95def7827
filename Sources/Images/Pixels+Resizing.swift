extension Pixels {
    /// The picture resampled to `width` × `height`, bit for bit as Pillow's `resize((width, height), interpolation)`.
    public func resized(width: Int, height: Int, _ interpolation: Interpolation = .bicubic) -> Pixels {
        resized(from: (0, 0, Float(self.width), Float(self.height)), width: width, height: height, interpolation)
    }

    /// The part of the picture inside `box`, in fractional pixels, resampled to `width` × `height`, bit for bit as
    /// Pillow's `resize((width, height), interpolation, box)`. Pixels outside the box contribute at its edges.
    public func resized(
        from box: (left: Float, top: Float, right: Float, bottom: Float), width: Int, height: Int,
        _ interpolation: Interpolation = .bicubic
    ) -> Pixels {
        precondition(
            box.left >= 0 && box.top >= 0 && box.right <= Float(self.width) && box.bottom <= Float(self.height))
        precondition(box.left < box.right && box.top < box.bottom && width > 0 && height > 0)
        return Pixels(width: width, height: height, channels: channels) { target in
            Resampler(interpolation).resample(self, from: box, width: width, height: height, into: target)
        }
    }

    /// The picture cropped to `rectangle` and then resampled, bit for bit as Pillow's `crop(…).resize((width, height),
    /// interpolation)`. Pixels outside the rectangle do not contribute.
    public func resized(
        croppingTo rectangle: Rectangle, width: Int, height: Int, _ interpolation: Interpolation = .bicubic
    ) -> Pixels {
        Pixels(width: width, height: height, channels: channels) { target in
            Resampler(interpolation).resample(self, croppedTo: rectangle, width: width, height: height, into: target)
        }
    }
}

/// Pillow's 8-bit resampling, the support of the filter scaled by the reduction factor. Its buffers are reused by the
/// next call, so only one thread at a time may use it.
///
/// A horizontal pass, then a vertical one, each rounded to 8 bits. As in Pillow from 13 on, the vertical one is first
/// where it removes more than twice as many rows as the other removes columns. The weights are integers with 22 fractional bits, so
/// sums are exact and do not depend on the order of addition.
package final class Resampler {
    /// The filter of one direction: the inputs of each output, and their weights.
    private struct Filter {
        /// Of each output: the first input and the number of inputs (taps).
        var spans: [(first: Int, count: Int)] = []
        /// [outputs, stride]: the weights of each output, followed by zeros.
        var weights: [Int32] = []
        var stride = 0
        /// The weights of one output before they are normalised and rounded.
        private var unscaled: [Double] = []

        /// The inputs that the outputs depend on. Both ends of the spans rise.
        var inputs: Range<Int> { spans[0].first..<spans[spans.count - 1].first + spans[spans.count - 1].count }

        /// Counts the inputs of each output from `first` on.
        mutating func count(from first: Int) { for output in spans.indices { spans[output].first -= first } }

        /// Computes the filter for the outputs `wanted` out of `outputs`, which cover [from, to) of `inputs` samples.
        mutating func make(
            _ interpolation: Interpolation, inputs: Int, from: Float, to: Float, outputs: Int, wanted: Range<Int>
        ) {
            // As in Pillow, the difference is a float and the rest double: this decides the last bit of a weight.
            let scale = Double(to - from) / Double(outputs)
            let filterScale = max(scale, 1)
            let support = interpolation.support * filterScale
            stride = Int(support.rounded(.up)) * 2 + 1
            let inverseScale = 1 / filterScale
            spans.removeAll(keepingCapacity: true)
            weights.removeAll(keepingCapacity: true)
            weights.reserveCapacity(wanted.count * stride)
            for output in wanted {
                let centre = Double(from) + (Double(output) + 0.5) * scale
                let first = max(0, Int(centre - support + 0.5))
                let count = min(inputs, Int(centre + support + 0.5)) - first
                spans.append((first, count))
                unscaled.removeAll(keepingCapacity: true)
                var sum = 0.0
                for input in first..<first + count {
                    let weight = interpolation.weight((Double(input) - centre + 0.5) * inverseScale)
                    unscaled.append(weight)
                    sum += weight
                }
                let divisor = sum != 0 ? sum : 1
                for input in 0..<stride { weights.append(input < count ? Self.fixed(unscaled[input] / divisor) : 0) }
            }
        }

        private static func fixed(_ weight: Double) -> Int32 {
            Int32(weight * Double(1 << fractionBits) + (weight < 0 ? -0.5 : 0.5))
        }
    }

    private static let fractionBits = 22
    /// Half of the last integer bit, added to a sum so that cutting off its fractional bits rounds it.
    private static let half = Int32(1) << 21
    private var horizontal = Filter(), vertical = Filter()
    private var intermediate: [UInt8] = []
    private var lastRow: [UInt8] = []

    /// The filter of the next call.
    package var interpolation: Interpolation

    package init(_ interpolation: Interpolation = .bicubic) { self.interpolation = interpolation }

    /// Resamples `picture` to `width` × `height`.
    ///
    /// - Parameters:
    ///   - rectangle: the crop that is taken before; nil for the whole picture.
    ///   - box: the part of the cropped picture that is resampled; nil for all of it.
    ///   - window: the part of the result that is computed; nil for all of it.
    ///   - target: [window's height, window's width, channels].
    package func resample(
        _ picture: borrowing Pixels, croppedTo rectangle: Rectangle? = nil,
        from box: (left: Float, top: Float, right: Float, bottom: Float)? = nil, width: Int, height: Int,
        window: Rectangle? = nil, into target: UnsafeMutablePointer<UInt8>
    ) {
        let crop = rectangle ?? Rectangle(left: 0, top: 0, width: picture.width, height: picture.height)
        let box = box ?? (0, 0, Float(crop.width), Float(crop.height))
        let window = window ?? Rectangle(left: 0, top: 0, width: width, height: height)
        precondition(
            crop.fits(width: picture.width, height: picture.height) && window.fits(width: width, height: height))
        let channels = picture.channels, row = window.width * channels
        // As in Pillow, a pass that would change nothing is skipped.
        let resamplesHorizontally = width != crop.width || box.left != 0 || box.right != Float(width)
        let resamplesVertically = height != crop.height || box.top != 0 || box.bottom != Float(height)
        // Pillow compares the pictures, whatever the box.
        let isVerticalFirst =
            resamplesHorizontally && resamplesVertically && height < crop.height
            && crop.height - height > 2 * (crop.width - width)
        // The rows and columns of the cropped picture that the window depends on.
        var rows = window.top..<window.top + window.height, columns = window.left..<window.left + window.width
        if resamplesVertically {
            vertical.make(
                interpolation, inputs: crop.height, from: box.top, to: box.bottom, outputs: height, wanted: rows)
            rows = vertical.inputs
        }
        if resamplesHorizontally {
            horizontal.make(
                interpolation, inputs: crop.width, from: box.left, to: box.right, outputs: width, wanted: columns)
            if isVerticalFirst {
                columns = horizontal.inputs
                horizontal.count(from: columns.lowerBound)
            }
        }
        picture.bytes.withUnsafeBufferPointer { bytes in
            let pitch = picture.width * channels
            let source = bytes.baseAddress! + (crop.top + rows.lowerBound) * pitch + crop.left * channels
            let unresampled = source + columns.lowerBound * channels
            switch (resamplesHorizontally, resamplesVertically) {
            case (true, true):
                let kept = columns.count * channels
                let count = isVerticalFirst ? window.height * kept : rows.count * row
                if intermediate.count < count { intermediate = [UInt8](repeating: 0, count: count) }
                intermediate.withUnsafeMutableBufferPointer {
                    let between = $0.baseAddress!
                    if isVerticalFirst {
                        resampleVertically(unresampled, pitch, rows.lowerBound, kept, window.height, into: between)
                        resampleHorizontally(
                            between, kept, columns.count, window.height, channels, window.width, into: target)
                    } else {
                        resampleHorizontally(
                            source, pitch, crop.width, rows.count, channels, window.width, into: between)
                        resampleVertically(between, row, rows.lowerBound, row, window.height, into: target)
                    }
                }
            case (true, false):
                resampleHorizontally(source, pitch, crop.width, window.height, channels, window.width, into: target)
            case (false, true):
                resampleVertically(unresampled, pitch, rows.lowerBound, row, window.height, into: target)
            case (false, false):
                for y in 0..<window.height { (target + y * row).update(from: unresampled + y * pitch, count: row) }
            }
        }
    }

    /// The horizontal pass: resamples `count` rows of `inputs` pixels to rows of `outputs` pixels.
    private func resampleHorizontally(
        _ source: UnsafePointer<UInt8>, _ pitch: Int, _ inputs: Int, _ count: Int, _ channels: Int, _ outputs: Int,
        into target: UnsafeMutablePointer<UInt8>
    ) {
        let stride = horizontal.stride
        horizontal.spans.withUnsafeBufferPointer { spans in
            horizontal.weights.withUnsafeBufferPointer { weights in
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
                        resampleRowRGB(row, spans, weights, stride, out, outputs)
                    } else {
                        // Pixels are loaded four bytes at a time. The last row is copied, as the byte after its last
                        // pixel may not be readable.
                        if lastRow.count < 3 * inputs + 1 { lastRow = [UInt8](repeating: 0, count: 3 * inputs + 1) }
                        lastRow.withUnsafeMutableBufferPointer { $0.baseAddress!.update(from: row, count: 3 * inputs) }
                        lastRow.withUnsafeBufferPointer {
                            resampleRowRGB($0.baseAddress!, spans, weights, stride, out, outputs)
                        }
                    }
                }
            }
        }
    }

    @inline(__always)
    private func resampleRowRGB(
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

    /// The vertical pass: resamples rows of `width` bytes to `outputs` rows. The first row of `source` is input `top`
    /// of the filter.
    private func resampleVertically(
        _ source: UnsafePointer<UInt8>, _ pitch: Int, _ top: Int, _ width: Int, _ outputs: Int,
        into target: UnsafeMutablePointer<UInt8>
    ) {
        typealias Wide = SIMD16<Int32>
        vertical.weights.withUnsafeBufferPointer { weights in
            for y in 0..<outputs {
                let span = vertical.spans[y]
                let first = source + (span.first - top) * pitch
                let weights = weights.baseAddress! + y * vertical.stride
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

    /// The 8-bit sample of a weighted sum, which includes the rounding term `half`.
    @inline(__always)
    private static func clipped(_ sum: Int32) -> UInt8 { UInt8(truncatingIfNeeded: min(max(sum >> 22, 0), 255)) }
}
