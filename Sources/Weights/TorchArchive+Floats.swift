extension TorchArchive {
    public func copyFloats(_ name: String, into destination: UnsafeMutableBufferPointer<Float>) throws {
        let entry = try entry(name)
        precondition(destination.count == entry.count, "the destination of \(name) must hold \(entry.count) elements")
        try withBytes(name) { bytes in
            guard FloatConversion.convert(bytes, entry.type, into: destination) else {
                throw FloatConversion.refusal(entry, path: path)
            }
        }
    }

    public func withBytes<Result>(_ name: String, _ body: (UnsafeRawBufferPointer) throws -> Result) throws -> Result {
        let (entry, view) = try view(name)
        guard entry.count > 0 else { return try body(UnsafeRawBufferPointer(start: nil, count: 0)) }
        let size = entry.type.size
        let start = view.storage.lowerBound + view.offset * size
        let reach = zip(entry.shape, view.strides).reduce(1) { $0 + ($1.0 - 1) * $1.1 }
        let range = start..<start + reach * size
        precondition(range.upperBound <= view.storage.upperBound)
        file.willRead(range)
        defer { file.releasePages(range) }
        let source = UnsafeRawBufferPointer(rebasing: file.bytes[range])
        let swaps = isBigEndian && size > 1
        if !swaps, Self.isContiguous(entry.shape, view.strides) { return try body(source) }

        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: entry.byteCount, alignment: 64)
        defer { copy.deallocate() }
        switch size {
        case 1: Self.gather(source, entry.shape, view.strides, into: copy) { (element: UInt8) in element }
        case 2:
            Self.gather(source, entry.shape, view.strides, into: copy) { (element: UInt16) in
                swaps ? element.byteSwapped : element
            }
        case 4:
            Self.gather(source, entry.shape, view.strides, into: copy) { (element: UInt32) in
                swaps ? element.byteSwapped : element
            }
        default:
            Self.gather(source, entry.shape, view.strides, into: copy) { (element: UInt64) in
                swaps ? element.byteSwapped : element
            }
        }
        return try body(UnsafeRawBufferPointer(copy))
    }

    /// Whether the elements are contiguous in row-major order. The stride of a dimension of size 1 does not matter.
    private static func isContiguous(_ shape: [Int], _ strides: [Int]) -> Bool {
        var expected = 1
        for (size, stride) in zip(shape, strides).reversed() where size != 1 {
            if stride != expected { return false }
            expected *= size
        }
        return true
    }

    /// Copies a view that begins at the start of `source` to `copy`, in row-major order. No dimension may be 0.
    private static func gather<Element>(
        _ source: UnsafeRawBufferPointer, _ shape: [Int], _ strides: [Int], into copy: UnsafeMutableRawBufferPointer,
        _ convert: (Element) -> Element
    ) {
        let size = MemoryLayout<Element>.size
        let (columns, step) = (shape.last ?? 1, (strides.last ?? 1) * size)
        // The index in all dimensions but the last, and the byte offset of that row.
        var place = [Int](repeating: 0, count: max(0, shape.count - 1))
        var row = 0
        for written in stride(from: 0, to: copy.count, by: columns * size) {
            for column in 0..<columns {
                let element = convert(source.loadUnaligned(fromByteOffset: row + column * step, as: Element.self))
                copy.storeBytes(of: element, toByteOffset: written + column * size, as: Element.self)
            }
            for dimension in place.indices.reversed() {
                place[dimension] += 1
                row += strides[dimension] * size
                if place[dimension] < shape[dimension] { break }
                row -= shape[dimension] * strides[dimension] * size
                place[dimension] = 0
            }
        }
    }
}
