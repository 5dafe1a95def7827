import Reporting
import Weights

extension CanonicalWeightFile {
    /// Types that tensors can be rounded to.
    public static let roundedTypes: [TensorType] = [.f32, .f16, .bf16]

    /// The model's tensors under the names of `scheme`, in MAE's order, ready to be written. Values are read while they
    /// are written, one tensor (or row-third) at a time.
    ///
    /// - Parameters:
    ///   - type: one of `roundedTypes`, to which floating-point tensors are rounded, to nearest, ties to even; nil
    ///     keeps every type and copies the bytes.
    ///   - keeps: whether the tensor with this MAE name is written.
    /// - Returns: the tensors, and the MAE names of those to be kept that the scheme has no name for.
    public func sources(
        _ scheme: NamingScheme, type: TensorType? = nil, where keeps: (String) -> Bool = { _ in true }
    ) -> (tensors: [TensorSource], dropped: [String]) {
        precondition(type.map { Self.roundedTypes.contains($0) } ?? true)
        var tensors: [TensorSource] = []
        var dropped: [String] = []
        let kept = entries.filter { keeps($0.name) }.map { (NamingScheme.order($0.name), $0) }
        for (_, entry) in kept.sorted(by: { $0.0 < $1.0 }) {
            let names = scheme.names(entry.name)
            guard !names.isEmpty else {
                dropped.append(entry.name)
                continue
            }
            let stored =
                FloatConversion.floating.contains(entry.type) || !entry.type.isConvertible
                ? type ?? entry.type : entry.type
            for (index, name) in names.enumerated() {
                var shape = entry.shape
                if names.count > 1 { shape[0] /= names.count }
                tensors.append(
                    TensorSource(name: name, type: stored, shape: shape) { [self] body in
                        try pieces(entry, part: index, of: names.count) { bytes in
                            try convert(bytes, entry, to: stored, body)
                        }
                    })
            }
        }
        return (tensors, dropped)
    }

    /// Calls `body` with the bytes of part `part` of the tensor, split by rows into `parts` equal ones, in one or
    /// several pieces.
    private func pieces(_ entry: TensorEntry, part: Int, of parts: Int, _ body: (UnsafeRawBufferPointer) throws -> Void)
        throws
    {
        let sources = sourceNames(entry.name)
        if parts == 1 {
            for source in sources { try file.withBytes(source, body) }
        } else if sources.count == parts {
            try file.withBytes(sources[part], body)
        } else {
            let size = entry.byteCount / parts
            try withBytes(entry.name) {
                try body(UnsafeRawBufferPointer(rebasing: $0[part * size..<(part + 1) * size]))
            }
        }
    }

    /// Converts `bytes`, elements of the type of `entry`, to `type` and calls `body` with the result, piece by piece.
    private func convert(
        _ bytes: UnsafeRawBufferPointer, _ entry: TensorEntry, to type: TensorType,
        _ body: (UnsafeRawBufferPointer) throws -> Void
    ) throws {
        guard type != entry.type else { return try body(bytes) }
        guard FloatConversion.floating.contains(entry.type) else { throw FloatConversion.refusal(entry, path: path) }
        let count = bytes.count / entry.type.size
        let piece = min(count, 1 << 18)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: piece * type.size, alignment: 16)
        defer { buffer.deallocate() }
        for start in stride(from: 0, to: count, by: max(1, piece)) {
            let end = min(start + piece, count)
            let source = UnsafeRawBufferPointer(rebasing: bytes[start * entry.type.size..<end * entry.type.size])
            let target = UnsafeMutableRawBufferPointer(rebasing: buffer[..<((end - start) * type.size)])
            guard FloatConversion.round(source, entry.type, to: type, into: target) else {
                throw Self.tooLarge(entry.name, type, path: path)
            }
            try body(UnsafeRawBufferPointer(target))
        }
    }

    /// The failure of rounding finite numbers that `type` cannot hold.
    static func tooLarge(_ name: String, _ type: TensorType, path: String) -> Failure {
        Failure(
            .badData,
            "tensor \(quoted(name)) of \(quoted(path: path)) holds numbers too large for \(type.rawValue), which would "
                + "become infinite; choose \(.weightType, type == .f16 ? "bf16 or f32" : "f32")")
    }
}
