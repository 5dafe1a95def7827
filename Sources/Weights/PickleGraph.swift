import Reporting

/// The values that a pickle describes. They refer to each other by index, so that a hostile pickle cannot cause
/// recursion, and all of them are counted.
struct PickleGraph {
    /// The index of a value.
    typealias Reference = Int32

    /// A range of the pickle's bytes.
    struct Span {
        var start: UInt32
        var count: UInt32
    }

    enum Value {
        case none
        case bool(Bool)
        case integer(Int)
        /// An integer of more than 64 bits.
        case bigInteger
        case number(Double)
        case text(Span)
        case bytes
        /// An index into `containers`, also for tuples and sets.
        case list(Int32)
        case tuple(Int32)
        case set(Int32)
        /// An index into `containers`, which holds keys and values alternately.
        case dictionary(Int32)
        /// An index into `globals`.
        case global(Int32)
        /// An index into `objects`.
        case object(Int32)
        /// An index into `storages`.
        case storage(Int32)
        /// An index into `tensors`.
        case tensor(Int32)
    }

    /// The name of a Python class or function. It is never looked up; the meaning of a few names is known.
    struct Global {
        let name: Span
        let module: Span
        let meaning: PickleMeaning
    }

    /// The description of a call or construction, which is not carried out.
    struct Object {
        /// The class or function, or another object.
        let maker: Reference
        let arguments: Reference
        var state: Reference?
        /// The items appended to it as to a list, or set as in a dictionary.
        var list: Int32?
        var dictionary: Int32?
    }

    /// A member of the archive that holds elements of tensors.
    struct Storage {
        /// The element type; nil for an untyped storage.
        let type: TensorType?
        let key: Span
        /// Number of elements, or bytes of an untyped storage.
        let count: Int
    }

    /// A view of a storage.
    struct Tensor {
        let storage: Int32
        let type: TensorType
        let offset: Int
        let shape: [Int]
        let strides: [Int]
    }

    let pickle: UnsafeRawBufferPointer
    var values: [Value] = []
    var containers: [[Reference]] = []
    var globals: [Global] = []
    var objects: [Object] = []
    var storages: [Storage] = []
    var tensors: [Tensor] = []
    var root: Reference = 0

    init(pickle: UnsafeRawBufferPointer) {
        self.pickle = pickle
    }

    func text(_ span: Span) -> String {
        String(decoding: pickle[Int(span.start)..<Int(span.start + span.count)], as: UTF8.self)
    }

    /// The text of a value; nil if it is not a text or longer than `limit` bytes.
    func text(_ reference: Reference, limit: Int) -> String? {
        if case .text(let span) = values[Int(reference)], span.count <= limit { text(span) } else { nil }
    }

    /// The items of a list, tuple or set; nil for another value.
    func items(_ reference: Reference) -> [Reference]? {
        switch values[Int(reference)] {
        case .list(let index), .tuple(let index), .set(let index): containers[Int(index)]
        default: nil
        }
    }

    func integer(_ reference: Reference) -> Int? {
        if case .integer(let value) = values[Int(reference)] { value } else { nil }
    }

    /// A global's full name.
    func name(_ global: Global) -> String { text(global.module) + "." + text(global.name) }

    /// A short description of a value, on one line.
    func description(_ reference: Reference) -> String {
        switch values[Int(reference)] {
        case .none: "None"
        case .bool(let value): value ? "True" : "False"
        case .integer(let value): String(value)
        case .bigInteger: "an integer beyond 64 bits"
        case .number(let value): String(value)
        case .text(let span): quoted(text(.init(start: span.start, count: min(span.count, 200))), limit: 40)
        case .bytes: "bytes"
        case .list(let index): "a list of \(containers[Int(index)].count)"
        case .tuple(let index): "a tuple of \(containers[Int(index)].count)"
        case .set(let index): "a set of \(containers[Int(index)].count)"
        case .dictionary(let index): "a dictionary of \(containers[Int(index)].count / 2)"
        case .global(let index): shortened(name(globals[Int(index)]))
        case .object(let index): description(objects[Int(index)])
        case .storage: "a storage without a shape"
        case .tensor: "a tensor"
        }
    }

    private func description(_ object: Object) -> String {
        guard case .global(let index) = values[Int(object.maker)] else {
            guard case .object(let index) = values[Int(object.maker)],
                case .global(let first) = values[Int(objects[Int(index)].maker)]
            else { return "a call of an object" }
            return "a call of the result of \(shortened(name(globals[Int(first)])))"
        }
        let name = shortened(name(globals[Int(index)]))
        guard object.state == nil, let arguments = items(object.arguments) else { return name }
        // One level only: arguments may be nested to any depth.
        let shown = arguments.prefix(4).map { argument in
            switch values[Int(argument)] {
            case .object, .dictionary, .list, .tuple, .set: "…"
            default: description(argument)
            }
        }
        return "\(name)(\(shown.joined(separator: ", "))\(arguments.count > 4 ? ", …" : ""))"
    }

    /// A name without quotes, its control characters escaped.
    private func shortened(_ name: String) -> String { String(quoted(name).dropFirst().dropLast()) }
}

/// The meaning of a Python name to a reader of tensors; most names have none.
enum PickleMeaning {
    case none
    /// A dictionary, for any arguments.
    case dictionary
    /// torch.Size: a tuple.
    case size
    case storage(TensorType)
    case untypedStorage
    case type(TensorType)
    /// torch._utils._rebuild_tensor, _v2 and _v3, with arguments storage, offset, shape, strides, …; the seventh of _v3
    /// is the type.
    case tensor(typed: Bool)
    /// torch._utils._rebuild_parameter and similar: the first argument is the tensor.
    case parameter
    /// torch._tensor._rebuild_from_type_v2: the first argument is a function, the third its arguments.
    case wrapped

    init(module: String, name: String) {
        self =
            switch (module, name) {
            case ("collections", "OrderedDict"), ("collections", "defaultdict"), ("collections", "Counter"),
                ("builtins", "dict"), ("__builtin__", "dict"):
                .dictionary
            case ("torch", "Size"): .size
            case ("torch._utils", "_rebuild_tensor"), ("torch._utils", "_rebuild_tensor_v2"): .tensor(typed: false)
            case ("torch._utils", "_rebuild_tensor_v3"): .tensor(typed: true)
            case ("torch._utils", "_rebuild_parameter"), ("torch._utils", "_rebuild_parameter_with_state"): .parameter
            case ("torch._tensor", "_rebuild_from_type_v2"): .wrapped
            case ("torch.storage", "UntypedStorage"), ("torch.storage", "_UntypedStorage"), ("torch", "UntypedStorage"):
                .untypedStorage
            case ("torch", let name), ("torch.cuda", let name):
                if let type = Self.storages[name] {
                    .storage(type)
                } else if let type = Self.types[name] {
                    .type(type)
                } else {
                    .none
                }
            default: .none
            }
    }

    static let storages: [String: TensorType] = [
        "DoubleStorage": .f64, "FloatStorage": .f32, "HalfStorage": .f16, "BFloat16Storage": .bf16, "LongStorage": .i64,
        "IntStorage": .i32, "ShortStorage": .i16, "CharStorage": .i8, "ByteStorage": .u8, "BoolStorage": .bool,
    ]
    static let types: [String: TensorType] = [
        "float64": .f64, "float32": .f32, "float16": .f16, "bfloat16": .bf16, "int64": .i64, "int32": .i32,
        "int16": .i16,
        "int8": .i8, "uint64": .u64, "uint32": .u32, "uint16": .u16, "uint8": .u8, "bool": .bool,
        "float8_e4m3fn": .f8e4m3, "float8_e5m2": .f8e5m2,
    ]
}
