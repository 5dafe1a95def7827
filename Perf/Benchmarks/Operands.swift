import CKernels

/// Memory for the operands of a recorded call. Aliases stay aliases, and interleaved operands, such as queries, keys
/// and values in one matrix, stay interleaved.
struct Operands {
    private struct Span {
        var start: UInt, end: UInt
        var type: dmae_type
        var memory: UnsafeMutableRawPointer?
    }
    private var spans: [Span] = []

    /// A matrix of the call, unless it is absent.
    mutating func add(_ pointer: UnsafeRawPointer?, rows: Int, columns: Int, stride: Int, _ type: dmae_type) {
        guard let pointer, rows * columns > 0 else { return }
        let start = UInt(bitPattern: pointer), count = (rows - 1) * stride + columns
        spans.append(Span(start: start, end: start + UInt(count * type.size), type: type))
    }

    /// Allocates everything that was added, filled with random numbers.
    mutating func allocate() {
        var merged: [Span] = []
        for span in spans.sorted(by: { $0.start < $1.start }) {
            if let last = merged.last, span.start < last.end {
                merged[merged.count - 1].end = max(last.end, span.end)
            } else {
                merged.append(span)
            }
        }
        spans = merged.map { span in
            var span = span
            span.memory = matrix(Int(span.end - span.start) / span.type.size, span.type)
            return span
        }
    }

    subscript(_ pointer: UnsafeRawPointer?) -> UnsafeMutableRawPointer? {
        guard let pointer else { return nil }
        let address = UInt(bitPattern: pointer)
        guard let span = spans.first(where: { ($0.start..<$0.end).contains(address) }), let memory = span.memory else {
            fail("an operand of a recorded call was not allocated")
        }
        return memory + Int(address - span.start)
    }
    subscript(_ pointer: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? { self[UnsafeRawPointer(pointer)] }
    subscript(_ pointer: UnsafePointer<Float>?) -> UnsafePointer<Float>? {
        UnsafePointer(self[UnsafeRawPointer(pointer)]?.assumingMemoryBound(to: Float.self))
    }
    subscript(_ pointer: UnsafeMutablePointer<Float>?) -> UnsafeMutablePointer<Float>? {
        self[UnsafeRawPointer(pointer)]?.assumingMemoryBound(to: Float.self)
    }
}

/// `count` random elements of `type`, until releaseMemory.
func matrix(_ count: Int, _ type: dmae_type) -> UnsafeMutableRawPointer {
    let floats = memory(count), elements = UnsafeMutableRawPointer(floats)
    if type == DMAE_TYPE_BF16 {
        for i in 0..<count {
            elements.storeBytes(of: UInt16(floats[i].bitPattern >> 16), toByteOffset: 2 * i, as: UInt16.self)
        }
    }
    return elements
}

/// Scratch memory of at least `bytes`, until releaseMemory.
func scratch(_ bytes: Int) -> UnsafeMutableRawPointer { UnsafeMutableRawPointer(memory(bytes / 4 + 16)) }
