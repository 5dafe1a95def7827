/// Walks a pickle's object and gives dotted names to its tensors and plain values.
package struct PickleNames {
    private let graph: PickleGraph
    /// The tensors, by their index in the graph.
    private(set) var tensors: [(name: String, index: Int)] = []
    private(set) var values: [(name: String, value: PlainValue)] = []
    private var visited = 0
    private var nameBytes = 0
    private var valueBytes = 0

    /// Maximum nesting of dictionaries and lists.
    package static let maximumDepth = 64
    /// Maximum number of visits to values. A list may hold another list twice, which holds another twice, and so on.
    private static let maximumVisits = 1_000_000
    package static let maximumTensors = 65_536
    private static let maximumNameLength = 500
    private static let maximumNameBytes = 8 << 20
    /// Maximum number of plain values that are kept, and bytes of their text; the rest is dropped.
    private static let maximumValues = 10_000
    private static let maximumValueBytes = 4 << 20
    /// Maximum number of items of a list that are kept, and bytes of a text.
    private static let maximumItems = 100
    private static let maximumTextLength = 10_000
    /// Maximum number of items, and bytes of all, of a list of short texts that is kept whole, such as the names of
    /// classes.
    private static let maximumTexts = 30_000
    private static let maximumTextsLength = 1 << 20

    init(_ graph: PickleGraph) {
        self.graph = graph
    }

    /// Throws `TorchArchive.Fault` where the object exceeds a limit.
    mutating func walk() throws {
        try walk(graph.root, "", depth: 0)
    }

    private mutating func walk(_ reference: PickleGraph.Reference, _ name: String, depth: Int) throws {
        try visit(1)
        guard depth <= Self.maximumDepth else {
            throw TorchArchive.Fault("its data.pkl nests dictionaries and lists more than \(Self.maximumDepth) deep")
        }
        switch graph.values[Int(reference)] {
        case .tensor(let index):
            guard tensors.count < Self.maximumTensors else {
                throw TorchArchive.Fault(
                    "its data.pkl holds more than \(Self.maximumTensors) tensors, or the same ones many times")
            }
            try tensors.append((keep(name.isEmpty ? "tensor" : name), Int(index)))
        case .dictionary(let container): try walk(pairs: graph.containers[Int(container)], name, depth: depth)
        case .list(let container), .tuple(let container), .set(let container):
            let items = graph.containers[Int(container)]
            if holdNothing(items) {
                try visit(items.count)
                if wants(name) { try add(plain(items), name) }
                return
            }
            for (index, item) in items.enumerated() { try walk(item, join(name, String(index)), depth: depth + 1) }
        case .object(let index): try walk(graph.objects[Int(index)], reference, name, depth: depth)
        default: if wants(name) { try add(plain(reference), name) }
        }
    }

    private mutating func visit(_ count: Int) throws {
        visited += count
        guard visited <= Self.maximumVisits else {
            throw TorchArchive.Fault(
                "its data.pkl holds more than \(Self.maximumVisits) values, or the same ones many times")
        }
    }

    private mutating func walk(pairs: [PickleGraph.Reference], _ name: String, depth: Int) throws {
        for index in stride(from: 0, to: pairs.count, by: 2) {
            try walk(pairs[index + 1], join(name, key(pairs[index])), depth: depth + 1)
        }
    }

    private mutating func walk(
        _ object: PickleGraph.Object, _ reference: PickleGraph.Reference, _ name: String, depth: Int
    ) throws {
        let state = object.state.map { graph.items($0)?.first ?? $0 }
        var pairs: [PickleGraph.Reference] = []
        if let state, case .dictionary(let container) = graph.values[Int(state)] {
            pairs = graph.containers[Int(container)]
        }
        // They are looked through at each visit, and an object may be visited very often.
        try visit(pairs.count / 2)
        if let parts = module(pairs) {
            // A model saved whole: its parts stand under its own name, as in its state dict.
            for part in parts { try walk(pairs: part, name, depth: depth + 1) }
            return
        }
        if wants(name) { try add(.other(graph.description(reference)), name) }
        try walk(pairs: pairs, name, depth: depth)
        if let container = object.dictionary { try walk(pairs: graph.containers[Int(container)], name, depth: depth) }
        if let container = object.list {
            for (index, item) in graph.containers[Int(container)].enumerated() {
                try walk(item, join(name, String(index)), depth: depth + 1)
            }
        }
    }

    /// Parameters, buffers and submodules of a torch.nn.Module, from its attributes; nil for another object.
    private func module(_ attributes: [PickleGraph.Reference]) -> [[PickleGraph.Reference]]? {
        var found: [String: [PickleGraph.Reference]] = [:]
        for index in stride(from: 0, to: attributes.count, by: 2) {
            guard let key = graph.text(attributes[index], limit: 20), key.hasPrefix("_"),
                case .dictionary(let container) = graph.values[Int(attributes[index + 1])]
            else { continue }
            found[key] = graph.containers[Int(container)]
        }
        guard let parameters = found["_parameters"], let buffers = found["_buffers"], let modules = found["_modules"]
        else { return nil }
        return [parameters, buffers, modules]
    }

    private func key(_ reference: PickleGraph.Reference) throws -> String {
        guard case .text(let span) = graph.values[Int(reference)] else { return graph.description(reference) }
        guard span.count < Self.maximumNameLength else { throw longName }
        return graph.text(span)
    }

    private var longName: TorchArchive.Fault {
        .init("its data.pkl gives a value a name of more than \(Self.maximumNameLength) bytes")
    }

    private func join(_ name: String, _ key: String) throws -> String {
        guard name.utf8.count + key.utf8.count < Self.maximumNameLength else {
            throw longName
        }
        return name.isEmpty ? key : "\(name).\(key)"
    }

    private mutating func keep(_ name: String) throws -> String {
        nameBytes += name.utf8.count
        guard nameBytes <= Self.maximumNameBytes else {
            throw TorchArchive.Fault(
                "its data.pkl gives its values names of more than \(Self.maximumNameBytes >> 20) MB")
        }
        return name
    }

    /// Whether a plain value called `name` can still be kept.
    private func wants(_ name: String) -> Bool {
        values.count < Self.maximumValues && valueBytes < Self.maximumValueBytes && !name.isEmpty
    }

    private mutating func add(_ value: PlainValue, _ name: String) throws {
        valueBytes += Self.textBytes(value)
        try values.append((keep(name), value))
    }

    /// Bytes of the texts in a value, plus an estimate for each item of its lists.
    static func textBytes(_ value: PlainValue) -> Int {
        switch value {
        case .text(let text), .other(let text): text.utf8.count
        case .list(let items): items.reduce(0) { $0 + 32 + textBytes($1) }
        default: 0
        }
    }

    // MARK: Plain values

    private func holdNothing(_ items: [PickleGraph.Reference]) -> Bool {
        items.allSatisfy {
            switch graph.values[Int($0)] {
            case .list, .tuple, .set, .dictionary, .object, .tensor: false
            default: true
            }
        }
    }

    /// The items as a plain list; of a long list the first ones.
    private func plain(_ items: [PickleGraph.Reference]) -> PlainValue {
        let maximum = areShortTexts(items) ? Self.maximumTexts : Self.maximumItems
        let rest = items.count > maximum ? [PlainValue.other("and \(items.count - maximum) more")] : []
        return .list(items.prefix(maximum).map(plain) + rest)
    }

    private func areShortTexts(_ items: [PickleGraph.Reference]) -> Bool {
        guard items.count <= Self.maximumTexts else { return false }
        var bytes = 0
        for item in items {
            guard case .text(let span) = graph.values[Int(item)] else { return false }
            bytes += Int(span.count)
            guard bytes <= Self.maximumTextsLength else { return false }
        }
        return true
    }

    private func plain(_ reference: PickleGraph.Reference) -> PlainValue {
        switch graph.values[Int(reference)] {
        case .none: .none
        case .bool(let value): .bool(value)
        case .integer(let value): .integer(value)
        case .number(let value): .number(value)
        case .text(let span) where span.count <= Self.maximumTextLength: .text(graph.text(span))
        default: .other(graph.description(reference))
        }
    }
}
