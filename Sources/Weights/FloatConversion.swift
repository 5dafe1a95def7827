import Reporting

/// Conversion of stored elements to 32-bit floats.
package enum FloatConversion {
    /// Converts the elements `source`, of type `type`, contiguous, little-endian and at any alignment, to
    /// `destination`, which has as many. Returns false and writes nothing if the type cannot be converted.
    static func convert(
        _ source: UnsafeRawBufferPointer, _ type: TensorType, into destination: UnsafeMutableBufferPointer<Float>
    ) -> Bool {
        guard type.isConvertible else { return false }
        precondition(source.count == destination.count * type.size)
        guard let target = destination.baseAddress, !destination.isEmpty else { return true }

        func convert<Stored>(_: Stored.Type, _ float: (Stored) -> Float) {
            for index in 0..<destination.count {
                (target + index).initialize(
                    to: float(source.loadUnaligned(fromByteOffset: index * MemoryLayout<Stored>.size, as: Stored.self)))
            }
        }
        switch type {
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
        case .f8e4m3, .f8e5m2, .opaque: return false
        }
        return true
    }

    /// The failure of reading a tensor whose type cannot be converted.
    package static func refusal(_ entry: TensorEntry, path: String) -> Failure {
        Failure(
            .badData,
            "tensor \(quoted(entry.name)) of \(quoted(path: path)) is of type \(entry.typeName), which cannot be "
                + "used as weights; "
                + "convert it to F32, F16 or BF16")
    }
}

extension TensorType {
    /// Whether `copyFloats` converts it.
    public var isConvertible: Bool { ![.f8e4m3, .f8e5m2, .opaque].contains(self) }
}

/// The value of an IEEE half. Branch-free, and correct even if the processor flushes subnormals to zero.
@inline(__always)
func float(halfBits half: UInt16) -> Float {
    let sign = UInt32(half & 0x8000) << 16
    let magnitude = UInt32(half & 0x7FFF) << 13
    let exponent = magnitude & 0x0F80_0000
    // Subnormal: combine the significand with an exponent that gives it its weight, then subtract that exponent's
    // value.
    let rebased = Float(bitPattern: magnitude + 113 << 23) - Float(bitPattern: 113 << 23)
    let normal = magnitude + 112 << 23
    let special = magnitude | 0x7F80_0000
    let bits = exponent == 0 ? rebased.bitPattern : exponent == 0x0F80_0000 ? special : normal
    return Float(bitPattern: bits | sign)
}
