/// The element type of a stored tensor. Raw values are the names in the safetensors format.
///
/// `allCases` has the types that are also written; `opaque` is not among them.
public enum TensorType: String, CaseIterable, Sendable {
    case f64 = "F64", f32 = "F32", f16 = "F16", bf16 = "BF16"
    case i64 = "I64", i32 = "I32", i16 = "I16", i8 = "I8"
    case u64 = "U64", u32 = "U32", u16 = "U16", u8 = "U8"
    case bool = "BOOL"
    /// 8-bit floating point: listed and copied, but not converted.
    case f8e4m3 = "F8_E4M3", f8e5m2 = "F8_E5M2"
    /// Any other type: complex numbers, floats of 4, 6 or 8 bits. Listed as `TensorEntry.typeName`, neither converted nor
    /// written; its bytes can be compared.
    case opaque = "other"

    public static let allCases: [TensorType] = [
        .f64, .f32, .f16, .bf16, .i64, .i32, .i16, .i8, .u64, .u32, .u16, .u8, .bool, .f8e4m3, .f8e5m2,
    ]

    /// Number of bytes of one element; of `opaque`, 1.
    public var size: Int {
        switch self {
        case .f64, .i64, .u64: 8
        case .f32, .i32, .u32: 4
        case .f16, .bf16, .i16, .u16: 2
        case .i8, .u8, .bool, .f8e4m3, .f8e5m2, .opaque: 1
        }
    }

    /// Bits of one element of the type that a header calls `name`; nil for a name that is no type.
    static func bits(_ name: String) -> Int? {
        if let known = allCases.first(where: { $0.rawValue == name }) { return 8 * known.size }
        // The format adds types now and then. All begin with their kind and the bits of an element: C64, F8_E8M0, F6_E2M3,
        // F4.
        guard name.utf8.count <= 32,
            name.utf8.allSatisfy({ (0x41...0x5A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x5F }),
            let kind = name.first, "CFIU".contains(kind), let bits = Int(name.dropFirst().prefix { $0.isNumber })
        else { return nil }
        return [1, 2, 3, 4, 5, 6, 8, 16, 32, 64, 128].contains(bits) ? bits : nil
    }
}
