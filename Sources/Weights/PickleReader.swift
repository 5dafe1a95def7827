/// Reads a pickle as `torch.save` writes it (protocols 2 to 5; Python's Lib/pickletools.py describes each opcode) into
/// a graph of plain values.
///
/// Nothing is imported, looked up or called. The few names that build tensors and dictionaries are interpreted; any
/// other call becomes an object that describes the call.
package struct PickleReader {
    /// An error in the pickle, worded to follow "its data.pkl …".
    struct Fault: Error {
        let message: String
    }

    /// Maximum bytes of a pickle. A checkpoint of a thousand tensors has a few hundred thousand.
    package static let maximumLength = 16 << 20
    package static let maximumOpcodes = 8_000_000
    /// Maximum memory for all values, in bytes, as estimated by the calls of `charge`.
    package static let memoryLimit = 24 << 20
    private static let maximumRank = 64
    private static let maximumNameLength = 1000

    private typealias Reference = PickleGraph.Reference

    private let bytes: UnsafeRawBufferPointer
    private var position = 0
    private var graph: PickleGraph
    private var stack: [Reference] = []
    /// The stack's height at each open mark.
    private var marks: [Int] = []
    private var memo: [Reference] = []
    private var memory = 0

    static func read(_ bytes: UnsafeRawBufferPointer) throws -> PickleGraph {
        var reader = PickleReader(bytes)
        try reader.run()
        return reader.graph
    }

    private init(_ bytes: UnsafeRawBufferPointer) {
        self.bytes = bytes
        graph = PickleGraph(pickle: bytes)
    }

    /// A fault at the current opcode; `run` adds its position.
    private func fault(_ what: String) -> Fault { Fault(message: what) }

    // MARK: The machine

    private mutating func run() throws {
        guard bytes.count <= Self.maximumLength else {
            throw Fault(message: "has \(bytes.count) bytes, more than the allowed \(Self.maximumLength)")
        }
        guard bytes.count >= 2, bytes[0] == 0x80 else {
            throw Fault(message: "does not begin as a pickle of protocol 2 or later")
        }
        guard (2...5).contains(bytes[1]) else {
            throw Fault(message: "is a pickle of protocol \(bytes[1]), but only 2 to 5 are supported")
        }
        position = 2
        for _ in 0..<Self.maximumOpcodes {
            let start = position
            do {
                let opcode = try take(1)[0]
                guard opcode == 0x2E else {
                    try execute(opcode)
                    continue
                }
                guard marks.isEmpty else { throw fault("ends with an open mark") }
                guard stack.count == 1 else { throw fault("ends with \(stack.count) values instead of one") }
                guard position == bytes.count else { throw fault("continues after its end") }
                graph.root = stack[0]
                return
            } catch let fault as Fault {
                throw Fault(message: "\(fault.message) at byte \(start)")
            }
        }
        throw Fault(message: "has more than \(Self.maximumOpcodes) opcodes")
    }

    private mutating func execute(_ opcode: UInt8) throws {
        switch opcode {
        // Plain values.
        case UInt8(ascii: "N"): try push(.none)
        case 0x88: try push(.bool(true))
        case 0x89: try push(.bool(false))
        case UInt8(ascii: "K"): try push(.integer(Int(number(UInt8.self))))
        case UInt8(ascii: "M"): try push(.integer(Int(number(UInt16.self))))
        case UInt8(ascii: "J"): try push(.integer(Int(number(Int32.self))))
        case 0x8A: try pushLong(Int(number(UInt8.self)))
        case 0x8B: try pushLong(length(UInt32.self))
        case UInt8(ascii: "G"): try push(.number(Double(bitPattern: number(UInt64.self).byteSwapped)))
        case UInt8(ascii: "X"): try push(.text(text(length(UInt32.self))))
        case 0x8C: try push(.text(text(Int(number(UInt8.self)))))
        case 0x8D: try push(.text(text(length(UInt64.self))))
        case UInt8(ascii: "U"): try skip(Int(number(UInt8.self)))
        case UInt8(ascii: "T"), UInt8(ascii: "B"): try skip(length(UInt32.self))
        case UInt8(ascii: "C"): try skip(Int(number(UInt8.self)))
        case 0x8E, 0x96: try skip(length(UInt64.self))
        // Containers.
        case UInt8(ascii: ")"): try push(.tuple(container([])))
        case UInt8(ascii: "]"): try push(.list(container([])))
        case UInt8(ascii: "}"): try push(.dictionary(container([])))
        case 0x8F: try push(.set(container([])))
        case UInt8(ascii: "t"): try push(.tuple(container(popToMark())))
        case UInt8(ascii: "l"): try push(.list(container(popToMark())))
        case UInt8(ascii: "d"): try push(.dictionary(container(pairs(popToMark()))))
        case 0x91: try push(.set(container(popToMark())))
        case 0x85: try push(.tuple(container(pop(1))))
        case 0x86: try push(.tuple(container(pop(2))))
        case 0x87: try push(.tuple(container(pop(3))))
        case UInt8(ascii: "a"): try append(pop(1))
        case UInt8(ascii: "e"): try append(popToMark())
        case 0x90: try add(popToMark())
        case UInt8(ascii: "s"): try set(pop(2))
        case UInt8(ascii: "u"): try set(pairs(popToMark()))
        // Stack and memo.
        case UInt8(ascii: "("):
            try charge(16)
            marks.append(stack.count)
        case UInt8(ascii: "0"): _ = try pop(1)
        case UInt8(ascii: "1"): _ = try popToMark()
        case UInt8(ascii: "2"): try pushAgain(top())
        case UInt8(ascii: "q"): try remember(Int(number(UInt8.self)))
        case UInt8(ascii: "r"): try remember(Int(number(UInt32.self)))
        case 0x94: try remember(memo.count)
        case UInt8(ascii: "h"): try recall(Int(number(UInt8.self)))
        case UInt8(ascii: "j"): try recall(Int(number(UInt32.self)))
        case 0x95:
            // A frame only says how many bytes a reader may buffer.
            guard try number(UInt64.self) <= UInt64(bytes.count - position) else {
                throw fault("has a frame that ends after it")
            }
        // Names, and objects made from them.
        case UInt8(ascii: "c"): try pushGlobal(module: line(), name: line())
        case 0x93:
            let parts = try pop(2)
            guard case .text(let module) = graph.values[Int(parts[0])],
                case .text(let name) = graph.values[Int(parts[1])]
            else {
                throw fault("names a class by something that is not text")
            }
            try pushGlobal(module: module, name: name)
        case UInt8(ascii: "Q"): try pushStorage()
        case UInt8(ascii: "R"):
            let parts = try pop(2)
            try push(call(parts[0], parts[1]))
        case 0x81:
            let parts = try pop(2)
            try push(construct(parts[0], parts[1]))
        case 0x92:
            let parts = try pop(3)
            try push(construct(parts[0], parts[1]))
        case UInt8(ascii: "b"): try build()
        default: throw refused(opcode)
        }
    }

    private func refused(_ opcode: UInt8) -> Fault {
        switch opcode {
        case 0x82, 0x83, 0x84: fault("uses Python's extension registry (opcode EXT), which does not exist here,")
        case 0x97, 0x98: fault("refers to buffers outside of it (opcode NEXT_BUFFER), which torch.save does not write,")
        case 0x80: fault("begins a second time")
        case 0x69, 0x6F:
            fault(
                "uses an opcode of protocol 0 or 1 that makes objects (INST or OBJ), which torch.save does not write,")
        case 0x46, 0x49, 0x4C, 0x50, 0x53, 0x56, 0x67, 0x70:
            fault(
                "uses an opcode of protocol 0 (\(Character(Unicode.Scalar(opcode)))), which torch.save does not write,")
        default: fault("holds the byte \(opcode), which is not an opcode,")
        }
    }

    // MARK: Bytes

    private mutating func take(_ count: Int) throws -> UnsafeRawBufferPointer {
        guard count <= bytes.count - position else { throw fault("is cut off: it ends in the middle of a value") }
        defer { position += count }
        return UnsafeRawBufferPointer(rebasing: bytes[position..<position + count])
    }

    private mutating func number<Number: FixedWidthInteger>(_: Number.Type) throws -> Number {
        try take(MemoryLayout<Number>.size).number(0, Number.self)
    }

    private mutating func length<Number: FixedWidthInteger & UnsignedInteger>(_: Number.Type) throws -> Int {
        let length = try number(Number.self)
        guard UInt64(length) <= UInt64(bytes.count - position) else {
            throw fault("holds a value of \(length) bytes, of which \(bytes.count - position) follow,")
        }
        return Int(length)
    }

    private mutating func text(_ count: Int) throws -> PickleGraph.Span {
        let start = position
        guard String(validating: try take(count), as: UTF8.self) != nil else {
            throw fault("holds text that is not UTF-8")
        }
        return .init(start: UInt32(start), count: UInt32(count))
    }

    private mutating func skip(_ count: Int) throws {
        _ = try take(count)
        try push(.bytes)
    }

    /// The text up to the next line feed, which is consumed as well.
    private mutating func line() throws -> PickleGraph.Span {
        let limit = min(bytes.count, position + Self.maximumNameLength + 1)
        guard let end = bytes[position..<limit].firstIndex(of: 0x0A) else {
            throw fault("holds a name of more than \(Self.maximumNameLength) bytes or without an end")
        }
        let span = try text(end - position)
        position = end + 1
        return span
    }

    private mutating func pushLong(_ count: Int) throws {
        let digits = try take(count)
        guard count <= 8 else { return try push(.bigInteger) }
        // Two's complement, sign-extended from the last byte.
        var value: Int64 = (digits.last ?? 0) & 0x80 == 0 ? 0 : -1
        for byte in digits.reversed() { value = value << 8 | Int64(byte) }
        try push(.integer(Int(value)))
    }

    // MARK: Stack and memo

    private mutating func charge(_ amount: Int) throws {
        memory += amount
        guard memory <= Self.memoryLimit else {
            throw fault("describes values that need more than \(Self.memoryLimit >> 20) MB of memory")
        }
    }

    private mutating func push(_ value: PickleGraph.Value) throws {
        try charge(24)
        graph.values.append(value)
        try pushAgain(Reference(graph.values.count - 1))
    }

    private mutating func pushAgain(_ reference: Reference) throws {
        // Popped values are not credited, so this bounds the stack as well.
        try charge(1)
        guard stack.count < 1 << 20 else { throw fault("fills its stack with more than \(1 << 20) values") }
        stack.append(reference)
    }

    private func top() throws -> Reference {
        guard let top = stack.last, stack.count > marks.last ?? 0 else {
            throw fault("takes a value that is not there")
        }
        return top
    }

    private mutating func pop(_ count: Int) throws -> [Reference] {
        guard stack.count - count >= marks.last ?? 0 else { throw fault("takes a value that is not there") }
        defer { stack.removeLast(count) }
        return Array(stack.suffix(count))
    }

    private mutating func popToMark() throws -> [Reference] {
        guard let mark = marks.popLast() else { throw fault("closes a mark that is not open") }
        defer { stack.removeLast(stack.count - mark) }
        return Array(stack[mark...])
    }

    private mutating func remember(_ index: Int) throws {
        let value = try top()
        if index >= memo.count {
            guard index - memo.count < 1 << 20 else {
                throw fault("stores a value as memo entry \(index), far beyond the others")
            }
            try charge((index + 1 - memo.count) * 8)
            memo.append(contentsOf: repeatElement(-1, count: index + 1 - memo.count))
        }
        memo[index] = value
    }

    private mutating func recall(_ index: Int) throws {
        guard index < memo.count, memo[index] >= 0 else {
            throw fault("reads memo entry \(index), which is empty,")
        }
        try pushAgain(memo[index])
    }

    // MARK: Containers

    private mutating func container(_ items: [Reference]) throws -> Int32 {
        try charge(items.isEmpty ? 16 : 64 + 8 * items.count)
        graph.containers.append(items)
        return Int32(graph.containers.count - 1)
    }

    private mutating func extend(_ container: Int32, _ items: [Reference]) throws {
        try charge((graph.containers[Int(container)].isEmpty ? 48 : 0) + 8 * items.count)
        graph.containers[Int(container)].append(contentsOf: items)
    }

    private func pairs(_ items: [Reference]) throws -> [Reference] {
        guard items.count % 2 == 0 else { throw fault("fills a dictionary with a key that has no value") }
        return items
    }

    private mutating func append(_ items: [Reference]) throws {
        switch graph.values[Int(try top())] {
        case .list(let container): try extend(container, items)
        case .object(let index):
            let container = try graph.objects[Int(index)].list ?? container([])
            graph.objects[Int(index)].list = container
            try extend(container, items)
        default: throw fault("appends to something that is not a list")
        }
    }

    private mutating func add(_ items: [Reference]) throws {
        guard case .set(let container) = graph.values[Int(try top())] else {
            throw fault("adds to something that is not a set")
        }
        try extend(container, items)
    }

    private mutating func set(_ pairs: [Reference]) throws {
        switch graph.values[Int(try top())] {
        case .dictionary(let container): try extend(container, pairs)
        case .object(let index):
            let container = try graph.objects[Int(index)].dictionary ?? container([])
            graph.objects[Int(index)].dictionary = container
            try extend(container, pairs)
        default: throw fault("sets items of something that is not a dictionary")
        }
    }

    // MARK: Names and objects

    private mutating func pushGlobal(module: PickleGraph.Span, name: PickleGraph.Span) throws {
        guard max(module.count, name.count) <= Self.maximumNameLength else {
            throw fault("holds a name of more than \(Self.maximumNameLength) bytes or without an end")
        }
        try charge(32)
        graph.globals.append(
            .init(name: name, module: module, meaning: .init(module: graph.text(module), name: graph.text(name))))
        try push(.global(Int32(graph.globals.count - 1)))
    }

    private func meaning(_ reference: Reference) -> PickleMeaning? {
        if case .global(let index) = graph.values[Int(reference)] { graph.globals[Int(index)].meaning } else { nil }
    }

    private mutating func object(_ maker: Reference, _ arguments: Reference) throws -> PickleGraph.Value {
        try charge(48)
        graph.objects.append(.init(maker: maker, arguments: arguments))
        return .object(Int32(graph.objects.count - 1))
    }

    /// The value of calling `function` with `arguments`: a tensor, a dictionary or the like for known names, else an
    /// object that describes the call.
    private mutating func call(_ function: Reference, _ arguments: Reference) throws -> PickleGraph.Value {
        guard case .tuple = graph.values[Int(arguments)], let items = graph.items(arguments) else {
            throw fault("makes something from arguments that are not a tuple")
        }
        switch graph.values[Int(function)] {
        case .global, .object: break
        default: throw fault("calls \(graph.description(function)), which is not a function,")
        }
        switch meaning(function) {
        case .dictionary: return try dictionary(items)
        case .size:
            guard items.count == 1, let size = graph.items(items[0]) else { break }
            return try .tuple(container(size))
        case .tensor(let typed): return try tensor(items, typed: typed)
        case .parameter: return try parameter(items)
        case .wrapped:
            guard items.count >= 3, let inner = graph.items(items[2]) else { break }
            // One level only: a real tensor is never wrapped twice.
            switch meaning(items[0]) {
            case .tensor(let typed): return try tensor(inner, typed: typed)
            case .parameter: return try parameter(inner)
            default: break
            }
        default: break
        }
        return try object(function, arguments)
    }

    private mutating func construct(_ maker: Reference, _ arguments: Reference) throws -> PickleGraph.Value {
        guard case .tuple = graph.values[Int(arguments)] else {
            throw fault("makes something from arguments that are not a tuple")
        }
        switch graph.values[Int(maker)] {
        case .global, .object: break
        default: throw fault("makes an object of \(graph.description(maker)), which is not a class,")
        }
        if case .dictionary = meaning(maker) { return try .dictionary(container([])) }
        return try object(maker, arguments)
    }

    /// An OrderedDict or similar, made from nothing, a list of pairs, or a dictionary.
    private mutating func dictionary(_ arguments: [Reference]) throws -> PickleGraph.Value {
        var pairs: [Reference] = []
        if let first = arguments.last {
            if case .dictionary(let container) = graph.values[Int(first)] {
                pairs = graph.containers[Int(container)]
            } else {
                let items = graph.items(first) ?? []
                try charge(8 * items.count)
                for item in items {
                    guard let pair = graph.items(item), pair.count == 2 else {
                        throw fault("makes a dictionary of something that is not a list of pairs")
                    }
                    pairs += pair
                }
            }
        }
        return try .dictionary(container(pairs))
    }

    private mutating func build() throws {
        let state = try pop(1)[0]
        switch graph.values[Int(try top())] {
        case .object(let index): graph.objects[Int(index)].state = state
        // The _metadata of a state dict or the attributes of a tensor, which are not needed.
        case .dictionary, .tensor: break
        default: throw fault("sets the state of something that has none")
        }
    }

    // MARK: Tensors

    /// Pushes the storage described by the tuple on top: ('storage', type, key, location, number of elements).
    private mutating func pushStorage() throws {
        let identifier = try pop(1)[0]
        guard let items = graph.items(identifier), items.count == 5, graph.text(items[0], limit: 7) == "storage" else {
            throw fault("refers to something outside of it that is not a storage")
        }
        let type: TensorType?
        switch meaning(items[1]) {
        case .storage(let known): type = known
        case .untypedStorage: type = nil
        default:
            // Complex and quantised types are not used for weights.
            return try push(object(items[1], identifier))
        }
        guard case .text(let key) = graph.values[Int(items[2])], let count = graph.integer(items[4]), count >= 0 else {
            throw fault("describes a storage without its key or size")
        }
        try charge(48)
        graph.storages.append(.init(type: type, key: key, count: count))
        try push(.storage(Int32(graph.storages.count - 1)))
    }

    private mutating func parameter(_ arguments: [Reference]) throws -> PickleGraph.Value {
        guard let first = arguments.first else { throw fault("makes a parameter of nothing") }
        return graph.values[Int(first)]
    }

    private mutating func tensor(_ arguments: [Reference], typed: Bool) throws -> PickleGraph.Value {
        guard arguments.count >= (typed ? 7 : 4) else { throw fault("makes a tensor from too few arguments") }
        guard case .storage(let storage) = graph.values[Int(arguments[0])] else {
            if case .object(let index) = graph.values[Int(arguments[0])] { return .object(index) }
            throw fault("makes a tensor of something that is not a storage")
        }
        let stored = graph.storages[Int(storage)]
        let type: TensorType
        if typed {
            guard case .type(let known)? = meaning(arguments[6]) else { return try object(arguments[6], arguments[6]) }
            guard stored.type == nil || stored.type == known else {
                throw fault("makes a tensor of a type that its storage is not of")
            }
            type = known
        } else {
            guard let known = stored.type else { throw fault("makes a tensor of a storage without a type") }
            type = known
        }
        func naturals(_ reference: Reference, _ what: String) throws -> [Int] {
            guard let items = graph.items(reference) else {
                throw fault("makes a tensor with \(what) that is not a tuple")
            }
            guard items.count <= Self.maximumRank else {
                throw fault(
                    "makes a tensor with \(what) of \(items.count) numbers, more than the allowed \(Self.maximumRank),")
            }
            return try items.map {
                guard let value = graph.integer($0), value >= 0 else {
                    throw fault(
                        "makes a tensor with \(what) that holds \(graph.description($0)), which is not a non-negative "
                            + "integer,"
                    )
                }
                return value
            }
        }
        guard let offset = graph.integer(arguments[1]), offset >= 0 else {
            throw fault(
                "makes a tensor with an offset of \(graph.description(arguments[1])), which is not a non-negative "
                    + "integer,"
            )
        }
        let shape = try naturals(arguments[2], "a shape")
        let strides = try naturals(arguments[3], "strides")
        guard shape.count == strides.count else {
            throw fault("makes a tensor with \(shape.count) dimensions and \(strides.count) strides")
        }
        // An estimate that includes the tensor's entry, its name and its places in dictionaries.
        try charge(250 + 16 * shape.count)
        graph.tensors.append(.init(storage: storage, type: type, offset: offset, shape: shape, strides: strides))
        return .tensor(Int32(graph.tensors.count - 1))
    }
}
