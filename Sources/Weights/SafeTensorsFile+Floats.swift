import Tensors

extension SafeTensorsFile {
    /// A tensor as 32-bit floats; see `copyFloats`.
    public func floats(_ name: String) throws -> [Float] {
        let count = try entry(name).count
        return try [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
            try copyFloats(name, into: UnsafeMutableBufferPointer(rebasing: buffer[..<count]))
            initialized = count
        }
    }

    /// Converts a tensor into `destination`, which must hold exactly its number of elements and need not be initialised.
    ///
    /// F32, F16 and BF16 arrive exactly, infinities and the bits of a NaN included; F64 and integers arrive as the nearest
    /// float, exactly where there is one; BOOL as 0 and 1. Throws `Failure(.badData)` where the tensor does not exist or is of
    /// an eight-bit floating type.
    public func copyFloats(_ name: String, into destination: UnsafeMutableBufferPointer<Float>) throws {
        let entry = try entry(name)
        precondition(destination.count == entry.count, "the destination of \(name) must hold \(entry.count) elements")
        guard let target = destination.baseAddress, entry.count > 0 else { return }
        let source = bytes(entry)

        func convert<Stored>(_: Stored.Type, _ float: (Stored) -> Float) {
            // The format aligns nothing, so every load is an unaligned one.
            for index in 0..<entry.count {
                (target + index).initialize(
                    to: float(source.loadUnaligned(fromByteOffset: index * MemoryLayout<Stored>.size, as: Stored.self)))
            }
        }
        switch entry.type {
        case .f32: UnsafeMutableRawPointer(target).copyMemory(from: source.baseAddress!, byteCount: source.count)
        case .f64: convert(UInt64.self) { Float(Double(bitPattern: UInt64(littleEndian: $0))) }
        case .f16: convert(UInt16.self) { float(halfBits: UInt16(littleEndian: $0)) }
        case .bf16: convert(UInt16.self) { Float(bitPattern: UInt32(UInt16(littleEndian: $0)) << 16) }
        case .i64: convert(Int64.self) { Float(Int64(littleEndian: $0)) }
        case .i32: convert(Int32.self) { Float(Int32(littleEndian: $0)) }
        case .i16: convert(Int16.self) { Float(Int16(littleEndian: $0)) }
        case .i8: convert(Int8.self) { Float($0) }
        case .u64: convert(UInt64.self) { Float(UInt64(littleEndian: $0)) }
        case .u32: convert(UInt32.self) { Float(UInt32(littleEndian: $0)) }
        case .u16: convert(UInt16.self) { Float(UInt16(littleEndian: $0)) }
        case .u8: convert(UInt8.self) { Float($0) }
        case .bool: convert(UInt8.self) { $0 == 0 ? 0 : 1 }
        case .f8e4m3, .f8e5m2:
            throw Failure(
                .badData,
                "tensor \(quoted(name)) of \(quoted(path: path)) is of type \(entry.type.rawValue), which cannot be used as weights; "
                    + "convert it to F32, F16 or BF16")
        }
        releasePages(entry.byteRange)
    }
}

/// The value of an IEEE half. Branch-free, and right also where the processor flushes subnormals to zero.
@inline(__always)
private func float(halfBits half: UInt16) -> Float {
    let sign = UInt32(half & 0x8000) << 16
    let magnitude = UInt32(half & 0x7FFF) << 13
    let exponent = magnitude & 0x0F80_0000
    // Subnormal: put the fraction under an exponent of its own weight, then take that exponent's value away.
    let rebased = Float(bitPattern: magnitude + 113 << 23) - Float(bitPattern: 113 << 23)
    let normal = magnitude + 112 << 23
    let special = magnitude | 0x7F80_0000
    let bits = exponent == 0 ? rebased.bitPattern : exponent == 0x0F80_0000 ? special : normal
    return Float(bitPattern: bits | sign)
}
